"""The seasonal naive forecast of one series, and the scale it gives to errors. Plain numpy, no Spark.

Both the ARIMA stage (as its fallback) and the backtest (as the model to beat) use it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def seasonal_naive(y: Floats, is_open: Bools, origin: int, horizon: int, season_length: int) -> Floats:
    """The last known value of the same season, on the steps after an origin.

    Args:
        y: values by step, NaN where unknown; those after ``origin`` are not looked at.
        is_open: by step, at least ``horizon`` steps beyond ``origin``; a closed step is forecast as 0.
        origin: index of the last step that may be seen.
        horizon: steps to forecast.
        season_length: steps in a season.

    Returns:
        ``horizon`` values. A phase never seen takes the last known value; with no known open value at all, NaN
        (0 where closed).
    """
    seen = np.where(is_open[: origin + 1], y[: origin + 1], np.nan)
    known = np.flatnonzero(np.isfinite(seen))
    future_open = is_open[origin + 1 : origin + 1 + horizon]
    if known.size == 0:
        return np.where(future_open, np.nan, 0.0)
    by_phase = np.full(season_length, seen[known[-1]])
    # Later values overwrite earlier ones of the same phase.
    by_phase[known % season_length] = seen[known]
    phases = (origin + 1 + np.arange(horizon)) % season_length
    return np.where(future_open, by_phase[phases], 0.0)


def seasonal_differences(y: Floats, season_length: int) -> Floats:
    """Known differences to the value a season before; to the value before, where no season is known.

    Args:
        y: values by step, NaN where unknown.
        season_length: steps in a season.
    """
    for lag in (season_length, 1):
        if lag < y.size:
            differences = y[lag:] - y[:-lag]
            known = differences[np.isfinite(differences)]
            if known.size:
                return np.asarray(known, dtype=np.float64)
    return np.empty(0)


def error_scale(y: Floats, season_length: int) -> tuple[float, float]:
    """Mean absolute and mean squared error of the seasonal naive forecast in sample: the scales of MASE and RMSSE.

    NaN where no two values can be compared or all are the same.

    Source: Hyndman and Koehler (2006), Another look at measures of forecast accuracy, eq. 3.
    """
    differences = seasonal_differences(y, season_length)
    if differences.size == 0 or not np.any(differences):
        return float("nan"), float("nan")
    return float(np.mean(np.abs(differences))), float(np.mean(differences**2))
