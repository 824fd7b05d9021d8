"""The step of a panel, and what is said of panels that have none or several."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark.cleaning.panel import series_steps, step_facts
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError, TableContractError
from dlmine_spark.frequency import COUNTED, DAILY, HOURLY, MONTHLY, WEEKLY, Frequency
from dlmine_spark.pipelines.steps import other_steps, panel_frequency, set_aside, with_moment_types

pytestmark = pytest.mark.spark

START = date(2024, 1, 1)


def days(spark: SparkSession, **distances: int) -> DataFrame:
    """Six rows of each series, so many days apart."""
    rows = [(name, START + timedelta(days=days * row)) for name, days in distances.items() for row in range(6)]
    return spark.createDataFrame(rows, "unique_id string, ds date")


def config(**sections: dict[str, object]) -> Config:
    return Config.model_validate(sections)


def test_the_usual_distance_is_the_step(spark: SparkSession) -> None:
    hours = [("a", datetime(2024, 3, 10, hour)) for hour in (0, 1, 2, 3, 9)]
    assert panel_frequency(config(), spark.createDataFrame(hours, "unique_id string, ds timestamp_ntz")) == HOURLY
    assert panel_frequency(config(), days(spark, a=7, b=7)) == WEEKLY


def test_what_cells_look_like_decides_unless_it_is_declared(spark: SparkSession) -> None:
    def type_of(*cells: str, **cleaning: object) -> str | None:
        source = {"kind": "panel", "path": "p", "columns": {"unique_id": None, "ds": None, "y": None}}
        calendar = {"kind": "calendar", "path": "c", "columns": {"ds": None}}
        asked = config(sources={"panel": source, "calendar": calendar}, cleaning=cleaning)
        rows = spark.createDataFrame([("a", cell) for cell in cells], "unique_id string, ds string")
        resolved = with_moment_types(asked, {"panel": rows, "calendar": rows})
        types = {one.columns["ds"].type for one in resolved.sources.values()}
        assert len(types) == 1
        return types.pop()

    assert type_of("2024-01-01", "2024-01-02") is None
    assert type_of("2024-01-01 00:00", "2024-01-01 01:00") == "timestamp"
    assert type_of("2024-01-01 09:00", "2024-01-02 09:01") is None
    assert type_of("1", "2") == "integer"
    assert type_of("1", "2", frequency="D") is None
    assert type_of("2024-01-01", frequency="30min") == "timestamp"
    with pytest.raises(ConfigError, match=r"cleaning\.cutoff is a date, but ds counts steps"):
        type_of("1", "2", cutoff=START)


def test_the_season_of_counted_steps_is_what_is_declared(spark: SparkSession) -> None:
    steps = spark.createDataFrame([("a", 1), ("a", 2), ("a", 4)], "unique_id string, ds int")

    assert panel_frequency(config(), steps) == COUNTED
    seasonal = panel_frequency(config(arima={"season_length": 24}), steps)
    assert (seasonal.season_length, seasonal.year_length) == (24, 24)
    # Where there is a calendar, ARIMA's season is ARIMA's alone.
    assert panel_frequency(config(arima={"season_length": 24}), days(spark, a=1)) == DAILY


def test_an_unknown_step_is_named_with_a_series(spark: SparkSession) -> None:
    with pytest.raises(TableContractError, match=r"silver\.panel: column ds: rows are usually 14 days apart.*series a"):
        panel_frequency(config(), days(spark, a=14))
    with pytest.raises(TableContractError, match=r"cleaning\.frequency=h needs timestamp_ntz"):
        panel_frequency(config(cleaning={"frequency": "H"}), days(spark, a=1))


def aside(rows: DataFrame, step: Frequency, **cleaning: object) -> dict[str, str]:
    """By series that has no place in the panel: why."""
    by_series = series_steps(rows, step)
    others = other_steps(config(cleaning=cleaning), step_facts(by_series).collect(), step)
    found = set_aside(by_series, others, step).collect() if others else []
    return {row["unique_id"]: row["reason"] for row in found}


def test_series_of_other_steps_are_set_aside_with_the_reason(spark: SparkSession) -> None:
    mixed = days(spark, a=1, b=7, c=1)
    assert aside(mixed, DAILY) == {"b": "a row each week, where most rows of the panel are one day apart"}
    # Declared days: what lies between are gaps.
    assert aside(mixed, DAILY, frequency="D") == {}
    assert aside(days(spark, a=1, b=7, c=7), WEEKLY) == {"a": "2024-01-01 and 2024-01-02 lie within one week"}


def test_days_have_no_place_among_hours(spark: SparkSession) -> None:
    hours = [("a", datetime(2024, 1, 1 + hour // 24, hour % 24)) for hour in range(140)]
    rows = [*hours, *(("b", datetime(2024, 1, 1 + day)) for day in range(6))]
    panel = spark.createDataFrame(rows, "unique_id string, ds timestamp_ntz")
    assert aside(panel, HOURLY) == {"b": "a row each day, where most rows of the panel are one hour apart"}


def test_more_of_them_than_may_be_rejected_are_refused_by_name(spark: SparkSession) -> None:
    mixed = days(spark, a=1, b=7, c=7)
    with pytest.raises(TableContractError, match=r"2 of 3 series .* allows 50%; e\.g\. series b: a row each week.*=D"):
        aside(mixed, DAILY)
    assert aside(mixed, DAILY, max_rejected=0.7).keys() == {"b", "c"}
    with pytest.raises(TableContractError, match=r"1 of 3 series .* series a: 2024-01-01 and .* within one week"):
        aside(mixed, WEEKLY, max_rejected=0.3)


def test_rows_that_are_rare_now_and_then_are_gaps(spark: SparkSession) -> None:
    distances = (1, 30, 30, 30, 30, 30)
    sparse = [("b", START + timedelta(days=sum(distances[:row]))) for row in range(7)]
    rows = days(spark, a=1).unionByName(spark.createDataFrame(sparse, "unique_id string, ds date"))

    assert aside(rows, DAILY) == {}
    ends = [("a", day) for day in (date(2024, 1, 31), date(2024, 2, 29), date(2024, 3, 31))]
    assert aside(spark.createDataFrame(ends, "unique_id string, ds date"), MONTHLY) == {}
