"""Steps of every kind of panel: moments a step apart, in Python and in SQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dlmine_spark.frequency import (
    COUNTED,
    DAILY,
    HOURLY,
    MONTHLY,
    QUARTERLY,
    WEEKLY,
    YEARLY,
    Frequency,
    Moment,
    backtest_cutoffs,
    from_alias,
    from_distance,
    from_text,
    minutes,
    name_of,
    sql_literal,
)

HALF_HOURLY = minutes(30)
assert HALF_HOURLY is not None


@pytest.mark.parametrize(
    ("frequency", "moment", "steps", "expected"),
    [
        (HOURLY, datetime(2024, 3, 31, 23), 2, datetime(2024, 4, 1, 1)),
        (HALF_HOURLY, datetime(2024, 1, 1), -1, datetime(2023, 12, 31, 23, 30)),
        (DAILY, date(2024, 2, 28), 2, date(2024, 3, 1)),
        (WEEKLY, date(2024, 1, 3), 2, date(2024, 1, 17)),
        (MONTHLY, date(2024, 1, 15), -1, date(2023, 12, 15)),
        (MONTHLY, date(2024, 1, 30), 1, date(2024, 2, 29)),
        # The last day of a month stays the last one.
        (MONTHLY, date(2024, 2, 29), 1, date(2024, 3, 31)),
        (QUARTERLY, date(2024, 2, 1), 3, date(2024, 11, 1)),
        (QUARTERLY, date(2023, 9, 30), 1, date(2023, 12, 31)),
        (YEARLY, date(2023, 12, 31), -2, date(2021, 12, 31)),
        (COUNTED, 17, -3, 14),
    ],
)
def test_a_moment_some_steps_later(frequency: Frequency, moment: Moment, steps: int, expected: Moment) -> None:
    assert frequency.shift(moment, steps) == expected


def test_moments_go_up_to_an_end_that_need_not_be_one_of_them() -> None:
    wednesdays = [date(2024, 1, 3), date(2024, 1, 10)]
    assert WEEKLY.moments(date(2024, 1, 3), date(2024, 1, 15)) == wednesdays
    assert MONTHLY.moments(date(2024, 1, 31), date(2024, 3, 1)) == [date(2024, 1, 31), date(2024, 2, 29)]
    assert COUNTED.moments(3, 2) == []


def test_a_row_belongs_to_the_step_it_lies_in() -> None:
    assert WEEKLY.steps(date(2024, 1, 3), date(2024, 1, 16)) == 1
    assert MONTHLY.steps(date(2024, 1, 31), date(2024, 3, 1)) == 2
    assert QUARTERLY.steps(date(2024, 1, 1), date(2024, 6, 30)) == 1
    assert HOURLY.steps(datetime(2024, 1, 1), datetime(2024, 1, 2, 1, 59)) == 25


CASES: list[tuple[Frequency, Moment, Moment]] = [
    # The night when clocks in New York skip an hour.
    (HOURLY, datetime(2024, 3, 9, 22), datetime(2024, 3, 10, 5, 20)),
    (HALF_HOURLY, datetime(2024, 11, 3, 0, 30), datetime(2024, 11, 3, 4)),
    (DAILY, date(2024, 2, 27), date(2024, 3, 2)),
    (WEEKLY, date(2024, 1, 3), date(2024, 2, 5)),
    (MONTHLY, date(2024, 1, 30), date(2024, 6, 15)),
    (MONTHLY, date(2024, 2, 29), date(2024, 6, 1)),
    (QUARTERLY, date(2024, 5, 31), date(2025, 5, 1)),
    (YEARLY, date(2020, 2, 29), date(2024, 3, 1)),
    (COUNTED, 5, 9),
    (COUNTED, 5, 4),
]


@pytest.fixture
def in_new_york(spark: SparkSession) -> Iterator[SparkSession]:
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    yield spark
    spark.conf.set("spark.sql.session.timeZone", str(before))


@pytest.mark.spark
def test_sql_counts_as_python_does_whatever_the_clocks_do(in_new_york: SparkSession) -> None:
    asked = {}
    for number, (frequency, start, end) in enumerate(CASES):
        texts = (sql_literal(start), sql_literal(end))
        asked[f"step_{number}"] = frequency.sql_step(*texts)
        asked[f"moments_{number}"] = frequency.sql_moments(*texts)
        asked[f"days_{number}"] = f"{frequency.sql_days(texts[1])} - {frequency.sql_days(texts[0])}"
    row = in_new_york.range(1).select(*(F.expr(text).alias(name) for name, text in asked.items())).collect()[0]

    for number, (frequency, start, end) in enumerate(CASES):
        assert row[f"step_{number}"] == frequency.steps(start, end)
        assert row[f"moments_{number}"] == frequency.moments(start, end)
        days = end - start
        length = days / timedelta(days=1) if isinstance(days, timedelta) else days
        assert row[f"days_{number}"] == pytest.approx(length)


@pytest.mark.parametrize(
    ("text", "alias"),
    [
        ("H", "h"),
        ("h", "h"),
        ("60min", "h"),
        ("2h", "2h"),
        ("30T", "30min"),
        ("W-SUN", "W"),
        ("ME", "MS"),
        ("M", "MS"),
        ("Q", "QS"),
        ("QE-DEC", "QS"),
        ("Y", "YS"),
        ("AS", "YS"),
        ("step", "step"),
        ("7min", None),
        ("fortnight", None),
    ],
)
def test_pandas_names_of_steps_are_known(text: str, alias: str | None) -> None:
    found = from_alias(text)
    assert (found and found.alias) == alias


@pytest.mark.parametrize(
    ("type_", "distance", "alias", "season_length"),
    [
        ("timestamp_ntz", 60.0, "h", 24),
        ("timestamp_ntz", 15.0, "15min", 96),
        ("timestamp_ntz", 7.0, None, 0),
        ("timestamp_ntz", 1440.0, None, 0),
        ("date", 1.0, "D", 7),
        ("date", 7.0, "W", 52),
        ("date", 31.0, "MS", 12),
        ("date", 92.0, "QS", 4),
        ("date", 365.0, "YS", 1),
        ("date", 14.0, None, 0),
        ("int", 1.0, "step", 1),
        ("int", 0.5, None, 0),
    ],
)
def test_the_step_is_told_from_the_distance(type_: str, distance: float, alias: str | None, season_length: int) -> None:
    found = from_distance(type_, distance)
    assert (found and found.alias) == alias
    assert found is None or found.season_length == season_length


@pytest.mark.parametrize(
    ("moment", "literal", "name"),
    [
        (date(2024, 1, 31), "DATE'2024-01-31'", "2024-01-31"),
        (datetime(2024, 1, 31, 5), "TIMESTAMP_NTZ'2024-01-31 05:00:00'", "2024-01-31T050000"),
        (17, "17", "17"),
    ],
)
def test_a_moment_is_written_and_read(moment: Moment, literal: str, name: str) -> None:
    assert sql_literal(moment) == literal
    assert name_of(moment) == name
    read = from_text(str(moment))
    assert (read, type(read)) == (moment, type(moment))


def test_cutoffs_leave_a_horizon_of_steps_each() -> None:
    assert backtest_cutoffs(datetime(2024, 1, 3), HOURLY, 24, 2, None) == [datetime(2024, 1, 1), datetime(2024, 1, 2)]
    assert backtest_cutoffs(20, COUNTED, 4, 2, 1) == [15, 16]


def test_a_year_or_week_back_is_the_same_day_of_the_week_or_hour_of_the_day() -> None:
    assert date(2024, 1, 1).weekday() == (date(2024, 1, 1) - timedelta(days=DAILY.year_length)).weekday()
    assert HOURLY.shift(datetime(2024, 3, 10, 5), -HOURLY.year_length) == datetime(2024, 3, 3, 5)
    for known in (HOURLY, HALF_HOURLY, DAILY, WEEKLY, MONTHLY, QUARTERLY, YEARLY, COUNTED):
        assert known.year_length % known.season_length == 0
