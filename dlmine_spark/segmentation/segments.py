"""From a table of features to segments: sample, scale, choose k, fit, number, assign, describe."""

from __future__ import annotations

import logging
from dataclasses import dataclass

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
from dlmine_spark.segmentation.profiles import profile_rows, summarise
from dlmine_spark.segmentation.scaling import Scaling, fit_scaling

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

SAMPLE = 2_000
"""Entities that scaling and the number of segments are fitted on; all of them where there are no more."""
SAME, SIMILAR = 1.001, 1.01
"""Inertia that MLlib has to reach beside the sample's best, where the sample is everyone and where it is a part."""


@dataclass(frozen=True, slots=True)
class SegmentModel:
    """What assigns an entity to its segment, then and later: how features are scaled, and the segments' centres."""

    catalogue: Catalogue
    scaling: Scaling
    centres: Floats

    def assign(self, features: DataFrame) -> DataFrame:
        """The rows of ``gold.segments`` for a table of features, one per entity, whether it was fitted or is new."""
        points = features.select(ENTITY_ID, self.scaling.column(VALUES).alias(POINT))
        entity = F.lit(self.catalogue.entity).alias("entity")
        return assign(points, self.centres).select(entity, ENTITY_ID, "segment", "distance", "membership")


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The segments of one kind of entity.

    Attributes:
        entity: ``store`` or ``customer``.
        assignments: rows of ``gold.segments``, one per entity; lazy, a projection of the table of features.
        profiles: rows of ``gold.segment_profiles``; a local frame of segments times features.
        model: assigns further entities.
        sizes: entities of each segment, largest first.
        silhouette: on the sample; None where there is one segment.
        candidates: every k that was looked at.
    """

    entity: str
    assignments: DataFrame
    profiles: DataFrame
    model: SegmentModel
    sizes: tuple[int, ...]
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


def segment(features: DataFrame, catalogue: Catalogue, config: SegmentationConfig) -> Segmentation | None:
    """Find segments in a table of features.

    Scaling and k come from a sample: the ``SAMPLE`` entities whose ids have the smallest hash, the same ones whatever
    the partitions. The segments are MLlib's, fitted on every entity. They are numbered by size, largest first, equal
    ones by their centres, so that a number means the same however rows and starts fell.

    Actions: the sample (at most ``SAMPLE`` rows are collected), MLlib's fits, one aggregation of the segments. The
    table is read by each, so it should be a stored or cached one.

    Args:
        features: ``entity_id``, ``values``: one row per entity.
        catalogue: the features in the order of ``values``.
        config: number of segments, restarts, seed.

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
        placed = features.select(ENTITY_ID, scaling.column(VALUES).alias(POINT))
        if config.engine == "mllib":
            attainable = chosen.inertia * (SAME if entities == len(sample) else SIMILAR)
            centres = fit_by_mllib(placed, entities, chosen.k, config, attainable)
        else:
            centres = fit_by_blocks(placed, entities, points.shape[1], chosen.k, config)
    else:
        centres = points.mean(axis=0, keepdims=True)

    fitted = features.select(VALUES, scaling.column(VALUES).alias(POINT))
    summary = summarise(assign(fitted, centres), catalogue, len(centres))
    order = _numbering(centres, summary.sizes)
    model = SegmentModel(catalogue, scaling, centres[order])
    rows = list(profile_rows(summary, catalogue, order))
    return Segmentation(
        entity=catalogue.entity,
        assignments=model.assign(features),
        profiles=features.sparkSession.createDataFrame(rows, s.SEGMENT_PROFILES.ddl),
        model=model,
        sizes=tuple(summary.sizes[index] for index in order),
        silhouette=silhouette(points, nearest(points, model.centres)) if len(order) > 1 else None,
        candidates=tuple(candidates),
    )


def _sample(features: DataFrame) -> Floats:
    """The features of the sampled entities, in the order of their ids' hashes."""
    rows = features.select(VALUES).orderBy(F.xxhash64(features[ENTITY_ID]), features[ENTITY_ID]).limit(SAMPLE).collect()
    return np.array([row[VALUES] for row in rows], dtype=np.float64)


def _candidate_ks(points: Floats, catalogue: Catalogue, config: SegmentationConfig) -> list[int]:
    """The numbers of segments to look at; none where there can be only one segment."""
    different = len(np.unique(points, axis=0))
    if config.k != "auto":
        if config.k > different:
            log.warning(
                "segmentation.k is %d, but there are only %d different %ss: at most as many segments",
                config.k,
                different,
                catalogue.entity,
            )
        wanted = min(config.k, different)
        return [wanted] if wanted >= 2 else []
    # As many segments as entities would say nothing about any of them.
    return list(range(2, min(config.k_max, different, len(points) - 1) + 1))


def _numbering(centres: Floats, sizes: tuple[int, ...]) -> list[int]:
    """Fitted segments by size, then centre; those that nobody is nearest to are left out."""
    occupied = [index for index, size in enumerate(sizes) if size > 0]
    return sorted(occupied, key=lambda index: (-sizes[index], *np.round(centres[index], 6).tolist()))
