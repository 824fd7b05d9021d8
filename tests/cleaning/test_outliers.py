"""Outliers: which values are outside the fences of each method, and what each action does with them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark.cleaning.outliers import fences_of, treat_outliers, with_moving_fences
from dlmine_spark.cleaning.plan import REASONS, REPAIRS, WARNINGS
from dlmine_spark.config import ColumnConfig, OutlierRule
from tests.cleaning.examples import entries, good, values

pytestmark = pytest.mark.spark

ONE_TO_NINE = [float(value) for value in range(1, 10)]


def fences(spark: SparkSession, numbers: Sequence[float | None], **rule: Any) -> tuple[float, float]:
    rows = spark.createDataFrame([(number,) for number in numbers], "y double")
    row = fences_of(rows, {"y": OutlierRule(**rule)}).collect()[0]
    return row["__low_y"], row["__high_y"]


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


def series(*numbers: float | None, name: str = "a") -> list[tuple[Any, ...]]:
    """Rows of one series, a day apart."""
    first = date(2024, 1, 1)
    values_ = (None if number is None else float(number) for number in numbers)
    return [(name, first + timedelta(days=day), value) for day, value in enumerate(values_)]


def moving_fences(rows: DataFrame, **rule: Any) -> list[tuple[float | None, float | None]]:
    """Centre and spread that the fences of each row say, by series and date."""
    cutoff = rule.pop("cutoff", None)
    fenced = with_moving_fences(rows, "y", OutlierRule(method="hampel", threshold=1, **rule), "ds", cutoff)
    found = values(fenced.orderBy("unique_id", "ds"), "__low_y", "__high_y")
    return [
        (None, None) if low is None else (round((low + high) / 2, 9), round((high - low) / 2 / 1.4826, 9))
        for low, high in found
    ]


def test_hampel_holds_a_value_against_the_rows_around_it(spark: SparkSession) -> None:
    rows = good(spark, "unique_id string, ds date, y double", *series(1, 2, 3, 100, 5), *series(7, 7, 9, name="b"))

    assert moving_fences(rows.repartition(3), window=3) == [
        # At the ends of a series there is half a window.
        (1.5, 0.5),
        (2.0, 1.0),
        (3.0, 1.0),
        (5.0, 2.0),
        (52.5, 47.5),
        # Half of the values are equal: nothing is usual.
        (None, None),
        (None, None),
        (8.0, 1.0),
    ]


def test_blanks_in_a_window_count_for_nothing(spark: SparkSession) -> None:
    rows = good(spark, "unique_id string, ds date, y double", *series(1, None, 4, 8), *series(None, name="b"))

    assert moving_fences(rows, window=5) == [(2.5, 1.5), (4.0, 3.0), (4.0, 3.0), (6.0, 2.0), (None, None)]


def test_before_the_cutoff_a_window_does_not_look_behind_it(spark: SparkSession) -> None:
    rows = good(spark, "unique_id string, ds date, y double", *series(1, 3, 9, 100, 5))

    assert moving_fences(rows, window=3, cutoff=date(2024, 1, 3)) == [
        (2.0, 1.0),
        (3.0, 2.0),
        (6.0, 3.0),
        (9.0, 4.0),
        (52.5, 47.5),
    ]


def test_a_spike_is_an_outlier_where_its_neighbours_are_not(spark: SparkSession) -> None:
    rows = good(spark, "unique_id string, ds date, y double", *series(1.0, 2.0, 3.0, 40.0, 5.0, 6.0, 70.0, 80.0, 90.0))
    rule = OutlierRule(method="hampel", window=5, action="null")

    treated = treat_outliers(rows, {"y": ColumnConfig(type="double", outliers=rule)}, "ds")

    assert values(treated.orderBy("ds"), "y") == [1.0, 2.0, 3.0, None, 5.0, 6.0, 70.0, 80.0, 90.0]


def test_fences_are_learned_up_to_the_cutoff_and_later_rows_held_against_them(spark: SparkSession) -> None:
    rows = good(spark, "unique_id string, ds date, y double", *series(*ONE_TO_NINE, 99.0, 99.0, 99.0))
    columns = {"y": ColumnConfig(type="double", outliers=OutlierRule(action="clip"))}

    learned = treat_outliers(rows, columns, "ds", date(2024, 1, 9)).orderBy("ds")

    # Quartiles 3 and 7 of the first nine.
    assert values(learned, "y") == [*ONE_TO_NINE, 19.0, 19.0, 19.0]
    assert max(values(treat_outliers(rows, columns, "ds"), "y")) == 99.0


def test_rules_with_the_same_groups_share_one_aggregation_and_one_join(spark: SparkSession) -> None:
    numbers = [*ONE_TO_NINE, 99.0]
    rows = good(spark, "shop string, x double, y double", *[("a", value, -value) for value in numbers])
    columns = {
        "x": ColumnConfig(type="double", outliers=OutlierRule(by=("shop",))),
        "y": ColumnConfig(type="double", outliers=OutlierRule(method="zscore", threshold=2, by=("shop",))),
    }

    treated = treat_outliers(rows, columns)

    plan = treated._jdf.queryExecution().optimizedPlan().toString()  # type: ignore[union-attr]
    assert (plan.count("Aggregate"), plan.count("Join")) == (1, 1)
    assert sorted(values(treated, "x", "y"), key=str)[-1] == (None, None)
