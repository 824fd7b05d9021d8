"""Small baskets, and itemsets counted the way the definition says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, combinations

from pyspark.sql import DataFrame, SparkSession

from dlmine_spark import schemas as s

BREAKFAST = [
    ["bread", "butter", "jam"],
    ["bread", "butter"],
    ["bread", "jam"],
    ["butter", "milk"],
    ["bread", "butter", "jam", "milk"],
]
"""Five baskets; the counts are bread 4, butter 4, jam 3, milk 2."""


def brute_force(
    baskets: Iterable[Iterable[str]], min_count: int, max_len: int | None = None
) -> dict[tuple[str, ...], int]:
    """Every itemset in at least ``min_count`` baskets, by looking at every subset of every basket."""
    counts: Counter[tuple[str, ...]] = Counter()
    for basket in baskets:
        items = sorted(set(basket))
        sizes = range(1, min(len(items), max_len or len(items)) + 1)
        counts.update(chain.from_iterable(combinations(items, size) for size in sizes))
    return {items: count for items, count in counts.items() if count >= min_count}


def basket_frame(spark: SparkSession, baskets: Sequence[Sequence[str | None] | None]) -> DataFrame:
    """Baskets as ``silver.baskets`` has them, numbered b0, b1, ..."""
    rows = [(f"b{number}", basket) for number, basket in enumerate(baskets)]
    return spark.createDataFrame(rows, "basket_id string, items array<string>")


def rule(antecedent: Sequence[str], consequent: Sequence[str], **values: object) -> tuple[object, ...]:
    """A row of ``gold.rules`` that is kept; what is not given is null."""
    given = {"is_redundant": False, "is_significant": True, "is_kept": True, **values}
    return (list(antecedent), list(consequent), *(given.get(name) for name in s.RULES.names[2:]))


def found(itemsets: DataFrame) -> dict[tuple[str, ...], int]:
    """Itemsets and counts of a mined frame; items must be sorted, and no itemset may come twice."""
    rows = itemsets.collect()
    counts = {tuple(row["items"]): row["count"] for row in rows}
    assert len(counts) == len(rows)
    assert all(list(items) == sorted(items) for items in counts)
    assert all(row["size"] == len(row["items"]) for row in rows)
    return counts
