"""Numbers of segments: by size at first, afterwards those that most entities have had."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlmine_spark.segmentation.numbering import by_size, keep_numbers


def test_largest_first_then_by_centre_and_none_without_members() -> None:
    centres = np.array([[2.0], [1.0], [0.0], [5.0]])
    assert by_size(centres, (3, 3, 0, 9)) == [3, 1, 0]


def test_segments_keep_the_number_that_most_of_their_members_had() -> None:
    # By size it would be 0, 1, 2; but the largest was 1 so far, and the smallest 0.
    assert keep_numbers([0, 1, 2], np.array([[1, 8, 0], [0, 2, 5], [3, 0, 0]])) == [2, 0, 1]


def test_a_new_segment_takes_the_free_number() -> None:
    assert keep_numbers([0, 1, 2], np.array([[0, 9], [0, 0], [4, 0]])) == [2, 0, 1]
    # It was cut out of segment 0, whose number the larger part keeps.
    assert keep_numbers([1, 0, 2], np.array([[6, 0], [7, 0], [0, 5]])) == [1, 2, 0]


def test_a_single_entity_is_enough_to_keep_a_number() -> None:
    assert keep_numbers([0, 1], np.array([[0, 1], [0, 0]])) == [1, 0]


def test_of_a_segment_that_is_gone_the_number_goes_to_the_last_one() -> None:
    assert keep_numbers([0, 1], np.array([[9, 0, 0], [0, 0, 4]])) == [0, 1]
    assert keep_numbers([0, 1], np.array([[0, 0, 9], [4, 0, 0]])) == [1, 0]


def test_without_common_entities_the_order_stays() -> None:
    assert keep_numbers([2, 0, 1], np.zeros((3, 1), dtype=np.int64)) == [2, 0, 1]


@given(hnp.arrays(np.int64, (4, 4), elements=st.integers(0, 30)), st.permutations(range(4)))
def test_no_other_numbering_lets_more_entities_keep_theirs(overlap: np.ndarray, order: list[int]) -> None:
    kept = keep_numbers(order, overlap)
    assert sorted(kept) == [0, 1, 2, 3]

    def keeping(numbering: tuple[int, ...]) -> int:
        return int(sum(overlap[fitted, number] for number, fitted in enumerate(numbering)))

    assert keeping(tuple(kept)) == max(keeping(other) for other in permutations(range(4)))
