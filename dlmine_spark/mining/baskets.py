"""What a basket is: the distinct items of one basket id; and how many there are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig
from dlmine_spark.errors import TableContractError


@dataclass(frozen=True, slots=True)
class BasketSummary:
    """How many baskets there are and how long they get.

    Attributes:
        baskets: baskets with at least one item; supports are shares of these.
        items: items of all of them in sum.
        longest: items of the longest one.
        longest_id: its id (the last in order of id among equals).
    """

    baskets: int
    items: int
    longest: int
    longest_id: str | None

    def min_count(self, min_support: float) -> int:
        """Least number of baskets that hold a frequent itemset: ``ceil(min_support * baskets)``, at least 1."""
        return least_count(min_support, self.baskets)


def least_count(min_support: float, total: int) -> int:
    """``ceil(min_support * total)``, at least 1."""
    # .28 * 25 is 7.000000000000001 in binary; whoever wrote .28 means 7.
    return max(1, math.ceil(min_support * total - 1e-9))


def baskets_of_lines(lines: DataFrame, *further: Column) -> DataFrame:
    """Group basket lines.

    Args:
        lines: ``basket_id``, ``item``; lines without either are left out.
        further: what else is wanted of a basket, aggregates of its lines with their names.

    Returns:
        One row per basket: ``basket_id``, ``items`` (distinct, in no particular order), and what else is wanted.
    """
    return (
        lines.where(F.col(s.BASKET_ID).isNotNull() & F.col(s.ITEM).isNotNull())
        .groupBy(s.BASKET_ID)
        .agg(F.collect_set(s.ITEM).alias(s.ITEMS), *further)
    )


def customer_and_time() -> tuple[Column, Column]:
    """Whose a basket is (see ``agreed``), and when it began: the time of its first line."""
    return agreed(s.CUSTOMER_ID).alias(s.CUSTOMER_ID), F.min(s.TS).alias(s.TS)


def agreed(column: str) -> Column:
    """The value of all lines of a basket that have one; null where they have several."""
    return F.when(F.min(F.col(f"`{column}`")) == F.max(F.col(f"`{column}`")), F.min(F.col(f"`{column}`")))


def with_items(baskets: DataFrame) -> DataFrame:
    """Baskets that hold something, without nulls and repeated items.

    Items are compared as they are: what differs by case or spaces is cleaning's to unite.

    Returns:
        One row per basket with at least one item: its columns, of which ``items`` is changed.
    """
    return baskets.withColumn(s.ITEMS, F.array_distinct(F.array_compact(s.ITEMS))).where(F.size(s.ITEMS) > 0)


def summarise(baskets: DataFrame) -> BasketSummary:
    """Count baskets and find the longest (one aggregation).

    Args:
        baskets: ``basket_id``, ``items``, as ``with_items`` returns them.
    """
    row = baskets.agg(
        F.count(F.lit(1)).alias("baskets"),
        F.sum(F.size(s.ITEMS)).alias("items"),
        F.max(F.struct(F.size(s.ITEMS).alias("longest"), F.col(s.BASKET_ID))).alias("of"),
    ).collect()[0]
    if row["of"] is None:
        return BasketSummary(0, 0, 0, None)
    return BasketSummary(row["baskets"], row["items"], row["of"]["longest"], row["of"][s.BASKET_ID])


def check_longest(summary: BasketSummary, config: MiningConfig) -> None:
    """Refuse a basket that is no basket (an id that means "unknown", say), before its subsets are counted.

    Raises:
        TableContractError: a basket has more than ``mining.max_basket`` items.
    """
    if summary.longest > config.max_basket:
        raise TableContractError(
            f"basket {summary.longest_id!r} has {summary.longest:,} different items, mining.max_basket is "
            f"{config.max_basket:,}: quarantine its lines with a rule of the source if it is no real basket, "
            f"or set mining.max_basket={summary.longest}"
        )
