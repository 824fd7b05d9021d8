"""Fisher's exact test against its definition in whole numbers, and p-values that are adjusted for many tests."""

from __future__ import annotations

from decimal import Decimal, getcontext
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from scipy.stats import false_discovery_control, hypergeom

from dlmine_spark.mining.rules import adjusted
from dlmine_spark.mining.significance import log_fisher


def exact(joint: int, antecedent: int, consequent: int, baskets: int) -> float:
    """The logarithm of the p-value, from fractions of whole numbers."""
    getcontext().prec = 40
    ways = sum(
        comb(consequent, both) * comb(baskets - consequent, antecedent - both)
        for both in range(joint, min(antecedent, consequent) + 1)
    )
    return float((Decimal(ways) / Decimal(comb(baskets, antecedent))).ln())


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Counts of a rule: joint, antecedent, consequent, baskets."""
    baskets = draw(st.integers(1, 400))
    antecedent, consequent = draw(st.integers(1, baskets)), draw(st.integers(1, baskets))
    joint = draw(st.integers(max(0, antecedent + consequent - baskets), min(antecedent, consequent)))
    return joint, antecedent, consequent, baskets


@given(tables())
def test_p_is_that_of_the_definition(table: tuple[int, int, int, int]) -> None:
    assert log_fisher(*table)[0] == pytest.approx(exact(*table), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    "table",
    [
        (900, 5_000, 4_000, 100_000),  # 1e-340: less than the least double
        (300, 5_000, 4_000, 100_000),
        (300, 300, 300, 100_000),
        (2, 20, 20_000, 20_001),
        (210, 5_000, 4_000, 100_000),  # just above the mean
        (190, 5_000, 4_000, 100_000),  # below it
    ],
)
def test_p_is_right_however_small(table: tuple[int, int, int, int]) -> None:
    assert log_fisher(*table)[0] == pytest.approx(exact(*table), rel=1e-12)


def test_p_of_millions_of_baskets() -> None:
    """Log of the p-value from 60 digits (mpmath); scipy's own is right to 1e-9 here."""
    p = log_fisher([100_500, 1_300], [1_000_000, 100_000], [1_000_000, 100_000], 10_000_000)
    assert p == pytest.approx([-3.22663814833602, -45.043383468043594], rel=1e-13)
    assert np.exp(p) == pytest.approx(hypergeom.sf([100_499, 1_299], 10_000_000, [1e6, 1e5], [1e6, 1e5]), rel=1e-8)


def test_what_cannot_be_otherwise_has_p_1() -> None:
    """One basket, equal baskets, a side that is everywhere, sides that never meet."""
    assert np.exp(log_fisher([1, 70, 30, 0], [1, 70, 30, 5], [1, 70, 100, 5], [1, 70, 100, 100])).tolist() == [1.0] * 4


@pytest.mark.spark
@pytest.mark.parametrize("extra", [0, 17])
def test_adjusted_p_values_are_those_of_benjamini_and_hochberg(spark: SparkSession, extra: int) -> None:
    """Hypotheses without a p-value count as p = 1; ties and zeros are values like others."""
    p = np.concatenate(
        [np.random.default_rng(3).uniform(0, 1, 60) ** 4, [0.0, 0.0, 0.02, 0.02, 0.02, 1.0, 1.0, 5e-324]]
    )
    expected = false_discovery_control(np.concatenate([p, np.ones(extra)]))[: len(p)]

    results = []
    for order, partitions in ((1, 1), (-1, 5)):
        frame = spark.createDataFrame([(float(value),) for value in p[::order]], "p double").repartition(partitions)
        rows = adjusted(frame, len(p), len(p) + extra).collect()
        assert len(rows) == len(set(p))
        results.append({row["p"]: row["q_value"] for row in rows})
    assert results[0] == results[1]
    assert [results[0][value] for value in p] == pytest.approx(expected, rel=1e-12)


@pytest.mark.spark
def test_adjusting_in_many_batches_is_adjusting_in_one(spark: SparkSession) -> None:
    """Equal values on both sides of a batch's end are one value."""
    frame = spark.range(1000).selectExpr("pow((floor(id / 4) + 1) / 1000, 2) as p")
    whole = adjusted(frame, 1000, 5000).orderBy("p").collect()
    before = spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "3")
    try:
        assert adjusted(frame, 1000, 5000).orderBy("p").collect() == whole
    finally:
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(before))
    assert len(whole) == 250
    assert whole[0]["q_value"] == pytest.approx(1e-6 * 5000 / 4)
