"""Limits beyond which an entity is far from every centre."""

from __future__ import annotations

import numpy as np
import pytest

from dlmine_spark.segmentation.outliers import FAR, limits


def test_a_limit_by_hand() -> None:
    # Distances 1 to 11: median 6, absolute deviations 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5 with the median 3.
    points = np.arange(1.0, 12.0)[:, None]
    assert limits(points, np.array([[0.0]])) == pytest.approx((6 + FAR * 1.4826 * 3,))


def test_a_few_odd_ones_do_not_move_it() -> None:
    rng = np.random.default_rng(5)
    calm = rng.normal(size=(300, 3))
    odd = calm.copy()
    odd[:15] *= 1_000
    centre = np.zeros((1, 3))
    assert limits(odd, centre)[0] == pytest.approx(limits(calm, centre)[0], rel=0.1)
    far = np.sqrt((odd**2).sum(axis=1)) > limits(odd, centre)[0]
    assert far[:15].all()
    assert not far[15:].any()


def test_a_segment_has_its_own_limit_and_a_small_one_that_of_all() -> None:
    rng = np.random.default_rng(6)
    tight, wide, small = rng.normal(0, 0.1, (50, 2)), rng.normal(0, 1, (50, 2)) + 50, np.array([[99.0, 0.0]])
    centres = np.array([[0.0, 0.0], [50.0, 50.0], [99.0, 0.0]])
    first, second, third = limits(np.vstack([tight, wide, small]), centres)
    assert first < 1 < 3 < second
    around_one = np.vstack([tight, wide - 50, [[0.0, 0.0]]])
    assert third == pytest.approx(limits(around_one, np.zeros((1, 2)))[0])


def test_where_most_are_alike_nobody_is_an_outlier() -> None:
    assert limits(np.array([[0.0]] * 9 + [[50.0]] * 3), np.array([[0.0]])) == (float("inf"),)
