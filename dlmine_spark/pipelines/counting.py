"""The counts law of cleaning: every row that came is accepted, quarantined, a duplicate or superseded; none is lost."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.plan import COPY, RANK, REASONS, REPAIRS, WARNINGS, is_good, is_refused
from dlmine_spark.config import Config
from dlmine_spark.errors import SourceError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.lanes import plain_rows
from dlmine_spark.pipelines.subjects import Judged, SourceCounts

log = logging.getLogger(__name__)

_TOP_REASONS = 3
_FEW_ROWS = 1_000


def recount(config: Config, lakehouse: Lakehouse, judged: Judged) -> Judged:
    """Count and check a source of one lane once more, after what was judged was treated further.

    Raises:
        SourceError: by now, too much of it would be quarantined.
        TableContractError: rows were lost or added.
    """
    recounted = replace(judged, counts=count_rows(lakehouse, judged.name, 0, judged.copied))
    check_counts(config, lakehouse, recounted, judged.counts.rows_in)
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


def count_rows(lakehouse: Lakehouse, name: str, alone: int, copied: int, only: str = "true") -> SourceCounts:
    """Count what became of the rows (one aggregation over those that were judged).

    Args:
        lakehouse: the tables.
        name: of the source.
        alone: rows that needed no verdict.
        copied: rows of files that had come before.
        only: which of the judged rows are counted.
    """
    staged = lakehouse.read(f"staging.{name}").where(only)
    is_first, is_accepted = F.col(COPY) == 1, is_good()
    row = staged.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count_if(is_accepted).alias("accepted"),
        F.count_if(is_refused()).alias("quarantined"),
        F.count_if(~is_first).alias("duplicates"),
        F.count_if(is_first & ~is_refused() & (F.col(RANK) > 1)).alias("superseded"),
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


def check_counts(config: Config, lakehouse: Lakehouse, judged: Judged, rows_in: int) -> None:
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
        of_batch = count_rows(lakehouse, name, 0, 0, only=step.batch.predicate)
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
        rows = plain_rows(lakehouse, judged.subject, touched=judged.has_fences)
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
