"""Segment: groups of stores, of customers and of rows of a table, and what sets each group apart."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial, reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError, TableContractError
from dlmine_spark.frequency import Moment, sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.parallel import in_parallel
from dlmine_spark.pipelines.alignment import read_panel
from dlmine_spark.pipelines.common import calendar_of, covariates, promotion_of
from dlmine_spark.pipelines.subjects import rows_table
from dlmine_spark.runs import NotApplicable, StageReport
from dlmine_spark.segmentation.customers import customer_features
from dlmine_spark.segmentation.features import CUSTOMERS, ENTITY_ID, STORES, Catalogue, catalogue_of
from dlmine_spark.segmentation.models import from_row, to_row
from dlmine_spark.segmentation.periods import agreement
from dlmine_spark.segmentation.rows import row_features
from dlmine_spark.segmentation.segments import Segmentation, SegmentModel, place, sample_of, segment
from dlmine_spark.segmentation.stores import store_features

log = logging.getLogger(__name__)

STORE_FEATURES, CUSTOMER_FEATURES = "staging.store_features", "staging.customer_features"
ROW_FEATURES = "staging.row_features"
"""Computed once from the large tables, read by every step of the clustering."""
WEAK = 0.5
"""A silhouette below this may be one cloud cut in pieces (two or three dimensions of noise reach about as much)."""


@dataclass(frozen=True, slots=True)
class SegmentCount:
    """The segments of one kind of entity.

    Attributes:
        entity: ``store``, ``customer`` or what a row of a table is.
        sizes: entities of each segment.
        silhouette: how well they are set apart; None for one segment.
        agreement: adjusted Rand index of the segments found in the two halves of history; None where they cannot be
            compared.
        outliers: entities far from every centre.
    """

    entity: str
    sizes: tuple[int, ...]
    silhouette: float | None
    agreement: float | None = None
    outliers: int = 0

    def __str__(self) -> str:
        """For the terminal."""
        entities = sum(self.sizes)
        many = f"{entities:,} {self.entity}{'' if entities == 1 else 's'} in {len(self.sizes)} segment"
        if self.silhouette is None:
            return f"{many} (there is nothing to tell apart)"
        told = [f"silhouette {self.silhouette:.2f}"]
        if self.silhouette < WEAK:
            told.append("hardly set apart")
        if self.agreement is not None:
            told.append(f"halves of history agree by {self.agreement:.2f}")
        if self.outliers:
            told.append(f"{self.outliers:,} far from all")
        return f"{many}s ({', '.join(told)})"


@dataclass(frozen=True, slots=True)
class Found:
    """The segments of one kind of entity, and how far those of two halves of history agree."""

    segmentation: Segmentation
    agreement: float | None


@dataclass(frozen=True, kw_only=True)
class SegmentReport(StageReport):
    """The segments found; ``rows_in`` and ``rows_out`` count entities."""

    segments: tuple[SegmentCount, ...]


def run(config: Config, lakehouse: Lakehouse) -> SegmentReport | NotApplicable:
    """Segment the series of the panel, the customers of the lines and rows of a table, as far as there are any."""
    of_whom = {
        "stores": partial(_stores, config, lakehouse),
        "customers": partial(_customers, config, lakehouse),
        "rows": partial(_rows, config, lakehouse),
    }
    found = [segments for segments in in_parallel(lakehouse.spark, of_whom).values() if segments]
    if not found:
        return NotApplicable(
            "no panel, and no basket lines with customer and time (nor segmentation.rows): there is nobody to segment"
        )
    tables = {
        s.SEGMENTS.name: _stacked([one.segmentation.assignments for one in found]),
        s.SEGMENT_PROFILES.name: _stacked([one.segmentation.profiles for one in found]),
    }
    if not config.segmentation.assign_only:
        tables[s.SEGMENT_MODELS.name] = _models(lakehouse, [one.segmentation for one in found])
    in_parallel(lakehouse.spark, {name: partial(lakehouse.overwrite, name, frame) for name, frame in tables.items()})

    counts = tuple(_count(one) for one in found)
    entities = sum(one.segmentation.entities for one in found)
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


def _stores(config: Config, lakehouse: Lakehouse) -> Found | None:
    if not lakehouse.exists(s.PANEL.name):
        return None
    panel, calendar = read_panel(lakehouse), calendar_of(lakehouse, config)
    promo = promotion_of(panel, calendar, covariates(config, panel, calendar))
    described = _with_promotion(panel, calendar, promo)
    lakehouse.overwrite(STORE_FEATURES, store_features(described, promo))
    features = lakehouse.read(STORE_FEATURES)
    found = _fit_or_place(config, lakehouse, features, STORES)
    if found is None:
        return None
    of_sample = described.join(_sampled(features, s.UNIQUE_ID), on=s.UNIQUE_ID, how="left_semi")
    middle = _middle(panel.where(F.col(s.Y).isNotNull()), F.col(s.DS))
    halves = [store_features(half, promo) for half in _halves(of_sample, F.col(s.DS), middle)]
    return _with_agreement(config, found, STORES, halves)


def _customers(config: Config, lakehouse: Lakehouse) -> Found | None:
    if not config.segmentation.customers or not lakehouse.exists(s.LINES.name):
        return None
    lines = lakehouse.read(s.LINES.name)
    if lines.where(F.col(s.CUSTOMER_ID).isNotNull() & F.col(s.TS).isNotNull()).isEmpty():
        return None
    lakehouse.overwrite(CUSTOMER_FEATURES, customer_features(lines))
    features = lakehouse.read(CUSTOMER_FEATURES)
    found = _fit_or_place(config, lakehouse, features, CUSTOMERS)
    if found is None:
        return None
    of_sample = lines.join(_sampled(features, s.CUSTOMER_ID), on=s.CUSTOMER_ID, how="left_semi")
    halves = [customer_features(half) for half in _halves(of_sample, F.to_date(s.TS), _middle(lines, F.to_date(s.TS)))]
    return _with_agreement(config, found, CUSTOMERS, halves)


def _rows(config: Config, lakehouse: Lakehouse) -> Found | None:
    wanted = config.segmentation.rows
    if wanted is None:
        return None
    source = config.sources[wanted.source]
    table = lakehouse.read(rows_table(wanted.source, source))
    lakehouse.overwrite(ROW_FEATURES, row_features(table, wanted, source.mapped_key))
    found = _fit_or_place(config, lakehouse, lakehouse.read(ROW_FEATURES), catalogue_of(wanted))
    return None if found is None else Found(found, None)


def _fit_or_place(
    config: Config, lakehouse: Lakehouse, features: DataFrame, catalogue: Catalogue
) -> Segmentation | None:
    if config.segmentation.assign_only:
        return place(features, _kept_model(lakehouse, catalogue))
    return segment(features, catalogue, config.segmentation, _earlier_segments(lakehouse, catalogue))


def _kept_model(lakehouse: Lakehouse, catalogue: Catalogue) -> SegmentModel:
    """The model of the last run that fitted one.

    Raises:
        ConfigError: there is none.
        TableContractError: it knows other features than there are now.
    """
    rows = []
    if lakehouse.adopt(s.SEGMENT_MODELS.name):
        rows = lakehouse.read(s.SEGMENT_MODELS.name).where(F.col("entity") == catalogue.entity).collect()
    if not rows:
        raise ConfigError(
            f"segmentation.assign_only: {s.SEGMENT_MODELS.name} has no segments of {catalogue.entity}s to assign to; "
            "run 'dlmine segment' with segmentation.assign_only=false once"
        )
    return from_row(rows[0].asDict(recursive=True), catalogue)


def _earlier_segments(lakehouse: Lakehouse, catalogue: Catalogue) -> DataFrame | None:
    """The segments that the entities have had so far, whose numbers are to be kept; None where there are none."""
    if not lakehouse.adopt(s.SEGMENTS.name):
        return None
    try:
        segments = lakehouse.read(s.SEGMENTS.name)
    except TableContractError as error:
        log.warning("segments are numbered by size, not as before: %s", error)
        return None
    return segments.where(F.col("entity") == catalogue.entity).select(ENTITY_ID, "segment")


def _sampled(features: DataFrame, name: str) -> DataFrame:
    return F.broadcast(sample_of(features).select(F.col(ENTITY_ID).alias(name)))


def _middle(known: DataFrame, day: Column) -> Moment | None:
    """The middle between the first and the last date; None where there is no date (one aggregation)."""
    ends = known.agg(F.min(day).alias("first"), F.max(day).alias("last")).collect()[0]
    middle: Moment | None = None
    if ends["first"] is not None:
        middle = ends["first"] + (ends["last"] - ends["first"]) // 2
    return middle


def _halves(rows: DataFrame, day: Column, middle: Moment | None) -> list[DataFrame]:
    """The rows up to the middle of history, and those after it; none where history has no middle."""
    if middle is None:
        return []
    bound = F.expr(sql_literal(middle))
    return [rows.where(day <= bound), rows.where(day > bound)]


def _with_agreement(config: Config, found: Segmentation, catalogue: Catalogue, halves: Sequence[DataFrame]) -> Found:
    if found.k < 2 or not halves:
        return Found(found, None)
    first, second = halves
    return Found(found, agreement(first, second, catalogue, found.k, config.segmentation))


def _count(found: Found) -> SegmentCount:
    one = found.segmentation
    return SegmentCount(one.entity, one.sizes, one.silhouette, found.agreement, one.outliers)


def _models(lakehouse: Lakehouse, found: Sequence[Segmentation]) -> DataFrame:
    now = datetime.now(UTC)
    rows = [to_row(one.model, lakehouse.run_id, now) for one in found]
    return lakehouse.spark.createDataFrame(rows, s.SEGMENT_MODELS.ddl)


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
