"""Clean: source files to bronze as they came, then to typed, repaired silver tables with a record of every change."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial, reduce

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark import sources
from dlmine_spark.cleaning.baskets import number_lines, split_baskets
from dlmine_spark.cleaning.checks import wrong_rules
from dlmine_spark.cleaning.columns import declared_columns, kept_columns, odd_cells, other_columns, shadowed_columns
from dlmine_spark.cleaning.impute import fill_blanks
from dlmine_spark.cleaning.outliers import treat_outliers
from dlmine_spark.cleaning.panel import (
    LONGEST_GAP_DAYS,
    ONLY_SERIES,
    UNKNOWN_STORE,
    aggregate_lines,
    calendar_of_series,
    fill_calendar_gaps,
    in_order,
    longest_gap,
    with_closures,
)
from dlmine_spark.cleaning.plan import (
    COPY,
    INTERNAL,
    ORIGINAL,
    RANK,
    REASONS,
    REPAIRS,
    WARNINGS,
    is_good,
    key_of,
    mark_rows,
    number_versions,
)
from dlmine_spark.config import ColumnConfig, Config, Kind, SourceConfig
from dlmine_spark.errors import ConfigError, SourceError, TableContractError
from dlmine_spark.frequency import BY_ALIAS, DAILY, Frequency
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.parallel import in_parallel
from dlmine_spark.pipelines.common import panel_end, panel_frequency
from dlmine_spark.pipelines.quality import treat_source, write_findings
from dlmine_spark.runs import StageReport

log = logging.getLogger(__name__)

_SHOWN_KEYS: dict[Kind, tuple[str, ...]] = {"lines": (s.BASKET_ID, s.ITEM)}
"""What names a row in silver.repairs where its source has no key."""
_KEY = "__key"
_TOP_REASONS = 3
_MOST_KEPT = 1_000
"""Columns kept without being mapped: each is an expression of its own, and Spark's planning grows with them."""


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
    values: Mapping[str, int] = field(default_factory=dict)
    """Known values of each typed column among the accepted rows."""


@dataclass(frozen=True, kw_only=True)
class CleanReport(StageReport):
    """What became of every source, and how many cells were repaired."""

    sources: tuple[SourceCounts, ...]
    repairs: int


@dataclass(frozen=True, slots=True)
class PanelPlan:
    """Facts about the panel that its source gives, known before the first silver table is replaced."""

    frequency: Frequency
    end: date
    """Last date with a known value."""


def run(config: Config, lakehouse: Lakehouse) -> CleanReport:
    """Ingest and judge every source; only if all of them are usable, replace the silver tables.

    Raises:
        ConfigError: a rule, key or pattern that cannot be used, found before any row is read.
        SourceError: a file cannot be used, or more of it would be quarantined than ``cleaning.max_rejected`` allows.
        TableContractError: rows in and rows accounted for differ, or the panel has no value.
    """
    files = {
        name: sources.read_source(lakehouse.spark, name, source, lakehouse.run_id)
        for name, source in config.sources.items()
    }
    _refuse_wrong_rules(config, files)
    counts = in_parallel(
        lakehouse.spark, {name: partial(_stage, config, lakehouse, name, rows) for name, rows in files.items()}
    )
    good = {name: lakehouse.read(f"staging.{name}").where(is_good()) for name in config.sources}
    plan = _plan_panel(config, good)

    in_parallel(
        lakehouse.spark,
        {
            **{name: partial(_write_rows, config, lakehouse, name, rows, good) for name, rows in good.items()},
            s.QUARANTINE.name: partial(_write_quarantine, config, lakehouse),
        },
    )
    _write_panel(config, lakehouse, good, counts, plan)
    repairs = _write_repairs(config, lakehouse)
    write_findings(
        lakehouse,
        {name: _named_rows(lakehouse, name, source) for name, source in config.sources.items() if source.mining},
    )
    return _report(list(counts.values()), repairs)


def _refuse_wrong_rules(config: Config, files: Mapping[str, DataFrame]) -> None:
    problems: list[str] = []
    for name, source in config.sources.items():
        problems += wrong_rules(files[name].sparkSession, name, source, other_columns(files[name], source))
    if problems:
        raise ConfigError("; ".join(problems))


# From files to judged rows


def _stage(config: Config, lakehouse: Lakehouse, name: str, rows: DataFrame) -> SourceCounts:
    """Write a source to bronze and, judged row by row, to ``staging.<source>``; count, and check the counts."""
    source = config.sources[name]
    bronze = _ingest(lakehouse, name, source, rows)
    columns = _columns(bronze, name, source)
    with _naming_rules(name, source):
        lakehouse.overwrite(f"staging.{name}", _judged(bronze, source, columns))
    if any(spec.outliers for spec in columns.values()):
        judged = lakehouse.read(f"staging.{name}")
        treated = treat_outliers(judged.where(is_good()), columns)
        lakehouse.overwrite(f"staging.{name}", treated.unionByName(judged.where(~is_good())))
    if source.mining is not None:
        treat_source(lakehouse, name, columns, source.mining, key_of(source, columns))
    counts = _count(lakehouse.read(f"staging.{name}"), name, columns)
    _check_counts(config, lakehouse, counts, bronze.count(), columns)
    return counts


def _ingest(lakehouse: Lakehouse, name: str, source: SourceConfig, rows: DataFrame) -> DataFrame:
    """Write bronze; refuse files that changed while they were read, of which it may hold half."""
    before = sources.fingerprint(source)
    with sources.reading(name, source):
        lakehouse.overwrite(f"bronze.{name}", rows)
    if sources.fingerprint(source) != before:
        raise SourceError(
            f"{source.path} (source {name}): changed while it was read; run again when nobody writes there"
        )
    return lakehouse.read(f"bronze.{name}")


def _columns(bronze: DataFrame, name: str, source: SourceConfig) -> dict[str, ColumnConfig]:
    """The mapped columns and the kept ones, with their types (one aggregation, if any are kept)."""
    for column in shadowed_columns(bronze, source):
        log.warning("source %s: column %s is not kept, its name is taken; map it under another one", name, column)
    others = other_columns(bronze, source)
    if len(others) > _MOST_KEPT:
        raise SourceError(
            f"{source.path} (source {name}): {len(others):,} columns would be kept, more than {_MOST_KEPT:,}: map "
            f"those that are needed, and set sources.{name}.other_columns=drop"
        )
    kept = kept_columns(odd_cells(bronze, others, source).collect()[0].asDict()) if others else {}
    return declared_columns(source) | kept


def _judged(bronze: DataFrame, source: SourceConfig, columns: Mapping[str, ColumnConfig]) -> DataFrame:
    """Every row of bronze with its values and verdict."""
    if source.kind == "baskets":
        key = key_of(source, source.columns)
        return number_versions(split_baskets(bronze, sources.TEXT_COLUMN, source), source, key)
    judged = number_versions(mark_rows(bronze, source, columns), source, key_of(source, columns))
    if source.kind == "panel" and s.UNIQUE_ID not in columns:
        judged = judged.withColumn(s.UNIQUE_ID, F.lit(ONLY_SERIES))
    return judged


@contextmanager
def _naming_rules(name: str, source: SourceConfig) -> Iterator[None]:
    """Name the row rule that cannot be computed on some row: a division by zero, a text that is no number."""
    try:
        yield
    except PySparkException as error:
        text = str(error)
        rule = next((rule for rule in source.rules if rule.expr in text), None)
        if rule is None:
            raise
        problem = text.partition(" SQLSTATE")[0].partition(" If necessary")[0]
        raise ConfigError(
            f"sources.{name}.rules.{rule.name}: {rule.expr!r} cannot be computed on some row: {problem}"
        ) from error


def _count(staged: DataFrame, name: str, columns: Mapping[str, ColumnConfig]) -> SourceCounts:
    """Count what became of the rows (one aggregation)."""
    is_first, is_refused = F.col(COPY) == 1, F.size(REASONS) > 0
    is_accepted = is_good()
    typed = [column for column, spec in columns.items() if spec.type != "string" and column in staged.columns]
    row = staged.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count_if(is_accepted).alias("accepted"),
        F.count_if(is_first & is_refused).alias("quarantined"),
        F.count_if(~is_first).alias("duplicates"),
        F.count_if(is_first & ~is_refused & (F.col(RANK) > 1)).alias("superseded"),
        F.count_if(is_accepted & (F.size(WARNINGS) > 0)).alias("warned"),
        *(F.count(F.when(is_accepted, F.col(f"`{column}`"))).alias(f"value:{column}") for column in typed),
    ).collect()[0]
    return SourceCounts(
        name,
        row["rows"],
        row["accepted"],
        row["quarantined"],
        row["duplicates"],
        row["superseded"],
        row["warned"],
        {column: row[f"value:{column}"] for column in typed},
    )


def _check_counts(
    config: Config, lakehouse: Lakehouse, counts: SourceCounts, rows_in: int, columns: Mapping[str, ColumnConfig]
) -> None:
    """Assert that no row is lost, and that enough of them are usable; say what became of them."""
    name = counts.source
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
    judged = counts.accepted + counts.quarantined
    share = counts.quarantined / judged
    if share > config.cleaning.max_rejected or counts.accepted == 0:
        raise SourceError(
            f"{where}: {counts.quarantined:,} of {judged:,} rows would be quarantined ({share:.0%}, "
            f"cleaning.max_rejected is {config.cleaning.max_rejected:.0%}), most often for {_top_reasons(staged)}: "
            f"say what its cells look like (sources.{name}.columns.<column>: formats, decimal, type) or what is "
            "allowed (min, max, rules); no silver table was changed"
        )
    _refuse_unreadable_columns(staged, where, counts, columns)
    if config.sources[name].kind == "panel" and counts.values.get(s.Y) == 0:
        raise SourceError(
            f"{where}: column {columns[s.Y].source} ({s.Y}) holds no value in any row: map another one with "
            f"sources.{name}.columns.{s.Y}.from; no silver table was changed"
        )
    log.info("source %s: %s rows in = %s", name, f"{rows_in:,}", _in_words(counts))
    if counts.warned:
        log.warning("source %s: %s rows are kept in spite of %s", name, f"{counts.warned:,}", _top_warnings(staged))


def _in_words(counts: SourceCounts) -> str:
    return (
        f"{counts.accepted:,} accepted + {counts.quarantined:,} quarantined + {counts.duplicates:,} duplicates + "
        f"{counts.superseded:,} superseded"
    )


def _refuse_unreadable_columns(
    staged: DataFrame, where: str, counts: SourceCounts, columns: Mapping[str, ColumnConfig]
) -> None:
    """A typed column without a single value, though there is text in it, was declared wrongly."""
    empty = [column for column, known in counts.values.items() if known == 0]
    if not empty:
        return
    unread = staged.where(is_good()).select(F.explode(REPAIRS).alias("repair")).select("repair.*")
    examples = {
        row["column"]: row["example"]
        for row in unread.where((F.col("rule") == "unparseable") & F.col("column").isin(empty))
        .groupBy("column")
        .agg(F.substring(F.min("old_value"), 1, 100).alias("example"))
        .collect()
    }
    for column, example in examples.items():
        spec = columns[column]
        raise SourceError(
            f"{where}: no cell of column {spec.source} ({column}) is a {spec.type}, e.g. {example!r}: set "
            f"sources.{counts.source}.columns.{column}.type (or formats, decimal, from); no silver table was changed"
        )


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


# From judged rows to silver tables


def _plan_panel(config: Config, good: Mapping[str, DataFrame]) -> PanelPlan | None:
    """Step and end of the panel of a panel source (None without one), which must have values and plausible dates."""
    panel = config.source_of_kind("panel")
    if panel is None:
        return None
    rows = good[panel[0]]
    plan = PanelPlan(panel_frequency(config, rows), panel_end(rows))
    gap = longest_gap(rows).collect()[0]
    if config.cleaning.fill_gaps and gap["days"] is not None and gap["days"] > LONGEST_GAP_DAYS:
        raise SourceError(
            f"{panel[1].path} (source {panel[0]}): series {gap[s.UNIQUE_ID]} has no row between {gap['before']} and "
            f"{gap['after']}: one of these dates looks wrong; refuse it by a rule, e.g. sources.{panel[0]}.rules="
            f"[{{name: wrong_date, expr: \"ds < '{gap['after']}'\"}}], or set cleaning.fill_gaps=false; "
            "no silver table was changed"
        )
    return plan


def _write_rows(
    config: Config, lakehouse: Lakehouse, name: str, rows: DataFrame, good: Mapping[str, DataFrame]
) -> None:
    """Write the silver table whose rows are those of a source; the panel is not one, it may come from two."""
    source = config.sources[name]
    if source.kind == "lines":
        lakehouse.overwrite(s.LINES.name, _filled(_with_line_columns(rows), source, _time_of(source)))
    elif source.kind == "baskets":
        lakehouse.overwrite(s.BASKETS.name, rows.drop(*INTERNAL))
    elif source.kind == "statics":
        lakehouse.overwrite(s.STATICS.name, _filled(rows, source))
    elif source.kind == "table":
        lakehouse.overwrite(f"silver.{name}", _filled(rows, source))
    elif source.kind == "calendar":
        days = _filled(rows, source, s.DS)
        lakehouse.overwrite(s.CALENDAR.name, calendar_of_series(days, _series(config, lakehouse, good)))


def _filled(rows: DataFrame, source: SourceConfig, time: str | None = None, season_length: int = 7) -> DataFrame:
    """The rows with the fills that their source declares, without what only cleaning needs."""
    return fill_blanks(rows, declared_columns(source), time, season_length).drop(*INTERNAL)


def _time_of(source: SourceConfig) -> str | None:
    return s.TS if s.TS in source.columns else None


def _with_line_columns(rows: DataFrame) -> DataFrame:
    """The columns every basket line has, null where the source has none, then the source's others."""
    missing = {name: type_ for name, type_ in s.LINES.columns.items() if name not in rows.columns}
    return rows.withColumns({name: F.lit(None).cast(type_) for name, type_ in missing.items()})


def _series(config: Config, lakehouse: Lakehouse, good: Mapping[str, DataFrame]) -> DataFrame:
    """The series that a calendar without ``unique_id`` holds for."""
    panel, lines = config.source_of_kind("panel"), config.source_of_kind("lines")
    if panel is not None:
        return good[panel[0]].select(s.UNIQUE_ID)
    if lines is not None:
        return good[lines[0]].select(_store_of(lines[1]).alias(s.UNIQUE_ID))
    return lakehouse.spark.createDataFrame([(ONLY_SERIES,)], f"{s.UNIQUE_ID} string")


def _store_of(lines: SourceConfig) -> Column:
    return F.coalesce(F.col(s.STORE_ID), F.lit(UNKNOWN_STORE)) if s.STORE_ID in lines.columns else F.lit(ONLY_SERIES)


def _write_panel(
    config: Config,
    lakehouse: Lakehouse,
    good: Mapping[str, DataFrame],
    counts: Mapping[str, SourceCounts],
    plan: PanelPlan | None,
) -> None:
    """Write ``silver.panel``: from its own source, else summed from dated lines, else not at all."""
    panel, lines = config.source_of_kind("panel"), config.source_of_kind("lines")
    if panel is not None and plan is not None:
        rows = _panel_rows(config, lakehouse, good[panel[0]], panel[1], plan)
    elif lines is not None and counts[lines[0]].values.get(s.TS):
        rows = _panel_of_lines(config, lakehouse, *lines)
    else:
        log.info("no panel: no source of kind panel, and no dated lines to sum")
        return
    lakehouse.overwrite(s.PANEL.name, rows.select(*in_order(rows.columns)))


def _panel_rows(
    config: Config, lakehouse: Lakehouse, rows: DataFrame, source: SourceConfig, plan: PanelPlan
) -> DataFrame:
    """The panel of a panel source: gap-free, closures known, blanks filled up to the last known value."""
    calendar = lakehouse.read(s.CALENDAR.name) if config.source_of_kind("calendar") is not None else None
    gap_free = fill_calendar_gaps(rows, plan.frequency) if config.cleaning.fill_gaps else rows
    filled = _filled(with_closures(gap_free, calendar), source, s.DS, plan.frequency.season_length)
    if s.Y_IMPUTED not in filled.columns:
        filled = filled.withColumn(s.Y_IMPUTED, F.lit(False))
    is_history = F.col(s.DS) <= F.lit(plan.end)
    return filled.withColumns(
        {
            s.Y: F.when(is_history | ~F.col(s.Y_IMPUTED), F.col(s.Y)),
            s.Y_IMPUTED: F.col(s.Y_IMPUTED) & is_history,
        }
    )


def _panel_of_lines(config: Config, lakehouse: Lakehouse, name: str, source: SourceConfig) -> DataFrame:
    """The panel summed from basket lines; one without a quantity counts once."""
    value = config.cleaning.panel_value
    if value == "amount" and s.PRICE not in source.columns:
        log.warning("source %s has no price: the panel sums quantities instead of amounts", name)
        value = "quantity"
    lines = lakehouse.read(s.LINES.name).withColumn(s.STORE_ID, _store_of(source))
    if s.QUANTITY not in source.columns:
        lines = lines.withColumn(s.QUANTITY, F.lit(1.0))
    frequency = BY_ALIAS.get(config.cleaning.frequency, DAILY)
    if frequency != DAILY:
        step = {"W": "week", "MS": "month"}[frequency.alias]
        log.warning("the first and the last %s of the panel are sums of the days there are lines of", step)
    return aggregate_lines(lines, value, frequency)


# The record


def _write_quarantine(config: Config, lakehouse: Lakehouse) -> None:
    refused = [
        lakehouse.read(f"staging.{name}")
        .where((F.col(COPY) == 1) & (F.size(REASONS) > 0))
        .select(
            F.lit(name).alias("source"),
            F.col(ORIGINAL).alias("row"),
            F.col(REASONS).alias("reasons"),
            F.lit(lakehouse.run_id).alias(s.RUN_ID),
        )
        for name in config.sources
    ]
    lakehouse.overwrite(s.QUARANTINE.name, reduce(DataFrame.unionByName, refused))


def _write_repairs(config: Config, lakehouse: Lakehouse) -> int:
    """Write every changed cell: those changed while reading, and those filled; returns how many."""
    parts = []
    for name, source in config.sources.items():
        rows = _named_rows(lakehouse, name, source).where(is_good() & (F.size(REPAIRS) > 0))
        parts.append(
            rows.select(F.lit(name).alias("source"), _KEY, F.explode(REPAIRS).alias("repair")).select(
                "source", F.col(_KEY).alias("key"), "repair.*"
            )
        )
        parts += _fills(lakehouse, name, source, _keys_shown(source, rows.columns))
    repairs = reduce(DataFrame.unionByName, parts).withColumn(s.RUN_ID, F.lit(lakehouse.run_id))
    lakehouse.overwrite(s.REPAIRS.name, repairs)
    return lakehouse.read(s.REPAIRS.name).count()


def _keys_shown(source: SourceConfig, columns: Sequence[str]) -> tuple[str, ...]:
    return key_of(source, columns) or _SHOWN_KEYS.get(source.kind, ())


def _named_rows(lakehouse: Lakehouse, name: str, source: SourceConfig) -> DataFrame:
    """The judged rows of a source with ``_KEY``, the text that names a row in the records."""
    staged = lakehouse.read(f"staging.{name}")
    key = _keys_shown(source, staged.columns)
    return (staged if key else number_lines(staged)).withColumn(_KEY, _shown_key(key))


def _fills(lakehouse: Lakehouse, name: str, source: SourceConfig, key: Sequence[str]) -> list[DataFrame]:
    """Filled cells, as the silver table's ``_imputed`` flags tell them."""
    filled = [column for column, spec in source.columns.items() if spec.fill != "none"]
    if not filled:
        return []
    tables = {"lines": s.LINES.name, "panel": s.PANEL.name, "statics": s.STATICS.name, "calendar": s.CALENDAR.name}
    rows = lakehouse.read(tables.get(source.kind, f"silver.{name}"))
    return [
        rows.where(F.col(f"{column}{s.IMPUTED_SUFFIX}")).select(
            F.lit(name).alias("source"),
            (_shown_key(key) if key else F.lit(None).cast("string")).alias("key"),
            F.lit(column).alias("column"),
            F.lit(None).cast("string").alias("old_value"),
            F.col(f"`{column}`").cast("string").alias("new_value"),
            F.lit(f"fill_{source.columns[column].fill}").alias("rule"),
        )
        for column in filled
    ]


def _shown_key(key: Sequence[str]) -> Column:
    """What names a row: its key, else the file and the number of the line."""
    if not key:
        return F.concat_ws(":", s.SOURCE_FILE, s.SOURCE_ROW)
    return F.concat_ws("|", *(F.coalesce(F.col(f"`{name}`").cast("string"), F.lit("")) for name in key))


def _report(counts: Sequence[SourceCounts], repairs: int) -> CleanReport:
    rows_in = sum(count.rows_in for count in counts)
    accepted = sum(count.accepted for count in counts)
    quarantined = sum(count.quarantined for count in counts)
    removed = sum(count.duplicates + count.superseded for count in counts)
    return CleanReport(
        rows_in=rows_in,
        rows_out=accepted,
        rows_rejected=quarantined,
        sources=tuple(counts),
        repairs=repairs,
        message=(
            f"{rows_in:,} rows in = {accepted:,} accepted + {quarantined:,} quarantined + "
            f"{removed:,} duplicates or superseded; {repairs:,} cells repaired"
        ),
    )
