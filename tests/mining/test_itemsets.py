"""Closed and maximal itemsets against their definition."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.mining.itemsets import described
from tests.mining.examples import BREAKFAST, brute_force

pytestmark = pytest.mark.spark

Itemsets = dict[tuple[str, ...], int]


def flags(spark: SparkSession, counts: Itemsets, baskets: int, partitions: int = 2) -> dict[tuple[str, ...], str]:
    """By itemset, the first letters of what it is."""
    rows = [(list(items), len(items), count) for items, count in counts.items()]
    mined = spark.createDataFrame(rows, "items array<string>, size int, count bigint").repartition(partitions)
    found = described(mined, baskets)
    assert found.columns == s.ITEMSETS.names
    collected = found.collect()
    assert {tuple(row["items"]): (row["size"], row["count"], row["support"]) for row in collected} == {
        items: (len(items), count, count / baskets) for items, count in counts.items()
    }
    assert len(collected) == len(counts)
    return {tuple(row["items"]): "c" * row["is_closed"] + "m" * row["is_maximal"] for row in collected}


def by_definition(counts: Itemsets) -> dict[tuple[str, ...], str]:
    """Every itemset beside every other."""
    above = {items: [counts[more] for more in counts if set(items) < set(more)] for items in counts}
    return {items: "c" * (counts[items] not in larger) + "m" * (not larger) for items, larger in above.items()}


def test_closed_and_maximal_itemsets_of_breakfast(spark: SparkSession) -> None:
    assert flags(spark, brute_force(BREAKFAST, 2), 5) == {
        ("bread",): "c",
        ("butter",): "c",
        ("jam",): "",  # nobody has jam without bread
        ("milk",): "",  # nor milk without butter
        ("bread", "butter"): "c",
        ("bread", "jam"): "c",
        ("butter", "jam"): "",
        ("butter", "milk"): "cm",
        ("bread", "butter", "jam"): "cm",
    }


def test_the_longest_count_as_closed_and_maximal_where_nothing_longer_is_looked_for(spark: SparkSession) -> None:
    found = flags(spark, brute_force(BREAKFAST, 2, max_len=2), 5)
    assert {items for items, flag in found.items() if flag == "cm"} == {
        ("bread", "butter"), ("bread", "jam"), ("butter", "jam"), ("butter", "milk")
    }  # fmt: skip


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    baskets=st.lists(st.sets(st.sampled_from(["a", "b,", "c;d", "e f", "ü", "B"])), min_size=1, max_size=30),
    min_count=st.integers(1, 4),
    partitions=st.integers(1, 4),
)
def test_closed_and_maximal_itemsets_are_those_of_the_definition(
    spark: SparkSession, baskets: list[set[str]], min_count: int, partitions: int
) -> None:
    counts = brute_force(baskets, min_count)
    assert flags(spark, counts, len(baskets), partitions) == by_definition(counts)
