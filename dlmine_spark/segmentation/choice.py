"""How many segments: silhouette and stability of every k on a bounded sample. No Spark.

Fitting twenty k-means on Spark to find k costs twenty times its fixed cost of seconds, on forty stores as on a million
customers; a sample of some thousand entities says as much about k. The segments themselves are MLlib's, of everyone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlmine_spark.segmentation.lloyd import Clusters, Floats, Labels, best_clusters, nearest

STARTS = 10
"""Starts for each k; on a sample they cost milliseconds."""
SUBSAMPLES, PART = 6, 0.8
"""Subsamples that every k is fitted on again, and the part of the sample each holds."""
STABLE = 0.8
"""Mean adjusted Rand index from which a k counts as stable."""
TIE = 0.01
"""Silhouettes this close are equal; the smaller k is chosen."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the sample says about one k.

    Attributes:
        k: number of segments.
        silhouette: mean silhouette, -1 to 1.
        stability: mean adjusted Rand index of fits on subsamples against the fit on all of the sample.
        inertia: of the best fit, per entity.
    """

    k: int
    silhouette: float
    stability: float
    inertia: float


def assess(points: Floats, ks: Sequence[int], max_iter: int, seed: int) -> list[Candidate]:
    """Silhouette, stability and inertia of every k.

    Args:
        points: coordinates, one row per sampled entity.
        ks: numbers of segments, each at most the number of different points.
        max_iter: Lloyd iterations at most.
        seed: of the starts and subsamples.
    """
    return [_assess_one(points, k, max_iter, seed) for k in ks]


def _assess_one(points: Floats, k: int, max_iter: int, seed: int) -> Candidate:
    rng = np.random.default_rng([seed, k])
    best = best_clusters(points, k, STARTS, max_iter, rng)
    return Candidate(
        k,
        silhouette(points, best.labels),
        _stability(points, best, max_iter, rng),
        best.inertia / len(points),
    )


def _stability(points: Floats, best: Clusters, max_iter: int, rng: np.random.Generator) -> float:
    k, size = len(best.centres), max(len(best.centres), round(PART * len(points)))
    agreements = []
    for _ in range(SUBSAMPLES):
        part = points[rng.permutation(len(points))[:size]]
        again = best_clusters(part, k, 3, max_iter, rng)
        agreements.append(adjusted_rand(best.labels, nearest(points, again.centres)))
    return float(np.mean(agreements))


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The smallest k whose silhouette is within ``TIE`` of the best among the stable ones.

    A k whose segments change when a fifth of the entities is left out describes the draw, not the data; where none is
    stable, all are considered.
    """
    stable = [candidate for candidate in candidates if candidate.stability >= STABLE] or list(candidates)
    best = max(candidate.silhouette for candidate in stable)
    return min((c for c in stable if c.silhouette >= best - TIE), key=lambda c: c.k)


def silhouette(points: Floats, labels: Labels) -> float:
    """Mean silhouette with squared Euclidean distances, as MLlib's ``ClusteringEvaluator`` defines it.

    For a point, ``(b - a) / max(a, b)``: ``a`` its mean distance to the others of its cluster, ``b`` to those of the
    nearest other cluster (Rousseeuw 1987); 0 for a cluster of one. Squared distances need only sums over each cluster,
    so the cost grows with points times clusters. 0 where there is one cluster only.
    """
    clusters, labels = np.unique(labels, return_inverse=True)
    k = len(clusters)
    if k < 2:
        return 0.0
    sizes = np.bincount(labels, minlength=k).astype(np.float64)
    sums = np.zeros((k, points.shape[1]))
    np.add.at(sums, labels, points)
    norms = (points**2).sum(axis=1)
    square_sums = np.bincount(labels, weights=norms, minlength=k)
    # Sum over a cluster of |x - y|^2 = n|x|^2 - 2 x.sum(y) + sum |y|^2.
    totals = np.maximum(norms[:, None] * sizes - 2 * points @ sums.T + square_sums, 0.0)
    rows = np.arange(len(points))
    own = totals[rows, labels] / np.maximum(sizes[labels] - 1, 1)
    means = totals / sizes
    means[rows, labels] = np.inf
    other = means.min(axis=1)
    larger = np.maximum(own, other)
    scores = np.where((sizes[labels] > 1) & (larger > 0), (other - own) / np.where(larger > 0, larger, 1.0), 0.0)
    return float(scores.mean())


def adjusted_rand(first: Labels, second: Labels) -> float:
    """Agreement of two partitions: 1 for the same, about 0 for unrelated ones (Hubert & Arabie 1985)."""
    _, first = np.unique(first, return_inverse=True)
    _, second = np.unique(second, return_inverse=True)
    table = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(table, (first, second), 1)

    def pairs(counts: Floats) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together, all_pairs = pairs(table), len(first) * (len(first) - 1) / 2
    in_first, in_second = pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = in_first * in_second / all_pairs if all_pairs else 0.0
    highest = (in_first + in_second) / 2
    return 1.0 if highest == expected else (together - expected) / (highest - expected)
