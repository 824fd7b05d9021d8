"""Clean: source files to bronze as they came, then to typed, repaired silver tables with a record of every change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.caching import kept
from dlmine_spark.cleaning.checks import wrong_rules
from dlmine_spark.cleaning.columns import declared_columns, other_columns
from dlmine_spark.cleaning.constraints import constraint_of
from dlmine_spark.cleaning.impute import fill_blanks
from dlmine_spark.cleaning.lookup import lookup_table, lookups_of
from dlmine_spark.cleaning.moments import with_moments
from dlmine_spark.cleaning.panel import (
    ONLY_SERIES,
    aggregate_lines,
    calendar_of_series,
    fill_calendar_gaps,
    in_order,
    longest_gap,
    series_steps,
    step_facts,
    store_of,
    with_closures,
)
from dlmine_spark.cleaning.plan import INTERNAL
from dlmine_spark.config import Config, SourceConfig
from dlmine_spark.errors import ConfigError, SourceError, TableContractError
from dlmine_spark.frequency import DAILY, Frequency, Moment, from_alias, sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.parallel import in_parallel
from dlmine_spark.pipelines import batches
from dlmine_spark.pipelines.batches import EndedStep
from dlmine_spark.pipelines.common import panel_end
from dlmine_spark.pipelines.counting import tell
from dlmine_spark.pipelines.data_sets import check_data_sets, keep_statistics
from dlmine_spark.pipelines.judging import all_rows, good_rows, judge, known_rows, take_in
from dlmine_spark.pipelines.quality import write_findings
from dlmine_spark.pipelines.record import named_rows, write_quality, write_quarantine, write_repairs
from dlmine_spark.pipelines.references import treat_all_references
from dlmine_spark.pipelines.steps import other_steps, panel_frequency, set_aside, with_moment_types
from dlmine_spark.pipelines.subjects import Incoming, Judged, SourceCounts, merge_key, rows_table
from dlmine_spark.runs import StageReport

log = logging.getLogger(__name__)

_IS_NEW = "__is_new"


@dataclass(frozen=True, kw_only=True)
class CleanReport(StageReport):
    """What became of every source, and how many cells were repaired."""

    sources: tuple[SourceCounts, ...]
    repairs: int


@dataclass(frozen=True, slots=True)
class PanelPlan:
    """Facts about the panel that its source gives, known before the first silver table is replaced."""

    frequency: Frequency
    end: Moment
    """Last date with a known value."""
    set_aside: DataFrame | None
    """The rows of ``silver.set_aside``, if there are any: series that the panel has no place for."""
    series_set_aside: int


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
    batches.note_changed_sources(lakehouse, config)
    incoming = {name: take_in(lakehouse, name, source) for name, source in config.sources.items()}
    config = with_moment_types(config, {name: came.rows for name, came in incoming.items()})
    _refuse_wrong_rules(config, incoming)
    coming = {name: came.batch for name, came in incoming.items()}
    with batches.withdrawn_if_refused(lakehouse, config, coming):
        judged = in_parallel(
            lakehouse.spark, {name: partial(judge, config, lakehouse, name, came) for name, came in incoming.items()}
        )
        judged = treat_all_references(config, lakehouse, judged)
        for source in judged.values():
            tell(lakehouse, source)
        good = {name: all_rows(lakehouse, source) for name, source in judged.items()}
        data_sets = check_data_sets(config, lakehouse, judged, good, now or datetime.now(UTC))
        plan = _plan_panel(config, lakehouse, good)

    steps = [source.subject.step for source in judged.values() if source.subject.step is not None]
    batches.begin(lakehouse, steps)
    writers: dict[str, Callable[[], int | None]] = {
        **{name: partial(_write_rows, config, lakehouse, judged[name], good) for name in good},
        s.QUARANTINE.name: partial(write_quarantine, lakehouse, judged),
    }
    written = in_parallel(lakehouse.spark, writers)
    ended = [
        EndedStep(step, source.counts.rows_in, source.counts.accepted, written[name] or 0)
        for name, source in judged.items()
        if (step := source.subject.step) is not None
    ]
    _write_panel(config, lakehouse, good, plan)
    repairs = write_repairs(config, lakehouse, judged, {step.step.batch.source: step.inserted for step in ended})
    write_findings(
        lakehouse,
        {name: named_rows(lakehouse, judged[name]) for name, source in config.sources.items() if source.mining},
    )
    counts = [source.counts for source in judged.values()]
    write_quality(lakehouse, judged, data_sets.findings)
    keep_statistics(lakehouse, data_sets)
    batches.end(lakehouse, ended)
    # What came since a killed run noted its batch is the next one.
    is_behind = any(batch is not None and batch.is_ingested for batch in coming.values())
    aside = 0 if plan is None else plan.series_set_aside
    return _report(counts, repairs, aside, is_behind=is_behind)


def _refuse_wrong_rules(config: Config, incoming: Mapping[str, Incoming]) -> None:
    problems: list[str] = []
    for name, source in config.sources.items():
        rows = incoming[name].rows
        problems += wrong_rules(rows.sparkSession, name, source, other_columns(rows, source))
    if problems:
        raise ConfigError("; ".join(problems))


# From judged rows to silver tables


def _plan_panel(config: Config, lakehouse: Lakehouse, good: Mapping[str, DataFrame]) -> PanelPlan | None:
    """Step and end of the panel of a panel source (None without one), which must have values and plausible dates."""
    panel = config.source_of_kind("panel")
    if panel is None:
        return None
    rows = with_moments(good[panel[0]])
    frequency = panel_frequency(config, rows)
    with kept(series_steps(rows, frequency)) as by_series:
        facts = step_facts(by_series).collect()
        others = other_steps(config, facts, frequency)
        aside = _staged(lakehouse, set_aside(by_series, others, frequency)) if others else None
    count = sum(fact["series"] for fact in others)
    plan = PanelPlan(frequency, panel_end(_without(rows, aside)), aside, count)
    gaps = [fact["longest"] for fact in facts if fact not in others]
    gap = max(gaps, key=lambda gap: gap["steps"] or 0)
    if config.cleaning.fill_gaps and (gap["steps"] or 0) > longest_gap(frequency):
        raise SourceError(
            f"{panel[1].path} (source {panel[0]}): series {gap[s.UNIQUE_ID]} has no row between {gap['before']} and "
            f"{gap['after']}: one of these dates looks wrong; refuse it by a rule, e.g. sources.{panel[0]}.rules="
            f"[{{name: wrong_date, expr: \"ds < '{gap['after']}'\"}}], or set cleaning.fill_gaps=false; "
            "no silver table was changed"
        )
    return plan


def _without(rows: DataFrame, aside: DataFrame | None) -> DataFrame:
    return rows if aside is None else rows.join(aside.select(s.UNIQUE_ID), on=s.UNIQUE_ID, how="left_anti")


def _staged(lakehouse: Lakehouse, aside: DataFrame) -> DataFrame:
    """Written beside the silver tables, which stay as they are until all sources are known to be usable."""
    table = f"staging.{s.SET_ASIDE.name.partition('.')[2]}"
    lakehouse.overwrite(table, aside)
    return lakehouse.read(table)


def _write_set_aside(lakehouse: Lakehouse, plan: PanelPlan | None) -> None:
    """Write ``silver.set_aside`` where there is something in it, or was, and tell of one of the series."""
    table = s.SET_ASIDE.name
    if plan is None or plan.set_aside is None:
        earlier = lakehouse.version(table)
        if earlier is not None and not (rows := lakehouse.read(table, earlier)).isEmpty():
            lakehouse.overwrite(table, rows.limit(0))
        return
    lakehouse.overwrite(table, plan.set_aside)
    first = plan.set_aside.orderBy(s.UNIQUE_ID).limit(1).collect()[0]
    log.warning(
        "%s series have other steps than the panel and are not in it, e.g. %s: %s (%s has all)",
        f"{plan.series_set_aside:,}",
        first[s.UNIQUE_ID],
        first["reason"],
        table,
    )


def _write_rows(config: Config, lakehouse: Lakehouse, judged: Judged, good: Mapping[str, DataFrame]) -> int:
    """Write the silver table whose rows are those of a source; the panel is not one, it may come from two.

    Returns:
        How many rows it has more than before the source's new files, or than none where it is loaded as a whole.
    """
    source, rows = judged.subject.source, good[judged.name]
    table = rows_table(judged.name, source)
    if judged.scope == "none" or (source.kind == "panel" and source.load == "replace"):
        return 0
    if source.kind == "calendar":
        days = calendar_of_series(_filled(config, good, rows, source, s.DS), _series(config, lakehouse, good))
        days = with_moments(days)
        lakehouse.overwrite(table, days, check=constraint_of(source, judged.columns, days.columns))
        return 0
    if judged.scope == "some":
        silver = _new_silver_rows(config, lakehouse, judged, good)
        key = merge_key(judged.subject, silver)
        lakehouse.merge(table, silver, key, update=source.keep == "last")
    else:
        silver = _silver_rows(config, good, rows, source)
        check = None if source.kind == "panel" else constraint_of(source, judged.columns, silver.columns)
        lakehouse.overwrite(table, silver, check=check)
    return _check_rows_written(lakehouse, table, judged)


def _silver_rows(config: Config, good: Mapping[str, DataFrame], rows: DataFrame, source: SourceConfig) -> DataFrame:
    """A row of silver for each good row; those of a panel are filled when its gaps are."""
    if source.kind in ("baskets", "panel"):
        return rows.drop(*INTERNAL)
    if source.kind == "lines":
        return _filled(config, good, _with_line_columns(rows), source, source.time)
    return _filled(config, good, rows, source)


def _new_silver_rows(config: Config, lakehouse: Lakehouse, judged: Judged, good: Mapping[str, DataFrame]) -> DataFrame:
    """A row of silver for each good row of new files; what they are filled with is learned from earlier rows too."""
    source, new = judged.subject.source, good_rows(lakehouse, judged)
    if all(spec.fill == "none" for spec in source.columns.values()):
        return _silver_rows(config, good, new, source)
    known = known_rows(lakehouse, judged.subject, new).withColumn(_IS_NEW, F.lit(False))
    both = new.withColumn(_IS_NEW, F.lit(True)).unionByName(known, allowMissingColumns=True)
    return _silver_rows(config, good, both, source).where(_IS_NEW).drop(_IS_NEW)


def _check_rows_written(lakehouse: Lakehouse, table: str, judged: Judged) -> int:
    """The last word of the counts law: what was accepted is there (Delta keeps the number, no row is read)."""
    counts, step = judged.counts, judged.subject.step
    before = 0
    if step is not None and step.base_version is not None:
        before = lakehouse.read(table, step.base_version).count()
    written = lakehouse.read(table).count() - before
    # Of new rows, those whose key was there replace a row.
    is_right = 0 <= written <= counts.accepted if judged.scope == "some" else written == counts.accepted
    if not is_right:
        raise TableContractError(
            f"{table}: {counts.accepted:,} rows of source {counts.source} were accepted, but {written:,} written"
        )
    return written


def _filled(
    config: Config,
    good: Mapping[str, DataFrame],
    rows: DataFrame,
    source: SourceConfig,
    time: str | None = None,
    frequency: Frequency = DAILY,
) -> DataFrame:
    """The rows with the fills that their source declares, without what only cleaning needs."""
    columns, cutoff = declared_columns(source), config.cleaning.cutoff
    lookups = {
        column: lookup_table(good[lookup.source], lookup, column, config.sources[lookup.source].time, cutoff)
        for column, lookup in lookups_of(columns).items()
    }
    return fill_blanks(rows, columns, time, frequency, cutoff, lookups).drop(*INTERNAL)


def _with_line_columns(rows: DataFrame) -> DataFrame:
    """The columns every basket line has, null where the source has none, then the source's others."""
    missing = {name: type_ for name, type_ in s.LINES.columns.items() if name not in rows.columns}
    # Spark Connect adds no columns where there are none to add.
    return rows.withColumns({name: F.lit(None).cast(type_) for name, type_ in missing.items()}) if missing else rows


def _series(config: Config, lakehouse: Lakehouse, good: Mapping[str, DataFrame]) -> DataFrame:
    """The series that a calendar without ``unique_id`` holds for."""
    panel, lines = config.source_of_kind("panel"), config.source_of_kind("lines")
    if panel is not None:
        return good[panel[0]].select(s.UNIQUE_ID)
    if lines is not None:
        return good[lines[0]].select(store_of(lines[1]).alias(s.UNIQUE_ID))
    return lakehouse.spark.createDataFrame([(ONLY_SERIES,)], f"{s.UNIQUE_ID} string")


def _write_panel(
    config: Config,
    lakehouse: Lakehouse,
    good: Mapping[str, DataFrame],
    plan: PanelPlan | None,
) -> None:
    """Write ``silver.panel``: from its own source, else summed from dated lines, else not at all."""
    panel, lines = config.source_of_kind("panel"), config.source_of_kind("lines")
    _write_set_aside(lakehouse, plan)
    check = None
    if panel is not None and plan is not None:
        if panel[1].load == "merge":
            # They are written by now: reading them is cheaper than putting them together once more.
            good = {**good, panel[0]: lakehouse.read(rows_table(*panel))}
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
    rows = _without(with_moments(good[name]), plan.set_aside)
    calendar = lakehouse.read(s.CALENDAR.name) if config.source_of_kind("calendar") is not None else None
    gap_free = fill_calendar_gaps(rows, plan.frequency) if config.cleaning.fill_gaps else rows
    open_or_not = with_closures(gap_free, calendar)
    filled = _filled(config, good, open_or_not, source, s.DS, plan.frequency)
    if s.Y_IMPUTED not in filled.columns:
        filled = filled.withColumn(s.Y_IMPUTED, F.lit(False))
    is_history = F.col(s.DS) <= F.expr(sql_literal(plan.end))
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
    lines = lakehouse.read(s.LINES.name).withColumn(s.STORE_ID, store_of(source))
    if s.QUANTITY not in source.columns:
        lines = lines.withColumn(s.QUANTITY, F.lit(1.0))
    frequency = from_alias(config.cleaning.frequency) or DAILY
    if not frequency.has_calendar:
        raise ConfigError("cleaning.frequency is step, but basket lines have times: set it to D, W or MS")
    if frequency.days > 1:
        log.warning("the first and the last %s of the panel are sums of the days there are lines of", frequency.name)
    return aggregate_lines(lines, value, frequency)


# What is said of it


def _report(counts: Sequence[SourceCounts], repairs: int, aside: int, *, is_behind: bool) -> CleanReport:
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
        is_behind=is_behind,
        message=(
            f"{rows_in:,} rows in = {accepted:,} accepted + {quarantined:,} quarantined + "
            f"{removed:,} duplicates or superseded; {repairs:,} cells repaired"
            + (f"; {aside:,} series of other steps set aside" if aside else "")
        ),
    )
