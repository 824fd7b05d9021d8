"""Features on one scale: the same on arrays and on Spark, and no odd entity decides."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import SparkSession

from dlmine_spark.segmentation.features import Block, Catalogue
from dlmine_spark.segmentation.scaling import fit_scaling

TWO = Catalogue("store", (Block(("size",), skewed=True), Block(("a", "b"), weight=2.0)))


def table() -> np.ndarray:
    rng = np.random.default_rng(8)
    return np.column_stack([np.exp(rng.normal(6, 2, 50)), rng.normal(5, 3, 50), rng.normal(0, 0.3, 50)])


def test_a_block_varies_as_much_as_it_weighs_and_keeps_its_proportions() -> None:
    values = table()
    points = fit_scaling(values, TWO).coordinates(values)
    assert points.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-9)
    assert points[:, 0].std() == pytest.approx(1.0)
    assert np.sqrt(points[:, 1:].var(axis=0).sum()) == pytest.approx(2.0)
    assert points[:, 1].std() / points[:, 2].std() == pytest.approx(values[:, 1].std() / values[:, 2].std(), rel=0.05)


def test_an_odd_store_does_not_stretch_the_scale() -> None:
    values = table()
    odd = values.copy()
    odd[0] = [1e12, -1e6, 1e6]
    usual, disturbed = fit_scaling(values, TWO), fit_scaling(odd, TWO)
    for before, after in zip(usual.axes, disturbed.axes, strict=True):
        assert after.weight == pytest.approx(before.weight, rel=0.3)
    # Still the farthest from the middle, but by a handful of standard deviations only.
    farthest = np.abs(disturbed.coordinates(odd)).max(axis=1)
    assert farthest.argmax() == 0
    assert farthest[0] < 10


def test_what_differs_less_than_is_worth_telling_weighs_less() -> None:
    values = np.column_stack([np.linspace(0.50, 0.51, 40)])
    spread = float(values.std())
    catalogue = Catalogue("store", (Block(("share",), least=10 * spread),))
    assert fit_scaling(values, catalogue).coordinates(values).std() == pytest.approx(0.1)


def test_missing_values_are_in_the_middle_and_constant_features_leave() -> None:
    values = np.array([[1.0, 4.0, np.nan], [np.nan, 4.0, np.nan], [3.0, 4.0, np.nan], [8.0, 4.0, np.nan]])
    catalogue = Catalogue("store", (Block(("a",)), Block(("same",)), Block(("unknown",))))
    scaling = fit_scaling(values, catalogue)
    assert [axis.position for axis in scaling.axes] == [0]
    points = scaling.coordinates(values)[:, 0]
    assert points[1] == pytest.approx(points[2])


def test_the_few_that_have_a_feature_do_not_become_extraordinary_by_it() -> None:
    values = np.full((40, 1), np.nan)
    values[:4, 0] = [1.0, 2.0, 3.0, 4.0]
    points = fit_scaling(values, Catalogue("store", (Block(("a",)),))).coordinates(values)
    assert points[:4, 0].std() == pytest.approx(1.0)
    assert np.abs(points).max() < 1.5


@pytest.mark.spark
def test_spark_and_arrays_agree(spark: SparkSession) -> None:
    values = table()
    values[3, 1] = np.nan
    values[4] = [-50.0, np.inf, 99.0]
    scaling = fit_scaling(values, TWO)
    rows = [(number, row.tolist()) for number, row in enumerate(values)]
    frame = spark.createDataFrame(rows, "number int, values array<double>")
    points = frame.orderBy("number").select(scaling.column("values").alias("point")).collect()
    assert np.array([row["point"] for row in points]) == pytest.approx(scaling.coordinates(values))
