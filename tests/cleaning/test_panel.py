"""Panels: summed from lines, gap-free, closures known."""

from __future__ import annotations

from datetime import date, datetime

import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark.cleaning.panel import (
    aggregate_lines,
    calendar_of_series,
    fill_calendar_gaps,
    series_steps,
    step_facts,
    with_closures,
)
from dlmine_spark.frequency import DAILY, MONTHLY, WEEKLY, Frequency
from tests.cleaning.examples import values

pytestmark = pytest.mark.spark

LINES = "basket_id string, ts timestamp, quantity double, price double, store_id string"


def lines(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(
        [
            ("1", datetime(2024, 3, 1, 9), 2.0, 1.5, "a"),
            ("1", datetime(2024, 3, 1, 9), 1.0, 4.0, "a"),
            ("2", datetime(2024, 3, 1, 23, 59), 1.0, 1.0, "a"),
            ("3", datetime(2024, 3, 4, 8), 1.0, 10.0, "b"),
            ("4", datetime(2024, 3, 4, 9), 1.0, None, "a"),
            ("5", datetime(2024, 3, 5, 9), 2.0, 3.0, None),
            ("6", None, 9.0, 9.0, "a"),
        ],
        LINES,
    )


def test_lines_are_summed_to_store_and_day_and_a_day_nobody_traded_is_closed(spark: SparkSession) -> None:
    panel = aggregate_lines(lines(spark), "amount", DAILY, "nameless").orderBy("unique_id", "ds")

    assert values(panel, "unique_id", "ds", "y", "open") == [
        ("a", date(2024, 3, 1), 8.0, 1),
        ("a", date(2024, 3, 2), 0.0, 0),
        ("a", date(2024, 3, 3), 0.0, 0),
        # Something was sold, at a price that is not known.
        ("a", date(2024, 3, 4), None, 1),
        ("a", date(2024, 3, 5), 0.0, 1),
        ("b", date(2024, 3, 4), 10.0, 1),
        ("b", date(2024, 3, 5), 0.0, 1),
        ("nameless", date(2024, 3, 5), 6.0, 1),
    ]


@pytest.mark.parametrize(("value", "expected"), [("quantity", 4.0), ("baskets", 2.0)])
def test_a_panel_can_count_units_or_baskets(spark: SparkSession, value: str, expected: float) -> None:
    panel = aggregate_lines(lines(spark), value, DAILY)

    assert values(panel.where("unique_id = 'a' and ds = '2024-03-01'"), "y") == [expected]


@pytest.mark.parametrize(
    ("frequency", "expected"),
    [
        (WEEKLY, [(date(2024, 2, 26), 8.0), (date(2024, 3, 4), None)]),
        (MONTHLY, [(date(2024, 3, 1), 8.0)]),
    ],
    ids=["weeks", "months"],
)
def test_lines_are_summed_to_weeks_from_monday_and_to_months(
    spark: SparkSession, frequency: Frequency, expected: list[tuple[date, float | None]]
) -> None:
    panel = aggregate_lines(lines(spark), "amount", frequency).where("unique_id = 'a'")

    assert values(panel.orderBy("ds"), "ds", "y") == expected


def gap_free(spark: SparkSession, frequency: Frequency, *days: date) -> list[tuple[date, float | None]]:
    rows = spark.createDataFrame([("a", day, 1.0) for day in days], "unique_id string, ds date, y double")
    return values(fill_calendar_gaps(rows, frequency).orderBy("ds"), "ds", "y")


def test_missing_days_are_added_inside_each_series_only(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [("a", date(2024, 2, 28), 1.0, "x"), ("a", date(2024, 3, 1), 2.0, "x"), ("b", date(2024, 3, 5), 3.0, None)],
        "unique_id string, ds date, y double, note string",
    )

    filled = fill_calendar_gaps(rows, DAILY).orderBy("unique_id", "ds")

    assert values(filled, "unique_id", "ds", "y", "note") == [
        ("a", date(2024, 2, 28), 1.0, "x"),
        ("a", date(2024, 2, 29), None, None),
        ("a", date(2024, 3, 1), 2.0, "x"),
        ("b", date(2024, 3, 5), 3.0, None),
    ]


def test_a_week_with_a_row_on_another_day_is_not_missing(spark: SparkSession) -> None:
    assert gap_free(spark, WEEKLY, date(2024, 1, 1), date(2024, 1, 9), date(2024, 1, 22)) == [
        (date(2024, 1, 1), 1.0),
        (date(2024, 1, 9), 1.0),
        (date(2024, 1, 15), None),
        (date(2024, 1, 22), 1.0),
    ]


def test_months_go_on_with_their_day_or_with_their_last_one(spark: SparkSession) -> None:
    assert gap_free(spark, MONTHLY, date(2024, 2, 29), date(2024, 4, 30), date(2024, 5, 31)) == [
        (date(2024, 2, 29), 1.0),
        (date(2024, 3, 31), None),
        (date(2024, 4, 30), 1.0),
        (date(2024, 5, 31), 1.0),
    ]
    assert [day for day, _ in gap_free(spark, MONTHLY, date(2023, 12, 1), date(2024, 2, 1))] == [
        date(2023, 12, 1),
        date(2024, 1, 1),
        date(2024, 2, 1),
    ]


def test_steps_of_series_are_told_with_their_longest_gap_and_with_rows_of_one_step(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [
            *(("a", day) for day in (date(2024, 1, 1), date(2024, 1, 8), date(2024, 1, 15))),
            *(("b", day) for day in (date(2020, 1, 6), date(2024, 1, 1), date(2024, 1, 4))),
        ],
        "unique_id string, ds date",
    )

    by_series = series_steps(rows, WEEKLY)
    assert values(by_series.orderBy("unique_id"), "unique_id", "rows", "start", "end") == [
        ("a", 3, date(2024, 1, 1), date(2024, 1, 15)),
        ("b", 3, date(2020, 1, 6), date(2024, 1, 4)),
    ]
    facts = step_facts(by_series).orderBy("least")
    assert values(facts, "usual", "least", "is_told", "is_crowded", "series", "longest", "example") == [
        (
            *(3, 3, False, True, 1),
            (208, "b", date(2020, 1, 6), date(2024, 1, 1)),
            ("b", (date(2024, 1, 1), date(2024, 1, 4))),
        ),
        (7, 7, False, False, 1, (1, "a", date(2024, 1, 8), date(2024, 1, 15)), ("a", None)),
    ]


def test_closures_come_from_the_panel_else_from_the_calendar_else_there_are_none(spark: SparkSession) -> None:
    days = [date(2024, 1, day) for day in (1, 2, 3)]
    panel = spark.createDataFrame(
        [("a", days[0], 1.0), ("a", days[1], None), ("a", days[2], None)], "unique_id string, ds date, open double"
    )
    calendar = spark.createDataFrame([("a", day, 0.0) for day in days[:2]], "unique_id string, ds date, open double")

    assert values(with_closures(panel, calendar).orderBy("ds"), "open") == [1, 0, 1]
    assert values(with_closures(panel, None).orderBy("ds"), "open") == [1, 1, 1]
    assert values(with_closures(panel.drop("open"), calendar).orderBy("ds"), "open") == [0, 0, 1]


def test_a_calendar_without_series_holds_for_all(spark: SparkSession) -> None:
    calendar = spark.createDataFrame([(date(2024, 1, 1), 1.0)], "ds date, promo double")
    series = spark.createDataFrame([("a",), ("b",), ("a",)], "unique_id string")

    rows = calendar_of_series(calendar, series).orderBy("unique_id")

    assert values(rows, "unique_id", "ds", "promo") == [("a", date(2024, 1, 1), 1.0), ("b", date(2024, 1, 1), 1.0)]
