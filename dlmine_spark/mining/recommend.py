"""Recommendations: what rules, and popularity where no rule says more, add to the items of a basket or a customer.

Popularity is the rule of the empty antecedent: it fires everywhere, and its confidence is the share of baskets that
hold the item. So every candidate has a confidence, and the best ones win, whichever kind they are of. Only joins and
aggregations: nothing is collected, and what a task holds does not grow with the number of baskets.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s

SOURCE, ENTITY_ID = "source", "entity_id"
KEY = (SOURCE, ENTITY_ID)
"""What has items: a basket, or a customer with all of his baskets."""
RULE, POPULARITY = "rule", "popularity"
"""Where a recommendation comes from."""

_ANCHOR, _BEST = "anchor", "best"


def popularity(baskets: DataFrame) -> DataFrame:
    """One row per item: ``item``, ``support`` (its share of the baskets).

    Args:
        baskets: ``items``, distinct within a basket.
    """
    total = baskets.agg(F.count(F.lit(1)).alias("baskets"))
    counts = baskets.select(F.explode(s.ITEMS).alias(s.ITEM)).groupBy(s.ITEM).agg(F.count(F.lit(1)).alias("count"))
    return counts.crossJoin(F.broadcast(total)).select(s.ITEM, (F.col("count") / F.col("baskets")).alias("support"))


def firing_rules(rules: DataFrame, popular: DataFrame) -> DataFrame:
    """Rules as they are looked up: each under the rarest item of its antecedent.

    A basket meets a rule only through that item, so the fewest baskets meet rules that do not fire. Rules with several
    items on the right say nothing here that those with one don't. A rule no surer than a more general one
    (``improvement`` not above 0) never comes first, so it is left out too.

    Args:
        rules: rows of ``gold.rules``.
        popular: of ``popularity``.

    Returns:
        One row per rule: ``anchor``, ``antecedent``, ``item`` (the consequent), ``confidence``, ``lift``.
    """
    single = rules.where((F.size("consequent") == 1) & (F.col("improvement") > 0)).select(
        "antecedent",
        F.get("consequent", F.lit(0)).alias("consequent"),
        "confidence",
        "lift",
    )
    rarity = F.struct(F.coalesce("support", F.lit(0.0)), F.col(s.ITEM))
    anchors = (
        single.select("antecedent")
        .distinct()
        .withColumn(s.ITEM, F.explode("antecedent"))
        .join(popular, on=s.ITEM, how="left")
        .groupBy("antecedent")
        .agg(F.min_by(s.ITEM, rarity).alias(_ANCHOR))
    )
    return single.join(anchors, on="antecedent", how="inner").select(
        _ANCHOR, "antecedent", F.col("consequent").alias(s.ITEM), "confidence", "lift"
    )


def recommend(entities: DataFrame, rules: DataFrame | None, popular: DataFrame, top: int, *, longest: int) -> DataFrame:
    """The best ``top`` items that an entity does not have yet.

    Of the rules that fire (the entity has the whole antecedent) and recommend an item, the surest one counts; of equal
    ones that with fewer items, then the first in order of its items. Popular items come with their share of the
    baskets. Items with equal scores are in order of their names.

    The entities are exploded and met with rules by one item; then candidates, of which there are as many as rules fire
    and ``top`` popular ones, are brought together by entity. Spark broadcasts the rules where they are small
    (``spark.sql.autoBroadcastJoinThreshold``); where they are not, its adaptive plans split the tasks of items that
    very many have.

    Args:
        entities: ``source``, ``entity_id``, ``items`` (distinct).
        rules: of ``firing_rules``; None for popularity alone.
        popular: of ``popularity``.
        top: how many.
        longest: the most items that an entity has; no more popular ones than these and ``top`` are looked through.

    Returns:
        Up to ``top`` rows per entity: its key, ``rank`` from 1, ``item``, ``score`` (the confidence), ``basis``,
        ``antecedent`` (empty for popularity), ``lift``.
    """
    candidates = _popular_ones(entities, popular, top, longest)
    if rules is not None:
        candidates = candidates.unionByName(_fired(entities, rules))
    best_first = Window.partitionBy(*KEY).orderBy(f"{_BEST}.loss", s.ITEM)
    return (
        candidates.groupBy(*KEY, s.ITEM)
        .agg(F.min(_BEST).alias(_BEST))
        .withColumn("rank", F.row_number().over(best_first))
        .where(F.col("rank") <= top)
        .select(
            *KEY,
            "rank",
            s.ITEM,
            (-F.col(f"{_BEST}.loss")).alias("score"),
            F.when(F.col(f"{_BEST}.size") == 0, POPULARITY).otherwise(RULE).alias("basis"),
            f"{_BEST}.antecedent",
            f"{_BEST}.lift",
        )
    )


def _fired(entities: DataFrame, rules: DataFrame) -> DataFrame:
    """One row per entity and rule that fires and recommends something new: key, ``item``, ``best``."""
    has_all = F.forall("antecedent", lambda item: F.array_contains(s.ITEMS, item))
    return (
        entities.select(*KEY, s.ITEMS, F.explode(s.ITEMS).alias(_ANCHOR))
        .join(rules, on=_ANCHOR, how="inner")
        .where(has_all & ~F.array_contains(s.ITEMS, F.col(s.ITEM)))
        .select(*KEY, s.ITEM, _best(F.col("antecedent"), F.col("confidence"), F.col("lift")))
    )


def _popular_ones(entities: DataFrame, popular: DataFrame, top: int, longest: int) -> DataFrame:
    """The most popular ``top`` items that each entity lacks: key, ``item``, ``best``.

    No entity needs more of them than ``top`` and as many as it has items itself.
    """
    best_first = F.struct((-F.col("support")).alias("place"), s.ITEM, "support")
    ranked = (
        popular.orderBy(F.desc("support"), s.ITEM)
        .limit(longest + top)
        .agg(F.sort_array(F.collect_list(best_first)).alias("ranked"))
    )
    enough = F.slice("ranked", F.lit(1), F.size(s.ITEMS) + top)
    new = F.filter(enough, lambda one: ~F.array_contains(s.ITEMS, one[s.ITEM]))
    nothing = F.array().cast("array<string>")
    return (
        entities.crossJoin(F.broadcast(ranked))
        .select(*KEY, F.explode(F.slice(new, 1, top)).alias("one"))
        .select(
            *KEY,
            F.col(f"one.{s.ITEM}").alias(s.ITEM),
            _best(nothing, F.col("one.support"), F.lit(1.0)),
        )
    )


def _best(antecedent: Column, confidence: Column, lift: Column) -> Column:
    """What is least for the best reason to recommend an item."""
    return F.struct(
        (-confidence).alias("loss"),
        F.size(antecedent).alias("size"),
        antecedent.alias("antecedent"),
        lift.alias("lift"),
    ).alias(_BEST)
