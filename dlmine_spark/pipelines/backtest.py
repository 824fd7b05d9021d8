"""Forecasts from past cutoffs against what happened after them, for every model and the naive one."""

from __future__ import annotations

import logging
from dataclasses import astuple, dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.arima.paths import ARIMA
from dlmine_spark.config import Config
from dlmine_spark.errors import TableContractError
from dlmine_spark.evaluation.compare import KEY, OVERALL, metrics_by_scope, pair, scored_actuals
from dlmine_spark.evaluation.dominance import compare_models
from dlmine_spark.evaluation.naive import SEASONAL_NAIVE
from dlmine_spark.frequency import sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.alignment import read_panel
from dlmine_spark.pipelines.common import all_cutoffs, as_stages
from dlmine_spark.pipelines.steps import panel_frequency
from dlmine_spark.runs import NotApplicable, StageReport

log = logging.getLogger(__name__)

FALLBACK_SHARE = "fallback_share"
"""Metric of the ARIMA stage: the share of compared forecasts that a fallback made, where no ARIMA could be fitted."""


@dataclass(frozen=True, kw_only=True)
class BacktestReport(StageReport):
    """How the models did overall; ``rows_in`` counts forecasts, ``rows_rejected`` those that not every model made."""

    wape: dict[str, float] = field(default_factory=dict)
    mase: dict[str, float] = field(default_factory=dict)


def run(config: Config, lakehouse: Lakehouse) -> BacktestReport | NotApplicable:
    """Measure every model on the series and dates that all of them forecast.

    Raises:
        TableContractError: there is no such series and date, or the history is too short for the cutoffs.
    """
    if not lakehouse.exists(s.PANEL.name):
        return NotApplicable("no panel: there are no forecasts to compare")
    panel = read_panel(lakehouse)
    cutoffs = all_cutoffs(config, panel, panel_frequency(config, panel)).backtest
    made = lakehouse.read(s.FORECASTS.name).where(F.col(s.CUTOFF).isin([F.expr(sql_literal(one)) for one in cutoffs]))
    scales = lakehouse.read(s.ERROR_SCALES.name)
    paired = pair(as_stages(made), scored_actuals(lakehouse.read(s.PANEL.name)), scales)
    models = sorted(row[s.MODEL] for row in paired.select(s.MODEL).distinct().collect())
    common = paired.where(F.col("models") == len(models))
    metrics = metrics_by_scope(common, segments_of_series(lakehouse), config.evaluation.horizon)
    metrics = metrics.unionByName(_fallback_share(common))
    lakehouse.overwrite(s.METRICS.name, metrics.withColumn(s.RUN_ID, F.lit(lakehouse.run_id)))
    report = _report(lakehouse, paired, models)
    compared = [(lakehouse.run_id, *astuple(one)) for one in compare_models(common, models)]
    lakehouse.overwrite(s.COMPARISONS.name, lakehouse.spark.createDataFrame(compared, s.COMPARISONS.ddl))
    return report


def segments_of_series(lakehouse: Lakehouse) -> DataFrame | None:
    """The segment of every series, where there are segments: ``unique_id``, ``segment``."""
    if not lakehouse.exists(s.SEGMENTS.name):
        return None
    stores = lakehouse.read(s.SEGMENTS.name).where(F.col("entity") == "store")
    return stores.select(F.col("entity_id").alias(s.UNIQUE_ID), "segment")


def _fallback_share(common: DataFrame) -> DataFrame:
    """How much of what is measured as ARIMA was no ARIMA's."""
    share = F.avg(F.col("is_fallback").cast("double"))
    arimas = common.where(F.col(s.MODEL) == ARIMA).groupBy(s.MODEL)
    return arimas.agg(share.alias("value")).select(
        s.MODEL,
        F.lit(OVERALL).alias("scope"),
        F.lit("all").alias("scope_id"),
        F.lit(FALLBACK_SHARE).alias("metric"),
        "value",
    )


def _report(lakehouse: Lakehouse, paired: DataFrame, models: list[str]) -> BacktestReport:
    made = paired.count()
    overall = lakehouse.read(s.METRICS.name).where(F.col("scope") == OVERALL).collect()
    figures = {(row[s.MODEL], row["metric"]): float(row["value"]) for row in overall}
    compared = int(figures.get((SEASONAL_NAIVE, "forecasts"), 0))
    if compared == 0:
        raise TableContractError(
            f"gold.forecasts: no series and date after a backtest cutoff is forecast by all of {', '.join(models)} "
            "and has a value in silver.panel; is every value after the cutoffs missing, closed or imputed?"
        )
    left_out = paired.select(*KEY).distinct().count() - compared
    if left_out:
        log.warning(
            "%d of %d series and dates are left out: not every model forecast them", left_out, left_out + compared
        )
    wape = {model: figures[model, "wape"] for model in models if (model, "wape") in figures}
    mase = {model: figures[model, "mase"] for model in models if (model, "mase") in figures}
    ranked = ", ".join(f"{model} {wape[model]:.1%}" for model in sorted(wape, key=lambda name: (wape[name], name)))
    fallbacks = figures.get((ARIMA, FALLBACK_SHARE), 0.0)
    return BacktestReport(
        rows_in=made,
        rows_out=compared * len(models),
        rows_rejected=made - compared * len(models),
        wape=wape,
        mase=mase,
        message=f"WAPE {ranked} on {compared:,} series and dates"
        + (f", {left_out:,} left out" if left_out else "")
        + (f" ({fallbacks:.1%} of arima by its fallback)" if fallbacks else ""),
    )
