"""Contrast: rules beside each other in groups of baskets, and whether chance explains that a group differs.

A rule that holds everywhere may hold in one group only, and rules of a small group drown among all baskets. So each
group is mined alone; then what was found in any of them is counted in all (``sets``), also where it is rare, since that
a rule fails somewhere is what one wants to know. Contrast sets are Bay and Pazzani's idea (2001, "Detecting group
differences: mining contrast sets").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dlmine_spark.mining.counting import Doubles
from dlmine_spark.mining.miner import Longs
from dlmine_spark.mining.sets import SetList
from dlmine_spark.mining.significance import adjusted, log_same_share

SIDES = ("antecedent", "consequent")
Arrays = dict[str, npt.NDArray[Any]]


def sets_of(rules: pa.Table) -> SetList:
    """The sets whose counts measure rules: lists of both sides together, of the antecedents and of the consequents."""
    sides = [rules.column(name).combine_chunks() for name in SIDES]
    both = [sorted(left + right) for left, right in zip(*(side.to_pylist() for side in sides), strict=True)]
    return SetList.of([pa.array(both, sides[0].type), *sides])


def contrasts(wanted: SetList, counts: Longs, baskets: Longs, groups: int, max_q: float, hypotheses: int) -> Arrays:
    """Measures of each rule in each group and in all others together, and whether its confidence differs.

    Args:
        wanted: of ``sets_of``.
        counts: of each set (rows) in each group (columns).
        baskets: of each group.
        groups: how many of them, the first ones, are compared; the rest only counts among the others.
        max_q: largest q-value of a difference.
        hypotheses: how many confidences could have been compared, see ``count_hypotheses``.

    Returns:
        Arrays by name, all groups of the first rule first. ``p_value`` is that of Fisher's exact test, two-sided, that
        one confidence explains the group and the others. Where the antecedent is in no basket of one of them there is
        nothing to compare: it is NaN, and so is a confidence.
    """
    every = [counts[numbers].astype(np.float64) for numbers in wanted.numbers]
    own = [count[:, :groups] for count in every]
    others = [count.sum(axis=1, keepdims=True) - count[:, :groups] for count in every]
    joint, left = own[:2]
    p_values = np.full(joint.shape, np.nan)
    known = (left > 0) & (others[1] > 0)
    p_values[known] = np.exp(log_same_share(joint[known], left[known], others[0][known], others[1][known]))
    q_values = adjusted(p_values.ravel(), hypotheses)
    sizes = baskets.astype(np.float64)
    return {
        "baskets": np.tile(baskets[:groups], len(joint)),
        "count": joint.astype(np.int64).ravel(),
        **_measured(own, sizes[:groups], ""),
        **_measured(others, sizes.sum() - sizes[:groups], "_elsewhere"),
        "p_value": p_values.ravel(),
        "q_value": q_values,
        "differs": q_values <= max_q,
    }


def _measured(counts: list[Doubles], baskets: Doubles, where: str) -> Arrays:
    joint, left, right = counts
    with np.errstate(divide="ignore", invalid="ignore"):
        measures = {
            "support": joint / baskets,
            "confidence": joint / left,
            "lift": joint * baskets / (left * right),
        }
    return {f"{name}{where}": value.ravel() for name, value in measures.items()}


def count_hypotheses(itemsets_by_size: Mapping[int, int], groups: int, max_consequent: int) -> int:
    """How many confidences could have been compared: splits of itemsets that are frequent in any group, in each group.

    The rules that are compared were chosen for their confidence in a group, that is partly for what chance made of it
    there; all that could have been chosen count, as if p = 1.
    """
    return groups * sum(
        number * sum(math.comb(size, part) for part in range(1, min(max_consequent, size - 1) + 1))
        for size, number in itemsets_by_size.items()
    )


def is_kept_in(rules: pa.Table, kept: Sequence[pa.Table]) -> npt.NDArray[np.bool_]:
    """Whether each rule (rows) is among those kept in each group (columns)."""
    known = {rule: at for at, rule in enumerate(_keys(rules))}
    flags = np.zeros((len(known), len(kept)), dtype=np.bool_)
    for group, found in enumerate(kept):
        flags[[known[rule] for rule in _keys(found)], group] = True
    return flags


def all_of(kept: Sequence[pa.Table]) -> pa.Table:
    """The rules of any group, each once, in the order of their sides."""
    rules = pa.concat_tables(kept)
    keys = _keys(rules)
    firsts = {rule: at for at, rule in reversed(list(enumerate(keys)))}
    return rules.take(pa.array([firsts[rule] for rule in sorted(firsts)], pa.int64()))


def _keys(rules: pa.Table) -> list[tuple[tuple[str, ...], ...]]:
    sides = (map(tuple, rules.column(name).to_pylist()) for name in SIDES)
    return list(zip(*sides, strict=True))
