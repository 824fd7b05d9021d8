"""Customers' baskets in the order of their time, as flat arrays, and the part of them that a task has to see."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dlmine_spark.mining.miner import Ints, Longs


@dataclass(frozen=True, slots=True)
class Gap:
    """How far the next basket of a sequence may be from the one before; None: as far as you like.

    Attributes:
        baskets: of the customer; 1 is the very next one.
        days: of the calendar.
    """

    baskets: int | None = None
    days: int | None = None


@dataclass(frozen=True, slots=True)
class Histories:
    """Baskets of item codes under each other: customer after customer, those of a customer in the order of their time.

    Attributes:
        codes: items of one basket after the other; ascending and none twice in a basket.
        lengths: items per basket, at least one.
        ahead: per basket, how many of those after it may be the next of a sequence: the first so many, all of them the
            same customer's. Since gaps are limits from above, they follow each other without a hole.
        sizes: baskets per customer.
    """

    codes: Ints
    lengths: Ints
    ahead: Ints
    sizes: Ints

    @property
    def starts(self) -> Longs:
        """Where each basket's codes start; one more than there are baskets."""
        starts = np.zeros(len(self.lengths) + 1, dtype=np.int64)
        np.cumsum(self.lengths, out=starts[1:])
        return starts

    @property
    def customer_of(self) -> Ints:
        """The number of the customer of each basket."""
        return np.repeat(np.arange(len(self.sizes), dtype=np.int32), self.sizes)

    @property
    def basket_of(self) -> Longs:
        """The number of the basket of each code."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def cut(self, is_kept: NDArray[np.bool_]) -> Histories:
        """Some of the baskets. What may follow what stays as it is: gaps count the baskets that are left out, too."""
        places = np.flatnonzero(is_kept)
        until = np.searchsorted(places, places + 1 + self.ahead[places])
        sizes = np.bincount(self.customer_of[places], minlength=1)
        return Histories(
            self.codes[np.repeat(is_kept, self.lengths)],
            self.lengths[places],
            (until - np.arange(len(places)) - 1).astype(np.int32),
            sizes[sizes > 0].astype(np.int32),
        )

    @staticmethod
    def joined(parts: list[Histories]) -> Histories:
        """Histories of different customers, one after the other."""
        names = ("codes", "lengths", "ahead", "sizes")
        empty = [np.empty(0, dtype=np.int32)]
        return Histories(*(np.concatenate([getattr(part, name) for part in parts] or empty) for name in names))


def histories_of(customers: Longs, times: Longs, days: Longs, items: pa.Array, names: pa.Array, gap: Gap) -> Histories:
    """Put baskets in order and encode them.

    Baskets of a customer at one instant are one: nobody knows which came first. Those that hold none of ``names`` are
    left out once it is known what may follow what.

    Args:
        customers: a number per basket, in no particular order.
        times: the instants that order a customer's baskets.
        days: numbers of the days they lie on.
        items: a list of item names per basket, which may repeat.
        names: the items that get codes, ascending: an item's place is its code, so codes ascend as names do.
        gap: between the baskets of a sequence.
    """
    order = np.lexsort((times, customers))
    of_customer, at = customers[order], times[order]
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = (np.diff(of_customer) != 0) | (np.diff(at) != 0)
    place_of = np.empty(len(order), dtype=np.int64)
    place_of[order] = np.cumsum(is_new) - 1
    of_customer, day = of_customer[is_new], days[order][is_new]
    count = len(of_customer)

    lengths = np.asarray(pc.fill_null(pc.list_value_length(items), 0))
    flat = items.flatten()
    codes = np.asarray(pc.fill_null(pc.index_in(flat, names.cast(flat.type)), -1)).astype(np.int64)
    is_frequent = codes >= 0
    keys = np.sort(np.repeat(place_of, lengths)[is_frequent] * max(1, len(names)) + codes[is_frequent])
    keys = keys[np.diff(keys, prepend=-1) > 0]
    places, codes = np.divmod(keys, max(1, len(names)))
    lengths = np.bincount(places, minlength=count).astype(np.int32)

    whole = Histories(
        codes.astype(np.int32),
        lengths,
        _ahead(of_customer, day, gap),
        np.bincount(np.cumsum(np.diff(of_customer, prepend=of_customer[:1]) != 0)).astype(np.int32),
    )
    return whole.cut(lengths > 0)


def _ahead(customers: Longs, days: Longs, gap: Gap) -> Ints:
    """How many of the baskets after each may be the next of a sequence; customers ascend, and their days do."""
    places = np.arange(len(customers))
    until = np.searchsorted(customers, customers, side="right")
    if gap.baskets is not None:
        until = np.minimum(until, places + 1 + gap.baskets)
    if gap.days is not None and len(days):
        since = days - days.min()
        span = int(since.max()) + 1
        # So that the days of a customer and those of the next are too far from each other.
        line = np.cumsum(np.diff(customers, prepend=customers[0]) != 0) * 2 * span + since
        until = np.minimum(until, np.searchsorted(line, line + min(gap.days, span), side="right"))
    return (until - places - 1).astype(np.int32)


def frequent_names(customers: Longs, items: pa.Array, min_count: int) -> tuple[pa.Array, Longs]:
    """The items that at least so many customers bought, ascending, and how many did.

    Args:
        customers: a number per basket.
        items: a list of item names per basket.
        min_count: least number of customers.
    """
    encoded = items.flatten().dictionary_encode()
    lengths = np.asarray(pc.fill_null(pc.list_value_length(items), 0))
    size = int(customers.max(initial=0)) + 1
    codes = np.asarray(pc.fill_null(encoded.indices, -1)).astype(np.int64)
    keys = np.sort(codes[codes >= 0] * size + np.repeat(customers, lengths)[codes >= 0])
    counts = np.bincount(keys[np.diff(keys, prepend=-1) > 0] // size, minlength=len(encoded.dictionary))
    kept = np.flatnonzero(counts >= min_count)
    return in_order(encoded.dictionary.take(pa.array(kept)), counts[kept])


def in_order(names: pa.Array, counts: Longs) -> tuple[pa.Array, Longs]:
    """Items and their counts by name."""
    order = pc.sort_indices(names)
    return names.take(order), counts[np.asarray(order)]


def spread(counts: Longs, groups: int) -> Ints:
    """The group that mines the sequences starting with each item, so that all have about the same to do.

    What starts with an item takes the histories of the customers who bought it. The most frequent come first, each to
    the group with the least so far; the order of equals is that of codes.
    """
    loads = [(0, group) for group in range(groups)]
    group_of = np.zeros(len(counts), dtype=np.int32)
    for item in np.argsort(-counts, kind="stable").tolist():
        load, group = heapq.heappop(loads)
        group_of[item] = group
        heapq.heappush(loads, (load + int(counts[item]), group))
    return group_of


def project(histories: Histories, group_of: Ints, hops: int | None) -> Iterator[tuple[int, Histories]]:
    """Each group that needs some of the baskets, with those it needs.

    Those are the baskets that hold one of its items and all that can be reached from them.

    Args:
        histories: of whole customers.
        group_of: the group of each item.
        hops: from basket to basket of a sequence at most; None: as many as you like.
    """
    basket_of = histories.basket_of
    groups = group_of[histories.codes]
    for group in np.unique(groups).tolist():
        is_kept = np.zeros(len(histories.lengths), dtype=bool)
        is_kept[basket_of[groups == group]] = True
        reached = is_kept
        for _ in range(hops if hops is not None else len(is_kept)):
            reached = _reached(histories, reached) & ~is_kept
            if not reached.any():
                break
            is_kept = is_kept | reached
        yield group, histories.cut(is_kept)


def _reached(histories: Histories, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The baskets that may be next after some of the marked ones."""
    places = np.flatnonzero(marked) + 1
    size = len(marked) + 1
    begins = np.bincount(places, minlength=size)
    ends = np.bincount(places + histories.ahead[marked], minlength=size)
    return np.cumsum(begins - ends)[:-1] > 0
