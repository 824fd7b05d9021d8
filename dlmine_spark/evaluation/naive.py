"""The seasonal naive forecast of every series, and the scales it gives to errors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame

from dlmine_spark import schemas as s
from dlmine_spark.evaluation.metrics import SCALE, SQUARED_SCALE
from dlmine_spark.frequency import Frequency
from dlmine_spark.naive import error_scale, expected_open, naive_interval, seasonal_naive

SEASONAL_NAIVE = "seasonal_naive"
FORECAST_COLUMNS: dict[str, str] = {
    name: type_ for name, type_ in s.FORECASTS.columns.items() if name not in (s.RUN_ID, s.MODEL)
} | {SCALE: "double", SQUARED_SCALE: "double"}


@dataclass(frozen=True, slots=True)
class NaivePlan:
    """What the naive forecast is asked for: from which cutoffs, how far, and with what season.

    ``open_is_known`` says whether closures are known ahead; otherwise those of a season ago are expected again.
    """

    frequency: Frequency
    season_length: int
    horizon: int
    cutoffs: tuple[date, ...]
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

    ddl = ", ".join(f"`{name}` {type_}" for name, type_ in FORECAST_COLUMNS.items())
    return series.groupBy(s.UNIQUE_ID).applyInPandas(forecast_group, schema=ddl)


def naive_rows(series: pd.DataFrame, plan: NaivePlan) -> pd.DataFrame:
    """``naive_forecasts`` for one series, in plain pandas."""
    rows = series.assign(**{s.DS: pd.to_datetime(series[s.DS])}).set_index(s.DS).sort_index()
    steps = _steps(rows.index[0].date(), plan)
    rows = rows.reindex(pd.to_datetime(steps))
    is_open = rows[s.OPEN].fillna(1).to_numpy(dtype=np.float64) != 0
    is_imputed = (rows[s.Y_IMPUTED] == True).to_numpy(dtype=np.bool_)  # noqa: E712 - null is not imputed
    y = rows[s.Y].to_numpy(dtype=np.float64, na_value=np.nan)
    y = np.where(np.isfinite(y) & is_open & ~is_imputed, y, np.nan)
    frames = []
    for origin in (steps.index(cutoff) for cutoff in plan.cutoffs if cutoff in steps):
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
            s.CUTOFF: steps[origin],
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


def _steps(start: date, plan: NaivePlan) -> list[date]:
    """Every date from the start of a series to the end of the last horizon; a series may end before that."""
    end = plan.frequency.shift(plan.cutoffs[-1], plan.horizon)
    steps = [start]
    while steps[-1] < end:
        steps.append(plan.frequency.shift(start, len(steps)))
    return steps
