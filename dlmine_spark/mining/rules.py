"""Association rules from frequent itemsets.

An itemset splits into antecedent and consequent; both are frequent, so their counts are found among the itemsets.
Everything is joins of the table with itself: nothing is collected, however many rules there are.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig
from dlmine_spark.mining.measures import measures

_JOINT, _ANTECEDENT, _CONSEQUENT = "joint_count", "antecedent_count", "consequent_count"


def rules_of(itemsets: DataFrame, baskets: int, config: MiningConfig) -> DataFrame:
    """Rules with at least the confidence and the lift asked for.

    Args:
        itemsets: all frequent itemsets with sorted ``items`` and their ``count``; read several times, so cached or a
            table.
        baskets: number of baskets they were counted in.
        config: thresholds, and how many items a consequent may have.

    Returns:
        The rows of ``gold.rules``: one row per rule, both sides sorted ascending.
    """
    antecedents = itemsets.select(F.col(s.ITEMS).alias("antecedent"), F.col("count").alias(_ANTECEDENT))
    consequents = itemsets.where(F.col("size") <= config.max_consequent).select(
        F.col(s.ITEMS).alias("consequent"), F.col("count").alias(_CONSEQUENT)
    )
    joint, antecedent, consequent = (F.col(name).cast("double") for name in (_JOINT, _ANTECEDENT, _CONSEQUENT))
    exceptions = F.nullif(antecedent - joint, F.lit(0.0))
    values: dict[str, Column] = measures(joint, antecedent, consequent, float(baskets), exceptions)
    return (
        splits(itemsets, config.max_consequent)
        .join(antecedents, on="antecedent", how="inner")
        .where(joint / antecedent >= config.min_confidence)
        .join(consequents, on="consequent", how="inner")
        .select("antecedent", "consequent", *(value.alias(name) for name, value in values.items()))
        .where(F.col("lift") >= config.min_lift)
        .select(*s.RULES.names)
    )


def splits(itemsets: DataFrame, max_consequent: int) -> DataFrame:
    """Every way to split an itemset into an antecedent and a consequent of at most so many items, both not empty.

    Returns:
        One row per split: ``antecedent``, ``consequent`` (sorted), ``joint_count``.
    """
    unsplit = itemsets.where(F.col("size") > 1).select(
        F.col(s.ITEMS).alias("antecedent"),
        F.array().cast("array<string>").alias("consequent"),
        F.col("count").alias(_JOINT),
    )
    by_size = [unsplit]
    for size in range(max_consequent):
        # Items are moved in ascending order, so each consequent comes about in one way.
        movable = F.col("antecedent") if size == 0 else _after_last()
        moved = by_size[-1].where(F.size("antecedent") > 1).select("*", F.explode(movable).alias("moved"))
        by_size.append(
            moved.select(
                F.array_remove("antecedent", F.col("moved")).alias("antecedent"),
                F.array_append("consequent", F.col("moved")).alias("consequent"),
                _JOINT,
            )
        )
    return reduce(DataFrame.unionByName, by_size[1:])


def _after_last() -> Column:
    """The items of the antecedent that come after the last one of the consequent."""
    return F.filter("antecedent", lambda item: item > F.element_at("consequent", -1))
