"""Forecasts of one series from several origins, whatever model made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dlmine_spark.arima.timeline import Bools, Floats, Timeline
from dlmine_spark.naive import QUANTILES, expected_open

ARIMA, ARIMA_INTERMITTENT = "arima", "arima_intermittent"
ARIMA_SIMPLE, ARIMA_SMOOTHING, ARIMA_NAIVE = "arima_simple", "arima_smoothing", "arima_naive"
"""Names in ``gold.forecasts`` of what the stage made: an ARIMA; a Croston-type model where most steps have no demand;
and what stood in for either: an ARIMA(0, 1, 1) without regressors, exponential smoothing, the seasonal naive."""
STAND_INS = (ARIMA_SIMPLE, ARIMA_SMOOTHING, ARIMA_NAIVE)
OTHERS = (ARIMA_INTERMITTENT, *STAND_INS)
"""All that the stage makes which is no ARIMA with its search of orders."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Forecasts from several origins: every array has one row per origin and one column per step ahead.

    ``sigma`` holds one value per origin: the standard deviation of the one-step error, in units of y.
    """

    y_hat: Floats
    lo_80: Floats
    hi_80: Floats
    lo_95: Floats
    hi_95: Floats
    sigma: Floats

    @property
    def is_usable(self) -> bool:
        """Whether all of them are numbers."""
        return all(
            bool(np.isfinite(part).all()) for part in (self.y_hat, self.lo_80, self.hi_80, self.lo_95, self.hi_95)
        )


class Forecaster(Protocol):
    """A fitted model of one series."""

    @property
    def name(self) -> str:
        """Under which its forecasts go."""
        ...

    def paths(self, timeline: Timeline, origins: list[int], horizon: int, *, open_is_known: bool) -> Paths:
        """Forecasts from every origin with the same parameters; no value after an origin is used."""
        ...

    def columns(self) -> Mapping[str, object]:
        """What it says of itself in ``gold.arima_models``."""
        ...


def future_open(timeline: Timeline, origins: list[int], horizon: int, season_length: int, *, is_known: bool) -> Bools:
    """Whether each step ahead is open, as far as its origin can know: one row per origin."""
    return np.array([expected_open(timeline.is_open, o, horizon, season_length, is_known=is_known) for o in origins])


def normal_paths(y_hat: Floats, spread: Floats, is_open: Bools, *, is_non_negative: bool) -> Paths:
    """Forecasts with normal intervals; closed steps are 0, and nothing is below 0 where no value is.

    Args:
        y_hat: origins x steps ahead.
        spread: standard deviations, likewise.
        is_open: likewise.
        is_non_negative: whether no known value is below 0.
    """

    def bounded(values: Floats) -> Floats:
        return np.where(is_open, np.maximum(values, 0.0) if is_non_negative else values, 0.0)

    half_80, half_95 = QUANTILES[80] * spread, QUANTILES[95] * spread
    return Paths(
        y_hat=bounded(y_hat),
        lo_80=bounded(y_hat - half_80),
        hi_80=bounded(y_hat + half_80),
        lo_95=bounded(y_hat - half_95),
        hi_95=bounded(y_hat + half_95),
        sigma=spread[:, 0],
    )
