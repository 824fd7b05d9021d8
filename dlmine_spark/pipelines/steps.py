"""The step of the panel: told from its moments, and the same for all of its series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.moments import FROM_MOMENTS_A_DAY, counts_steps, looks, moments_a_day, with_type
from dlmine_spark.config import ColumnType, Config, SourceConfig
from dlmine_spark.errors import ConfigError, TableContractError
from dlmine_spark.frequency import (
    COUNTED,
    DAILY,
    DISTANCE_UNITS,
    HOURLY,
    KNOWN_ALIASES,
    MINUTES_A_DAY,
    Frequency,
    from_alias,
    from_distance,
    sql_distance,
    sql_usual,
)

_SINGLE = {"date": DAILY, "timestamp_ntz": HOURLY, "int": COUNTED}
"""The step of a panel none of whose series has two rows."""


def with_moment_types(config: Config, incoming: Mapping[str, DataFrame]) -> Config:
    """The configuration with the type of ``ds`` declared for the panel and its calendar, where it is no date.

    A declared type or frequency decides, else what the cells look like: the first of them are looked at, and all where
    there are times among these.

    Args:
        config: the whole configuration.
        incoming: by source, its rows as they came.

    Raises:
        ConfigError: steps are counted, and a date is set as the cutoff of cleaning.
    """
    panel = config.source_of_kind("panel")
    type_: ColumnType | None = panel[1].columns[s.DS].type if panel is not None else None
    type_ = type_ or _declared_type(config)
    if type_ is None and panel is not None:
        type_ = _type_of_cells(incoming[panel[0]], panel[1])
    if type_ is None or type_ == "date":
        return config
    if type_ == "integer" and config.cleaning.cutoff is not None:
        raise ConfigError("cleaning.cutoff is a date, but ds counts steps in this panel: leave cleaning.cutoff away")
    spark = next(iter(incoming.values())).sparkSession
    zone = spark.conf.get("spark.sql.session.timeZone") or ""
    typed = {
        one: with_type(other, other.columns[s.DS].type or type_, zone)
        for one, other in config.sources.items()
        if other.kind in ("panel", "calendar")
    }
    return config.model_copy(update={"sources": {**config.sources, **typed}})


def _declared_type(config: Config) -> ColumnType | None:
    types: dict[str, ColumnType] = {"date": "date", "timestamp_ntz": "timestamp", "int": "integer"}
    declared = from_alias(config.cleaning.frequency)
    return None if declared is None else types[declared.sql_type]


def _type_of_cells(rows: DataFrame, source: SourceConfig) -> ColumnType:
    look = looks(rows, source).collect()[0]
    if counts_steps(look["cells"], look["numbers"], look["compact_dates"], source.columns[s.DS]):
        return "integer"
    if not look["times"]:
        return "date"
    a_day = moments_a_day(rows, source).collect()[0]["a_day"]
    return "timestamp" if a_day is not None and a_day >= FROM_MOMENTS_A_DAY else "date"


def panel_frequency(config: Config, panel: DataFrame) -> Frequency:
    """The declared step of the panel, else the usual distance between neighbouring moments (one aggregation).

    Where moments are counted, only ``arima.season_length`` can say what a season is.

    Raises:
        TableContractError: the distance is no known step, or ``ds`` is of another type than the declared one.
    """
    found = _declared(config, panel) or _usual(panel)
    asked = config.arima.season_length
    if found.has_calendar or asked == "auto":
        return found
    return replace(found, season_length=asked, year_length=asked)


def _declared(config: Config, panel: DataFrame) -> Frequency | None:
    type_, declared = dict(panel.dtypes)[s.DS], from_alias(config.cleaning.frequency)
    if declared is not None and declared.sql_type != type_:
        raise TableContractError(
            f"silver.panel: column ds is of type {type_}, but cleaning.frequency={declared.alias} needs "
            f"{declared.sql_type}: set it to auto, and leave sources.*.columns.ds.type away"
        )
    return declared


def _usual(panel: DataFrame) -> Frequency:
    type_ = dict(panel.dtypes)[s.DS]
    in_time = Window.partitionBy(s.UNIQUE_ID).orderBy(s.DS)
    neighbours = panel.select(s.UNIQUE_ID, s.DS, F.lag(s.DS).over(in_time).alias("before"))
    distances = neighbours.select(s.UNIQUE_ID, F.expr(sql_distance(type_, "before", s.DS)).alias("distance"))
    usual = distances.agg(F.expr(sql_usual("distance")).alias("distance")).collect()[0]["distance"]
    if usual is None:
        return _SINGLE[type_]
    found = from_distance(type_, float(usual))
    if found is None:
        example = distances.where(F.col("distance") >= usual).agg(F.min(s.UNIQUE_ID)).collect()[0][0]
        longer = ", or sources.*.columns.ds.type to date" if type_ == "timestamp_ntz" and usual >= MINUTES_A_DAY else ""
        raise TableContractError(
            f"silver.panel: column ds: rows are usually {usual:g} {DISTANCE_UNITS[type_]} apart, e.g. in series "
            f"{example}, which is no known step; set cleaning.frequency to {KNOWN_ALIASES}{longer}, or aggregate the "
            "source"
        )
    return found


def other_steps(config: Config, facts: Sequence[Row], frequency: Frequency) -> dict[Row, str]:
    """The facts of series that have no place in the panel, with why: two rows in one step, or a longer step.

    Rows that are rare rather than further apart, say of a shop that opens on Mondays only, are told from a series of
    weeks by nothing but ``cleaning.frequency``: where it is declared, a longer distance is a gap.

    Args:
        config: the whole configuration.
        facts: from ``cleaning.panel.step_facts``.
        frequency: of the panel.

    Raises:
        TableContractError: they are of more series than ``cleaning.max_rejected`` allows; names one, and what to do.
    """
    reasons = {fact: _reason(config, fact, frequency) for fact in facts}
    others = {fact: reason for fact, reason in reasons.items() if reason is not None}
    count, total = (sum(fact["series"] for fact in some) for some in (others, facts))
    if count > config.cleaning.max_rejected * total:
        fact, reason = min(others.items(), key=lambda other: str(other[0]["example"][s.UNIQUE_ID]))
        gaps = (
            "" if fact["is_crowded"] else f"; if what lies between are gaps, set cleaning.frequency={frequency.alias}"
        )
        raise TableContractError(
            f"silver.panel: column ds: {count:,} of {total:,} series have other steps than the panel, "
            f"cleaning.max_rejected allows {config.cleaning.max_rejected:.0%}; e.g. series "
            f"{fact['example'][s.UNIQUE_ID]}: {reason} (cleaning.frequency: {config.cleaning.frequency}): aggregate "
            f"all series to one step, or keep them in lakehouses of their own (lakehouse.root){gaps}"
        )
    return others


def _reason(config: Config, fact: Row, frequency: Frequency) -> str | None:
    """Why series have no place in a panel of this step; None where they have one."""
    if fact["is_crowded"]:
        crowded = fact["example"]["crowded"]
        return f"{crowded['before']} and {crowded['after']}{_within_one(frequency)}"
    own = _step_of(frequency, fact["usual"])
    if own is None or own.days <= frequency.days or not fact["is_told"] or config.cleaning.frequency != "auto":
        return None
    if own != _step_of(frequency, fact["least"]):
        return None
    return f"a row each {own.name}, where most rows of the panel are one {frequency.name} apart"


def _within_one(frequency: Frequency) -> str:
    """What is wrong with two moments of a series, after these."""
    return f" lie within one {frequency.name}"


def _step_of(frequency: Frequency, distance: int | None) -> Frequency | None:
    """The step of rows so far apart, in a panel of another one; days and longer beside hours, too."""
    if distance is None:
        return None
    if frequency.is_within_day and distance % MINUTES_A_DAY == 0:
        return from_distance("date", distance / MINUTES_A_DAY)
    return from_distance(frequency.sql_type, float(distance))


def set_aside(by_series: DataFrame, others: Mapping[Row, str], frequency: Frequency) -> DataFrame:
    """The rows of ``silver.set_aside``: one per series that has no place in the panel.

    Args:
        by_series: from ``cleaning.panel.series_steps``.
        others: from ``other_steps``; there is one at least.
        frequency: of the panel.
    """
    before, after = (F.col(f"crowded.{moment}").cast("string") for moment in ("before", "after"))
    reason = F.when(
        F.col("crowded").isNotNull(),
        F.concat(before, F.lit(" and "), after, F.lit(_within_one(frequency))),
    )
    for fact, text in others.items():
        if not fact["is_crowded"]:
            is_such = (F.col("usual") == fact["usual"]) & (F.col("least") == fact["least"]) & F.col("is_told")
            reason = reason.when(is_such, F.lit(text))
    found = by_series.select(s.UNIQUE_ID, "rows", "start", "end", reason.alias("reason"))
    return found.where(F.col("reason").isNotNull())
