"""The number of segments, silhouettes and agreement, without Spark where none is needed."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.evaluation import ClusteringEvaluator
from pyspark.ml.functions import array_to_vector
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dlmine_spark.segmentation.choice import Candidate, adjusted_rand, assess, choose, silhouette
from dlmine_spark.segmentation.lloyd import best_clusters
from tests.segmentation import examples


def blobs(k: int, each: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Round clusters on a line, ten standard deviations apart."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(k), each)
    return np.column_stack([10.0 * labels, np.zeros(len(labels))]) + rng.normal(size=(len(labels), 2)), labels


@pytest.mark.parametrize("k", [2, 3, 5])
def test_the_planted_number_is_chosen_and_the_clusters_are_found(k: int) -> None:
    points, planted = blobs(k, each=12)
    chosen = choose(assess(points, range(2, 8), max_iter=30, seed=7))
    assert chosen.k == k
    assert chosen.stability == 1.0
    assert chosen.silhouette > 0.9
    found = best_clusters(points, k, 10, 30, np.random.default_rng(1)).labels
    assert examples.adjusted_rand(planted.tolist(), found.tolist()) == 1.0


def test_among_equals_the_smallest_and_only_a_stable_one() -> None:
    def candidate(k: int, silhouette: float, stability: float) -> Candidate:
        return Candidate(k, silhouette, stability, 1.0)

    assert choose([candidate(2, 0.5, 1.0), candidate(3, 0.69, 1.0), candidate(4, 0.7, 1.0)]).k == 3
    assert choose([candidate(2, 0.5, 1.0), candidate(4, 0.7, 0.6)]).k == 2
    assert choose([candidate(2, 0.5, 0.4), candidate(4, 0.7, 0.6)]).k == 4


@pytest.mark.spark
def test_silhouette_is_that_of_mllib(spark: SparkSession) -> None:
    points, labels = blobs(3, each=4)
    labels = labels.copy()
    labels[-1] = 3  # a cluster of one
    labels[0] = 1  # and a member of the wrong one
    rows = [(point.tolist(), int(label)) for point, label in zip(points, labels, strict=True)]
    frame = spark.createDataFrame(rows, "point array<double>, prediction int").select(
        array_to_vector(F.col("point")).alias("features"), "prediction"
    )
    assert silhouette(points, labels) == pytest.approx(ClusteringEvaluator().evaluate(frame))


def test_silhouette_by_hand() -> None:
    # Squared distances on a line: for 0, a = 1 and b = (16 + 25) / 2; the others likewise.
    points = np.array([[0.0], [1.0], [4.0], [5.0]])
    outer, inner = (20.5 - 1) / 20.5, (12.5 - 1) / 12.5
    assert silhouette(points, np.array([0, 0, 1, 1])) == pytest.approx((outer + inner) / 2)
    assert silhouette(points, np.zeros(4, dtype=int)) == 0.0


def test_agreement_is_that_over_all_pairs() -> None:
    rng = np.random.default_rng(6)
    for _ in range(5):
        first, second = rng.integers(0, 4, 30), rng.integers(0, 3, 30)
        expected = examples.adjusted_rand(first.tolist(), second.tolist())
        assert adjusted_rand(first, second) == pytest.approx(expected)
    assert adjusted_rand(np.array([0, 0, 1]), np.array([5, 5, 2])) == 1.0
