"""The blocked engine on Spark: on the driver or in batches, in any order and parts, the same centres to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark.config import SegmentationConfig
from dlmine_spark.segmentation import blocked
from dlmine_spark.segmentation.blocked import fit_by_blocks
from dlmine_spark.segmentation.kmeans import fit_by_mllib

pytestmark = pytest.mark.spark

CONFIG = SegmentationConfig()


def points(each: int = 40) -> dict[str, np.ndarray]:
    """Four round groups in three dimensions, in no order."""
    rng = np.random.default_rng(4)
    corners = np.array([[0.0, 0.0, 0.0], [6.0, 0.0, 1.0], [0.0, 6.0, -1.0], [6.0, 6.0, 3.0]])
    placed = np.repeat(corners, each, axis=0) + rng.normal(size=(4 * each, 3))
    return {f"e{number}": placed[number] for number in rng.permutation(4 * each)}


def frame(spark: SparkSession, of: dict[str, np.ndarray]) -> DataFrame:
    rows = [(name, point.tolist()) for name, point in of.items()]
    return spark.createDataFrame(rows, "entity_id string, point array<double>")


def fitted(placed: DataFrame, entities: int = 160, k: int = 4) -> np.ndarray:
    return fit_by_blocks(placed, entities, 3, k, CONFIG)


def test_driver_and_batches_agree_whatever_order_and_partitions(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked, "START_SAMPLE", 50)
    monkeypatch.setattr(blocked, "ROWS_PER_TASK", 30)
    of = points()
    backwards = dict(reversed(of.items()))
    on_driver = fitted(frame(spark, of))
    assert fitted(frame(spark, backwards)).tobytes() == on_driver.tobytes()
    monkeypatch.setattr(blocked, "DRIVER_COORDINATES", 0)
    for placed in (frame(spark, of).repartition(5), frame(spark, backwards).coalesce(1)):
        assert fitted(placed).tobytes() == on_driver.tobytes()


def test_centres_are_the_means_of_the_planted_groups(spark: SparkSession) -> None:
    of = points()
    centres = fitted(frame(spark, of))
    values = np.stack(list(of.values()))
    nearest = ((values[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    for number, centre in enumerate(centres):
        assert centre == pytest.approx(values[nearest == number].mean(axis=0), abs=1e-5)
    inertia = ((values - centres[nearest]) ** 2).sum()
    assert inertia == pytest.approx(3 * 160, rel=0.15)


def test_inertia_is_no_worse_than_mllibs(spark: SparkSession) -> None:
    of = points()
    placed, values = frame(spark, of), np.stack(list(of.values()))

    def inertia(centres: np.ndarray) -> float:
        return float(((values[:, None] - centres) ** 2).sum(axis=2).min(axis=1).sum())

    theirs = fit_by_mllib(placed, 160, 6, CONFIG.model_copy(update={"restarts": 1}), 0.0)
    assert inertia(fitted(placed, k=6)) <= 1.001 * inertia(theirs)


@pytest.mark.parametrize("most", [0, 1_000], ids=["batches", "driver"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_a_coordinate_that_is_no_number_is_refused(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, most: int, value: float
) -> None:
    monkeypatch.setattr(blocked, "DRIVER_COORDINATES", most)
    placed = frame(spark, {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([1.0, value, 3.0])})
    with pytest.raises(ValueError, match="not a finite 32-bit float"):
        fitted(placed, entities=2, k=2)


def test_points_that_are_all_the_same_have_one_centre(spark: SparkSession) -> None:
    assert fitted(frame(spark, dict.fromkeys("abc", np.full(3, 0.25))), entities=3, k=2).tolist() == [[0.25] * 3]
