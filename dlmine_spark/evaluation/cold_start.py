"""Cold start: a series without history gets the level that its attributes suggest, in the shape of its segment.

Donors are series with a forecast. What a donor forecasts is taken apart into its mean over the horizon, the level, and
the rest, its shape. Of a new series the logarithm of the level is a ridge regression on its attributes, with the
penalty that leaves the least error when each donor is left out (PRESS: Allen 1974), and the shape is the mean of the
segment that most of the donors with the nearest attributes are in.

How well that works is told by leaving donors out, a fold of them at a time, and comparing with the values that came.
Those errors also give the intervals (hierarchical conformal: Lee, Barber and Willett 2023): a new series is one more
that was left out.
Plain numpy, pandas and scipy.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from dlmine_spark import schemas as s

Floats = NDArray[np.float64]

FOLD, SEGMENT, LEVEL, SHAPE, COUNT = "fold", "segment", "level", "shape", "n"
COLD_START, OVERALL_MEAN = "cold_start", "overall_mean"
FOLDS = 10
FEWEST_DONORS = 5
NO_SEGMENT = -1
_NEIGHBOURS = 5
_MOST_VALUES = 32
"""Values of a text attribute with an indicator of their own."""
_PENALTIES = np.geomspace(1e-2, 1e4, 25)
_BOUNDS = {s.LO_95: 0.025, s.LO_80: 0.1, s.HI_80: 0.9, s.HI_95: 0.975}


@dataclass(frozen=True, slots=True)
class Placed:
    """What is foretold of series without history: one element a series.

    Attributes:
        levels: means over the horizon.
        segments: by their attributes.
    """

    levels: Floats
    segments: NDArray[np.int64]


def fold_of(ids: Sequence[str]) -> NDArray[np.int64]:
    """Folds of equal size, dealt out in the order of a hash of the ids: the same for the same ids."""
    order = sorted(range(len(ids)), key=lambda place: (zlib.crc32(ids[place].encode()), ids[place]))
    folds = np.empty(len(ids), dtype=np.int64)
    folds[order] = np.arange(len(ids)) % FOLDS
    return folds


def attribute_matrix(statics: pd.DataFrame) -> Floats:
    """Attributes as numbers, series x features: standardised numbers, an indicator for each frequent text.

    A missing number is the mean, with an indicator of its own; a rare or missing text has no indicator.

    Args:
        statics: one row per series, attributes only.
    """
    columns: list[Floats] = []
    for name in statics.columns:
        values = statics[name]
        if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
            is_known = np.isfinite(numbers)
            if not is_known.any():
                continue
            spread = float(numbers[is_known].std())
            if spread > 0:
                columns.append(np.where(is_known, (numbers - numbers[is_known].mean()) / spread, 0.0))
            if not is_known.all():
                columns.append((~is_known).astype(np.float64))
            continue
        texts = values.astype("string")
        frequent = texts.value_counts().sort_index().sort_values(ascending=False, kind="stable")
        columns += [
            (texts == value).fillna(False).to_numpy(dtype=np.float64) for value in frequent.index[:_MOST_VALUES]
        ]
    return np.column_stack(columns) if columns else np.zeros((len(statics), 0))


def placed(donors: Floats, levels: Floats, segments: NDArray[np.int64], new: Floats) -> Placed:
    """Level and segment of new series by the attributes, levels and segments of donors.

    Args:
        donors: attributes, donors x features.
        levels: of the donors, above 0.
        segments: of the donors, ``NO_SEGMENT`` for none.
        new: attributes, new series x features.
    """
    return Placed(np.exp(_ridge(donors, np.log(levels), new)), _nearest(donors, segments, new))


def _ridge(x: Floats, y: Floats, new: Floats) -> Floats:
    """Ridge regression with an intercept; the penalty with the least leave-one-out error."""
    mean, centre = float(y.mean()), x.mean(axis=0)
    if not x.shape[1]:
        return np.full(len(new), mean)
    u, sizes, v = np.linalg.svd(x - centre, full_matrices=False)
    projected = u.T @ (y - mean)
    best, best_error = np.zeros(len(sizes)), math.inf
    for penalty in _PENALTIES:
        shrunk = sizes**2 / (sizes**2 + penalty)
        # The intercept has a share of its own in each fitted value.
        leverage = (u**2) @ shrunk + 1 / len(y)
        errors = (y - mean - u @ (shrunk * projected)) / np.maximum(1 - leverage, 1e-6)
        if (error := float(errors @ errors)) < best_error:
            best, best_error = sizes / (sizes**2 + penalty) * projected, error
    predicted: Floats = mean + (new - centre) @ (v.T @ best)
    # Attributes far from all donors' say nothing of levels that none of them has.
    return np.clip(predicted, y.min(), y.max())


def _nearest(x: Floats, segments: NDArray[np.int64], new: Floats) -> NDArray[np.int64]:
    """The segment of most of the nearest donors; of several, that of the nearest one."""
    found = np.empty(len(new), dtype=np.int64)
    count = min(_NEIGHBOURS, len(x))
    for place, row in enumerate(new):
        distances = ((x - row) ** 2).sum(axis=1)
        near = segments[np.lexsort((np.arange(len(x)), distances))[:count]]
        values, votes = np.unique(near, return_counts=True)
        winners = set(values[votes == votes.max()].tolist())
        found[place] = next(value for value in near.tolist() if value in winners)
    return found


def shapes_without(shapes: pd.DataFrame, fold: int | None) -> tuple[pd.DataFrame, Floats]:
    """Mean shapes of the donors that are not in a fold.

    Args:
        shapes: one row per segment, fold and step: ``segment``, ``fold``, ``h``, ``shape`` (sum over donors), ``n``.
        fold: left out; None: none is.

    Returns:
        Segments x steps (``h`` from 1), and the mean over all segments by step, which stands in where a segment has no
        donor.
    """
    used = shapes if fold is None else shapes[shapes[FOLD] != fold]
    steps = np.arange(1, int(shapes[s.H].max()) + 1)
    sums, counts = (
        used.pivot_table(index=SEGMENT, columns=s.H, values=name, aggfunc="sum").reindex(columns=steps)
        for name in (SHAPE, COUNT)
    )
    by_segment = sums / counts
    whole = used.groupby(s.H)[[SHAPE, COUNT]].sum().reindex(steps)
    overall = (whole[SHAPE] / whole[COUNT]).to_numpy(dtype=np.float64)
    return by_segment, np.where(np.isfinite(overall), overall, 1.0)


def forecasts_of(series: Placed, shapes: tuple[pd.DataFrame, Floats]) -> Floats:
    """Medians, series x steps."""
    by_segment, overall = shapes
    rows = by_segment.reindex(series.segments).to_numpy(dtype=np.float64)
    medians: Floats = series.levels[:, None] * np.where(np.isfinite(rows), rows, overall)
    return medians


def left_out(donors: pd.DataFrame, x: Floats, shapes: pd.DataFrame) -> pd.DataFrame:
    """Forecasts of every donor as if it had no history: the folds in turn.

    Args:
        donors: one row per donor: ``unique_id``, ``fold``, ``level``, ``segment``.
        x: attributes, in the order of ``donors``.
        shapes: of ``shapes_without``.

    Returns:
        One row per model (``COLD_START`` and ``OVERALL_MEAN``, which knows no attributes), donor and step:
        ``model``, ``unique_id``, ``fold``, ``h``, ``y_hat``.
    """
    made = []
    folds, levels = donors[FOLD].to_numpy(), donors[LEVEL].to_numpy(dtype=np.float64)
    segments = donors[SEGMENT].to_numpy(dtype=np.int64)
    for fold in np.unique(folds):
        is_out = folds == fold
        if is_out.all():
            continue
        mean_shapes = shapes_without(shapes, int(fold))
        by_attributes = placed(x[~is_out], levels[~is_out], segments[~is_out], x[is_out])
        blind = np.exp(np.log(levels[~is_out]).mean()) * np.ones((int(is_out.sum()), 1)) * mean_shapes[1]
        for model, medians in ((COLD_START, forecasts_of(by_attributes, mean_shapes)), (OVERALL_MEAN, blind)):
            rows = _long(donors[is_out], medians)
            rows[s.MODEL], rows[FOLD] = model, int(fold)
            made.append(rows)
    return pd.concat(made, ignore_index=True)


def _long(series: pd.DataFrame, medians: Floats) -> pd.DataFrame:
    steps = medians.shape[1]
    return pd.DataFrame(
        {
            s.UNIQUE_ID: np.repeat(series[s.UNIQUE_ID].to_numpy(), steps),
            s.H: np.tile(np.arange(1, steps + 1), len(series)),
            s.Y_HAT: medians.ravel(),
        }
    )


def width_ratios(errors: pd.DataFrame) -> dict[str, float]:
    """What a median is multiplied by for each bound, from the ratios of values to left-out medians.

    Values of one series are off together, so the series count, not their values: each has the weight 1 / (n + 1) of n
    of them, and the new one, which may be off more than all of those, the rest (Lee, Barber and Willett 2023). Where
    that rest is larger than the tail beyond the widest bound, too few series tell it, and all bounds are those of
    Student's t of the logarithms: their spread within series and from series to series; a share of zeros stays one.

    Args:
        errors: rows of one model: ``unique_id``, ``y``, ``y_hat``.

    Returns:
        By bound, those below the median at most 1, those above at least 1; NaN where nothing tells it.
    """
    ratios = (errors[s.Y] / errors[s.Y_HAT].where(errors[s.Y_HAT] > 0)).dropna()
    ids = errors.loc[ratios.index, s.UNIQUE_ID]
    count = ids.nunique()
    # Multiplied out, ten times a tenth is a little less than one.
    are_told = (count + 1) * min(_BOUNDS.values()) >= 1 - 1e-9
    shares = np.array(list(_BOUNDS.values()))
    found = _weighted_bounds(ratios, ids, shares) if are_told else _two_level_bounds(ratios, ids, shares)
    around = np.where(shares < 0.5, np.minimum(found, 1.0), np.maximum(found, 1.0))
    return dict(zip(_BOUNDS, around.tolist(), strict=True))


def _weighted_bounds(ratios: pd.Series, ids: pd.Series, shares: Floats) -> Floats:
    """Quantiles of weighted values; what the weights lack lies beyond all of them, on the side of the tail."""
    values = ratios.to_numpy(dtype=np.float64)
    weights = 1 / ratios.groupby(ids).transform("size").to_numpy(dtype=np.float64) / (ids.nunique() + 1)
    order = np.argsort(values, kind="stable")
    rising, falling = np.cumsum(weights[order]), np.cumsum(weights[order[::-1]])
    # Sums of many small weights end a little below what they stand for.
    upper = values[order][np.argmax(rising >= shares[:, None] - 1e-9, axis=1)]
    lower = values[order[::-1]][np.argmax(falling >= 1 - shares[:, None] - 1e-9, axis=1)]
    found: Floats = np.where(shares > 0.5, upper, lower)
    return found


def _two_level_bounds(ratios: pd.Series, ids: pd.Series, shares: Floats) -> Floats:
    """Quantiles for one more series where levels differ from series to series, and values within them."""
    zeros = float((ratios == 0).groupby(ids).mean().mean()) if len(ratios) else 0.0
    logs = ratios[ratios > 0].map(math.log)
    of_series = logs.groupby(ids.loc[logs.index])
    means = of_series.mean()
    if len(means) < 2:
        return np.full(len(shares), math.nan)
    within = float((logs - of_series.transform("mean")).var(ddof=0))
    spread = math.sqrt(float(means.var(ddof=1)) * (1 + 1 / len(means)) + within)
    above_zero = np.clip((shares - zeros) / (1 - zeros), 1e-9, 1.0)
    bounds = np.exp(float(means.mean()) + stdtrit(len(means) - 1, above_zero) * spread)
    found: Floats = np.where(shares <= zeros, 0.0, bounds)
    return found


def with_bounds(errors: pd.DataFrame) -> pd.DataFrame:
    """Left-out forecasts with intervals that the other folds tell, so that their coverage is an honest one."""
    parts = []
    for (model, fold), rows in errors.groupby([s.MODEL, FOLD]):
        others = errors[(errors[s.MODEL] == model) & (errors[FOLD] != fold)]
        ratios = width_ratios(others)
        parts.append(rows.assign(**{bound: rows[s.Y_HAT] * ratio for bound, ratio in ratios.items()}))
    return pd.concat(parts, ignore_index=True)
