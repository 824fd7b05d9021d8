"""Segments of customers: recency, frequency and monetary value of their baskets, and how they shop."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import SegmentationConfig
from dlmine_spark.segmentation.features import (
    CUSTOMERS,
    ENTITY_ID,
    FREQUENCY,
    ITEMS_PER_BASKET,
    MONETARY,
    RECENCY,
    SPEND_PER_BASKET,
    VALUES,
    WEEKEND,
)
from dlmine_spark.segmentation.segments import Segmentation, segment
from dlmine_spark.spend import spend

DATE, AMOUNT, LINES = "date", "amount", "lines"


def customer_features(lines: DataFrame) -> DataFrame:
    """Describe every customer: one row each with ``entity_id`` and ``values`` in the order of ``CUSTOMERS``.

    ``days since last visit`` counts back from the last date of any line; ``baskets`` are different basket ids;
    ``total spend`` sums quantity times price (a line without quantity counts once, one without price not at all),
    ``spend per basket`` is its mean over baskets; ``items per basket`` are lines; ``weekend share`` is that of the
    baskets begun on Saturday or Sunday.

    Args:
        lines: ``silver.lines``; those without customer or time are left out.
    """
    dated = lines.where(F.col(s.TS).isNotNull())
    last = dated.agg(F.to_date(F.max(s.TS)).alias("last"))
    baskets = (
        dated.where(F.col(s.CUSTOMER_ID).isNotNull())
        .groupBy(s.CUSTOMER_ID, s.BASKET_ID)
        .agg(
            F.to_date(F.min(s.TS)).alias(DATE),
            F.sum(spend()).alias(AMOUNT),
            F.count(F.lit(1)).alias(LINES),
        )
    )
    features = {
        RECENCY: F.date_diff(F.first("last"), F.max(DATE)),
        FREQUENCY: F.count(F.lit(1)),
        MONETARY: F.sum(AMOUNT),
        SPEND_PER_BASKET: F.avg(AMOUNT),
        ITEMS_PER_BASKET: F.avg(LINES),
        WEEKEND: F.avg((F.weekday(DATE) >= 5).cast("double")),
    }
    values = F.array(*(F.coalesce(features[name].cast("double"), F.lit(float("nan"))) for name in CUSTOMERS.names))
    return baskets.crossJoin(F.broadcast(last)).groupBy(F.col(s.CUSTOMER_ID).alias(ENTITY_ID)).agg(values.alias(VALUES))


def segment_customers(lines: DataFrame, config: SegmentationConfig) -> Segmentation | None:
    """Segments of the customers of basket lines; None where no dated line has a customer.

    As with ``segment_stores``, a pipeline stores the features first.
    """
    return segment(customer_features(lines), CUSTOMERS, config)
