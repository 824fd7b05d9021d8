"""Panels: one row per series and date without gaps, from rows that have a value or from basket lines."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.frequency import Frequency

ONLY_SERIES = "all"
"""Name of the series where the data has only one and does not name it."""


def aggregate_lines(lines: DataFrame, value: str) -> DataFrame:
    """Sum basket lines to one row per store and day.

    A day without any line in any store counts as closed for all (the business did not trade); a store without a line on
    a day that others traded sold nothing (0), from its first to its last day.

    Args:
        lines: ``silver.lines`` with ``ts``.
        value: ``amount`` (quantity x price), ``quantity`` or ``baskets`` (distinct ones).

    Returns:
        ``unique_id``, ``ds``, ``y``, ``open``, ``y_imputed``.
    """
    measure: dict[str, Column] = {
        "amount": F.sum(F.coalesce(F.col(s.QUANTITY), F.lit(1.0)) * F.col(s.PRICE)),
        "quantity": F.sum(F.coalesce(F.col(s.QUANTITY), F.lit(1.0))),
        "baskets": F.count_distinct(s.BASKET_ID).cast("double"),
    }
    daily = (
        lines.where(F.col(s.TS).isNotNull())
        .groupBy(F.coalesce(F.col(s.STORE_ID), F.lit(ONLY_SERIES)).alias(s.UNIQUE_ID), F.to_date(s.TS).alias(s.DS))
        .agg(measure[value].alias(s.Y))
    )
    traded = daily.select(s.DS).distinct().withColumn("__traded", F.lit(1))
    # Every series ends with the data: a store that sells nothing any more sells 0, it does not vanish.
    spans = daily.groupBy(s.UNIQUE_ID).agg(F.min(s.DS).alias("start")).crossJoin(daily.agg(F.max(s.DS).alias("end")))
    days = spans.select(s.UNIQUE_ID, F.explode(F.sequence("start", "end", F.expr("interval 1 day"))).alias(s.DS))
    return (
        days.join(F.broadcast(traded), on=s.DS, how="left")
        .join(daily, on=[s.UNIQUE_ID, s.DS], how="left")
        .select(
            s.UNIQUE_ID,
            s.DS,
            F.coalesce(F.col(s.Y), F.lit(0.0)).alias(s.Y),
            F.coalesce(F.col("__traded"), F.lit(0)).alias(s.OPEN),
            F.lit(False).alias(s.Y_IMPUTED),
        )
    )


def fill_calendar_gaps(rows: DataFrame, frequency: Frequency) -> DataFrame:
    """Add the dates missing between a series' first and last one, with nulls in every other column.

    Dates that do not lie on the series' grid (a weekly series with one row on another weekday) are kept as they are.
    """
    spans = rows.groupBy(s.UNIQUE_ID).agg(F.min(s.DS).alias("start"), F.max(s.DS).alias("end"))
    grid = spans.select(
        s.UNIQUE_ID, F.explode(F.sequence("start", "end", F.expr(frequency.sql_interval()))).alias(s.DS)
    )
    return grid.join(rows, on=[s.UNIQUE_ID, s.DS], how="full")


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
