"""One ARIMA per series: what it found, what it forecasts, and what the network is given of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import __version__
from dlmine_spark import schemas as s
from dlmine_spark.arima.other_engine import require_statsforecast
from dlmine_spark.arima.packing import VALUES, WAVE, pack
from dlmine_spark.arima.paths import ARIMA, OTHERS
from dlmine_spark.arima.per_series import fit_all, fitted_of, forecasts_of, intervals_of, models_of, origins_of
from dlmine_spark.arima.timeline import ForecastPlan
from dlmine_spark.caching import kept
from dlmine_spark.config import Config
from dlmine_spark.errors import TableContractError
from dlmine_spark.frequency import sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.parallel import cores
from dlmine_spark.pipelines.alignment import read_panel, to_own_clocks
from dlmine_spark.pipelines.common import all_cutoffs, calendar_of, covariates, known_future
from dlmine_spark.pipelines.steps import panel_frequency
from dlmine_spark.runs import NotApplicable, StageReport

log = logging.getLogger(__name__)

STAGING = "staging.arima"
"""Holds the results of all series between the pass that computes them, wave by wave, and the three tables made of them.

A wave that was written is not computed again by a run with the same inputs: that is how a killed run goes on."""
_KEY = "fit_key"
"""In staging: what the results depend on."""


@dataclass(frozen=True, kw_only=True)
class ArimaReport(StageReport):
    """Fits by what became of them; ``rows_out`` counts forecasts."""

    fits_by_status: dict[str, int] = field(default_factory=dict)


def run(config: Config, lakehouse: Lakehouse) -> ArimaReport | NotApplicable:
    """Fit every series at the earliest origin, the backtest cutoffs and the end, and write forecasts from all of them.

    Raises:
        EnvironmentProblem: ``arima.engine`` asks for a library that is not installed.
        TableContractError: the history is too short, or covariates end before the horizon and may not be repeated.
    """
    if not lakehouse.exists(s.PANEL.name):
        return NotApplicable("no panel: there are no series to forecast")
    require_statsforecast(config.arima)
    panel = read_panel(lakehouse)
    plan = plan_forecasts(config, lakehouse, panel)
    with kept(_lengths(panel, plan)) as lengths:
        _refuse_if_all_are_too_short(config, lengths)
        results = _results(config, lakehouse, panel, plan, lengths)
    lakehouse.overwrite(s.ARIMA_MODELS.name, with_series_set_aside(models_of(results), lakehouse, plan))
    lakehouse.overwrite(s.ARIMA_ORIGINS.name, origins_of(results))
    lakehouse.overwrite(
        s.FORECASTS.name,
        to_own_clocks(lakehouse, forecasts_of(results, plan, lakehouse.run_id)),
        replace_where=f"{s.MODEL} IN ({', '.join(repr(name) for name in (ARIMA, *OTHERS))})",
    )
    if config.arima.levels:
        intervals = intervals_of(results, plan, config.arima.levels)
        lakehouse.overwrite(s.ARIMA_INTERVALS.name, to_own_clocks(lakehouse, intervals))
    if config.arima.fitted:
        lakehouse.overwrite(s.ARIMA_FITTED.name, to_own_clocks(lakehouse, fitted_of(results)))
    # Nothing is left to go on with: a run that is asked for again computes again.
    lakehouse.overwrite(STAGING, results.limit(0))
    return _report(lakehouse, panel, plan)


def _results(
    config: Config, lakehouse: Lakehouse, panel: DataFrame, plan: ForecastPlan, lengths: DataFrame
) -> DataFrame:
    """``RESULT_COLUMNS`` of all series, of which those that a killed run wrote are taken as they are."""
    key = _fit_key(config, lakehouse)
    done = _done(lakehouse, key)
    if done is not None:
        lengths = lengths.join(done.select(s.UNIQUE_ID).distinct(), on=s.UNIQUE_ID, how="left_anti")
    fits = len(plan.cutoffs) + 1
    with kept(lengths) as remaining:
        packing = pack(remaining, fits, cores(lakehouse.spark), config.arima.wave_values)
        series = with_series_to_come(series_to_forecast(config, lakehouse, panel, plan), panel, plan)
        for wave in range(packing.waves):
            dealt = packing.series.where(F.col(WAVE) == wave).drop(WAVE)
            fitted = fit_all(series.join(dealt, on=s.UNIQUE_ID, how="inner"), config.arima, plan, packing.tasks)
            write = lakehouse.overwrite if done is None else lakehouse.append
            write(STAGING, fitted.withColumn(_KEY, F.lit(key)))
            done = lakehouse.read(STAGING)
            if packing.waves > 1:
                log.info("wave %d of %d: series fitted so far are kept", wave + 1, packing.waves)
    return lakehouse.read(STAGING).drop(_KEY)


def _fit_key(config: Config, lakehouse: Lakehouse) -> str:
    """What the results depend on: versions of the inputs, settings, and the package."""
    versions = {
        name: lakehouse.pinned_version(name) for name in (s.PANEL.name, s.CALENDAR.name) if lakehouse.exists(name)
    }
    settings = config.digest("sources", "cleaning", "arima", "evaluation")
    return f"{__version__} {settings} {versions}"


def _done(lakehouse: Lakehouse, key: str) -> DataFrame | None:
    """What a killed run with the same inputs left; None where there is nothing."""
    if not lakehouse.adopt(STAGING):
        return None
    staged = lakehouse.read(STAGING)
    count = staged.where(F.col(_KEY) == key).select(s.UNIQUE_ID).distinct().count() if _KEY in staged.columns else 0
    if count == 0:
        return None
    # The first wave replaces the table, so there are no results of another key beside these.
    log.info("%s series are fitted already, by a run that did not finish", f"{count:,}")
    return staged


def _lengths(panel: DataFrame, plan: ForecastPlan) -> DataFrame:
    """How many known values each series has, of all series: what is filled is not fitted."""
    is_past = F.col(s.DS) <= F.expr(sql_literal(plan.final))
    return panel.groupBy(s.UNIQUE_ID).agg(F.count_if(is_past & _is_known()).alias(VALUES))


def _is_known() -> Column:
    return F.col(s.Y).isNotNull() & ~F.coalesce(F.col(s.Y_IMPUTED), F.lit(False))


def plan_forecasts(config: Config, lakehouse: Lakehouse, panel: DataFrame) -> ForecastPlan:
    """Horizon, cutoffs and what is known of the future."""
    frequency = panel_frequency(config, panel)
    cutoffs = all_cutoffs(config, panel, frequency)
    roles = covariates(config, panel, calendar_of(lakehouse, config))
    return ForecastPlan(
        frequency=frequency,
        horizon=config.evaluation.horizon,
        backtest=cutoffs.backtest,
        final=cutoffs.final,
        open_is_known=roles.open_is_known,
    )


def series_to_forecast(config: Config, lakehouse: Lakehouse, panel: DataFrame, plan: ForecastPlan) -> DataFrame:
    """Values with the covariates known ahead: one row per series and step, to the end of the horizon."""
    calendar = calendar_of(lakehouse, config)
    known = known_future(config, panel, calendar, plan.frequency, plan.final)
    values = panel.where(F.col(s.DS) <= F.expr(sql_literal(plan.final))).select(s.UNIQUE_ID, s.DS, s.Y, s.Y_IMPUTED)
    return known.join(values, on=[s.UNIQUE_ID, s.DS], how="left")


def with_series_to_come(series: DataFrame, panel: DataFrame, plan: ForecastPlan) -> DataFrame:
    """The rows of ``series_to_forecast``, and the first one of each series that begins after the last known value.

    None can be forecast, but each has a row in ``gold.arima_models`` that says so.
    """
    begins = panel.groupBy(s.UNIQUE_ID).agg(F.min(s.DS).alias(s.DS))
    to_come = begins.where(F.col(s.DS) > F.expr(sql_literal(plan.final)))
    return series.unionByName(to_come, allowMissingColumns=True)


def with_series_set_aside(models: DataFrame, lakehouse: Lakehouse, plan: ForecastPlan) -> DataFrame:
    """The rows of ``gold.arima_models``, and those of the series that the panel has no place for."""
    if not lakehouse.exists(s.SET_ASIDE.name):
        return models
    cutoffs = F.explode(F.array(*(F.expr(sql_literal(cutoff)) for cutoff in plan.cutoffs)))
    aside = lakehouse.read(s.SET_ASIDE.name).select(
        s.UNIQUE_ID,
        cutoffs.alias(s.CUTOFF),
        F.lit("failed").alias("status"),
        F.col("reason").alias("error"),
        F.lit(0.0).alias("seconds"),
    )
    return models.unionByName(aside, allowMissingColumns=True)


def _refuse_if_all_are_too_short(config: Config, lengths: DataFrame) -> None:
    """A short series among others gets a naive forecast; where all are short, the settings do not fit the data."""
    longest = lengths.agg(F.max(VALUES)).first()
    known = int(longest[0] or 0) if longest is not None else 0
    if known < config.arima.min_history:
        raise TableContractError(
            f"silver.panel: the longest series has {known} known values, arima.min_history asks for "
            f"{config.arima.min_history}: give more history, or set arima.min_history=4 or more"
        )


def _report(lakehouse: Lakehouse, panel: DataFrame, plan: ForecastPlan) -> ArimaReport:
    models = lakehouse.read(s.ARIMA_MODELS.name)
    counts = {row["status"]: int(row["count"]) for row in models.groupBy("status").count().collect()}
    by_status = {status: counts[status] for status in s.STATUSES if status in counts}
    series = models.where(F.col(s.CUTOFF) == F.expr(sql_literal(plan.final))).count()
    forecasts = lakehouse.read(s.FORECASTS.name).where(F.col(s.MODEL).isin(ARIMA, *OTHERS)).count()
    lost = sum(count for status, count in by_status.items() if status != "ok")
    if lost:
        worst = models.where(F.col("status") != "ok").orderBy(F.desc(s.CUTOFF), s.UNIQUE_ID).first()
        if worst is not None:
            log.warning(
                "%d of %d fits are no ARIMA, e.g. %s: %s (gold.arima_models says why for each)",
                lost,
                sum(by_status.values()),
                worst[s.UNIQUE_ID],
                worst["error"],
            )
    fits = ", ".join(f"{count} {status}" for status, count in by_status.items())
    return ArimaReport(
        rows_in=panel.count(),
        rows_out=forecasts,
        fits_by_status=by_status,
        message=f"{series} series, {len(plan.cutoffs)} cutoffs, horizon {plan.horizon}; fits: {fits}",
    )
