"""From features to numbered segments: what is found, and that it does not depend on how the rows lie."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import SegmentationConfig
from dlmine_spark.segmentation import segments as module
from dlmine_spark.segmentation.features import Block, Catalogue
from dlmine_spark.segmentation.kmeans import assign
from dlmine_spark.segmentation.segments import Segmentation, place, segment
from tests.segmentation.examples import adjusted_rand

pytestmark = pytest.mark.spark

PLANE = Catalogue("store", (Block(("x", "y")),))
AUTO = SegmentationConfig()


def features(spark: SparkSession, points: dict[str, tuple[float, ...]]) -> DataFrame:
    rows = [(name, [float(value) for value in values]) for name, values in points.items()]
    return spark.createDataFrame(rows, "entity_id string, values array<double>")


def three_groups() -> dict[str, tuple[float, float]]:
    """Groups of 6, 4 and 2 entities around three corners."""
    rng = np.random.default_rng(9)
    corners = [(0.0, 0.0)] * 4 + [(10.0, 0.0)] * 6 + [(0.0, 10.0)] * 2
    return {
        f"e{number:02d}": (x + float(rng.normal(0, 0.3)), y + float(rng.normal(0, 0.3)))
        for number, (x, y) in enumerate(corners)
    }


def found(segmentation: Segmentation | None) -> Segmentation:
    assert segmentation is not None
    return segmentation


def numbers(segmentation: Segmentation) -> dict[str, int]:
    return {row["entity_id"]: row["segment"] for row in segmentation.assignments.collect()}


def test_planted_groups_are_found_counted_and_described(spark: SparkSession) -> None:
    points = three_groups()
    segmentation = found(segment(features(spark, points), PLANE, AUTO))

    assert segmentation.sizes == (6, 4, 2)
    assert segmentation.silhouette is not None
    assert segmentation.silhouette > 0.9
    assert numbers(segmentation) == {name: 1 if i < 4 else 0 if i < 10 else 2 for i, name in enumerate(points)}
    assert segmentation.assignments.columns == s.SEGMENTS.names

    values = np.array(list(points.values()))
    profile = {(row["segment"], row["feature"]): row for row in segmentation.profiles.collect()}
    assert set(profile) == {(number, name) for number in range(3) for name in ("x", "y")}
    row = profile[0, "x"]
    assert (row["entity"], row["size"]) == ("store", 6)
    assert row["mean"] == pytest.approx(values[4:10, 0].mean())
    assert row["z"] == pytest.approx((values[4:10, 0].mean() - values[:, 0].mean()) / values[:, 0].std())


def test_rows_and_partitions_do_not_matter(spark: SparkSession) -> None:
    points = three_groups()
    shuffled = dict(sorted(points.items(), key=lambda item: item[1]))
    one = found(segment(features(spark, points).coalesce(1), PLANE, AUTO))
    other = found(segment(features(spark, shuffled).repartition(5), PLANE, AUTO))
    assert numbers(one) == numbers(other)
    assert np.allclose(one.model.centres, other.model.centres)


def test_a_sample_chooses_and_everyone_is_assigned(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 20)
    rng = np.random.default_rng(10)
    planted = {f"e{n}": n % 2 for n in range(60)}
    points = {name: (10.0 * kind + rng.normal(), rng.normal()) for name, kind in planted.items()}
    segmentation = found(segment(features(spark, points), PLANE, AUTO))
    assert segmentation.entities == 60
    assigned = numbers(segmentation)
    assert adjusted_rand([planted[name] for name in points], [assigned[name] for name in points]) == 1.0


def test_membership_is_by_inverse_squared_distance_and_sums_to_one(spark: SparkSession) -> None:
    centres = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 6.0]])
    rows = [("between", [1.0, 0.0]), ("on a centre", [3.0, 0.0]), ("tied", [1.5, 0.0])]
    placed = spark.createDataFrame(rows, "entity_id string, point array<double>")
    assigned = {row["entity_id"]: row for row in assign(placed, centres).collect()}

    inverse = np.array([1 / 1, 1 / 4, 1 / 37])
    assert assigned["between"]["membership"] == pytest.approx(inverse / inverse.sum())
    assert (assigned["between"]["segment"], assigned["between"]["distance"]) == (0, 1.0)
    assert assigned["on a centre"]["membership"] == [0.0, 1.0, 0.0]
    assert (assigned["on a centre"]["segment"], assigned["on a centre"]["distance"]) == (1, 0.0)
    assert assigned["tied"]["segment"] == 0
    for row in assigned.values():
        assert sum(row["membership"]) == pytest.approx(1.0)


def test_a_new_entity_is_assigned_without_fitting_again(spark: SparkSession) -> None:
    segmentation = found(segment(features(spark, three_groups()), PLANE, SegmentationConfig(k=3)))
    row = segmentation.model.assign(features(spark, {"new": (9.0, 1.0), "unknown": (np.nan, np.nan)})).collect()
    assert [one["segment"] for one in row if one["entity_id"] == "new"] == [0]
    assert all(sum(one["membership"]) == pytest.approx(1.0) for one in row)


def test_mllib_and_blocks_find_the_same_groups(spark: SparkSession) -> None:
    table = features(spark, three_groups())
    theirs = found(segment(table, PLANE, SegmentationConfig(engine="mllib")))
    ours = found(segment(table, PLANE, SegmentationConfig(engine="blocked")))
    assert numbers(theirs) == numbers(ours)
    assert np.allclose(theirs.model.centres, ours.model.centres, atol=1e-5)


def test_entities_keep_the_number_of_their_segment(spark: SparkSession) -> None:
    points = three_groups()
    first = found(segment(features(spark, points), PLANE, AUTO))
    # Now the smallest group is the largest, and one of its old members has moved to another.
    rng = np.random.default_rng(12)
    grown = {**points, **{f"new{n}": (float(rng.normal(0, 0.3)), 10 + float(rng.normal(0, 0.3))) for n in range(9)}}
    grown["e11"] = (10.0, 0.0)
    again = found(segment(features(spark, grown), PLANE, AUTO, first.assignments))
    assert first.sizes == (6, 4, 2)
    assert again.sizes == (7, 4, 10)
    before, now = numbers(first), numbers(again)
    assert {name: now[name] for name in before} == {**before, "e11": 0}
    assert {now[f"new{n}"] for n in range(9)} == {2}
    membership = {row["entity_id"]: row["membership"] for row in again.assignments.collect()}
    assert max(range(3), key=membership["new0"].__getitem__) == 2


def test_placed_entities_leave_the_segments_as_they_were(spark: SparkSession) -> None:
    points = three_groups()
    fitted = found(segment(features(spark, points), PLANE, AUTO))
    others = {"a": (9.0, 1.0), "b": (10.0, 0.0), "c": (1.0, 9.0)}
    placed = found(place(features(spark, others), fitted.model))
    assert numbers(placed) == {"a": 0, "b": 0, "c": 2}
    assert placed.sizes == (2, 0, 1)
    assert {row["segment"] for row in placed.profiles.where("mean is null").collect()} == {1}
    assert placed.model.centres.tolist() == fitted.model.centres.tolist()
    assert place(features(spark, others).where(F.lit(False)), fitted.model) is None


def test_an_entity_far_from_every_centre_is_marked(spark: SparkSession) -> None:
    rng = np.random.default_rng(13)
    corners = [(0.0, 0.0), (30.0, 0.0)]
    points = {f"e{n}": tuple(corners[n % 2] + rng.normal(size=2)) for n in range(60)}
    points["odd"] = (15.0, 500.0)
    segmentation = found(segment(features(spark, points), PLANE, SegmentationConfig(k=2)))
    assert {row["entity_id"] for row in segmentation.assignments.where("is_outlier").collect()} == {"odd"}
    assert segmentation.outliers == 1
    assert segmentation.assignments.where("is_outlier is null").isEmpty()


@pytest.mark.parametrize(
    "points",
    [{"only": (1.0, 2.0)}, {"a": (1.0, 2.0), "b": (1.0, 2.0)}, {"a": (np.nan, np.nan), "b": (np.nan, np.nan)}],
    ids=["one entity", "all the same", "nothing known"],
)
def test_where_nothing_can_be_told_apart_there_is_one_segment(
    spark: SparkSession, points: dict[str, tuple[float, float]]
) -> None:
    segmentation = found(segment(features(spark, points), PLANE, AUTO))
    assert (segmentation.sizes, segmentation.silhouette) == ((len(points),), None)
    for row in segmentation.assignments.collect():
        assert (row["segment"], row["distance"], row["membership"]) == (0, 0.0, [1.0])


def test_no_entity_no_segments(spark: SparkSession) -> None:
    assert segment(features(spark, {"a": (1.0, 1.0)}).where(F.lit(False)), PLANE, AUTO) is None


def test_more_segments_than_different_entities(spark: SparkSession, caplog: pytest.LogCaptureFixture) -> None:
    points = {"a": (0.0, 0.0), "b": (0.0, 0.0), "c": (5.0, 1.0), "d": (0.0, 9.0)}
    with caplog.at_level(logging.WARNING):
        segmentation = found(segment(features(spark, points), PLANE, SegmentationConfig(k=6)))
    assert segmentation.sizes == (2, 1, 1)
    assert "segmentation.k is 6, but of stores only 3 differ from each other" in caplog.text
    assert numbers(segmentation)["a"] == numbers(segmentation)["b"] == 0
