"""FP-growth by MLlib: the second engine, for the same table."""

from __future__ import annotations

from pyspark.ml.fpm import FPGrowth
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig
from dlmine_spark.mining.baskets import BasketSummary


def frequent_itemsets(baskets: DataFrame, summary: BasketSummary, config: MiningConfig) -> DataFrame:
    """Frequent itemsets with exact counts; counting items runs at once, growing the trees is lazy.

    MLlib grows all trees in the executors' memory and knows no limit of length: ``max_len`` is applied to its result.

    Args:
        baskets: one row per basket, ``items`` distinct (MLlib refuses repeated ones) and not null.
        summary: of the baskets.
        config: support and limits.

    Returns:
        ``itemsets.MINED``: one row per itemset.
    """
    # MLlib counts from ceil(minSupport * baskets) in doubles; half a basket less leaves no doubt about rounding.
    min_support = (summary.min_count(config.min_support) - 0.5) / summary.baskets
    growth = FPGrowth(itemsCol=s.ITEMS, minSupport=min_support)
    if config.num_partitions is not None:
        growth = growth.setNumPartitions(config.num_partitions)
    grown = growth.fit(baskets.select(s.ITEMS)).freqItemsets
    mined = grown.select(
        F.array_sort(s.ITEMS).alias(s.ITEMS), F.size(s.ITEMS).alias("size"), F.col("freq").alias("count")
    )
    return mined if config.max_len is None else mined.where(F.col("size") <= config.max_len)
