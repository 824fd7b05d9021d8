"""What every engine promises about itemsets, and the engine to use."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig
from dlmine_spark.errors import DlmineError, TableContractError

MINED = "`items` array<string>, `size` int, `count` bigint"
"""Columns of what an engine returns: one row per frequent itemset, ``items`` sorted ascending.

A row whose ``items`` are null says that a task stopped: it found ``count`` itemsets, the last of them of ``size``.
"""


def count_by_size(mined: DataFrame, config: MiningConfig) -> dict[int, int]:
    """Number of itemsets by size, ascending (one aggregation over ``mined``, which should be cached).

    Raises:
        DlmineError: there are more than ``mining.max_itemsets``, or a task stopped because it found so many.
    """
    rows = (
        mined.groupBy("size")
        .agg(F.count(s.ITEMS).alias("itemsets"), F.max(F.when(F.col(s.ITEMS).isNull(), 1)).alias("stopped"))
        .collect()
    )
    counts = {row["size"]: row["itemsets"] for row in sorted(rows, key=lambda row: row["size"]) if row["itemsets"]}
    stopped = [row["size"] for row in rows if row["stopped"]]
    if stopped:
        raise too_many(max(stopped), config)
    return within_limit(counts, config)


def within_limit(counts: dict[int, int], config: MiningConfig) -> dict[int, int]:
    """The number of itemsets by size, ascending.

    Raises:
        DlmineError: there are more than ``mining.max_itemsets``.
    """
    total = 0
    for size, itemsets in counts.items():
        total += itemsets
        if total > config.max_itemsets:
            raise too_many(size, config)
    return counts


def too_many(size: int, config: MiningConfig) -> DlmineError:
    """The error of an explosion: the size of itemsets that mining came to, and what to change."""
    shorter = f"set mining.max_len below {size}, " if size > 1 else ""
    return DlmineError(
        f"more than mining.max_itemsets={config.max_itemsets:,} itemsets have a support of {config.min_support:g}; the "
        f"limit was passed by itemsets of {size} item{'s' if size > 1 else ''}: raise mining.min_support, {shorter}"
        "or raise mining.max_itemsets; no table was changed"
    )


def described(mined: DataFrame, baskets: int) -> DataFrame:
    """The rows of ``gold.itemsets``: itemsets with their share of the baskets, and which of them say all.

    An itemset is closed if none that holds it and more has the same count, and maximal if none that holds it and more
    is frequent (Pasquier, Bastide, Taouil and Lakhal 1999; Bayardo 1998). Supersets with one item more decide, since
    all between two frequent itemsets are frequent too: each itemset tells its count to its parts, in one aggregation.
    With ``mining.max_len`` nothing is known of longer itemsets: the longest count as closed and maximal.
    """
    own = F.struct(F.col(s.ITEMS), F.col("count"), F.lit(None).cast("bigint").alias("above"))
    to_parts = F.transform(
        s.ITEMS,
        lambda item: F.struct(
            F.array_remove(s.ITEMS, item).alias(s.ITEMS),
            F.lit(None).cast("bigint").alias("count"),
            F.col("count").alias("above"),
        ),
    )
    return (
        mined.select(F.inline(F.array_append(to_parts, own)))
        .where(F.size(s.ITEMS) > 0)
        .groupBy(s.ITEMS)
        .agg(F.max("count").alias("count"), F.max("above").alias("above"))
        .select(
            s.ITEMS,
            F.size(s.ITEMS).alias("size"),
            "count",
            (F.col("count") / F.lit(float(baskets))).alias("support"),
            (F.coalesce("above", F.lit(0)) < F.col("count")).alias("is_closed"),
            F.col("above").isNull().alias("is_maximal"),
        )
    )


def check_equal(ours: DataFrame, theirs: DataFrame, names: tuple[str, str]) -> None:
    """Compare the itemsets of two engines (one join).

    Raises:
        TableContractError: an itemset is missing from one of them or counted differently, with an example.
    """
    left, right = (
        frame.select(s.ITEMS, F.col("count").alias(side))
        for frame, side in ((ours, "left_count"), (theirs, "right_count"))
    )
    different = left.join(right, on=s.ITEMS, how="full_outer").where(
        ~F.col("left_count").eqNullSafe(F.col("right_count"))
    )
    example = different.orderBy(F.size(s.ITEMS), s.ITEMS).limit(1).collect()
    if example:
        row = example[0]
        raise TableContractError(
            f"{names[0]} and {names[1]} do not agree: {{{', '.join(row[s.ITEMS])}}} is in "
            f"{row['left_count'] or 0:,} baskets by {names[0]} and in {row['right_count'] or 0:,} by {names[1]} "
            "(0: not found); this is a defect of the program, please report it; no table was changed"
        )
