"""k-means by exact sums: what is summed, where it ends, and that order and parts do not matter."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlmine_spark.segmentation import blocks
from dlmine_spark.segmentation.blocks import Grid, Sums, descend, fit_starts, sums_of_cells, total
from tests.segmentation.examples import adjusted_rand

SMALL = hnp.arrays(np.int64, st.tuples(st.integers(1, 40), st.just(3)), elements=st.integers(-9, 9))
CENTRES = hnp.arrays(np.int64, (2, 3, 3), elements=st.integers(-9, 9))


def by_hand(cells: np.ndarray, centres: np.ndarray) -> Sums:
    """Point by point, in Python's whole numbers."""
    sets, k, width = centres.shape
    counts = np.zeros((sets, k), dtype=object)
    totals = np.zeros((sets, k, width), dtype=object)
    rows = [[int(value) for value in row] for row in cells]
    for number in range(sets):
        for row in rows:
            away = [sum((x - int(c)) ** 2 for x, c in zip(row, centre, strict=True)) for centre in centres[number]]
            nearest = away.index(min(away))
            counts[number, nearest] += 1
            totals[number, nearest] += np.array(row, dtype=object)
    return Sums(counts, totals, sum(value * value for row in rows for value in row))


def assert_equal(one: Sums, other: Sums) -> None:
    assert one.counts.tolist() == other.counts.tolist()
    assert one.totals.tolist() == other.totals.tolist()
    assert one.squares == other.squares


@given(SMALL, CENTRES)
def test_sums_are_those_of_every_point_at_its_nearest_centre(cells: np.ndarray, centres: np.ndarray) -> None:
    assert_equal(sums_of_cells(cells.astype(float), centres), by_hand(cells, centres))


@pytest.mark.parametrize("width", [1, 16, 300])
def test_the_largest_coordinates_are_summed_without_rounding(width: int) -> None:
    rng = np.random.default_rng(1)
    # Just off a tie, and as far out as the grid goes: a last bit lost would decide otherwise.
    points = np.where(rng.random((60, width)) < 0.5, 1.0, -1.0) * (1 - rng.integers(0, 3, (60, width)) * 2.0**-22)
    grid = Grid.over(float(np.abs(points).max()), width)
    cells = grid.cells(points)
    centres = np.stack([cells[:3], cells[3:6]]).astype(np.int64)
    assert_equal(sums_of_cells(cells, centres), by_hand(cells, centres))


@given(SMALL, CENTRES, st.randoms(use_true_random=False))
def test_order_and_parts_do_not_matter(cells: np.ndarray, centres: np.ndarray, random: object) -> None:
    rng = np.random.default_rng(random.randint(0, 99))  # type: ignore[attr-defined]
    shuffled = cells[rng.permutation(len(cells))].astype(float)
    parts = np.array_split(shuffled, int(rng.integers(1, 6)))
    together = total((sums_of_cells(part, centres) for part in parts), centres.shape)
    assert_equal(together, sums_of_cells(cells.astype(float), centres))


@settings(max_examples=30)
@given(SMALL, st.randoms(use_true_random=False))
def test_shuffled_points_end_at_the_same_centres_to_the_bit(cells: np.ndarray, random: object) -> None:
    order = np.random.default_rng(random.randint(0, 99)).permutation(len(cells))  # type: ignore[attr-defined]
    one = cells.astype(float)
    starts = np.unique(cells, axis=0)[:2][None]
    fits = [descend(lambda c, p=p: sums_of_cells(p, c), starts, one, 30)[0] for p in (one, one[order])]
    assert fits[0].centres.tobytes() == fits[1].centres.tobytes()
    assert fits[0].inertia == fits[1].inertia


def test_inertia_is_the_sum_of_squared_distances_to_the_means() -> None:
    cells = np.array([[0.0, 0.0], [2.0, 0.0], [10.0, 1.0]])
    sums = sums_of_cells(cells, np.array([[[0, 0], [9, 9]], [[0, 0], [99, 99]]]))
    assert sums.inertia(0) == 2
    mean = cells.mean(axis=0)
    assert float(sums.inertia(1)) == pytest.approx(((cells - mean) ** 2).sum())
    assert sums.inertia(1) == Fraction(170, 3)


def test_planted_groups_are_found_from_a_sample() -> None:
    rng = np.random.default_rng(2)
    kinds = np.repeat(np.arange(5), 80)
    points = rng.uniform(-20, 20, (5, 4))[kinds] + rng.normal(size=(400, 4))
    cells = Grid.over(float(np.abs(points).max()), 4).cells(points)
    sample = cells[rng.permutation(400)[:100]]
    starts = fit_starts(sample, 5, 10, 30, 7)
    best = min(descend(lambda c: sums_of_cells(cells, c), starts, sample, 30), key=lambda fit: fit.inertia)
    nearest = ((cells[:, None] - best.centres) ** 2).sum(axis=2).argmin(axis=1)
    assert adjusted_rand(kinds.tolist(), nearest.tolist()) == 1.0


def test_a_centre_without_points_moves_to_where_the_sample_is_farthest() -> None:
    cells = np.array([[0.0], [1.0], [50.0], [51.0], [90.0]])
    starts = np.array([[[0], [1], [1_000]]])
    fit = descend(lambda c: sums_of_cells(cells, c), starts, cells, 30)[0]
    assert sorted(fit.centres[:, 0]) == [0.5, 50.5, 90.0]
    # Two at once: to the farthest, then to what is farthest from that one too, and not beside it.
    cells = np.array([[0.0], [1.0], [80.0], [89.0], [90.0], [-70.0]])
    starts = np.array([[[0], [1_000], [2_000]]])
    seen: list[np.ndarray] = []

    def sums_of(centres: np.ndarray) -> Sums:
        seen.append(centres)
        return sums_of_cells(cells, centres)

    descend(sums_of, starts, cells, 2)
    assert seen[1][0, :, 0].tolist() == [32, -70, 90]


def test_a_last_centre_that_was_empty_is_tried_though_nothing_was_gained() -> None:
    # All of the first iteration's gain is lost in the second, in which one centre finds no point.
    cells = np.array([[0.0], [2.0], [10.0], [12.0]])
    first = sums_of_cells(cells, np.array([[[1], [11]]]))
    none = Sums(np.array([[4, 0]]), np.array([[[24], [0]]]), first.squares)
    answers = iter([none, none, first, first])
    fit = descend(lambda c: next(answers), np.array([[[6], [99]]]), cells, 30)[0]
    assert (fit.inertia, fit.iterations) == (4, 4)


def test_without_points_a_centre_stays_where_it_was() -> None:
    cells = np.array([[3.0], [3.0]])
    fit = descend(lambda c: sums_of_cells(cells, c), np.array([[[3], [9]]]), cells, 30)[0]
    assert fit.centres[:, 0].tolist() == [3.0, 9.0]


def test_more_centres_than_different_points_end_and_leave_some_empty() -> None:
    cells = np.array([[0.0], [0.0], [4.0]])
    calls = []

    def sums_of(centres: np.ndarray) -> Sums:
        calls.append(centres)
        return sums_of_cells(cells, centres)

    fit = descend(sums_of, np.array([[[0], [4], [7]]]), cells, 30)[0]
    assert (fit.inertia, len(calls)) == (0, 1)
    assert fit_starts(cells, 3, 4, 30, 7).shape == (1, 2, 1)


def test_iterations_end_early_and_the_inertia_never_rises() -> None:
    rng = np.random.default_rng(3)
    cells = np.rint(rng.normal(size=(500, 3)) * 1_000)
    seen: list[Fraction] = []

    def sums_of(centres: np.ndarray) -> Sums:
        sums = sums_of_cells(cells, centres)
        seen.append(sums.inertia(0))
        return sums

    descend(sums_of, cells[:4][None].astype(np.int64), cells, 500)
    assert 3 < len(seen) < 200
    # Centres are rounded to the grid, so a step may be lost.
    assert all(later <= before * Fraction(1_000_001, 1_000_000) for before, later in pairwise(seen))
    assert seen[-2] - seen[-1] <= Fraction(blocks.TOLERANCE) * seen[-1]


def test_starts_that_differ_and_are_nearly_as_good_are_all_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 1004.0], [1000.0, 1004.0]])
    # The two corners along the shorter side as one; those along the longer side; the first again.
    given = [cells[[0, 1, 2]], [[0, 0], [0, 1004], [1000, 502]], cells[[1, 2, 0]]]
    left = iter([np.array(start, dtype=float) for start in given])
    monkeypatch.setattr(blocks, "spread_start", lambda *_: next(left))
    starts = fit_starts(cells, 3, 3, 30, 7)
    assert len(starts) == 2
    fits = descend(lambda c: sums_of_cells(cells, c), starts, cells, 30)
    assert [fit.inertia for fit in fits] == [2 * 500**2, 2 * 502**2]
    monkeypatch.setattr(blocks, "CLOSE", 1.001)
    left = iter([np.array(start, dtype=float) for start in given])
    assert len(fit_starts(cells, 3, 3, 30, 7)) == 1
    # A start with fewer centres cannot go on beside one with more.
    monkeypatch.setattr(blocks, "CLOSE", 1e9)
    left = iter([cells[[0, 1]], cells[[0, 1, 2]], cells[[0, 1]]])
    assert fit_starts(cells, 3, 3, 30, 7).shape == (1, 3, 2)


@pytest.mark.parametrize(("largest", "width"), [(1.0, 16), (3.7, 1), (1e-9, 30), (1e30, 5_000)])
def test_a_grid_reaches_the_largest_and_is_as_fine_as_it_can_be(largest: float, width: int) -> None:
    grid = Grid.over(largest, width)
    reach = largest / grid.step
    assert np.log2(grid.step) % 1 == 0
    assert 3 * width * reach**2 < 2**53
    assert reach >= 2 ** (blocks.MOST_BITS - 1) or 3 * width * (4 * reach) ** 2 > 2**53
    assert Grid.over(0.0, width).step == 1.0
