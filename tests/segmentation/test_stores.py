"""Series of a panel: their features on Spark, and planted kinds of stores."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark.config import SegmentationConfig
from dlmine_spark.segmentation.features import STORES
from dlmine_spark.segmentation.stores import segment_stores, store_features
from tests.segmentation.examples import START, adjusted_rand, panel, rows_of, stores_of_two_kinds

pytestmark = pytest.mark.spark


def by_name(features: DataFrame) -> dict[str, dict[str, float]]:
    return {row["entity_id"]: dict(zip(STORES.names, row["values"], strict=True)) for row in features.collect()}


def test_only_open_and_known_values_that_were_not_filled_in_count(spark: SparkSession) -> None:
    usable = rows_of("a", 14, lambda day: 10.0 + day % 7)
    spoilt = [
        ("a", START + timedelta(days=14), 999.0, 0, False),
        ("a", START + timedelta(days=15), 999.0, 1, True),
        ("a", START + timedelta(days=16), None, 1, False),
        ("a", START + timedelta(days=17), float("nan"), 1, False),
    ]
    described = by_name(store_features(panel(spark, usable + spoilt), None))["a"]
    assert described["average level"] == 13.0
    assert described["closed share"] == pytest.approx(1 / 18)
    assert described["Monday share"] == pytest.approx(10 / 91)


def test_promotions_are_used_where_the_panel_has_them(spark: SparkSession) -> None:
    rows = rows_of("a", 28, lambda day: 150.0 if day % 4 == 0 else 100.0)
    promoted = panel(spark, rows).withColumn("promo", F.date_diff("ds", F.lit(START)) % 4 == 0)
    assert by_name(store_features(promoted, "promo"))["a"]["promotion uplift"] == pytest.approx(0.5)
    unknown = by_name(store_features(promoted.drop("promo"), "promo"))["a"]["promotion uplift"]
    assert unknown is None


def test_planted_kinds_are_found_whatever_the_size_of_the_store(spark: SparkSession) -> None:
    rows, kinds = stores_of_two_kinds()
    segmentation = segment_stores(panel(spark, rows), SegmentationConfig(), None)
    assert segmentation is not None
    assigned = {row["entity_id"]: row["segment"] for row in segmentation.assignments.collect()}
    assert adjusted_rand(list(kinds.values()), [assigned[name] for name in kinds]) == 1.0
    saturday = {row["segment"]: row for row in segmentation.profiles.where("feature = 'Saturday share'").collect()}
    assert segmentation.sizes == (4, 3)
    assert saturday[0]["mean"] == pytest.approx(3 / 11, abs=0.01)
    assert saturday[1]["mean"] == pytest.approx(1 / 17, abs=0.01)
    assert saturday[0]["z"] > 0 > saturday[1]["z"]


def test_a_series_without_values_gets_a_segment_too(spark: SparkSession) -> None:
    rows, _ = stores_of_two_kinds()
    segmentation = segment_stores(
        panel(spark, rows + rows_of("unknown", 42, lambda day: None)), SegmentationConfig(k=2), None
    )
    assert segmentation is not None
    assert segmentation.entities == 8
    row = segmentation.assignments.where("entity_id = 'unknown'").collect()[0]
    assert sum(row["membership"]) == pytest.approx(1.0)


def test_all_series_without_values_are_one_segment(spark: SparkSession) -> None:
    rows = rows_of("a", 3, lambda day: None) + rows_of("b", 3, lambda day: None)
    segmentation = segment_stores(panel(spark, rows), SegmentationConfig(), None)
    assert segmentation is not None
    assert segmentation.sizes == (2,)
    assert [row["feature"] for row in segmentation.profiles.collect()] == ["closed share"]
