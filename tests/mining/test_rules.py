"""Rules of five baskets, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from scipy.stats import chi2_contingency, false_discovery_control, hypergeom

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig
from dlmine_spark.mining import apriori
from dlmine_spark.mining.baskets import summarise, with_items
from dlmine_spark.mining.measures import measures
from dlmine_spark.mining.rules import count_hypotheses, rules_of, with_verdicts
from tests.mining.examples import BREAKFAST, basket_frame, brute_force


def test_measures_of_numbers_and_arrays() -> None:
    """4 of 10 baskets hold both, 5 the antecedent, 6 the consequent."""
    values = measures(4, 5, 6, 10)
    assert values == {
        "antecedent_support": 0.5,
        "consequent_support": 0.6,
        "support": 0.4,
        "confidence": 0.8,
        "lift": pytest.approx(0.8 / 0.6),
        "leverage": pytest.approx(0.4 - 0.5 * 0.6),
        "conviction": pytest.approx((1 - 0.6) / (1 - 0.8)),
        "zhangs_metric": pytest.approx((0.8 - 2 / 5) / 0.8),  # against the baskets without the antecedent
        "jaccard": pytest.approx(4 / 7),
        "certainty": pytest.approx((0.8 - 0.6) / (1 - 0.6)),
        "kulczynski": pytest.approx((4 / 5 + 4 / 6) / 2),
        "cosine": pytest.approx(4 / 30**0.5),
        "imbalance_ratio": pytest.approx(1 / 7),
        "chi_squared": pytest.approx(chi2_contingency([[4, 1], [2, 3]], correction=False).statistic),
    }
    many = measures(np.array([4, 3]), np.array([5, 3]), np.array([6, 10]), 10)
    assert many["lift"].tolist() == [pytest.approx(4 / 3), 1.0]
    assert [name for name, value in many.items() if np.isnan(value[1])] == ["conviction", "chi_squared"]


def test_measures_are_those_of_mlxtend() -> None:
    """To 1e-9, rules below chance and rules without exceptions among them; what mlxtend calls infinite is null here."""
    patterns = pytest.importorskip("mlxtend.frequent_patterns", reason="mlxtend is not installed")
    rng = np.random.default_rng(0)
    shares = {"a": 0.9, "b": 0.6, "c": 0.5, "d": 0.4, "e": 0.3, "f": 0.2, "everywhere": 1.0}
    baskets = [[item for item, share in shares.items() if rng.random() < share] for _ in range(200)]
    counts = {frozenset(items): count for items, count in brute_force(baskets, 4).items()}
    table = pd.DataFrame({"support": [count / 200 for count in counts.values()], "itemsets": list(counts)})
    theirs = patterns.association_rules(table, num_itemsets=200, metric="support", min_threshold=0.0)
    sides = list(zip(theirs["antecedents"], theirs["consequents"], strict=True))

    ours = measures(
        [counts[left | right] for left, right in sides],
        [counts[left] for left, _ in sides],
        [counts[right] for _, right in sides],
        200,
    )

    theirs.columns = theirs.columns.str.replace(" ", "_")
    shared = sorted(set(ours) & set(theirs))
    assert set(ours) - set(shared) == {"cosine", "imbalance_ratio", "chi_squared"}
    assert len(theirs) > 1000
    assert (theirs["lift"] < 1).any()
    for name in shared:
        expected = theirs[name].replace(np.inf, np.nan)
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=1e-9, err_msg=name)


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
    assert {name: row[name] for name in row.asDict() if name in s.RULES.names[:9]} == {
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


@pytest.mark.spark
def test_templates_choose_rules_and_change_nothing_about_them(spark: SparkSession) -> None:
    """Also what is required, though more general rules lack it, is held against them."""
    table = itemsets(spark)

    def rules(**templates: object) -> dict[tuple[str, str], float]:
        given = {"min_confidence": 0, "min_lift": 0, "max_consequent": 2, **templates}
        rows = rules_of(table, 5, MiningConfig.model_validate(given)).collect()
        return {(" ".join(row["antecedent"]), " ".join(row["consequent"])): row["improvement"] for row in rows}

    all_rules = rules()
    sides: dict[str, Callable[[set[str]], bool]] = {
        "require": lambda side: {"jam", "milk"} <= side,
        "forbid": lambda side: not {"jam", "milk"} & side,
        "only": lambda side: side <= {"jam", "milk"},
    }
    for setting, is_so in sides.items():
        for place, side in enumerate(("antecedent", "consequent")):
            expected = {rule: value for rule, value in all_rules.items() if is_so(set(rule[place].split()))}
            assert expected
            assert rules(**{side: {setting: ["jam", "milk"]}}) == expected
    both = rules(antecedent={"require": "jam", "forbid": "milk"}, consequent={"only": ["bread", "butter"]})
    assert set(both) == {
        ("jam", "bread"), ("jam", "butter"), ("jam", "bread butter"), ("bread jam", "butter"), ("butter jam", "bread")
    }  # fmt: skip


@pytest.mark.spark
def test_hypotheses_are_the_pairs_of_sides_that_templates_allow(spark: SparkSession) -> None:
    table = itemsets(spark, 2)
    sides = [set(items) for items in brute_force(BREAKFAST, 2)]

    def pairs(lefts: list[set[str]], rights: list[set[str]], max_len: int = 99) -> int:
        return sum(not left & right and len(left | right) <= max_len for left in lefts for right in rights)

    single = [side for side in sides if len(side) == 1]
    assert count_hypotheses(table, MiningConfig()) == pairs(sides, single) == 21
    assert count_hypotheses(table, MiningConfig(max_len=2)) == pairs(sides, single, 2)
    config = MiningConfig.model_validate({"antecedent": {"require": "jam"}, "consequent": {"forbid": "milk"}})
    with_jam, without_milk = [side for side in sides if "jam" in side], [side for side in single if side != {"milk"}]
    assert count_hypotheses(table, config) == pairs(with_jam, without_milk)
    # Pairs that overlap count too where the consequent is longer, which makes the adjustment stricter.
    longer = [side for side in sides if len(side) == 2]
    assert count_hypotheses(table, MiningConfig(max_consequent=2)) == 21 + len(sides) * len(longer)


# What depends on more general rules and on all rules, against the definitions.

Sides = tuple[tuple[str, ...], tuple[str, ...]]


def parts(items: Iterable[str]) -> list[tuple[str, ...]]:
    """All subsets, the empty one and the whole too."""
    items = sorted(items)
    return [part for size in range(len(items) + 1) for part in combinations(items, size)]


def by_definition(baskets: Sequence[Sequence[str]], config: MiningConfig) -> dict[Sides, dict[str, float]]:
    """Improvement, p- and q-values of all rules, looking at every subset of every antecedent."""
    total = len(baskets)
    counts = {(): total, **brute_force(baskets, max(1, int(np.ceil(config.min_support * total - 1e-9))))}
    rules: dict[Sides, dict[str, float]] = {}
    hypotheses = 0
    for left in counts:
        for right in counts:
            if not left or not right or len(right) > config.max_consequent:
                continue
            hypotheses += len(right) > 1 or right[0] not in left
            both = tuple(sorted({*left, *right}))
            if len(both) < len(left) + len(right) or both not in counts:
                continue
            joint = {part: counts[tuple(sorted({*part, *right}))] for part in parts(left)}
            confidence = joint[left] / counts[left]
            if confidence < config.min_confidence or confidence * total / counts[right] < config.min_lift:
                continue

            def p(general: tuple[str, ...]) -> float:
                """Whether what ``left`` holds beyond ``general`` helps, in the baskets of ``general``."""
                return float(hypergeom.sf(joint[left] - 1, counts[general], joint[general], counts[left]))  # noqa: B023

            general = [part for part in parts(left) if part != left]
            surest = max(general, key=lambda part: (joint[part] / counts[part], counts[part]))
            near = [part for part in general if len(part) == len(left) - 1]
            improvement = confidence - joint[surest] / counts[surest]
            idle = improvement <= 0 and len(left) > 1
            rules[left, right] = {
                "improvement": improvement,
                "p_value": p(()),
                "p_improvement": 1.0 if idle else max(p(part) for part in [*near, surest]),
            }
    worst = [max(rule["p_value"], rule["p_improvement"]) for rule in rules.values()]
    if rules:
        q = false_discovery_control(np.minimum([*worst, *np.ones(hypotheses - len(worst))], 1))
        for rule, value in zip(rules.values(), q[: len(rules)], strict=True):
            rule["q_value"] = value
    return rules


def check(spark: SparkSession, baskets: Sequence[Sequence[str]], config: MiningConfig, chunk: int) -> None:
    """Mined rules are those of the definition."""
    min_count = max(1, int(np.ceil(config.min_support * len(baskets) - 1e-9)))
    rows = [(list(items), len(items), count) for items, count in brute_force(baskets, min_count).items()]
    table = spark.createDataFrame(rows[::-1], "items array<string>, size int, count bigint").repartition(3)
    rules = rules_of(table, len(baskets), config, chunk=chunk)
    found = with_verdicts(rules, count_hypotheses(table, config), config).collect()

    expected = by_definition(baskets, config)
    assert {(tuple(row["antecedent"]), tuple(row["consequent"])) for row in found} == set(expected)
    assert len(found) == len(expected)
    for row in found:
        wanted = expected[tuple(row["antecedent"]), tuple(row["consequent"])]
        assert {name: row[name] for name in wanted} == pytest.approx(wanted, rel=1e-9, abs=1e-12)
        assert row["is_redundant"] == (wanted["improvement"] <= config.min_improvement)
        assert row["is_significant"] == (wanted["q_value"] <= config.max_q)
        assert row["is_kept"] == (row["is_significant"] and not row["is_redundant"])


@pytest.mark.spark
def test_only_what_was_planted_is_kept(spark: SparkSession) -> None:
    """30 items by chance, gin with limes, basil with tomatoes and mozzarella together: no idle item in a kept rule."""
    rng = np.random.default_rng(2)
    table = rng.random((4_000, 35)) < 0.1
    gin, limes, tomatoes, mozzarella, basil = range(30, 35)
    table[:, limes] |= table[:, gin] & (rng.random(4_000) < 0.6)
    table[:, [tomatoes, mozzarella]] |= rng.random((4_000, 2)) < 0.1
    table[:, basil] |= table[:, tomatoes] & table[:, mozzarella] & (rng.random(4_000) < 0.7)
    names = [*(f"i{number:02}" for number in range(30)), "gin", "limes", "tomatoes", "mozzarella", "basil"]
    baskets = with_items(basket_frame(spark, [[names[item] for item in np.flatnonzero(row)] for row in table]))
    config = MiningConfig(min_support=0.001, min_confidence=0.05)

    summary = summarise(baskets)
    mined = apriori.frequent_itemsets(baskets, summary, config).persist()
    tested = rules_of(mined, summary.baskets, config).persist()
    rules = with_verdicts(tested, count_hypotheses(mined, config), config).persist()

    kept = {f"{' '.join(row['antecedent'])} => {row['consequent'][0]}" for row in rules.where("is_kept").collect()}
    assert kept == {
        "gin => limes", "limes => gin", "mozzarella tomatoes => basil", "basil tomatoes => mozzarella",
        "basil mozzarella => tomatoes", "mozzarella => basil", "basil => mozzarella", "tomatoes => basil",
        "basil => tomatoes",
    }  # fmt: skip
    # By the test of its sides alone, a rule such as {gin, i07} => limes is no chance.
    assert rules.where("not is_kept and not is_redundant and p_value < 1e-6").count() > 20


@pytest.mark.spark
@pytest.mark.parametrize("chunk", [1, 7, 500_000])
def test_rules_are_those_of_the_definition(spark: SparkSession, chunk: int) -> None:
    """Strong pairs, an item that is everywhere, a pair that is always together: by chunks of one rule or of all."""
    rng = np.random.default_rng(5)
    baskets = []
    for _ in range(120):
        basket = {
            item for item, often in zip("abcdef", (0.5, 0.4, 0.3, 0.3, 0.2, 0.6), strict=True) if rng.random() < often
        }
        basket |= {"everywhere"} | ({"b"} if "a" in basket and rng.random() < 0.8 else set())
        baskets.append(sorted(basket | ({"d"} if "c" in basket else set())))
    settings = MiningConfig(min_support=0.05, min_confidence=0.3, max_consequent=2, max_q=0.2)
    check(spark, baskets, settings, chunk)


@pytest.mark.spark
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    baskets=st.lists(st.sets(st.sampled_from(["a", "b,", "c;d", "e f", "ü"]), min_size=1), min_size=1, max_size=25),
    max_consequent=st.integers(1, 5),
    chunk=st.integers(1, 50),
)
def test_rules_of_any_baskets_are_those_of_the_definition(
    spark: SparkSession, baskets: list[set[str]], max_consequent: int, chunk: int
) -> None:
    config = MiningConfig(min_support=0.01, min_confidence=0, min_lift=0, max_consequent=max_consequent)
    check(spark, [sorted(basket) for basket in baskets], config, chunk)
