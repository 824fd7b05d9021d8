"""Fills: what stands in a blank, flagged as ``<column>_imputed`` and recorded as a repair.

Fills that look at neighbours (``forward``, ``linear``, ``seasonal_median``) go along the time column inside the groups of
``fill_by``; the statistics of the others are one small aggregation.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.outliers import ACCURACY, repair_entry
from dlmine_spark.cleaning.plan import REPAIRS
from dlmine_spark.config import ColumnConfig


def fill_blanks(rows: DataFrame, column: str, spec: ColumnConfig, time: str | None, season_length: int) -> DataFrame:
    """Fill the blanks of a column where a value can be derived; the rest stay null.

    Args:
        rows: good rows with ``REPAIRS``; closed dates (``open`` = 0) are left alone: they are not missing.
        column: its name.
        spec: its declaration.
        time: the column that orders the rows of a group; None for rows without time.
        season_length: steps of a season, for ``seasonal_median``.

    Returns:
        The same rows with ``<column>_imputed``.
    """
    value = F.col(f"`{column}`")
    flag = f"{column}{s.IMPUTED_SUFFIX}"
    prepared, fill = _fill_value(rows, column, spec, time, season_length)
    is_blank = value.isNull()
    if s.OPEN in rows.columns and column != s.OPEN:
        is_blank = is_blank & (F.coalesce(F.col(s.OPEN), F.lit(1)) != 0)
    filled = prepared.withColumn("__fill", fill).withColumn(flag, is_blank & F.col("__fill").isNotNull())
    entry = repair_entry(column, value, F.col("__fill"), f"fill_{spec.fill}")
    return (
        filled.withColumn(
            REPAIRS, F.when(F.col(flag), F.concat(F.col(REPAIRS), F.array(entry))).otherwise(F.col(REPAIRS))
        )
        .withColumn(column, F.when(F.col(flag), F.col("__fill")).otherwise(value))
        .drop("__fill", "__statistic", "__previous", "__next")
    )


def _fill_value(
    rows: DataFrame, column: str, spec: ColumnConfig, time: str | None, season_length: int
) -> tuple[DataFrame, Column]:
    """The rows with what the fill needs beside them, and the expression of the fill."""
    value = F.col(f"`{column}`")
    by = list(spec.fill_by)
    if spec.fill == "constant":
        return rows, F.lit(spec.fill_value).cast(dict(rows.dtypes)[column])
    if spec.fill in ("mean", "median", "mode"):
        statistic = {
            "mean": F.avg(value),
            "median": F.percentile_approx(value, 0.5, ACCURACY),
            # Ties are broken by value, so that the order of rows decides nothing.
            "mode": F.mode(value, True),
        }[spec.fill]
        return _with_statistic(rows, by, statistic), F.col("__statistic")
    if time is None:
        return rows, F.lit(None).cast(dict(rows.dtypes)[column])
    order = Window.partitionBy(*(F.col(f"`{name}`") for name in by)).orderBy(time)
    before = order.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    if spec.fill == "forward":
        return rows, F.last(value, ignorenulls=True).over(before)
    if spec.fill == "linear":
        return _with_neighbours(rows, value, time, order), _interpolated(time)
    # Weekday for days, month for months: the position in the season that the calendar gives.
    position = F.dayofweek(time) if season_length == 7 else F.month(time)
    statistic = F.percentile_approx(value, 0.5, ACCURACY)
    keyed = rows.withColumn("__position", position)
    return _with_statistic(keyed, [*by, "__position"], statistic).drop("__position"), F.col("__statistic")


def _with_statistic(rows: DataFrame, by: list[str], statistic: Column) -> DataFrame:
    if not by:
        return rows.crossJoin(F.broadcast(rows.agg(statistic.alias("__statistic"))))
    groups = rows.groupBy(*(F.col(f"`{name}`") for name in by)).agg(statistic.alias("__statistic"))
    return rows.join(groups, on=by, how="left")


def _with_neighbours(rows: DataFrame, value: Column, time: str, order: object) -> DataFrame:
    """Add the known values before and after each row, with their times."""
    point = F.when(value.isNotNull(), F.struct(F.col(time).alias("at"), value.alias("value")))
    window = order
    before = window.rowsBetween(Window.unboundedPreceding, Window.currentRow)  # type: ignore[attr-defined]
    after = window.rowsBetween(Window.currentRow, Window.unboundedFollowing)  # type: ignore[attr-defined]
    return rows.withColumn("__previous", F.last(point, ignorenulls=True).over(before)).withColumn(
        "__next", F.first(point, ignorenulls=True).over(after)
    )


def _interpolated(time: str) -> Column:
    """Linear between the neighbours; at the ends the nearest known value."""
    previous, following = F.col("__previous"), F.col("__next")
    span = F.unix_timestamp(following["at"].cast("timestamp")) - F.unix_timestamp(previous["at"].cast("timestamp"))
    passed = F.unix_timestamp(F.col(time).cast("timestamp")) - F.unix_timestamp(previous["at"].cast("timestamp"))
    between = previous["value"] + (following["value"] - previous["value"]) * passed / F.nullif(span, F.lit(0))
    return F.coalesce(between, previous["value"], following["value"])
