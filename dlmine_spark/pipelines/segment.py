"""Segment: groups of stores and of customers by how they behave, and what sets each group apart."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.parallel import in_parallel
from dlmine_spark.pipelines.common import calendar_of, covariates, promotion_of
from dlmine_spark.runs import NotApplicable, StageReport
from dlmine_spark.segmentation.customers import customer_features
from dlmine_spark.segmentation.features import CUSTOMERS, STORES
from dlmine_spark.segmentation.segments import Segmentation, segment
from dlmine_spark.segmentation.stores import store_features

log = logging.getLogger(__name__)

STORE_FEATURES, CUSTOMER_FEATURES = "staging.store_features", "staging.customer_features"
"""Computed once from the large tables, read by every step of the clustering."""
WEAK = 0.5
"""A silhouette below this may be one cloud cut in pieces (two or three dimensions of noise reach about as much)."""


@dataclass(frozen=True, slots=True)
class SegmentCount:
    """The segments of one kind of entity: their sizes, and how well they are set apart (None for one segment)."""

    entity: str
    sizes: tuple[int, ...]
    silhouette: float | None

    def __str__(self) -> str:
        """For the terminal."""
        entities = sum(self.sizes)
        many = f"{entities:,} {self.entity}{'' if entities == 1 else 's'} in {len(self.sizes)} segment"
        if self.silhouette is None:
            return f"{many} (there is nothing to tell apart)"
        weak = ", hardly set apart" if self.silhouette < WEAK else ""
        return f"{many}s (silhouette {self.silhouette:.2f}{weak})"


@dataclass(frozen=True, kw_only=True)
class SegmentReport(StageReport):
    """The segments found; ``rows_in`` and ``rows_out`` count entities."""

    segments: tuple[SegmentCount, ...]


def run(config: Config, lakehouse: Lakehouse) -> SegmentReport | NotApplicable:
    """Segment the series of the panel and the customers of the lines, as far as there are any."""
    of_whom = {"stores": partial(_stores, config, lakehouse), "customers": partial(_customers, config, lakehouse)}
    found = [segments for segments in in_parallel(lakehouse.spark, of_whom).values() if segments]
    if not found:
        return NotApplicable("no panel, and no basket lines with customer and time: there is nobody to segment")
    tables = {
        s.SEGMENTS.name: _stacked([segments.assignments for segments in found]),
        s.SEGMENT_PROFILES.name: _stacked([segments.profiles for segments in found]),
    }
    in_parallel(lakehouse.spark, {name: partial(lakehouse.overwrite, name, frame) for name, frame in tables.items()})

    counts = tuple(SegmentCount(one.entity, one.sizes, one.silhouette) for one in found)
    entities = sum(one.entities for one in found)
    return SegmentReport(
        rows_in=entities,
        rows_out=entities,
        segments=counts,
        message="; ".join(str(count) for count in counts),
    )


def segment_series(
    config: Config, lakehouse: Lakehouse, panel: DataFrame, calendar: DataFrame | None, staging: str
) -> Segmentation | None:
    """Segments of the series of a panel, which ends where knowledge may end; None where it has no series.

    Args:
        config: the whole configuration; roles of covariates say what a promotion is.
        lakehouse: the tables.
        panel: ``silver.panel`` up to the cutoff.
        calendar: ``silver.calendar``, if any.
        staging: table that the features are stored in; the result's frames read the version written here.
    """
    promo = promotion_of(panel, calendar, covariates(config, panel, calendar))
    lakehouse.overwrite(staging, store_features(_with_promotion(panel, calendar, promo), promo))
    return segment(lakehouse.read(staging), STORES, config.segmentation)


def _stores(config: Config, lakehouse: Lakehouse) -> Segmentation | None:
    if not lakehouse.exists(s.PANEL.name):
        return None
    panel, calendar = lakehouse.read(s.PANEL.name), calendar_of(lakehouse, config)
    return segment_series(config, lakehouse, panel, calendar, STORE_FEATURES)


def _customers(config: Config, lakehouse: Lakehouse) -> Segmentation | None:
    if not config.segmentation.customers or not lakehouse.exists(s.LINES.name):
        return None
    lines = lakehouse.read(s.LINES.name)
    if lines.where(F.col(s.CUSTOMER_ID).isNotNull() & F.col(s.TS).isNotNull()).isEmpty():
        return None
    lakehouse.overwrite(CUSTOMER_FEATURES, customer_features(lines))
    return segment(lakehouse.read(CUSTOMER_FEATURES), CUSTOMERS, config.segmentation)


def _with_promotion(panel: DataFrame, calendar: DataFrame | None, promo: str | None) -> DataFrame:
    """The panel with its promotions, which may stand in the calendar only."""
    if promo is None or calendar is None or promo not in calendar.columns:
        return panel
    planned = calendar.select(s.UNIQUE_ID, s.DS, F.col(f"`{promo}`").alias("__planned"))
    own = [F.col(f"`{promo}`")] if promo in panel.columns else []
    return (
        panel.join(planned, on=[s.UNIQUE_ID, s.DS], how="left")
        .withColumn(promo, F.coalesce(F.col("__planned"), *own))
        .drop("__planned")
    )


def _stacked(frames: Sequence[DataFrame]) -> DataFrame:
    return reduce(lambda upper, lower: upper.unionByName(lower), frames)
