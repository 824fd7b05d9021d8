"""Mined signals as covariates: what segments and rules say about a series and a date, as of a cutoff.

Every function takes tables that were mined from data up to the cutoff; nothing here looks at sales.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s

SEGMENT_CODE = f"{s.CATEGORY_PREFIX}{s.MINED}segments"
RULE_PULL = f"{s.KNOWN_FUTURE_PREFIX}{s.MINED}rules_pull"
MEMBERSHIP_PREFIX = f"{s.STATIC_PREFIX}{s.MINED}segments_"


def segment_signals(assignments: DataFrame, segments: int) -> DataFrame:
    """Segment code (1-based; 0 stays for series without one) and membership shares.

    Args:
        assignments: ``gold.segments`` rows of the stores.
        segments: how many there are (the width of ``membership``).

    Returns:
        One row per series: ``unique_id``, the code, and one share per segment.
    """
    return assignments.where(F.col("entity") == "store").select(
        F.col("entity_id").alias(s.UNIQUE_ID),
        (F.col("segment") + 1).cast("double").alias(SEGMENT_CODE),
        *(
            F.coalesce(F.get(F.col("membership"), F.lit(index)), F.lit(0.0)).alias(f"{MEMBERSHIP_PREFIX}{index}")
            for index in range(segments)
        ),
    )


def pull_of_items(rules: DataFrame) -> DataFrame:
    """How much buying an item drags along: the sum over its rules of confidence beyond chance.

    A rule ``item => c`` adds ``confidence - consequent_support``: the extra share of the item's baskets that hold
    ``c``. Only rules that are kept count, and of them those with single-item antecedents, since a promotion names one
    item.

    Returns:
        One row per item: ``item``, ``pull`` (expected extra items per basket with the item).
    """
    return (
        rules.where(F.col("is_kept") & (F.size("antecedent") == 1) & (F.col("lift") > 1))
        .groupBy(F.get(F.col("antecedent"), F.lit(0)).alias(s.ITEM))
        .agg(F.sum(F.col("confidence") - F.col("consequent_support")).alias("pull"))
    )


def add_rule_pull(known_future: DataFrame, rules: DataFrame, promoted_item: str) -> DataFrame:
    """Add the pull of the item promoted on each date (0 without a promotion, or for an item no rule starts from).

    Args:
        known_future: one row per series and date, with the covariate ``promoted_item``.
        rules: ``gold.rules`` mined up to the cutoff.
        promoted_item: name of the covariate that names the promoted item.
    """
    pulls = pull_of_items(rules).withColumnRenamed(s.ITEM, "__item")
    return (
        known_future.join(F.broadcast(pulls), on=F.col(f"`{promoted_item}`") == F.col("__item"), how="left")
        .withColumn(RULE_PULL, F.coalesce(F.col("pull"), F.lit(0.0)))
        .drop("__item", "pull")
    )
