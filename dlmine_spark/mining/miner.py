"""The miner of one task: frequent itemsets of the classes it is given, from bitsets, in plain numpy.

The itemsets whose rarest item is ``i`` form the *class* of ``i``. They lie in the baskets that hold ``i``, cut to the
items more frequent than ``i``, so classes can be mined apart: no candidate is ever counted twice and no count has to
be summed over tasks. In a class the baskets are columns of bits, 64 to a word, one row per item: the baskets of a set
are the AND of its items' rows and its count is the number of bits left. Candidates grow level by level (Agrawal and
Srikant 1994, "Fast algorithms for mining association rules") by joining sets that differ in their last item, on
vertical data as in Eclat (Zaki, Parthasarathy, Ogihara and Li 1997, "New algorithms for fast discovery of association
rules"). Where a level's bitsets could need more than ``BLOCK_BYTES``, the miner goes on with a part of the level first
(at least the supersets of one set), so memory is bounded by the depth, not by the number of itemsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Words = NDArray[np.uint64]

BLOCK_BYTES = 32 << 20
"""Memory of the bitsets of a level that are held at once."""
CHUNK_BYTES = 1 << 20
"""Memory of the candidates that are counted at once: about what a core's cache holds."""


@dataclass(frozen=True, slots=True)
class Baskets:
    """Baskets of item codes under each other: basket ``b`` is ``codes[starts[b]:starts[b + 1]]``, ascending."""

    codes: Ints
    starts: Longs

    @staticmethod
    def of_lengths(codes: Ints, lengths: NDArray[np.integer]) -> Baskets:
        """Baskets of the given lengths, one after the other."""
        starts = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        return Baskets(codes, starts)

    @property
    def lengths(self) -> Longs:
        """Items per basket."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True, slots=True)
class ItemClass:
    """The itemsets whose rarest item is ``item``, or every ``parts``-th of its sub-classes by second item."""

    item: int
    part: int = 0
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Found:
    """Frequent itemsets of one size: a row of codes each (in no particular order), and in how many baskets they lie."""

    codes: Ints
    counts: Longs


@dataclass(frozen=True, slots=True)
class _Level:
    """Sets of one size in families that share all items but the last.

    ``ends[r]`` is the row after the last one of row ``r``'s family: row ``r`` joins with the rows up to there.
    """

    codes: Ints
    bits: Words
    ends: Longs


def mine_classes(
    baskets: Baskets, classes: Sequence[ItemClass], min_count: int, max_len: int | None = None
) -> Iterator[Found]:
    """Frequent itemsets of two items and more, of some classes.

    Args:
        baskets: every basket that holds a class's item, at least up to that item (codes ascend with rarity).
        classes: whose itemsets to mine.
        min_count: least number of baskets that hold a frequent itemset.
        max_len: largest itemset.

    Yields:
        Blocks of itemsets, each itemset once, in no particular order.
    """
    if not classes or (max_len is not None and max_len < 2):
        return
    items = np.unique(np.array([item_class.item for item_class in classes], dtype=np.int64))
    where = _positions_by_item(baskets.codes, items)
    basket_of = np.repeat(np.arange(len(baskets), dtype=np.int32), baskets.lengths)
    for item_class in classes:
        positions = where[item_class.item]
        if len(positions) < min_count:
            continue
        starts = baskets.starts[basket_of[positions]]
        codes, rows = gather(baskets.codes, starts, positions - starts)
        yield from _mine_class(codes, rows, item_class, min_count, max_len)


def _positions_by_item(codes: Ints, items: NDArray[np.integer]) -> dict[int, Longs]:
    """Where in ``codes`` each of some items (ascending, not none) stands."""
    slot_of = np.full(int(max(codes.max(initial=0), items[-1])) + 1, -1, dtype=np.int32)
    slot_of[items] = np.arange(len(items), dtype=np.int32)
    slots = slot_of[codes]
    positions = np.flatnonzero(slots >= 0)
    slots = slots[positions]
    positions = positions[np.argsort(slots, kind="stable")]
    ends = np.cumsum(np.bincount(slots, minlength=len(items)))[:-1]
    return dict(zip(items.tolist(), np.split(positions, ends), strict=True))


def gather(codes: Ints, starts: Longs, lengths: Longs) -> tuple[Ints, Ints]:
    """The slices of ``codes`` that start at ``starts``, one after the other, and the number of the slice of each."""
    index, rows = ranges(starts, lengths)
    return codes[index], rows


def ranges(starts: Longs, lengths: NDArray[np.integer]) -> tuple[Longs, Ints]:
    """The whole numbers from each start on, as many as its length, and the number of the range of each."""
    rows = np.repeat(np.arange(len(starts), dtype=np.int32), lengths)
    before = np.cumsum(lengths) - lengths
    return np.arange(len(rows), dtype=np.int64) + (starts - before)[rows], rows


def _mine_class(codes: Ints, rows: Ints, item_class: ItemClass, min_count: int, max_len: int | None) -> Iterator[Found]:
    """Itemsets of one class, from the items beside the class's own (``codes``) and the baskets they are in."""
    counts = np.bincount(codes, minlength=1)
    frequent = np.flatnonzero(counts >= min_count)
    # Rarest first: families of many sets are those of rare items, where few joins survive.
    partners: Ints = frequent[np.argsort(counts[frequent], kind="stable")].astype(np.int32)
    pairs = np.column_stack([np.full_like(partners, item_class.item), partners])
    own = np.arange(len(partners)) % item_class.parts == item_class.part
    if own.any():
        yield Found(pairs[own], counts[partners[own]])
    if len(partners) < 2 or max_len == 2:
        return
    bits = _bitsets(codes, rows, partners)
    if bits.shape[1] * 64 < min_count:
        return
    level = _Level(pairs, bits, np.full(len(partners), len(partners), dtype=np.int64))
    yield from _grow(level, np.flatnonzero(own), min_count, max_len)


def _bitsets(codes: Ints, rows: Ints, partners: Ints) -> Words:
    """One row of bits per partner: the baskets that hold it, without those that hold one partner or none."""
    slot_of = np.full(int(codes.max(initial=0)) + 1, -1, dtype=np.int32)
    slot_of[partners] = np.arange(len(partners), dtype=np.int32)
    slots = slot_of[codes]
    kept = slots >= 0
    slots, rows = slots[kept], rows[kept]
    per_basket = np.bincount(rows, minlength=1)
    column_of = np.cumsum(per_basket > 1) - 1
    kept = per_basket[rows] > 1
    slots, columns = slots[kept], column_of[rows[kept]]
    words = (int(columns[-1]) // 64 + 1) if len(columns) else 0
    return pack(slots, columns, len(partners), words)


def pack(slots: NDArray[np.integer], columns: NDArray[np.integer], rows: int, words: int) -> Words:
    """A matrix of ``rows`` by ``words`` times 64 bits, those set whose row is a slot and whose column is beside it."""
    bits = np.zeros((rows, words), dtype=np.uint64)
    if words == 0:
        return bits
    # Bytes of 0 and 1 before they are packed take eight times the room: some rows at a time.
    order = np.argsort(slots, kind="stable")
    slots, columns = slots[order], columns[order]
    step = max(1, BLOCK_BYTES // (words * 64))
    for first in range(0, rows, step):
        last = min(first + step, rows)
        low, high = np.searchsorted(slots, [first, last])
        flags = np.zeros((last - first, words * 64), dtype=np.uint8)
        flags[slots[low:high] - first, columns[low:high]] = 1
        bits[first:last] = np.packbits(flags, axis=1, bitorder="little").view(np.uint64)
    return bits


def _grow(level: _Level, parents: Longs, min_count: int, max_len: int | None) -> Iterator[Found]:
    """Every frequent superset of the parents in ``level``, depth first over blocks of a level."""
    joins = level.ends[parents] - parents - 1
    parents, joins = parents[joins > 0], joins[joins > 0]
    size = level.codes.shape[1] + 1
    bytes_per_set = 8 * level.bits.shape[1]
    for block in _blocks(joins, max(1, BLOCK_BYTES // bytes_per_set)):
        lefts, rights, counts, bits = _count_joins(level, parents[block], joins[block], min_count)
        if not len(lefts):
            continue
        codes = np.column_stack([level.codes[lefts], level.codes[rights, -1]])
        yield Found(codes, counts)
        if size == max_len:
            continue
        children = _Level(codes, bits, np.searchsorted(lefts, lefts, side="right"))
        yield from _grow(children, np.arange(len(lefts)), min_count, max_len)


def _blocks(weights: Longs, limit: int) -> Iterator[slice]:
    """Consecutive ranges that weigh at most ``limit`` in sum (or are a single element)."""
    ends = np.cumsum(weights)
    first = 0
    while first < len(weights):
        before = ends[first] - weights[first]
        last = max(first + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield slice(first, last)
        first = last


def _count_joins(level: _Level, parents: Longs, joins: Longs, min_count: int) -> tuple[Longs, Longs, Longs, Words]:
    """Join each parent with the rest of its family; rows (left, right), counts and bitsets of those frequent."""
    lefts = np.repeat(parents, joins)
    before = np.cumsum(joins) - joins
    rights = np.arange(len(lefts)) - np.repeat(before - parents - 1, joins)
    kept: list[Longs] = []
    counts: list[Longs] = []
    bits: list[Words] = []
    step = max(1, CHUNK_BYTES // (8 * level.bits.shape[1]))
    for first in range(0, len(lefts), step):
        last = first + step
        both = level.bits[lefts[first:last]]
        both &= level.bits[rights[first:last]]
        count = np.bitwise_count(both).sum(axis=1, dtype=np.int64)
        frequent = np.flatnonzero(count >= min_count)
        kept.append(frequent + first)
        counts.append(count[frequent])
        bits.append(both[frequent])
    rows = np.concatenate(kept)
    return lefts[rows], rights[rows], np.concatenate(counts), np.concatenate(bits)
