"""From which distance on an entity lies far from every centre. No Spark."""

from __future__ import annotations

import numpy as np

from dlmine_spark.segmentation.lloyd import Floats, nearest

FAR = 5.0
"""Robust standard deviations above the median distance; of normal groups, one member in ten thousand or fewer."""
FEW = 10
"""A segment with fewer members in the sample takes the limit of all entities."""
AS_NORMAL = 1.4826
"""What the median absolute deviation has to be multiplied by to be the standard deviation of a normal variable."""


def limits(points: Floats, centres: Floats) -> tuple[float, ...]:
    """For each centre the distance beyond which an entity nearest to it is an outlier.

    That is the median distance of the segment's members plus ``FAR`` times their median absolute deviation (scaled to a
    standard deviation; Leys et al. 2013): a few odd members cannot move it. Infinite where the distances have no such
    spread, as where more than half of the entities are alike.

    Args:
        points: a sample of the entities, in coordinates.
        centres: of the segments.
    """
    labels = nearest(points, centres)
    distances = np.sqrt(((points - centres[labels]) ** 2).sum(axis=1))
    overall = _limit(distances)
    by_segment = (distances[labels == number] for number in range(len(centres)))
    return tuple(_limit(members) if members.size >= FEW else overall for members in by_segment)


def _limit(distances: Floats) -> float:
    median = float(np.median(distances))
    spread = AS_NORMAL * float(np.median(np.abs(distances - median)))
    return median + FAR * spread if spread > 0 else float("inf")
