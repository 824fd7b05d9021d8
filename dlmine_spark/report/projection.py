"""Where entities lie between the centres of their segments: a map made of what ``gold.segments`` keeps.

The membership in segment k is ``(1 / d_k^2) / sum_j (1 / d_j^2)``, so that it and the distance to the own centre give
back the distance to every centre; distances to known points give a place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def project(
    centres: ArrayLike, segment: Sequence[int], distance: ArrayLike, membership: ArrayLike
) -> tuple[Floats, Floats] | None:
    """Entities and centres in the plane that shows most of the differences between the centres.

    With two centres there is only one direction between them; the second coordinate is then how far an entity lies off
    the line through them.

    Args:
        centres: a row of scaled coordinates per segment.
        segment: of each entity.
        distance: of each entity to its own centre.
        membership: of each entity, a share per segment.

    Returns:
        Entities and centres, two columns each; None where there are not two different centres, or where memberships
        are not about these centres.
    """
    points = np.asarray(centres, dtype=np.float64)
    shares = np.asarray(membership, dtype=np.float64)
    if points.ndim != 2 or len(points) < 2 or shares.ndim != 2 or shares.shape[1] != len(points):
        return None
    middle = points - points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(middle, full_matrices=False)
    kept = axes[sizes > 1e-9 * max(float(sizes[0]), 1e-300)]
    if not len(kept) or sizes[0] <= 0:
        return None
    # Which end of an axis is its right one is chance: here, that where its largest part is positive.
    kept = kept * np.sign(kept[np.arange(len(kept)), np.abs(kept).argmax(axis=1)])[:, None]
    places = middle @ kept.T
    own = np.asarray(segment, dtype=np.int64)
    of_own = np.asarray(distance, dtype=np.float64) ** 2
    rows = np.arange(len(own))
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = of_own[:, None] * shares[rows, own][:, None] / shares
    # On a centre, memberships tell nothing of the others; the place is known then.
    on_centre = ~np.isfinite(squares).all(axis=1) | (of_own == 0)
    squares[on_centre] = 0.0
    # |x - c|^2 = |x|^2 - 2 x.c + |c|^2 of every centre c; |x|^2 is the same in all and falls out, since they sum to 0.
    found = ((places**2).sum(axis=1) - squares) / 2 @ np.linalg.pinv(places).T
    found[on_centre] = places[own[on_centre]]
    if len(kept) == 1:
        off = np.sqrt(np.maximum(of_own - (found[:, 0] - places[own, 0]) ** 2, 0.0))
        return np.column_stack([found[:, 0], off]), np.column_stack([places[:, 0], np.zeros(len(places))])
    return found[:, :2], places[:, :2]
