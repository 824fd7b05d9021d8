"""What is promised about sequences: how many there are, how sure their last basket is, and which of them say all."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import SequencesConfig
from dlmine_spark.errors import DlmineError

MINED = "`sequence` array<array<string>>, `length` int, `elements` int, `count` bigint, `prefix_count` bigint"
"""Columns of what is mined: one row per frequent sequence, items of a basket ascending.

``prefix_count`` is the count of the sequence without its last basket, 0 where it has but one. A row whose ``sequence``
is null says that a task stopped: it found ``count`` sequences, the last of them of ``length`` items.
"""


class TooManySequences(DlmineError):
    """More sequences than ``mining.sequences.max_sequences``."""


def count_by_length(mined: DataFrame, config: SequencesConfig) -> dict[int, int]:
    """Number of sequences by items in all, ascending (one aggregation over ``mined``, which should be cached).

    Raises:
        TooManySequences: there are more than ``mining.sequences.max_sequences``, or a task stopped because it found
            so many.
    """
    rows = (
        mined.groupBy("length")
        .agg(F.count("sequence").alias("sequences"), F.max(F.col("sequence").isNull()).alias("stopped"))
        .orderBy("length")
        .collect()
    )
    stopped = [row["length"] for row in rows if row["stopped"]]
    if stopped:
        raise too_many(max(stopped), config)
    counts: dict[int, int] = {}
    for row in rows:
        counts[row["length"]] = row["sequences"]
        if sum(counts.values()) > config.max_sequences:
            raise too_many(row["length"], config)
    return counts


def too_many(length: int, config: SequencesConfig) -> TooManySequences:
    """The error of an explosion: the length of sequences that mining came to, and what to change."""
    shorter = f"mining.sequences.max_len below {length}, " if length > 1 else ""
    return TooManySequences(
        f"more than mining.sequences.max_sequences={config.max_sequences:,} sequences have a support of "
        f"{config.min_support:g}; the limit was passed by sequences of {length} item{'s' if length > 1 else ''}: set "
        f"mining.sequences.min_support higher, {shorter}a smaller mining.sequences.max_gap or max_gap_days, "
        "or raise mining.sequences.max_sequences"
    )


def described(mined: DataFrame, customers: int, config: SequencesConfig) -> DataFrame:
    """The rows of ``gold.sequences``.

    A sequence is closed if none that holds it and more has the same count, and maximal if none that holds it and more
    is frequent, among those in the table. As with itemsets, those with one item more decide, so each sequence tells its
    count to its parts, in one aggregation. Where gaps are limited, a basket in the middle is no part that can go: what
    is left would be farther apart than a gap allows.

    Confidence and lift are those of the last basket after the others (Zaki 2001, "SPADE: an efficient algorithm for
    mining frequent sequences"), by customers: lift compares with the share that ever had such a basket.
    """
    is_bounded = config.max_gap is not None or config.max_gap_days is not None
    nothing = F.lit(None).cast("bigint")
    own = F.struct("sequence", "count", "prefix_count", nothing.alias("above"))
    to_parts = F.transform(
        _parts(is_bounded=is_bounded),
        lambda part: F.struct(
            part.alias("sequence"), nothing.alias("count"), nothing.alias("prefix_count"), F.col("count").alias("above")
        ),
    )
    counted = (
        mined.select(F.inline(F.array_append(to_parts, own)))
        .where(F.size("sequence") > 0)
        .groupBy("sequence")
        .agg(*(F.max(name).alias(name) for name in ("count", "prefix_count", "above")))
        .withColumn("last", F.element_at("sequence", -1))
    )
    last_baskets = mined.where(F.col("elements") == 1).select(
        F.element_at("sequence", 1).alias("last"), F.col("count").alias("last_count")
    )
    confidence = F.when(F.col("prefix_count") > 0, F.col("count") / F.col("prefix_count"))
    return (
        counted.join(last_baskets, on="last", how="left")
        .select(
            "sequence",
            F.size(F.flatten("sequence")).alias("length"),
            F.size("sequence").alias("elements"),
            "count",
            (F.col("count") / F.lit(float(customers))).alias("support"),
            confidence.alias("confidence"),
            (confidence * F.lit(float(customers)) / F.col("last_count")).alias("lift"),
            (F.coalesce("above", F.lit(0)) < F.col("count")).alias("is_closed"),
            F.col("above").isNull().alias("is_maximal"),
        )
        .select(*s.SEQUENCES.names)
    )


def _parts(*, is_bounded: bool) -> Column:
    """The sequences that are left of ``sequence`` without one of its items."""
    sequence = F.col("sequence")

    def without(basket: Column, place: Column) -> Column:
        before = F.slice(sequence, F.lit(1), place)
        after = F.slice(sequence, place + 2, F.size(sequence))
        smaller = F.transform(basket, lambda item: F.concat(before, F.array(F.array_remove(basket, item)), after))
        shorter = F.array(F.concat(before, after))
        if is_bounded:
            is_inner = (place > 0) & (place < F.size(sequence) - 1)
            shorter = F.when(~is_inner, shorter).otherwise(F.slice(shorter, 1, 0))
        return F.when(F.size(basket) > 1, smaller).otherwise(shorter)

    return F.flatten(F.transform(sequence, without))
