"""Blend: simple forecasts beside the fitted ones, and of all of them the mean that was best before each cutoff.

Weights are chosen where nothing was fitted: on the last horizon before a backtest cutoff, which the network forecast as
if the cutoff had been at its start, and ARIMA and the simple models, too. The forecast after the end of the data takes
the weights of the newest backtest cutoff.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.arima.paths import ARIMA
from dlmine_spark.arima.timeline import ForecastPlan
from dlmine_spark.caching import kept
from dlmine_spark.config import Config
from dlmine_spark.evaluation.combine import BLEND, blended, tell_weights
from dlmine_spark.evaluation.metrics import SCALE, SQUARED_SCALE
from dlmine_spark.evaluation.naive import PROMOTION, SIMPLE, NaivePlan, naive_forecasts
from dlmine_spark.frequency import Frequency, Moment, sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.alignment import read_panel, to_own_clocks
from dlmine_spark.pipelines.arima import plan_forecasts, series_to_forecast
from dlmine_spark.pipelines.boosting import LIGHTGBM, boost
from dlmine_spark.pipelines.common import as_stages, calendar_of, covariates, promotion_of
from dlmine_spark.pipelines.train import MODEL_NAME
from dlmine_spark.runs import NotApplicable, StageReport
from dlmine_spark.training.windows import MAX_PATH_AGE

log = logging.getLogger(__name__)

MODELS = (MODEL_NAME, LIGHTGBM, ARIMA, *SIMPLE)
"""What the blend is a mean of, ARIMA with what stood in for it."""
STAGING = "staging.blend"
"""Simple forecasts with their series' scales, computed once and read several times."""
STRENGTH = 10
"""How many horizons of errors of its own a series needs, for its weights to be as much its own as those of all."""
ENOUGH = 0.5
"""A model that forecast less than this share of the steps gets no weight."""
_STEP = (s.UNIQUE_ID, s.DS, s.H)
"""Together they name an origin, too."""


@dataclass(frozen=True, kw_only=True)
class BlendReport(StageReport):
    """What was blended; ``rows_in`` counts errors that weights were told by, ``rows_out`` forecasts."""

    weights: dict[str, float] = field(default_factory=dict)
    """Of series without any of their own, at the newest backtest cutoff."""


def run(config: Config, lakehouse: Lakehouse) -> BlendReport | NotApplicable:
    """Add simple forecasts, and LightGBM's where they are asked for; tell the weights of every backtest cutoff, and add
    the blend at those cutoffs.
    """
    if not lakehouse.exists(s.PANEL.name):
        return NotApplicable("no panel: there is nothing to forecast")
    panel = read_panel(lakehouse)
    ahead = plan_forecasts(config, lakehouse, panel)
    origins = {cutoff: ahead.frequency.shift(cutoff, -ahead.horizon) for cutoff in ahead.backtest}
    plan = simple_plan(config, ahead, tuple(sorted({*ahead.cutoffs, *origins.values()})))
    series = series_to_forecast(config, lakehouse, panel, ahead)
    simple = simple_forecasts(config, lakehouse, panel, series, plan)
    lakehouse.overwrite(STAGING, to_own_clocks(lakehouse, simple))
    simple = lakehouse.read(STAGING)
    at_cutoffs = simple.where(_is_one_of(ahead.cutoffs))
    scales = at_cutoffs.where(_is_one_of(ahead.backtest)).select(s.UNIQUE_ID, s.CUTOFF, SCALE, SQUARED_SCALE)
    lakehouse.overwrite(s.ERROR_SCALES.name, scales.distinct())
    # What LightGBM forecast when it was asked for must not be compared when it no longer is.
    _write(lakehouse, at_cutoffs, (*SIMPLE, LIGHTGBM), "true")
    rehearsed = None
    if config.lightgbm.enabled and lakehouse.exists(s.TRAINING_PANEL.name):
        boosted, rehearsed = boost(config, lakehouse)
        _write(lakehouse, boosted, (LIGHTGBM,), "true")
    if not lakehouse.exists(s.VALIDATION_FORECASTS.name):
        return BlendReport(rows_in=0, rows_out=0, message=f"{', '.join(SIMPLE)}; no network to blend them with")

    fitted = (MODEL_NAME, ARIMA) if rehearsed is None else (MODEL_NAME, LIGHTGBM, ARIMA)
    with kept(_errors(lakehouse, simple, rehearsed, origins, ahead.frequency)) as errors:
        comparable = _of_models_with_forecasts(errors)
        weights = tell_weights(comparable, ahead.backtest, STRENGTH * ahead.horizon, otherwise=fitted)
        lakehouse.overwrite(s.BLEND_WEIGHTS.name, weights.withColumn(s.RUN_ID, F.lit(lakehouse.run_id)))
    weights = lakehouse.read(s.BLEND_WEIGHTS.name)
    made = lakehouse.read(s.FORECASTS.name).where(_is_one_of(ahead.backtest))
    write_blend(lakehouse, blended(as_stages(made), weights), _is_one_of_sql(ahead.backtest))
    return _report(lakehouse, weights, ahead.backtest)


def simple_plan(config: Config, ahead: ForecastPlan, cutoffs: tuple[Moment, ...]) -> NaivePlan:
    """What the simple models are asked for."""
    asked = config.arima.season_length
    return NaivePlan(
        frequency=ahead.frequency,
        season_length=ahead.frequency.season_length if asked == "auto" else asked,
        horizon=ahead.horizon,
        cutoffs=cutoffs,
        open_is_known=ahead.open_is_known,
    )


def simple_forecasts(
    config: Config, lakehouse: Lakehouse, panel: DataFrame, series: DataFrame, plan: NaivePlan
) -> DataFrame:
    """Those of ``series``, the rows of ``series_to_forecast``; see ``naive_forecasts``."""
    calendar = calendar_of(lakehouse, config)
    promotion = promotion_of(panel, calendar, covariates(config, panel, calendar))
    kinds = [] if promotion is None else [F.col(f"`{promotion}`").cast("double").alias(PROMOTION)]
    return naive_forecasts(series.select(s.UNIQUE_ID, s.DS, s.Y, s.OPEN, s.Y_IMPUTED, *kinds), plan)


def blend_at(lakehouse: Lakehouse, final: Moment) -> None:
    """Add the blend's forecast after the end of the data, by the weights of the newest backtest cutoff."""
    if not lakehouse.exists(s.BLEND_WEIGHTS.name):
        return
    made = lakehouse.read(s.FORECASTS.name).where(F.col(s.CUTOFF) == F.expr(sql_literal(final)))
    blend = blended(as_stages(made), weights_at(lakehouse, final))
    write_blend(lakehouse, blend, f"{s.CUTOFF} >= {sql_literal(final)}")


def weights_at(lakehouse: Lakehouse, final: Moment) -> DataFrame:
    """The weights of the newest backtest cutoff, as those of the end of the data."""
    weights = lakehouse.read(s.BLEND_WEIGHTS.name)
    newest = weights.agg(F.max(s.CUTOFF)).collect()[0][0]
    of_newest = weights.where(F.col(s.CUTOFF) == F.expr(sql_literal(newest)))
    return of_newest.withColumn(s.CUTOFF, F.expr(sql_literal(final)))


def write_blend(lakehouse: Lakehouse, forecasts: DataFrame, cutoffs: str) -> None:
    """Replace the blend's forecasts at some cutoffs, given as a SQL condition."""
    _write(lakehouse, forecasts.withColumn(s.MODEL, F.lit(BLEND)), (BLEND,), cutoffs)


def _write(lakehouse: Lakehouse, forecasts: DataFrame, models: Sequence[str], cutoffs: str) -> None:
    names = ", ".join(repr(model) for model in models)
    rows = forecasts.withColumn(s.RUN_ID, F.lit(lakehouse.run_id)).select(*s.FORECASTS.names)
    lakehouse.overwrite(s.FORECASTS.name, rows, replace_where=f"{s.MODEL} IN ({names}) AND {cutoffs}")


def _errors(
    lakehouse: Lakehouse,
    simple: DataFrame,
    boosted: DataFrame | None,
    origins: Mapping[Moment, Moment],
    frequency: Frequency,
) -> DataFrame:
    """Errors of the models before each cutoff: ``cutoff``, ``unique_id`` and a column a model, null where it made no
    forecast; one row per step that the network forecast before.

    Args:
        lakehouse: with the network's forecasts and ARIMA's paths.
        simple: forecasts of the simple models.
        boosted: rows like those of ``gold.validation_forecasts`` by LightGBM, if it was asked for.
        origins: from where each cutoff's are.
        frequency: of the series.
    """
    validation = lakehouse.read(s.VALIDATION_FORECASTS.name)
    moment = f"{s.CUTOFF} {frequency.sql_type}, __origin {frequency.sql_type}"
    nominal = lakehouse.spark.createDataFrame(list(origins.items()), moment)
    of_simple = (
        simple.withColumnRenamed(s.CUTOFF, "__origin")
        .join(F.broadcast(nominal), on="__origin", how="inner")
        .groupBy(s.CUTOFF, *_STEP)
        .agg(*(F.max(F.when(F.col(s.MODEL) == model, F.col(s.Y_HAT))).alias(model) for model in SIMPLE))
    )
    steps = validation.withColumnRenamed(s.Y_HAT, MODEL_NAME).join(of_simple, on=[s.CUTOFF, *_STEP], how="left")
    if boosted is not None:
        own = boosted.select(s.CUTOFF, *_STEP, F.col(s.Y_HAT).alias(LIGHTGBM))
        steps = steps.join(own, on=[s.CUTOFF, *_STEP], how="left")
    if lakehouse.exists(s.ARIMA_ORIGINS.name):
        paths = _latest_paths(validation, lakehouse.read(s.ARIMA_ORIGINS.name), frequency)
        steps = steps.join(paths, on=[s.UNIQUE_ID, "origin"], how="left").withColumn(
            ARIMA, F.get(F.col("path"), F.col(s.H) - 1 + F.col("age"))
        )
    models = [model for model in MODELS if model in steps.columns]
    errors = {model: F.nanvl(F.col(model) - F.col(s.Y), F.lit(None).cast("double")) for model in models}
    return steps.select(s.CUTOFF, s.UNIQUE_ID, *(error.alias(model) for model, error in errors.items()))


def _of_models_with_forecasts(errors: DataFrame) -> DataFrame:
    """The errors of models that forecast most steps, where all of them did (one aggregation)."""
    models = [name for name in errors.columns if name not in (s.CUTOFF, s.UNIQUE_ID)]
    counts = errors.agg(F.count(F.lit(1)).alias("steps"), *(F.count(model).alias(model) for model in models))
    known = counts.collect()[0]
    able = [model for model in models if known[model] >= ENOUGH * known["steps"]]
    return errors.select(s.CUTOFF, s.UNIQUE_ID, *able).dropna()


def _latest_paths(validation: DataFrame, arima_origins: DataFrame, frequency: Frequency) -> DataFrame:
    """The newest ARIMA path at or before each validation origin, and how many steps older it is."""
    asked = validation.select(s.UNIQUE_ID, "origin").distinct()
    made = arima_origins.select(s.UNIQUE_ID, F.col("origin").alias("__made"), "path")
    age = F.expr(frequency.sql_step("__made", "origin"))
    both = asked.join(made, on=s.UNIQUE_ID, how="inner").withColumn("age", age)
    newest = F.max_by(F.struct("path", "age"), "__made").alias("newest")
    serving = both.where((F.col("__made") <= F.col("origin")) & (F.col("age") < MAX_PATH_AGE))
    return serving.groupBy(s.UNIQUE_ID, "origin").agg(newest).select(s.UNIQUE_ID, "origin", "newest.*")


def _is_one_of(cutoffs: Sequence[Moment]) -> Column:
    return F.expr(_is_one_of_sql(cutoffs))


def _is_one_of_sql(cutoffs: Sequence[Moment]) -> str:
    return f"{s.CUTOFF} IN ({', '.join(map(sql_literal, cutoffs))})"


def _report(lakehouse: Lakehouse, weights: DataFrame, backtest: Sequence[Moment]) -> BlendReport:
    of_all = weights.where(F.col(s.UNIQUE_ID).isNull()).orderBy(s.CUTOFF).collect()
    newest = {row[s.MODEL]: float(row["weight"]) for row in of_all if row[s.CUTOFF] == backtest[-1]}
    errors = {row[s.CUTOFF]: int(row["errors"]) for row in of_all}
    forecasts = lakehouse.read(s.FORECASTS.name).where(F.col(s.MODEL) == BLEND).where(_is_one_of(backtest)).count()
    shares = ", ".join(f"{model} {weight:.0%}" for model, weight in sorted(newest.items(), key=lambda item: -item[1]))
    return BlendReport(
        rows_in=sum(errors.values()),
        rows_out=forecasts,
        weights=newest,
        message=f"{shares} of the blend, as told by {sum(errors.values()):,} errors before the cutoffs",
    )
