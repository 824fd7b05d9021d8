"""Mined signals as covariates: what segments, rules and sequences say about a series and a date, as of a cutoff.

Every function takes what was mined from data up to the cutoff; nothing here looks at sales.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import chain

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.frequency import DAYS_A_WEEK, MINUTES_A_DAY, Frequency
from dlmine_spark.fusion.encoding import slug

SEGMENT_CODE = f"{s.CATEGORY_PREFIX}{s.MINED}segments"
RULE_PULL = f"{s.KNOWN_FUTURE_PREFIX}{s.MINED}rules_pull"
SEQUENCE_PULL = f"{s.KNOWN_FUTURE_PREFIX}{s.MINED}sequences_pull"
SEQUENCES_DUE = f"{s.MINED}sequences_due"
"""The name of a past-only covariate; its column has the prefix of these."""
ACTIVATIONS = f"{s.MINED}activations_"
"""How the names of such covariates begin, one of each antecedent."""
MEMBERSHIP_PREFIX = f"{s.STATIC_PREFIX}{s.MINED}segments_"
_EXACT = "decimal(24, 6)"
"""Sums of these are the same in any order."""
TOP_ANTECEDENTS = 12
"""Antecedents whose activations are told at most: those that most extra items come of."""


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


def delayed_pull(pulls: Iterable[tuple[str, float, float]], frequency: Frequency) -> dict[int, dict[str, float]]:
    """What a promotion of an item brings some time later, by steps and item.

    Args:
        pulls: item, days until what it pulls comes, extra items per basket with it; an item may come several times.
        frequency: of the panel; days are rounded to whole steps.
    """
    by_step: dict[int, dict[str, float]] = {}
    for item, days, pull in sorted(pulls):
        of_items = by_step.setdefault(max(0, round(days / frequency.days)), {})
        of_items[item] = of_items.get(item, 0.0) + pull
    return dict(sorted(by_step.items()))


def add_sequence_pull(
    known_future: DataFrame, pulls: Mapping[int, Mapping[str, float]], promoted_item: str
) -> DataFrame:
    """Add the delayed pull of what was promoted before each date (0 where nothing was that pulls anything).

    It is known as far ahead as promotions are planned.

    Args:
        known_future: one row per series and step without gaps, with the covariate ``promoted_item``.
        pulls: as ``delayed_pull`` has them.
        promoted_item: name of the covariate that names the promoted item.
    """
    in_order = Window.partitionBy(s.UNIQUE_ID).orderBy(s.DS)

    def arriving(steps: int, of_items: Mapping[str, float]) -> Column:
        by_item = F.create_map(*(F.lit(part) for part in chain.from_iterable(of_items.items())))
        promoted = F.lag(F.col(f"`{promoted_item}`"), steps).over(in_order)
        return F.coalesce(F.try_element_at(by_item, promoted), F.lit(0.0))

    total = F.lit(0.0)
    for steps, of_items in pulls.items():
        total = total + arriving(steps, of_items)
    return known_future.withColumn(SEQUENCE_PULL, total)


def due(moments: DataFrame, waiting: DataFrame, baskets: DataFrame, window: float, frequency: Frequency) -> DataFrame:
    """What a series' last baskets still have to be followed by, as it stood at each moment.

    A moment knows the baskets up to it and nothing later: whether something came is seen when it comes. So the network
    may read it as it reads values, up to where it forecasts from; no lag is needed.

    Args:
        moments: ``unique_id``, ``ds``.
        waiting: ``unique_id``, ``day``, ``until``, ``pull``: extra items that are waited for from a day until another.
        baskets: ``unique_id``, ``day``: of all baskets, those that wait for nothing too.
        window: days that a basket counts among the last ones, no less than any waits.
        frequency: of the panel.

    Returns:
        One row per series and moment: ``unique_id``, ``ds`` and extra items to come per 100 of the last baskets; null
        where there are none.
    """

    def change(day: Column, extra: Column, count: int) -> Column:
        return F.struct(day.alias("day"), extra.cast(_EXACT).alias("extra"), F.lit(count).alias("baskets"))

    day, nothing = F.col("day"), F.lit(0)
    steps = F.array(change(day, F.col("pull"), 0), change(F.col("until"), -F.col("pull"), 0))
    counted = F.array(change(day, nothing, 1), change(day + F.lit(window), nothing, -1))
    changes = (
        waiting.select(s.UNIQUE_ID, F.inline(steps))
        .unionByName(baskets.select(s.UNIQUE_ID, F.inline(counted)))
        .groupBy(s.UNIQUE_ID, "day")
        .agg(F.sum("extra").cast(_EXACT).alias("extra"), F.sum("baskets").alias("baskets"))
    )
    asked = moments.select(
        s.UNIQUE_ID,
        s.DS,
        F.expr(frequency.sql_days(s.DS)).alias("day"),
        nothing.cast(_EXACT).alias("extra"),
        nothing.alias("baskets"),
    )
    so_far = Window.partitionBy(s.UNIQUE_ID).orderBy("day").rangeBetween(Window.unboundedPreceding, Window.currentRow)
    extra, count = F.sum("extra").over(so_far), F.sum("baskets").over(so_far)
    return (
        asked.unionByName(changes, allowMissingColumns=True)
        .withColumn(SEQUENCES_DUE, F.when(count > 0, 100 * extra.cast("double") / count))
        .where(F.col(s.DS).isNotNull())
        .select(s.UNIQUE_ID, s.DS, SEQUENCES_DUE)
    )


def antecedents_of(rules: DataFrame) -> dict[str, tuple[str, ...]]:
    """The itemsets that most extra items come of, by the name of their covariate.

    A rule brings its leverage: so many more of all baskets hold the consequent with the antecedent than by chance. Only
    rules that are kept (significant and not redundant) count, and of them those beyond chance.

    Args:
        rules: ``gold.rules`` mined up to the cutoff.

    Returns:
        At most ``TOP_ANTECEDENTS``, those with the largest sum of leverages first; items in their order.
    """
    extra = F.sum(F.col("leverage").cast("decimal(24, 12)"))
    rows = (
        rules.where(F.col("is_kept") & (F.col("lift") > 1) & (F.size("antecedent") > 0))
        .groupBy(F.array_sort("antecedent").alias("antecedent"))
        .agg(extra.alias("extra"))
        .orderBy(F.desc("extra"), "antecedent")
        .limit(TOP_ANTECEDENTS)
        .collect()
    )
    return {_activation_of(tuple(row["antecedent"])): tuple(row["antecedent"]) for row in rows}


def _activation_of(items: tuple[str, ...]) -> str:
    """The same name as of every cutoff: networks are handed on from one to the next by the names of their inputs."""
    mark = hashlib.sha256(json.dumps(items).encode()).hexdigest()[:6]
    return f"{ACTIVATIONS}{slug(' '.join(items))}_{mark}"


def activations(
    moments: DataFrame, baskets: DataFrame, antecedents: Mapping[str, Sequence[str]], frequency: Frequency
) -> DataFrame:
    """How many of a series' last baskets hold what rules begin with, as it stood at each moment.

    The last baskets are those of a week, or of a step where it is longer; where a moment names a week or a month, up to
    the day that names it. A moment knows nothing later, so the network may read it as it reads values, up to where it
    forecasts from.

    Args:
        moments: ``unique_id``, ``ds``.
        baskets: ``unique_id``, ``ts``, ``items``.
        antecedents: as ``antecedents_of`` has them.
        frequency: of the panel; it has a calendar.

    Returns:
        One row per series and moment: ``unique_id``, ``ds``, and of each antecedent the baskets that hold it per 100;
        null where there are no baskets.
    """
    minutes = max(DAYS_A_WEEK, round(frequency.days)) * MINUTES_A_DAY

    def minute(moment: str) -> Column:
        # Days with fractions are not exact; beyond that, what came after a minute's beginning is later than it.
        minutes = F.round(F.expr(frequency.sql_days(moment)) * MINUTES_A_DAY, 6)
        return F.ceil(minutes).alias("minute")

    def holds(items: Sequence[str]) -> Column:
        return reduce(lambda held, item: held & F.array_contains(s.ITEMS, item), items, F.lit(True)).cast("bigint")

    counted = (
        baskets.withColumn("moment", F.col(s.TS).cast(frequency.sql_type))
        .groupBy(s.UNIQUE_ID, minute("moment"))
        .agg(
            F.count(F.lit(1)).alias("baskets"),
            *(F.sum(holds(items)).alias(name) for name, items in antecedents.items()),
        )
    )
    asked = moments.select(s.UNIQUE_ID, s.DS, minute(s.DS))
    last = Window.partitionBy(s.UNIQUE_ID).orderBy("minute").rangeBetween(1 - minutes, Window.currentRow)
    shares = [(100.0 * F.sum(name).over(last) / F.sum("baskets").over(last)).alias(name) for name in antecedents]
    return (
        asked.unionByName(counted, allowMissingColumns=True)
        .select(s.UNIQUE_ID, s.DS, *shares)
        .where(F.col(s.DS).isNotNull())
    )
