"""The scale a model works on: powers of the values, from the logarithm to the values themselves.

Source: Box and Cox (1964), An analysis of transformations.
"""

from __future__ import annotations

import numpy as np

from dlmine_spark.arima.timeline import Floats

LARGEST_EXPONENT = 600.0
"""Bounds on the log scale end here, so that they stay finite numbers."""


def to_scale(y: Floats, power: float) -> Floats:
    """``log1p(y)`` for power 0, the values themselves for 1, ``y ** power / power`` between them (no value below 0)."""
    if power == 1:
        return y
    return np.log1p(y) if power == 0 else np.asarray(np.maximum(y, 0.0) ** power / power)


def from_scale(z: Floats, power: float) -> Floats:
    """The inverse of ``to_scale``; what lies below the scale's least value is that of 0."""
    if power == 1:
        return z
    if power == 0:
        return np.expm1(np.minimum(z, LARGEST_EXPONENT))
    return np.asarray(np.maximum(power * z, 0.0) ** (1 / power))


def slope_of_scale(y: Floats, power: float) -> Floats:
    """How much y changes with the scale: the standard deviation of y by that on the scale."""
    if power == 1:
        return np.ones_like(y)
    return 1 + np.maximum(y, 0.0) if power == 0 else np.asarray(np.maximum(y, 0.0) ** (1 - power))


def log_jacobian(y: Floats, power: float) -> float:
    """What a density of values on the scale is multiplied with to be one of y, as a logarithm, over all values.

    A root is infinitely steep at 0, so one such value would decide for it: a 0 counts as half the least value above it.
    """
    if 0 < power < 1 and np.any(y > 0):
        y = np.where(y > 0, y, y[y > 0].min() / 2)
    return -float(np.log(np.maximum(slope_of_scale(y, power), 1e-300)).sum())
