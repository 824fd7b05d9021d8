"""Contrast: the rules of groups of baskets (segments, periods, stores) beside each other."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, MiningConfig
from dlmine_spark.errors import ConfigError, DlmineError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.baskets import agreed, baskets_of_lines, least_count, summarise, with_items
from dlmine_spark.mining.contrast import SIDES, Arrays, all_of, contrasts, count_hypotheses, is_kept_in, sets_of
from dlmine_spark.mining.miner import Longs
from dlmine_spark.mining.rules import count_hypotheses as count_rules
from dlmine_spark.mining.rules import rules_of, with_verdicts
from dlmine_spark.mining.sets import GROUP, totals
from dlmine_spark.mining.taxonomy import ancestors
from dlmine_spark.pipelines.drift import number
from dlmine_spark.pipelines.mine import categories_of_source, kept, mined, with_categories

log = logging.getLogger(__name__)

SEGMENT_OF = {"store_segment": ("store", s.STORE_ID), "customer_segment": ("customer", s.CUSTOMER_ID)}
"""Groups that the stage segment makes: the kind of entity, and the column of lines that names it."""
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_LABEL = "label"
SHOWN = 20
"""Rules in the printed table."""


def _weekday(ts: Column) -> Column:
    return F.element_at(F.array(*map(F.lit, _WEEKDAYS)), F.weekday(ts) + 1)


def _week(ts: Column) -> Column:
    # The year that a week belongs to is that of its Thursday (ISO 8601).
    thursday = F.date_add(F.date_trunc("week", ts), 3)
    return F.concat(F.year(thursday).cast("string"), F.lit("-W"), F.lpad(F.weekofyear(ts).cast("string"), 2, "0"))


PERIODS: dict[str, Callable[[Column], Column]] = {
    "year": lambda ts: F.date_format(ts, "yyyy"),
    "quarter": lambda ts: F.concat(F.date_format(ts, "yyyy"), F.lit("-Q"), F.quarter(ts).cast("string")),
    "month": lambda ts: F.date_format(ts, "yyyy-MM"),
    "week": _week,
    "weekday": _weekday,
    "hour": lambda ts: F.date_format(ts, "HH"),
}
"""Groups by the time of a basket's first line."""


@dataclass(frozen=True, slots=True)
class _Groups:
    """The groups that are compared, in order of their labels, and their baskets; ``others`` are those of small ones."""

    labels: tuple[str, ...]
    baskets: tuple[int, ...]
    others: int

    @property
    def sizes(self) -> Longs:
        """Baskets of each group, those of the small ones together at the end."""
        return np.array([*self.baskets, self.others], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Mined:
    """What the groups gave: the kept rules of each, and the number of different itemsets by size."""

    kept: list[pa.Table]
    itemsets_by_size: dict[int, int]


def run(config: Config, lakehouse: Lakehouse, by: str) -> tuple[str, str]:
    """Mine each group of baskets alone, measure what was found in all of them, and write ``gold.group_rules``.

    Args:
        config: the whole configuration, see ``check``; ``mining`` holds for each group, and ``mining.groups`` says
            which are compared.
        lakehouse: the tables.
        by: what makes the groups: of ``SEGMENT_OF`` or ``PERIODS``, or a column of ``silver.lines``.

    Returns:
        What differs, in one line, and a table of the rules that differ most (empty where none does).

    Raises:
        ConfigError: baskets have nothing of that name.
        DlmineError: there are too many groups, or too many rules in them.
    """
    settings = config.mining.groups
    with _labelled(config, lakehouse, by) as labelled:
        groups = _groups(labelled, by, config.mining)
        if len(groups.labels) < 2 - bool(groups.others):
            return (
                f"{len(groups.labels)} group by {by} has {settings.min_baskets:,} baskets or more "
                "(mining.groups.min_baskets): there is nothing to compare",
                "",
            )
        numbers = F.create_map(*(F.lit(part) for pair in enumerate(groups.labels) for part in reversed(pair)))
        numbered = labelled.select(
            s.ITEMS, F.coalesce(numbers[F.col(_LABEL)], F.lit(len(groups.labels))).alias(GROUP), s.BASKET_ID
        )
        related = _related(config, lakehouse)
        found = _mine_each(numbered, groups, config.mining, related)
        rules = all_of(found.kept)
        if len(rules) * len(groups.labels) > config.mining.max_itemsets:
            raise DlmineError(
                f"{len(rules):,} rules in {len(groups.labels)} groups are more than mining.max_itemsets="
                f"{config.mining.max_itemsets:,} rows: raise mining.min_support, mining.min_confidence or "
                "mining.groups.min_count; no table was changed"
            )
        wanted = sets_of(rules)
        counts = totals(numbered, wanted, len(groups.sizes)).counts
    hypotheses = count_hypotheses(found.itemsets_by_size, len(groups.labels), config.mining.max_consequent)
    measured = contrasts(wanted, counts, groups.sizes, len(groups.labels), config.mining.max_q, hypotheses)
    measured["is_kept"] = is_kept_in(rules, found.kept).ravel()
    lakehouse.overwrite(s.GROUP_RULES.name, _table(lakehouse, by, groups, rules, measured))
    rows = lakehouse.read(s.GROUP_RULES.name)
    return _told(rows, by, groups, len(rules)), _shown(rows)


def check(config: Config, by: str) -> None:
    """Refuse groups that the configured sources cannot have, before any work starts.

    Raises:
        ConfigError: no source has basket lines, or they do not have what the groups are made from.
    """
    source = config.source_of_kind("lines")
    if source is None:
        raise ConfigError(f"--by {by}: no source of kind lines is configured: of a basket, its items only are known")
    needed = SEGMENT_OF[by][1] if by in SEGMENT_OF else s.TS if by in PERIODS else None
    if needed is not None and needed not in {name.lower() for name in source[1].columns}:
        raise ConfigError(f"--by {by} needs {needed} of each line: name its column under sources.{source[0]}.columns")


@contextmanager
def _labelled(config: Config, lakehouse: Lakehouse, by: str) -> Iterator[DataFrame]:
    """The baskets whose group is known: ``basket_id``, ``items`` (with categories, if any), ``label``."""
    lines = lakehouse.read(s.LINES.name)
    categories = categories_of_source(config, lakehouse)
    baskets = with_items(_grouped(lines, lakehouse, by)).where(F.col(_LABEL).isNotNull())
    with kept(baskets if categories is None else with_categories(baskets, categories, config.mining)) as labelled:
        yield labelled


def _grouped(lines: DataFrame, lakehouse: Lakehouse, by: str) -> DataFrame:
    """Baskets with the label of their group; null where it is not known, or lines of a basket disagree."""
    if by in SEGMENT_OF:
        entity, column = SEGMENT_OF[by]
        segments = lakehouse.read(s.SEGMENTS.name).where(F.col("entity") == entity)
        if segments.isEmpty():
            raise ConfigError(f"--by {by}: {s.SEGMENTS.name} has no segments of {entity}s")
        labels = segments.select(F.col("entity_id").alias(column), F.col("segment").cast("string").alias(_LABEL))
        return baskets_of_lines(lines, agreed(column).alias(column)).join(F.broadcast(labels), on=column, how="left")
    if by in PERIODS:
        return baskets_of_lines(lines, PERIODS[by](F.min(s.TS)).alias(_LABEL))
    # What a basket consists of is no group of it.
    columns = [name for name in lines.columns if name not in (s.BASKET_ID, s.ITEM)]
    if by not in columns:
        raise ConfigError(
            f"--by {by}: {s.LINES.name} has no such column; there are: {', '.join((*SEGMENT_OF, *PERIODS, *columns))}"
        )
    return baskets_of_lines(lines, agreed(by).cast("string").alias(_LABEL))


def _groups(labelled: DataFrame, by: str, config: MiningConfig) -> _Groups:
    """The groups large enough to be mined alone."""
    settings = config.groups
    sizes = labelled.groupBy(_LABEL).agg(F.count(F.lit(1)).alias("baskets"))
    large = sizes.where(F.col("baskets") >= settings.min_baskets)
    rows = large.orderBy(_LABEL).limit(settings.max_groups + 1).collect()
    if len(rows) > settings.max_groups:
        raise DlmineError(
            f"--by {by}: {large.count():,} groups have {settings.min_baskets:,} baskets or more, "
            f"mining.groups.max_groups is {settings.max_groups}: raise it, or mining.groups.min_baskets"
        )
    every = int(sizes.agg(F.coalesce(F.sum("baskets"), F.lit(0))).collect()[0][0])
    baskets = tuple(row["baskets"] for row in rows)
    return _Groups(tuple(row[_LABEL] for row in rows), baskets, every - sum(baskets))


def _related(config: Config, lakehouse: Lakehouse) -> DataFrame | None:
    categories = categories_of_source(config, lakehouse)
    return None if categories is None else ancestors(categories)


def _mine_each(numbered: DataFrame, groups: _Groups, config: MiningConfig, related: DataFrame | None) -> _Mined:
    """Mine the groups one after the other; each has all tasks of the session."""
    rules, itemsets = [], []
    for place, size in enumerate(groups.baskets):
        baskets = numbered.where(F.col(GROUP) == place)
        least = max(config.groups.min_count, least_count(config.min_support, size))
        own = config.model_copy(update={"min_support": min(1.0, least / size)})
        with mined(baskets, summarise(baskets), own, related) as found:
            itemsets.append(found.itemsets.select(s.ITEMS, "size").localCheckpoint())
            hypotheses = count_rules(found.itemsets, own)
            with kept(rules_of(found.itemsets, size, own)) as measured:
                judged = with_verdicts(measured, hypotheses, own).where("is_kept")
                rules.append(judged.select(*SIDES).toArrow())
        log.info("group %s: %s baskets, %s rules kept", groups.labels[place], f"{size:,}", f"{len(rules[-1]):,}")
    different = reduce(DataFrame.unionByName, itemsets).distinct().groupBy("size").count().collect()
    return _Mined(rules, {row["size"]: row["count"] for row in different})


def _table(lakehouse: Lakehouse, by: str, groups: _Groups, rules: pa.Table, measured: Arrays) -> DataFrame:
    """The rows of ``gold.group_rules``."""
    each = pa.array(np.repeat(np.arange(len(rules)), len(groups.labels)))
    columns = {
        "by": pa.array([by] * len(each), pa.string()),
        "group": pa.array(list(groups.labels) * len(rules), pa.string()),
        **{side: rules.column(side).take(each) for side in SIDES},
        **{name: pa.array(value, from_pandas=value.dtype.kind == "f") for name, value in measured.items()},
    }
    return lakehouse.spark.createDataFrame(pa.table(columns).select(s.GROUP_RULES.names), s.GROUP_RULES.ddl)


def _told(rows: DataFrame, by: str, groups: _Groups, rules: int) -> str:
    counts = rows.where("differs").groupBy("group").count().collect()
    differing = Counter({row["group"]: row["count"] for row in counts})
    each = ", ".join(f"{label} {differing[label]:,}" for label in groups.labels)
    small = f", {groups.others:,} baskets of smaller groups among the others" if groups.others else ""
    return (
        f"{rules:,} rules in {len(groups.labels)} groups by {by} ({sum(groups.baskets):,} baskets{small}); "
        f"confidence differs beyond chance: {each}"
    )


def _shown(rows: DataFrame) -> str:
    """The rules whose confidence differs most among those that differ beyond chance, for the terminal."""
    change = F.abs(F.col("confidence") - F.col("confidence_elsewhere"))
    most = rows.where("differs").orderBy(F.desc(change), *SIDES, "group").limit(SHOWN).toPandas()
    if most.empty:
        return ""
    table = pd.DataFrame(
        {
            "group": most["group"],
            "rule": [
                f"{', '.join(left)} => {', '.join(right)}"
                for left, right in zip(most["antecedent"], most["consequent"], strict=True)
            ],
            "baskets": most["count"],
            **{name: _pairs(most[name], most[f"{name}_elsewhere"]) for name in ("confidence", "lift")},
            "q": [f"{q:.2g}" for q in most["q_value"]],
        }
    )
    return "here | elsewhere\n" + str(table.to_string(index=False))


def _pairs(own: pd.Series[float], others: pd.Series[float]) -> list[str]:
    return [f"{number(one)} | {number(other)}" for one, other in zip(own, others, strict=True)]
