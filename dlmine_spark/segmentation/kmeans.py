"""k-means of every entity by MLlib, and the membership that follows from an engine's centres."""

from __future__ import annotations

import logging
from math import ceil

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.clustering import KMeans
from pyspark.ml.functions import array_to_vector
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark.caching import kept
from dlmine_spark.config import SegmentationConfig
from dlmine_spark.segmentation.features import ENTITY_ID

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

POINT = "point"
ROWS_PER_TASK = 100_000


def fit_by_mllib(points: DataFrame, entities: int, k: int, config: SegmentationConfig, attainable: float) -> Floats:
    """Centres of the best of several MLlib fits (Bahmani et al. 2012, k-means||, then Lloyd).

    Lloyd's iterations end in a local optimum, on a bad start in a poor one. So ``config.restarts`` starts are tried and
    the lowest inertia wins; as soon as one is as good as can be hoped for, the others are spared. Rows are put in the
    order of their ids first, since MLlib draws its starts by partition and row: the result does not depend on how the
    table came to be partitioned. Actions: some twenty small jobs a fit; only centres reach the driver.

    Args:
        points: ``entity_id``, ``point`` (array of coordinates), no nulls.
        entities: how many there are.
        k: centres wanted; fewer come back where there are not as many different points.
        config: restarts, iterations and seed.
        attainable: inertia per entity with which no further start is tried.
    """
    tasks = max(1, ceil(entities / ROWS_PER_TASK))
    ordered = (
        points.repartition(tasks, ENTITY_ID)
        .sortWithinPartitions(ENTITY_ID)
        .select(array_to_vector(F.col(POINT)).alias("features"))
    )
    fits: list[tuple[float, Floats]] = []
    with kept(ordered) as vectors:
        for restart in range(config.restarts):
            model = KMeans(k=k, maxIter=config.max_iter, seed=config.seed + restart).fit(vectors)
            inertia = float(model.summary.trainingCost)
            log.debug("k=%d, start %d: inertia %.4f per entity", k, restart, inertia / entities)
            fits.append((inertia, np.array(model.clusterCenters(), dtype=np.float64)))
            if inertia <= attainable * entities:
                break
    return min(fits, key=lambda fit: fit[0])[1]


def squared_distances(point: Column, centres: Floats) -> Column:
    """Squared Euclidean distances of an array of coordinates to every centre, as an array."""
    all_centres = F.array(*(F.array(*(F.lit(float(c)) for c in centre)).cast("array<double>") for centre in centres))
    return F.transform(
        all_centres,
        lambda centre: F.aggregate(
            F.zip_with(point, centre, lambda a, b: (a - b) * (a - b)), F.lit(0.0), lambda total, term: total + term
        ),
    )


def assign(points: DataFrame, centres: Floats) -> DataFrame:
    """The nearest centre of every entity (the first of equals), and how much it belongs to each.

    The membership in segment k is ``u_k = (1 / d_k^2) / sum_j (1 / d_j^2)``, that of fuzzy c-means with m = 2 (Bezdek
    1981); an entity that lies on a centre belongs to it alone. Memberships of an entity sum to 1.

    Returns:
        The columns of ``points`` and ``segment``, ``distance`` (Euclidean, in scaled units), ``membership``.
    """
    squares = F.col("squares")
    least = F.array_min(squares)
    segment = (F.array_position(squares, least) - 1).cast("int")
    # Dividing the least by each keeps the numbers between 0 and 1, however close an entity lies to a centre.
    closeness = F.transform(
        squares,
        lambda square, index: F.when(least > 0, least / square).otherwise(
            F.when(index == F.col("segment"), F.lit(1.0)).otherwise(F.lit(0.0))
        ),
    )
    total = F.aggregate(F.col("closeness"), F.lit(0.0), lambda sum_, share: sum_ + share)
    return (
        points.withColumn("squares", squared_distances(F.col(POINT), centres))
        .withColumn("segment", segment)
        .withColumn("closeness", closeness)
        .withColumn("distance", F.sqrt(least))
        .withColumn("membership", F.transform(F.col("closeness"), lambda share: share / total))
        .drop("squares", "closeness")
    )
