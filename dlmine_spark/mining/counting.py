"""In how many baskets given sets of items lie, group by group: plain numpy, for one block of baskets.

As in ``miner``, baskets are columns of bits, 64 to a word, one row per item. Baskets of a group are neighbours and
begin with a word of their own, so a set's baskets are looked up once and counted for every group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dlmine_spark.mining.miner import CHUNK_BYTES, Baskets, Longs, Words, pack
from dlmine_spark.mining.significance import Doubles


@dataclass(frozen=True, slots=True)
class Block:
    """Some baskets.

    Attributes:
        rows, codes: basket (by place) and item (by code) of all that they hold, each pair once.
        groups: the group of each basket, a number from 0.
        weights: what each weighs; None where nobody asks.
    """

    rows: Longs
    codes: Longs
    groups: Longs
    weights: Doubles | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Of each set (rows) in each group (columns): the baskets that hold all of it, and what they weigh in sum."""

    counts: Longs
    weights: Doubles | None

    @staticmethod
    def none(sets: int, groups: int, *, is_weighted: bool) -> Totals:
        """Of no basket at all."""
        return Totals(np.zeros((sets, groups), dtype=np.int64), np.zeros((sets, groups)) if is_weighted else None)


def add_sets(totals: Totals, block: Block, sets: Baskets, items: int) -> None:
    """Count sets in a block of baskets.

    Args:
        totals: of the sets, to which the block's are added.
        block: the baskets.
        sets: codes of the items of each set, at least one.
        items: how many codes there are.
    """
    groups = totals.counts.shape[1]
    sizes = np.bincount(block.groups, minlength=groups)
    words = -(-sizes // 64)
    first_words = np.cumsum(words) - words
    order = np.argsort(block.groups, kind="stable")
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    columns = np.empty(len(order), dtype=np.int64)
    columns[order] = 64 * np.repeat(first_words, sizes) + rank
    bits = pack(block.codes, columns[block.rows], items, int(words.sum()))
    if bits.shape[1] == 0:
        return
    present = np.flatnonzero(sizes)
    starts = first_words[present]
    per_word = np.zeros((bits.shape[1], 64))
    if block.weights is not None:
        per_word.reshape(-1)[columns] = block.weights
    for which, held in _held(bits, sets):
        place = np.ix_(which, present)
        totals.counts[place] += np.add.reduceat(np.bitwise_count(held), starts, axis=1, dtype=np.int64)
        if totals.weights is not None:
            totals.weights[place] += np.add.reduceat(_weighed(held, per_word), starts, axis=1)


def _held(bits: Words, sets: Baskets) -> Iterator[tuple[Longs, Words]]:
    """Numbers of some sets of one size at a time, and the bits of the baskets that hold each."""
    lengths = sets.lengths
    step = max(1, CHUNK_BYTES // (8 * bits.shape[1]))
    for size in np.unique(lengths):
        same = np.flatnonzero(lengths == size)
        for first in range(0, len(same), step):
            which = same[first : first + step]
            members = sets.codes[sets.starts[which][:, None] + np.arange(size)]
            held = bits[members[:, 0]]
            for others in members.T[1:]:
                held &= bits[others]
            yield which, held


def _weighed(held: Words, per_word: Doubles) -> Doubles:
    """What the baskets of each word of each set weigh in sum; most words are empty and are not unpacked."""
    sums = np.zeros(held.shape)
    at, word = np.nonzero(held)
    flags = np.unpackbits(held[at, word].view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    sums[at, word] = np.einsum("ij,ij->i", flags, per_word[word])
    return sums
