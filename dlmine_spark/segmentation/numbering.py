"""Which number a segment has: that of the segment it was, or else by size. No Spark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Integers = NDArray[np.int64]


def by_size(centres: NDArray[np.float64], sizes: Sequence[int]) -> list[int]:
    """Fitted segments, largest first, equal ones by their centres; those that nobody is nearest to are left out."""
    occupied = [index for index, size in enumerate(sizes) if size > 0]
    return sorted(occupied, key=lambda index: (-sizes[index], *np.round(centres[index], 6).tolist()))


def keep_numbers(order: Sequence[int], overlap: Integers) -> list[int]:
    """The segments in an order in which as many entities as can be keep the number they had.

    Segments are paired one to one with the earlier ones so that the most entities are in a pair (the assignment
    problem, Kuhn 1955). A paired segment keeps its number; the others, and those whose number is beyond the new count,
    take what is free, in the order given.

    Args:
        order: the fitted segment that would become 0, 1, ... without a past.
        overlap: entities that are in a fitted segment (row) and were in an earlier one (column).
    """
    shared = overlap[list(order)]
    rows, columns = linear_sum_assignment(shared, maximize=True)
    placed = {
        number: order[row]
        for row, number in zip(rows.tolist(), columns.tolist(), strict=True)
        if shared[row, number] > 0 and number < len(order)
    }
    left = iter([index for index in order if index not in placed.values()])
    return [placed[number] if number in placed else next(left) for number in range(len(order))]
