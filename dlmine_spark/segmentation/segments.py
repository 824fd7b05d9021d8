"""From a table of features to segments: sample, scale, choose k, fit, number, assign, describe."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import SegmentationConfig
from dlmine_spark.segmentation.blocked import fit_by_blocks
from dlmine_spark.segmentation.choice import Candidate, assess, choose, silhouette
from dlmine_spark.segmentation.features import ENTITY_ID, VALUES, Catalogue
from dlmine_spark.segmentation.kmeans import POINT, assign, fit_by_mllib
from dlmine_spark.segmentation.lloyd import nearest
from dlmine_spark.segmentation.numbering import by_size, keep_numbers
from dlmine_spark.segmentation.outliers import limits
from dlmine_spark.segmentation.profiles import OUTLIER, Summary, profile_rows, summarise
from dlmine_spark.segmentation.scaling import Scaling, fit_scaling

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SAMPLE = 2_000
"""Entities that scaling and the number of segments are fitted on; all of them where there are no more."""
SAME, SIMILAR = 1.001, 1.01
"""Inertia that MLlib has to reach beside the sample's best, where the sample is everyone and where it is a part."""


@dataclass(frozen=True, slots=True)
class SegmentModel:
    """What assigns an entity to its segment, then and later.

    Attributes:
        catalogue: the features, in the order of ``values``.
        scaling: how they become coordinates.
        centres: of the segments, by number.
        limits: distance from each centre beyond which an entity is an outlier; infinite where there is none.
    """

    catalogue: Catalogue
    scaling: Scaling
    centres: Floats
    limits: tuple[float, ...]

    def assign(self, features: DataFrame) -> DataFrame:
        """The rows of ``gold.segments`` for a table of features, one per entity, whether it was fitted or is new."""
        entity = F.lit(self.catalogue.entity).alias("entity")
        return self.place(features).select(entity, ENTITY_ID, "segment", "distance", "membership", OUTLIER)

    def place(self, features: DataFrame) -> DataFrame:
        """The features with ``segment``, ``distance``, ``membership`` and ``is_outlier``."""
        points = features.select(ENTITY_ID, VALUES, self.scaling.column(VALUES).alias(POINT))
        limit = F.get(F.array(*(F.lit(float(limit)) for limit in self.limits)), F.col("segment"))
        return assign(points, self.centres).withColumn(OUTLIER, F.col("distance") > limit)

    def in_order(self, order: Sequence[int]) -> SegmentModel:
        """The same with the segments in another order, or some of them only."""
        return replace(self, centres=self.centres[list(order)], limits=tuple(self.limits[index] for index in order))


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The segments of one kind of entity.

    Attributes:
        entity: ``store`` or ``customer``.
        assignments: rows of ``gold.segments``, one per entity; lazy, a projection of the table of features.
        profiles: rows of ``gold.segment_profiles``; a local frame of segments times features.
        model: assigns further entities.
        sizes: entities of each segment, largest first.
        outliers: entities far from every centre.
        silhouette: on the sample; None where there is one segment.
        candidates: every k that was looked at; none where a kept model only placed the entities.
    """

    entity: str
    assignments: DataFrame
    profiles: DataFrame
    model: SegmentModel
    sizes: tuple[int, ...]
    outliers: int
    silhouette: float | None
    candidates: tuple[Candidate, ...]

    @property
    def k(self) -> int:
        """How many segments there are."""
        return len(self.sizes)

    @property
    def entities(self) -> int:
        """How many entities there are."""
        return sum(self.sizes)


def segment(
    features: DataFrame, catalogue: Catalogue, config: SegmentationConfig, previous: DataFrame | None = None
) -> Segmentation | None:
    """Find segments in a table of features.

    Scaling and k come from a sample: the ``SAMPLE`` entities whose ids have the smallest hash, the same ones whatever
    the partitions. The segments are fitted on every entity. They are numbered by size, largest first, equal ones by
    their centres, so that a number means the same however rows and starts fell; where there are earlier segments, as
    many entities as can be keep their number.

    Actions: the sample (at most ``SAMPLE`` rows are collected), the engine's fits, one aggregation of the segments,
    and one of the changes from earlier segments. The table is read by each, so it should be a stored or cached one.

    Args:
        features: ``entity_id``, ``values``: one row per entity.
        catalogue: the features in the order of ``values``.
        config: number of segments, engine, restarts, seed.
        previous: ``entity_id``, ``segment`` of the entities' earlier segments, if there are any.

    Returns:
        None where there is no entity at all.
    """
    sample = _sample(features)
    if not len(sample):
        return None
    entities = len(sample) if len(sample) < SAMPLE else features.count()
    scaling = fit_scaling(sample, catalogue)
    points = scaling.coordinates(sample)
    candidates = assess(points, _candidate_ks(points, catalogue, config), config.max_iter, config.seed)
    if candidates:
        chosen = choose(candidates)
        everyone = features.select(ENTITY_ID, scaling.column(VALUES).alias(POINT))
        if config.engine == "mllib":
            attainable = chosen.inertia * (SAME if entities == len(sample) else SIMILAR)
            centres = fit_by_mllib(everyone, entities, chosen.k, config, attainable)
        else:
            centres = fit_by_blocks(everyone, entities, points.shape[1], chosen.k, config)
    else:
        centres = points.mean(axis=0, keepdims=True)

    fitted = SegmentModel(catalogue, scaling, centres, limits(points, centres))
    placed = fitted.place(features)
    summary = summarise(placed, catalogue, len(centres))
    order = by_size(centres, summary.sizes)
    if previous is not None:
        order = keep_numbers(order, _overlap(placed, previous, len(centres)))
    return _described(features, fitted, summary, order, points, tuple(candidates))


def place(features: DataFrame, model: SegmentModel) -> Segmentation | None:
    """Place every entity in the segments of an earlier fit, which stay as they are, members or not.

    Actions: the sample, for the silhouette, and one aggregation of the segments.

    Args:
        features: ``entity_id``, ``values``: one row per entity.
        model: of the earlier fit.

    Returns:
        None where there is no entity at all.
    """
    sample = _sample(features)
    if not len(sample):
        return None
    summary = summarise(model.place(features), model.catalogue, len(model.centres))
    points = model.scaling.coordinates(sample)
    return _described(features, model, summary, range(len(model.centres)), points, ())


def _described(
    features: DataFrame,
    fitted: SegmentModel,
    summary: Summary,
    order: Sequence[int],
    points: Floats,
    candidates: tuple[Candidate, ...],
) -> Segmentation:
    model = fitted.in_order(order)
    rows = list(profile_rows(summary, fitted.catalogue, order))
    return Segmentation(
        entity=fitted.catalogue.entity,
        assignments=model.assign(features),
        profiles=features.sparkSession.createDataFrame(rows, s.SEGMENT_PROFILES.ddl),
        model=model,
        sizes=tuple(summary.sizes[index] for index in order),
        outliers=summary.outliers,
        silhouette=silhouette(points, nearest(points, model.centres)) if len(order) > 1 else None,
        candidates=candidates,
    )


def _overlap(placed: DataFrame, previous: DataFrame, k: int) -> Integers:
    """Entities by fitted segment (row) and earlier one (column); one aggregation, a row per pair is collected."""
    earlier = previous.select(F.col(ENTITY_ID), F.col("segment").alias("earlier"))
    pairs = placed.join(earlier, on=ENTITY_ID, how="inner").groupBy("segment", "earlier").count().collect()
    overlap = np.zeros((k, max((row["earlier"] for row in pairs), default=0) + 1), dtype=np.int64)
    for row in pairs:
        overlap[row["segment"], row["earlier"]] = row["count"]
    return overlap


def sample_of(features: DataFrame) -> DataFrame:
    """The ``SAMPLE`` entities whose ids have the smallest hashes, in that order."""
    return features.orderBy(F.xxhash64(ENTITY_ID), ENTITY_ID).limit(SAMPLE)


def _sample(features: DataFrame) -> Floats:
    return np.array([row[VALUES] for row in sample_of(features).select(VALUES).collect()], dtype=np.float64)


def _candidate_ks(points: Floats, catalogue: Catalogue, config: SegmentationConfig) -> list[int]:
    """The numbers of segments to look at; none where there can be only one segment."""
    different = len(np.unique(points, axis=0))
    if config.k != "auto":
        if config.k > different:
            log.warning(
                "segmentation.k is %d, but of %ss only %d differ from each other: at most as many segments",
                config.k,
                catalogue.entity,
                different,
            )
        wanted = min(config.k, different)
        return [wanted] if wanted >= 2 else []
    # As many segments as entities would say nothing about any of them.
    return list(range(2, min(config.k_max, different, len(points) - 1) + 1))
