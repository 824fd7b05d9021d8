"""A model kept as a row and as MLlib's files assigns as it did."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pyspark.ml.clustering import KMeansModel
from pyspark.ml.functions import array_to_vector
from pyspark.sql import SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.errors import TableContractError
from dlmine_spark.segmentation.features import Block, Catalogue
from dlmine_spark.segmentation.models import from_row, save_for_mllib, to_row
from dlmine_spark.segmentation.scaling import Scaling, fit_scaling
from dlmine_spark.segmentation.segments import SegmentModel

pytestmark = pytest.mark.spark

PLANE = Catalogue("store", (Block(("size",), skewed=True), Block(("same",)), Block(("x", "y"), weight=2.0)))


def a_model() -> SegmentModel:
    rng = np.random.default_rng(7)
    values = np.column_stack([rng.gamma(2, 90, 30), np.ones(30), rng.normal(size=(30, 2))])
    scaling = fit_scaling(values, PLANE)
    return SegmentModel(PLANE, scaling, scaling.coordinates(values)[:3], (1.5, float("inf"), 0.25))


def test_a_row_gives_the_same_model_back(spark: SparkSession) -> None:
    model = a_model()
    written = spark.createDataFrame([to_row(model, "run", datetime(2024, 1, 1, tzinfo=UTC))], s.SEGMENT_MODELS.ddl)
    row = written.collect()[0].asDict(recursive=True)
    again = from_row(row, PLANE)
    assert (again.scaling, again.limits) == (model.scaling, model.limits)
    assert again.centres.tolist() == model.centres.tolist()
    assert (row["entity"], row["features"]) == ("store", ["size", "same", "x", "y"])


def test_one_segment_without_coordinates_survives_too(spark: SparkSession) -> None:
    model = SegmentModel(PLANE, Scaling(()), np.empty((1, 0)), (float("inf"),))
    row = spark.createDataFrame([to_row(model, "run", datetime(2024, 1, 1))], s.SEGMENT_MODELS.ddl).collect()[0]
    assert from_row(row.asDict(recursive=True), PLANE).centres.shape == (1, 0)


def test_a_model_of_other_features_is_refused(spark: SparkSession) -> None:
    row = {"features": ["size", "same", "x"]}
    with pytest.raises(TableContractError, match=r"fitted on other features \(y\); fit them anew with segmentation"):
        from_row(row, PLANE)


def test_mllib_loads_the_centres_and_predicts_the_same_segments(spark: SparkSession, tmp_path: Path) -> None:
    model = a_model()
    save_for_mllib(spark, model.centres, str(tmp_path / "model"))
    loaded = KMeansModel.load(str(tmp_path / "model"))
    assert np.array(loaded.clusterCenters()).tolist() == model.centres.tolist()

    rng = np.random.default_rng(8)
    rows = [(f"e{n}", [float(rng.gamma(2, 90)), 1.0, *rng.normal(size=2).tolist()]) for n in range(20)]
    placed = model.place(spark.createDataFrame(rows, "entity_id string, values array<double>"))
    predicted = loaded.transform(placed.withColumn("features", array_to_vector("point"))).collect()
    assert [row["prediction"] for row in predicted] == [row["segment"] for row in predicted]
    assert len({row["segment"] for row in predicted}) == 3
