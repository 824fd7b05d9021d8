"""Outliers: which values are outside the fences of each method, and what each action does with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dlmine_spark.cleaning.outliers import fences_of, treat_outliers
from dlmine_spark.cleaning.plan import REASONS, REPAIRS, WARNINGS
from dlmine_spark.config import ColumnConfig, OutlierRule
from tests.cleaning.examples import entries, good, values

pytestmark = pytest.mark.spark

ONE_TO_NINE = [float(value) for value in range(1, 10)]


def fences(spark: SparkSession, numbers: Sequence[float | None], **rule: Any) -> tuple[float, float]:
    rows = spark.createDataFrame([(number,) for number in numbers], "y double")
    row = fences_of(rows, "y", OutlierRule(**rule)).collect()[0]
    return row["low"], row["high"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # Quartiles 3 and 7.
        ({"method": "iqr", "threshold": 1.5}, (-3.0, 13.0)),
        ({"method": "zscore", "threshold": 2}, (5 - 2 * 7.5**0.5, 5 + 2 * 7.5**0.5)),
        # Median 5, median distance 2.
        ({"method": "mad", "threshold": 3}, (5 - 3 * 2 * 1.4826, 5 + 3 * 2 * 1.4826)),
        ({"method": "quantile", "threshold": 12.5}, (2.0, 8.0)),
    ],
    ids=["iqr", "zscore", "mad", "quantile"],
)
def test_fences_follow_their_definition(
    spark: SparkSession, rule: dict[str, Any], expected: tuple[float, float]
) -> None:
    assert fences(spark, [*ONE_TO_NINE, None], **rule) == pytest.approx(expected)


@pytest.mark.parametrize("method", ["iqr", "zscore", "mad", "quantile"])
def test_few_values_or_equal_ones_have_no_fences(spark: SparkSession, method: str) -> None:
    assert fences(spark, ONE_TO_NINE[:7], method=method) == (None, None)
    assert fences(spark, [4.0] * 20, method=method) == (None, None)


def test_every_group_has_fences_of_its_own_and_rows_without_a_group_are_one(spark: SparkSession) -> None:
    small = [("small", value) for value in ONE_TO_NINE]
    large = [("large", value * 1000) for value in ONE_TO_NINE]
    nameless = [(None, value + 100) for value in ONE_TO_NINE]
    rows = good(spark, "shop string, y double", *small, *large, *nameless, ("small", 9000.0), (None, 1.0))
    rule = {"method": "iqr", "by": ("shop",), "action": "null"}

    treated = treat_outliers(rows, {"y": ColumnConfig(type="double", outliers=OutlierRule(**rule))})

    blanked = treated.where(F.col("y").isNull())
    assert sorted(values(blanked, "shop"), key=str) == [None, "small"]
    assert treated.count() == 29
    assert sorted(entries(blanked, REPAIRS)) == [
        [("y", "1.0", None, "outlier_iqr")],
        [("y", "9000.0", None, "outlier_iqr")],
    ]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("flag", (99.0, ["outlier_iqr:y"], [], [])),
        ("null", (None, [], [("y", "99.0", None, "outlier_iqr")], [])),
        # Quartiles 3.25 and 7.75: the fence lies at 21.25.
        ("clip", (21.25, [], [("y", "99.0", "21.25", "outlier_iqr")], [])),
        ("quarantine", (99.0, [], [], [("outlier_iqr", "y", "is unusual here: 99.0")])),
    ],
)
def test_each_action_does_what_it_says_and_leaves_the_rest_alone(
    spark: SparkSession, action: str, expected: tuple[Any, ...]
) -> None:
    rows = good(spark, "y double", *[(value,) for value in [*ONE_TO_NINE, 99.0]])
    spec = ColumnConfig(type="double", outliers=OutlierRule.model_validate({"action": action}))

    treated = treat_outliers(rows, {"y": spec})

    changed = [
        (y, warnings, [tuple(entry) for entry in repairs], [tuple(entry) for entry in reasons])
        for y, warnings, repairs, reasons in values(treated, "y", WARNINGS, REPAIRS, REASONS)
        if warnings or repairs or reasons
    ]
    assert changed == [expected]
    assert sorted(value for value in values(treated, "y") if value in ONE_TO_NINE) == ONE_TO_NINE
    assert treated.columns == rows.columns


def test_whole_numbers_are_clipped_to_whole_numbers_inside_the_fence(spark: SparkSession) -> None:
    rows = good(spark, "y double", *[(value,) for value in [*ONE_TO_NINE, 99.0]])
    spec = ColumnConfig(type="integer", outliers=OutlierRule(action="clip"))

    assert max(values(treat_outliers(rows, {"y": spec}), "y")) == 21.0


def test_the_order_of_rules_decides_nothing(spark: SparkSession) -> None:
    rows = good(spark, "x double, y double", *[(value, value) for value in [*ONE_TO_NINE, 99.0]])
    x = ColumnConfig(type="double", outliers=OutlierRule(action="quarantine"))
    y = ColumnConfig(type="double", outliers=OutlierRule(action="clip"))

    results = [treat_outliers(rows, columns) for columns in ({"x": x, "y": y}, {"y": y, "x": x})]

    assert sorted(values(results[0], "x", "y")) == sorted(values(results[1], "x", "y"))
    assert max(values(results[0], "y")) == 21.25
