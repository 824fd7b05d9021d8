"""What ``ds`` holds, told from its cells."""

from __future__ import annotations

from datetime import datetime

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.cleaning.moments import counts_steps, looks, moments_a_day, with_moments
from dlmine_spark.config import ColumnConfig, SourceConfig
from tests.cleaning.examples import values

pytestmark = pytest.mark.spark

SOURCE = SourceConfig.model_validate(
    {"kind": "panel", "path": "panel.csv", "columns": {"unique_id": "shop", "ds": "When", "y": None}}
)


def test_cells_are_looked_at(spark: SparkSession) -> None:
    cells = ["2024-01-01 05:00", "17", "20240131", "", None, "2024-01-01"]
    rows = spark.createDataFrame([(cell,) for cell in cells], "When string")

    assert values(looks(rows, SOURCE), "cells", "times", "numbers", "compact_dates") == [(4, 1, 2, 1)]


@pytest.mark.parametrize(
    ("cells", "numbers", "compact", "formats", "expected"),
    [
        (200, 200, 0, (), True),
        (200, 199, 0, (), True),
        (200, 150, 0, (), False),
        (200, 200, 200, (), False),
        (200, 200, 0, ("yyyyMM",), False),
        (0, 0, 0, (), False),
    ],
    ids=["numbers", "one typing error", "mixed", "dates without hyphens", "declared as dates", "no cell"],
)
def test_whole_numbers_count_steps_unless_they_are_dates(
    cells: int, numbers: int, compact: int, formats: tuple[str, ...], expected: bool
) -> None:
    assert counts_steps(cells, numbers, compact, ColumnConfig(formats=formats)) is expected


def test_a_time_of_day_alone_makes_no_steps_within_the_day(spark: SparkSession) -> None:
    def a_day(*cells: str) -> float:
        rows = spark.createDataFrame([("a", cell) for cell in cells], "shop string, When string")
        return float(values(moments_a_day(rows, SOURCE), "a_day")[0])

    assert a_day("2024-01-01 08:59", "2024-01-02 09:03", "2024-01-03 09:00") == 1
    assert a_day("2024-01-01 00:00", "2024-01-01 12:00", "2024-01-02 00:00", "2024-01-02 12:00") == 2


def test_times_become_times_without_a_zone_and_numbers_whole_ones(spark: SparkSession) -> None:
    before = spark.conf.get("spark.sql.session.timeZone")
    rows = spark.sql("SELECT TIMESTAMP'2024-03-10 02:30:00.25 UTC' AS ds")
    try:
        # There, that night has no half past two.
        spark.conf.set("spark.sql.session.timeZone", "America/New_York")
        assert values(with_moments(rows), "ds") == [datetime(2024, 3, 10, 2, 30, 0, 250_000)]
    finally:
        spark.conf.set("spark.sql.session.timeZone", str(before))
    counted = with_moments(spark.sql("SELECT 17.0D AS ds"))
    assert (counted.dtypes, values(counted, "ds")) == ([("ds", "int")], [17])
