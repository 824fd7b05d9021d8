"""What the column ``ds`` of a panel holds, told from its cells, and its values as tables have them."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning import parse
from dlmine_spark.cleaning.names import bronze_name
from dlmine_spark.config import ColumnConfig, ColumnType, SourceConfig

SAMPLE = 20_000
"""Cells looked at first: a file whose first cells are dates alone is not read twice."""
FROM_MOMENTS_A_DAY = 1.5
"""Different times a series has on a day, on average, from which on they are steps of the panel."""
_SHARE_OF_NUMBERS = 0.99
_COMPACT_DATE = r"^(?:18|19|20|21)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$"


def looks(rows: DataFrame, source: SourceConfig) -> DataFrame:
    """One row about the first cells of ``ds``: how many there are, hold a time of day, are whole numbers, 20240131."""
    cell = _cell(source, s.DS)
    first = rows.select(F.trim(cell).alias("cell")).where(F.col("cell") != "").limit(SAMPLE)
    return first.agg(
        F.count(F.lit(1)).alias("cells"),
        F.count_if(F.contains(F.col("cell"), F.lit(":"))).alias("times"),
        F.count_if(F.col("cell").rlike(r"^[+-]?\d{1,9}$")).alias("numbers"),
        F.count_if(F.col("cell").rlike(_COMPACT_DATE)).alias("compact_dates"),
    )


def counts_steps(cells: int, numbers: int, compact_dates: int, spec: ColumnConfig) -> bool:
    """Whether cells are numbers of steps; declared ``formats`` say that they are dates, however they look."""
    are_numbers = numbers > 0 and numbers >= _SHARE_OF_NUMBERS * cells
    return are_numbers and compact_dates < _SHARE_OF_NUMBERS * cells and not spec.formats


def moments_a_day(rows: DataFrame, source: SourceConfig) -> DataFrame:
    """One row: at how many different times a series has rows on a day, on average."""
    spec = source.columns[s.DS]
    moment = F.coalesce(*parse.moments(F.trim(_cell(source, s.DS)), spec.formats, spec.time_zone))
    series = _cell(source, s.UNIQUE_ID) if s.UNIQUE_ID in source.columns else F.lit("")
    known = rows.select(series.alias("series"), moment.alias("moment")).where(F.col("moment").isNotNull())
    return known.agg(
        (F.count_distinct("series", "moment") / F.count_distinct("series", F.to_date("moment"))).alias("a_day")
    )


def with_type(source: SourceConfig, type_: ColumnType, session_zone: str) -> SourceConfig:
    """The source with a declared type of ``ds``.

    Times without a zone are read as UTC, which skips no hour, and become times of no zone in ``with_moments``.
    """
    spec = source.columns[s.DS]
    zone = spec.time_zone or (None if session_zone == "UTC" or type_ != "timestamp" else "UTC")
    resolved = spec.model_copy(update={"type": type_, "time_zone": zone})
    return source.model_copy(update={"columns": {**source.columns, s.DS: resolved}})


def with_moments(rows: DataFrame) -> DataFrame:
    """The rows with ``ds`` as tables have it: a date, the time in UTC as one of no zone, or a whole number."""
    type_ = dict(rows.dtypes).get(s.DS)
    if type_ == "timestamp":
        seconds = (F.unix_micros(s.DS) / F.lit(1_000_000)).cast("decimal(18,6)")
        epoch = F.lit("1970-01-01").cast("timestamp_ntz")
        return rows.withColumn(s.DS, epoch + F.make_dt_interval(secs=seconds))
    return rows.withColumn(s.DS, F.col(s.DS).cast("int")) if type_ == "double" else rows


def _cell(source: SourceConfig, name: str) -> Column:
    return F.col(f"`{bronze_name(source.columns[name].source or name)}`")
