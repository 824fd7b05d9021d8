"""Customers of basket lines: recency, frequency, money by hand, and planted kinds."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.config import SegmentationConfig
from dlmine_spark.segmentation.customers import customer_features, segment_customers
from dlmine_spark.segmentation.features import CUSTOMERS
from tests.segmentation.examples import adjusted_rand

pytestmark = pytest.mark.spark

FRIDAY = datetime(2024, 3, 1, 18, 30)

Line = tuple[str | None, datetime | None, str, float | None, float | None, str | None, str | None]


def lines(spark: SparkSession, rows: list[Line]) -> DataFrame:
    return spark.createDataFrame(rows, s.LINES.ddl)


def test_features_by_hand(spark: SparkSession) -> None:
    saturday = FRIDAY + timedelta(days=1)
    rows: list[Line] = [
        ("1", FRIDAY, "milk", 2.0, 1.5, "ann", None),
        ("1", FRIDAY + timedelta(minutes=1), "bread", None, 4.0, "ann", None),
        ("2", saturday, "milk", 1.0, 1.0, "ann", None),
        ("3", FRIDAY, "milk", 1.0, None, "bob", None),
        ("4", saturday + timedelta(days=9), "milk", 9.0, 9.0, None, None),
        ("5", None, "milk", 9.0, 9.0, "carl", None),
    ]
    features = {row["entity_id"]: row["values"] for row in customer_features(lines(spark, rows)).collect()}
    named = {name: dict(zip(CUSTOMERS.names, values, strict=True)) for name, values in features.items()}
    assert set(named) == {"ann", "bob"}
    assert named["ann"] == {
        "days since last visit": 9.0,
        "baskets": 2.0,
        "total spend": 8.0,
        "spend per basket": 4.0,
        "items per basket": 1.5,
        "weekend share": 0.5,
    }
    assert named["bob"]["baskets"] == 1.0
    assert np.isnan(named["bob"]["total spend"])


def test_planted_kinds_are_found(spark: SparkSession) -> None:
    """Regulars with small baskets, rare ones with large baskets, and regulars who stayed away."""
    rng = np.random.default_rng(11)
    kinds, rows = {}, []
    for number in range(24):
        kind = number % 3
        customer = f"c{number}"
        kinds[customer] = kind
        every, price, last = ((5, 10.0, 300), (60, 90.0, 300), (5, 10.0, 60))[kind]
        for day in range(last - int(rng.integers(0, 3)), 0, -every):
            spent = price * float(np.exp(rng.normal(0, 0.1)))
            rows.append((f"{customer}-{day}", FRIDAY + timedelta(days=day), "x", 1.0, spent, customer, None))
    segmentation = segment_customers(lines(spark, rows), SegmentationConfig())
    assert segmentation is not None
    assigned = {row["entity_id"]: row["segment"] for row in segmentation.assignments.collect()}
    assert segmentation.sizes == (8, 8, 8)
    assert adjusted_rand(list(kinds.values()), [assigned[name] for name in kinds]) == 1.0
    assert {row["entity"] for row in segmentation.assignments.collect()} == {"customer"}


def test_lines_without_customers_have_no_segments(spark: SparkSession) -> None:
    rows: list[Line] = [("1", FRIDAY, "milk", 1.0, 1.0, None, None)]
    assert segment_customers(lines(spark, rows), SegmentationConfig()) is None
