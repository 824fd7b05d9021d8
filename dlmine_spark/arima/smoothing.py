"""Exponential smoothing, for series to which no ARIMA can be fitted.

Source: Hyndman, Koehler, Ord and Snyder (2008), Forecasting with exponential smoothing, table 6.1 for the variances.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from statsmodels.tsa.holtwinters import ExponentialSmoothing

from dlmine_spark.arima.paths import ARIMA_SMOOTHING, Paths, Wanted, bounds_around, future_open
from dlmine_spark.arima.timeline import Floats, Timeline

FEWEST = 5
"""Known values."""
LONGEST_SEASON = 24


@dataclass(frozen=True, slots=True)
class Smoothing:
    """A level and, where two seasons are known without holes, a season.

    Attributes:
        level_rate, season_rate: of the smoothing; no ``season_rate`` without a season.
        sigma2: variance of the one-step errors.
        degrees: of freedom that it was estimated with.
        start: first step used.
    """

    level_rate: float
    season_rate: float | None
    sigma2: float
    degrees: int
    season_length: int
    start: int

    name = ARIMA_SMOOTHING

    def paths(self, timeline: Timeline, wanted: Wanted) -> Paths:
        """The last level with the last season; the errors' variance grows with both rates."""
        is_open = future_open(timeline, wanted, self.season_length)
        seen = [timeline.y[self.start : origin + 1] for origin in wanted.origins]
        if self.season_rate is None:
            # Closed steps don't count, as in the fit.
            ticks = np.maximum(np.cumsum(is_open, axis=1) - 1, 0)
            known = [_known(y) for y in seen]
        else:
            # A closed day doesn't move the days of the week.
            ticks = np.broadcast_to(np.arange(wanted.horizon), is_open.shape)
            known = [_filled(y, self.season_length) for y in seen]
        ahead = np.array([self._continued(values, wanted.horizon) for values in known])
        steps = np.arange(1, wanted.horizon)
        weights = self.level_rate + (self.season_rate or 0.0) * (steps % self.season_length == 0)
        variance = self.sigma2 * np.concatenate([[1.0], 1 + np.cumsum(weights**2)])
        floor = 0.0 if min(float(values.min()) for values in known) >= 0 else -np.inf

        def to_y(values: Floats) -> Floats:
            return np.where(is_open, np.maximum(values, floor), 0.0)

        y_hat, spread = np.take_along_axis(ahead, ticks, axis=1), np.sqrt(variance)[ticks]
        return Paths(to_y(y_hat), bounds_around(y_hat, spread, wanted.levels, to_y, self.degrees), sigma=spread[:, 0])

    def _continued(self, values: Floats, horizon: int) -> Floats:
        model = _model(values, None if self.season_rate is None else self.season_length)
        fitted = model.fit(
            smoothing_level=self.level_rate, smoothing_seasonal=self.season_rate, optimized=False, remove_bias=False
        )
        return np.asarray(fitted.forecast(horizon), dtype=np.float64)

    def columns(self) -> Mapping[str, object]:
        """Its parameters."""
        season = {} if self.season_rate is None else {"season_rate": self.season_rate}
        return {
            "m": self.season_length,
            "sigma2": self.sigma2,
            "params": {"level_rate": self.level_rate, **season},
            "diagnostics": {},
        }


def fit_smoothing(timeline: Timeline, cutoff: int, season_length: int, max_history: int) -> Smoothing:
    """Rates by least squares (statsmodels) on the known values of the last ``max_history`` steps.

    Raises:
        ValueError: fewer than ``FEWEST`` values are known.
    """
    start = max(0, cutoff + 1 - max_history)
    y = timeline.y[start : cutoff + 1]
    values = _known(y)
    if values.size < FEWEST:
        raise ValueError(f"{values.size} known values, exponential smoothing needs {FEWEST}")
    steps = np.flatnonzero(np.isfinite(y))
    is_whole = steps[-1] - steps[0] + 1 == steps.size
    seasonal = 1 < season_length <= LONGEST_SEASON and values.size >= 2 * season_length + 2 and is_whole
    with warnings.catch_warnings():
        # A search that stops early still gives rates; its warning would only fill the worker's log.
        warnings.simplefilter("ignore")
        fitted = _model(values, season_length if seasonal else None).fit()
    rate = float(np.clip(fitted.params["smoothing_level"], 0.0, 1.0))
    season_rate = float(np.clip(fitted.params["smoothing_seasonal"], 0.0, 1.0)) if seasonal else None
    degrees = max(1, values.size - 2 - (season_length if seasonal else 0))
    sigma2 = float(np.sum(np.asarray(fitted.resid) ** 2)) / degrees
    return Smoothing(rate, season_rate, sigma2, degrees, season_length, start)


def _known(y: Floats) -> Floats:
    return np.asarray(y[np.isfinite(y)], dtype=np.float64)


def _filled(y: Floats, season_length: int) -> Floats:
    """From the first known value on, with the value of a season ago where none is known."""
    values = y[np.flatnonzero(np.isfinite(y))[0] :].copy()
    for step in np.flatnonzero(~np.isfinite(values)):
        values[step] = values[step - season_length] if step >= season_length else values[step - 1]
    return values


def _model(values: Floats, season_length: int | None) -> ExponentialSmoothing:
    return ExponentialSmoothing(
        values,
        seasonal=None if season_length is None else "add",
        seasonal_periods=season_length,
        initialization_method="legacy-heuristic",
    )
