"""The training panel: values, masks, covariates and mined signals of every series, as of one cutoff.

Everything that is fitted here (scalings, vocabularies, profiles) is fitted on dates up to the cutoff.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.frequency import MINUTES_A_DAY, Frequency, Moment, sql_literal
from dlmine_spark.fusion.encoding import (
    MAX_CODES,
    MAX_INDICATORS,
    codes,
    dates_as_days,
    encoded,
    learn_encoding,
    standardised,
)

DAYS_A_YEAR = 365.25
SHARD_ROWS = 500_000
"""Rows of a shard, of whole series: a rank reads, sorts and checks some shards at a time, with some 100 MB for each."""
MAX_SERIES_CODES = 20_000
"""With more series than this, a series has no embedding of its own: its attributes and segment stand for it."""
PROFILE_SHRINKAGE = 4.0
"""Observations that the overall level weighs as much as, in a cell of the seasonal profile."""
PROFILE = f"{s.KNOWN_FUTURE_PREFIX}season_profile"


@dataclass(frozen=True, slots=True)
class PanelInputs:
    """What a training panel is made from.

    Attributes:
        panel: ``silver.panel``.
        known_future: one row per series and date up to the horizon's end, with ``open`` and known-future covariates.
        statics: ``silver.statics``, if any.
        segments: segment signals, one row per series, if any.
        arima_origins: ``gold.arima_origins``, if any.
        known_names: known-future covariates.
        past_names: past-only covariates.
        promo: the known-future covariate whose effect differs by day of the season, if any.
    """

    panel: DataFrame
    known_future: DataFrame
    statics: DataFrame | None
    segments: DataFrame | None
    arima_origins: DataFrame | None
    known_names: Sequence[str]
    past_names: Sequence[str]
    promo: str | None


def training_panel(inputs: PanelInputs, cutoff: Moment, frequency: Frequency) -> DataFrame:
    """One row per series and date up to the horizon after the cutoff, in the shape of ``gold.training_panel``.

    Runs small aggregations to learn the encodings; the panel itself stays lazy.
    """
    inputs = _without_dates(inputs)
    history = inputs.panel.where(_is_known(cutoff))
    values = history.select(
        s.UNIQUE_ID,
        s.DS,
        s.Y,
        s.Y_IMPUTED,
        *(F.col(f"`{name}`").alias(f"past:{name}") for name in inputs.past_names),
    )
    rows = inputs.known_future.join(values, on=[s.UNIQUE_ID, s.DS], how="left").withColumn(
        "mask",
        (F.col(s.Y).isNotNull() & (F.col(s.OPEN) == 1) & ~F.coalesce(F.col(s.Y_IMPUTED), F.lit(False))).cast("int"),
    )
    rows = _with_profile(rows, frequency, inputs.promo)
    features = {
        **_known_features(inputs, cutoff),
        **_past_features(inputs, history, cutoff),
        **_calendar_features(frequency, cutoff),
    }
    rows = rows.select(
        s.UNIQUE_ID,
        s.DS,
        s.Y,
        "mask",
        s.OPEN,
        PROFILE,
        *_mined_columns(rows),
        *(column.alias(name) for name, column in features.items()),
    )
    rows = _with_neighbours(rows, inputs)
    rows = _with_attributes(rows, inputs, history)
    rows = _with_arima_paths(rows, inputs.arima_origins, cutoff)
    return _with_shards(rows, history).withColumn(s.CUTOFF, F.expr(sql_literal(cutoff)))


def _is_known(cutoff: Moment) -> Column:
    """Whether a row is about what has happened by the cutoff."""
    return F.col(s.DS) <= F.expr(sql_literal(cutoff))


def _without_dates(inputs: PanelInputs) -> PanelInputs:
    """The inputs with covariates and attributes that are dates as numbers."""
    statics = inputs.statics
    return replace(
        inputs,
        panel=dates_as_days(inputs.panel, inputs.past_names),
        known_future=dates_as_days(inputs.known_future, inputs.known_names),
        statics=None if statics is None else dates_as_days(statics, statics.columns),
    )


def _mined_columns(rows: DataFrame) -> list[str]:
    return [name for name in rows.columns if name.startswith(f"{s.KNOWN_FUTURE_PREFIX}{s.MINED}")]


def _known_features(inputs: PanelInputs, cutoff: Moment) -> dict[str, Column]:
    if not inputs.known_names:
        return {}
    up_to_cutoff = inputs.known_future.where(_is_known(cutoff))
    encoding = learn_encoding(up_to_cutoff, inputs.known_names, max_values=MAX_INDICATORS)
    return encoded(inputs.known_names, encoding, s.KNOWN_FUTURE_PREFIX)


def _past_features(inputs: PanelInputs, history: DataFrame, cutoff: Moment) -> dict[str, Column]:
    """Numeric past-only covariates, on a signed logarithmic scale since counts and amounts are skewed."""
    types = dict(history.dtypes)
    numeric = [name for name in inputs.past_names if types[name] != "string"]
    if not numeric:
        return {}

    def log_scale(column: Column) -> Column:
        return F.signum(column) * F.log1p(F.abs(column))

    logged = history.select(*(log_scale(F.col(f"`{name}`")).alias(name) for name in numeric))
    encoding = learn_encoding(logged, numeric, max_values=0)
    return {
        f"{s.PAST_ONLY_PREFIX}{name.lower()}": F.when(
            _is_known(cutoff), standardised(log_scale(F.col(f"`past:{name}`")), encoding.numeric[name])
        ).otherwise(0.0)
        for name in numeric
    }


def _calendar_features(frequency: Frequency, cutoff: Moment) -> dict[str, Column]:
    """Position in day, week, month and year, and years before the cutoff (negative: after it).

    Where moments are counted there is only the position in the season, and the age is told as if steps were days.
    """
    moment = F.col(s.DS)
    prefix = f"{s.KNOWN_FUTURE_PREFIX}calendar_"
    if not frequency.has_calendar:
        age = {f"{prefix}age": (F.expr(sql_literal(cutoff)) - moment) / DAYS_A_YEAR}
        phase = F.expr(frequency.sql_position(s.DS)) / frequency.season_length
        return age | (_waves(f"{prefix}season", phase, 2) if frequency.season_length > 1 else {})
    features = _waves(f"{prefix}year", F.dayofyear(moment) / DAYS_A_YEAR, 2)
    features[f"{prefix}age"] = F.date_diff(F.expr(sql_literal(cutoff)), moment) / DAYS_A_YEAR
    if frequency.unit == "month":
        return features
    days_in_month = F.dayofmonth(F.last_day(moment))
    features[f"{prefix}month_position"] = (F.dayofmonth(moment) - 1) / (days_in_month - 1)
    if frequency.days > 1:
        return features
    # Pay days: trade in many places peaks on the last and first days of a month.
    features[f"{prefix}month_end"] = (F.dayofmonth(moment) >= days_in_month - 1).cast("double")
    features[f"{prefix}month_start"] = (F.dayofmonth(moment) <= 2).cast("double")
    for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"), start=1):
        features[f"{prefix}{name}"] = (F.dayofweek(moment) == number).cast("double")
    if frequency.is_within_day:
        features |= _waves(f"{prefix}day", (F.hour(moment) * 60 + F.minute(moment)) / MINUTES_A_DAY, 4)
    return features


def _waves(name: str, phase: Column, pairs: int) -> dict[str, Column]:
    """Sines and cosines of a phase from 0 to 1."""
    angles = {number: 2 * pi * number * phase for number in range(1, pairs + 1)}
    return {
        f"{name}_{wave}{number}": function(angle)
        for number, angle in angles.items()
        for wave, function in (("sin", F.sin), ("cos", F.cos))
    }


def _with_profile(rows: DataFrame, frequency: Frequency, promo: str | None) -> DataFrame:
    """Add the seasonal profile: how far a series' median on this weekday (and hour, where there are any) and promotion
    state lies from its own median.

    On a signed log1p scale, shrunk towards 0 by the number of observations, so that a rare cell says little. For steps
    longer than a day there are too few observations a cell, and the position in the year stands for it.
    """
    if (frequency.has_calendar and frequency.days > 1) or frequency.season_length == 1:
        return rows.withColumn(PROFILE, F.lit(0.0))
    keys = [s.UNIQUE_ID, "__position", "__promo"]
    is_promo = F.coalesce(F.col(f"`{promo}`").cast("double") > 0, F.lit(False)) if promo else F.lit(False)
    keyed = rows.withColumn("__position", F.expr(frequency.sql_position(s.DS))).withColumn("__promo", is_promo)
    observed = keyed.where(F.col("mask") == 1).withColumn("__log", F.signum(s.Y) * F.log1p(F.abs(F.col(s.Y))))
    overall = observed.groupBy(s.UNIQUE_ID).agg(F.median("__log").alias("__level"))
    cells = (
        observed.groupBy(*keys)
        .agg(F.median("__log").alias("__cell"), F.count(F.lit(1)).alias("__n"))
        .join(overall, on=s.UNIQUE_ID, how="inner")
        .select(
            *keys,
            ((F.col("__cell") - F.col("__level")) * F.col("__n") / (F.col("__n") + PROFILE_SHRINKAGE)).alias(PROFILE),
        )
    )
    return (
        keyed.join(cells, on=keys, how="left")
        .withColumn(PROFILE, F.coalesce(F.col(PROFILE), F.lit(0.0)))
        .drop("__position", "__promo")
    )


def _with_neighbours(rows: DataFrame, inputs: PanelInputs) -> DataFrame:
    """Add yesterday's and tomorrow's closure and promotion: trade moves around both."""
    in_order = Window.partitionBy(s.UNIQUE_ID).orderBy(s.DS)
    watched = {s.OPEN: F.col(s.OPEN).cast("double")}
    if inputs.promo is not None:
        name = f"{s.KNOWN_FUTURE_PREFIX}{inputs.promo.lower()}"
        if name in rows.columns:
            watched[inputs.promo.lower()] = F.col(name)
    neighbours = {}
    for name, column in watched.items():
        neighbours[f"{s.KNOWN_FUTURE_PREFIX}{name}_before"] = F.coalesce(F.lag(column).over(in_order), column)
        neighbours[f"{s.KNOWN_FUTURE_PREFIX}{name}_after"] = F.coalesce(F.lead(column).over(in_order), column)
    return rows.withColumns(neighbours)


def _with_attributes(rows: DataFrame, inputs: PanelInputs, history: DataFrame) -> DataFrame:
    """Add encoded statics, the series' own code, and segment signals."""
    attributes = _series_codes(history)
    if inputs.statics is not None:
        names = [name for name in inputs.statics.columns if name != s.UNIQUE_ID and not name.endswith(s.IMPUTED_SUFFIX)]
        types = dict(inputs.statics.dtypes)
        encoding = learn_encoding(inputs.statics, names, max_values=MAX_CODES)
        numeric = {name: types[name] != "string" for name in names}
        statics = inputs.statics.select(
            s.UNIQUE_ID,
            *(
                column.alias(name)
                for name, column in encoded([n for n in names if numeric[n]], encoding, s.STATIC_PREFIX).items()
            ),
            *(column.alias(name) for name, column in codes([n for n in names if not numeric[n]], encoding).items()),
        )
        attributes = attributes.join(statics, on=s.UNIQUE_ID, how="left")
    if inputs.segments is not None:
        attributes = attributes.join(inputs.segments, on=s.UNIQUE_ID, how="left")
    added = [name for name in attributes.columns if name != s.UNIQUE_ID]
    return rows.join(attributes.fillna(0.0, subset=added), on=s.UNIQUE_ID, how="left")


def _series_codes(history: DataFrame) -> DataFrame:
    """A code of its own for every series, in the order of their names, unless there are too many to embed."""
    series = history.select(s.UNIQUE_ID).distinct()
    code = F.row_number().over(Window.orderBy(s.UNIQUE_ID))
    column = f"{s.CATEGORY_PREFIX}series"
    if series.count() > MAX_SERIES_CODES:
        return series.withColumn(column, F.lit(0.0))
    return series.withColumn(column, code.cast("double"))


def _with_arima_paths(rows: DataFrame, origins: DataFrame | None, cutoff: Moment) -> DataFrame:
    """Add ARIMA's forecasts made at each date, where its parameters too were fitted no later."""
    if origins is None:
        return rows.withColumn("arima_path", F.lit(None).cast("array<double>"))
    honest = origins.where(
        (F.col("origin") <= F.expr(sql_literal(cutoff))) & (F.col("fit_cutoff") <= F.col("origin"))
    ).select(s.UNIQUE_ID, F.col("origin").alias(s.DS), F.col("path").alias("arima_path"))
    return rows.join(honest, on=[s.UNIQUE_ID, s.DS], how="left")


def _with_shards(rows: DataFrame, history: DataFrame) -> DataFrame:
    """Deal the series to shards, longest first, back and forth, so that shards weigh nearly the same.

    As many shards as rows (up to the cutoff) need, by ``SHARD_ROWS``.
    """
    lengths = history.groupBy(s.UNIQUE_ID).agg(F.count(F.lit(1)).alias("__rows"))
    shards = F.ceil(F.sum("__rows").over(Window.partitionBy()) / SHARD_ROWS)
    place = F.row_number().over(Window.orderBy(F.desc("__rows"), s.UNIQUE_ID)) - 1
    around, position = F.floor(place / shards), F.pmod(place, shards)
    shard = F.when(around % 2 == 0, position).otherwise(shards - 1 - position)
    dealt = lengths.select(s.UNIQUE_ID, shard.cast("int").alias(s.SHARD))
    return rows.join(dealt, on=s.UNIQUE_ID, how="left")
