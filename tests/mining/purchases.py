"""Small histories of customers, and sequences counted the way the definition says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pyarrow as pa

from dlmine_spark.mining.histories import Gap, Histories, frequent_names, histories_of

Basket = tuple[int, Sequence[str]]
"""The day, which is the instant too, and the items."""
Pattern = tuple[tuple[str, ...], ...]


def contained(history: Sequence[Basket], gap: Gap, max_len: int, max_elements: int | None) -> set[Pattern]:
    """Every sequence in one customer's history, by trying all parts of all baskets in every order that time allows."""
    items_on: dict[int, set[str]] = {}
    for day, items in history:
        items_on.setdefault(day, set()).update(items)
    days = sorted(items_on)

    def grow(place: int, pattern: Pattern) -> Iterator[Pattern]:
        yield pattern
        room = max_len - sum(map(len, pattern))
        if max_elements is not None and len(pattern) >= max_elements:
            return
        for after in range(place + 1, len(days)):
            if gap.baskets is not None and after - place > gap.baskets:
                continue
            if gap.days is not None and days[after] - days[place] > gap.days:
                continue
            for part in parts(after, room):
                yield from grow(after, (*pattern, part))

    def parts(place: int, room: int) -> Iterator[tuple[str, ...]]:
        items = sorted(items_on[days[place]])
        for size in range(1, min(room, len(items)) + 1):
            yield from combinations(items, size)

    return {pattern for place in range(len(days)) for part in parts(place, max_len) for pattern in grow(place, (part,))}


def brute_force(
    histories: Sequence[Sequence[Basket]],
    min_count: int,
    gap: Gap = Gap(),  # noqa: B008
    max_len: int = 4,
    max_elements: int | None = None,
) -> dict[Pattern, int]:
    """Every sequence that at least ``min_count`` customers have."""
    counts = Counter(pattern for one in histories for pattern in contained(one, gap, max_len, max_elements))
    return {pattern: count for pattern, count in counts.items() if count >= min_count}


def encoded(
    histories: Sequence[Sequence[Basket]],
    min_count: int,
    gap: Gap = Gap(),  # noqa: B008
) -> tuple[Histories, list[str]]:
    """The histories with the items that are frequent, and the names of their codes."""
    rows = [(customer, day, items) for customer, one in enumerate(histories) for day, items in one]
    customers, days = (np.array([row[at] for row in rows], dtype=np.int64) for at in (0, 1))
    items = pa.array([list(row[2]) for row in rows], pa.list_(pa.string()))
    names, _ = frequent_names(customers, items, min_count)
    return histories_of(customers, days, days, items, names, gap), names.to_pylist()
