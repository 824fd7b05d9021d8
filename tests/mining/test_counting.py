"""Counts of given sets by group, and adjusted p-values, against their definitions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from dlmine_spark.mining import counting
from dlmine_spark.mining.counting import Block, Totals, add_sets
from dlmine_spark.mining.encode import coded
from dlmine_spark.mining.sets import SetList
from dlmine_spark.mining.significance import benjamini_hochberg

ITEMS = "abcdef"
LISTS = pa.list_(pa.string())
BASKETS = st.lists(
    st.tuples(st.lists(st.sampled_from(ITEMS), max_size=8), st.integers(0, 3), st.floats(0, 100)), max_size=200
)
SETS = st.lists(st.sets(st.sampled_from(ITEMS), min_size=1, max_size=4).map(sorted), min_size=1, max_size=12)


@settings(deadline=None)
@given(BASKETS, SETS, st.integers(1, 3))
def test_counts_and_weights_are_those_of_the_baskets_that_hold_all_of_a_set(
    baskets: list[tuple[list[str], int, float]], sets: list[list[str]], blocks: int
) -> None:
    wanted = SetList.of([pa.array(sets, LISTS)])
    totals = Totals.none(len(wanted.sets), 4, is_weighted=True)
    for first in range(blocks):
        some = baskets[first::blocks]
        rows, codes = coded(pa.array([items for items, _, _ in some], LISTS), wanted.items)
        groups = np.array([group for _, group, _ in some], dtype=np.int64)
        weights = np.array([weight for _, _, weight in some], dtype=np.float64)
        add_sets(totals, Block(rows, codes, groups, weights), wanted.sets, len(wanted.items))

    assert totals.weights is not None
    for number, items in zip(wanted.numbers[0].tolist(), sets, strict=True):
        for group in range(4):
            holding = [weight for held, own, weight in baskets if own == group and set(held).issuperset(items)]
            assert totals.counts[number, group] == len(holding)
            assert totals.weights[number, group] == pytest.approx(sum(holding))


def test_sets_are_counted_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "CHUNK_BYTES", 16)
    sets = [["a"], ["b"], ["c"], ["a", "b"], ["a", "c"], ["b", "c"], ["a", "b", "c"]]
    wanted = SetList.of([pa.array(sets, LISTS)])
    baskets = [["a", "b", "c"], ["a", "b"], ["a"]] * 50
    rows, codes = coded(pa.array(baskets, LISTS), wanted.items)
    totals = Totals.none(len(sets), 1, is_weighted=False)
    add_sets(totals, Block(rows, codes, np.zeros(150, dtype=np.int64)), wanted.sets, len(wanted.items))
    assert totals.counts[wanted.numbers[0], 0].tolist() == [150, 100, 50, 100, 50, 50, 50]
    assert totals.weights is None


def test_a_set_that_is_there_twice_has_one_number() -> None:
    wanted = SetList.of([pa.array([["a", "b"], ["c"]], LISTS), pa.array([["c"], ["a"], ["a", "b"]], LISTS)])
    parts = np.split(wanted.sets.codes, wanted.sets.starts[1:-1])
    named = [[wanted.items[code].as_py() for code in codes] for codes in parts]
    assert sorted(named) == [["a"], ["a", "b"], ["c"]]
    of_lists = [[named[number] for number in numbers] for numbers in wanted.numbers]
    assert of_lists == [[["a", "b"], ["c"]], [["c"], ["a"], ["a", "b"]]]
    nothing = SetList.of([pa.array([], LISTS), pa.array([], LISTS)])
    assert (len(nothing.sets), [len(numbers) for numbers in nothing.numbers]) == (0, [0, 0])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(0, 30))
def test_adjusted_p_values_with_hypotheses_that_are_not_listed(p_values: list[float], more: int) -> None:
    expected = false_discovery_control([*p_values, *[1.0] * more])[: len(p_values)]
    found = benjamini_hochberg(np.array([np.nan, *p_values]), len(p_values) + more)
    assert np.isnan(found[0])
    assert found[1:].tolist() == pytest.approx(expected.tolist())
