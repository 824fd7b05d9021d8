"""Report: the tables of the lakehouse as one self-contained HTML page.

Everything is aggregated, ranked and limited in Spark; what reaches the driver is bounded by the number of rules,
columns and series that a page can show, not by the data.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import DlmineError
from dlmine_spark.evaluation.ablation import ALL
from dlmine_spark.evaluation.combine import BLEND
from dlmine_spark.evaluation.compare import HORIZON, OVERALL, SEGMENT, SEGMENT_STEPS, SERIES
from dlmine_spark.evaluation.naive import PROFILE, YEAR_AGO
from dlmine_spark.frequency import Frequency, Moment, sql_literal
from dlmine_spark.lakehouse import FILE_PREFIX, Lakehouse
from dlmine_spark.parallel import in_parallel
from dlmine_spark.pipelines.alignment import to_common_clock
from dlmine_spark.pipelines.common import panel_end, reasons_by_rule, repairs_by_rule
from dlmine_spark.pipelines.graph import STAGES
from dlmine_spark.pipelines.steps import panel_frequency
from dlmine_spark.pipelines.truth import compare, summary
from dlmine_spark.report.choice import choose_series
from dlmine_spark.report.data import LSTM, ChosenSeries, Extent, ReportData
from dlmine_spark.report.page import render
from dlmine_spark.report.projection import project
from dlmine_spark.report.series import MOST_BYTES, packed_bytes
from dlmine_spark.runs import NOT_APPLICABLE, StageReport, newest_of_each_stage
from dlmine_spark.segmentation.features import CUSTOMERS, STORES

log = logging.getLogger(__name__)

HISTORY_STEPS = 56
MEMBERS_PER_SEGMENT = 12
CLOUD_RULES = 1_000
SHOWN_RUNS = 30
MAPPED_ENTITIES = 600
"""Dots on a map of segments: more hide each other."""
RANKED_SERIES = 50_000
MOST_GROUPS = 1_000
"""Rows of an aggregation at most: combinations of source, column and rule, of segment and feature, of model and h."""

SECTION_STAGES = {
    "quality": "clean",
    "segments": "segment",
    "rules": "mine",
    "forecasts": "forecast",
    "accuracy": "backtest",
    "mining": "ablation",
    "tuning": "tune",
    "drivers": "explain",
}
Fields = dict[str, Any]
"""Some fields of ``ReportData``: a part of the page."""


@dataclass(frozen=True, kw_only=True)
class PageReport(StageReport):
    """The page that was written."""

    path: Path
    bytes: int


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables as they are now: what a stage left that has nothing to do any more counts as absent."""

    lakehouse: Lakehouse
    runs: pd.DataFrame

    def read(self, table: str, stage: str) -> DataFrame | None:
        """The rows that a stage wrote, None where there are none."""
        if self.note(stage).startswith(NOT_APPLICABLE) or not self.lakehouse.exists(table):
            return None
        return self.lakehouse.read(table)

    def note(self, stage: str) -> str:
        """Status and message of the stage's newest run."""
        rows = self.runs[self.runs["stage"] == stage] if not self.runs.empty else self.runs
        return "" if rows.empty else f"{rows.iloc[0]['status']}: {rows.iloc[0]['message']}"


def run(config: Config, lakehouse: Lakehouse) -> PageReport:
    """Collect what the page shows, render it, and put it in place in one step."""
    report = collect_report(config, lakehouse)
    page = render(report).encode()
    path = Path(config.report.path) if config.report.path else lakehouse.folder("report") / "index.html"
    write_atomically(path, page)
    lakehouse.keep(path)
    shown = sum(len(value) for value in vars(report).values() if isinstance(value, pd.DataFrame))
    known = summary(report.truth)
    return PageReport(
        rows_in=shown,
        rows_out=1,
        path=path,
        bytes=len(page),
        message=f"{path} ({len(page) / 1e6:.1f} MB)" + (f"; {known}" if known else ""),
    )


def collect_report(config: Config, lakehouse: Lakehouse) -> ReportData:
    """Everything on the page, from the tables there are."""
    runs = newest_runs(lakehouse)
    tables = Tables(lakehouse, runs)
    # Those that take longest come first.
    parts: dict[str, Callable[[], Fields]] = {
        "series": partial(_series, config, tables),
        "truth": lambda: {"truth": compare(config, lakehouse)},
        "sources": partial(_row_fates, tables),
        "map": partial(_map, tables),
        "rules": partial(_rules, config, tables),
        "sequences": partial(_sequences, config, tables),
        "segments": partial(_segments, tables),
        "accuracy": partial(_accuracy, tables),
        "repairs": partial(_repairs, tables),
        "rejections": partial(_rejections, tables),
        "set_aside": partial(_set_aside, tables),
        "baskets": lambda: {"baskets": _basket_count(tables)},
        "importance": partial(_importance, tables),
        "effects": partial(_effects, tables),
        "tuning": partial(_tuning, tables),
        "error_patterns": partial(_error_patterns, config, tables),
        "surrogates": partial(_surrogates, tables),
    }
    collected = in_parallel(lakehouse.spark, parts)
    fields = {name: value for part in collected.values() for name, value in part.items()}
    extent = replace(fields.pop("extent", Extent()), baskets=fields.pop("baskets"))
    return ReportData(
        title=config.report.title,
        created=datetime.now(UTC),
        extent=extent,
        horizon=config.evaluation.horizon,
        runs=runs.drop(columns=["output_versions"], errors="ignore"),
        tables=_versions(runs),
        config_yaml=config.to_yaml(),
        absent=_absent(tables),
        **fields,
    )


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of either."""
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        os.replace(beside, path)
    except OSError as error:
        raise DlmineError(f"report.path {path}: cannot be written: {error.strerror}") from error


# The ledger


def newest_runs(lakehouse: Lakehouse) -> pd.DataFrame:
    """The newest run of each stage, in running order, without the report's own."""
    if not lakehouse.exists(s.RUNS.name):
        return pd.DataFrame()
    rows = (
        newest_of_each_stage(lakehouse.read(s.RUNS.name))
        .where(F.col("stage").isin([name for name in STAGES if name != "report"]))
        .select(
            "stage",
            "status",
            (F.col("ended_at").cast("double") - F.col("started_at").cast("double")).alias("seconds"),
            "rows_in",
            "rows_out",
            "rows_rejected",
            F.coalesce(F.col("error"), F.col("message"), F.lit("")).alias("message"),
            "output_versions",
        )
        .limit(len(STAGES))
        .toPandas()
    )
    order = {name: position for position, name in enumerate(STAGES)}
    return rows.sort_values("stage", key=lambda stages: stages.map(order), ignore_index=True)


def _versions(runs: pd.DataFrame) -> pd.DataFrame:
    """The tables that the runs wrote, with the version each left."""
    if runs.empty:
        return pd.DataFrame()
    written = [
        (table, version, stage)
        for stage, versions in zip(runs["stage"], runs["output_versions"], strict=True)
        for table, version in sorted((versions or {}).items())
        if not table.startswith(("staging.", FILE_PREFIX))
    ]
    return pd.DataFrame(written, columns=["table", "version", "stage"])


def _absent(tables: Tables) -> dict[str, str]:
    """What the stages without anything to do said about it."""
    notes = {section: tables.note(stage) for section, stage in SECTION_STAGES.items()}
    return {
        section: f"Empty, since stage {SECTION_STAGES[section]} had nothing to do: {note.partition(': ')[2]}."
        for section, note in notes.items()
        if note.startswith(NOT_APPLICABLE)
    }


# Data quality


def _row_fates(tables: Tables) -> Fields:
    """Rows by source and what became of them, as the newest run that cleaned them counted, and in the runs before."""
    quality = tables.read(s.QUALITY.name, "clean")
    if quality is None:
        return {}
    runs = quality.select("cleaned_at").distinct().orderBy(F.desc("cleaned_at")).limit(SHOWN_RUNS)
    is_repair = (F.col("outcome") == "repair") & (F.col("rule") != "")
    counts = (
        quality.where((F.col("rule") == "") | is_repair)
        .join(F.broadcast(runs), on="cleaned_at", how="left_semi")
        .groupBy("cleaned_at", "source")
        .pivot("outcome", [*s.FATES, "repair"])
        .agg(F.sum("count"))
        .orderBy(F.desc("cleaned_at"), "source")
        .limit(MOST_GROUPS)
        .withColumnRenamed("repair", "repaired")
        .toPandas()
    )
    newest = counts[counts["cleaned_at"] == counts["cleaned_at"].max()]
    return {
        "sources": newest[["source", *s.FATES]].reset_index(drop=True),
        "quality_runs": counts.fillna({"repaired": 0}),
    }


def _repairs(tables: Tables) -> Fields:
    repairs = tables.read(s.REPAIRS.name, "clean")
    if repairs is None:
        return {}
    of_rule = repairs_by_rule(repairs, MOST_GROUPS)
    return {"repairs": of_rule[["source", "rule", "column", "count"]], "repair_examples": _examples(of_rule)}


def _examples(repairs: pd.DataFrame) -> pd.DataFrame:
    """Examples of different rules before a second one of the same rule; as many as fit on a screen."""
    turn = repairs.groupby("rule").cumcount()
    return repairs.assign(turn=turn).sort_values("turn", kind="stable").head(12).drop(columns=["turn", "count"])


def _rejections(tables: Tables) -> Fields:
    quarantine = tables.read(s.QUARANTINE.name, "clean")
    if quarantine is None:
        return {}
    return {"rejections": reasons_by_rule(quarantine, MOST_GROUPS)}


def _set_aside(tables: Tables) -> Fields:
    aside = tables.read(s.SET_ASIDE.name, "clean")
    return {} if aside is None else {"set_aside": aside.orderBy(s.UNIQUE_ID).limit(MOST_GROUPS).toPandas()}


def _basket_count(tables: Tables) -> int | None:
    baskets = tables.read(s.BASKETS.name, "clean")
    if baskets is not None:
        return baskets.count()
    lines = tables.read(s.LINES.name, "clean")
    return None if lines is None else lines.select(s.BASKET_ID).distinct().count()


# Segments and rules


def _segments(tables: Tables) -> Fields:
    profiles = tables.read(s.SEGMENT_PROFILES.name, "segment")
    segments = tables.read(s.SEGMENTS.name, "segment")
    if profiles is None or segments is None:
        return {}
    nearest = Window.partitionBy("entity", "segment").orderBy("distance", "entity_id")
    members = (
        segments.where(F.col("entity") == "store")
        .withColumn("place", F.row_number().over(nearest))
        .where(F.col("place") <= MEMBERS_PER_SEGMENT)
        .select("entity", "entity_id", "segment", "distance")
    )
    ordered = profiles.orderBy("entity", "segment", "feature").limit(MOST_GROUPS)
    return {
        "profiles": in_feature_order(ordered.toPandas()),
        "members": members.limit(MOST_GROUPS).toPandas(),
    }


def _map(tables: Tables) -> Fields:
    """A sample of the entities of each kind, where they lie between the centres of the segments."""
    segments = tables.read(s.SEGMENTS.name, "segment")
    models = tables.read(s.SEGMENT_MODELS.name, "segment")
    if segments is None or models is None:
        return {}
    # By a hash: the same ones whatever the partitions, and no kind of id is preferred.
    place = Window.partitionBy("entity").orderBy(F.xxhash64("entity_id"), "entity_id")
    sample = (
        segments.withColumn("place", F.row_number().over(place)).where(F.col("place") <= MAPPED_ENTITIES).drop("place")
    ).toPandas()
    found, centres = [], []
    for entity, points in models.select("entity", "centres").collect():
        rows = sample[sample["entity"] == entity]
        if rows.empty:
            continue
        mapped = project(points, rows["segment"].tolist(), rows["distance"], rows["membership"].tolist())
        if mapped is None:
            continue
        places, middles = mapped
        found.append(rows[["entity", "entity_id", "segment", "is_outlier"]].assign(x=places[:, 0], y=places[:, 1]))
        centres.append(
            pd.DataFrame({"entity": entity, "segment": np.arange(len(middles)), "x": middles[:, 0], "y": middles[:, 1]})
        )
    return {"map_entities": pd.concat(found), "map_centres": pd.concat(centres)} if found else {}


def in_feature_order(profiles: pd.DataFrame) -> pd.DataFrame:
    """The rows of each segment in the order in which features are declared: weekdays and months as they follow."""
    place = {name: at for at, name in enumerate((*STORES.names, *CUSTOMERS.names))}
    places = profiles["feature"].map(lambda name: place.get(name, len(place)))
    return profiles.assign(place=places).sort_values(["entity", "segment", "place", "feature"]).drop(columns="place")


def _rules(config: Config, tables: Tables) -> Fields:
    rules = tables.read(s.RULES.name, "mine")
    itemsets = tables.read(s.ITEMSETS.name, "mine")
    if rules is None or itemsets is None:
        return {}
    rules = rules.where("is_kept")
    best = rules.orderBy(F.desc("lift"), F.desc("support"), F.desc("confidence"), "antecedent", "consequent")
    cloud = best.limit(max(CLOUD_RULES, config.report.max_rules)).toPandas()
    sizes = itemsets.groupBy("size").agg(F.count(F.lit(1)).alias("count")).orderBy("size")
    return {
        "rules": cloud.head(config.report.max_rules),
        "rule_cloud": cloud,
        "rules_total": rules.count(),
        "itemsets": sizes.limit(MOST_GROUPS).toPandas(),
        "mining_note": tables.note("mine").partition(": ")[2],
    }


def _sequences(config: Config, tables: Tables) -> Fields:
    """The best sequences of two baskets and more that no other one makes needless."""
    sequences = tables.read(s.SEQUENCES.name, "mine")
    if sequences is None:
        return {}
    best = sequences.where((F.col("elements") > 1) & F.col("is_closed")).orderBy(
        F.desc("lift"), F.desc("support"), F.desc("confidence"), "sequence"
    )
    return {
        "sequences": best.select("sequence", "support", "confidence", "lift").limit(config.report.max_rules).toPandas()
    }


# Forecasts and their accuracy


def _accuracy(tables: Tables) -> Fields:
    metrics = tables.read(s.METRICS.name, "backtest")
    if metrics is None:
        return {}
    wape = F.col("metric") == "wape"
    by_step = _of_scope(metrics, (F.col("scope") == HORIZON) & wape)
    by_step = by_step.assign(**{s.H: by_step["scope_id"].astype(int)}) if not by_step.empty else by_step
    by_segment = _of_scope(metrics, (F.col("scope") == SEGMENT) & wape).rename(columns={"scope_id": "segment"})
    compared = tables.read(s.COMPARISONS.name, "backtest")
    return {
        "metrics": _of_scope(metrics, F.col("scope") == OVERALL),
        "comparisons": pd.DataFrame() if compared is None else compared.drop(s.RUN_ID).toPandas(),
        "wape_by_step": by_step,
        "wape_by_segment": by_segment,
        "wape_by_part": _by_part(_of_scope(metrics, (F.col("scope") == SEGMENT_STEPS) & wape)),
        "coverage": _coverage(metrics),
    }


def _by_part(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of groups like ``0: 1-7`` with segment and part of the horizon apart, in their order."""
    if rows.empty:
        return pd.DataFrame()
    groups = rows["scope_id"].str.split(": ", expand=True)
    apart = rows.assign(segment=groups[0], steps=groups[1], first=groups[1].str.partition("-")[0].astype(int))
    apart = apart.assign(length=apart["segment"].str.len())
    return apart.sort_values([s.MODEL, "length", "segment", "first"])[[s.MODEL, "segment", "steps", "value"]]


def _coverage(metrics: DataFrame) -> pd.DataFrame:
    """Values inside the intervals, by segment and part of the horizon, of the models that have intervals."""
    measures = ["coverage_80", "coverage_95"]
    rows = _of_scope(metrics, (F.col("scope") == SEGMENT_STEPS) & F.col("metric").isin(measures))
    if rows.empty:
        return pd.DataFrame()
    wide = rows.pivot(index=[s.MODEL, "scope_id"], columns="metric", values="value").reset_index()
    groups = wide["scope_id"].str.split(": ", expand=True)
    wide = wide.assign(segment=groups[0], steps=groups[1], first=groups[1].str.partition("-")[0].astype(int))
    return wide.sort_values([s.MODEL, "segment", "first"])[[s.MODEL, "segment", "steps", *measures]]


def _of_scope(metrics: DataFrame, condition: Column) -> pd.DataFrame:
    return (
        metrics.where(condition)
        .select(s.MODEL, "scope_id", "metric", "value")
        .orderBy(s.MODEL, "scope_id", "metric")
        .limit(MOST_GROUPS)
        .toPandas()
    )


def _series(config: Config, tables: Tables) -> Fields:
    """How much data there is, and the recent past and the forecasts of some series."""
    panel = tables.read(s.PANEL.name, "clean")
    if panel is None:
        return {}
    frequency = panel_frequency(config, panel)
    end = panel_end(panel)
    fields: Fields = {"extent": _extent(panel, frequency)}
    forecasts = tables.read(s.FORECASTS.name, "arima")
    if forecasts is None:
        return fields
    picked, others = _picked(config, tables, panel)
    names = [*picked, *others]
    cutoffs = _shown_cutoffs(forecasts, end)
    if not cutoffs or not names:
        return fields
    since = frequency.shift(cutoffs[0], -HISTORY_STEPS)
    is_shown = F.expr(f"{s.DS} > {sql_literal(since)} AND {s.DS} <= {sql_literal(end)}")
    history = to_common_clock(tables.lakehouse, panel.where(F.col(s.UNIQUE_ID).isin(names))).where(is_shown)
    is_asked = F.col(s.CUTOFF).isin([F.expr(sql_literal(cutoff)) for cutoff in cutoffs])
    # A line each of six models would hide the three that matter; the table of errors has them all.
    is_drawn = ~F.col(s.MODEL).isin(YEAR_AGO, PROFILE, BLEND)
    rows = forecasts.where(F.col(s.UNIQUE_ID).isin(names) & is_asked & is_drawn)
    rows = to_common_clock(tables.lakehouse, rows)
    listed = _described(tables, dict.fromkeys(names, "") | picked)
    return fields | {
        "chosen": listed[: len(picked)],
        "listed": listed,
        "history": history.select(s.UNIQUE_ID, s.DS, s.Y, s.Y_IMPUTED).toPandas(),
        "forecasts": rows.select(*(name for name in s.FORECASTS.names if name != s.RUN_ID)).toPandas(),
    }


def _extent(panel: DataFrame, frequency: Frequency) -> Extent:
    known = panel.where(F.col(s.Y).isNotNull())
    row = known.agg(
        F.count_distinct(s.UNIQUE_ID).alias("series"),
        F.min(s.DS).alias("first"),
        F.max(s.DS).alias("last"),
        F.count_distinct(s.DS).alias("steps"),
    ).collect()[0]
    return Extent(
        series=row["series"],
        first=row["first"],
        last=row["last"],
        steps=row["steps"],
        step=frequency.name,
    )


def _shown_cutoffs(forecasts: DataFrame, end: Moment) -> list[Moment]:
    """The newest cutoff with actuals after it, and the end of the data, as far as there are forecasts."""
    bound = F.expr(sql_literal(end))
    row = forecasts.agg(
        F.max(F.when(F.col(s.CUTOFF) < bound, F.col(s.CUTOFF))).alias("backtest"),
        F.max(F.when(F.col(s.CUTOFF) >= bound, F.col(s.CUTOFF))).alias("final"),
    ).collect()[0]
    return [cutoff for cutoff in (row["backtest"], row["final"]) if cutoff is not None]


def _picked(config: Config, tables: Tables, panel: DataFrame) -> tuple[dict[str, str], list[str]]:
    """The series to draw at once and why, and further ones to look up.

    Drawn are those named in the configuration, else a spread by error and size.
    """
    metrics = tables.read(s.METRICS.name, "backtest")
    errors = {} if metrics is None else _wape_by_series(metrics)
    sizes = panel.groupBy(s.UNIQUE_ID).agg(F.sum(s.Y).alias("size")).where(F.col("size").isNotNull())
    most = _most_listed(config)
    largest = sizes.orderBy(F.desc("size"), s.UNIQUE_ID).limit(max(most, config.report.max_series)).collect()
    by_size = {row[s.UNIQUE_ID]: float(row["size"]) for row in largest}
    picked = (
        dict.fromkeys(config.report.series, "")
        if config.report.series
        else dict(choose_series(errors, by_size, config.report.max_series))
    )
    # Where there is room left, those without an error follow: series too short for the backtest, say.
    further = dict.fromkeys([*(name for name, _ in choose_series(errors, by_size, most)), *by_size])
    return picked, [name for name in further if name not in picked][: max(0, most - len(picked))]


def _most_listed(config: Config) -> int:
    """Series on the page at most, so that it stays below 8 MB: long horizons leave room for fewer."""
    horizon = config.evaluation.horizon
    return min(config.report.max_listed, MOST_BYTES // packed_bytes(HISTORY_STEPS + horizon, horizon))


def _described(tables: Tables, picked: Mapping[str, str]) -> tuple[ChosenSeries, ...]:
    metrics = tables.read(s.METRICS.name, "backtest")
    wape = {} if metrics is None else _wape_of(metrics, list(picked))
    segments = _segments_of(tables, list(picked))
    return tuple(
        ChosenSeries(unique_id=name, why=why, segment=segments.get(name), wape=wape.get(name, {}))
        for name, why in picked.items()
    )


def _wape_by_series(metrics: DataFrame) -> dict[str, float]:
    """The error of each series by the network, or by the first model there is."""
    of_series = metrics.where((F.col("scope") == SERIES) & (F.col("metric") == "wape"))
    models = sorted(row[s.MODEL] for row in of_series.select(s.MODEL).distinct().collect())
    if not models:
        return {}
    rows = (
        of_series.where(F.col(s.MODEL) == (LSTM if LSTM in models else models[0]))
        .where(F.col("value").isNotNull() & ~F.isnan("value"))
        .select("scope_id", "value")
        .limit(RANKED_SERIES)
        .collect()
    )
    return {row["scope_id"]: float(row["value"]) for row in rows}


def _wape_of(metrics: DataFrame, names: Sequence[str]) -> dict[str, dict[str, float]]:
    rows = (
        metrics.where((F.col("scope") == SERIES) & (F.col("metric") == "wape") & F.col("scope_id").isin(list(names)))
        .select("scope_id", s.MODEL, "value")
        .collect()
    )
    wape: dict[str, dict[str, float]] = {}
    for row in rows:
        wape.setdefault(row["scope_id"], {})[row[s.MODEL]] = row["value"]
    return wape


def _segments_of(tables: Tables, names: Sequence[str]) -> dict[str, Any]:
    segments = tables.read(s.SEGMENTS.name, "segment")
    if segments is None:
        return {}
    rows = segments.where((F.col("entity") == "store") & F.col("entity_id").isin(list(names))).collect()
    return {row["entity_id"]: row["segment"] for row in rows}


def _effects(tables: Tables) -> Fields:
    """What each mined signal is worth, where that was measured on the data and settings of this page."""
    effects = tables.read(s.ABLATION.name, "ablation")
    if effects is None:
        return {}
    # That of all signals together comes last.
    ordered = effects.drop(s.RUN_ID).orderBy(F.col("signal") == ALL, F.desc("difference"), "signal")
    return {"effects": ordered.toPandas()}


def _tuning(tables: Tables) -> Fields:
    """What a search for better settings tried and found, on the data of this page."""
    trials, tuned, effect = (tables.read(table.name, "tune") for table in (s.TRIALS, s.TUNED, s.TUNING_EFFECT))
    if trials is None or tuned is None or effect is None:
        return {}
    tried = trials.orderBy("number").limit(MOST_GROUPS).toPandas()
    settings = [
        ", ".join(f"{key} {value:g}" for key, value in sorted(dict(params).items())) for params in tried["params"]
    ]
    return {
        "trials": tried[["number", "state", "value", "epochs", "seconds", "error"]].assign(settings=settings),
        "tuned": tuned.drop(s.RUN_ID).orderBy(F.desc_nulls_last("importance"), "parameter").toPandas(),
        "tuning_effect": effect.drop(s.RUN_ID).toPandas(),
    }


def _importance(tables: Tables) -> Fields:
    explanations = tables.read(s.EXPLANATIONS.name, "explain")
    if explanations is None:
        return {}
    ranked = explanations.select("method", "feature", "role", "importance").orderBy(
        "method", F.desc("importance"), "feature"
    )
    return {"importance": ranked.limit(MOST_GROUPS).toPandas()}


def _error_patterns(config: Config, tables: Tables) -> Fields:
    patterns = tables.read(s.ERROR_PATTERNS.name, "explain")
    if patterns is None:
        return {}
    # Of patterns that tell the same, the one about more forecasts comes first.
    ranked = patterns.orderBy(F.desc("lift"), F.desc("forecasts"), "conditions", "failure").drop(s.RUN_ID, s.MODEL)
    return {"error_patterns": ranked.limit(config.report.max_rules).toPandas()}


def _surrogates(tables: Tables) -> Fields:
    rules = tables.read(s.SURROGATES.name, "explain")
    scores = tables.read(s.SURROGATE_SCORES.name, "explain")
    if rules is None or scores is None:
        return {}
    shown = rules.orderBy("rule").select("conditions", "ratio", "coverage", "held_out_ratio")
    told = {row["measure"]: row["value"] for row in scores.collect() if row["value"] is not None}
    return {"surrogates": shown.toPandas(), "surrogate_scores": told}
