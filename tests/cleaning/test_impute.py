"""Fills: what each puts into a blank, where it puts nothing, and the flag beside it."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.impute import fill_blanks
from dlmine_spark.config import ColumnConfig
from tests.cleaning.examples import good, values

pytestmark = pytest.mark.spark

MONDAY = date(2024, 1, 1)


def series(*numbers: float | None, name: str = "a") -> list[tuple[Any, ...]]:
    """Rows of one series from a Monday on."""
    return [
        (name, MONDAY + timedelta(days=day), None if number is None else float(number))
        for day, number in enumerate(numbers)
    ]


def filled(spark: SparkSession, rows: list[tuple[Any, ...]], cutoff: date | None = None, **spec: Any) -> list[Any]:
    """The values of column y after a fill, by series and date."""
    frame = good(spark, "unique_id string, ds date, y double", *rows)
    columns = {"y": ColumnConfig.model_validate({"type": "double", **spec})}
    return values(fill_blanks(frame, columns, "ds", cutoff=cutoff).orderBy("unique_id", "ds"), "y")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"fill": "constant", "fill_value": 0}, [1.0, 0.0, 5.0, 1.0]),
        ({"fill": "mean"}, [1.0, 7 / 3, 5.0, 1.0]),
        ({"fill": "median"}, [1.0, 1.0, 5.0, 1.0]),
        ({"fill": "mode"}, [1.0, 1.0, 5.0, 1.0]),
        ({"fill": "forward"}, [1.0, 1.0, 5.0, 1.0]),
        ({"fill": "backward"}, [1.0, 5.0, 5.0, 1.0]),
        ({"fill": "linear"}, [1.0, 3.0, 5.0, 1.0]),
        ({"fill": "latest", "fill_by": ["unique_id"]}, [1.0, 1.0, 5.0, 1.0]),
    ],
    ids=lambda spec: spec["fill"] if isinstance(spec, dict) else "",
)
def test_a_blank_is_filled_by_each_method(spark: SparkSession, spec: dict[str, Any], expected: list[float]) -> None:
    assert filled(spark, series(1, None, 5, 1), **spec) == pytest.approx(expected)


def test_a_season_is_a_week_and_its_median_is_that_of_the_weekday(spark: SparkSession) -> None:
    week = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0]
    numbers = [*week, *(value + 2 for value in week), 11.0, None]

    assert filled(spark, series(*numbers), fill="seasonal_median")[-1] == 21.0


def test_fills_along_time_stay_inside_their_series(spark: SparkSession) -> None:
    rows = [*series(1, 2, name="a"), *series(None, 8, None, name="b")]

    assert filled(spark, rows, fill="forward") == [1.0, 2.0, None, 8.0, 8.0]
    assert filled(spark, rows, fill="backward") == [1.0, 2.0, 8.0, 8.0, None]
    # At the ends the nearest known value.
    assert filled(spark, rows, fill="linear") == [1.0, 2.0, 8.0, 8.0, 8.0]


def test_statistics_are_of_the_whole_column_or_of_groups(spark: SparkSession) -> None:
    rows = [*series(1, 2, 6, None, name="a"), *series(100, None, name="b")]

    assert filled(spark, rows, fill="median")[3] == 4.0
    assert filled(spark, rows, fill="median", fill_by=["unique_id"])[3] == 2.0
    assert filled(spark, rows, fill="median", fill_by=["unique_id"])[5] == 100.0


def test_what_cannot_be_derived_stays_blank_and_unflagged(spark: SparkSession) -> None:
    frame = good(spark, "unique_id string, ds date, y double", *series(None, None, 3))
    columns = {"y": ColumnConfig(type="double", fill="forward")}

    assert values(fill_blanks(frame, columns, "ds").orderBy("ds"), "y", "y_imputed") == [
        (None, False),
        (None, False),
        (3.0, False),
    ]


def test_a_closed_day_is_neither_filled_nor_learned_from(spark: SparkSession) -> None:
    rows = good(
        spark,
        "ds date, y double, open int",
        (MONDAY, 4.0, 1),
        (MONDAY + timedelta(days=1), 0.0, 0),
        (MONDAY + timedelta(days=2), None, 1),
        (MONDAY + timedelta(days=3), None, 0),
        (MONDAY + timedelta(days=4), None, None),
    )

    filled_rows = fill_blanks(rows, {"y": ColumnConfig(type="double", fill="forward")}, "ds").orderBy("ds")

    assert values(filled_rows, "y", "y_imputed") == [
        (4.0, False),
        (0.0, False),
        (4.0, True),
        (None, False),
        (4.0, True),
    ]


def test_whole_numbers_are_filled_with_whole_numbers_and_words_with_the_most_frequent(spark: SparkSession) -> None:
    rows = good(spark, "n double, word string", (1.0, "b"), (2.0, "a"), (None, "b"), (2.0, None), (2.0, "a"))
    columns = {
        "n": ColumnConfig(type="integer", fill="mean"),
        # Twice a, twice b: the tie goes to the first in order, whatever the partitions.
        "word": ColumnConfig(type="string", fill="mode"),
    }

    filled_rows = fill_blanks(rows.repartition(3), columns)

    assert sorted(values(filled_rows.where("n_imputed or word_imputed"), "n", "word")) == [(2.0, "a"), (2.0, "b")]


def test_rows_without_a_group_are_a_group_too_but_no_entity(spark: SparkSession) -> None:
    rows = good(spark, "shop string, x double, y double", ("a", 1.0, 1.0), (None, 4.0, 4.0), (None, None, None))
    x = ColumnConfig(type="double", fill="median", fill_by=("shop",))
    y = ColumnConfig(type="double", fill="latest", fill_by=("shop",))

    assert values(fill_blanks(rows, {"x": x, "y": y}, None).where("x_imputed"), "x", "y", "y_imputed") == [
        (4.0, None, False)
    ]


def test_the_latest_known_value_of_an_entity_is_that_of_the_last_time_or_arrival(spark: SparkSession) -> None:
    types = f"item string, ts timestamp, kind string, {s.SOURCE_FILE} string, {s.SOURCE_BLOCK} bigint"
    rows = good(
        spark,
        f"{types}, {s.SOURCE_ROW} bigint",
        ("tea", None, None, "f", 0, 1),
        ("tea", datetime(2024, 3, 2), "hot", "f", 0, 2),
        ("tea", datetime(2024, 3, 1), "cold", "f", 0, 3),
        ("tea", datetime(2024, 3, 3), None, "f", 0, 4),
        ("milk", datetime(2024, 3, 3), None, "f", 0, 5),
    )
    columns = {"kind": ColumnConfig(type="string", fill="latest", fill_by=("item",))}

    by_time = fill_blanks(rows.repartition(3), columns, "ts").orderBy(s.SOURCE_ROW)
    by_arrival = fill_blanks(rows.repartition(3), columns).orderBy(s.SOURCE_ROW)

    assert values(by_time, "kind", "kind_imputed") == [
        ("hot", True),
        ("hot", False),
        ("cold", False),
        ("hot", True),
        (None, False),
    ]
    assert values(by_arrival, "kind") == ["cold", "hot", "cold", "cold", None]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        # Known: 1 and 3 up to the cutoff, 100 and 8 after it.
        ({"fill": "mean"}, [1.0, 2.0, 3.0, 2.0, 100.0, 2.0, 8.0]),
        ({"fill": "median", "fill_by": ["unique_id"]}, [1.0, 2.0, 3.0, 2.0, 100.0, 2.0, 8.0]),
        ({"fill": "mode"}, [1.0, 1.0, 3.0, 1.0, 100.0, 1.0, 8.0]),
        ({"fill": "latest", "fill_by": ["unique_id"]}, [1.0, 3.0, 3.0, 3.0, 100.0, 3.0, 8.0]),
        ({"fill": "forward"}, [1.0, 1.0, 3.0, 3.0, 100.0, 100.0, 8.0]),
        ({"fill": "backward"}, [1.0, 3.0, 3.0, None, 100.0, 8.0, 8.0]),
        ({"fill": "linear"}, [1.0, 2.0, 3.0, 3.0, 100.0, 54.0, 8.0]),
    ],
    ids=lambda spec: spec["fill"] if isinstance(spec, dict) else "",
)
def test_nothing_after_the_cutoff_is_learned_from(
    spark: SparkSession, spec: dict[str, Any], expected: list[float | None]
) -> None:
    rows = series(1, None, 3, None, 100, None, 8)

    assert filled(spark, rows, cutoff=MONDAY + timedelta(days=3), **spec) == expected


def test_seasons_are_learned_up_to_the_cutoff(spark: SparkSession) -> None:
    rows = series(*[1.0, *[None] * 6] * 2, 100.0, *[None] * 6, None)

    assert filled(spark, rows, fill="seasonal_median")[-1] == 1.0
    rows[7] = ("a", MONDAY + timedelta(days=7), 50.0)
    assert filled(spark, rows, fill="seasonal_median")[-1] == 50.0
    assert filled(spark, rows, cutoff=MONDAY + timedelta(days=13), fill="seasonal_median")[-1] == 25.5


def test_fills_of_the_same_groups_share_one_aggregation_and_one_join(spark: SparkSession) -> None:
    rows = good(spark, "shop string, x double, y double", ("a", 1.0, None), ("a", None, 5.0))
    columns = {
        "x": ColumnConfig(type="double", fill="mean", fill_by=("shop",)),
        "y": ColumnConfig(type="double", fill="median", fill_by=("shop",)),
    }

    shared = fill_blanks(rows, columns)

    plan = shared._jdf.queryExecution().optimizedPlan().toString()  # type: ignore[union-attr]
    assert (plan.count("Aggregate"), plan.count("Join")) == (1, 1)
    assert sorted(values(shared, "x", "y", "x_imputed", "y_imputed")) == [
        (1.0, 5.0, False, True),
        (1.0, 5.0, True, False),
    ]


def test_fills_come_from_what_was_known_whatever_the_order_of_the_columns(spark: SparkSession) -> None:
    rows = good(spark, "shop string, y double", ("a", 1.0), ("a", None), (None, 3.0))
    shop = ColumnConfig(type="string", fill="constant", fill_value="a")
    y = ColumnConfig(type="double", fill="mean", fill_by=("shop",))

    for columns in ({"shop": shop, "y": y}, {"y": y, "shop": shop}):
        assert sorted(values(fill_blanks(rows, columns), "shop", "y")) == [("a", 1.0), ("a", 1.0), ("a", 3.0)]
