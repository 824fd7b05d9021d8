"""The seasonal naive forecast of every series, and the scales it gives to errors."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame

from dlmine_spark import schemas as s
from dlmine_spark.evaluation.metrics import SCALE, SQUARED_SCALE
from dlmine_spark.frequency import Frequency, Moment
from dlmine_spark.moments import moments_of
from dlmine_spark.naive import error_scale, expected_open, naive_interval, seasonal_naive

SEASONAL_NAIVE = "seasonal_naive"
FORECAST_COLUMNS = (*(name for name in s.FORECASTS.names if name not in (s.RUN_ID, s.MODEL)), SCALE, SQUARED_SCALE)


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
    """Forecast every series by its last known season at each cutoff.

    Args:
        series: one row per series and step: ``unique_id``, ``ds``, ``y``, ``open``, ``y_imputed``.
        plan: cutoffs and horizon.

    Returns:
        ``FORECAST_COLUMNS``: one row per series, cutoff and step ahead, for series with a known value by the cutoff;
        with the scales of that series' errors at that cutoff.
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
    frames = []
    for cutoff in plan.cutoffs:
        origin = bisect_right(steps, cutoff) - 1
        known = y[: origin + 1]
        if not np.isfinite(known).any():
            continue
        future = expected_open(is_open, origin, plan.horizon, plan.season_length, is_known=plan.open_is_known)
        y_hat = seasonal_naive(known, future, plan.season_length)
        lo_80, hi_80 = naive_interval(known, y_hat, future, plan.season_length, 80)
        lo_95, hi_95 = naive_interval(known, y_hat, future, plan.season_length, 95)
        scale, squared_scale = error_scale(known, plan.season_length)
        columns = {
            s.UNIQUE_ID: series[s.UNIQUE_ID].iloc[0],
            s.CUTOFF: cutoff,
            s.DS: steps[origin + 1 : origin + 1 + plan.horizon],
            s.H: np.arange(1, plan.horizon + 1),
            s.Y_HAT: y_hat,
            s.LO_80: lo_80,
            s.HI_80: hi_80,
            s.LO_95: lo_95,
            s.HI_95: hi_95,
            SCALE: scale,
            SQUARED_SCALE: squared_scale,
        }
        frames.append(pd.DataFrame(columns, columns=list(FORECAST_COLUMNS)))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(FORECAST_COLUMNS))


def _steps(start: Moment, plan: NaivePlan) -> list[Moment]:
    """Every moment from the start of a series to the end of the last horizon; a series may end before that."""
    return plan.frequency.moments(start, plan.frequency.shift(plan.cutoffs[-1], plan.horizon))
