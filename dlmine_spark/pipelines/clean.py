"""Clean: source files to bronze as they came, then to typed, repaired silver tables with a record of every change."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial, reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.baskets import number_lines
from dlmine_spark.cleaning.checks import wrong_rules
from dlmine_spark.cleaning.columns import declared_columns, other_columns
from dlmine_spark.cleaning.constraints import constraint_of
from dlmine_spark.cleaning.corrections import row_of
from dlmine_spark.cleaning.impute import fill_blanks
from dlmine_spark.cleaning.lookup import lookup_table, lookups_of
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
from dlmine_spark.cleaning.plan import COPY, INTERNAL, ORIGINAL, REASONS, REPAIRS, WARNINGS, is_good, key_of
from dlmine_spark.config import Config, Kind, SourceConfig
from dlmine_spark.errors import ConfigError, SourceError, TableContractError
from dlmine_spark.frequency import BY_ALIAS, DAILY, Frequency
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.parallel import in_parallel
from dlmine_spark.pipelines.common import panel_end, panel_frequency
from dlmine_spark.pipelines.data_sets import Finding, check_data_sets, keep_statistics
from dlmine_spark.pipelines.judging import Judged, SourceCounts, corrections_of, good_rows, judge, read_rows, tell
from dlmine_spark.pipelines.quality import write_findings
from dlmine_spark.pipelines.references import treat_all_references
from dlmine_spark.runs import StageReport

log = logging.getLogger(__name__)

_SHOWN_KEYS: dict[Kind, tuple[str, ...]] = {"lines": (s.BASKET_ID, s.ITEM)}
"""What names a row in silver.repairs where its source has no key."""
_KEY = "__key"
_TABLES: dict[Kind, str] = {
    "lines": s.LINES.name,
    "panel": s.PANEL.name,
    "statics": s.STATICS.name,
    "calendar": s.CALENDAR.name,
    "baskets": s.BASKETS.name,
}
"""Of the other kind, each source has a table of its own."""


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


def run(config: Config, lakehouse: Lakehouse, now: datetime | None = None) -> CleanReport:
    """Ingest and judge every source; only if all of them are usable, replace the silver tables.

    Args:
        config: the whole configuration.
        lakehouse: the tables.
        now: what the age of a source is counted to; default: the clock.

    Raises:
        ConfigError: a rule, key or pattern that cannot be used, found before any row is read.
        SourceError: a file cannot be used, more of it would be quarantined than ``cleaning.max_rejected`` allows, or it
            is older, or other than in the run before, than its ``freshness`` and ``drift`` allow.
        TableContractError: rows in and rows accounted for differ, or the panel has no value.
    """
    files = {name: read_rows(lakehouse, name, source) for name, source in config.sources.items()}
    _refuse_wrong_rules(config, files)
    judged = in_parallel(
        lakehouse.spark, {name: partial(judge, config, lakehouse, name, rows) for name, rows in files.items()}
    )
    judged = treat_all_references(config, lakehouse, judged)
    for source in judged.values():
        tell(lakehouse, source.counts)
    good = {name: good_rows(config, lakehouse, source) for name, source in judged.items()}
    data_sets = check_data_sets(config, lakehouse, judged, good, now or datetime.now(UTC))
    plan = _plan_panel(config, good)

    in_parallel(
        lakehouse.spark,
        {
            **{name: partial(_write_rows, config, lakehouse, judged[name], good) for name in good},
            s.QUARANTINE.name: partial(_write_quarantine, config, lakehouse),
        },
    )
    _write_panel(config, lakehouse, good, plan)
    repairs = _write_repairs(config, lakehouse)
    write_findings(
        lakehouse,
        {name: _named_rows(lakehouse, name, source) for name, source in config.sources.items() if source.mining},
    )
    counts = [source.counts for source in judged.values()]
    _write_quality(config, lakehouse, counts, data_sets.findings)
    keep_statistics(lakehouse, data_sets)
    return _report(counts, repairs)


def _refuse_wrong_rules(config: Config, files: Mapping[str, DataFrame]) -> None:
    problems: list[str] = []
    for name, source in config.sources.items():
        problems += wrong_rules(files[name].sparkSession, name, source, other_columns(files[name], source))
    if problems:
        raise ConfigError("; ".join(problems))


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


def _write_rows(config: Config, lakehouse: Lakehouse, judged: Judged, good: Mapping[str, DataFrame]) -> None:
    """Write the silver table whose rows are those of a source; the panel is not one, it may come from two."""
    source, rows = config.sources[judged.name], good[judged.name]
    if source.kind == "calendar":
        days = calendar_of_series(_filled(config, good, rows, source, s.DS), _series(config, lakehouse, good))
        lakehouse.overwrite(s.CALENDAR.name, days, check=constraint_of(source, judged.columns, days.columns))
    elif source.kind != "panel":
        table = _silver_table(judged.name, source)
        silver = _silver_rows(config, good, rows, source)
        lakehouse.overwrite(table, silver, check=constraint_of(source, judged.columns, silver.columns))
        _check_rows_written(lakehouse, table, judged.counts)


def _silver_table(name: str, source: SourceConfig) -> str:
    return _TABLES.get(source.kind, f"silver.{name}")


def _silver_rows(config: Config, good: Mapping[str, DataFrame], rows: DataFrame, source: SourceConfig) -> DataFrame:
    """A row of silver for each good row."""
    if source.kind == "baskets":
        return rows.drop(*INTERNAL)
    if source.kind == "lines":
        return _filled(config, good, _with_line_columns(rows), source, source.time)
    return _filled(config, good, rows, source)


def _check_rows_written(lakehouse: Lakehouse, table: str, counts: SourceCounts) -> None:
    """The last word of the counts law: what was accepted is there (Delta keeps the number, no row is read)."""
    written = lakehouse.read(table).count()
    if written != counts.accepted:
        raise TableContractError(
            f"{table}: {counts.accepted:,} rows of source {counts.source} were accepted, but {written:,} written"
        )


def _filled(
    config: Config,
    good: Mapping[str, DataFrame],
    rows: DataFrame,
    source: SourceConfig,
    time: str | None = None,
    season_length: int = 7,
) -> DataFrame:
    """The rows with the fills that their source declares, without what only cleaning needs."""
    columns, cutoff = declared_columns(source), config.cleaning.cutoff
    lookups = {
        column: lookup_table(good[lookup.source], lookup, column, config.sources[lookup.source].time, cutoff)
        for column, lookup in lookups_of(columns).items()
    }
    return fill_blanks(rows, columns, time, season_length, cutoff, lookups).drop(*INTERNAL)


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
    plan: PanelPlan | None,
) -> None:
    """Write ``silver.panel``: from its own source, else summed from dated lines, else not at all."""
    panel, lines = config.source_of_kind("panel"), config.source_of_kind("lines")
    check = None
    if panel is not None and plan is not None:
        rows = _panel_rows(config, lakehouse, good, *panel, plan)
        check = constraint_of(panel[1], declared_columns(panel[1]), rows.columns)
    elif lines is not None and _are_dated(lakehouse, lines[1]):
        rows = _panel_of_lines(config, lakehouse, *lines)
    else:
        log.info("no panel: no source of kind panel, and no dated lines to sum")
        return
    lakehouse.overwrite(s.PANEL.name, rows.select(*in_order(rows.columns)), check=check)


def _are_dated(lakehouse: Lakehouse, lines: SourceConfig) -> bool:
    return s.TS in lines.columns and not lakehouse.read(s.LINES.name).where(F.col(s.TS).isNotNull()).isEmpty()


def _panel_rows(
    config: Config,
    lakehouse: Lakehouse,
    good: Mapping[str, DataFrame],
    name: str,
    source: SourceConfig,
    plan: PanelPlan,
) -> DataFrame:
    """The panel of a panel source: gap-free, closures known, blanks filled up to the last known value."""
    rows = good[name]
    calendar = lakehouse.read(s.CALENDAR.name) if config.source_of_kind("calendar") is not None else None
    gap_free = fill_calendar_gaps(rows, plan.frequency) if config.cleaning.fill_gaps else rows
    open_or_not = with_closures(gap_free, calendar)
    filled = _filled(config, good, open_or_not, source, s.DS, plan.frequency.season_length)
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
            F.lit(None).cast("string").alias("corrected"),
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
        corrections = corrections_of(lakehouse, name)
        if corrections is not None:
            parts.append(_by_hand(lakehouse.read(f"bronze.{name}"), corrections))
    repairs = reduce(DataFrame.unionByName, parts).withColumn(s.RUN_ID, F.lit(lakehouse.run_id))
    lakehouse.overwrite(s.REPAIRS.name, repairs)
    return lakehouse.read(s.REPAIRS.name).count()


def _by_hand(bronze: DataFrame, corrections: DataFrame) -> DataFrame:
    """Whole rows that somebody corrected, and that did come."""
    came = bronze.select(row_of(bronze).alias("row"))
    return corrections.join(came, on="row", how="left_semi").select(
        "source",
        F.col("row").alias("key"),
        F.lit("").alias("column"),
        F.col("row").alias("old_value"),
        F.col("corrected").alias("new_value"),
        F.lit("correction").alias("rule"),
    )


def _keys_shown(source: SourceConfig, columns: Sequence[str]) -> tuple[str, ...]:
    return key_of(source, columns) or _SHOWN_KEYS.get(source.kind, ())


def _named_rows(lakehouse: Lakehouse, name: str, source: SourceConfig) -> DataFrame:
    """The judged rows of a source with ``_KEY``, the text that names a row in the records."""
    staged = lakehouse.read(f"staging.{name}")
    key = _keys_shown(source, staged.columns)
    named = staged if key else number_lines(staged, lakehouse.read(f"bronze.{name}"))
    return named.withColumn(_KEY, _shown_key(key))


def _fills(lakehouse: Lakehouse, name: str, source: SourceConfig, key: Sequence[str]) -> list[DataFrame]:
    """Filled cells, as the silver table's ``_imputed`` flags tell them."""
    filled = [column for column, spec in source.columns.items() if spec.fill != "none"]
    if not filled:
        return []
    rows = lakehouse.read(_silver_table(name, source))
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


def _write_quality(
    config: Config, lakehouse: Lakehouse, counts: Sequence[SourceCounts], findings: Sequence[Finding]
) -> None:
    """Add to the metrics what became of the rows, and how often each rule spoke, in this run."""
    reasons = lakehouse.read(s.QUARANTINE.name).select("source", F.explode("reasons").alias("of"))
    repairs = lakehouse.read(s.REPAIRS.name)
    warnings = [
        lakehouse.read(f"staging.{name}")
        .where(is_good())
        .select(F.lit(name).alias("source"), F.explode(WARNINGS).alias("rule"))
        for name in config.sources
    ]
    by_rule = [
        reasons.select("source", F.lit("quarantine").alias("outcome"), "of.rule", "of.column"),
        repairs.select("source", F.lit("repair").alias("outcome"), "rule", "column"),
        reduce(DataFrame.unionByName, warnings).select(
            "source",
            F.lit("warning").alias("outcome"),
            # A warning about a column is called rule:column.
            F.substring_index("rule", ":", 1).alias("rule"),
            F.when(F.contains("rule", F.lit(":")), F.substring_index("rule", ":", -1)).otherwise("").alias("column"),
        ),
    ]
    grouped = (
        reduce(DataFrame.unionByName, by_rule)
        .groupBy("source", "outcome", "rule", "column")
        .agg(F.count(F.lit(1)).alias("count"))
    )
    fates = [
        (count.source, outcome, "", "", getattr(count, outcome)) for count in counts for outcome in (*s.FATES, "warned")
    ]
    fates += [(finding.source, "warning", finding.rule, finding.column, 1) for finding in findings]
    rows = lakehouse.spark.createDataFrame(
        fates, "source string, outcome string, rule string, column string, count bigint"
    )
    metrics = rows.unionByName(grouped).withColumns(
        {s.RUN_ID: F.lit(lakehouse.run_id), "cleaned_at": F.current_timestamp()}
    )
    lakehouse.append(s.QUALITY.name, metrics)


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
