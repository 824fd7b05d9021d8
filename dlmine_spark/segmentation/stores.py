"""Segments of stores: series of the panel by how they behave."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import SegmentationConfig
from dlmine_spark.segmentation.features import ENTITY_ID, STORES, VALUES
from dlmine_spark.segmentation.segments import Segmentation, segment
from dlmine_spark.segmentation.shape import describe_series, in_order

DAY, PROMOTED = "day", "promoted"


def store_features(panel: DataFrame, promo: str | None) -> DataFrame:
    """Describe every series: one row per series with ``entity_id`` and ``values`` in the order of ``STORES``.

    One aggregation by series: a task holds one series at a time, and what it returns has some thirty numbers.

    Args:
        panel: ``silver.panel`` up to the date that may be known; only values that are open and not imputed count.
        promo: covariate above 0 on promoted dates; left out where the panel does not have it.
    """
    is_usable = F.col(s.Y).isNotNull() & ~F.coalesce(F.col(s.Y_IMPUTED), F.lit(False))
    columns = [
        F.col(s.UNIQUE_ID),
        _day(panel).alias(DAY),
        F.when(is_usable, F.col(s.Y)).alias(s.Y),
        (F.coalesce(F.col(s.OPEN), F.lit(1)) != 0).alias(s.OPEN),
    ]
    if promo is not None and promo in panel.columns:
        columns.append(F.coalesce(F.col(f"`{promo}`").cast("double") > 0, F.lit(False)).alias(PROMOTED))
    return (
        panel.where(F.col(s.UNIQUE_ID).isNotNull() & F.col(s.DS).isNotNull())
        .select(*columns)
        .groupBy(s.UNIQUE_ID)
        .applyInPandas(_describe, schema=f"{ENTITY_ID} string, {VALUES} array<double>")
    )


def _day(panel: DataFrame) -> Column:
    """Days since 1970; where steps are only counted, always the same one, since they lie in no week and no year."""
    has_calendar = dict(panel.dtypes)[s.DS] != "int"
    return (F.unix_date(F.to_date(s.DS)) if has_calendar else F.lit(0)).cast("long")


def _describe(rows: pd.DataFrame) -> pd.DataFrame:
    features = describe_series(
        rows[DAY].to_numpy(dtype=np.int64),
        rows[s.Y].to_numpy(dtype=np.float64, na_value=np.nan),
        rows[s.OPEN].to_numpy(dtype=np.bool_),
        rows[PROMOTED].to_numpy(dtype=np.bool_) if PROMOTED in rows else None,
    )
    return pd.DataFrame({ENTITY_ID: [rows[s.UNIQUE_ID].iloc[0]], VALUES: [in_order(features, STORES.names)]})


def segment_stores(panel: DataFrame, config: SegmentationConfig, promo: str | None) -> Segmentation | None:
    """Segments of the series of a panel; None where it has no series.

    The features are computed anew by each action on the result: a pipeline stores them first and gives them to
    ``segment`` (see ``pipelines.segment``).
    """
    return segment(store_features(panel, promo), STORES, config)
