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
from dlmine_spark.config import ColumnConfig, Config, Kind, SourceConfig
from dlmine_spark.errors import ConfigError, NoRowsError, SourceError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.batches import (
    Batch,
    Contents,
    Scope,
    Step,
    copied_rows,
    next_batch,
    note_contents,
    note_files,
    plan_of,
    refuse_changed_files,
    rows_to_judge,
    step_of,
)
from dlmine_spark.pipelines.quality import treat_source

log = logging.getLogger(__name__)

TWO_LANES_FROM_BYTES = 64 << 20
"""A smaller source is judged row by row: the queries that find its plain rows would take longer."""
_TOP_REASONS = 3
_FEW_ROWS = 1_000
_MOST_KEPT = 1_000
"""Columns kept without being mapped: each is an expression of its own, and Spark's planning grows with them."""
_PLAIN_ROWS, _ROWS, _ROW, _IS_KNOWN = "plain_rows", "rows", "__row", "__is_known"
SILVER_TABLES: dict[Kind, str] = {
    "lines": s.LINES.name,
    "panel": s.PANEL.name,
    "statics": s.STATICS.name,
    "calendar": s.CALENDAR.name,
    "baskets": s.BASKETS.name,
}
"""Of the other kind, each source has a table of its own."""


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
class Incoming:
    """What there is to read of a source: all of its rows, or those of its new files and the batch that they are."""

    rows: DataFrame
    batch: Batch | None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged.

    Attributes:
        name: of the source.
        source: its declaration.
        columns: its columns, kept ones included, with their types.
        bronze: the rows as they came.
        has_two_lanes: whether plain rows stay in bronze.
        step: what new files do to the silver table; None where the source is loaded as a whole.
    """

    name: str
    source: SourceConfig
    columns: Mapping[str, ColumnConfig]
    bronze: DataFrame
    has_two_lanes: bool
    step: Step | None

    @property
    def scope(self) -> Scope:
        """Whether all rows of the source are judged, some that are new, or none."""
        return "all" if self.step is None else self.step.scope


@dataclass(frozen=True, slots=True)
class Judged:
    """A source whose rows have their verdict.

    Attributes:
        subject: the source.
        fences: table of the fences of each grouping that an outlier rule has.
        counts: what became of its rows.
        copied: how many of them are in files that came before; they are not judged again.
    """

    subject: Subject
    fences: Mapping[tuple[str, ...], str]
    counts: SourceCounts
    copied: int

    @property
    def name(self) -> str:
        """Of the source."""
        return self.subject.name

    @property
    def columns(self) -> Mapping[str, ColumnConfig]:
        """Its columns, kept ones included, with their types."""
        return self.subject.columns

    @property
    def scope(self) -> Scope:
        """Whether all rows of the source were judged, some that are new, or none."""
        return self.subject.scope


# The verdicts


def take_in(lakehouse: Lakehouse, name: str, source: SourceConfig) -> Incoming:
    """Look at what there is to read of a source; of a large one, ``PLAIN`` tells the rows that need no verdict.

    Raises:
        SourceError: naming the file, and what to try.
        ConfigError: a setting that this source cannot have.
        TableContractError: bronze is gone, of a source to which new files are added.
    """
    if source.load == "replace":
        return Incoming(_read(lakehouse, name, source), None)
    batch = next_batch(lakehouse, name, source)
    if not batch.is_ingested and batch.files:
        try:
            rows = _read(lakehouse, name, source, batch)
        except NoRowsError:
            if batch.is_first:
                raise
            # Nothing was sold on that day: the file is taken in all the same, and brings nothing.
            rows = lakehouse.read(f"bronze.{name}").limit(0)
        _refuse_other_columns(lakehouse, name, source, batch, rows)
        return Incoming(rows, batch)
    return Incoming(lakehouse.read(f"bronze.{name}"), batch)


def _read(lakehouse: Lakehouse, name: str, source: SourceConfig, batch: Batch | None = None) -> DataFrame:
    number, only = (0, None) if batch is None else (batch.number, batch.files)
    plain = None
    if _has_two_lanes(source, batch):
        columns = declared_columns(source)

        def plain(names: Sequence[str]) -> str | None:
            return plain_pattern(names, source, columns)

    return sources.read_source(lakehouse.spark, name, source, lakehouse.run_id, plain, only=only, batch=number)


def _refuse_other_columns(lakehouse: Lakehouse, name: str, source: SourceConfig, batch: Batch, rows: DataFrame) -> None:
    """Refuse new files with columns that earlier ones did not have, or without some, where the source wants that."""
    if source.new_columns == "add" or batch.is_first:
        return
    there = set(lakehouse.read(f"bronze.{name}").columns).difference(s.BRONZE_METADATA)
    come = [column for column in rows.columns if column not in s.BRONZE_METADATA]
    changes = [f"+{column}" for column in come if column not in there]
    changes += [f"-{column}" for column in sorted(there.difference(come))]
    if changes:
        shown = ", ".join(file.path for file in batch.files[:3])
        raise SourceError(
            f"{shown} (source {name}): has other columns than earlier files ({', '.join(changes)}), which "
            f"sources.{name}.new_columns=refuse forbids; nothing was taken in"
        )


def judge(config: Config, lakehouse: Lakehouse, name: str, incoming: Incoming) -> Judged:
    """Write a source to bronze and the verdicts on its rows to ``staging.<source>``; count, and check the counts.

    Args:
        config: the whole configuration.
        lakehouse: the tables.
        name: of the source.
        incoming: from ``take_in``.

    Raises:
        SourceError: a file cannot be used, or too much of it would be quarantined.
        TableContractError: rows in and rows accounted for differ.
    """
    subject, copied = _subject(config, lakehouse, name, incoming)
    if subject.scope == "none":
        return Judged(subject, {}, SourceCounts(name, copied, 0, 0, copied, 0, 0), copied)
    source, columns = subject.source, subject.columns
    corrections = corrections_of(lakehouse, name)
    odd = subject.bronze.where(~F.col(s.PLAIN)) if subject.has_two_lanes else subject.bronze
    if corrections is not None:
        odd = with_corrections(odd, corrections)
    if subject.has_two_lanes:
        _note_repeated(lakehouse, subject, odd)
        odd = odd.unionByName(_repeated_rows(lakehouse, subject))
    with _naming_rules(name, source):
        lakehouse.overwrite(f"staging.{name}", _judged(odd, source, columns))
    _treat_cancellations(lakehouse, name, source)
    _supersede_known(lakehouse, subject)
    fences = _treat_outliers(config, lakehouse, subject)
    if source.mining is not None:
        treat_source(lakehouse, name, columns, source.mining, key_of(source, columns))
    alone = _count_alone(lakehouse, subject, touched=bool(fences)) if subject.has_two_lanes else 0
    judged = Judged(subject, fences, _count(lakehouse, name, alone, copied), copied)
    _check_counts(config, lakehouse, judged, subject.bronze.count() + copied)
    return judged


def _subject(config: Config, lakehouse: Lakehouse, name: str, incoming: Incoming) -> tuple[Subject, int]:
    """Write what is new to bronze; what is to be judged of it, and how many rows are not since they came before."""
    source, batch = config.sources[name], incoming.batch
    declared = declared_columns(source)
    has_two_lanes = _has_two_lanes(source, batch)
    rows = incoming.rows
    if has_two_lanes:
        # While the cells are at hand: later, telling who each row is would read them all again.
        rows = _with_rules_met(rows, source, declared).withColumn(s.IDENTITY, _identity(rows, source, declared))
    if batch is None:
        bronze = _ingest(lakehouse, name, source, rows, partition_by=(s.PLAIN,) if has_two_lanes else ())
    else:
        bronze, contents = _ingest_batch(lakehouse, source, batch, rows)
    columns = declared | _kept_columns(bronze, name, source)
    corrections = corrections_of(lakehouse, name)
    if corrections is not None and _refuses_outliers(columns):
        # Rows that were refused and corrected may be plain ones.
        has_two_lanes = False
    if batch is None:
        return Subject(name, source, columns, bronze, has_two_lanes, None), 0
    plan = plan_of(config, name, columns, corrections)
    asks_others = bool(source.references) or any(spec.fill_from is not None for spec in columns.values())
    step = step_of(lakehouse, batch, contents, plan, rows_table(name, source), asks_others=asks_others)
    # Which rows are plain was told by the declaration of the run that read them; which ones stay, their keys tell.
    has_two_lanes = has_two_lanes and step.scope == "some" and source.keep == "last" and not batch.is_ingested
    judged = rows_to_judge(lakehouse, step)
    return Subject(name, source, columns, judged, has_two_lanes, step), copied_rows(lakehouse, step)


def good_rows(config: Config, lakehouse: Lakehouse, judged: Judged) -> DataFrame:
    """The judged rows of a source that become silver ones: its columns with their values, and ``INTERNAL``."""
    subject = judged.subject
    staged = lakehouse.read(f"staging.{judged.name}").where(is_good())
    if not subject.has_two_lanes:
        return staged
    plain = _plain_rows(lakehouse, subject)
    if judged.fences:
        fences = {by: lakehouse.read(table) for by, table in judged.fences.items()}
        treated = treat_outliers(plain, judged.columns, subject.source.time, config.cleaning.cutoff, fences)
        plain = treated.where(~_is_touched())
    return staged.unionByName(plain)


def all_rows(config: Config, lakehouse: Lakehouse, judged: Judged) -> DataFrame:
    """The good rows of a source as they will be when silver is written: new ones, and earlier ones that stay."""
    if judged.scope == "none":
        return _unfilled(lakehouse.read(rows_table(judged.name, judged.subject.source)))
    new = good_rows(config, lakehouse, judged)
    if judged.scope == "all":
        return new
    return new.unionByName(known_rows(lakehouse, judged.subject, new), allowMissingColumns=True)


def rows_table(name: str, source: SourceConfig) -> str:
    """The table that has the good rows of a source: its silver table, of a panel one without gaps and fills."""
    return f"silver.{name}_rows" if source.kind == "panel" else SILVER_TABLES.get(source.kind, f"silver.{name}")


def known_rows(lakehouse: Lakehouse, subject: Subject, new: DataFrame) -> DataFrame:
    """The rows that silver had before a batch, without those that it replaces; what was filled in them is blank.

    Args:
        lakehouse: the tables.
        subject: the source and what its new files do.
        new: the good rows of the batch.
    """
    step = subject.step
    if step is None or step.base_version is None:
        raise ValueError(f"source {subject.name} is not merged into earlier rows")
    base = _unfilled(lakehouse.read(rows_table(subject.name, subject.source), step.base_version))
    shown = base.select(*(f"`{name}`" for name in new.columns if name in base.columns))
    key = merge_key(subject, new)
    return shown.join(new.select(*(f"`{name}`" for name in key)).distinct(), on=list(key), how="left_anti")


def _unfilled(silver: DataFrame) -> DataFrame:
    """Rows of silver as they were before their fills."""
    flags = {name: f"{name}{s.IMPUTED_SUFFIX}" for name in silver.columns}
    filled = {name: F.when(~F.col(flag), F.col(f"`{name}`")) for name, flag in flags.items() if flag in silver.columns}
    return silver.withColumns(filled).drop(*(flags[name] for name in filled))


def merge_key(subject: Subject, rows: DataFrame) -> tuple[str, ...]:
    """The columns by which a new row replaces an earlier one."""
    return key_of(subject.source, rows.columns)


def recount(config: Config, lakehouse: Lakehouse, judged: Judged) -> Judged:
    """Count and check a source of one lane once more, after what was judged was treated further.

    Raises:
        SourceError: by now, too much of it would be quarantined.
        TableContractError: rows were lost or added.
    """
    recounted = replace(judged, counts=_count(lakehouse, judged.name, 0, judged.copied))
    _check_counts(config, lakehouse, recounted, judged.counts.rows_in)
    return recounted


def tell(lakehouse: Lakehouse, judged: Judged) -> None:
    """Say in the log what became of the rows of a source, and which rules they are kept in spite of."""
    counts = judged.counts
    if judged.scope == "none" and not judged.copied:
        log.info("source %s: no new rows", counts.source)
        return
    log.info("source %s: %s rows in = %s", counts.source, f"{counts.rows_in:,}", _in_words(counts))
    if counts.warned:
        staged = lakehouse.read(f"staging.{counts.source}")
        shown = _top_warnings(staged)
        log.warning("source %s: %s rows are kept in spite of %s", counts.source, f"{counts.warned:,}", shown)


def _has_two_lanes(source: SourceConfig, batch: Batch | None) -> bool:
    """Whether a source, or what is new of it, is large, and of a kind whose plain rows can be told."""
    is_told = source.format == "csv" and not source.multiline and can_be_plain(source)
    # What a kept column holds is known only once all of it was read.
    if not is_told or source.other_columns == "keep":
        return False
    size = sources.size_of(source) if batch is None else sum(file.size for file in batch.files)
    return size >= TWO_LANES_FROM_BYTES


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


def _ingest_batch(
    lakehouse: Lakehouse, source: SourceConfig, batch: Batch, rows: DataFrame
) -> tuple[DataFrame, Contents]:
    """Add new files to bronze as a partition of their own, unless a killed run did; the rows of all batches."""
    table = f"bronze.{batch.source}"
    if batch.files and not batch.is_ingested:
        note_files(lakehouse, batch)
        with sources.reading(batch.source, source), _naming_rules(batch.source, source):
            replaced = None if batch.is_first else batch.predicate
            lakehouse.overwrite(table, rows, replace_where=replaced, partition_by=(s.BATCH, s.PLAIN))
        refuse_changed_files(batch, source)
    contents = note_contents(lakehouse, batch) if batch.files else Contents(0, 0)
    return lakehouse.read(table), contents


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


def _note_repeated(lakehouse: Lakehouse, subject: Subject, odd: DataFrame) -> None:
    """Write the identities that more than one row has, with the number of plain rows of each (one aggregation).

    Rows that are copies or versions of each other have the same identity. Others may share one by chance, which only
    sends them the long way.
    """
    key = key_of(subject.source, subject.columns)
    # The same cells may come plain in one line, and between quotes in another.
    identities = (
        subject.bronze.where(s.PLAIN)
        .select(s.IDENTITY, s.PLAIN)
        .unionByName(odd.select(_hash_of_cells(odd).alias(s.IDENTITY), F.lit(False).alias(s.PLAIN)))
    )
    if key:
        # A plain row may be a version of one that is not.
        marked = mark_rows(odd, subject.source, subject.columns)
        of_odd = marked.select(_hash_of_key(marked, key).alias(s.IDENTITY), F.lit(False).alias(s.PLAIN))
        identities = identities.unionByName(of_odd.where(F.col(s.IDENTITY).isNotNull()))
    repeated = (
        identities.groupBy(s.IDENTITY)
        .agg(F.count(F.lit(1)).alias(_ROWS), F.count_if(F.col(s.PLAIN)).alias(_PLAIN_ROWS))
        .where((F.col(_ROWS) > 1) & (F.col(_PLAIN_ROWS) > 0))
    )
    lakehouse.overwrite(_repeated_table(subject.name), repeated.select(s.IDENTITY, _PLAIN_ROWS))


def _repeated_table(name: str) -> str:
    return f"staging.{name}_repeated"


def _identity(rows: DataFrame, source: SourceConfig, columns: Mapping[str, ColumnConfig]) -> Column:
    """Of a plain row: a hash of its key, or of all its cells where it has no key or a blank in it; else null."""
    identity = _hash_of_cells(rows)
    key = key_of(source, columns)
    if key:
        values = plain_values(columns)
        parts = [values[name] for name in key if name in values]
        is_whole = reduce(Column.__and__, (part.isNotNull() for part in parts))
        identity = F.when(is_whole, F.xxhash64(*parts)).otherwise(identity)
    return F.when(F.col(s.PLAIN), identity)


def _hash_of_cells(bronze: DataFrame) -> Column:
    # By name: files with their columns in another order hold the same cells.
    cells = [F.col(f"`{name}`") for name in sorted(bronze.columns) if name not in s.BRONZE_METADATA]
    return F.xxhash64(F.lit("cells"), *cells)


def _hash_of_key(marked: DataFrame, key: tuple[str, ...]) -> Column:
    """Of a judged row; null where a part of its key is missing."""
    parts = [F.col(f"`{name}`") for name in key if name in marked.columns]
    return F.when(reduce(Column.__and__, (part.isNotNull() for part in parts)), F.xxhash64(*parts))


def _repeated_rows(lakehouse: Lakehouse, subject: Subject) -> DataFrame:
    """The plain rows of bronze that share their identity."""
    repeated = lakehouse.read(_repeated_table(subject.name))
    plain = subject.bronze.where(s.PLAIN)
    return plain.join(repeated, on=s.IDENTITY, how="left_semi").select(*subject.bronze.columns)


def _plain_rows(lakehouse: Lakehouse, subject: Subject) -> DataFrame:
    """The plain rows whose identity nobody shares, in the shape of judged ones."""
    repeated = lakehouse.read(_repeated_table(subject.name))
    alone = subject.bronze.where(s.PLAIN).join(repeated, on=s.IDENTITY, how="left_anti")
    # Of plain rows, nothing but an outlier rule refuses any.
    original = row_of(subject.bronze) if _refuses_outliers(subject.columns) else F.lit(None)
    rows = alone.select(
        *(value.alias(column) for column, value in plain_values(subject.columns).items()),
        no_reasons().alias(REASONS),
        no_repairs().alias(REPAIRS),
        F.array().cast("array<string>").alias(WARNINGS),
        original.cast("string").alias(ORIGINAL),
        F.lit(1).alias(COPY),
        F.lit(1).alias(RANK),
        *ORDER,
    )
    return _with_series(rows, subject.source, subject.columns)


# What judges good rows by each other


def _treat_cancellations(lakehouse: Lakehouse, name: str, source: SourceConfig) -> None:
    """Match cancelled sales first: what never happened says nothing of what is usual."""
    if source.cancellations is None:
        return
    judged = lakehouse.read(f"staging.{name}")
    matched = match_cancellations(judged.where(is_good()), source.cancellations, source.time)
    with _naming_rules(name, source):
        lakehouse.overwrite(f"staging.{name}", matched.unionByName(judged.where(~is_good())))


def _supersede_known(lakehouse: Lakehouse, subject: Subject) -> None:
    """Where the first row of a key stays, new rows give way to the earlier ones that silver has."""
    if subject.step is None or subject.scope != "some" or subject.source.keep != "first":
        return
    judged = lakehouse.read(f"staging.{subject.name}")
    base = lakehouse.read(rows_table(subject.name, subject.source), subject.step.base_version)
    key = list(merge_key(subject, judged))
    known = base.select(*key).distinct().withColumn(_IS_KNOWN, F.lit(True))
    ranked = judged.join(known, on=key, how="left").withColumn(
        RANK, F.when(is_good() & F.coalesce(F.col(_IS_KNOWN), F.lit(False)), 2).otherwise(F.col(RANK))
    )
    lakehouse.overwrite(f"staging.{subject.name}", ranked.select(*judged.columns))


def _treat_outliers(config: Config, lakehouse: Lakehouse, subject: Subject) -> dict[tuple[str, ...], str]:
    """Write the fences that good rows set, and treat judged rows by them; returns the tables of the fences.

    A plain row that an outlier rule touches joins the judged ones, by way of a table of its own: the counts law needs
    to know how many there are from somewhere else than the table it is asserted on.
    """
    name, source, columns = subject.name, subject.source, subject.columns
    if not any(spec.outliers for spec in columns.values()):
        return {}
    cutoff = config.cleaning.cutoff
    judged = lakehouse.read(f"staging.{name}")
    plain = _plain_rows(lakehouse, subject) if subject.has_two_lanes else None
    good = judged.where(is_good()) if plain is None else judged.where(is_good()).unionByName(plain)
    if subject.scope == "some":
        good = good.unionByName(known_rows(lakehouse, subject, good), allowMissingColumns=True)
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


def _count_alone(lakehouse: Lakehouse, subject: Subject, *, touched: bool) -> int:
    """How many plain rows need no verdict: those with an identity of their own that no outlier rule ``touched``."""
    plain = subject.bronze.where(s.PLAIN).count()
    repeated = lakehouse.read(_repeated_table(subject.name)).agg(F.sum(_PLAIN_ROWS).alias(_PLAIN_ROWS)).collect()[0]
    dropped = lakehouse.read(_touched_table(subject.name)).count() if touched else 0
    return plain - int(repeated[_PLAIN_ROWS] or 0) - dropped


def _count(lakehouse: Lakehouse, name: str, alone: int, copied: int, only: str = "true") -> SourceCounts:
    """Count what became of the rows (one aggregation over those that were judged).

    Args:
        lakehouse: the tables.
        name: of the source.
        alone: rows that needed no verdict.
        copied: rows of files that had come before.
        only: which of the judged rows are counted.
    """
    staged = lakehouse.read(f"staging.{name}").where(only)
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
        rows_in=row["rows"] + alone + copied,
        accepted=row["accepted"] + alone,
        quarantined=row["quarantined"],
        duplicates=row["duplicates"] + copied,
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
    quarantined, usable = counts.quarantined, counts.accepted + counts.quarantined
    step = judged.subject.step
    if step is not None and step.scope == "all" and step.batch.files:
        # Among all the rows that are judged anew, those of new files would hardly count.
        of_batch = _count(lakehouse, name, 0, 0, only=step.batch.predicate)
        if of_batch.quarantined > config.cleaning.max_rejected * (of_batch.accepted + of_batch.quarantined):
            quarantined, usable = of_batch.quarantined, of_batch.accepted + of_batch.quarantined
    share = quarantined / max(1, usable)
    # New rows that are all versions of earlier ones, of which the first stays, are none of the file's faults.
    if share > config.cleaning.max_rejected or (counts.accepted == 0 and judged.scope == "all"):
        raise SourceError(
            f"{where}: {quarantined:,} of {usable:,} rows would be quarantined ({share:.0%}, "
            f"cleaning.max_rejected is {config.cleaning.max_rejected:.0%}), most often for {_top_reasons(staged)}: "
            f"say what its cells look like (sources.{name}.columns.<column>: formats, decimal, type) or what is "
            "allowed (min, max, rules); no silver table was changed"
        )
    if judged.scope == "all":
        # A column may well be empty on one day.
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
    if empty and judged.subject.has_two_lanes:
        rows = _plain_rows(lakehouse, judged.subject)
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
