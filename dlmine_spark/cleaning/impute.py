"""Fills: what stands in a blank, flagged as ``<column>_imputed``.

Fills that look at neighbours (``forward``, ``linear``, ``seasonal_median``) go along the time column inside the groups
of ``fill_by``, by default each series by itself; the statistics of the others are one small aggregation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.plan import ORDER
from dlmine_spark.config import ColumnConfig

_FILL, _KNOWN, _STATISTIC, _POSITION, _BEFORE, _AFTER = (
    "__fill",
    "__known",
    "__statistic",
    "__position",
    "__before",
    "__after",
)


def fill_blanks(
    rows: DataFrame, columns: Mapping[str, ColumnConfig], time: str | None = None, season_length: int = 7
) -> DataFrame:
    """Fill the blanks of every column that declares a fill, where a value can be derived; the rest stay null.

    A closed date (``open`` = 0) is not a missing one: it is neither filled nor learned from.

    Args:
        rows: good rows.
        columns: declarations with types.
        time: the column that orders the rows of a group; None for rows without time.
        season_length: steps of a season, for ``seasonal_median``.

    Returns:
        The same rows with a flag ``<column>_imputed`` for each of these columns.
    """
    for name, spec in columns.items():
        if spec.fill != "none":
            rows = _fill(rows, name, spec, time, season_length)
    return rows


def _fill(rows: DataFrame, column: str, spec: ColumnConfig, time: str | None, season_length: int) -> DataFrame:
    value = F.col(f"`{column}`")
    is_open = F.lit(True)
    if s.OPEN in rows.columns and column != s.OPEN:
        is_open = F.coalesce(F.col(s.OPEN), F.lit(1)) != 0
    known = rows.withColumn(_KNOWN, F.when(is_open, value))
    prepared, fill = _derive(known, spec, time, season_length, dict(rows.dtypes)[column])
    if spec.type in ("integer", "boolean"):
        fill = F.round(fill)
    is_filled = value.isNull() & is_open & F.col(_FILL).isNotNull()
    return (
        prepared.withColumn(_FILL, fill)
        .withColumn(f"{column}{s.IMPUTED_SUFFIX}", is_filled)
        .withColumn(column, F.coalesce(value, F.when(is_open, F.col(_FILL))))
        .select(*rows.columns, f"{column}{s.IMPUTED_SUFFIX}")
    )


def _derive(
    rows: DataFrame, spec: ColumnConfig, time: str | None, season_length: int, type_: str
) -> tuple[DataFrame, Column]:
    """The rows with what the fill needs beside them, and the expression of the fill."""
    known, by = F.col(_KNOWN), list(spec.fill_by)
    if spec.fill == "constant":
        return rows, F.lit(spec.fill_value).cast(type_)
    if spec.fill in ("mean", "median", "mode"):
        # Ties of a mode are broken by value, so that the order of rows decides nothing.
        statistics = {"mean": F.avg(known), "median": F.median(known), "mode": F.mode(known, True)}
        return _with_statistic(rows, by, statistics[spec.fill]), F.col(_STATISTIC)
    if time is None:
        return rows, F.lit(None).cast(type_)
    if not by and s.UNIQUE_ID in rows.columns:
        by = [s.UNIQUE_ID]
    if spec.fill == "seasonal_median":
        # Weekday for days, month for weeks and months: the position in the season that the calendar gives.
        position = F.dayofweek(time) if season_length == 7 else F.month(time)
        placed = rows.withColumn(_POSITION, position)
        return _with_statistic(placed, [*by, _POSITION], F.median(known)), F.col(_STATISTIC)
    ties = [F.col(name) for name in ORDER if name in rows.columns]
    in_time = Window.partitionBy(*(F.col(f"`{name}`") for name in by)).orderBy(F.col(time), *ties)
    if spec.fill == "forward":
        return rows, F.last(known, ignorenulls=True).over(_up_to_here(in_time))
    return _with_neighbours(rows, time, in_time), _interpolated(time)


def _with_statistic(rows: DataFrame, by: Sequence[str], statistic: Column) -> DataFrame:
    if not by:
        return rows.crossJoin(F.broadcast(rows.agg(statistic.alias(_STATISTIC))))
    groups = rows.groupBy(*(F.col(f"`{name}`") for name in by)).agg(statistic.alias(_STATISTIC))
    return rows.join(groups, on=list(by), how="left")


def _up_to_here(in_time: WindowSpec) -> WindowSpec:
    return in_time.rowsBetween(Window.unboundedPreceding, Window.currentRow)


def _with_neighbours(rows: DataFrame, time: str, in_time: WindowSpec) -> DataFrame:
    """Add the known values before and after each row, with their times."""
    known = F.col(_KNOWN)
    point = F.when(known.isNotNull(), F.struct(F.col(time).alias("at"), known.alias("value")))
    from_here = in_time.rowsBetween(Window.currentRow, Window.unboundedFollowing)
    return rows.withColumns(
        {
            _BEFORE: F.last(point, ignorenulls=True).over(_up_to_here(in_time)),
            _AFTER: F.first(point, ignorenulls=True).over(from_here),
        }
    )


def _interpolated(time: str) -> Column:
    """Linear between the neighbours; at the ends the nearest known value."""

    def seconds(moment: Column) -> Column:
        return F.unix_timestamp(moment.cast("timestamp"))

    before, after = F.col(_BEFORE), F.col(_AFTER)
    share = (seconds(F.col(time)) - seconds(before["at"])) / F.nullif(
        seconds(after["at"]) - seconds(before["at"]), F.lit(0)
    )
    between = before["value"] + (after["value"] - before["value"]) * share
    return F.coalesce(between, before["value"], after["value"])
