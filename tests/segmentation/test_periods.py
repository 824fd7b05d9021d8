"""Segments of two halves of history, compared."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark.config import SegmentationConfig
from dlmine_spark.segmentation.features import Block, Catalogue
from dlmine_spark.segmentation.periods import agreement

pytestmark = pytest.mark.spark

LINE = Catalogue("store", (Block(("x",)),))
CONFIG = SegmentationConfig()


def table(spark: SparkSession, kinds: dict[str, int]) -> DataFrame:
    rng = np.random.default_rng(9)
    rows = [(name, [10.0 * kind + float(rng.normal(0, 0.1))]) for name, kind in kinds.items()]
    return spark.createDataFrame(rows, "entity_id string, values array<double>")


def test_the_same_kinds_agree_and_unrelated_ones_do_not(spark: SparkSession) -> None:
    kinds = {f"s{n}": n % 2 for n in range(12)}
    swapped = {name: 1 - kind for name, kind in kinds.items()}
    crossed = {f"s{n}": n // 2 % 2 for n in range(12)}
    assert agreement(table(spark, kinds), table(spark, swapped), LINE, 2, CONFIG) == 1.0
    found = agreement(table(spark, kinds), table(spark, crossed), LINE, 2, CONFIG)
    assert found is not None
    assert found < 0.1


def test_only_entities_of_both_halves_count(spark: SparkSession) -> None:
    kinds = {f"s{n}": n % 2 for n in range(6)}
    new, gone = {f"n{n}": n % 2 for n in range(5)}, {f"g{n}": 1 for n in range(5)}
    assert agreement(table(spark, {**kinds, **gone}), table(spark, {**new, **kinds}), LINE, 2, CONFIG) == 1.0
    assert agreement(table(spark, gone), table(spark, new), LINE, 2, CONFIG) is None


def test_a_half_in_which_all_are_alike_cannot_be_compared(spark: SparkSession) -> None:
    kinds = {f"s{n}": n % 2 for n in range(6)}
    alike = spark.createDataFrame([(name, [1.0]) for name in kinds], "entity_id string, values array<double>")
    assert agreement(table(spark, kinds), alike, LINE, 2, CONFIG) is None
