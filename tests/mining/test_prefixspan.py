"""Histories and the miner of sequences, without Spark, against brute force."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlmine_spark.mining import prefixspan
from dlmine_spark.mining.histories import Gap, Histories, frequent_names, histories_of, project, spread
from dlmine_spark.mining.prefixspan import Found, Limits, mine_sequences
from tests.mining.purchases import Basket, Pattern, brute_force, encoded

some_baskets = st.tuples(st.integers(0, 12), st.lists(st.sampled_from("abcd"), max_size=4))
some_histories = st.lists(st.lists(some_baskets, max_size=6), min_size=1, max_size=6)
gaps = st.builds(Gap, st.sampled_from([None, 1, 2]), st.sampled_from([None, 1, 4]))
limits = st.builds(Limits, st.integers(1, 3), st.integers(1, 4), st.sampled_from([None, 1, 2, 3]))


def by_name(found: Iterable[Found], names: list[str]) -> dict[Pattern, int]:
    """Sequences by the names of their items; each may come only once, and says how often its prefix is there."""
    counts: dict[Pattern, int] = {}
    prefixes: dict[Pattern, int] = {}
    for block in found:
        for codes, opens, count, prefix in zip(
            block.codes.tolist(), block.opens.tolist(), block.counts, block.prefix_counts, strict=True
        ):
            starts = [*(at for at, is_first in enumerate(opens) if is_first), len(codes)]
            pattern = tuple(tuple(names[code] for code in codes[start:end]) for start, end in pairwise(starts))
            assert pattern not in counts
            counts[pattern], prefixes[pattern] = int(count), int(prefix)
    assert all(prefixes[pattern] == counts.get(pattern[:-1], 0) for pattern in counts)
    return counts


def expected(histories: list[list[Basket]], gap: Gap, limits: Limits) -> dict[Pattern, int]:
    assert limits.max_len is not None
    return brute_force(histories, limits.min_count, gap, limits.max_len, limits.max_elements)


@settings(max_examples=300, deadline=None)
@given(some_histories, gaps, limits)
def test_all_items_together_give_every_sequence_once(histories: list[list[Basket]], gap: Gap, limits: Limits) -> None:
    encodings, names = encoded(histories, limits.min_count, gap)

    found = mine_sequences(encodings, np.arange(len(names)), limits)

    assert by_name(found, names) == expected(histories, gap, limits)


@settings(max_examples=200, deadline=None)
@given(some_histories, gaps, limits, st.integers(1, 4))
def test_groups_mine_from_what_they_are_sent_alone(
    histories: list[list[Basket]], gap: Gap, limits: Limits, groups: int
) -> None:
    """Also where what they are sent comes in pieces of some customers each."""
    whole, names = encoded(histories, limits.min_count, gap)
    is_first = whole.customer_of < len(whole.sizes) // 2
    group_of = spread(np.ones(len(names), dtype=np.int64), groups)
    sent: dict[int, list[Histories]] = {}
    for piece in (whole.cut(is_first), whole.cut(~is_first)):
        for group, cut in project(piece, group_of, limits.hops):
            sent.setdefault(group, []).append(cut)

    found = [
        block
        for group, pieces in sent.items()
        for block in mine_sequences(Histories.joined(pieces), np.flatnonzero(group_of == group), limits)
    ]

    assert by_name(found, names) == expected(histories, gap, limits)


@pytest.mark.parametrize("block", [1, 40, 1 << 20])
@pytest.mark.parametrize("sparse", [0, 16])
def test_sequences_do_not_depend_on_how_much_is_looked_at_at_once(
    monkeypatch: pytest.MonkeyPatch, block: int, sparse: int
) -> None:
    monkeypatch.setattr(prefixspan, "BLOCK_ITEMS", block)
    monkeypatch.setattr(prefixspan, "_SPARSE", sparse)
    rng = np.random.default_rng(1)
    histories = [[(day, [item for item in "abcde" if rng.random() < 0.4]) for day in range(8)] for _ in range(20)]
    encodings, names = encoded(histories, 8, Gap(days=2))

    found = mine_sequences(encodings, np.arange(len(names)), Limits(8, max_len=4))

    assert by_name(found, names) == brute_force(histories, 8, Gap(days=2))


def test_every_end_of_a_sequence_counts_where_gaps_are_limited() -> None:
    """From the first a no b is near enough, from the second one is."""
    encodings, names = encoded([[(1, ["a"]), (5, ["a"]), (6, ["b"]), (7, ["c"])]], 1, Gap(days=1))

    found = by_name(mine_sequences(encodings, np.arange(len(names)), Limits(1)), names)

    assert (("a",), ("b",), ("c",)) in found
    assert (("a",), ("a",)) not in found
    assert (("a",), ("c",)) not in found


def test_a_visit_counts_in_gaps_whatever_was_bought() -> None:
    """Between a and b lies a visit whose only item is too rare to be looked at."""
    histories: list[list[Basket]] = [[(1, ["a"]), (2, ["rare"]), (3, ["b"])], [(1, ["a"]), (2, ["b"])]]
    encodings, names = encoded(histories, 2, Gap(baskets=1))
    assert names == ["a", "b"]
    assert encodings.ahead.tolist() == [0, 0, 1, 0]
    assert (("a",), ("b",)) not in by_name(mine_sequences(encodings, np.arange(2), Limits(2)), names)


def test_a_group_is_sent_no_more_than_its_sequences_reach() -> None:
    history: list[Basket] = [(1, ["x"]), (2, ["a"]), (3, ["b"]), (4, ["c"]), (5, ["d"])]
    whole, names = encoded([history], 1, Gap(baskets=1))
    group_of = np.array([1 if name == "a" else 0 for name in names], dtype=np.int32)

    for hops, reached in ((0, "a"), (1, "ab"), (2, "abc"), (None, "abcd")):
        sent = dict(project(whole, group_of, hops))[1]
        assert "".join(names[code] for code in sent.codes) == reached


def test_items_are_spread_over_groups_by_their_customers() -> None:
    assert spread(np.array([5, 9, 5, 4]), 2).tolist() == [1, 0, 1, 0]


def test_encoding_minds_slices_nulls_and_repeats() -> None:
    items = pa.array([["x"], ["b", "a", None, "b"], None, [], ["a"], ["c", "b"]], pa.list_(pa.string())).slice(1)
    customers, times = np.array([7, 7, 3, 3, 7]), np.array([2, 1, 1, 2, 2])
    names, counts = frequent_names(customers, items, 1)
    assert (names.to_pylist(), counts.tolist()) == (["a", "b", "c"], [2, 1, 1])

    histories = histories_of(customers, times, times, items, names, Gap())

    # Customer 7's baskets at the instant 2 are one.
    assert histories.codes.tolist() == [0, 0, 1, 2]
    assert histories.lengths.tolist() == [1, 3]
    assert histories.sizes.tolist() == [1, 1]
    assert histories.ahead.tolist() == [0, 0]


def test_nothing_at_all_is_no_sequence() -> None:
    encodings, names = encoded([[]], 1)
    assert list(mine_sequences(encodings, np.arange(len(names)), Limits(1))) == []
    assert list(mine_sequences(Histories.joined([]), np.arange(0), Limits(1))) == []
