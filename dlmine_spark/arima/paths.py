"""Forecasts of one series from several origins, whatever model made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import stdtrit

from dlmine_spark.arima.timeline import Bools, Floats, Timeline
from dlmine_spark.naive import expected_open

ARIMA, ARIMA_INTERMITTENT = "arima", "arima_intermittent"
ARIMA_SIMPLE, ARIMA_SMOOTHING, ARIMA_NAIVE = "arima_simple", "arima_smoothing", "arima_naive"
"""Names in ``gold.forecasts`` of what the stage made: an ARIMA; a Croston-type model where most steps have no demand;
and what stood in for either: an ARIMA(0, 1, 1) without regressors, exponential smoothing, the seasonal naive."""
STAND_INS = (ARIMA_SIMPLE, ARIMA_SMOOTHING, ARIMA_NAIVE)
OTHERS = (ARIMA_INTERMITTENT, *STAND_INS)
"""All that the stage makes which is no ARIMA with its search of orders."""


STANDARD_LEVELS = (80.0, 95.0)
"""Percent of the intervals that ``gold.forecasts`` has room for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What forecasts of one series are asked for.

    Attributes:
        origins: steps to forecast from.
        horizon: steps ahead.
        open_is_known: whether closures are known ahead.
        levels: of the intervals, in percent.
    """

    origins: list[int]
    horizon: int
    open_is_known: bool = True
    levels: tuple[float, ...] = STANDARD_LEVELS


@dataclass(frozen=True, slots=True)
class Paths:
    """Forecasts from several origins: every array has one row per origin and one column per step ahead.

    Attributes:
        y_hat: the forecasts.
        bounds: lower and upper end of the interval of each level.
        sigma: one value per origin: the standard deviation of the one-step error, in units of y.
    """

    y_hat: Floats
    bounds: Mapping[float, tuple[Floats, Floats]]
    sigma: Floats

    @property
    def is_usable(self) -> bool:
        """Whether all of them are numbers."""
        ends = [end for pair in self.bounds.values() for end in pair]
        return all(bool(np.isfinite(part).all()) for part in (self.y_hat, *ends))


class Forecaster(Protocol):
    """A fitted model of one series."""

    @property
    def name(self) -> str:
        """Under which its forecasts go."""
        ...

    def paths(self, timeline: Timeline, wanted: Wanted) -> Paths:
        """Forecasts from every origin with the same parameters; no value after an origin is used."""
        ...

    def columns(self) -> Mapping[str, object]:
        """What it says of itself in ``gold.arima_models``."""
        ...


def future_open(timeline: Timeline, wanted: Wanted, season_length: int) -> Bools:
    """Whether each step ahead is open, as far as its origin can know: one row per origin."""
    is_open, known = timeline.is_open, wanted.open_is_known
    rows = (expected_open(is_open, at, wanted.horizon, season_length, is_known=known) for at in wanted.origins)
    return np.array(list(rows))


def bounds_around(
    centre: Floats, spread: Floats, levels: tuple[float, ...], to_y: Callable[[Floats], Floats], degrees: float
) -> dict[float, tuple[Floats, Floats]]:
    """Student's intervals around a centre, brought to the scale of y.

    Args:
        centre: origins x steps ahead.
        spread: standard deviations, likewise.
        levels: in percent.
        to_y: from the scale of the former two; does not decrease.
        degrees: of freedom that the variance was estimated with.
    """
    halves = {level: stdtrit(degrees, 0.5 + level / 200) * spread for level in levels}
    return {level: (to_y(centre - half), to_y(centre + half)) for level, half in halves.items()}
