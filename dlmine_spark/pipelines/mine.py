"""Mine: what is bought together, and what after it. Baskets in; itemsets, the rules made of them and sequences out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.caching import kept
from dlmine_spark.config import SPEND, Config, MiningConfig
from dlmine_spark.errors import ConfigError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining import apriori, fpgrowth
from dlmine_spark.mining.attributes import baskets_of_rows
from dlmine_spark.mining.baskets import (
    BasketSummary,
    baskets_of_lines,
    check_longest,
    customer_and_time,
    summarise,
    with_items,
)
from dlmine_spark.mining.itemsets import MINED, check_equal, count_by_size, described, within_limit
from dlmine_spark.mining.rules import count_hypotheses, rules_of, with_verdicts
from dlmine_spark.mining.sets import WEIGHT
from dlmine_spark.mining.taxonomy import ancestors, categories_of, check_names, extended, without_trivial
from dlmine_spark.mining.templates import unknown_items
from dlmine_spark.mining.weights import weighted
from dlmine_spark.pipelines.sequences import MinedSequences, are_wanted, mined_sequences, write
from dlmine_spark.pipelines.subjects import rows_table
from dlmine_spark.report.text import plural
from dlmine_spark.runs import NotApplicable, StageReport
from dlmine_spark.spend import spend

log = logging.getLogger(__name__)

ENGINES = {"apriori": apriori.frequent_itemsets, "fpgrowth": fpgrowth.frequent_itemsets}
"""Both give the same itemsets; see ``engine_of`` for which is used."""

_NUMBERS = ("double", "float", "bigint", "int", "smallint", "tinyint")


@dataclass(frozen=True, slots=True)
class RuleCounts:
    """How many rules were found, and how many of them are marked.

    Attributes:
        found: rules above the thresholds.
        redundant: those no better than a more general rule.
        insignificant: those that chance may have made, of the others.
        kept: those that readers of ``gold.rules`` take.
    """

    found: int
    redundant: int
    insignificant: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class MineReport(StageReport):
    """What was found; ``rows_in`` counts baskets, ``rows_out`` itemsets, rules and sequences.

    ``sequences_by_length`` is None where no sequences were mined.
    """

    algorithm: str
    itemsets_by_size: dict[int, int]
    rules: RuleCounts
    sequences_by_length: dict[int, int] | None
    verified: bool


@dataclass(frozen=True, slots=True)
class Mined:
    """Itemsets (``itemsets.MINED``) that are counted and kept for as long as they are read."""

    itemsets: DataFrame
    by_size: dict[int, int]


def run(config: Config, lakehouse: Lakehouse) -> MineReport | NotApplicable:
    """Mine the baskets of ``silver.lines`` and ``silver.baskets``, whichever the sources gave, or rows of a table.

    Raises:
        TableContractError: a basket is longer than ``mining.max_basket``, or two engines differ.
        DlmineError: there are more itemsets than ``mining.max_itemsets`` or, unless sequences are mined only where they
            can be, more of these than ``mining.sequences.max_sequences``.
    """
    frames = baskets_of_sources(config, lakehouse, *_wanted_of_lines(config, lakehouse))
    if not frames:
        return NotApplicable(
            "no source of kind lines or baskets, and no mining.attributes: there is nothing that is bought together"
        )
    categories = categories_of_source(config, lakehouse)
    with (
        kept(with_items(reduce(_beside, frames))) as bought,
        _generalised(bought, frames, categories, config.mining) as baskets,
    ):
        summary = summarise(baskets)
        if summary.baskets == 0:
            return NotApplicable("no basket holds an item")
        related = None if categories is None else ancestors(categories)
        with (
            mined(baskets, summary, config.mining, related) as found,
            mined_sequences(bought, config) as sequences,
        ):
            _check_templates(found.itemsets, config.mining)
            lakehouse.overwrite(s.ITEMSETS.name, described(found.itemsets, summary.baskets))
            if sequences is not None:
                write(sequences, config.mining.sequences, lakehouse)
            hypotheses = count_hypotheses(found.itemsets, config.mining)
        with kept(rules_of(lakehouse.read(s.ITEMSETS.name), summary.baskets, config.mining)) as rules:
            _write_rules(with_verdicts(rules, hypotheses, config.mining), baskets, config.mining, lakehouse)
    rules_found = _count_rules(lakehouse.read(s.RULES.name))
    return _report(config.mining, summary, found.by_size, rules_found, sequences)


def _write_rules(judged: DataFrame, baskets: DataFrame, config: MiningConfig, lakehouse: Lakehouse) -> None:
    if config.weight is None:
        lakehouse.overwrite(s.RULES.name, judged)
        return
    with kept(judged) as rules:
        lakehouse.overwrite(s.RULES.name, weighted(rules, baskets))


def _wanted_of_lines(config: Config, lakehouse: Lakehouse) -> list[Column]:
    """What has to be known of a basket beside its items."""
    wanted: list[Column] = []
    if are_wanted(config):
        wanted.extend(customer_and_time())
    if config.mining.weight is not None:
        wanted.append(F.sum(_weight_of_line(config, lakehouse)).alias(WEIGHT))
    return wanted


def _weight_of_line(config: Config, lakehouse: Lakehouse) -> Column:
    """What a line adds to the weight of its basket.

    Raises:
        ConfigError: lines have no such number.
    """
    weight = config.mining.weight
    if weight == SPEND:
        return spend()
    numbers = [name for name, type_ in lakehouse.read(s.LINES.name).dtypes if type_ in _NUMBERS]
    if weight not in numbers:
        raise ConfigError(
            f"mining.weight is {weight!r}, which is no number in {s.LINES.name}; there are: "
            f"{', '.join((SPEND, *numbers))}"
        )
    return F.col(f"`{weight}`")


def baskets_of_sources(config: Config, lakehouse: Lakehouse, *further: Column) -> list[DataFrame]:
    """One frame of baskets per source that has any; ``further`` is what else is wanted of lines of a basket."""
    frames = []
    if config.source_of_kind("lines") is not None:
        frames.append(baskets_of_lines(lakehouse.read(s.LINES.name), *further))
    if config.source_of_kind("baskets") is not None:
        frames.append(lakehouse.read(s.BASKETS.name).select(s.BASKET_ID, s.ITEMS))
    if config.mining.attributes is not None:
        frames.append(attributes_of_rows(config, lakehouse))
    return frames


def attributes_of_rows(config: Config, lakehouse: Lakehouse, *further: Column) -> DataFrame:
    """The rows that ``mining.attributes`` names, as baskets; ``further`` is what else is wanted of each.

    Raises:
        ConfigError: none are named, or a column to be cut is no number.
        TableContractError: a column is missing.
    """
    attributes = config.mining.attributes
    if attributes is None:
        raise ConfigError("mining.attributes: is needed, there is no other source of baskets")
    source = config.sources[attributes.source]
    rows = lakehouse.read(rows_table(attributes.source, source))
    key = [name for name in source.mapped_key if name in rows.columns]
    return baskets_of_rows(rows, attributes, key, *further)


def _beside(one: DataFrame, other: DataFrame) -> DataFrame:
    """The baskets of both; of those of a source of baskets nothing but the items is known."""
    return one.unionByName(other, allowMissingColumns=True)


@contextmanager
def _generalised(
    bought: DataFrame, frames: Sequence[DataFrame], categories: DataFrame | None, config: MiningConfig
) -> Iterator[DataFrame]:
    """The baskets with the categories of their items, source by source; as they are where there are none."""
    if categories is None:
        yield bought
        return
    # Source by source: two may use the same ids.
    with kept(reduce(_beside, [with_categories(frame, categories, config) for frame in frames])) as baskets:
        yield baskets


def categories_of_source(config: Config, lakehouse: Lakehouse) -> DataFrame | None:
    """The categories of items, of the source that ``mining.taxonomy`` names; None without one.

    Raises:
        TableContractError: a column is missing.
    """
    taxonomy = config.mining.taxonomy
    if taxonomy is None:
        return None
    table = s.LINES.name
    if taxonomy.source is not None:
        table = rows_table(taxonomy.source, config.sources[taxonomy.source])
    rows = lakehouse.read(table)
    missing = [name for name in (taxonomy.item, *taxonomy.categories) if name not in rows.columns]
    if missing:
        raise TableContractError(
            f"mining.taxonomy: {table} has no column {', '.join(missing)}; found {', '.join(rows.columns)}: map it in "
            "the source's columns"
        )
    return categories_of(rows, taxonomy.item, taxonomy.categories)


def with_categories(frame: DataFrame, categories: DataFrame, config: MiningConfig) -> DataFrame:
    """One source's baskets with the categories of their items.

    Raises:
        TableContractError: an item is called as a category would be.
    """
    baskets = with_items(frame)
    if config.taxonomy is not None:
        check_names(baskets, config.taxonomy)
    return extended(baskets, categories)


def mine_rules(lines: DataFrame, config: MiningConfig) -> DataFrame:
    """Rules from basket lines, without writing a table: what was known of associations at a backtest's cutoff.

    Args:
        lines: basket lines up to the cutoff.
        config: the mining section.

    Returns:
        The columns of ``gold.rules``, one row per rule; computed already, once, and held by the executors while the
        frame is in use.
    """
    return rules_of_baskets(baskets_of_lines(lines), config)


def rules_of_baskets(frame: DataFrame, config: MiningConfig) -> DataFrame:
    """The same from baskets: ``basket_id``, ``items``."""
    with kept(with_items(frame)) as baskets:
        summary = summarise(baskets)
        if summary.baskets == 0:
            return frame.sparkSession.createDataFrame([], s.RULES.ddl)
        with mined(baskets, summary, config) as found:
            hypotheses = count_hypotheses(found.itemsets, config)
            with kept(rules_of(found.itemsets, summary.baskets, config)) as rules:
                return with_verdicts(rules, hypotheses, config).localCheckpoint()


def engine_of(config: MiningConfig) -> str:
    """The engine to use; ``auto`` is Apriori.

    It took a ninth of MLlib's processor time on sparse baskets and as much on small dense ones
    (``scripts/bench_mining.py``), and it alone stops at ``max_itemsets`` and ``max_len`` while it mines.
    """
    return "apriori" if config.algorithm == "auto" else config.algorithm


@contextmanager
def mined(
    baskets: DataFrame, summary: BasketSummary, config: MiningConfig, related: DataFrame | None = None
) -> Iterator[Mined]:
    """Frequent itemsets, each once and within the limits; mined twice and compared with ``verify``.

    Those that hold two items of which one is an ancestor of the other, by ``related``, are left out.

    Raises:
        TableContractError: a basket is longer than ``mining.max_basket``, or the engines differ.
        DlmineError: there are more itemsets than ``mining.max_itemsets``.
    """
    check_longest(summary, config)
    name = engine_of(config)
    small = apriori.mine_small(baskets, summary, config) if name == "apriori" else None
    if small is not None and related is None:
        # The driver holds them anyhow: no job has to count them, and none to keep them.
        sizes = Counter(small.column("size").to_numpy().tolist())
        by_size = within_limit(dict(sorted(sizes.items())), config)
        itemsets = baskets.sparkSession.createDataFrame(small, MINED)
        _verify(itemsets, baskets, summary, config, related)
        yield Mined(itemsets, by_size)
        return
    if small is not None:
        every = baskets.sparkSession.createDataFrame(small, MINED)
    else:
        every = (apriori.mine_large if name == "apriori" else ENGINES[name])(baskets, summary, config)
    with kept(_telling(every, related)) as itemsets:
        # Counted before anything is written: an explosion must not replace a good table.
        by_size = count_by_size(itemsets, config)
        _verify(itemsets, baskets, summary, config, related)
        yield Mined(itemsets, by_size)


def _verify(
    itemsets: DataFrame, baskets: DataFrame, summary: BasketSummary, config: MiningConfig, related: DataFrame | None
) -> None:
    if not config.verify:
        return
    name, other = engine_of(config), other_engine(config)
    check_equal(itemsets, _telling(ENGINES[other](baskets, summary, config), related), (name, other))
    log.info("%s and %s agree on all itemsets", name, other)


def _telling(itemsets: DataFrame, related: DataFrame | None) -> DataFrame:
    return itemsets if related is None else without_trivial(itemsets, related)


def other_engine(config: MiningConfig) -> str:
    """The engine that ``verify`` compares with."""
    return next(name for name in ENGINES if name != engine_of(config))


def _check_templates(itemsets: DataFrame, config: MiningConfig) -> None:
    """Warn of items in the templates that are not frequent.

    Raises:
        ConfigError: such an item is required, so that there can be no rule.
    """
    unknown = unknown_items(itemsets, config)
    for setting, hint in unknown.items():
        message = f"{setting} is not among the frequent items{hint}"
        if ".require" in setting:
            raise ConfigError(f"{message}: correct it, or set mining.min_support lower; no table was changed")
        log.warning("%s: it makes no difference", message)


def _count_rules(rules: DataFrame) -> RuleCounts:
    is_redundant, is_significant = F.col("is_redundant"), F.col("is_significant")
    row = rules.agg(
        F.count(F.lit(1)).alias("found"),
        F.count_if(is_redundant).alias("redundant"),
        F.count_if(~is_redundant & ~is_significant).alias("insignificant"),
        F.count_if("is_kept").alias("kept"),
    ).collect()[0]
    return RuleCounts(**row.asDict())


def _told(rules: RuleCounts) -> str:
    """What is marked among the rules; nothing where nothing is."""
    marks = {"redundant": rules.redundant, "insignificant": rules.insignificant}
    told = " and ".join(f"{count:,} {mark}" for mark, count in marks.items() if count)
    return f"; {told} ones marked, {rules.kept:,} kept" if told else ""


def _report(
    config: MiningConfig,
    summary: BasketSummary,
    by_size: dict[int, int],
    rules: RuleCounts,
    sequences: MinedSequences | None,
) -> MineReport:
    name = engine_of(config)
    itemsets = sum(by_size.values())
    if itemsets == 0:
        log.warning(
            "no item is in %s of %s baskets: set mining.min_support lower",
            f"{summary.min_count(config.min_support):,}",
            f"{summary.baskets:,}",
        )
    verified = f" (verified against {other_engine(config)})" if config.verify else ""
    return MineReport(
        rows_in=summary.baskets,
        rows_out=itemsets + rules.found + (sequences.total if sequences else 0),
        algorithm=name,
        itemsets_by_size=by_size,
        rules=rules,
        sequences_by_length=sequences.by_length if sequences else None,
        verified=config.verify,
        message=(
            f"{plural(itemsets, 'itemset')} and {plural(rules.found, 'rule')} from {plural(summary.baskets, 'basket')} "
            f"by {name}{verified}"
            f"{_told(rules)}{sequences.told if sequences else ''}"
        ),
    )
