"""k-means on an array that fits in memory, for the sample that the number of segments is chosen on. No Spark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Clusters:
    """Centres, the nearest one of every point, and the sum of squared distances to it."""

    centres: Floats
    labels: Labels
    inertia: float


def best_clusters(points: Floats, k: int, restarts: int, max_iter: int, rng: np.random.Generator) -> Clusters:
    """The clustering of lowest inertia among several starts."""
    found = [_lloyd(points, spread_start(points, k, rng), max_iter) for _ in range(restarts)]
    return min(found, key=lambda clusters: clusters.inertia)


def nearest(points: Floats, centres: Floats) -> Labels:
    """The nearest centre of every point, the first of equals."""
    return np.asarray(_distances(points, centres).argmin(axis=1))


def spread_start(points: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Greedy k-means++ (Arthur & Vassilvitskii 2007): each centre the best of a few drawn by squared distance."""
    chosen = [int(rng.integers(len(points)))]
    closest = _distances(points, points[chosen])[:, 0]
    tries = 2 + int(np.log(k))
    while len(chosen) < k and closest.sum() > 0:
        drawn = rng.choice(len(points), size=tries, p=closest / closest.sum())
        then = np.minimum(closest[:, None], _distances(points, points[drawn]))
        best = int(then.sum(axis=0).argmin())
        chosen.append(int(drawn[best]))
        closest = then[:, best]
    return points[chosen].copy()


def _lloyd(points: Floats, centres: Floats, max_iter: int) -> Clusters:
    """Lloyd's iterations until no point moves; a centre without points stays where it is."""
    labels = nearest(points, centres)
    for _ in range(max_iter):
        member = labels[:, None] == np.arange(len(centres))
        sizes = member.sum(axis=0)
        means = member.T.astype(np.float64) @ points / np.maximum(sizes, 1)[:, None]
        centres = np.where(sizes[:, None] > 0, means, centres)
        moved = nearest(points, centres)
        if np.array_equal(moved, labels):
            break
        labels = moved
    inertia = float(((points - centres[labels]) ** 2).sum())
    return Clusters(centres, labels, inertia)


def _distances(points: Floats, centres: Floats) -> Floats:
    """Squared distances of all points to all centres, never below 0 by rounding."""
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    return np.asarray(np.maximum(squares, 0.0))
