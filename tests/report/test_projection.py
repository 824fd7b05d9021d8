from __future__ import annotations

import numpy as np
import pytest

from dlmine_spark.report.projection import project


def assigned(points: np.ndarray, centres: np.ndarray) -> tuple[list[int], np.ndarray, np.ndarray]:
    """What ``gold.segments`` has of points: segment, distance to its centre, memberships."""
    squares = ((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2)
    segment = squares.argmin(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (1 / squares) / (1 / squares).sum(axis=1, keepdims=True)
    on_centre = squares.min(axis=1) == 0
    shares[on_centre] = np.eye(len(centres))[segment[on_centre]]
    return segment.tolist(), np.sqrt(squares.min(axis=1)), shares


def test_distances_on_the_map_are_those_of_the_projection() -> None:
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(3, 7))
    points = np.vstack([rng.normal(size=(50, 7)), centres[1]])

    mapped = project(centres, *assigned(points, centres))

    assert mapped is not None
    places, middles = mapped
    # Three centres span a plane; in it, the map is exact up to a turn.
    middle = centres - centres.mean(axis=0)
    plane = np.linalg.svd(middle, full_matrices=False)[2][:2]
    flat = (points - centres.mean(axis=0)) @ plane.T
    flat_centres = middle @ plane.T
    expected = np.linalg.norm(flat[:, None] - flat_centres[None], axis=2)
    assert np.linalg.norm(places[:, None] - middles[None], axis=2) == pytest.approx(expected, abs=1e-9)
    assert places[-1] == pytest.approx(middles[1], abs=1e-9)


def test_two_centres_give_a_line_and_the_distance_from_it() -> None:
    centres = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    points = np.array([[1.0, 2.0, 0.0], [3.0, 0.0, -1.0]])

    mapped = project(centres, *assigned(points, centres))

    assert mapped is not None
    places, middles = mapped
    assert middles.tolist() == [[-2.0, 0.0], [2.0, 0.0]]
    assert places == pytest.approx(np.array([[-1.0, 2.0], [1.0, 1.0]]))


@pytest.mark.parametrize("centres", [[[1.0, 2.0]], [[1.0, 2.0], [1.0, 2.0]], [[0.0], [1.0], [2.0]]])
def test_where_there_is_nothing_to_compare_there_is_no_map(centres: list[list[float]]) -> None:
    assert project(centres, [0], [0.5], [[0.5, 0.5]]) is None
