"""Panels: one row per series and date without gaps, from rows that have a value or from basket lines."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import SourceConfig
from dlmine_spark.frequency import Frequency, sql_distance, sql_usual

ONLY_SERIES = "all"
"""Name of the series where the data has only one and does not name it."""
UNKNOWN_STORE = "unknown"
"""Name of the series of lines whose store is blank, where others have one."""
FEWEST_DISTANCES = 4
"""Rows of a series, beside its first, that tell what its step is."""
_LONGEST_GAP_DAYS, _LONGEST_GAP_STEPS = 5 * 366, 20


def longest_gap(frequency: Frequency) -> int:
    """Steps from which on a gap inside a series is none but a wrong date, which would be filled with many rows."""
    return max(_LONGEST_GAP_STEPS, int(_LONGEST_GAP_DAYS / frequency.days))


def store_of(lines: SourceConfig) -> Column:
    """The series that a basket line belongs to, of a source of kind lines."""
    return F.coalesce(F.col(s.STORE_ID), F.lit(UNKNOWN_STORE)) if s.STORE_ID in lines.columns else F.lit(ONLY_SERIES)


def aggregate_lines(lines: DataFrame, value: str, frequency: Frequency, nameless: str = ONLY_SERIES) -> DataFrame:
    """Sum basket lines to one row per store and day (week, month).

    A date without any line in any store counts as closed for all (the business did not trade); a store without a line
    on a date that others traded sold nothing (0), from its first line to the end of the data. Lines without a price
    (quantity) add nothing; a store's date that has only such lines is null.

    Args:
        lines: ``silver.lines`` with ``ts``.
        value: ``amount`` (quantity x price), ``quantity`` or ``baskets`` (distinct ones).
        frequency: step of the panel; weeks begin on Monday, months, quarters and years on the first.
        nameless: series of the lines without a store.

    Returns:
        ``unique_id``, ``ds``, ``y``, ``open``, ``y_imputed``.
    """
    measure: dict[str, Column] = {
        "amount": F.sum(F.col(s.QUANTITY) * F.col(s.PRICE)),
        "quantity": F.sum(s.QUANTITY),
        "baskets": F.count_distinct(s.BASKET_ID).cast("double"),
    }
    date = _beginning(F.col(s.TS), frequency)
    traded = (
        lines.where(F.col(s.TS).isNotNull())
        .groupBy(F.coalesce(F.col(s.STORE_ID), F.lit(nameless)).alias(s.UNIQUE_ID), date.alias(s.DS))
        .agg(measure[value].alias(s.Y))
        .withColumn("__traded", F.lit(True))
    )
    any_traded = traded.select(s.DS).distinct().withColumn("__any", F.lit(True))
    # Every series ends with the data: a store that sells nothing any more sells 0, it does not vanish.
    spans = traded.groupBy(s.UNIQUE_ID).agg(F.min(s.DS).alias("start")).crossJoin(traded.agg(F.max(s.DS).alias("end")))
    dates = spans.select(s.UNIQUE_ID, F.explode(F.expr(frequency.sql_moments("start", "end"))).alias(s.DS))
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


def series_steps(rows: DataFrame, frequency: Frequency) -> DataFrame:
    """What the distances between the rows of each series tell of its steps.

    Returns:
        One row per series: ``unique_id``; ``rows``, ``start`` and ``end``; ``usual`` and ``least`` distance (in units
        of ``sql_distance``); ``is_told``: there are ``FEWEST_DISTANCES``, enough to tell its step by; ``longest``, its
        longest gap (``steps``, ``unique_id``, ``before``, ``after``); ``crowded``, two rows of one step, if any
        (``before``, ``after``).
    """
    in_time = Window.partitionBy(s.UNIQUE_ID).orderBy(s.DS)
    neighbours = rows.select(
        s.UNIQUE_ID,
        F.first(s.DS).over(in_time).alias("start"),
        F.lag(s.DS).over(in_time).alias("before"),
        F.col(s.DS).alias("after"),
    )
    distances = neighbours.withColumn("distance", F.expr(sql_distance(frequency.sql_type, "before", "after")))
    is_crowded = F.expr(frequency.sql_step("start", "before")) == F.expr(frequency.sql_step("start", "after"))
    steps = F.expr(frequency.sql_step("before", "after")).alias("steps")
    return distances.groupBy(s.UNIQUE_ID).agg(
        F.count(F.lit(1)).alias("rows"),
        F.min("after").alias("start"),
        F.max("after").alias("end"),
        F.expr(sql_usual("distance")).alias("usual"),
        F.min("distance").alias("least"),
        (F.count("distance") >= FEWEST_DISTANCES).alias("is_told"),
        F.max(F.struct(steps, s.UNIQUE_ID, "before", "after")).alias("longest"),
        F.min(F.when(is_crowded, F.struct("before", "after"))).alias("crowded"),
    )


def step_facts(by_series: DataFrame) -> DataFrame:
    """``series_steps`` of all series in few rows.

    Returns:
        One row per ``usual``, ``least``, ``is_told`` and ``is_crowded`` (whether there are two rows of one step):
        ``series``, how many; ``longest``, the longest gap in one of them; ``example``, the first by name
        (``unique_id``, ``crowded``).
    """
    is_crowded = F.col("crowded").isNotNull().alias("is_crowded")
    return by_series.groupBy("usual", "least", "is_told", is_crowded).agg(
        F.count(F.lit(1)).alias("series"),
        F.max("longest").alias("longest"),
        F.min(F.struct(s.UNIQUE_ID, "crowded")).alias("example"),
    )


def fill_calendar_gaps(rows: DataFrame, frequency: Frequency) -> DataFrame:
    """Add the dates missing between a series' first and last one, with nulls in every other column.

    A date need not lie on the grid that the series' first one begins: a week or month that has any row is not missing.
    """
    spans = rows.groupBy(s.UNIQUE_ID).agg(F.min(s.DS).alias("start"), F.max(s.DS).alias("end"))
    step = F.expr(frequency.sql_step("start", s.DS))
    there = rows.join(spans, on=s.UNIQUE_ID).select(s.UNIQUE_ID, step.alias("step"))
    steps = F.sequence(F.lit(0), F.expr(frequency.sql_step("start", "end")))
    every = spans.select(s.UNIQUE_ID, "start", F.explode(steps).alias("step"))
    missing = every.join(there.distinct(), on=[s.UNIQUE_ID, "step"], how="left_anti")
    added = missing.select(s.UNIQUE_ID, F.expr(frequency.sql_moment("start", "step")).alias(s.DS))
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


def _beginning(moment: Column, frequency: Frequency) -> Column:
    """When the step began that a moment lies in."""
    if frequency.is_within_day:
        clock = moment.cast("timestamp_ntz")
        minutes = (F.hour(clock) * 60 + F.minute(clock)) / frequency.size
        day = F.to_date(clock).cast("timestamp_ntz")
        return day + F.make_dt_interval(mins=F.floor(minutes).cast("int") * frequency.size)
    day = F.to_date(moment)
    unit = {"W": "week", "MS": "month", "QS": "quarter", "YS": "year"}.get(frequency.alias)
    return day if unit is None else F.trunc(day, unit)
