"""Contrast: the rules of groups of baskets (segments, periods, stores) beside each other."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.caching import kept
from dlmine_spark.config import AttributesConfig, Config, MiningConfig, SourceConfig
from dlmine_spark.errors import ConfigError, DlmineError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.baskets import agreed, baskets_of_lines, least_count, summarise, with_items
from dlmine_spark.mining.contrast import Arrays, contrasts, is_kept_in, rules_of_groups, sets_of
from dlmine_spark.mining.miner import Longs
from dlmine_spark.mining.rules import SIDES, count_hypotheses, rules_of, with_verdicts
from dlmine_spark.mining.sets import GROUP, totals
from dlmine_spark.mining.taxonomy import ancestors
from dlmine_spark.pipelines.common import number
from dlmine_spark.pipelines.mine import (
    attributes_of_rows,
    baskets_of_sources,
    categories_of_source,
    mined,
    with_categories,
)
from dlmine_spark.pipelines.subjects import rows_table
from dlmine_spark.report.text import plural

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

HALF = "half"
"""Two groups that nothing tells apart, made by a hash of the basket's id: what differs between them is chance."""


@dataclass(frozen=True, slots=True)
class _Groups:
    """The groups that are compared.

    Attributes:
        labels: in order.
        baskets: of each.
        others: baskets of groups that are too small.
        unknown: baskets of no known group.
    """

    labels: tuple[str, ...]
    baskets: tuple[int, ...]
    others: int
    unknown: int

    @property
    def sizes(self) -> Longs:
        """Baskets of each group, those of the small ones together at the end."""
        return np.array([*self.baskets, self.others], dtype=np.int64)

    @property
    def told(self) -> str:
        """What is compared, in a few words."""
        small = f", {self.others:,} of smaller groups among the others" if self.others else ""
        unknown = f", {self.unknown:,} of no known group left out" if self.unknown else ""
        return f"{plural(len(self.labels), 'group')} of {sum(self.baskets):,} baskets{small}{unknown}"


def run(config: Config, lakehouse: Lakehouse, by: str) -> tuple[str, str]:
    """Mine each group of baskets alone, measure what was found in all of them, and write ``gold.group_rules``.

    Args:
        config: the whole configuration, see ``check``; ``mining`` holds for each group, and ``mining.groups`` says
            which are compared.
        lakehouse: the tables.
        by: what makes the groups: of ``SEGMENT_OF`` or ``PERIODS``, ``HALF``, or a column of ``silver.lines`` or of
            the table whose rows are mined.

    Returns:
        What differs, in one line, and a table of the rules that differ most (empty where none does).

    Raises:
        ConfigError: baskets have nothing of that name, or it is known of none.
        DlmineError: there are too many groups, or too many rules in them.
    """
    categories = categories_of_source(config, lakehouse)
    baskets = with_items(_grouped(config, lakehouse, by))
    with ExitStack() as held:
        extended = baskets if categories is None else with_categories(baskets, categories, config.mining)
        labelled = held.enter_context(kept(extended))
        # Asked of each group: computed once.
        related = None if categories is None else held.enter_context(kept(ancestors(categories)))
        groups = _groups(labelled, by, config.mining)
        numbered = _numbered(labelled, groups)
        hypotheses, kept_rules = _mine_each(numbered, groups, config.mining, related)
        rules = rules_of_groups(kept_rules).orderBy(*SIDES).toArrow()
        if not len(rules):
            lakehouse.overwrite(s.GROUP_RULES.name, lakehouse.spark.createDataFrame([], s.GROUP_RULES.ddl))
            return f"{groups.told}: no rule is kept in any of them by the thresholds of mining and mining.groups", ""
        wanted = sets_of(rules)
        counts = totals(numbered, wanted, len(groups.sizes)).counts
    measured = contrasts(wanted, counts, groups.sizes, len(groups.labels), config.mining.max_q, hypotheses)
    measured["is_kept"] = is_kept_in(rules, len(groups.labels)).ravel()
    lakehouse.overwrite(s.GROUP_RULES.name, _table(lakehouse, by, groups, rules, measured))
    rows = lakehouse.read(s.GROUP_RULES.name)
    return _told(rows, groups, len(rules)), _shown(rows)


def check(config: Config, by: str) -> None:
    """Refuse groups that the configured sources cannot have, before any work starts.

    Raises:
        ConfigError: no source has basket lines, or they do not have what the groups are made from.
    """
    if by == HALF:
        return
    attributes = config.mining.attributes
    if attributes is not None:
        _check_column(config.sources[attributes.source], attributes, by)
        return
    source = config.source_of_kind("lines")
    if source is None:
        raise ConfigError(
            f"--by {by}: no source of kind lines is configured: of a basket, its items only are known; there is: {HALF}"
        )
    name, mapped = source[0], {column.lower() for column in source[1].columns}
    needed = SEGMENT_OF[by][1] if by in SEGMENT_OF else s.TS if by in PERIODS else by
    if needed in mapped - {s.BASKET_ID, s.ITEM}:
        return
    if needed in s.LINES.columns and needed not in (s.BASKET_ID, s.ITEM):
        raise ConfigError(f"--by {by} needs {needed} of each line: name its column under sources.{name}.columns")
    if source[1].other_columns == "drop":
        raise _unknown(by, sorted(mapped))


def _check_column(source: SourceConfig, attributes: AttributesConfig, by: str) -> None:
    """Refuse what rows of a table cannot be grouped by."""
    if by in attributes.columns:
        raise ConfigError(
            f"--by {by}: is among mining.attributes.columns: rules about it would hold in one group only; take it out "
            f"there (--set mining.attributes.columns=[...]), or look for {attributes.columns[by]}=... in gold.rules"
        )
    if by not in source.columns and source.other_columns == "drop":
        raise _no_column(by, attributes, source.columns)


def _no_column(by: str, attributes: AttributesConfig, columns: Iterable[str]) -> ConfigError:
    known = [HALF, *(column for column in columns if column not in attributes.columns)]
    near = difflib.get_close_matches(by.lower(), known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return ConfigError(f"--by {by}: silver.{attributes.source} has no such column{hint}; there are: {', '.join(known)}")


def _unknown(by: str, columns: Iterable[str]) -> ConfigError:
    """What a basket consists of is no group of it, and there is nothing else of that name."""
    known = [*SEGMENT_OF, *PERIODS, HALF, *(column for column in columns if column not in (s.BASKET_ID, s.ITEM))]
    near = difflib.get_close_matches(by.lower(), known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return ConfigError(f"--by {by}: lines have no such column{hint}; there are: {', '.join(known)}")


def _grouped(config: Config, lakehouse: Lakehouse, by: str) -> DataFrame:
    """Baskets with the label of their group; null where it is not known, or lines of a basket disagree."""
    if by == HALF:
        baskets = reduce(DataFrame.unionByName, baskets_of_sources(config, lakehouse))
        return baskets.withColumn(_LABEL, F.concat(F.lit("half "), F.pmod(F.xxhash64(s.BASKET_ID), F.lit(2)) + 1))
    if config.mining.attributes is not None:
        return _grouped_rows(config, lakehouse, config.mining.attributes, by)
    return _grouped_lines(lakehouse.read(s.LINES.name), lakehouse, by)


def _grouped_rows(config: Config, lakehouse: Lakehouse, attributes: AttributesConfig, by: str) -> DataFrame:
    columns = lakehouse.read(rows_table(attributes.source, config.sources[attributes.source])).columns
    if by not in columns:
        raise _no_column(by, attributes, columns)
    return attributes_of_rows(config, lakehouse, F.col(f"`{by}`").cast("string").alias(_LABEL))


def _grouped_lines(lines: DataFrame, lakehouse: Lakehouse, by: str) -> DataFrame:
    if by in SEGMENT_OF:
        entity, column = SEGMENT_OF[by]
        segments = lakehouse.read(s.SEGMENTS.name).where(F.col("entity") == entity)
        if segments.isEmpty():
            raise ConfigError(f"--by {by}: {s.SEGMENTS.name} has no segments of {entity}s")
        labels = segments.select(F.col("entity_id").alias(column), F.col("segment").cast("string").alias(_LABEL))
        return baskets_of_lines(lines, agreed(column).alias(column)).join(labels, on=column, how="left")
    if by in PERIODS:
        return baskets_of_lines(lines, PERIODS[by](F.min(s.TS)).alias(_LABEL))
    if by not in lines.columns or by in (s.BASKET_ID, s.ITEM):
        raise _unknown(by, lines.columns)
    return baskets_of_lines(lines, agreed(by).cast("string").alias(_LABEL))


def _groups(labelled: DataFrame, by: str, config: MiningConfig) -> _Groups:
    """The groups large enough to be mined alone.

    Raises:
        ConfigError: the group of no basket is known.
        DlmineError: there are too many groups, or fewer than two to compare.
    """
    settings = config.groups
    counted = labelled.groupBy(_LABEL).agg(F.count(F.lit(1)).alias("baskets"))
    with kept(counted) as sizes:
        large = sizes.where(F.col(_LABEL).isNotNull() & (F.col("baskets") >= settings.min_baskets))
        rows = large.orderBy(_LABEL).limit(settings.max_groups + 1).collect()
        if len(rows) > settings.max_groups:
            raise DlmineError(
                f"--by {by}: {large.count():,} groups have {settings.min_baskets:,} baskets or more, "
                f"mining.groups.max_groups is {settings.max_groups}: raise it, or mining.groups.min_baskets"
            )
        total, known = sizes.agg(
            F.coalesce(F.sum("baskets"), F.lit(0)),
            F.coalesce(F.sum(F.when(F.col(_LABEL).isNotNull(), F.col("baskets"))), F.lit(0)),
        ).collect()[0]
    if known == 0:
        raise ConfigError(f"--by {by}: of none of {total:,} baskets the group is known{_why_unknown(by)}")
    baskets = tuple(row["baskets"] for row in rows)
    found = _Groups(tuple(row[_LABEL] for row in rows), baskets, known - sum(baskets), total - known)
    if not baskets or len(baskets) + bool(found.others) < 2:
        raise DlmineError(
            f"--by {by}: {found.told}: there is nothing to compare; mining.groups.min_baskets is "
            f"{settings.min_baskets:,}; no table was changed"
        )
    return found


def _why_unknown(by: str) -> str:
    if by not in SEGMENT_OF:
        return ""
    entity, column = SEGMENT_OF[by]
    return f": {column} of {s.LINES.name} names none of the {entity}s in {s.SEGMENTS.name}"


def _numbered(labelled: DataFrame, groups: _Groups) -> DataFrame:
    """The baskets of known groups: ``items``, ``group`` (its place, or that after the last one for small groups)."""
    places = F.create_map(*(F.lit(part) for pair in enumerate(groups.labels) for part in reversed(pair)))
    return labelled.where(F.col(_LABEL).isNotNull()).select(
        s.BASKET_ID, s.ITEMS, F.coalesce(places[F.col(_LABEL)], F.lit(len(groups.labels))).alias(GROUP)
    )


def _mine_each(
    numbered: DataFrame, groups: _Groups, config: MiningConfig, related: DataFrame | None
) -> tuple[int, list[DataFrame]]:
    """Mine the groups one after the other; each has all tasks of the session.

    Returns:
        How many confidences could have been compared, and the kept rules of each group (its sides).

    Raises:
        DlmineError: the rules of all groups in each group would be too many.
    """
    rules: list[DataFrame] = []
    hypotheses, found_rules = 0, 0
    for place, size in enumerate(groups.baskets):
        baskets = numbered.where(F.col(GROUP) == place)
        least = max(config.groups.min_count, least_count(config.min_support, size))
        own = config.model_copy(update={"min_support": least / size})
        with mined(baskets, summarise(baskets), own, related) as found:
            tested = count_hypotheses(found.itemsets, own)
            with kept(rules_of(found.itemsets, size, own)) as measured:
                judged = with_verdicts(measured, tested, own).where("is_kept")
                rules.append(judged.select(*SIDES).localCheckpoint())
        count = rules[-1].count()
        log.info("group %s: %s baskets, %s rules kept", groups.labels[place], f"{size:,}", f"{count:,}")
        hypotheses += tested * len(groups.labels)
        found_rules += count
        if found_rules * len(groups.labels) > config.max_itemsets:
            raise DlmineError(
                f"{found_rules:,} rules in {len(groups.labels)} groups are more than mining.max_itemsets="
                f"{config.max_itemsets:,} rows: raise mining.min_support, mining.min_confidence or "
                "mining.groups.min_count; no table was changed"
            )
    return hypotheses, rules


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


def _told(rows: DataFrame, groups: _Groups, rules: int) -> str:
    counts = rows.where("differs").groupBy("group").count().collect()
    differing = Counter({row["group"]: row["count"] for row in counts})
    each = ", ".join(f"{label} {differing[label]:,}" for label in groups.labels)
    return f"{plural(rules, 'rule')} in {groups.told}; confidence differs beyond chance: {each}"


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
            "count": most["count"],
            **{name: _pairs(most[name], most[f"{name}_elsewhere"]) for name in ("confidence", "lift")},
            "q": [f"{q:.2g}" for q in most["q_value"]],
        }
    )
    return "here | elsewhere\n" + str(table.to_string(index=False))


def _pairs(own: pd.Series[float], others: pd.Series[float]) -> list[str]:
    return [f"{number(one)} | {number(other)}" for one, other in zip(own, others, strict=True)]
