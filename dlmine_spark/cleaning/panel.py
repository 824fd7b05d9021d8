"""Panels: one row per series and date without gaps, from rows that have a value or from basket lines."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.frequency import Frequency

ONLY_SERIES = "all"
"""Name of the series where the data has only one and does not name it."""
UNKNOWN_STORE = "unknown"
"""Name of the series of lines whose store is blank, where others have one."""
LONGEST_GAP_DAYS = 5 * 366
"""A longer gap inside a series is no gap but a wrong date, which would be filled with thousands of rows."""


def aggregate_lines(lines: DataFrame, value: str, frequency: Frequency, nameless: str = ONLY_SERIES) -> DataFrame:
    """Sum basket lines to one row per store and day (week, month).

    A date without any line in any store counts as closed for all (the business did not trade); a store without a line
    on a date that others traded sold nothing (0), from its first line to the end of the data. Lines without a price
    (quantity) add nothing; a store's date that has only such lines is null.

    Args:
        lines: ``silver.lines`` with ``ts``.
        value: ``amount`` (quantity x price), ``quantity`` or ``baskets`` (distinct ones).
        frequency: step of the panel; weeks begin on Monday, months on the first.
        nameless: series of the lines without a store.

    Returns:
        ``unique_id``, ``ds``, ``y``, ``open``, ``y_imputed``.
    """
    measure: dict[str, Column] = {
        "amount": F.sum(F.col(s.QUANTITY) * F.col(s.PRICE)),
        "quantity": F.sum(s.QUANTITY),
        "baskets": F.count_distinct(s.BASKET_ID).cast("double"),
    }
    day = F.to_date(s.TS)
    date = {"D": day, "W": F.trunc(day, "week"), "MS": F.trunc(day, "month")}[frequency.alias]
    traded = (
        lines.where(F.col(s.TS).isNotNull())
        .groupBy(F.coalesce(F.col(s.STORE_ID), F.lit(nameless)).alias(s.UNIQUE_ID), date.alias(s.DS))
        .agg(measure[value].alias(s.Y))
        .withColumn("__traded", F.lit(True))
    )
    any_traded = traded.select(s.DS).distinct().withColumn("__any", F.lit(True))
    # Every series ends with the data: a store that sells nothing any more sells 0, it does not vanish.
    spans = traded.groupBy(s.UNIQUE_ID).agg(F.min(s.DS).alias("start")).crossJoin(traded.agg(F.max(s.DS).alias("end")))
    steps = F.sequence("start", "end", F.expr(frequency.sql_interval()))
    dates = spans.select(s.UNIQUE_ID, F.explode(steps).alias(s.DS))
    return (
        dates.join(F.broadcast(any_traded), on=s.DS, how="left")
        .join(traded, on=[s.UNIQUE_ID, s.DS], how="left")
        .select(
            s.UNIQUE_ID,
            s.DS,
            F.when(F.col("__traded"), F.col(s.Y)).otherwise(F.lit(0.0)).alias(s.Y),
            F.coalesce(F.col("__any").cast("int"), F.lit(0)).alias(s.OPEN),
            F.lit(False).alias(s.Y_IMPUTED),
        )
    )


def longest_gap(rows: DataFrame) -> DataFrame:
    """One row: the series, its dates before and after, and the days between, of the longest gap inside a series."""
    in_time = Window.partitionBy(s.UNIQUE_ID).orderBy(s.DS)
    gaps = rows.select(s.UNIQUE_ID, F.lag(s.DS).over(in_time).alias("before"), F.col(s.DS).alias("after"))
    days = F.date_diff("after", "before")
    return gaps.agg(F.max(F.struct(days.alias("days"), s.UNIQUE_ID, "before", "after")).alias("gap")).select("gap.*")


def fill_calendar_gaps(rows: DataFrame, frequency: Frequency) -> DataFrame:
    """Add the dates missing between a series' first and last one, with nulls in every other column.

    A date need not lie on the grid that the series' first one begins: a week or month that has any row is not missing.
    """
    spans = rows.groupBy(s.UNIQUE_ID).agg(F.min(s.DS).alias("start"), F.max(s.DS).alias("end"))
    there = rows.join(spans, on=s.UNIQUE_ID).select(s.UNIQUE_ID, _step("start", s.DS, frequency).alias("step"))
    every = spans.select(
        s.UNIQUE_ID, "start", F.explode(F.sequence(F.lit(0), _step("start", "end", frequency))).alias("step")
    )
    missing = every.join(there.distinct(), on=[s.UNIQUE_ID, "step"], how="left_anti")
    added = missing.select(s.UNIQUE_ID, _date("start", "step", frequency).alias(s.DS))
    return rows.unionByName(added, allowMissingColumns=True)


def with_closures(panel: DataFrame, calendar: DataFrame | None) -> DataFrame:
    """Take closures from the calendar where the panel does not have them; without either, every date is open."""
    own = F.col(s.OPEN) if s.OPEN in panel.columns else F.lit(None).cast("int")
    if calendar is None or s.OPEN not in calendar.columns:
        return panel.withColumn(s.OPEN, F.coalesce(own, F.lit(1)).cast("int"))
    planned = calendar.select(s.UNIQUE_ID, s.DS, F.col(s.OPEN).alias("__planned"))
    return (
        panel.join(planned, on=[s.UNIQUE_ID, s.DS], how="left")
        .withColumn(s.OPEN, F.coalesce(own, F.col("__planned"), F.lit(1)).cast("int"))
        .drop("__planned")
    )


def calendar_of_series(rows: DataFrame, series: DataFrame) -> DataFrame:
    """A calendar without ``unique_id`` holds for every series."""
    if s.UNIQUE_ID in rows.columns:
        return rows
    return series.select(s.UNIQUE_ID).distinct().crossJoin(rows)


def in_order(columns: Sequence[str]) -> list[str]:
    """The panel's own columns first, then the covariates as they came."""
    own = list(s.PANEL.columns)
    return [*own, *(name for name in columns if name not in own)]


def _step(start: str, date: str, frequency: Frequency) -> Column:
    """Which step of a grid a date belongs to; 0 is the one that begins at the start."""
    if frequency.alias == "MS":
        return (F.year(date) - F.year(start)) * 12 + F.month(date) - F.month(start)
    return F.floor(F.date_diff(date, start) / (7 if frequency.alias == "W" else 1)).cast("int")


def _date(start: str, step: str, frequency: Frequency) -> Column:
    """The date a step begins at; series of month ends go on with month ends."""
    if frequency.alias == "MS":
        same_day = F.add_months(start, F.col(step))
        return F.when(F.col(start) == F.last_day(start), F.last_day(same_day)).otherwise(same_day)
    return F.date_add(start, F.col(step) * (7 if frequency.alias == "W" else 1))
