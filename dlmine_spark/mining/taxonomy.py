"""Taxonomies: baskets that hold the categories of their items too, and itemsets without what is so by definition.

Of mixed levels are rules such as ``gin => category=soft drinks``. Baskets are extended by all ancestors of their items,
and an itemset that holds something together with an ancestor of it is left out: it says no more than without the
ancestor (Srikant and Agrawal 1995, "Mining generalized association rules", algorithm Cumulate). What is left out with
an itemset is left out with all larger ones, so the itemsets stay complete.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import TaxonomyConfig
from dlmine_spark.errors import TableContractError

CATEGORY = "category"
LOWER, UPPER = "lower", "upper"


def categories_of(rows: DataFrame, item: str, columns: tuple[str, ...]) -> DataFrame:
    """The categories of items; blank ones are none.

    Args:
        rows: a column that names items, and columns of categories.
        item: name of the first.
        columns: names of the others.

    Returns:
        One row per item and category: ``item``, ``category`` (``<column>=<value>``, so that no category is called as
        another column's, and none as an item, see ``check_names``).
    """
    named = [F.concat(F.lit(_prefix(column)), F.col(f"`{column}`").cast("string")) for column in columns]
    return (
        rows.where(F.col(f"`{item}`").isNotNull())
        .select(
            F.col(f"`{item}`").cast("string").alias(s.ITEM), F.explode(F.array_compact(F.array(*named))).alias(CATEGORY)
        )
        .distinct()
    )


def ancestors(categories: DataFrame) -> DataFrame:
    """What is so by definition: an item is of its categories, a category of those that hold all of its items.

    So categories of one hierarchy (sub-category, category) are known to be nested, and those of two (brand, department)
    not to be, from the data.

    Args:
        categories: of ``categories_of``; read several times.

    Returns:
        One row per pair: ``lower``, ``upper``.
    """
    sizes = categories.groupBy(F.col(CATEGORY).alias(LOWER)).agg(F.count(F.lit(1)).alias("items"))
    others = categories.select(s.ITEM, F.col(CATEGORY).alias(UPPER))
    nested = (
        categories.withColumnRenamed(CATEGORY, LOWER)
        .join(others, on=s.ITEM, how="inner")
        .where(F.col(LOWER) != F.col(UPPER))
        .groupBy(LOWER, UPPER)
        .agg(F.count(F.lit(1)).alias("shared"))
        .join(sizes, on=LOWER, how="inner")
        .where(F.col("shared") == F.col("items"))
    )
    own = categories.select(F.col(s.ITEM).alias(LOWER), F.col(CATEGORY).alias(UPPER))
    return own.unionByName(nested.select(LOWER, UPPER))


def extended(baskets: DataFrame, categories: DataFrame) -> DataFrame:
    """Baskets with the categories of their items among the items.

    Args:
        baskets: ``basket_id`` (each once), ``items`` (distinct), and whatever else.
        categories: of ``categories_of``.

    Returns:
        One row per basket: its columns, of which ``items`` is changed.
    """
    others = [name for name in baskets.columns if name not in (s.BASKET_ID, s.ITEMS)]
    return (
        baskets.select(s.BASKET_ID, *others, F.explode(s.ITEMS).alias(s.ITEM))
        .join(categories, on=s.ITEM, how="left")
        .groupBy(s.BASKET_ID)
        .agg(
            F.array_union(F.collect_set(s.ITEM), F.collect_set(CATEGORY)).alias(s.ITEMS),
            *(F.first(name).alias(name) for name in others),
        )
    )


def without_trivial(itemsets: DataFrame, related: DataFrame) -> DataFrame:
    """Itemsets none of which holds something together with an ancestor of it.

    Args:
        itemsets: ``itemsets.MINED``; rows without items pass.
        related: of ``ancestors``.
    """
    trivial = (
        itemsets.select(s.ITEMS, F.explode(s.ITEMS).alias(LOWER))
        .join(related, on=LOWER, how="inner")
        .where(F.array_contains(s.ITEMS, F.col(UPPER)))
        .select(s.ITEMS)
        .distinct()
    )
    return itemsets.join(trivial, on=s.ITEMS, how="left_anti")


def check_names(baskets: DataFrame, taxonomy: TaxonomyConfig) -> None:
    """Refuse items that are called like categories (one pass that ends at the first of them).

    Raises:
        TableContractError: there is such an item.
    """
    clash = (
        baskets.select(F.explode(s.ITEMS).alias(s.ITEM)).where(_is_category(F.col(s.ITEM), taxonomy)).limit(1).collect()
    )
    if clash:
        raise TableContractError(
            f"item {clash[0][s.ITEM]!r} is called as mining.taxonomy.categories would call a category: rename the "
            "column of that category, or the item"
        )


def between_items(rules: DataFrame, taxonomy: TaxonomyConfig | None) -> DataFrame:
    """Rules that no category takes part in: what may be recommended or promoted is an item."""
    if taxonomy is None:
        return rules
    sides = F.concat("antecedent", "consequent")
    return rules.where(~F.exists(sides, lambda item: _is_category(item, taxonomy)))


def _is_category(item: Column, taxonomy: TaxonomyConfig) -> Column:
    return reduce(Column.__or__, (F.startswith(item, F.lit(_prefix(column))) for column in taxonomy.categories))


def _prefix(column: str) -> str:
    """Delta allows no column with a ``=``, so the first one ends the name of the column."""
    return f"{column}="
