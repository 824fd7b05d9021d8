"""Drift: which rules appeared, vanished or changed between two minings, and whether chance explains it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.mining.rules import SIDES, adjusted
from dlmine_spark.mining.significance import log_same_share

ArrowFunction = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]

APPEARED, VANISHED, CHANGED, SAME = "appeared", "vanished", "changed", "same"
STATUSES = (APPEARED, VANISHED, CHANGED, SAME)

_BEFORE, _AFTER = "before", "after"
_JOINT, _LEFT, _RIGHT = "joint", "left", "right"


@dataclass(frozen=True, slots=True)
class Mining:
    """What was mined at a time: ``gold.rules``, ``gold.itemsets``, and the number of baskets."""

    rules: DataFrame
    itemsets: DataFrame
    baskets: int


def with_p_values(before: Mining, after: Mining) -> DataFrame:
    """Rules of either side with their measures on both, and how likely chance makes such a difference.

    A rule may be frequent where it is in no table of rules, having too little confidence or lift: then its measures are
    taken from the itemsets. Where the itemset is not frequent either, they are null, and so are the p-values.

    ``p_confidence`` asks whether one confidence explains both (n(A and C) among n(A)), ``p_support`` whether one
    support does (n(A and C) among all baskets): Fisher's exact test, two-sided (twice the smaller tail). ``p`` is that
    of both questions together (Bonferroni). The tests take the baskets of both sides for different ones; where the
    later ones hold the earlier ones too, differences are smaller and the tests too strict.

    Returns:
        One row per rule of either side: ``antecedent``, ``consequent``, ``is_before``, ``is_after``, ``kept_before``,
        ``kept_after``, measures and p-values.
    """
    sides = [
        mining.rules.select(*SIDES, F.lit(True).alias(f"is_{when}"), F.col("is_kept").alias(f"kept_{when}"))
        for when, mining in ((_BEFORE, before), (_AFTER, after))
    ]
    flags = ("is_before", "is_after", "kept_before", "kept_after")
    rules = (
        sides[0]
        .join(sides[1], on=list(SIDES), how="full_outer")
        .select(*SIDES, *(F.coalesce(flag, F.lit(False)).alias(flag) for flag in flags))
    )
    measured = _measured(_measured(rules, before, _BEFORE), after, _AFTER)
    kept = [name for name in measured.columns if not name.startswith((_JOINT, _LEFT, _RIGHT))]
    types = dict(measured.dtypes)
    ddl = ", ".join(f"{name} {types[name]}" for name in kept)
    tested = f"{ddl}, p_confidence double, p_support double, p double"
    return measured.mapInArrow(_testing(kept, before.baskets, after.baskets), tested)


def _testing(kept: list[str], baskets: int, other_baskets: int) -> ArrowFunction:
    """The function that adds p-values to rules with their counts."""
    names = [f"{count}_{when}" for when in (_BEFORE, _AFTER) for count in (_JOINT, _LEFT)]

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            joint, left, other_joint, other_left = (
                np.asarray(batch.column(name).to_numpy(zero_copy_only=False), np.float64) for name in names
            )
            p_confidence = _p(joint, left, other_joint, other_left)
            p_support = _p(joint, float(baskets), other_joint, float(other_baskets))
            p = np.minimum(1.0, 2 * np.minimum(p_confidence, p_support))
            values = {"p_confidence": p_confidence, "p_support": p_support, "p": p}
            columns = {name: pa.array(value, pa.float64(), from_pandas=True) for name, value in values.items()}
            yield pa.RecordBatch.from_pydict({**{name: batch.column(name) for name in kept}, **columns})

    return run


def drifted(tested: DataFrame, hypotheses: int, max_q: float) -> DataFrame:
    """What became of each rule.

    Args:
        tested: of ``with_p_values``; read several times and counted at once, so cached.
        hypotheses: how many rules could have been compared, see ``count_hypotheses``.
        max_q: largest q-value of a rule that changed.

    Returns:
        The rows of ``gold.rule_drift`` without the versions: one row per rule of either side.
    """
    p_values = tested.where(F.col("p").isNotNull()).select("p")
    known = p_values.count()
    q_values = adjusted(p_values, known, max(known, hypotheses))
    status = (
        F.when(~F.col("is_before"), APPEARED)
        .when(~F.col("is_after"), VANISHED)
        .when(F.col("q_value") <= max_q, CHANGED)
        .otherwise(SAME)
    )
    names = [name for name in s.RULE_DRIFT.names if not name.startswith("version_")]
    return tested.join(q_values, on="p", how="left").withColumn("status", status).select(*names)


def count_hypotheses(before: DataFrame, after: DataFrame, max_consequent: int) -> int:
    """How many rules can be compared, whatever their confidence: splits of itemsets that are frequent on both sides.

    The rules in the tables were chosen by their confidence and lift on a side, that is partly for what chance made of
    them there; all that could have been chosen count, as if p = 1. One aggregation, a row per size is collected.

    Args:
        before, after: ``gold.itemsets``.
        max_consequent: most items on the right side of a rule.
    """
    common = before.select(s.ITEMS).join(after.select(s.ITEMS), on=s.ITEMS, how="inner")
    rows = common.groupBy(F.size(s.ITEMS).alias("size")).count().collect()
    return sum(
        row["count"] * sum(math.comb(row["size"], part) for part in range(1, min(max_consequent, row["size"] - 1) + 1))
        for row in rows
    )


def _measured(rules: DataFrame, mining: Mining, when: str) -> DataFrame:
    """Rules with their counts and measures on a side; null where the itemset is not frequent there."""
    sets = {
        _JOINT: F.array_sort(F.concat(*SIDES)),
        _LEFT: F.col("antecedent"),
        _RIGHT: F.col("consequent"),
    }
    counted = rules
    for name, items in sets.items():
        counts = mining.itemsets.select(
            F.col(s.ITEMS).alias("__items"), F.col("count").cast("double").alias(f"{name}_{when}")
        )
        counted = counted.withColumn("__items", items).join(counts, on="__items", how="left").drop("__items")
    joint, left, right = (F.col(f"{name}_{when}") for name in sets)
    baskets = float(mining.baskets)
    return counted.withColumns(
        {
            f"support_{when}": joint / baskets,
            f"confidence_{when}": joint / left,
            f"lift_{when}": joint * baskets / (left * right),
        }
    )


def _p(
    hits: np.ndarray, cases: np.ndarray | float, other_hits: np.ndarray, other_cases: np.ndarray | float
) -> np.ndarray:
    """P-values where both sides are known, NaN elsewhere."""
    hits, cases, other_hits, other_cases = np.broadcast_arrays(hits, cases, other_hits, other_cases)
    is_known = ~(np.isnan(hits) | np.isnan(other_hits))
    p = np.full(hits.shape, np.nan)
    p[is_known] = np.exp(log_same_share(hits[is_known], cases[is_known], other_hits[is_known], other_cases[is_known]))
    return p
