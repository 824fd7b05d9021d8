"""Counts of given sets by group, and adjusted p-values, against their definitions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from dlmine_spark.mining.counting import Block, count_sets
from dlmine_spark.mining.encode import coded
from dlmine_spark.mining.sets import SetList
from dlmine_spark.mining.significance import adjusted

ITEMS = "abcdef"
BASKETS = st.lists(
    st.tuples(st.sets(st.sampled_from(ITEMS)), st.integers(0, 3), st.floats(0, 100, allow_nan=False)), max_size=200
)
SETS = st.lists(st.sets(st.sampled_from(ITEMS), min_size=1, max_size=4).map(sorted), min_size=1, max_size=12)


@given(BASKETS, SETS)
def test_counts_and_weights_are_those_of_the_baskets_that_hold_all_of_a_set(
    baskets: list[tuple[set[str], int, float]], sets: list[list[str]]
) -> None:
    wanted = SetList.of([pa.array(sets, pa.list_(pa.string()))])
    lists = pa.array([sorted(items) for items, _, _ in baskets], pa.list_(pa.string()))
    rows, codes = coded(lists, wanted.items)
    groups = np.array([group for _, group, _ in baskets], dtype=np.int64)
    weights = np.array([weight for _, _, weight in baskets], dtype=np.float64)

    totals = count_sets(Block(rows, codes, groups, weights), wanted.sets, len(wanted.items), 4)

    assert totals.weights is not None
    for number, items in zip(wanted.numbers[0].tolist(), sets, strict=True):
        for group in range(4):
            holding = [weight for held, own, weight in baskets if own == group and held.issuperset(items)]
            assert totals.counts[number, group] == len(holding)
            assert totals.weights[number, group] == pytest.approx(sum(holding))


def test_a_set_that_is_there_twice_has_one_number() -> None:
    type_ = pa.list_(pa.string())
    wanted = SetList.of([pa.array([["a", "b"], ["c"]], type_), pa.array([["c"], ["a"], ["a", "b"]], type_)])
    assert [numbers.tolist() for numbers in wanted.numbers] == [[0, 1], [1, 2, 0]]
    named = [
        [wanted.items[code].as_py() for code in codes]
        for codes in np.split(wanted.sets.codes, wanted.sets.starts[1:-1])
    ]
    assert named == [["a", "b"], ["c"], ["a"]]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(0, 30))
def test_adjusted_p_values_with_hypotheses_that_are_not_listed(p_values: list[float], more: int) -> None:
    expected = false_discovery_control([*p_values, *[1.0] * more])[: len(p_values)]
    found = adjusted(np.array([np.nan, *p_values]), len(p_values) + more)
    assert np.isnan(found[0])
    assert found[1:].tolist() == pytest.approx(expected.tolist())
