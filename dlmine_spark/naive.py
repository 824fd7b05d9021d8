"""The seasonal naive forecast of one series, its intervals, and the scale it gives to errors. Plain numpy, no Spark.

Both the ARIMA stage (as its fallback) and the backtest (as the model to beat) use it.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST_GROWTH = 3.0
"""A year against the one before: more, or less than its inverse, is another business."""


def expected_open(is_open: Bools, origin: int, horizon: int, season_length: int, *, is_known: bool) -> Bools:
    """Whether each of the ``horizon`` steps after an origin is open, as far as the origin can know.

    Where closures are not known ahead, each step is as the same step of the last season before the origin was.
    """
    if is_known:
        return is_open[origin + 1 : origin + 1 + horizon]
    ahead = np.arange(1, horizon + 1)
    back = origin + ahead - season_length * ((ahead + season_length - 1) // season_length)
    return np.where(back >= 0, is_open[np.maximum(back, 0)], True)


def seasonal_naive(y: Floats, future_open: Bools, season_length: int) -> Floats:
    """The last known value of the same season, for every step after the values.

    Args:
        y: values by step up to the origin, NaN where unknown or closed.
        future_open: whether each step to forecast is open; a closed one is forecast as 0.
        season_length: steps in a season.

    Returns:
        One value per step of ``future_open``. A phase never seen takes the last known value; with no known value at
        all, NaN (0 where closed).
    """
    known = np.flatnonzero(np.isfinite(y))
    if known.size == 0:
        return np.where(future_open, np.nan, 0.0)
    by_phase = np.full(season_length, y[known[-1]])
    # Later values overwrite earlier ones of the same phase.
    by_phase[known % season_length] = y[known]
    phases = (y.size + np.arange(future_open.size)) % season_length
    return np.where(future_open, by_phase[phases], 0.0)


def year_ago_growth(y: Floats, future_open: Bools, year_length: int, season_length: int) -> Floats:
    """The value of a year ago times how much the last quarter of a year has grown since then.

    Args:
        y: values by step up to the origin, NaN where unknown or closed.
        future_open: whether each step to forecast is open; a closed one is forecast as 0.
        year_length: steps in a year (or in another long season).
        season_length: of the seasonal naive forecast, which stands in where a step of a year ago is not known.

    Returns:
        One value per step of ``future_open``.
    """
    y_hat = seasonal_naive(y, future_open, season_length)
    growth = _growth(y, year_length)
    ahead = np.arange(1, future_open.size + 1)
    back = y.size - 1 + ahead - year_length * ((ahead + year_length - 1) // year_length)
    year_ago = np.where(back >= 0, y[np.maximum(back, 0)], np.nan)
    return np.where(future_open & np.isfinite(year_ago) & np.isfinite(growth), year_ago * growth, y_hat)


def _growth(y: Floats, year_length: int) -> float:
    """Of the last quarter of a year against the same steps a year before; NaN where too few of them are known."""
    window = max(1, year_length // 4)
    if y.size < year_length + window:
        return float("nan")
    recent, before = y[-window:], y[-window - year_length : -year_length]
    both = np.isfinite(recent) & np.isfinite(before)
    if 2 * both.sum() < window or before[both].sum() <= 0:
        return float("nan")
    growth = recent[both].sum() / before[both].sum()
    return float(np.clip(growth, 1 / MOST_GROWTH, MOST_GROWTH))


def profile(y: Floats, future_open: Bools, kinds: Floats, season_length: int, window: int) -> Floats:
    """The median of the steps that are alike: of the same place in the season, and promoted alike.

    Args:
        y: values by step up to the origin, NaN where unknown or closed.
        future_open: whether each step to forecast is open; a closed one is forecast as 0.
        kinds: how each step is promoted, of the values and of those to forecast; NaN counts as not at all.
        season_length: steps in a season.
        window: so many of the last steps are looked at.

    Returns:
        One value per step of ``future_open``. Where no such step is known, the median of its place in the season; where
        that is not known either, the seasonal naive forecast.
    """
    y_hat = seasonal_naive(y, future_open, season_length)
    steps = np.arange(y.size + future_open.size)
    phases, kinds = steps % season_length, np.nan_to_num(kinds)
    known = np.flatnonzero(np.isfinite(y))
    known = known[known >= y.size - window]
    for step in np.flatnonzero(future_open):
        at = y.size + step
        same_phase = known[phases[known] == phases[at]]
        alike = same_phase[kinds[same_phase] == kinds[at]]
        if same_phase.size:
            y_hat[step] = np.median(y[alike if alike.size else same_phase])
    return y_hat


def naive_sigma(y: Floats, season_length: int) -> float:
    """Standard deviation of the seasonal naive forecast one season ahead; one value alone counts as its own spread."""
    differences = seasonal_differences(y, season_length)
    if differences.size:
        return float(np.sqrt(np.mean(differences**2)))
    known = y[np.isfinite(y)]
    return float(np.abs(known[-1])) if known.size else float("nan")


def half_width(percent: float) -> float:
    """Half the width of a normal interval of so many percent, in standard deviations."""
    return NormalDist().inv_cdf(0.5 + percent / 200)


def naive_interval(
    y: Floats, y_hat: Floats, future_open: Bools, season_length: int, percent: float
) -> tuple[Floats, Floats]:
    """Bounds around a seasonal naive forecast: normal, wider with every season ahead, not below 0 if no value is.

    Source: Hyndman and Athanasopoulos, Forecasting: principles and practice, section 5.5.
    """
    seasons_ahead = np.arange(y_hat.size) // season_length + 1
    half = np.where(future_open, half_width(percent) * naive_sigma(y, season_length) * np.sqrt(seasons_ahead), 0.0)
    floor = 0.0 if np.nanmin(y, initial=np.inf) >= 0 else -np.inf
    return np.maximum(y_hat - half, floor), np.maximum(y_hat + half, floor)


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
