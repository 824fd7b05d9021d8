"""How much of each model's forecast to take: weights that made the smallest error where nothing was fitted.

Errors of models have something in common, so the best single one is often beaten by a mean of some. With weights that
are not negative and sum to one, the squared error of the mean is ``w' G w``, where ``G`` holds the mean products of the
models' errors (Bates and Granger 1969, "The combination of forecasts"). So ``G`` is all that has to be known of any
number of errors, and it sums up in one pass. A series alone has seen too few errors to tell its weights well: its ``G``
is drawn to that of all series. Plain numpy, no Spark.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EQUAL_PARTS = 0.1
"""Share of the best model's mean squared error that is added to each model's, which draws weights to equal parts: past
errors tell less of those to come than they seem to (Smith and Wallis 2009, "A simple explanation of the forecast
combination puzzle")."""


def best_weights(products: Floats) -> Floats:
    """Weights, none negative and of sum 1, whose weighted mean has the smallest squared error.

    Every set of models that could have weights is tried: for a handful of models that is exact, and a few dozen small
    systems of equations for all groups at once.

    Args:
        products: mean products of the models' errors, groups x models x models.

    Returns:
        Groups x models. Where no model has any error, equal parts.
    """
    groups, models, _ = products.shape
    diagonal = np.diagonal(products, axis1=1, axis2=2)
    size = diagonal.mean(axis=1)
    # A model without any error would leave the equations without a solution.
    added = np.maximum(EQUAL_PARTS * diagonal.min(axis=1), 1e-9 * size)
    added = np.where(size > 0, added, 1.0)
    damped = products + added[:, None, None] * np.eye(models)
    best, smallest = np.full((groups, models), 1.0 / models), np.full(groups, np.inf)
    for count in range(1, models + 1):
        for chosen in combinations(range(models), count):
            part = damped[:, chosen][:, :, chosen]
            # Where the gradient of w' G w is the same for all, w is proportional to the inverse of G times ones.
            direction = np.linalg.solve(part, np.ones((groups, count, 1)))[..., 0]
            error = 1 / direction.sum(axis=1)
            is_better = (direction >= 0).all(axis=1) & (error < smallest)
            smallest[is_better] = error[is_better]
            best[is_better] = 0.0
            best[np.ix_(is_better, chosen)] = (direction * error[:, None])[is_better]
    return best


def relative_widths(products: Floats, weights: Floats) -> Floats:
    """How large the error of the weighted mean is beside that of each model: an interval of the model is as much too
    wide for the mean.

    Args:
        products: mean products of the models' errors, groups x models x models.
        weights: of the models, groups x models.

    Returns:
        Groups x models; 1 for a model without any error.
    """
    of_mean = np.einsum("gi,gij,gj->g", weights, products, weights)[:, None]
    of_models = np.diagonal(products, axis1=1, axis2=2)
    has_errors = of_models > 0
    return np.sqrt(np.where(has_errors, of_mean, 1.0) / np.where(has_errors, of_models, 1.0))


def drawn_together(products: Floats, counts: Floats, together: Floats, strength: float) -> Floats:
    """Each group's products as if ``strength`` errors like those of all groups had been seen beside its own.

    Args:
        products: mean products of errors, groups x models x models.
        counts: errors that each group's are means of.
        together: those of all groups, relative to each one's mean squared error; models x models.
        strength: how many errors of its own weigh as much as all of the others'.

    Returns:
        Groups x models x models, relative to each group's mean squared error.
    """
    size = np.diagonal(products, axis1=1, axis2=2).mean(axis=1)
    is_known = np.isfinite(size) & (size > 0)
    relative = np.where(is_known[:, None, None], products, 0.0) / np.where(is_known, size, 1.0)[:, None, None]
    own = np.where(is_known, counts, 0.0)[:, None, None]
    mixed: Floats = (own * relative + strength * together) / (own + strength)
    return mixed
