"""Which trials go on, in numbers small enough to follow by hand."""

from __future__ import annotations

import math

import pytest

from dlmine_spark.tuning.trials import Trial, best_of, limit, limits, ranks, rungs


def trial(number: int, *values: float, state: str = "complete") -> Trial:
    return Trial.from_json(
        Trial(number, {"hidden": 8}, "complete", values, 3, 1.0).to_json().replace("complete", state)
    )


@pytest.mark.parametrize(
    ("epochs", "reduction", "expected"),
    [(12, 3, (2, 4, 12)), (12, 2, (3, 6, 12)), (2, 3, (1, 2)), (1, 3, (1,)), (3, 3, (1, 3))],
)
def test_trials_are_judged_after_a_ninth_a_third_and_all_of_their_epochs(
    epochs: int, reduction: int, expected: tuple[int, ...]
) -> None:
    assert rungs(epochs, reduction) == expected


def test_one_of_three_goes_on() -> None:
    assert limit([], 3) == math.inf
    # The second has to beat the first; of six, two go on.
    assert limit([0.2], 3) == 0.2
    assert limit([0.5, 0.1, 0.4, 0.2, 0.3], 3) == 0.2
    assert limit([0.5, 0.1, 0.4, 0.2, 0.3], 2) == 0.3


def test_a_trial_is_compared_with_those_that_got_as_far() -> None:
    before = [trial(0, 0.3, 0.2, 0.1), trial(1, 0.2, 0.3, state="pruned"), trial(2, state="failed")]
    assert limits(before, 3, 2) == (0.2, 0.2)
    assert limits(before, 1, 2) == ()
    assert limits([], 3, 2) == (math.inf, math.inf)


def test_the_best_is_one_that_was_trained_to_the_end_and_the_first_of_equals() -> None:
    trials = [trial(0, 0.2), trial(1, 0.01, state="pruned"), trial(2, 0.1), trial(3, 0.1)]
    best = best_of(trials)
    assert best is not None
    assert best.number == 2
    assert best_of([trial(0, state="failed")]) is None


def test_who_got_further_comes_first() -> None:
    trials = [trial(0, 0.5, 0.4), trial(1, 0.1, state="pruned"), trial(2, 0.5, 0.3), trial(3, state="failed")]
    assert ranks(trials) == [1, 2, 0, 3]


def test_a_trial_is_the_same_read_again() -> None:
    one = Trial(3, {"hidden": 8, "learning_rate": 0.01}, "failed", (0.3,), 2, 1.5, "loss is no number", 7.0)
    assert Trial.from_json(one.to_json()) == one
