"""Predict: ARIMA forecasts from the end of newer data with parameters that were fitted before."""

from __future__ import annotations

import logging
from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.arima.fit import REFITTED
from dlmine_spark.arima.other_engine import require_statsforecast
from dlmine_spark.arima.paths import ARIMA, OTHERS
from dlmine_spark.arima.per_series import forecasts_of, intervals_of, models_of, predict_all
from dlmine_spark.config import Config
from dlmine_spark.errors import TableContractError
from dlmine_spark.frequency import Frequency, sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.alignment import read_panel
from dlmine_spark.pipelines.arima import (
    plan_forecasts,
    series_to_forecast,
    with_series_set_aside,
    with_series_to_come,
)

log = logging.getLogger(__name__)

STAGING = "staging.predict"
"""Forecasts and new models of all series, computed once and read twice."""


def run(config: Config, lakehouse: Lakehouse, run_id: str) -> str:
    """Add forecasts from the end of the data to ``gold.forecasts``, and the models that had to be fitted anew.

    What was forecast from earlier cutoffs stays.

    Args:
        config: the whole configuration.
        lakehouse: the tables, not bound to a run.
        run_id: of the last run of clean, whose panel is forecast.

    Returns:
        What was done, in one line.

    Raises:
        EnvironmentProblem: ``arima.engine`` asks for a library that is not installed.
        TableContractError: there are no models, or they are of another kind of panel.
    """
    require_statsforecast(config.arima)
    panel = read_panel(lakehouse)
    plan = replace(plan_forecasts(config, lakehouse, panel), backtest=())
    models = newest_models(lakehouse, plan.frequency)
    series = with_series_to_come(series_to_forecast(config, lakehouse, panel, plan), panel, plan)
    lakehouse.overwrite(STAGING, predict_all(series, models, config.arima, plan))
    results = lakehouse.read(STAGING)
    # One fitted anew at the end of the same data, say because a regressor is gone, takes the place of what was there.
    fitted = models_of(results.where(F.col(REFITTED).isNotNull()))
    fitted = with_series_set_aside(fitted, lakehouse, plan)
    lakehouse.merge(s.ARIMA_MODELS.name, fitted, (s.UNIQUE_ID, s.CUTOFF))
    names = ", ".join(repr(name) for name in (ARIMA, *OTHERS))
    lakehouse.overwrite(
        s.FORECASTS.name,
        forecasts_of(results, plan, run_id),
        replace_where=f"{s.MODEL} IN ({names}) AND {s.CUTOFF} = {sql_literal(plan.final)}",
    )
    if config.arima.levels:
        lakehouse.overwrite(
            s.ARIMA_INTERVALS.name,
            intervals_of(results, plan, config.arima.levels),
            replace_where=f"{s.CUTOFF} = {sql_literal(plan.final)}",
        )
    reasons = {row[REFITTED]: row["count"] for row in results.groupBy(REFITTED).count().collect()}
    applied, refitted = reasons.pop(None, 0), sum(reasons.values())
    for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        log.info("%s series fitted anew: %s", f"{count:,}", reason)
    return (
        f"{applied + refitted:,} series from {plan.final}, horizon {plan.horizon}: {applied:,} with parameters that "
        f"were there, {refitted:,} fitted anew"
    )


def newest_models(lakehouse: Lakehouse, frequency: Frequency) -> DataFrame:
    """The newest model with orders of each series that has any."""
    if not frequency.has_calendar:
        raise TableContractError(
            "silver.panel: column ds counts steps, so nothing says which of them a model was fitted on: fit anew by "
            "'dlmine arima'"
        )
    models = lakehouse.read(s.ARIMA_MODELS.name)
    type_ = dict(models.dtypes)[s.CUTOFF]
    if type_ != frequency.sql_type:
        raise TableContractError(
            f"{s.ARIMA_MODELS.name}: its models are of a panel whose ds is of type {type_}, now it is "
            f"{frequency.sql_type}: fit anew by 'dlmine arima'"
        )
    fitted = models.where((F.col("status") == "ok") & F.col("p").isNotNull())
    newest = fitted.groupBy(s.UNIQUE_ID).agg(F.max_by(F.struct(*fitted.columns), s.CUTOFF).alias("newest"))
    return newest.select("newest.*")
