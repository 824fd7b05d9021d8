"""Items as codes: 0 is the most frequent item, and infrequent ones have none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlmine_spark.mining.miner import Baskets, Ints, Longs


@dataclass(frozen=True, slots=True)
class Dictionary:
    """The frequent items by descending frequency, ties by name: an item's place is its code.

    Attributes:
        items: names, by code.
        counts: in how many baskets each lies, by code.
        baskets: how many baskets there are.
        min_count: least count of a frequent itemset.
    """

    items: pa.Array
    counts: Longs
    baskets: int
    min_count: int

    def __len__(self) -> int:
        return len(self.items)


def dictionary_of(items: pa.Array, counts: Longs, baskets: int, min_count: int) -> Dictionary:
    """The dictionary of items and their counts, given in any order."""
    kept = np.flatnonzero(counts >= min_count)
    items, counts = items.take(pa.array(kept)), counts[kept]
    by_name = np.asarray(pc.sort_indices(items))
    order = by_name[np.argsort(-counts[by_name], kind="stable")]
    return Dictionary(items.take(pa.array(order)), counts[order], baskets, min_count)


def encode(items: pa.Array, dictionary: Dictionary) -> Baskets:
    """Baskets of frequent items' codes, each once and ascending; baskets of fewer than two are left out.

    Args:
        items: a list of item names per basket; lists and items may be null, items may repeat.
        dictionary: the frequent items.
    """
    rows, codes = coded(items, dictionary.items)
    lengths = np.bincount(rows, minlength=1)
    is_mineable = lengths > 1
    return Baskets.of_lengths(codes[is_mineable[rows]].astype(np.int32), lengths[is_mineable])


def coded(items: pa.Array, names: pa.Array) -> tuple[Longs, Longs]:
    """Which baskets hold which items: pairs of a basket's place and an item's code, each once and ascending.

    Args:
        items: a list of item names per basket; lists and items may be null, items may repeat.
        names: the items that have a code, which is their place; all others are passed over.
    """
    # flatten() minds slices and skips null lists; .values does neither.
    flat = items.flatten()
    lengths = np.asarray(pc.fill_null(pc.list_value_length(items), 0))
    codes = np.asarray(pc.fill_null(pc.index_in(flat, names.cast(flat.type)), -1))
    rows = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    has_code = codes >= 0
    size = max(1, len(names))
    # Sorted and compared with their neighbours: many times faster than np.unique, whose hash table ignores the order
    # that is there already.
    keys = np.sort(rows[has_code] * size + codes[has_code], kind="stable")
    keys = keys[np.diff(keys, prepend=-1) > 0]
    rows, codes = np.divmod(keys, size)
    return rows, codes


def decode(codes: Ints, dictionary: Dictionary) -> pa.ListArray:
    """Itemsets of one size as lists of names, each sorted ascending.

    Args:
        codes: one row per itemset.
        dictionary: of the codes.
    """
    by_name = np.asarray(pc.sort_indices(dictionary.items)).astype(np.int64)
    rank_of = np.empty_like(by_name)
    rank_of[by_name] = np.arange(len(by_name))
    in_order = by_name[np.sort(rank_of[codes], axis=1)]
    offsets = np.arange(0, codes.size + 1, codes.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), dictionary.items.take(pa.array(in_order.ravel())))
