"""Fills: what each puts into a blank, where it puts nothing, and the flag beside it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession

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


def filled(spark: SparkSession, rows: list[tuple[Any, ...]], **spec: Any) -> list[Any]:
    """The values of column y after a fill, by series and date."""
    frame = good(spark, "unique_id string, ds date, y double", *rows)
    columns = {"y": ColumnConfig.model_validate({"type": "double", **spec})}
    return values(fill_blanks(frame, columns, "ds").orderBy("unique_id", "ds"), "y")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"fill": "constant", "fill_value": 0}, [1.0, 0.0, 5.0, 1.0]),
        ({"fill": "mean"}, [1.0, 7 / 3, 5.0, 1.0]),
        ({"fill": "median"}, [1.0, 1.0, 5.0, 1.0]),
        ({"fill": "mode"}, [1.0, 1.0, 5.0, 1.0]),
        ({"fill": "forward"}, [1.0, 1.0, 5.0, 1.0]),
        ({"fill": "linear"}, [1.0, 3.0, 5.0, 1.0]),
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
