"""Rules beside more general ones, in plain numpy: what each item of an antecedent adds.

A rule ``X => Y`` is more general than ``X' => Y`` where X is a proper part of X'. The rules of one consequent form a
lattice, which is walked once from the empty antecedent up: what the best of all more general rules is follows from the
rules with one item less, so no rule looks at more than as many others as its antecedent has items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlmine_spark.mining.measures import Doubles
from dlmine_spark.mining.miner import Ints, Longs
from dlmine_spark.mining.significance import log_fisher

_TRIES = 10
"""Random keys of sets that are drawn before equal keys are taken for equal sets (one draw in 10^7 has any)."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """All rules of some consequents, those with an empty antecedent too; sets of at least the frequent support.

    Attributes:
        groups: number of the consequent, ascending from 0 without gaps.
        lengths: items of the antecedent.
        codes: the antecedents' items as numbers, one antecedent after the other.
        joint: baskets that hold both sides.
        antecedent: baskets that hold the antecedent (all of them hold the empty one).
    """

    groups: Longs
    lengths: Longs
    codes: Ints
    joint: Doubles
    antecedent: Doubles


@dataclass(frozen=True, slots=True)
class Compared:
    """Rules and what they are worth beside more general ones.

    Attributes:
        rows: their places among the candidates.
        consequent: baskets that hold the consequent.
        improvement: confidence less that of the most confident more general rule (Bayardo, Agrawal and Gunopulos
            1999).
        log_p: logarithm of the p-value that the sides are independent.
        log_p_improvement: the same of the antecedent's items: the largest of the tests whether, in the baskets of a
            more general rule, the further items and the consequent are independent. The more general rules are those
            with one item less (Webb 2007) and the most confident one of all. 0 where there is no improvement.
    """

    rows: Longs
    consequent: Doubles
    improvement: Doubles
    log_p: Doubles
    log_p_improvement: Doubles


@dataclass(frozen=True, slots=True)
class _Level:
    """Antecedents of one size: rows ascending by key, and the keys."""

    keys: npt.NDArray[np.uint64]
    rows: Longs

    def find(self, keys: npt.NDArray[np.uint64]) -> Longs:
        """The rows of keys."""
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        if len(self.keys) == 0 or not np.array_equal(self.keys[places], keys):
            raise ValueError("the itemsets are not complete: a part of a frequent itemset is not among them")
        return self.rows[places]


class _SameKey(Exception):
    """Two sets drew the same key."""


def compare(
    candidates: Candidates, is_wanted: npt.NDArray[np.bool_], min_confidence: float, min_lift: float
) -> Compared:
    """Compare rules with all that are more general.

    Args:
        candidates: complete for their consequents: with a rule, every more general one.
        is_wanted: which rules to tell of, if they also have the confidence and the lift.
        min_confidence, min_lift: thresholds.

    Raises:
        ValueError: a more general rule is missing.
    """
    for attempt in range(_TRIES):
        try:
            return _compare(candidates, is_wanted, min_confidence, min_lift, np.random.default_rng(attempt))
        except _SameKey:
            continue
    raise ValueError("the itemsets are not distinct: one of them is there twice")


def _compare(
    candidates: Candidates,
    is_wanted: npt.NDArray[np.bool_],
    min_confidence: float,
    min_lift: float,
    rng: np.random.Generator,
) -> Compared:
    joint, antecedent = candidates.joint, candidates.antecedent
    confidence = joint / antecedent
    # The empty antecedent of a group: all baskets, of which the consequent's hold it.
    empty = np.flatnonzero(candidates.lengths == 0)
    first = empty[np.argsort(candidates.groups[empty])][candidates.groups]
    consequent, baskets = joint[first], antecedent[first]
    lift = joint * baskets / (antecedent * consequent)
    is_wanted = is_wanted & (candidates.lengths > 0) & (confidence >= min_confidence) & (lift >= min_lift)
    # The most confident more general rule; of equal ones that of most baskets.
    best = np.full(len(joint), -1, dtype=np.int64)
    log_p = np.where(is_wanted, 0.0, np.nan)
    log_p[is_wanted] = log_fisher(joint[is_wanted], antecedent[is_wanted], consequent[is_wanted], baskets[is_wanted])
    worst = np.zeros(len(joint))

    def better(held: Longs, other: Longs) -> Longs:
        is_surer = (held < 0) | (confidence[other] > confidence[held])
        is_as_sure = (confidence[other] == confidence[held]) & (antecedent[other] > antecedent[held])
        return np.where((other >= 0) & (is_surer | is_as_sure), other, held)

    def test(rows: Longs, general: Longs) -> None:
        p = log_fisher(joint[rows], antecedent[rows], joint[general], antecedent[general])
        worst[rows] = np.maximum(worst[rows], p)

    for rows, smaller in _lattice(candidates, rng):
        for general in smaller:
            best[rows] = better(best[rows], better(general, best[general]))
        if len(smaller) == 1:
            # The only more general rule is that of all baskets: the test is the rule's own.
            worst[rows] = log_p[rows]
            continue
        improves = confidence[rows] > confidence[best[rows]]
        worst[rows] = np.where(improves, -np.inf, 0.0)
        is_tested = is_wanted[rows] & improves
        is_far = is_tested
        for general in smaller:
            test(rows[is_tested], general[is_tested])
            is_far = is_far & (best[rows] != general)
        test(rows[is_far], best[rows[is_far]])
    wanted_rows = np.flatnonzero(is_wanted)
    return Compared(
        wanted_rows,
        consequent[wanted_rows],
        confidence[wanted_rows] - confidence[best[wanted_rows]],
        log_p[wanted_rows],
        worst[wanted_rows],
    )


def _lattice(candidates: Candidates, rng: np.random.Generator) -> Iterator[tuple[Longs, list[Longs]]]:
    """Level by level from one item on: the rows of a level, and for each item left out the rows with the rest.

    A set's key is the sum of random keys of its items and its consequent, modulo 2^64: leaving out an item is one
    subtraction. Keys of a level are checked to differ, so that what is found by key is the set itself.

    Raises:
        _SameKey: they do not differ.
    """
    keys_of_items = _random_keys(int(candidates.codes.max(initial=-1)) + 1, rng)
    keys_of_groups = _random_keys(int(candidates.groups.max(initial=-1)) + 1, rng)
    starts = np.cumsum(candidates.lengths) - candidates.lengths
    below: _Level | None = None
    for size in range(int(candidates.lengths.max(initial=0)) + 1):
        rows = np.flatnonzero(candidates.lengths == size)
        items = keys_of_items[candidates.codes[starts[rows][:, None] + np.arange(size)]]
        keys = keys_of_groups[candidates.groups[rows]] + items.sum(axis=1, dtype=np.uint64)
        if below is not None:
            yield rows, [below.find(keys - items[:, place]) for place in range(size)]
        order = np.argsort(keys)
        if np.any(np.diff(keys[order]) == 0):
            raise _SameKey
        below = _Level(keys[order], rows[order])


def _random_keys(count: int, rng: np.random.Generator) -> npt.NDArray[np.uint64]:
    return rng.integers(0, 2**64 - 1, size=count, dtype=np.uint64, endpoint=True)
