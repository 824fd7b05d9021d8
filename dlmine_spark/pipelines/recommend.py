"""Recommend: the next items of each basket or customer by the rules mined, and how well that is done."""

from __future__ import annotations

import logging
from datetime import date
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.caching import kept
from dlmine_spark.config import Config, RecommendConfig
from dlmine_spark.errors import ConfigError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining import recommend as rec
from dlmine_spark.mining.baskets import agreed, baskets_of_lines
from dlmine_spark.mining.holdout import CUSTOMER, HIDDEN, TIME, Score, Split, customers_of, found_at, scores, split
from dlmine_spark.mining.taxonomy import between_items
from dlmine_spark.pipelines.mine import rules_of_baskets

log = logging.getLogger(__name__)

RULES, POPULARITY, DIFFERENCE = "rules", "popularity", "difference"
"""What is scored."""


def run(config: Config, lakehouse: Lakehouse) -> str:
    """Write ``gold.recommendations`` from ``gold.rules``, and ``gold.recommendation_scores`` from held-out baskets.

    Args:
        config: the whole configuration; ``mining.recommend`` says to whom and how many.
        lakehouse: the tables as the stage ``mine`` saw and left them.

    Returns:
        What was done, for the terminal.

    Raises:
        ConfigError: customers are wanted, and no basket is known to be of any.
    """
    settings = config.mining.recommend
    with kept(baskets_with_owners(config, lakehouse)) as baskets:
        entities = _entities(baskets, settings)
        if entities.isEmpty():
            raise ConfigError(
                "mining.recommend.entity is customer, but no basket has a customer: map customer_id in the source of "
                "kind lines, or set mining.recommend.entity=basket"
            )
        written = _write_recommendations(config, lakehouse, baskets, entities)
        told = _write_scores(config, lakehouse, baskets)
    return f"{written}; {told}"


def check(config: Config) -> None:
    """Refuse, before any work starts, to recommend where no item can be lacking.

    Raises:
        ConfigError: rows of a table are mined.
    """
    if config.mining.attributes is not None:
        raise ConfigError(
            f"--recommend: mining.attributes mines what rows of {config.mining.attributes.source} are, and nothing can "
            "be recommended to those"
        )


def baskets_with_owners(config: Config, lakehouse: Lakehouse) -> DataFrame:
    """The baskets of all sources with what else is known of each.

    Returns:
        One row per basket that holds anything: ``source`` (its name in the configuration: two sources may use the same
        ids), ``entity_id``, ``customer_id`` and ``time`` (of the first line; null where unknown), ``items``.
    """
    frames = []
    lines, baskets = config.source_of_kind("lines"), config.source_of_kind("baskets")
    if lines is not None:
        frames.append(
            baskets_of_lines(
                lakehouse.read(s.LINES.name), agreed(s.CUSTOMER_ID).alias(CUSTOMER), F.min(s.TS).alias(TIME)
            )
            .withColumnRenamed(s.BASKET_ID, rec.ENTITY_ID)
            .withColumn(rec.SOURCE, F.lit(lines[0]))
        )
    if baskets is not None:
        frames.append(
            lakehouse.read(s.BASKETS.name).select(
                F.col(s.BASKET_ID).alias(rec.ENTITY_ID),
                F.lit(None).cast("string").alias(CUSTOMER),
                F.lit(None).cast("timestamp").alias(TIME),
                F.array_distinct(F.array_compact(s.ITEMS)).alias(s.ITEMS),
                F.lit(baskets[0]).alias(rec.SOURCE),
            )
        )
    return reduce(DataFrame.unionByName, frames).where(F.size(s.ITEMS) > 0)


def _entities(baskets: DataFrame, settings: RecommendConfig) -> DataFrame:
    return customers_of(baskets) if settings.entity == "customer" else baskets.select(*rec.KEY, s.ITEMS)


def _write_recommendations(config: Config, lakehouse: Lakehouse, baskets: DataFrame, entities: DataFrame) -> str:
    settings = config.mining.recommend
    mined = between_items(lakehouse.read(s.RULES.name), config.mining.taxonomy)
    with kept(rec.popularity(baskets)) as popular:
        rules = rec.firing_rules(_applied(mined, settings), popular)
        best = rec.recommend(entities, rules, popular, settings.top, longest=_longest(entities))
        lakehouse.overwrite(s.RECOMMENDATIONS.name, best.withColumn("entity", F.lit(settings.entity)))
    row = (
        lakehouse.read(s.RECOMMENDATIONS.name)
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.count_if(F.col("basis") == rec.RULE).alias("by_rule"),
            F.count_if(F.col("rank") == 1).alias("entities"),
        )
        .collect()[0]
    )
    share = row["by_rule"] / row["rows"] if row["rows"] else 0.0
    return f"{row['rows']:,} items for {row['entities']:,} {settings.entity}s, {share:.0%} of them by rules"


def _write_scores(config: Config, lakehouse: Lakehouse, baskets: DataFrame) -> str:
    """Mine what came before, and look for what is hidden of what came after."""
    settings = config.mining.recommend
    parts = split(baskets, settings.entity, settings.holdout)
    cases, found = _score(config, parts)
    rows = [_row(lakehouse, settings, score, cases, parts) for score in found]
    frame = lakehouse.spark.createDataFrame(rows, s.RECOMMENDATION_SCORES.ddl)
    lakehouse.overwrite(s.RECOMMENDATION_SCORES.name, frame)
    if cases == 0:
        log.warning("nothing is held out that has an item to hide: the recommendations are not scored")
        return "not scored: nothing is held out that has an item to hide"
    return _told(settings, found, cases, parts.cutoff)


def _score(config: Config, parts: Split) -> tuple[int, list[Score]]:
    settings = config.mining.recommend
    with kept(parts.cases) as cases:
        if cases.isEmpty():
            return 0, []
        train = parts.train.select(F.col(rec.ENTITY_ID).alias(s.BASKET_ID), s.ITEMS)
        rules = _applied(rules_of_baskets(train, config.mining), settings)
        with kept(rec.popularity(parts.train)) as popular:
            longest = _longest(cases)
            by_rules = rec.recommend(cases, rec.firing_rules(rules, popular), popular, settings.top, longest=longest)
            by_popularity = rec.recommend(cases, None, popular, settings.top, longest=longest)
            found = found_at(found_at(cases, by_rules, RULES), by_popularity, POPULARITY)
            return scores(found.drop(s.ITEMS, HIDDEN), RULES, POPULARITY)


def _applied(rules: DataFrame, settings: RecommendConfig) -> DataFrame:
    return rules.where("is_kept") if settings.rules == "kept" else rules


def _longest(entities: DataFrame) -> int:
    """The most items that one has."""
    longest = entities.agg(F.max(F.size(s.ITEMS)).alias("longest")).collect()[0]["longest"]
    return int(longest or 0)


def _row(lakehouse: Lakehouse, settings: RecommendConfig, score: Score, cases: int, parts: Split) -> tuple[object, ...]:
    values = (score.value, score.low, score.high)
    held_out = (cases, parts.kind, parts.cutoff)
    return (lakehouse.run_id, settings.entity, score.model, score.metric, settings.top, *values, *held_out)


def _told(settings: RecommendConfig, found: list[Score], cases: int, cutoff: date | None) -> str:
    """Both measures of both models, and the difference, each with its interval."""
    by_name = {(score.metric, score.model): score for score in found}
    since = "chosen by a hash" if cutoff is None else f"since {cutoff}"
    measures = []
    for metric, name in (("hit_rate", f"hit rate@{settings.top}"), ("mrr", f"MRR@{settings.top}")):
        parts = [
            f"{model} {by_name[metric, model].value:.4f} "
            f"[{by_name[metric, model].low:.4f}, {by_name[metric, model].high:.4f}]"
            for model in (RULES, POPULARITY, DIFFERENCE)
        ]
        measures.append(f"{name} {', '.join(parts)}")
    return f"{cases:,} held-out {settings.entity}s {since}: {'; '.join(measures)} (95 % intervals)"
