"""What sets each segment apart, in the features' natural units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark.segmentation.describe import Standing, describe
from dlmine_spark.segmentation.features import VALUES, Catalogue

Floats = NDArray[np.float64]

OUTLIER = "is_outlier"


@dataclass(frozen=True, slots=True)
class Summary:
    """Size and means of every segment, and of all entities together; NaN where no entity has the feature.

    Attributes:
        sizes: entities of each segment, 0 for an empty one.
        means: one row per segment, one column per feature.
        overall_mean: of every feature over all entities.
        overall_sd: its standard deviation over all entities.
        outliers: entities that are marked as far from every centre.
    """

    sizes: tuple[int, ...]
    means: Floats
    overall_mean: Floats
    overall_sd: Floats
    outliers: int

    def standing(self, segment: int, position: int) -> Standing | None:
        """How a segment stands in a feature; None where none of its members has the feature.

        ``z`` is 0 for a feature that is the same for all.
        """
        mean, overall = float(self.means[segment, position]), float(self.overall_mean[position])
        if np.isnan(mean):
            return None
        sd = float(self.overall_sd[position])
        return Standing(mean, overall, (mean - overall) / sd if sd > 0 else 0.0)


def summarise(assigned: DataFrame, catalogue: Catalogue, k: int) -> Summary:
    """Count and average the segments (one aggregation; one row per segment is collected).

    Args:
        assigned: ``segment``, ``values`` (array of features) and ``is_outlier`` of every entity.
        catalogue: the features in the order of ``values``.
        k: number of segments.
    """
    width = len(catalogue.names)
    rows = (
        assigned.rollup("segment")
        .agg(
            F.count(F.lit(1)).alias("size"),
            F.count_if(OUTLIER).alias("outliers"),
            F.array(*(F.avg(_known(position)) for position in range(width))).alias("means"),
            F.array(*(F.stddev_pop(_known(position)) for position in range(width))).alias("sds"),
        )
        .collect()
    )
    by_segment = {row["segment"]: row for row in rows}
    overall = by_segment[None]
    return Summary(
        sizes=tuple(int(by_segment[index]["size"]) if index in by_segment else 0 for index in range(k)),
        means=np.array([_floats(by_segment[i]["means"] if i in by_segment else [None] * width) for i in range(k)]),
        overall_mean=_floats(overall["means"]),
        overall_sd=_floats(overall["sds"]),
        outliers=int(overall["outliers"]),
    )


def profile_rows(
    summary: Summary, catalogue: Catalogue, order: Sequence[int]
) -> Iterator[tuple[str, int, int, str, float | None, float | None, str]]:
    """The rows of ``gold.segment_profiles``, without features that no entity has.

    ``z`` is the distance of the segment's mean from the overall mean in overall standard deviations, 0 for a feature
    that is the same for all. ``description`` says the same of every row of a segment.

    Args:
        summary: of the segments as they were fitted.
        catalogue: the features.
        order: the fitted segment that becomes segment 0, 1, ...
    """
    for number, fitted in enumerate(order):
        standings = {name: summary.standing(fitted, position) for position, name in enumerate(catalogue.names)}
        words = describe(catalogue.entity, {name: one for name, one in standings.items() if one is not None})
        for position, (name, standing) in enumerate(standings.items()):
            if np.isnan(summary.overall_mean[position]):
                continue
            mean, z = (None, None) if standing is None else (standing.mean, standing.z)
            yield (catalogue.entity, number, summary.sizes[fitted], name, mean, z, words)


def _known(position: int) -> Column:
    value = F.get(F.col(VALUES), F.lit(position))
    return F.when(~F.isnan(value), value)


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
