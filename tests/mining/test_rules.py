"""Rules of five baskets, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark.config import MiningConfig
from dlmine_spark.mining.measures import measures
from dlmine_spark.mining.rules import rules_of
from tests.mining.examples import BREAKFAST, brute_force


def test_measures_of_numbers_and_arrays() -> None:
    """4 of 10 baskets hold both, 5 the antecedent, 6 the consequent."""
    values = measures(4.0, 5.0, 6.0, 10, 1.0)
    assert values == {
        "antecedent_support": 0.5,
        "consequent_support": 0.6,
        "support": 0.4,
        "confidence": 0.8,
        "lift": pytest.approx(0.8 / 0.6),
        "leverage": pytest.approx(0.4 - 0.5 * 0.6),
        "conviction": pytest.approx((1 - 0.6) / (1 - 0.8)),
    }
    many = measures(np.array([4.0, 3.0]), np.array([5.0, 3.0]), np.array([6.0, 10.0]), 10, np.array([1.0, np.nan]))
    assert many["lift"].tolist() == [pytest.approx(4 / 3), 1.0]
    assert np.isnan(many["conviction"][1])


def itemsets(spark: SparkSession, min_count: int = 1) -> DataFrame:
    rows = [(list(items), len(items), count) for items, count in brute_force(BREAKFAST, min_count).items()]
    return spark.createDataFrame(rows, "items array<string>, size int, count bigint")


def written(rules: DataFrame) -> dict[str, tuple[float, float]]:
    """Confidence and lift by rule."""
    return {
        f"{' '.join(row['antecedent'])} => {' '.join(row['consequent'])}": (row["confidence"], row["lift"])
        for row in rules.collect()
    }


@pytest.mark.spark
def test_rules_with_single_consequents(spark: SparkSession) -> None:
    rules = rules_of(itemsets(spark, 2), 5, MiningConfig(min_confidence=0.6, min_lift=0))

    assert written(rules) == {
        "bread => butter": (0.75, 3 * 5 / 16),
        "butter => bread": (0.75, 3 * 5 / 16),
        "bread => jam": (0.75, 3 * 5 / 12),
        "jam => bread": (1.0, 3 * 5 / 12),
        "jam => butter": (2 / 3, 2 * 5 / 12),
        "milk => butter": (1.0, 2 * 5 / 8),
        "bread butter => jam": (2 / 3, 2 * 5 / 9),
        "bread jam => butter": (2 / 3, 2 * 5 / 12),
        "butter jam => bread": (1.0, 2 * 5 / 8),
    }


@pytest.mark.spark
def test_a_rule_no_better_than_chance_is_left_out_by_default(spark: SparkSession) -> None:
    """Lift 1 exactly (both items everywhere) stays: it is not below 1."""
    assert "jam => butter" not in written(rules_of(itemsets(spark, 2), 5, MiningConfig(min_confidence=0.6)))
    everywhere = spark.createDataFrame(
        [(["a"], 1, 3), (["b"], 1, 3), (["a", "b"], 2, 3)], "items array<string>, size int, count bigint"
    )
    assert written(rules_of(everywhere, 3, MiningConfig())) == {"a => b": (1.0, 1.0), "b => a": (1.0, 1.0)}


@pytest.mark.spark
def test_a_rule_without_exceptions_has_no_conviction(spark: SparkSession) -> None:
    row = rules_of(itemsets(spark, 2), 5, MiningConfig(min_confidence=0.9)).where("antecedent = array('milk')").first()
    assert row is not None
    assert row.asDict() == {
        "antecedent": ["milk"],
        "consequent": ["butter"],
        "antecedent_support": 0.4,
        "consequent_support": 0.8,
        "support": 0.4,
        "confidence": 1.0,
        "lift": 1.25,
        "leverage": pytest.approx(0.4 - 0.4 * 0.8),
        "conviction": None,
    }


@pytest.mark.spark
def test_consequents_of_more_items(spark: SparkSession) -> None:
    """Every split of every itemset, each once: an itemset of n items has 2^n - 2."""
    config = MiningConfig(min_confidence=0, min_lift=0, max_consequent=3)
    rules = rules_of(itemsets(spark), 5, config)

    found = written(rules)
    assert len(found) == rules.count() == sum(2 ** len(items) - 2 for items in brute_force(BREAKFAST, 1))
    assert found["milk => bread butter jam"] == (0.5, 1 * 5 / (2 * 2))
    assert rules.where("size(consequent) > 3 or size(antecedent) = 0").isEmpty()
    pairs = rules_of(itemsets(spark), 5, config.model_copy(update={"max_consequent": 2}))
    assert written(pairs) == {rule: values for rule, values in found.items() if len(rule.split(" => ")[1].split()) < 3}
