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

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark import sources
from dlmine_spark.cleaning.baskets import split_baskets
from dlmine_spark.cleaning.cancellations import match_cancellations
from dlmine_spark.cleaning.columns import declared_columns, kept_columns, odd_cells, other_columns, shadowed_columns
from dlmine_spark.cleaning.corrections import with_corrections
from dlmine_spark.cleaning.outliers import measure_fences, treat_outliers
from dlmine_spark.cleaning.plain import can_be_plain, plain_pattern
from dlmine_spark.cleaning.plan import (
    RANK,
    is_good,
    key_of,
    mark_rows,
    number_versions,
)
from dlmine_spark.config import ColumnConfig, Config, SourceConfig
from dlmine_spark.errors import ConfigError, NoRowsError, SourceError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.batches import (
    Batch,
    Contents,
    copied_rows,
    next_batch,
    note_contents,
    note_files,
    plan_of,
    refuse_changed_files,
    rows_to_judge,
    step_of,
)
from dlmine_spark.pipelines.counting import check_counts, count_rows
from dlmine_spark.pipelines.lanes import (
    count_alone,
    identity_of,
    is_touched,
    note_repeated,
    plain_rows,
    refuses_outliers,
    repeated_rows,
    touched_table,
    with_rules_met,
    with_series,
)
from dlmine_spark.pipelines.quality import treat_source
from dlmine_spark.pipelines.subjects import Incoming, Judged, SourceCounts, Subject, merge_key, rows_table

log = logging.getLogger(__name__)

TWO_LANES_FROM_BYTES = 64 << 20
"""A smaller source is judged row by row: the queries that find its plain rows would take longer."""
_MOST_KEPT = 1_000
"""Columns kept without being mapped: each is an expression of its own, and Spark's planning grows with them."""
_IS_KNOWN = "__is_known"


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
        return Judged(subject, False, SourceCounts(name, copied, 0, 0, copied, 0, 0), copied)
    source, columns = subject.source, subject.columns
    corrections = corrections_of(lakehouse, name)
    odd = subject.bronze.where(~F.col(s.PLAIN)) if subject.has_two_lanes else subject.bronze
    if corrections is not None:
        odd = with_corrections(odd, corrections)
    if subject.has_two_lanes:
        note_repeated(lakehouse, subject, odd)
        odd = odd.unionByName(repeated_rows(lakehouse, subject))
    with _naming_rules(name, source):
        lakehouse.overwrite(f"staging.{name}", _judged(odd, source, columns))
    _treat_cancellations(lakehouse, name, source)
    _supersede_known(lakehouse, subject)
    has_fences = _treat_outliers(config, lakehouse, subject)
    if source.mining is not None:
        treat_source(lakehouse, name, columns, source.mining, key_of(source, columns))
    alone = count_alone(lakehouse, subject, touched=has_fences) if subject.has_two_lanes else 0
    judged = Judged(subject, has_fences, count_rows(lakehouse, name, alone, copied), copied)
    check_counts(config, lakehouse, judged, subject.bronze.count() + copied)
    return judged


def _subject(config: Config, lakehouse: Lakehouse, name: str, incoming: Incoming) -> tuple[Subject, int]:
    """Write what is new to bronze; what is to be judged of it, and how many rows are not since they came before."""
    source, batch = config.sources[name], incoming.batch
    declared = declared_columns(source)
    has_two_lanes = _has_two_lanes(source, batch)
    rows = incoming.rows
    if has_two_lanes:
        # While the cells are at hand: later, telling who each row is would read them all again.
        rows = with_rules_met(rows, source, declared).withColumn(s.IDENTITY, identity_of(rows, source, declared))
    if batch is None:
        bronze = _ingest(lakehouse, name, source, rows, partition_by=(s.PLAIN,) if has_two_lanes else ())
    else:
        bronze, contents = _ingest_batch(lakehouse, source, batch, rows)
    columns = declared | _kept_columns(bronze, name, source)
    corrections = corrections_of(lakehouse, name)
    if corrections is not None and refuses_outliers(columns):
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


def good_rows(lakehouse: Lakehouse, judged: Judged) -> DataFrame:
    """The judged rows of a source that become silver ones: its columns with their values, and ``INTERNAL``."""
    subject = judged.subject
    staged = lakehouse.read(f"staging.{judged.name}").where(is_good())
    if not subject.has_two_lanes:
        return staged
    plain = plain_rows(lakehouse, subject, touched=judged.has_fences)
    return staged.unionByName(plain.drop(s.IDENTITY))


def all_rows(lakehouse: Lakehouse, judged: Judged) -> DataFrame:
    """The good rows of a source as they will be when silver is written: new ones, and earlier ones that stay."""
    if judged.scope == "none":
        return _unfilled(lakehouse.read(rows_table(judged.name, judged.subject.source)))
    new = good_rows(lakehouse, judged)
    if judged.scope == "all":
        return new
    return new.unionByName(known_rows(lakehouse, judged.subject, new), allowMissingColumns=True)


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
    return silver.withColumns(filled).drop(*(flags[name] for name in filled)) if filled else silver


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
    before = sources.contents(lakehouse.spark, name, source)
    with sources.reading(name, source), _naming_rules(name, source):
        lakehouse.overwrite(f"bronze.{name}", rows, partition_by=partition_by)
    if sources.contents(lakehouse.spark, name, source) != before:
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
    return with_series(judged, source, columns)


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


def _treat_outliers(config: Config, lakehouse: Lakehouse, subject: Subject) -> bool:
    """Write the fences that good rows set, and treat judged rows by them; returns whether there are any.

    A plain row that an outlier rule touches joins the judged ones, by way of a table of its own: the counts law needs
    to know how many there are from somewhere else than the table it is asserted on.
    """
    name, source, columns = subject.name, subject.source, subject.columns
    if not any(spec.outliers for spec in columns.values()):
        return False
    cutoff = config.cleaning.cutoff
    judged = lakehouse.read(f"staging.{name}")
    plain = plain_rows(lakehouse, subject) if subject.has_two_lanes else None
    good = judged.where(is_good())
    if plain is not None:
        good = good.unionByName(plain.drop(s.IDENTITY))
    if subject.scope == "some":
        good = good.unionByName(known_rows(lakehouse, subject, good), allowMissingColumns=True)
    fences: dict[tuple[str, ...], DataFrame] = {}
    for place, (by, measured) in enumerate(measure_fences(good, columns, source.time, cutoff).items()):
        table = f"staging.{name}_fences_{place}"
        lakehouse.overwrite(table, measured)
        fences[by] = lakehouse.read(table)

    def treated(rows: DataFrame) -> DataFrame:
        return treat_outliers(rows, columns, source.time, cutoff, fences)

    all_judged = treated(judged.where(is_good())).unionByName(judged.where(~is_good()))
    if plain is not None:
        lakehouse.overwrite(touched_table(name), treated(plain).where(is_touched()))
        all_judged = all_judged.unionByName(lakehouse.read(touched_table(name)).drop(s.IDENTITY))
    lakehouse.overwrite(f"staging.{name}", all_judged)
    return True


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
