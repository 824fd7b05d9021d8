"""Simple forecasts of every series, which the models have to beat, and the scales they give to errors."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame

from dlmine_spark import schemas as s
from dlmine_spark.evaluation.metrics import SCALE, SQUARED_SCALE
from dlmine_spark.frequency import Frequency, Moment
from dlmine_spark.moments import moments_of
from dlmine_spark.naive import (
    Bools,
    Floats,
    error_scale,
    expected_open,
    naive_interval,
    profile,
    seasonal_naive,
    year_ago_growth,
)

SEASONAL_NAIVE, YEAR_AGO, PROFILE = "seasonal_naive", "year_ago_growth", "profile_median"
SIMPLE = (SEASONAL_NAIVE, YEAR_AGO, PROFILE)
"""Names in ``gold.forecasts``: the last season; a year ago times the growth since; the median of alike steps."""
FORECAST_COLUMNS = (*(name for name in s.FORECASTS.names if name != s.RUN_ID), SCALE, SQUARED_SCALE)
PROMOTION = "promotion"
"""Column of the series that says how a step is promoted; null, or not there, counts as not at all."""


@dataclass(frozen=True, slots=True)
class NaivePlan:
    """What the naive forecast is asked for: from which cutoffs, how far, and with what season.

    ``open_is_known`` says whether closures are known ahead; otherwise those of a season ago are expected again.
    """

    frequency: Frequency
    season_length: int
    horizon: int
    cutoffs: tuple[Moment, ...]
    open_is_known: bool = True


def naive_forecasts(series: DataFrame, plan: NaivePlan) -> DataFrame:
    """Forecast every series in the ``SIMPLE`` ways at each cutoff.

    Args:
        series: one row per series and step: ``unique_id``, ``ds``, ``y``, ``open``, ``y_imputed``, and where there are
            promotions ``promotion``.
        plan: cutoffs and horizon.

    Returns:
        ``FORECAST_COLUMNS``: one row per model, series, cutoff and step ahead, for series with a known value by the
        cutoff; with the scales of that series' errors at that cutoff. Only the seasonal naive one has intervals.
    """

    def forecast_group(rows: pd.DataFrame) -> pd.DataFrame:
        return naive_rows(rows, plan)

    types = {SCALE: "double", SQUARED_SCALE: "double"} | s.FORECASTS.typed(plan.frequency.sql_type)
    ddl = ", ".join(f"`{name}` {types[name]}" for name in FORECAST_COLUMNS)
    return series.groupBy(s.UNIQUE_ID).applyInPandas(forecast_group, schema=ddl)


def naive_rows(series: pd.DataFrame, plan: NaivePlan) -> pd.DataFrame:
    """``naive_forecasts`` for one series, in plain pandas."""
    rows = series.set_index(pd.Index(moments_of(series[s.DS])))
    steps = _steps(min(rows.index), plan)
    rows = rows.reindex(steps)
    is_open = rows[s.OPEN].fillna(1).to_numpy(dtype=np.float64) != 0
    is_imputed = (rows[s.Y_IMPUTED] == True).to_numpy(dtype=np.bool_)  # noqa: E712 - null is not imputed
    y = rows[s.Y].to_numpy(dtype=np.float64, na_value=np.nan)
    y = np.where(np.isfinite(y) & is_open & ~is_imputed, y, np.nan)
    promoted = (
        rows[PROMOTION].to_numpy(dtype=np.float64, na_value=np.nan) if PROMOTION in rows else np.zeros(len(steps))
    )
    blocks: list[dict[str, Any]] = []
    for cutoff in plan.cutoffs:
        origin = bisect_right(steps, cutoff) - 1
        known = y[: origin + 1]
        if not np.isfinite(known).any():
            continue
        future = expected_open(is_open, origin, plan.horizon, plan.season_length, is_known=plan.open_is_known)
        columns = {
            s.UNIQUE_ID: series[s.UNIQUE_ID].iloc[0],
            s.CUTOFF: cutoff,
            s.DS: steps[origin + 1 : origin + 1 + plan.horizon],
            s.H: np.arange(1, plan.horizon + 1),
            **dict.fromkeys((s.LO_80, s.HI_80, s.LO_95, s.HI_95), np.nan),
            **dict(zip((SCALE, SQUARED_SCALE), error_scale(known, plan.season_length), strict=True)),
        }
        kinds = promoted[: origin + 1 + plan.horizon]
        for model, values in _simple(known, future, kinds, plan).items():
            blocks.append(columns | values | {s.MODEL: model})

    def column(name: str) -> list[object]:
        """A value of a block that is no list is that of all its steps."""
        return [
            value
            for block in blocks
            for value in (block[name] if np.ndim(block[name]) else [block[name]] * plan.horizon)
        ]

    return pd.DataFrame({name: column(name) for name in FORECAST_COLUMNS})


def _simple(known: Floats, future: Bools, kinds: Floats, plan: NaivePlan) -> dict[str, dict[str, Floats]]:
    """The forecasts of each model, by their columns."""
    season_length, year_length = plan.season_length, plan.frequency.year_length
    y_hat = seasonal_naive(known, future, season_length)
    lo_80, hi_80 = naive_interval(known, y_hat, future, season_length, 80)
    lo_95, hi_95 = naive_interval(known, y_hat, future, season_length, 95)
    # A place in a long season comes once a year: two years give it more than one value.
    window = max(year_length, 2 * season_length)
    return {
        SEASONAL_NAIVE: {s.Y_HAT: y_hat, s.LO_80: lo_80, s.HI_80: hi_80, s.LO_95: lo_95, s.HI_95: hi_95},
        YEAR_AGO: {s.Y_HAT: year_ago_growth(known, future, year_length, season_length)},
        PROFILE: {s.Y_HAT: profile(known, future, kinds, season_length, window)},
    }


def _steps(start: Moment, plan: NaivePlan) -> list[Moment]:
    """Every moment from the start of a series to the end of the last horizon; a series may end before that."""
    return plan.frequency.moments(start, plan.frequency.shift(plan.cutoffs[-1], plan.horizon))
