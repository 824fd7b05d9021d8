"""The miner of one task: frequent sequences by pattern growth, in plain numpy.

PrefixSpan (Pei, Han, Mortazavi-Asl, Pinto, Chen, Dayal and Hsu 2001, "PrefixSpan: mining sequential patterns
efficiently by prefix-projected pattern growth") grows a sequence by one item at a time, in a basket after its last one
or in that basket itself, and counts all such extensions in one pass over what follows it in each customer's history.
Nothing is copied: a projection is the list of baskets that the sequence can end in. Without a limit of gaps the first
of a customer would do; with one, a later end may reach what an earlier one does not, so all of them are kept. What is
left of a sequence when its last item goes is at least as frequent, whatever the gap, so none is missed.

Extensions of many sequences are counted by one sort of numbers that stand for (sequence, item, basket). Where those
would be more than ``BLOCK_ITEMS``, the miner goes on with a part of the sequences first (at least one), so memory is
bounded by the length of sequences and what one of them can reach, not by their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlmine_spark.mining.histories import Histories
from dlmine_spark.mining.miner import Ints, Longs, ranges

BLOCK_ITEMS = 1 << 19
"""Items of baskets that are looked at at once: some ten arrays of 4 MB, about what a core caches."""
_SPARSE = 16
"""Where the numbers to count are so many times as many as the things counted, sorting these takes less time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is looked for.

    Attributes:
        min_count: least number of customers.
        max_len: most items in all.
        max_elements: most baskets.
    """

    min_count: int
    max_len: int | None = None
    max_elements: int | None = None

    @property
    def hops(self) -> int | None:
        """How often a sequence goes on from a basket to another at most; None: as often as you like."""
        known = [limit for limit in (self.max_len, self.max_elements) if limit is not None]
        return min(known) - 1 if known else None


@dataclass(frozen=True, slots=True)
class Found:
    """Frequent sequences of one length, in no particular order.

    Attributes:
        codes: a row of items per sequence, basket after basket, ascending within one.
        opens: whether an item is the first of its basket.
        counts: customers whose history holds the sequence.
        prefix_counts: customers whose history holds it without its last basket; 0 where it has but one.
    """

    codes: Ints
    opens: NDArray[np.bool_]
    counts: Longs
    prefix_counts: Longs


@dataclass(frozen=True, slots=True)
class _Level:
    """Sequences and the baskets that each can end in: ``ends[starts[r]:starts[r + 1]]``, ascending."""

    found: Found
    ends: Longs
    starts: Longs


@dataclass(frozen=True, slots=True)
class _Index:
    """The histories, with what is asked of them again and again."""

    histories: Histories
    starts: Longs
    until: Longs
    customer_of: Ints
    items: int


def mine_sequences(histories: Histories, first_items: NDArray[np.integer], limits: Limits) -> Iterator[Found]:
    """Frequent sequences that start with some items.

    Args:
        histories: every basket that holds one of the items or can be reached from one that does.
        first_items: codes.
        limits: what is looked for.

    Yields:
        Blocks of sequences, each sequence once, those of one item too.
    """
    codes = histories.codes
    if not len(codes):
        return
    places = np.arange(len(histories.lengths))
    items = int(codes.max()) + 1
    index = _Index(histories, histories.starts, places + 1 + histories.ahead, histories.customer_of, items)
    is_first = np.zeros(items, dtype=bool)
    is_first[first_items[first_items < items]] = True
    own = is_first[codes]
    keys, counts, ends, starts = _frequent(codes[own].astype(np.int64), histories.basket_of[own], index, limits)
    found = Found(
        keys.astype(np.int32)[:, None], np.ones((len(keys), 1), dtype=bool), counts, np.zeros(len(keys), dtype=np.int64)
    )
    if len(counts):
        yield found
        yield from _grow(_Level(found, ends, starts), index, limits)


def _grow(level: _Level, index: _Index, limits: Limits) -> Iterator[Found]:
    """Every frequent sequence that goes on from one of the level, depth first over parts of it."""
    found = level.found
    length = found.codes.shape[1] + 1
    if limits.max_len is not None and length > limits.max_len:
        return
    lows, highs = _reach(level, index)
    if limits.max_elements is not None:
        is_full = found.opens.sum(axis=1) >= limits.max_elements
        lows = np.where(np.repeat(is_full, np.diff(level.starts)), highs, lows)
    weights = index.starts[highs] - index.starts[lows] + index.histories.lengths[level.ends]
    per_sequence = np.add.reduceat(weights, level.starts[:-1])
    # So few sequences at once that the numbers of their extensions fit into 63 bits.
    most = (1 << 62) // (2 * index.items * len(index.histories.lengths))
    for first, last in _parts(np.maximum(per_sequence, -(-BLOCK_ITEMS // most))):
        own = slice(level.starts[first], level.starts[last])
        rows = np.repeat(np.arange(first, last), np.diff(level.starts[first : last + 1]))
        keys, baskets = _extensions(found, rows, level.ends[own], lows[own], highs[own], index)
        keys, counts, ends, starts = _frequent(keys, baskets, index, limits)
        if not len(counts):
            continue
        rows, items = np.divmod(keys, 2 * index.items)
        is_new_basket = items < index.items
        children = Found(
            np.column_stack([found.codes[rows], (items % index.items).astype(np.int32)]),
            np.column_stack([found.opens[rows], is_new_basket]),
            counts,
            np.where(is_new_basket, found.counts[rows], found.prefix_counts[rows]),
        )
        yield children
        yield from _grow(_Level(children, ends, starts), index, limits)


def _reach(level: _Level, index: _Index) -> tuple[Longs, Longs]:
    """For each end, the baskets from ... to (without that one) that may be next and that no end before it reaches.

    A later basket never reaches less far than an earlier one, so each basket is counted once per sequence.
    """
    highs = index.until[level.ends]
    before = np.zeros_like(highs)
    before[1:] = highs[:-1]
    before[level.starts[:-1]] = 0
    return np.minimum(np.maximum(level.ends + 1, before), highs), highs


def _parts(weights: Longs) -> Iterator[tuple[int, int]]:
    """Consecutive ranges that weigh at most ``BLOCK_ITEMS`` in sum (or are a single element)."""
    ends = np.cumsum(weights)
    first = 0
    while first < len(weights):
        limit = ends[first] - weights[first] + BLOCK_ITEMS
        last = max(first + 1, int(np.searchsorted(ends, limit, side="right")))
        yield first, last
        first = last


def _extensions(
    found: Found, rows: Longs, ends: Longs, lows: Longs, highs: Longs, index: _Index
) -> tuple[Longs, Longs]:
    """Every extension by one item and basket it can end in: a number that says which sequence and item, and the basket.

    The number is ``row * 2 * items + item`` in a basket after the last, ``+ items`` more in the last one itself.
    """
    codes, lengths = index.histories.codes, index.histories.lengths
    bases = rows * (2 * index.items)
    same, owners = ranges(index.starts[ends], lengths[ends])
    items = codes[same]
    # Items of a basket ascend, or each set of them would be found in every order.
    is_after = items > found.codes[rows, -1][owners]
    items, owners = items[is_after], owners[is_after]
    in_last = (bases + index.items)[owners] + items

    reached, of_end = ranges(lows, highs - lows)
    later, of_basket = ranges(index.starts[reached], lengths[reached])
    in_later = bases[of_end][of_basket] + codes[later]
    return np.concatenate([in_later, in_last]), np.concatenate([reached[of_basket], ends[owners]])


def _frequent(keys: Longs, baskets: Longs, index: _Index, limits: Limits) -> tuple[Longs, Longs, Longs, Longs]:
    """Of pairs of a number and a basket: the frequent numbers, ascending, their counts, baskets, and where those start.

    A number's count is how many customers its baskets are of.
    """
    keys, baskets = _often_enough(keys, baskets, limits.min_count)
    size = len(index.histories.lengths)
    keys, baskets = np.divmod(np.sort(keys * size + baskets), size)
    is_first = np.diff(keys, prepend=-1) != 0
    is_customer = is_first.copy()
    is_customer[1:] |= np.diff(index.customer_of[baskets]) != 0
    firsts = np.flatnonzero(is_first)
    if not len(firsts):
        return keys, keys, baskets, np.zeros(1, dtype=np.int64)
    counts = np.add.reduceat(is_customer, firsts, dtype=np.int64)
    sizes = np.diff(firsts, append=len(keys))
    is_kept = counts >= limits.min_count
    starts = np.zeros(np.count_nonzero(is_kept) + 1, dtype=np.int64)
    np.cumsum(sizes[is_kept], out=starts[1:])
    return keys[firsts[is_kept]], counts[is_kept], baskets[np.repeat(is_kept, sizes)], starts


def _often_enough(keys: Longs, baskets: Longs, min_count: int) -> tuple[Longs, Longs]:
    """Leave out what is in too few baskets to be in enough customers' histories: counting is cheaper than sorting."""
    if min_count < 2 or not len(keys):
        return keys, baskets
    first = int(keys.min())
    extent = int(keys.max()) - first + 1
    if extent > _SPARSE * len(keys):
        return keys, baskets
    is_kept = (np.bincount(keys - first, minlength=extent) >= min_count)[keys - first]
    return keys[is_kept], baskets[is_kept]
