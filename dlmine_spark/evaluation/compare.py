"""Forecasts of several models side by side, on the series and dates that all of them forecast."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.evaluation.conformal import parts_of
from dlmine_spark.evaluation.metrics import SCALE, SQUARED_SCALE, SUMS, error_terms, long_measures

OVERALL, SERIES, HORIZON, CUTOFF, SEGMENT = "overall", "series", "horizon", "cutoff", "segment"
SEGMENT_STEPS = "segment_steps"
"""The groups whose intervals have widths of their own: a segment and a part of the horizon, ``0: 1-7``."""
KEY = (s.UNIQUE_ID, s.CUTOFF, s.DS)
BOUNDS = (s.LO_80, s.HI_80, s.LO_95, s.HI_95)


def scored_actuals(panel: DataFrame) -> DataFrame:
    """The values forecasts are compared with: known, open, not imputed; one row per series and date."""
    is_real = F.col(s.Y).isNotNull() & (F.col(s.OPEN) != 0) & ~F.coalesce(F.col(s.Y_IMPUTED), F.lit(False))
    return panel.where(is_real).select(s.UNIQUE_ID, s.DS, s.Y)


def pair(forecasts: DataFrame, actuals: DataFrame, scales: DataFrame) -> DataFrame:
    """Forecasts with their actuals and the scales of their series.

    Args:
        forecasts: ``model``, ``unique_id``, ``cutoff``, ``ds``, ``h``, ``y_hat`` and bounds.
        actuals: of ``scored_actuals``.
        scales: ``unique_id``, ``cutoff``, ``scale``, ``squared_scale``.

    Returns:
        One row per model, series, cutoff and date with an actual; ``models`` says how many models have that date.
    """
    with_actuals = forecasts.join(actuals, on=[s.UNIQUE_ID, s.DS], how="inner").join(
        scales, on=[s.UNIQUE_ID, s.CUTOFF], how="left"
    )
    models = with_actuals.groupBy(*KEY).agg(F.count_distinct(s.MODEL).alias("models"))
    return with_actuals.join(models, on=list(KEY), how="inner")


def metrics_by_scope(paired: DataFrame, segments: DataFrame | None, horizon: int) -> DataFrame:
    """Every measure overall, by series, step ahead, cutoff and, where there are segments, by segment and by segment
    and part of the horizon.

    Args:
        paired: rows of ``pair`` to compare, the same series and dates for every model.
        segments: ``unique_id``, ``segment``, if any.
        horizon: steps.

    Returns:
        One row per model, scope and measure: ``model``, ``scope``, ``scope_id``, ``metric``, ``value``.
    """
    scopes = [
        (OVERALL, F.lit("all")),
        (SERIES, F.col(s.UNIQUE_ID)),
        (HORIZON, F.col(s.H).cast("string")),
        (CUTOFF, F.col(s.CUTOFF).cast("string")),
    ]
    if segments is not None:
        paired = paired.join(segments, on=s.UNIQUE_ID, how="left")
        segment = F.coalesce(F.col("segment").cast("string"), F.lit("none"))
        scopes += [(SEGMENT, segment), (SEGMENT_STEPS, F.concat_ws(": ", segment, part_of_horizon(horizon)))]
    of_scopes = F.array(*(F.struct(F.lit(name).alias("scope"), value.alias("scope_id")) for name, value in scopes))
    rows = paired.select(s.MODEL, s.Y, s.Y_HAT, *BOUNDS, SCALE, SQUARED_SCALE, of_scopes.alias("scopes"))
    sums = (
        rows.mapInPandas(_with_terms, schema=_TERMS_DDL)
        .select(s.MODEL, F.explode("scopes").alias("of"), *SUMS)
        .groupBy(s.MODEL, "of.scope", "of.scope_id")
        .agg(*(F.sum(name).alias(name) for name in SUMS))
    )
    return sums.mapInPandas(_measured, schema=_METRICS_DDL)


def part_of_horizon(horizon: int) -> Column:
    """First and last step of the part that ``h`` is in: ``1-7``."""
    return F.coalesce(*(F.when(F.col(s.H).between(*part), F.lit("{}-{}".format(*part))) for part in parts_of(horizon)))


_TERMS_DDL = f"{s.MODEL} string, scopes array<struct<scope: string, scope_id: string>>, " + ", ".join(
    f"{name} double" for name in SUMS
)
_METRICS_DDL = f"{s.MODEL} string, scope string, scope_id string, metric string, value double"


def _with_terms(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for rows in batches:
        yield pd.concat([rows[[s.MODEL, "scopes"]], error_terms(rows)], axis=1)


def _measured(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for groups in batches:
        yield long_measures(groups)
