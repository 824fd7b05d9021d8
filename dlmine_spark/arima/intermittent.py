"""Series in which most steps have no demand: how often and how much, smoothed apart.

Sources: Syntetos and Boylan (2005), The accuracy of intermittent demand estimates, for the classes; Teunter, Syntetos
and Babai (2011), Intermittent demand: linking forecasting to inventory obsolescence, for the method (TSB).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.signal import lfilter

from dlmine_spark.arima.paths import ARIMA_INTERMITTENT, Paths, Wanted, future_open
from dlmine_spark.arima.timeline import Floats, Timeline

LONGEST_INTERVAL = 1.32
"""Mean steps from one demand to the next from which Syntetos and Boylan call a series intermittent."""
STEADY_SIZES = 0.49
"""Squared coefficient of variation of the demands above which they call it lumpy."""
FEWEST = 16
RATES = (0.02, 0.05, 0.1, 0.2, 0.3)
REGULAR = 0.5
"""Where the season explains more than this share of whether there is demand, the pattern is regular."""
RECENT = 200
"""Demands that intervals are taken from."""


def is_intermittent(y: Floats, season_length: int) -> bool:
    """Whether demand comes rarely and at no fixed steps of the season.

    Args:
        y: values by step, NaN where unknown or closed.
        season_length: steps in a season.
    """
    known = np.flatnonzero(np.isfinite(y))
    values = y[known]
    demands = int(np.count_nonzero(values))
    if known.size < FEWEST or demands == 0 or values.min() < 0 or known.size < LONGEST_INTERVAL * demands:
        return False
    share = demands / known.size
    seasons = known.size / max(season_length, 1)
    if season_length < 2 or seasons < 4:
        return True
    phases = known % season_length
    counts = np.bincount(phases, minlength=season_length)
    shares = np.bincount(phases, weights=values > 0, minlength=season_length) / np.maximum(counts, 1)
    unexplained = float((counts * shares * (1 - shares)).sum()) / known.size
    return unexplained > (1 - REGULAR) * share * (1 - share)


@dataclass(frozen=True, slots=True)
class Intermittent:
    """Rates at which the probability and the size of a demand are smoothed, and what the series looked like.

    ``interval`` is the mean number of known steps from one demand to the next, ``variation`` the squared coefficient of
    variation of the demands.
    """

    probability_rate: float
    size_rate: float
    season_length: int
    interval: float
    variation: float

    name = ARIMA_INTERMITTENT

    def paths(self, timeline: Timeline, wanted: Wanted) -> Paths:
        """The same expected demand at every open step; intervals from the demands there were."""
        is_open = future_open(timeline, wanted, self.season_length)
        tails = np.array([[0.5 - level / 200, 0.5 + level / 200] for level in wanted.levels]).ravel()
        table = np.array([self._expected(timeline.y[: origin + 1], tails) for origin in wanted.origins])
        *columns, sigma = table.T
        y_hat, *ends = (np.where(is_open, column[:, None], 0.0) for column in columns)
        pairs = zip(ends[::2], ends[1::2], strict=True)
        return Paths(y_hat, dict(zip(wanted.levels, pairs, strict=True)), sigma)

    def _expected(self, y: Floats, tails: Floats) -> Floats:
        """Of the next step's value: its mean, its quantiles at some shares, its standard deviation."""
        values = y[np.isfinite(y)]
        demands = values[values > 0]
        if demands.size == 0:
            return np.zeros(2 + tails.size)
        probability = float(_smoothed((values > 0).astype(np.float64), self.probability_rate)[-1])
        mean = probability * float(_smoothed(demands, self.size_rate)[-1])
        second = float(np.mean(demands[-RECENT:] ** 2))
        sigma = float(np.sqrt(max(probability * second - mean**2, 0.0)))
        return np.array([mean, *_quantiles(demands[-RECENT:], probability, tails), sigma])

    def columns(self) -> Mapping[str, object]:
        """Its parameters, and what made it an intermittent series."""
        return {
            "m": self.season_length,
            "params": {"probability_rate": self.probability_rate, "size_rate": self.size_rate},
            "diagnostics": {
                "mean_interval": self.interval,
                "squared_variation": self.variation,
                "lumpy": float(self.variation >= STEADY_SIZES),
            },
        }


def fit_intermittent(y: Floats, season_length: int) -> Intermittent:
    """The rates with the smallest squared one-step errors.

    Args:
        y: values by step up to the cutoff, NaN where unknown or closed; ``is_intermittent`` of them.
        season_length: steps in a season.
    """
    values = y[np.isfinite(y)]
    is_demand = values > 0
    demands = values[is_demand]
    # How many demands there were before each step.
    before = np.concatenate([[0], np.cumsum(is_demand)[:-1]])
    errors: dict[tuple[float, float], float] = {}
    sizes = {rate: np.concatenate([demands[:1], _smoothed(demands, rate)])[before] for rate in RATES}
    chances = {rate: _smoothed(is_demand.astype(np.float64), rate)[:-1] for rate in RATES}
    for chance, size in product(RATES, RATES):
        expected = chances[chance] * sizes[size][1:]
        errors[chance, size] = float(np.mean((values[1:] - expected) ** 2))
    chance, size = min(errors, key=lambda rates: (errors[rates], rates))
    variation = float(np.var(demands) / np.mean(demands) ** 2)
    return Intermittent(chance, size, season_length, values.size / demands.size, variation)


def _smoothed(values: Floats, rate: float) -> Floats:
    """Simple exponential smoothing, started at the mean of the first values."""
    start = float(values[: max(1, int(1 / rate))].mean())
    smoothed, _ = lfilter([rate], [1.0, rate - 1.0], values, zi=np.array([(1 - rate) * start]))
    return np.asarray(smoothed, dtype=np.float64)


def _quantiles(demands: Floats, probability: float, shares: Floats) -> Floats:
    """Of a step's value: 0, or with some probability one of the demands."""
    above = (shares - (1 - probability)) / max(probability, 1e-12)
    return np.where(above > 0, np.quantile(demands, np.clip(above, 0.0, 1.0)), 0.0)
