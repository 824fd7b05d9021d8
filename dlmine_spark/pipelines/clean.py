"""Clean: source files to bronze as they came, then to typed, repaired silver tables with a record of every change."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark import sources
from dlmine_spark.cleaning.baskets import split_baskets
from dlmine_spark.cleaning.impute import fill_blanks
from dlmine_spark.cleaning.names import bronze_name
from dlmine_spark.cleaning.outliers import treat_outliers
from dlmine_spark.cleaning.panel import (
    ONLY_SERIES,
    aggregate_lines,
    calendar_of_series,
    fill_calendar_gaps,
    in_order,
    with_closures,
)
from dlmine_spark.cleaning.parse import number, present
from dlmine_spark.cleaning.plan import (
    COPY,
    ORIGINAL,
    RANK,
    REASONS,
    REPAIRS,
    WARNINGS,
    key_of,
    mark_rows,
    number_versions,
)
from dlmine_spark.config import ColumnConfig, Config, SourceConfig
from dlmine_spark.errors import SourceError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.common import panel_end, panel_frequency
from dlmine_spark.runs import StageReport

log = logging.getLogger(__name__)

_INTERNAL = (REASONS, REPAIRS, WARNINGS, ORIGINAL, COPY, RANK, s.SOURCE_FILE, s.SOURCE_BLOCK, s.SOURCE_ROW)
_SHOWN_KEYS = {"lines": (s.BASKET_ID, s.ITEM)}
"""What names a row in silver.repairs where its source has no key."""
_TOP_REASONS = 3


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


@dataclass(frozen=True, kw_only=True)
class CleanReport(StageReport):
    """What became of every source, and how many cells were repaired."""

    sources: tuple[SourceCounts, ...]
    repairs: int


def run(config: Config, lakehouse: Lakehouse) -> CleanReport:
    """Ingest and judge every source; only if all of them are usable, replace the silver tables.

    Raises:
        SourceError: a file cannot be used, or more of it would be quarantined than ``cleaning.max_rejected`` allows.
        TableContractError: rows in and rows accounted for differ.
    """
    counts = [_stage(config, lakehouse, name, source) for name, source in config.sources.items()]
    good = {name: _good_rows(lakehouse, name) for name in config.sources}

    series_calendar = _write_calendar(config, lakehouse, good)
    for name, source in config.sources.items():
        if source.kind == "lines":
            lakehouse.overwrite(s.LINES.name, _as_lines(good[name]))
        elif source.kind == "baskets":
            lakehouse.overwrite(s.BASKETS.name, good[name].drop(*_INTERNAL))
        elif source.kind == "statics":
            lakehouse.overwrite(s.STATICS.name, _filled(good[name], source, None, 7).drop(*_INTERNAL))
        elif source.kind == "table":
            lakehouse.overwrite(f"silver.{name}", _filled(good[name], source, None, 7).drop(*_INTERNAL))
    _write_panel(config, lakehouse, good, series_calendar)
    _write_quarantine(config, lakehouse)
    repairs = _write_repairs(config, lakehouse)

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


def _stage(config: Config, lakehouse: Lakehouse, name: str, source: SourceConfig) -> SourceCounts:
    """Write a source to bronze and, judged row by row, to ``staging.<source>``; count, and check the counts."""
    bronze_table, staging = f"bronze.{name}", f"staging.{name}"
    lakehouse.overwrite(bronze_table, sources.read_source(lakehouse.spark, name, source, lakehouse.run_id))
    bronze = lakehouse.read(bronze_table)
    lakehouse.overwrite(staging, _marked(bronze, name, source))
    for column, spec in source.columns.items():
        if spec.outliers is not None:
            marked = lakehouse.read(staging)
            is_good = _is_good()
            treated = treat_outliers(marked.where(is_good), column, spec.outliers)
            lakehouse.overwrite(staging, treated.unionByName(marked.where(~is_good)))
    return _counted(config, lakehouse.read(staging), bronze.count(), name, source)


def _marked(bronze: DataFrame, name: str, source: SourceConfig) -> DataFrame:
    """Every row of bronze with its values and verdict."""
    if source.kind == "baskets":
        return split_baskets(bronze, sources.TEXT_COLUMN, source)
    columns = {**source.columns, **_other_columns(bronze, source)}
    _check_rule_columns(name, source, list(columns))
    marked = mark_rows(bronze, source, columns)
    return number_versions(marked, source, key_of(source, list(columns)))


def _other_columns(bronze: DataFrame, source: SourceConfig) -> dict[str, ColumnConfig]:
    """Kept columns that are not mapped: numbers where every cell is one, else text (one aggregation)."""
    if source.other_columns == "drop":
        return {}
    mapped = {bronze_name(spec.source or column).lower() for column, spec in source.columns.items()}
    names = [c for c in bronze.columns if not c.startswith("_") and c.lower() not in mapped]
    if not names:
        return {}
    texts = {name: present(F.col(f"`{name}`"), source) for name in names}
    odd = bronze.where(F.col(s.RAW_LINE).isNull()).agg(
        *(
            F.count(F.when(texts[name].isNotNull() & number(texts[name], ".", "double").isNull(), 1)).alias(name)
            for name in names
        )
    )
    odd_cells = odd.collect()[0].asDict()
    return {
        name: ColumnConfig(source=name, type="string" if odd_cells[name] else "double", required=False)
        for name in names
    }


def _check_rule_columns(name: str, source: SourceConfig, columns: list[str]) -> None:
    """Refuse rules about columns that are not there, before any row is read."""
    for key in source.key:
        if key not in columns:
            raise SourceError(f"sources.{name}.key: no column {key}; mapped columns: {', '.join(columns)}")
    for column, spec in source.columns.items():
        for group in (*spec.fill_by, *(spec.outliers.by if spec.outliers else ())):
            if group not in columns:
                raise SourceError(
                    f"sources.{name}.columns.{column}: no column {group} to group by; mapped: {', '.join(columns)}"
                )


def _is_good() -> object:
    return (F.size(REASONS) == 0) & (F.col(COPY) == 1) & (F.col(RANK) == 1)


def _counted(config: Config, staged: DataFrame, rows_in: int, name: str, source: SourceConfig) -> SourceCounts:
    """Count what became of the rows, and assert that none is lost and not too many are refused."""
    is_first = F.col(COPY) == 1
    is_refused = F.size(REASONS) > 0
    row = (
        staged.agg(
            F.count(F.lit(1)).alias("all"),
            F.count(F.when(~is_first, 1)).alias("duplicates"),
            F.count(F.when(is_first & is_refused, 1)).alias("quarantined"),
            F.count(F.when(is_first & ~is_refused & (F.col(RANK) > 1), 1)).alias("superseded"),
            F.count(F.when(is_first & ~is_refused & (F.col(RANK) == 1), 1)).alias("accepted"),
            F.count(F.when(is_first & ~is_refused & (F.size(WARNINGS) > 0), 1)).alias("warned"),
        )
    ).collect()[0]
    counts = SourceCounts(
        name,
        rows_in,
        row["accepted"],
        row["quarantined"],
        row["duplicates"],
        row["superseded"],
        row["warned"],
    )
    accounted = counts.accepted + counts.quarantined + counts.duplicates + counts.superseded
    if accounted != rows_in or row["all"] != rows_in:
        raise TableContractError(
            f"bronze.{name}: {rows_in:,} rows in, but {accounted:,} accounted for "
            f"({counts.accepted:,} accepted, {counts.quarantined:,} quarantined, {counts.duplicates:,} duplicates, "
            f"{counts.superseded:,} superseded); no silver table was changed"
        )
    judged = counts.accepted + counts.quarantined
    share = counts.quarantined / judged if judged else 1.0
    if share > config.cleaning.max_rejected or counts.accepted == 0:
        raise SourceError(
            f"{source.path} (source {name}): {counts.quarantined:,} of {judged:,} rows would be quarantined "
            f"({share:.0%}, cleaning.max_rejected is {config.cleaning.max_rejected:.0%}), most often for "
            f"{_top_reasons(staged)}; no silver table was changed"
        )
    log.info(
        "source %s: %s rows in = %s accepted + %s quarantined + %s duplicates + %s superseded",
        name,
        *(
            f"{count:,}"
            for count in (rows_in, counts.accepted, counts.quarantined, counts.duplicates, counts.superseded)
        ),
    )
    return counts


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
    return "; ".join(f"{row['rule']} {row['column']} ({row['rows']:,} rows, e.g. {row['example']})" for row in reasons)


def _good_rows(lakehouse: Lakehouse, name: str) -> DataFrame:
    return lakehouse.read(f"staging.{name}").where(_is_good())


def _as_lines(rows: DataFrame) -> DataFrame:
    """The columns every basket line has, null where the source has none, then the source's others."""
    missing = {name: type_ for name, type_ in s.LINES.columns.items() if name not in rows.columns}
    return rows.withColumns({name: F.lit(None).cast(type_) for name, type_ in missing.items()}).drop(*_INTERNAL)


def _filled(rows: DataFrame, source: SourceConfig, time: str | None, season_length: int) -> DataFrame:
    """Apply the fills that the source declares."""
    for column, spec in source.columns.items():
        if spec.fill != "none":
            rows = fill_blanks(rows, column, spec, time, season_length)
    return rows


def _write_calendar(config: Config, lakehouse: Lakehouse, good: Mapping[str, DataFrame]) -> DataFrame | None:
    """Write ``silver.calendar`` where there is a source of that kind."""
    calendar = config.source_of_kind("calendar")
    if calendar is None:
        return None
    name, source = calendar
    rows = _filled(good[name], source, s.DS, 7).drop(*_INTERNAL)
    panel = config.source_of_kind("panel")
    if s.UNIQUE_ID not in rows.columns:
        series = good[panel[0]] if panel is not None and s.UNIQUE_ID in panel[1].columns else _only_series(lakehouse)
        rows = calendar_of_series(rows, series)
    lakehouse.overwrite(s.CALENDAR.name, rows)
    return lakehouse.read(s.CALENDAR.name)


def _only_series(lakehouse: Lakehouse) -> DataFrame:
    return lakehouse.spark.createDataFrame([(ONLY_SERIES,)], f"{s.UNIQUE_ID} string")


def _write_panel(
    config: Config, lakehouse: Lakehouse, good: Mapping[str, DataFrame], calendar: DataFrame | None
) -> None:
    """Write ``silver.panel``: from its own source, else summed from dated lines, else not at all."""
    panel = config.source_of_kind("panel")
    lines = config.source_of_kind("lines")
    if panel is not None:
        rows = _panel_rows(config, good[panel[0]], panel[1], calendar)
    elif lines is not None and s.TS in lines[1].columns:
        value = config.cleaning.panel_value
        if value == "amount" and s.PRICE not in lines[1].columns:
            log.warning("source %s has no price: the panel sums quantities instead of amounts", lines[0])
            value = "quantity"
        rows = aggregate_lines(lakehouse.read(s.LINES.name), value)
    else:
        log.info("no panel: no source of kind panel, and no dated lines to sum")
        return
    lakehouse.overwrite(s.PANEL.name, rows.select(*in_order(rows.columns)))


def _panel_rows(config: Config, rows: DataFrame, source: SourceConfig, calendar: DataFrame | None) -> DataFrame:
    """The panel of a panel source: gap-free, closures known, blanks filled up to the last known value."""
    kept = [name for name in rows.columns if name not in _INTERNAL]
    if s.UNIQUE_ID not in kept:
        rows = rows.withColumn(s.UNIQUE_ID, F.lit(ONLY_SERIES))
    frequency = panel_frequency(config, rows)
    end = panel_end(rows)
    # Blank cells that repairs need are null on added dates; arrays must not be.
    gap_free = fill_calendar_gaps(rows, frequency) if config.cleaning.fill_gaps else rows
    gap_free = with_closures(gap_free, calendar).withColumn(REPAIRS, F.coalesce(REPAIRS, F.array()))
    filled = _filled(gap_free, source, s.DS, frequency.season_length)
    if s.Y_IMPUTED not in filled.columns:
        filled = filled.withColumn(s.Y_IMPUTED, F.lit(False))
    is_history = F.col(s.DS) <= F.lit(end)
    return (
        filled.withColumn(s.Y, F.when(is_history | ~F.col(s.Y_IMPUTED), F.col(s.Y)))
        .withColumn(s.Y_IMPUTED, F.col(s.Y_IMPUTED) & is_history)
        .drop(*_INTERNAL)
    )


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
        staged = lakehouse.read(f"staging.{name}").where(_is_good())
        key = key_of(source, staged.columns) or _SHOWN_KEYS.get(source.kind, ())
        parts.append(
            staged.select(
                F.lit(name).alias("source"), _shown_key(key, staged).alias("key"), F.explode(REPAIRS).alias("repair")
            ).select("source", "key", "repair.*")
        )
        parts += _fills(lakehouse, name, source, key)
    repairs = reduce(DataFrame.unionByName, parts).withColumn(s.RUN_ID, F.lit(lakehouse.run_id))
    lakehouse.overwrite(s.REPAIRS.name, repairs)
    return lakehouse.read(s.REPAIRS.name).count()


def _fills(lakehouse: Lakehouse, name: str, source: SourceConfig, key: tuple[str, ...]) -> list[DataFrame]:
    """Filled cells, as the silver table's ``_imputed`` flags tell them."""
    tables = {"panel": s.PANEL.name, "statics": s.STATICS.name, "calendar": s.CALENDAR.name, "table": f"silver.{name}"}
    filled = [column for column, spec in source.columns.items() if spec.fill != "none"]
    if not filled or source.kind not in tables:
        return []
    rows = lakehouse.read(tables[source.kind])
    shown = (s.UNIQUE_ID, s.DS) if source.kind == "panel" else key
    return [
        rows.where(F.col(f"{column}{s.IMPUTED_SUFFIX}")).select(
            F.lit(name).alias("source"),
            _shown_key(shown, rows).alias("key"),
            F.lit(column).alias("column"),
            F.lit(None).cast("string").alias("old_value"),
            F.col(f"`{column}`").cast("string").alias("new_value"),
            F.lit(f"fill_{source.columns[column].fill}").alias("rule"),
        )
        for column in filled
    ]


def _shown_key(key: tuple[str, ...], rows: DataFrame) -> object:
    names = [name for name in key if name in rows.columns]
    if not names:
        return F.concat_ws(":", s.SOURCE_FILE, s.SOURCE_BLOCK, s.SOURCE_ROW)
    return F.concat_ws("|", *(F.coalesce(F.col(f"`{name}`").cast("string"), F.lit("")) for name in names))
