"""Held-out baskets: which ones, what is hidden of them, and how well it was found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.mining.recommend import ENTITY_ID, KEY

CUSTOMER, TIME = s.CUSTOMER_ID, "time"
HIDDEN = "hidden"
BY_TIME, BY_HASH = "time", "hash"
_PARTS = 1_000_000
_95 = 1.959964
"""The normal distribution has 95 % within so many standard deviations."""


@dataclass(frozen=True, slots=True)
class Split:
    """Baskets to learn from, and what is asked about the others.

    Attributes:
        train: baskets (``source``, ``entity_id``, ``customer_id``, ``time``, ``items``).
        cases: one row per held-out basket or customer: its key, ``items`` given, ``hidden`` the one to be found.
        kind: ``time`` or ``hash``.
        cutoff: first day held out, where time splits.
    """

    train: DataFrame
    cases: DataFrame
    kind: str
    cutoff: date | None


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over cases with its 95 % interval."""

    model: str
    metric: str
    value: float
    low: float
    high: float


def customers_of(baskets: DataFrame) -> DataFrame:
    """One row per customer: ``source``, ``entity_id``, all ``items`` of his baskets; baskets of nobody are left out."""
    items = F.array_distinct(F.flatten(F.collect_list(s.ITEMS)))
    return (
        baskets.where(F.col(CUSTOMER).isNotNull())
        .groupBy(KEY[0], F.col(CUSTOMER).alias(ENTITY_ID))
        .agg(items.alias(s.ITEMS))
    )


def split(baskets: DataFrame, entity: str, holdout: float) -> Split:
    """Hold out the last part of time; without times, the baskets or customers that a hash of their id chooses.

    Of a held-out basket of two items or more, one is hidden. A customer is asked about an item that he buys first
    after the cutoff, given all that he bought before; without times, one item is hidden of a held-out customer's, none
    of whose baskets are learned from. A hash chooses the item, so the same one every time.

    Where some baskets have a time, those without are neither learned from nor asked about: nobody knows whether they
    came after the cutoff. Counts baskets by day (one action, a row per day is collected).

    Args:
        baskets: ``source``, ``entity_id``, ``customer_id``, ``time`` (null where unknown), ``items``.
        entity: ``basket`` or ``customer``.
        holdout: share of the baskets (of the customers, without times).
    """
    cutoff = _first_day_held_out(baskets, holdout)
    if cutoff is not None:
        earlier, later = baskets.where(F.col(TIME) < F.lit(cutoff)), baskets.where(F.col(TIME) >= F.lit(cutoff))
        cases = _first_bought(earlier, later) if entity == "customer" else _without_one(later)
        return Split(earlier, cases, BY_TIME, cutoff)
    who = F.col(CUSTOMER) if entity == "customer" else F.col(ENTITY_ID)
    is_held_out = F.coalesce(F.pmod(F.xxhash64(who), F.lit(_PARTS)) < holdout * _PARTS, F.lit(False))
    # A hash of null is a number too, but a basket of nobody is no held-out customer's.
    is_held_out = is_held_out & who.isNotNull()
    held_out = baskets.where(is_held_out)
    cases = _without_one(customers_of(held_out) if entity == "customer" else held_out)
    return Split(baskets.where(~is_held_out), cases, BY_HASH, None)


def _first_day_held_out(baskets: DataFrame, holdout: float) -> date | None:
    """The first day from which on there are at most ``holdout`` of the baskets, else the last one; never the first.

    None where all baskets with a time are of one day, or none has any.
    """
    day = F.to_date(TIME).alias("day")
    rows = baskets.where(F.col(TIME).isNotNull()).groupBy(day).count().orderBy("day").collect()
    total, after = sum(row["count"] for row in rows), 0
    cutoff: date | None = None
    for row in reversed(rows[1:]):
        after += row["count"]
        if cutoff is not None and after > holdout * total:
            break
        cutoff = row["day"]
    return cutoff


def _without_one(entities: DataFrame) -> DataFrame:
    hidden = _chosen(s.ITEMS)
    return (
        entities.where(F.size(s.ITEMS) > 1)
        .withColumn(HIDDEN, hidden)
        .select(*KEY, F.array_remove(s.ITEMS, F.col(HIDDEN)).alias(s.ITEMS), HIDDEN)
    )


def _first_bought(earlier: DataFrame, later: DataFrame) -> DataFrame:
    after = customers_of(later).select(*KEY, F.col(s.ITEMS).alias("after"))
    return (
        customers_of(earlier)
        .join(after, on=list(KEY), how="inner")
        .withColumn("new", F.array_except("after", s.ITEMS))
        .where(F.size("new") > 0)
        .select(*KEY, s.ITEMS, _chosen("new").alias(HIDDEN))
    )


def _chosen(items: str) -> Column:
    """One of the items, by a hash of it and of whose it is."""
    hashed = F.transform(items, lambda item: F.struct(F.xxhash64(F.col(ENTITY_ID), item), item.alias(s.ITEM)))
    return F.array_min(hashed).getField(s.ITEM)


def found_at(cases: DataFrame, recommended: DataFrame, name: str) -> DataFrame:
    """The cases with the rank at which the hidden item was recommended in column ``name``, null where it was not."""
    ranks = recommended.select(*KEY, F.col(s.ITEM).alias(HIDDEN), F.col("rank").alias(name))
    return cases.join(ranks, on=[*KEY, HIDDEN], how="left")


def scores(found: DataFrame, ours: str, theirs: str) -> tuple[int, list[Score]]:
    """Hit rate and mean reciprocal rank of two models on the same cases, and by how much they differ (one action).

    The interval of a hit rate is Wilson's (1927), the others are normal ones; those of a difference rest on the
    differences case by case, since both models are asked the same.

    Args:
        found: one row per case with the rank in columns ``ours`` and ``theirs``, null where it was not found.
        ours, theirs: names of the models.

    Returns:
        The number of cases, and the scores; none without cases.
    """
    values: dict[tuple[str, str], Column] = {}
    for metric in ("hit_rate", "mrr"):
        for model in (ours, theirs):
            rank = F.col(model)
            worth = F.lit(1.0) if metric == "hit_rate" else 1.0 / rank
            values[model, metric] = F.when(rank.isNotNull(), worth).otherwise(0.0)
        values["difference", metric] = values[ours, metric] - values[theirs, metric]
    sums = found.agg(
        F.count(F.lit(1)).alias("cases"),
        *(F.sum(value).alias(f"sum {model} {metric}") for (model, metric), value in values.items()),
        *(F.sum(value * value).alias(f"squares {model} {metric}") for (model, metric), value in values.items()),
    ).collect()[0]
    cases = sums["cases"]
    if cases == 0:
        return 0, []
    rows = []
    for model, metric in values:
        total, squares = sums[f"sum {model} {metric}"], sums[f"squares {model} {metric}"]
        is_share = metric == "hit_rate" and model != "difference"
        low, high = share_interval(total, cases) if is_share else mean_interval(total, squares, cases)
        rows.append(Score(model, metric, total / cases, low, high))
    return cases, rows


def share_interval(hits: float, cases: int) -> tuple[float, float]:
    """Wilson's (1927) 95 % interval of a share."""
    share, z = hits / cases, _95 * _95 / cases
    middle = (share + z / 2) / (1 + z)
    width = _95 * math.sqrt(share * (1 - share) / cases + z / (4 * cases)) / (1 + z)
    return max(0.0, middle - width), min(1.0, middle + width)


def mean_interval(total: float, squares: float, cases: int) -> tuple[float, float]:
    """The normal 95 % interval of a mean, from the sum of the values and of their squares; unbounded for one case."""
    if cases < 2:
        return -math.inf, math.inf
    mean = total / cases
    width = _95 * math.sqrt(max(0.0, squares - total * mean) / (cases - 1) / cases)
    return mean - width, mean + width
