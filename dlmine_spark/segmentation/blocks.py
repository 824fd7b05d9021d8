"""Lloyd's k-means as products of matrices of whole numbers, so that sums are exact. No Spark.

Coordinates are put on a grid: whole multiples of one step, a power of two, of so few bits that every product and sum
that decides anything is a whole number below 2^53, which 64-bit floats add without rounding. So it does not matter in
which order, in which parts or by how many cores they are added: the same points give the same centres, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from math import ceil, frexp, log2

import numpy as np
from numpy.typing import NDArray

from dlmine_spark.segmentation.lloyd import spread_start

Floats = NDArray[np.float64]
Cells = NDArray[np.float64]
"""Whole numbers, as floats: coordinates in steps of the grid, one row per point."""
Integers = NDArray[np.int64]

MOST_BITS = 22
"""Of a coordinate: a step is a four-millionth of the largest one."""
ROWS_AT_A_TIME = 8_192
"""Rows of one product: the scores of so many fit a core's cache."""
CLOSE = 1.01
"""Inertia on the sample, beside the best start's, up to which a start is continued on everyone."""
MOST_RUNNERS = 3
"""Starts that are continued on everyone."""
TOLERANCE = 1e-5
"""Iterations end once the inertia falls by less than this part of itself."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Whole multiples of ``step``, at most ``2^bits(width)`` of them to either side of 0."""

    step: float

    @staticmethod
    def over(largest: float, width: int) -> Grid:
        """The finest grid that reaches the largest coordinate and keeps sums over ``width`` coordinates exact."""
        # |c|^2 - 2 x.c is below 3 * width * 4^bits, which has to stay below 2^53.
        bits = min(MOST_BITS, (51 - ceil(log2(max(width, 1)))) // 2)
        return Grid(2.0 ** (frexp(largest)[1] - bits)) if largest > 0 else Grid(1.0)

    def cells(self, points: NDArray[np.floating]) -> Cells:
        """Points in steps, rounded to whole ones."""
        # One over a power of two is exact too.
        cells: Cells = np.multiply(points, 1 / self.step, dtype=np.float64)
        return np.rint(cells, out=cells)


@dataclass(frozen=True, slots=True)
class Sums:
    """What an iteration needs to know of some points, for several sets of centres at once; all exact.

    Attributes:
        counts: points nearest to each centre; shape (sets, k).
        totals: sums of their cells; shape (sets, k, coordinates).
        squares: sum of all squared cells.
    """

    counts: Integers
    totals: Integers
    squares: int

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.counts + other.counts, self.totals + other.totals, self.squares + other.squares)

    def inertia(self, number: int) -> Fraction:
        """Sum of squared distances to the means of the points that one set of centres parts, in squared steps."""
        explained = Fraction(0)
        for count, total in zip(self.counts[number].tolist(), self.totals[number].tolist(), strict=True):
            if count:
                explained += Fraction(sum(value * value for value in total), count)
        return self.squares - explained


@dataclass(frozen=True, slots=True)
class Fit:
    """Centres (in steps, not rounded) and the inertia of the points that are nearest to each."""

    centres: Floats
    inertia: Fraction
    iterations: int


SumsOf = Callable[[Integers], Sums]
"""Sums of all points for sets of centres, shape (sets, k, coordinates)."""


def sums_of_cells(cells: Cells, centres: Integers) -> Sums:
    """Which centre every point is nearest to (the first of equals), summed.

    Args:
        cells: points on the grid.
        centres: on the grid too; shape (sets, k, coordinates).
    """
    parts = (cells[at : at + ROWS_AT_A_TIME] for at in range(0, len(cells), ROWS_AT_A_TIME))
    return total((_sums_of_part(part, centres) for part in parts), centres.shape)


def total(parts: Iterable[Sums], shape: tuple[int, ...]) -> Sums:
    """The sum of sums; that of none is 0."""
    nothing = Sums(np.zeros(shape[:2], dtype=np.int64), np.zeros(shape, dtype=np.int64), 0)
    return reduce(lambda left, right: left + right, parts, nothing)


def _sums_of_part(cells: Cells, centres: Integers) -> Sums:
    sets, k, width = centres.shape
    counts, totals = np.empty((sets, k), dtype=np.int64), np.empty((sets, k, width), dtype=np.int64)
    for number, members in enumerate(_members(cells, centres)):
        counts[number] = members.sum(axis=1)
        totals[number] = members @ cells
    # The squares of a row are below 2^53; what rows add up to may be above 2^63.
    high, low = np.divmod(np.einsum("ij,ij->i", cells, cells), 2.0**26)
    return Sums(counts, totals, int(high.sum()) * 2**26 + int(low.sum()))


def _members(cells: Cells, centres: Integers) -> Iterable[Floats]:
    """Of each set of centres the matrix (k, points) that has a 1 where a point is nearest to a centre."""
    sets, k, width = centres.shape
    numbers = np.arange(k, dtype=np.int8 if k <= 127 else np.int64)
    flat = centres.reshape(sets * k, width).astype(np.float64)
    # The square of the point itself is the same for all centres.
    scores = (-2 * flat) @ cells.T
    scores += (flat**2).sum(axis=1)[:, None]
    for of_set in scores.reshape(sets, k, len(cells)):
        # A row a centre: numpy's argmin over a short axis takes longer than the product.
        lowest, nearest = of_set[0].copy(), np.zeros(len(cells), dtype=numbers.dtype)
        for index in range(1, k):
            is_nearer = of_set[index] < lowest
            np.copyto(nearest, index, where=is_nearer)
            np.copyto(lowest, of_set[index], where=is_nearer)
        yield np.equal(nearest, numbers[:, None]).astype(np.float64)


def descend(sums_of: SumsOf, starts: Integers, sample: Cells, max_iter: int) -> list[Fit]:
    """Lloyd's iterations from several starts at once, until each gains no more than ``TOLERANCE``.

    A centre that no point is nearest to moves to the point of the sample that is farthest from all centres.

    Args:
        sums_of: sums over all points; called once an iteration.
        starts: shape (starts, k, coordinates).
        sample: some or all of the points, in an order of their own.
        max_iter: iterations at most.
    """
    fits: dict[int, Fit] = {}
    running, centres = list(range(len(starts))), starts
    for iteration in range(1, max_iter + 1):
        sums = sums_of(centres)
        going: list[int] = []
        moved: list[Integers] = []
        for place, number in enumerate(running):
            inertia, before = sums.inertia(place), fits.get(number)
            counts, totals = sums.counts[place], sums.totals[place]
            means = totals / np.maximum(counts, 1)[:, None]
            empty = np.flatnonzero(counts == 0)
            fits[number] = Fit(np.where(counts[:, None] > 0, means, centres[place]), inertia, iteration)
            gained = before is None or before.inertia - inertia > Fraction(TOLERANCE) * inertia
            following = np.rint(fits[number].centres).astype(np.int64)
            is_reseeded = bool(len(empty)) and _reseed(following, empty, sample)
            if (gained and inertia > 0) or is_reseeded:
                going.append(number)
                moved.append(following)
        if not going:
            break
        running, centres = going, np.stack(moved)
    return [fits[number] for number in sorted(fits)]


def _reseed(centres: Integers, empty: Sequence[int] | NDArray[np.intp], sample: Cells) -> bool:
    """Move the empty centres, in place, to where the sample is farthest from all others; False where none is far."""
    occupied = np.delete(centres, empty, axis=0).astype(np.float64)
    away = np.min([((sample - centre) ** 2).sum(axis=1) for centre in occupied], axis=0)
    is_moved = False
    for index in empty:
        farthest = int(away.argmax())
        if away[farthest] == 0:
            break
        centres[index] = sample[farthest]
        away = np.minimum(away, ((sample - sample[farthest]) ** 2).sum(axis=1))
        is_moved = True
    return is_moved


def fit_starts(sample: Cells, k: int, restarts: int, max_iter: int, seed: int) -> Integers:
    """Where to begin on everyone: the best fits of a sample, as far as they differ; shape (starts, k, coordinates).

    Greedy k-means++ (Arthur & Vassilvitskii 2007), then Lloyd's iterations on the sample. The best start is continued
    on everyone, and with it those that are nearly as good: the sample cannot tell which of them will be the best.
    """
    rng = np.random.default_rng([seed, k])

    def fitted() -> Fit:
        start = spread_start(sample, k, rng).astype(np.int64)
        return descend(lambda centres: sums_of_cells(sample, centres), start[None], sample, max_iter)[0]

    # Starts that end in the same partition have the same inertia exactly.
    by_inertia = {fit.inertia: fit for fit in (fitted() for _ in range(restarts))}
    best = min(by_inertia)
    close = [by_inertia[inertia] for inertia in sorted(by_inertia) if inertia <= Fraction(CLOSE) * best]
    runners = close[:MOST_RUNNERS]
    widest = max(len(fit.centres) for fit in runners)
    return np.stack([np.rint(fit.centres).astype(np.int64) for fit in runners if len(fit.centres) == widest])
