"""Features on one scale, on which a distance means something: fitted on a sample, applied to arrays or on Spark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column
from pyspark.sql import functions as F

from dlmine_spark.segmentation.features import Catalogue

Floats = NDArray[np.float64]

TAIL = 0.05
"""Share of the entities at either end whose distance is limited."""
NOISE = 1e-9
"""A spread below this part of the values themselves is rounding, not a difference."""


@dataclass(frozen=True, slots=True)
class Axis:
    """How one feature becomes a coordinate: ``weight * (clip(log?(value)) - centre)``, the median where unknown."""

    position: int
    skewed: bool
    median: float
    lower: float
    upper: float
    centre: float
    weight: float


@dataclass(frozen=True, slots=True)
class Scaling:
    """The coordinates of an entity; features that are unknown or the same for all have none."""

    axes: tuple[Axis, ...]

    def coordinates(self, values: Floats) -> Floats:
        """Rows of features to rows of coordinates."""
        columns = []
        for axis in self.axes:
            value = _signed_log(values[:, axis.position]) if axis.skewed else values[:, axis.position]
            value = np.where(np.isfinite(value), value, axis.median)
            columns.append(axis.weight * (np.clip(value, axis.lower, axis.upper) - axis.centre))
        return np.column_stack(columns) if columns else np.empty((len(values), 0))

    def column(self, values: str) -> Column:
        """The same on Spark: an array of features to an array of coordinates."""
        return F.array(*(_coordinate(values, axis) for axis in self.axes)).cast("array<double>")


def fit_scaling(values: Floats, catalogue: Catalogue) -> Scaling:
    """Scale every block of features to its weight, with limits to what single entities can do.

    Skewed features are taken on a signed log1p scale. A value beyond the middle 90 % of the entities by more than the
    width of those 90 % is moved there: a kind of store that every twentieth belongs to keeps its distance, an odd one
    does not stretch the scale. The features of a block share one factor, chosen so that their variances add up to the
    square of the block's weight (as in multiple factor analysis, Escofier & Pagès 1983, with the total in place of the
    first axis): nineteen numbers on week and year do not drown the others, and within a block a weekday that tells
    nothing is not inflated to the size of one that does. A block that differs by less than ``Block.least`` weighs less.

    Args:
        values: one row per entity, in the catalogue's order; NaN where unknown.
        catalogue: the features' names and blocks.
    """
    axes: list[Axis] = []
    position = 0
    for block in catalogue.blocks:
        positions = range(position, position + len(block.features))
        position += len(block.features)
        fitted = [found for at in positions if (found := _unscaled_axis(values[:, at], at, block.skewed)) is not None]
        spread = max(sqrt(sum(variance for _, variance in fitted)), block.least)
        axes += [replace(axis, weight=block.weight / spread) for axis, variance in fitted if variance > 0]
    return Scaling(tuple(axes))


def _unscaled_axis(values: Floats, position: int, skewed: bool) -> tuple[Axis, float] | None:
    """Limits and centre of one feature, and its variance within them; None where it is unknown or the same for all.

    The variance is that of the entities that have the feature: those without it stand in the middle and must not make
    the others look extraordinary.
    """
    value = _signed_log(values) if skewed else values
    known = value[np.isfinite(value)]
    if known.size == 0 or float(np.ptp(known)) <= NOISE * max(1.0, float(np.abs(known).max())):
        return None
    low, median, high = (float(q) for q in np.quantile(known, [TAIL, 0.5, 1 - TAIL]))
    width = high - low if high > low else float(known.std())
    within = np.clip(known, low - width, high + width)
    axis = Axis(position, skewed, median, low - width, high + width, float(within.mean()), weight=1.0)
    return axis, float(within.var())


def _signed_log(values: Floats) -> Floats:
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))


def _coordinate(values: str, axis: Axis) -> Column:
    value = F.get(F.col(values), F.lit(axis.position))
    if axis.skewed:
        value = F.signum(value) * F.log1p(F.abs(value))
    known = F.when(value.isNotNull() & ~F.isnan(value) & (F.abs(value) != F.lit(float("inf"))), value)
    filled = F.coalesce(known, F.lit(axis.median))
    return F.lit(axis.weight) * (F.greatest(F.least(filled, F.lit(axis.upper)), F.lit(axis.lower)) - axis.centre)
