"""Contrast: rules beside each other in groups of baskets, and whether chance explains that a group differs.

A rule that holds everywhere may hold in one group only, and rules of a small group drown among all baskets. So each
group is mined alone; then what was found in any of them is counted in all (``sets``), also where it is rare, since that
a rule fails somewhere is what one wants to know. Contrast sets are Bay and Pazzani's idea (2001, "Detecting group
differences: mining contrast sets").
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.mining.miner import Longs
from dlmine_spark.mining.rules import SIDES
from dlmine_spark.mining.sets import SetList
from dlmine_spark.mining.significance import Doubles, benjamini_hochberg, log_same_share

Arrays = dict[str, npt.NDArray[Any]]
_GROUPS = "groups"


def rules_of_groups(kept: Sequence[DataFrame]) -> DataFrame:
    """The rules that are kept in any group, each once.

    Args:
        kept: of each group, one row per rule: ``antecedent``, ``consequent``, both sorted.

    Returns:
        ``antecedent``, ``consequent``, ``items`` (of both sides, sorted), ``groups`` (the numbers of those groups).
    """
    numbered = [rules.select(*SIDES, F.lit(number).alias(_GROUPS)) for number, rules in enumerate(kept)]
    return (
        reduce(DataFrame.unionByName, numbered)
        .groupBy(*SIDES)
        .agg(F.collect_list(_GROUPS).alias(_GROUPS))
        .select(*SIDES, F.array_sort(F.concat(*SIDES)).alias(s.ITEMS), _GROUPS)
    )


def sets_of(rules: pa.Table) -> SetList:
    """The sets whose counts measure rules: lists of both sides together (``items``), of antecedents, of consequents."""
    return SetList.of([rules.column(name).combine_chunks() for name in (s.ITEMS, *SIDES)])


def is_kept_in(rules: pa.Table, groups: int) -> npt.NDArray[np.bool_]:
    """Whether each rule (rows) is among those kept in each group (columns)."""
    flags = np.zeros((len(rules), groups), dtype=np.bool_)
    kept_in = rules.column(_GROUPS).combine_chunks()
    rows = np.repeat(np.arange(len(rules)), np.asarray(pc.list_value_length(kept_in)))
    flags[rows, np.asarray(kept_in.flatten())] = True
    return flags


def contrasts(wanted: SetList, counts: Longs, baskets: Longs, groups: int, max_q: float, hypotheses: int) -> Arrays:
    """Measures of each rule in each group and in all others together, and whether its confidence differs.

    Args:
        wanted: of ``sets_of``.
        counts: of each set (rows) in each group (columns).
        baskets: of each group.
        groups: how many of them, the first ones, are compared; the rest only counts among the others.
        max_q: largest q-value of a difference.
        hypotheses: how many confidences could have been compared. As in ``rules.count_hypotheses``, that is all pairs
            of sets that are frequent enough to be sides, whether both together are or not: being frequent together in
            a group is already a part of what is found there.

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
    q_values = benjamini_hochberg(p_values.ravel(), hypotheses)
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
