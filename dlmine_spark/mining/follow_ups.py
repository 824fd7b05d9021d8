"""Who bought one thing buys another some time after it: sequences of two items, by visits instead of customers.

``gold.sequences`` counts customers, and in a long history nearly everyone did nearly everything some time. Whether
something is still to come is a question to a visit: of those with the first item, how many are followed by the second
one within the gap? What customers like, and what a season sells, comes before the first item as often as after it; so
chance is the share of its visits that the second item came *before*, by the same gap. What is beyond that is the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import SequencesConfig
from dlmine_spark.frequency import Frequency
from dlmine_spark.mining.significance import benjamini_hochberg, log_fisher

TOP = 20
"""Pairs that are used at most: those that most extra items come of."""
USUAL = 0.9
"""Share of the second items that has come by the end of the usual wait."""
_DAY_MICROS = 86_400_000_000


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A sequence of two items that says more of what is to come than chance.

    Attributes:
        first: the item bought first.
        second: the item that comes later.
        cases: visits with the first item that any other visit follows within the gap.
        hits: those of them of which one that follows has the second item.
        before: the share of visits with the first item that have the second one as far before them.
        gap: days from the first item to the second, the median.
        usual: days after which nine of ten that come have come.
    """

    first: str
    second: str
    cases: int
    hits: int
    before: float
    gap: float
    usual: float

    @property
    def confidence(self) -> float:
        """The share of visits with the first item that the second one follows."""
        return self.hits / self.cases

    @property
    def pull(self) -> float:
        """Extra second items that a visit with the first one is followed by."""
        return self.confidence - self.before


def pairs_of(sequences: DataFrame) -> DataFrame:
    """The sequences of one item in one basket and another in a later one: ``first``, ``second``.

    Longer ones are said in pairs already, and what a promotion names is one item.

    Args:
        sequences: with ``sequence``, as in ``gold.sequences``.
    """
    item = {
        name: F.get(F.get(F.col("sequence"), F.lit(place)), F.lit(0)) for place, name in enumerate(("first", "second"))
    }
    return (
        sequences.where((F.size("sequence") == 2) & (F.size(F.flatten("sequence")) == 2))
        .select(*(column.alias(name) for name, column in item.items()))
        .where(F.col("first") != F.col("second"))
    )


def visits_of(baskets: DataFrame, config: SequencesConfig, frequency: Frequency) -> DataFrame:
    """The baskets of which it is known whose they are and when, each with those around it.

    Args:
        baskets: ``basket_id``, ``items``, ``customer_id``, ``ts``, ``store_id``.
        config: gaps, at least one of which has to be limited, and the longest history.
        frequency: tells what a moment is; it has a calendar.

    Returns:
        One row per basket: ``basket_id``, ``store_id``, ``items``, ``day`` (days since 1970, with fractions where the
        panel has times), ``visit`` (the customer's which, from 1; baskets of one instant are one), and ``later`` and
        ``earlier``: the visits within the gap, each with ``visit``, ``day`` and ``items``.
    """
    of_customer = Window.partitionBy(s.CUSTOMER_ID)
    moment = F.col(s.TS).cast(frequency.sql_type)
    numbered = (
        baskets.where(F.col(s.CUSTOMER_ID).isNotNull() & F.col(s.TS).isNotNull())
        .withColumn("moment", moment)
        .withColumns(
            {
                "day": F.expr(frequency.sql_days("moment")),
                "visit": F.dense_rank().over(of_customer.orderBy(s.TS)),
                "micros": F.unix_micros(s.TS),
                "history": F.count(F.lit(1)).over(of_customer),
            }
        )
        .where(F.col("history") <= config.max_history)
    )
    if config.max_gap is not None:
        in_order, reach = of_customer.orderBy("visit"), config.max_gap
    else:
        # A calendar day more: the days are counted below.
        in_order, reach = of_customer.orderBy("micros"), ((config.max_gap_days or 0) + 1) * _DAY_MICROS
    around = F.collect_list(F.struct("visit", "day", s.ITEMS))
    return numbered.select(
        s.BASKET_ID,
        s.STORE_ID,
        s.ITEMS,
        "day",
        "visit",
        _near(around.over(in_order.rangeBetween(1, reach)), config).alias("later"),
        _near(around.over(in_order.rangeBetween(-reach, -1)), config).alias("earlier"),
    )


def _near(visits: Column, config: SequencesConfig) -> Column:
    if config.max_gap_days is None:
        return visits
    most = F.lit(config.max_gap_days)
    return F.filter(visits, lambda one: F.abs(F.floor(one["day"]) - F.floor(F.col("day"))) <= most)


def follow_ups(visits: DataFrame, candidates: DataFrame, max_q: float, top: int = TOP) -> list[FollowUp]:
    """The candidates that are beyond chance, those that most comes of first (two aggregations).

    The one-sided exact test of Fisher says whether the second item is oftener after the first than before it, and
    ``max_q`` bounds the share of false ones among those it is said of (Benjamini and Hochberg 1995). Visits of one
    customer count as independent.

    Args:
        visits: as ``visits_of`` has them; read twice, so kept or a table.
        candidates: ``first``, ``second``, one row per pair; so many the driver holds.
        max_q: largest q-value.
        top: pairs at most.
    """
    held = (
        visits.select(F.explode(s.ITEMS).alias("first"), "later", "earlier")
        .join(F.broadcast(candidates), on="first", how="inner")
        .groupBy("first", "second")
        .agg(
            F.count_if(F.size("later") > 0).alias("cases"),
            F.count_if(_have("later")).alias("hits"),
            F.count_if(F.size("earlier") > 0).alias("cases_before"),
            F.count_if(_have("earlier")).alias("hits_before"),
        )
        .where((F.col("cases") > 0) & (F.col("cases_before") > 0))
        .orderBy("first", "second")
        .collect()
    )
    if not held:
        return []
    cases, hits, cases_before, hits_before = np.array([row[2:] for row in held], dtype=np.int64).T
    before = hits_before / cases_before
    extra = hits - cases * before
    p_values = np.exp(log_fisher(hits, cases, hits + hits_before, cases + cases_before))
    kept = np.flatnonzero((benjamini_hochberg(p_values, len(held)) <= max_q) & (extra > 0))
    chosen = kept[np.argsort(-extra[kept], kind="stable")][:top].tolist()
    waits = _waits(visits, [(held[place]["first"], held[place]["second"]) for place in chosen])
    return [
        FollowUp(*pair, int(cases[place]), int(hits[place]), float(before[place]), *waits[pair])
        for place, pair in zip(chosen, waits, strict=True)
    ]


def _have(side: str) -> Column:
    """Whether one of the visits on a side has the second item."""
    return F.exists(side, lambda one: F.array_contains(one[s.ITEMS], F.col("second")))


def _came() -> Column:
    """The day on which the second item came; null where it did not."""
    with_second = F.filter("later", lambda one: F.array_contains(one[s.ITEMS], F.col("second")))
    return F.array_min(F.transform(with_second, lambda one: one["day"]))


def _waits(visits: DataFrame, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[float, float]]:
    """Median and usual days from the first item to the second, in the order of the pairs (one aggregation)."""
    if not pairs:
        return {}
    chosen = visits.sparkSession.createDataFrame(list(pairs), "first string, second string")
    quantiles = (("gap", 0.5), ("usual", USUAL))
    rows = (
        visits.select(F.explode(s.ITEMS).alias("first"), "day", "later")
        .join(F.broadcast(chosen), on="first", how="inner")
        .withColumn("gap", _came() - F.col("day"))
        .where(F.col("gap").isNotNull())
        .groupBy("first", "second")
        .agg(
            *(F.expr(f"percentile_disc({share}) WITHIN GROUP (ORDER BY gap)").alias(name) for name, share in quantiles)
        )
        .collect()
    )
    found = {(row["first"], row["second"]): (float(row["gap"]), float(row["usual"])) for row in rows}
    return {pair: found[pair] for pair in pairs}


def waiting(visits: DataFrame, found: Sequence[FollowUp], config: SequencesConfig) -> DataFrame:
    """What baskets leave to come, and for how long: nothing of it is known before its day.

    A basket with the first item waits for the second from its day on: until the second comes, or the visits that it
    may be in are over, or the usual wait is. Where several of its items make it wait for the same one, that with the
    largest pull counts.

    Args:
        visits: as ``visits_of`` has them.
        found: the pairs, at least one.
        config: gaps, as those of the visits.

    Returns:
        One row per basket and item it waits for: ``store_id``, ``second``, ``day`` (the first), ``until`` (the day on
        which it no longer waits), ``pull``.
    """
    rows = [(one.first, one.second, float(one.usual), one.pull) for one in found]
    pairs = visits.sparkSession.createDataFrame(rows, "first string, second string, usual double, pull double")
    ends = [_came(), F.col("day") + F.col("usual")]
    if config.max_gap is not None:
        last_place = F.col("visit") + F.lit(config.max_gap)
        last = F.filter("later", lambda one: one["visit"] == last_place)
        ends.append(F.array_min(F.transform(last, lambda one: one["day"])))
    return (
        visits.select(s.BASKET_ID, s.STORE_ID, "day", "visit", "later", F.explode(s.ITEMS).alias("first"))
        .join(F.broadcast(pairs), on="first", how="inner")
        .withColumn("until", F.least(*ends))
        .groupBy(s.BASKET_ID, s.STORE_ID, "day", "second")
        .agg(F.max(F.struct("pull", "until")).alias("longest"))
        .where(F.col("longest.until") > F.col("day"))
        .select(s.STORE_ID, "second", "day", F.col("longest.until").alias("until"), F.col("longest.pull").alias("pull"))
    )
