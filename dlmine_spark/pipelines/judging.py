"""From source files to judged rows: bronze as they came, and in staging a verdict on every row that needs one.

A large CSV source is read in two lanes. Rows that are plain (``cleaning.plain``) and whose key occurs once need no
verdict: they are read from bronze when silver is written. All others, usually a few in a hundred, are judged by
``cleaning.plan`` and kept in ``staging.<source>``. A small source has one lane, in which every row is judged: asking
first would cost more than it spares. Both give the same silver tables.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark import sources
from dlmine_spark.cleaning.baskets import split_baskets
from dlmine_spark.cleaning.cancellations import match_cancellations
from dlmine_spark.cleaning.columns import declared_columns, kept_columns, odd_cells, other_columns, shadowed_columns
from dlmine_spark.cleaning.corrections import row_of, with_corrections
from dlmine_spark.cleaning.outliers import measure_fences, treat_outliers
from dlmine_spark.cleaning.panel import ONLY_SERIES
from dlmine_spark.cleaning.plain import can_be_plain, plain_pattern, plain_values, within_rules
from dlmine_spark.cleaning.plan import (
    COPY,
    ORDER,
    ORIGINAL,
    RANK,
    REASONS,
    REPAIRS,
    WARNINGS,
    is_good,
    key_of,
    mark_rows,
    no_reasons,
    no_repairs,
    number_versions,
)
from dlmine_spark.config import ColumnConfig, Config, SourceConfig
from dlmine_spark.errors import ConfigError, SourceError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.quality import treat_source

log = logging.getLogger(__name__)

TWO_LANES_FROM_BYTES = 64 << 20
"""A smaller source is judged row by row: the queries that find its plain rows would take longer."""
_TOP_REASONS = 3
_FEW_ROWS = 1_000
_MOST_KEPT = 1_000
"""Columns kept without being mapped: each is an expression of its own, and Spark's planning grows with them."""
_IDENTITY, _PLAIN_ROWS, _ROWS, _ROW = "__identity", "plain_rows", "rows", "__row"


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """What became of the rows of one source: ``rows_in = accepted + quarantined + duplicates + superseded``."""

    source: str
    rows_in: int
    accepted: int
    quarantined: int
    duplicates: int
    superseded: int
    warned: int
    """Accepted rows that a rule warns of."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A source whose rows have their verdict.

    Attributes:
        name: of the source.
        columns: its columns, kept ones included, with their types.
        has_two_lanes: whether plain rows were left in bronze.
        fences: table of the fences of each grouping that an outlier rule has.
        counts: what became of its rows.
    """

    name: str
    columns: Mapping[str, ColumnConfig]
    has_two_lanes: bool
    fences: Mapping[tuple[str, ...], str]
    counts: SourceCounts


# The verdicts


def read_rows(lakehouse: Lakehouse, name: str, source: SourceConfig) -> DataFrame:
    """The rows of a source as they came; of a large one, ``PLAIN`` tells those that need no verdict.

    Raises:
        SourceError: naming the file, and what to try.
        ConfigError: a setting that this source cannot have.
    """
    if not _has_two_lanes(source):
        return sources.read_source(lakehouse.spark, name, source, lakehouse.run_id)
    columns = declared_columns(source)

    def plain(names: Sequence[str]) -> str | None:
        return plain_pattern(names, source, columns)

    return sources.read_source(lakehouse.spark, name, source, lakehouse.run_id, plain)


def judge(config: Config, lakehouse: Lakehouse, name: str, rows: DataFrame) -> Judged:
    """Write a source to bronze and the verdicts on its rows to ``staging.<source>``; count, and check the counts.

    Args:
        config: the whole configuration.
        lakehouse: the tables.
        name: of the source.
        rows: from ``read_rows``.

    Raises:
        SourceError: a file cannot be used, or too much of it would be quarantined.
        TableContractError: rows in and rows accounted for differ.
    """
    source = config.sources[name]
    declared = declared_columns(source)
    has_two_lanes = _has_two_lanes(source)
    if has_two_lanes:
        rows = _with_rules_met(rows, source, declared)
    bronze = _ingest(lakehouse, name, source, rows, partition_by=(s.PLAIN,) if has_two_lanes else ())
    columns = declared | _kept_columns(bronze, name, source)
    corrections = corrections_of(lakehouse, name)
    if corrections is not None and _refuses_outliers(columns):
        # Rows that were refused and corrected may be plain ones.
        has_two_lanes = False
    odd = bronze.where(~F.col(s.PLAIN)) if has_two_lanes else bronze
    if corrections is not None:
        odd = with_corrections(odd, corrections)
    if has_two_lanes:
        _note_repeated(lakehouse, name, odd, source, columns)
        odd = odd.unionByName(_repeated_rows(lakehouse, name, source, columns))
    with _naming_rules(name, source):
        lakehouse.overwrite(f"staging.{name}", _judged(odd, source, columns))
    _treat_cancellations(lakehouse, name, source)
    fences = _treat_outliers(config, lakehouse, name, columns, has_two_lanes)
    if source.mining is not None:
        treat_source(lakehouse, name, columns, source.mining, key_of(source, columns))
    counts = _count(lakehouse, name, _count_alone(lakehouse, name, touched=bool(fences)) if has_two_lanes else 0)
    judged = Judged(name, columns, has_two_lanes, fences, counts)
    _check_counts(config, lakehouse, judged, bronze.count())
    return judged


def good_rows(config: Config, lakehouse: Lakehouse, judged: Judged) -> DataFrame:
    """The rows of a source that become silver ones: its columns with their values, and ``INTERNAL``."""
    staged = lakehouse.read(f"staging.{judged.name}").where(is_good())
    if not judged.has_two_lanes:
        return staged
    source = config.sources[judged.name]
    plain = _plain_rows(lakehouse, judged.name, source, judged.columns)
    if judged.fences:
        fences = {by: lakehouse.read(table) for by, table in judged.fences.items()}
        treated = treat_outliers(plain, judged.columns, source.time, config.cleaning.cutoff, fences)
        plain = treated.where(~_is_touched())
    return staged.unionByName(plain)


def recount(config: Config, lakehouse: Lakehouse, judged: Judged) -> Judged:
    """Count and check a source of one lane once more, after what was judged was treated further.

    Raises:
        SourceError: by now, too much of it would be quarantined.
        TableContractError: rows were lost or added.
    """
    recounted = replace(judged, counts=_count(lakehouse, judged.name, 0))
    _check_counts(config, lakehouse, recounted, judged.counts.rows_in)
    return recounted


def tell(lakehouse: Lakehouse, counts: SourceCounts) -> None:
    """Say in the log what became of the rows of a source, and which rules they are kept in spite of."""
    log.info("source %s: %s rows in = %s", counts.source, f"{counts.rows_in:,}", _in_words(counts))
    if counts.warned:
        staged = lakehouse.read(f"staging.{counts.source}")
        shown = _top_warnings(staged)
        log.warning("source %s: %s rows are kept in spite of %s", counts.source, f"{counts.warned:,}", shown)


def _has_two_lanes(source: SourceConfig) -> bool:
    """Whether a source is large, and of a kind whose plain rows can be told."""
    is_told = source.format == "csv" and not source.multiline and can_be_plain(source)
    # What a kept column holds is known only once all of it was read.
    return is_told and source.other_columns == "drop" and sources.size_of(source) >= TWO_LANES_FROM_BYTES


def _ingest(
    lakehouse: Lakehouse, name: str, source: SourceConfig, rows: DataFrame, partition_by: Sequence[str]
) -> DataFrame:
    """Write bronze; refuse files that changed while they were read, of which it may hold half."""
    before = sources.fingerprint(source)
    with sources.reading(name, source), _naming_rules(name, source):
        lakehouse.overwrite(f"bronze.{name}", rows, partition_by=partition_by)
    if sources.fingerprint(source) != before:
        raise SourceError(
            f"{source.path} (source {name}): changed while it was read; run again when nobody writes there"
        )
    return lakehouse.read(f"bronze.{name}")


def _with_rules_met(rows: DataFrame, source: SourceConfig, columns: Mapping[str, ColumnConfig]) -> DataFrame:
    """Rows that break a rule about a column or about whole rows are not plain."""
    is_within = within_rules(columns)
    if is_within is not None:
        rows = rows.withColumn(s.PLAIN, F.col(s.PLAIN) & is_within)
    if not source.rules:
        return rows
    # Rules speak of canonical columns, whose names may be those of other columns of the file.
    values = [value.alias(name) for name, value in plain_values(columns).items()]
    whole = rows.select(F.struct(*(F.col(f"`{name}`") for name in rows.columns)).alias(_ROW), *values)
    are_met = [F.coalesce(F.expr(rule.expr).cast("boolean"), F.lit(True)) for rule in source.rules]
    is_plain = F.when(F.col(_ROW)[s.PLAIN], reduce(Column.__and__, are_met)).otherwise(F.lit(False))
    checked = whole.select(_ROW, is_plain.alias(s.PLAIN))
    return checked.select(*(F.col(_ROW)[name].alias(name) for name in rows.columns if name != s.PLAIN), s.PLAIN)


def _kept_columns(bronze: DataFrame, name: str, source: SourceConfig) -> dict[str, ColumnConfig]:
    """The columns kept without being mapped, with their types (one aggregation, if there are any)."""
    for column in shadowed_columns(bronze, source):
        log.warning("source %s: column %s is not kept, its name is taken; map it under another one", name, column)
    others = other_columns(bronze, source)
    if len(others) > _MOST_KEPT:
        raise SourceError(
            f"{source.path} (source {name}): {len(others):,} columns would be kept, more than {_MOST_KEPT:,}: map "
            f"those that are needed, and set sources.{name}.other_columns=drop"
        )
    return kept_columns(odd_cells(bronze, others, source).collect()[0].asDict()) if others else {}


def corrections_of(lakehouse: Lakehouse, name: str) -> DataFrame | None:
    """What was corrected by hand in the source, None where nothing was."""
    if lakehouse.version(s.CORRECTIONS.name) is None:
        return None
    of_source = lakehouse.read(s.CORRECTIONS.name).where(F.col("source") == name)
    return None if of_source.isEmpty() else of_source


def _judged(bronze: DataFrame, source: SourceConfig, columns: Mapping[str, ColumnConfig]) -> DataFrame:
    """Rows of bronze with their values and verdict."""
    if source.kind == "baskets":
        key = key_of(source, source.columns)
        return number_versions(split_baskets(bronze, sources.TEXT_COLUMN, source), source, key)
    judged = number_versions(mark_rows(bronze, source, columns), source, key_of(source, columns))
    return _with_series(judged, source, columns)


def _with_series(rows: DataFrame, source: SourceConfig, columns: Mapping[str, ColumnConfig]) -> DataFrame:
    """A panel that does not name its series is one."""
    if source.kind == "panel" and s.UNIQUE_ID not in columns:
        return rows.withColumn(s.UNIQUE_ID, F.lit(ONLY_SERIES))
    return rows


# The lane of plain rows


def _note_repeated(
    lakehouse: Lakehouse, name: str, odd: DataFrame, source: SourceConfig, columns: Mapping[str, ColumnConfig]
) -> None:
    """Write the identities that more than one row has, with the number of plain rows of each (one aggregation).

    Rows that are copies or versions of each other have the same identity. Others may share one by chance, which only
    sends them the long way.
    """
    bronze = lakehouse.read(f"bronze.{name}")
    key = key_of(source, columns)
    # The same cells may come plain in one line, and between quotes in another.
    identities = (
        bronze.where(s.PLAIN)
        .select(_identity(bronze, source, columns).alias(_IDENTITY), s.PLAIN)
        .unionByName(odd.select(_hash_of_cells(odd).alias(_IDENTITY), F.lit(False).alias(s.PLAIN)))
    )
    if key:
        # A plain row may be a version of one that is not.
        marked = mark_rows(odd, source, columns)
        of_odd = marked.select(_hash_of_key(marked, key).alias(_IDENTITY), F.lit(False).alias(s.PLAIN))
        identities = identities.unionByName(of_odd.where(F.col(_IDENTITY).isNotNull()))
    repeated = (
        identities.groupBy(_IDENTITY)
        .agg(F.count(F.lit(1)).alias(_ROWS), F.count_if(F.col(s.PLAIN)).alias(_PLAIN_ROWS))
        .where((F.col(_ROWS) > 1) & (F.col(_PLAIN_ROWS) > 0))
    )
    lakehouse.overwrite(_repeated_table(name), repeated.select(_IDENTITY, _PLAIN_ROWS))


def _repeated_table(name: str) -> str:
    return f"staging.{name}_repeated"


def _identity(bronze: DataFrame, source: SourceConfig, columns: Mapping[str, ColumnConfig]) -> Column:
    """Of a plain row: a hash of its key, or of all its cells where it has no key or a blank in it."""
    of_cells = _hash_of_cells(bronze)
    key = key_of(source, columns)
    if not key:
        return of_cells
    values = plain_values(columns)
    is_whole = reduce(Column.__and__, (values[name].isNotNull() for name in key if name in values))
    return F.when(is_whole, F.xxhash64(*(values[name] for name in key if name in values))).otherwise(of_cells)


def _hash_of_cells(bronze: DataFrame) -> Column:
    cells = [F.col(f"`{name}`") for name in bronze.columns if name not in s.BRONZE_METADATA]
    return F.xxhash64(F.lit("cells"), *cells)


def _hash_of_key(marked: DataFrame, key: tuple[str, ...]) -> Column:
    """Of a judged row; null where a part of its key is missing."""
    parts = [F.col(f"`{name}`") for name in key if name in marked.columns]
    return F.when(reduce(Column.__and__, (part.isNotNull() for part in parts)), F.xxhash64(*parts))


def _repeated_rows(
    lakehouse: Lakehouse, name: str, source: SourceConfig, columns: Mapping[str, ColumnConfig]
) -> DataFrame:
    """The plain rows of bronze that share their identity."""
    bronze = lakehouse.read(f"bronze.{name}")
    plain = bronze.where(s.PLAIN).withColumn(_IDENTITY, _identity(bronze, source, columns))
    return plain.join(lakehouse.read(_repeated_table(name)), on=_IDENTITY, how="left_semi").drop(_IDENTITY)


def _plain_rows(
    lakehouse: Lakehouse, name: str, source: SourceConfig, columns: Mapping[str, ColumnConfig]
) -> DataFrame:
    """The plain rows whose identity nobody shares, in the shape of judged ones."""
    bronze = lakehouse.read(f"bronze.{name}")
    plain = bronze.where(s.PLAIN).withColumn(_IDENTITY, _identity(bronze, source, columns))
    alone = plain.join(lakehouse.read(_repeated_table(name)), on=_IDENTITY, how="left_anti")
    # Of plain rows, nothing but an outlier rule refuses any.
    original = row_of(bronze) if _refuses_outliers(columns) else F.lit(None)
    rows = alone.select(
        *(value.alias(column) for column, value in plain_values(columns).items()),
        no_reasons().alias(REASONS),
        no_repairs().alias(REPAIRS),
        F.array().cast("array<string>").alias(WARNINGS),
        original.cast("string").alias(ORIGINAL),
        F.lit(1).alias(COPY),
        F.lit(1).alias(RANK),
        *ORDER,
    )
    return _with_series(rows, source, columns)


# What judges good rows by each other


def _treat_cancellations(lakehouse: Lakehouse, name: str, source: SourceConfig) -> None:
    """Match cancelled sales first: what never happened says nothing of what is usual."""
    if source.cancellations is None:
        return
    judged = lakehouse.read(f"staging.{name}")
    matched = match_cancellations(judged.where(is_good()), source.cancellations, source.time)
    with _naming_rules(name, source):
        lakehouse.overwrite(f"staging.{name}", matched.unionByName(judged.where(~is_good())))


def _treat_outliers(
    config: Config, lakehouse: Lakehouse, name: str, columns: Mapping[str, ColumnConfig], has_two_lanes: bool
) -> dict[tuple[str, ...], str]:
    """Write the fences that good rows set, and treat judged rows by them; returns the tables of the fences.

    A plain row that an outlier rule touches joins the judged ones, by way of a table of its own: the counts law needs
    to know how many there are from somewhere else than the table it is asserted on.
    """
    if not any(spec.outliers for spec in columns.values()):
        return {}
    source, cutoff = config.sources[name], config.cleaning.cutoff
    judged = lakehouse.read(f"staging.{name}")
    plain = _plain_rows(lakehouse, name, source, columns) if has_two_lanes else None
    good = judged.where(is_good()) if plain is None else judged.where(is_good()).unionByName(plain)
    tables: dict[tuple[str, ...], str] = {}
    fences: dict[tuple[str, ...], DataFrame] = {}
    for place, (by, measured) in enumerate(measure_fences(good, columns, source.time, cutoff).items()):
        tables[by] = f"staging.{name}_fences_{place}"
        lakehouse.overwrite(tables[by], measured)
        fences[by] = lakehouse.read(tables[by])

    def treated(rows: DataFrame) -> DataFrame:
        return treat_outliers(rows, columns, source.time, cutoff, fences)

    all_judged = treated(judged.where(is_good())).unionByName(judged.where(~is_good()))
    if plain is not None:
        lakehouse.overwrite(_touched_table(name), treated(plain).where(_is_touched()))
        all_judged = all_judged.unionByName(lakehouse.read(_touched_table(name)))
    lakehouse.overwrite(f"staging.{name}", all_judged)
    return tables


def _touched_table(name: str) -> str:
    return f"staging.{name}_touched"


def _refuses_outliers(columns: Mapping[str, ColumnConfig]) -> bool:
    return any(spec.outliers is not None and spec.outliers.action == "quarantine" for spec in columns.values())


def _is_touched() -> Column:
    """Whether a rule has something to say of a row."""
    return (F.size(REASONS) > 0) | (F.size(REPAIRS) > 0) | (F.size(WARNINGS) > 0)


# The counts


def _count_alone(lakehouse: Lakehouse, name: str, *, touched: bool) -> int:
    """How many plain rows need no verdict: those with an identity of their own that no outlier rule ``touched``."""
    plain = lakehouse.read(f"bronze.{name}").where(s.PLAIN).count()
    repeated = lakehouse.read(_repeated_table(name)).agg(F.sum(_PLAIN_ROWS).alias(_PLAIN_ROWS)).collect()[0]
    return plain - int(repeated[_PLAIN_ROWS] or 0) - (lakehouse.read(_touched_table(name)).count() if touched else 0)


def _count(lakehouse: Lakehouse, name: str, alone: int) -> SourceCounts:
    """Count what became of the rows (one aggregation over those that were judged); ``alone``: those that were not."""
    staged = lakehouse.read(f"staging.{name}")
    is_first, is_refused = F.col(COPY) == 1, F.size(REASONS) > 0
    is_accepted = is_good()
    row = staged.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count_if(is_accepted).alias("accepted"),
        F.count_if(is_first & is_refused).alias("quarantined"),
        F.count_if(~is_first).alias("duplicates"),
        F.count_if(is_first & ~is_refused & (F.col(RANK) > 1)).alias("superseded"),
        F.count_if(is_accepted & (F.size(WARNINGS) > 0)).alias("warned"),
    ).collect()[0]
    return SourceCounts(
        source=name,
        rows_in=row["rows"] + alone,
        accepted=row["accepted"] + alone,
        quarantined=row["quarantined"],
        duplicates=row["duplicates"],
        superseded=row["superseded"],
        warned=row["warned"],
    )


def _check_counts(config: Config, lakehouse: Lakehouse, judged: Judged, rows_in: int) -> None:
    """Assert that no row is lost, and that enough of them are usable."""
    counts, name = judged.counts, judged.name
    where = f"{config.sources[name].path} (source {name})"
    accounted = counts.accepted + counts.quarantined + counts.duplicates + counts.superseded
    if not accounted == counts.rows_in == rows_in:
        raise TableContractError(
            f"bronze.{name}: {rows_in:,} rows in, but {accounted:,} accounted for ({_in_words(counts)}); "
            "no silver table was changed"
        )
    if rows_in == 0:
        raise SourceError(f"{where}: holds no rows; no silver table was changed")
    staged = lakehouse.read(f"staging.{name}")
    usable = counts.accepted + counts.quarantined
    share = counts.quarantined / usable
    if share > config.cleaning.max_rejected or counts.accepted == 0:
        raise SourceError(
            f"{where}: {counts.quarantined:,} of {usable:,} rows would be quarantined ({share:.0%}, "
            f"cleaning.max_rejected is {config.cleaning.max_rejected:.0%}), most often for {_top_reasons(staged)}: "
            f"say what its cells look like (sources.{name}.columns.<column>: formats, decimal, type) or what is "
            "allowed (min, max, rules); no silver table was changed"
        )
    _refuse_empty_columns(config, lakehouse, judged, where)


def _in_words(counts: SourceCounts) -> str:
    return (
        f"{counts.accepted:,} accepted + {counts.quarantined:,} quarantined + {counts.duplicates:,} duplicates + "
        f"{counts.superseded:,} superseded"
    )


def _refuse_empty_columns(config: Config, lakehouse: Lakehouse, judged: Judged, where: str) -> None:
    """A typed column without a single value, though there is text in it, was declared wrongly; so was an empty y."""
    staged = lakehouse.read(f"staging.{judged.name}").where(is_good())
    empty = _without_value(staged, judged)
    if empty and judged.has_two_lanes:
        rows = _plain_rows(lakehouse, judged.name, config.sources[judged.name], judged.columns)
        # Nearly always, the first rows have what is looked for.
        few = _without_value(rows.limit(_FEW_ROWS), judged, empty)
        empty = _without_value(rows, judged, few) if few else []
    if not empty:
        return
    unread = staged.select(F.explode(REPAIRS).alias("repair")).select("repair.*")
    examples = {
        row["column"]: row["example"]
        for row in unread.where((F.col("rule") == "unparseable") & F.col("column").isin(empty))
        .groupBy("column")
        .agg(F.substring(F.min("old_value"), 1, 100).alias("example"))
        .collect()
    }
    for column, example in examples.items():
        spec = judged.columns[column]
        raise SourceError(
            f"{where}: no cell of column {spec.source} ({column}) is a {spec.type}, e.g. {example!r}: set "
            f"sources.{judged.name}.columns.{column}.type (or formats, decimal, from); no silver table was changed"
        )
    if config.sources[judged.name].kind == "panel" and s.Y in empty:
        raise SourceError(
            f"{where}: column {judged.columns[s.Y].source} ({s.Y}) holds no value in any row: map another one with "
            f"sources.{judged.name}.columns.{s.Y}.from; no silver table was changed"
        )


def _without_value(rows: DataFrame, judged: Judged, names: Sequence[str] | None = None) -> list[str]:
    """Those of the typed columns (of ``names``) that no row has a value of (one aggregation)."""
    typed = [name for name, spec in judged.columns.items() if spec.type != "string" and name in rows.columns]
    asked = [name for name in typed if names is None or name in names]
    if not asked:
        return []
    known = rows.agg(*(F.count(F.col(f"`{name}`")).alias(name) for name in asked)).collect()[0]
    return [name for name in asked if known[name] == 0]


def _top_reasons(staged: DataFrame) -> str:
    """The most frequent reasons, each with one example."""
    reasons = (
        staged.select(F.explode(REASONS).alias("reason"))
        .groupBy("reason.rule", "reason.column")
        .agg(F.count(F.lit(1)).alias("rows"), F.min("reason.message").alias("example"))
        .orderBy(F.desc("rows"), "rule", "column")
        .limit(_TOP_REASONS)
        .collect()
    )
    return "; ".join(
        f"{' '.join(part for part in (row['rule'], row['column']) if part)} ({row['rows']:,} rows, e.g. "
        f"{row['example']})"
        for row in reasons
    )


def _top_warnings(staged: DataFrame) -> str:
    warnings = (
        staged.where(is_good())
        .select(F.explode(WARNINGS).alias("rule"))
        .groupBy("rule")
        .agg(F.count(F.lit(1)).alias("rows"))
        .orderBy(F.desc("rows"), "rule")
        .limit(_TOP_REASONS)
        .collect()
    )
    return ", ".join(f"{row['rule']} ({row['rows']:,})" for row in warnings)


@contextmanager
def _naming_rules(name: str, source: SourceConfig) -> Iterator[None]:
    """Name the row rule that cannot be computed on some row: a division by zero, a text that is no number."""
    try:
        yield
    except PySparkException as error:
        text = str(error)
        written = [(f"rules.{rule.name}", sql) for rule in source.rules for sql in (rule.expr, *rule.set.values())]
        if source.cancellations is not None:
            written.append(("cancellations.marker", source.cancellations.marker))
        found = next(((key, sql) for key, sql in written if sql in text), None)
        if found is None:
            raise
        key, sql = found
        problem = text.partition(" SQLSTATE")[0].partition(" If necessary")[0]
        raise ConfigError(f"sources.{name}.{key}: {sql!r} cannot be computed on some row: {problem}") from error
