"""Intervals that hold what they promise: their widths, corrected by how wide they should have been before the cutoff.

Split conformal prediction, after Romano, Patterson and Candès (2019, "Conformalized quantile regression"), with scores
relative to the interval's own width, so that large and small series share them (Sesia and Candès 2020, "A comparison
of some conformal quantile regression methods"). Its promise holds for errors that could be exchanged with those to
come: where a segment becomes harder to forecast after the cutoff, its intervals are too narrow all the same. Plain
pandas, no Spark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dlmine_spark import schemas as s

PARTS = 4
"""Parts of the horizon with widths of their own: errors grow with the distance."""
MIN_SCORES = 100
"""Fewer errors of a segment and part say too little of the rarest twentieth: those of all segments do then."""
BOUNDS = {80: (s.LO_80, s.HI_80), 95: (s.LO_95, s.HI_95)}
FACTOR_COLUMNS = ("segment", "first_h", "last_h", "factor_80", "factor_95", "scores")


def parts_of(horizon: int) -> list[tuple[int, int]]:
    """First and last step ahead of each part of a horizon."""
    count = min(PARTS, horizon)
    starts = [1 + part * horizon // count for part in range(count)]
    return list(zip(starts, [start - 1 for start in starts[1:]] + [horizon], strict=True))


def width_factors(validation: pd.DataFrame, segments: Iterable[int], horizon: int) -> pd.DataFrame:
    """How many times as wide the intervals of each segment and part of the horizon should have been.

    Args:
        validation: forecasts from origins whose horizon ends by the cutoff, of networks not trained on it, with known
            values: ``segment`` (missing for series of none), ``h``, ``y``, ``y_hat`` and the four bounds.
        segments: those that need factors.
        horizon: steps.

    Returns:
        ``FACTOR_COLUMNS``, one row per segment and part, and for each part one of no segment (missing), which is that
        of all together. A factor is missing where all of them are fewer than ``MIN_SCORES``.
    """
    rows = []
    for first, last in parts_of(horizon):
        of_part = validation[validation[s.H].between(first, last)]
        for segment in [None, *segments]:
            own = of_part if segment is None else of_part[of_part["segment"] == segment]
            used = own if len(own) >= MIN_SCORES else of_part
            factors = [_factor(used, level) for level in BOUNDS]
            rows.append((segment, first, last, *factors, len(used)))
    return pd.DataFrame(rows, columns=list(FACTOR_COLUMNS)).astype({"segment": "Int64"})


def _factor(forecasts: pd.DataFrame, level: int) -> float | None:
    """The conformal quantile of the scores; None where there are too few."""
    count = len(forecasts)
    if count < MIN_SCORES:
        return None
    rank = math.ceil((count + 1) * level / 100)
    quantile = float(np.sort(_scores(forecasts, *BOUNDS[level]))[min(rank, count) - 1])
    return quantile if math.isfinite(quantile) else None


def _scores(forecasts: pd.DataFrame, low: str, high: str) -> NDArray[np.float64]:
    """How many times its distance from the median the bound on the value's side would have to be away."""
    error = (forecasts[s.Y] - forecasts[s.Y_HAT]).to_numpy(np.float64)
    below = (forecasts[s.Y_HAT] - forecasts[low]).to_numpy(np.float64)
    above = (forecasts[high] - forecasts[s.Y_HAT]).to_numpy(np.float64)
    reach = np.where(error < 0, below, above)
    # A bound on the median itself can be right about nothing but the median.
    without_width = np.where(error == 0, 0.0, np.inf)
    scores: NDArray[np.float64] = np.divide(np.abs(error), reach, out=without_width, where=reach > 0)
    return scores


def widened(forecasts: pd.DataFrame, factors: pd.DataFrame, segments: Mapping[str, int]) -> pd.DataFrame:
    """Forecasts with bounds so many times as far from their medians; the medians stay.

    What ``pipelines.calibration`` does to the rows of ``gold.forecasts``, for a model that forecasts elsewhere.

    Args:
        forecasts: ``unique_id``, ``h``, ``y_hat`` and the four bounds.
        factors: of ``width_factors``.
        segments: of the series that have one, as of the cutoff that the factors are of.
    """
    own = forecasts[s.UNIQUE_ID].map(pd.Series(segments, dtype="Int64")).astype("Int64")
    step = forecasts[s.H].to_numpy()
    changed = forecasts.copy()
    middle = forecasts[s.Y_HAT].to_numpy(np.float64)
    low, high = middle, middle
    for level, (lower, upper) in BOUNDS.items():
        factor = np.ones(len(forecasts))
        for row in factors.to_dict("records"):
            is_own = own.isna() if pd.isna(row["segment"]) else (own == row["segment"]).fillna(False)
            known = row[f"factor_{level}"]
            if not pd.isna(known):
                factor[is_own.to_numpy(bool) & (step >= row["first_h"]) & (step <= row["last_h"])] = known
        # Bounds further out must not come to lie further in, since every level has a factor of its own.
        low = np.minimum(low, _moved(forecasts[lower].to_numpy(np.float64), middle, factor))
        high = np.maximum(high, _moved(forecasts[upper].to_numpy(np.float64), middle, factor))
        changed[lower], changed[upper] = low, high
    return changed


def _moved(bound: NDArray[np.float64], middle: NDArray[np.float64], factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """A bound at so many times its distance from the median, and below 0 only where it was."""
    moved: NDArray[np.float64] = np.maximum(middle + factor * (bound - middle), np.minimum(bound, 0.0))
    return moved
