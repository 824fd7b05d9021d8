"""Whether segments last: those of the first and of the second half of history, compared."""

from __future__ import annotations

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark.config import SegmentationConfig
from dlmine_spark.segmentation.choice import STARTS, adjusted_rand
from dlmine_spark.segmentation.features import ENTITY_ID, VALUES, Catalogue
from dlmine_spark.segmentation.lloyd import Floats, Labels, best_clusters
from dlmine_spark.segmentation.scaling import fit_scaling


def agreement(
    first: DataFrame, second: DataFrame, catalogue: Catalogue, k: int, config: SegmentationConfig
) -> float | None:
    """Adjusted Rand index of the segments found in two halves of history, each by itself.

    Both halves are scaled and clustered anew, with the same k: 1 says that the halves part the entities alike, 0 that
    they agree by chance only. Features that a half is too short to tell (the year, say) are left out. One action, which
    collects both tables.

    Args:
        first: table of features of the first half, of a bounded sample of the entities.
        second: that of the second half.
        catalogue: the features in the order of ``values``.
        k: number of segments.
        config: iterations at most, and seed.

    Returns:
        None where fewer than k + 1 entities are in both halves, or there are not k different ones in each.
    """
    rows = first.select(ENTITY_ID, VALUES, F.lit(0).alias("half")).unionByName(
        second.select(ENTITY_ID, VALUES, F.lit(1).alias("half"))
    )
    halves: tuple[dict[str, list[float]], dict[str, list[float]]] = ({}, {})
    for row in rows.collect():
        halves[row["half"]][row[ENTITY_ID]] = row[VALUES]
    both = sorted(halves[0].keys() & halves[1].keys())
    if len(both) <= k or k < 2:
        return None
    labels = [_labels(np.array([half[name] for name in both], np.float64), catalogue, k, config) for half in halves]
    one, other = labels
    return None if one is None or other is None else adjusted_rand(one, other)


def _labels(values: Floats, catalogue: Catalogue, k: int, config: SegmentationConfig) -> Labels | None:
    points = fit_scaling(values, catalogue).coordinates(values)
    if len(np.unique(points, axis=0)) < k:
        return None
    return best_clusters(points, k, STARTS, config.max_iter, np.random.default_rng([config.seed, k])).labels
