"""Scenario: what would be forecast after the end of the data if promotions, prices or closures were others.

The chain from covariates to forecasts runs once more with the changed ones: ARIMA by its stored parameters, the pull of
rules, the training panel of the final cutoff, the production networks, the simple models and the blend. Nothing is
fitted anew.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import reduce

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.arima.fit import ORIGIN
from dlmine_spark.arima.paths import ARIMA
from dlmine_spark.arima.per_series import forecasts_of, origins_of, predict_all
from dlmine_spark.arima.timeline import ForecastPlan
from dlmine_spark.config import Config, Scalar
from dlmine_spark.errors import ConfigError, TableContractError
from dlmine_spark.evaluation.combine import BLEND, blended
from dlmine_spark.evaluation.compare import BOUNDS
from dlmine_spark.evaluation.metrics import SCALE, SQUARED_SCALE
from dlmine_spark.frequency import Moment, sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.arima import plan_forecasts, series_to_forecast
from dlmine_spark.pipelines.blend import simple_forecasts, simple_plan, weights_at
from dlmine_spark.pipelines.boosting import boost_once_more
from dlmine_spark.pipelines.common import as_stages, missing_series
from dlmine_spark.pipelines.forecast import final_cutoff, newest_cutoffs, with_known_widths
from dlmine_spark.pipelines.fuse import PanelMaterial, panel_as_of, panel_material
from dlmine_spark.pipelines.predict import newest_models
from dlmine_spark.pipelines.train import panel_source, read_forecasts, trained_models
from dlmine_spark.report.text import number, plural
from dlmine_spark.scenario import Change, Scenario
from dlmine_spark.training.predict import cutoff_folder, predict_cutoff, write_forecasts

log = logging.getLogger(__name__)

IS_CHANGED = "is_changed"
PLANNED = "as_planned"
PLACE = "scenario"
"""Ending of the names of staging tables."""
STAGED_ARIMA, STAGED_PANEL = "staging.scenario_arima", "staging.scenario_panel"
STAGED_FORECASTS = "staging.scenario_forecasts"
FILE = "scenario.parquet"
"""The networks' forecasts, beside those without a change."""
SHOWN = 10
"""Series in the terminal; the table has all."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The changes of a scenario, with their moments told and their covariates known."""

    changes: tuple[tuple[Change, Moment, Moment], ...]

    def applied(self, known: DataFrame) -> DataFrame:
        """Rows of series and moments (``unique_id``, ``ds``, covariates) as they would be."""
        rows = known
        for change, first, last in self.changes:
            concerned = _concerns(change, first, last)
            new = {name: F.lit(value) for name, value in change.set_.items()}
            new |= {name: F.col(f"`{name}`") * factor for name, factor in change.multiply.items()}
            new |= {name: F.col(f"`{name}`") + more for name, more in change.add.items()}
            types = dict(rows.dtypes)
            rows = rows.withColumns(
                {
                    name: F.when(concerned, value.cast(types[name])).otherwise(F.col(f"`{name}`"))
                    for name, value in new.items()
                }
            )
        return rows

    def is_changed(self) -> Column:
        """Whether a row is one that a change is about."""
        return reduce(Column.__or__, (_concerns(*change) for change in self.changes))


def _concerns(change: Change, first: Moment, last: Moment) -> Column:
    concerned = F.col(s.DS).between(F.expr(sql_literal(first)), F.expr(sql_literal(last)))
    return concerned & F.col(s.UNIQUE_ID).isin(list(change.series)) if change.series else concerned


def run(config: Config, lakehouse: Lakehouse, scenario: Scenario) -> tuple[str, str]:
    """Forecast with changed covariates, and write the rows of the scenario into ``gold.scenarios``.

    Args:
        config: the whole configuration.
        lakehouse: the tables as the last run of forecast saw and left them.
        scenario: the changes.

    Returns:
        One line on the whole, and the series that change most as text.

    Raises:
        ConfigError: a series, covariate, value or date that there is none of.
        TableContractError: a panel of counted steps, or there are no ARIMA models.
        TrainingError: there are no networks.
    """
    cutoff = final_cutoff(lakehouse)
    material = panel_material(config, lakehouse)
    ahead = replace(plan_forecasts(config, lakehouse, material.panel), backtest=())
    if ahead.final != cutoff:
        raise TableContractError(f"gold.training_panel ends at {cutoff}, silver.panel at {ahead.final}: run fuse again")
    series = series_to_forecast(config, lakehouse, material.panel, ahead)
    planned = _checked(scenario, series, material, ahead)

    changed = planned.applied(series)
    simple = simple_forecasts(config, lakehouse, material.panel, changed, simple_plan(config, ahead, (cutoff,)))
    made = [simple.drop(SCALE, SQUARED_SCALE)]
    if lakehouse.exists(s.ARIMA_ORIGINS.name):
        models = newest_models(lakehouse, ahead.frequency)
        lakehouse.overwrite(STAGED_ARIMA, predict_all(changed, models, config.arima, ahead))
        results = lakehouse.read(STAGED_ARIMA)
        made.append(as_stages(forecasts_of(results, ahead, lakehouse.run_id)))
        material = replace(material, arima_origins=_with_paths(material, results, cutoff))
    made.append(_of_networks(config, lakehouse, replace(material, planned=planned.applied), cutoff))
    if config.lightgbm.enabled:
        made.append(boost_once_more(config, lakehouse, STAGED_PANEL, cutoff, newest_cutoffs(lakehouse)[1], FILE))

    columns = (s.MODEL, s.UNIQUE_ID, s.CUTOFF, s.DS, s.H, s.Y_HAT, *BOUNDS)
    # Read by the blend and by what is written.
    lakehouse.overwrite(STAGED_FORECASTS, reduce(DataFrame.unionByName, (frame.select(*columns) for frame in made)))
    forecasts = lakehouse.read(STAGED_FORECASTS)
    if lakehouse.exists(s.BLEND_WEIGHTS.name):
        blend = blended(forecasts, weights_at(lakehouse, cutoff)).withColumn(s.MODEL, F.lit(BLEND))
        forecasts = forecasts.unionByName(blend.select(*columns))
    _write(lakehouse, scenario, forecasts, planned, cutoff)
    return _in_words(lakehouse, scenario)


def _checked(scenario: Scenario, series: DataFrame, material: PanelMaterial, ahead: ForecastPlan) -> Planned:
    """The changes, held against what there is: series, covariates known in advance and their types (one query)."""
    frequency = ahead.frequency
    horizon = frequency.shift(ahead.final, 1), frequency.shift(ahead.final, ahead.horizon)
    types = dict(series.dtypes)
    known = [*material.roles.known_future, *([s.OPEN] if material.roles.open_is_known else [])]
    asked = sorted({name for change in scenario.changes for name in change.series})
    problem = missing_series(series, asked)
    if problem is not None:
        raise ConfigError(f"scenario {scenario.name}: {problem}")
    for change in scenario.changes:
        for name in change.covariates:
            if name not in known:
                raise ConfigError(
                    f"scenario {scenario.name}: {name!r} is no covariate that is known in advance; these are: "
                    f"{', '.join(known) or 'none (roles: known_future, or a source of kind calendar)'}"
                )
        for name in (*change.multiply, *change.add):
            if types[name] in ("string", "boolean"):
                raise ConfigError(
                    f"scenario {scenario.name}: {name!r} is of type {types[name]}: it can be set, not calculated with"
                )
        for name, value in change.set_.items():
            _refuse_other_type(scenario, name, value, types[name])
    try:
        return Planned(tuple((change, *change.bounds(horizon)) for change in scenario.changes))
    except ConfigError as error:
        raise ConfigError(f"scenario {scenario.name}: {error}") from error


def _refuse_other_type(scenario: Scenario, name: str, value: Scalar, type_: str) -> None:
    is_text = isinstance(value, str)
    if is_text != (type_ == "string"):
        expected = "a text" if type_ == "string" else f"a number ({type_})"
        raise ConfigError(f"scenario {scenario.name}: {name!r} is {expected}, got {value!r}")


def _with_paths(material: PanelMaterial, results: DataFrame, cutoff: Moment) -> DataFrame | None:
    """ARIMA's paths, those from the end of the data by the changed covariates."""
    if material.arima_origins is None:
        return None
    new = origins_of(results)
    earlier = material.arima_origins.join(new.select(s.UNIQUE_ID, ORIGIN), on=[s.UNIQUE_ID, ORIGIN], how="left_anti")
    return earlier.unionByName(new.select(*earlier.columns))


def _of_networks(config: Config, lakehouse: Lakehouse, material: PanelMaterial, cutoff: Moment) -> DataFrame:
    """The production networks' forecasts with intervals, as rows of ``gold.forecasts``."""
    models = trained_models(lakehouse)
    stored = lakehouse.read(s.TRAINING_PANEL.name).where(F.col(s.CUTOFF) == F.expr(sql_literal(cutoff)))
    rows = _with_columns_of(stored, panel_as_of(material, cutoff, PLACE, is_final=True).rows)
    parts = s.TRAINING_PANEL.partition_by
    lakehouse.overwrite(STAGED_PANEL, rows.repartition(*parts), partition_by=parts)
    folder = cutoff_folder(models, cutoff)
    write_forecasts(
        predict_cutoff(folder, panel_source(config, lakehouse, STAGED_PANEL), cutoff), folder / FILE, cutoff
    )
    return with_known_widths(lakehouse, read_forecasts(lakehouse, models, (cutoff,), FILE))


def _with_columns_of(stored: DataFrame, rows: DataFrame) -> DataFrame:
    """Rows with the covariates that the networks were trained with: what another cutoff knew is 0 at this one."""
    return rows.select(
        *(F.col(f"`{name}`") if name in rows.columns else F.lit(0.0).alias(name) for name in stored.columns)
    )


def _write(lakehouse: Lakehouse, scenario: Scenario, forecasts: DataFrame, planned: Planned, cutoff: Moment) -> None:
    before = as_stages(lakehouse.read(s.FORECASTS.name).where(F.col(s.CUTOFF) == F.expr(sql_literal(cutoff))))
    key = [s.MODEL, s.UNIQUE_ID, s.DS]
    rows = forecasts.join(before.select(*key, F.col(s.Y_HAT).alias(PLANNED)), on=key, how="left")
    rows = rows.withColumns({"scenario": F.lit(scenario.name), IS_CHANGED: planned.is_changed()})
    lakehouse.overwrite(
        s.SCENARIOS.name, rows.select(*s.SCENARIOS.names), replace_where=f"scenario = '{scenario.name}'"
    )


def _in_words(lakehouse: Lakehouse, scenario: Scenario) -> tuple[str, str]:
    rows = lakehouse.read(s.SCENARIOS.name).where(F.col("scenario") == scenario.name)
    models = {row[s.MODEL] for row in rows.select(s.MODEL).distinct().collect()}
    model = BLEND if BLEND in models else ARIMA if ARIMA in models else sorted(models)[0]
    of_model = rows.where(F.col(s.MODEL) == model)
    whole = of_model.agg(
        F.sum(s.Y_HAT).alias("scenario"),
        F.sum(PLANNED).alias("planned"),
        F.countDistinct(F.when(F.col(IS_CHANGED), F.col(s.UNIQUE_ID))).alias("series"),
        F.count_if(IS_CHANGED).alias("steps"),
    ).collect()[0]
    of_series = (
        of_model.groupBy(s.UNIQUE_ID)
        .agg(F.sum(PLANNED).alias("planned"), F.sum(s.Y_HAT).alias("scenario"))
        .withColumn("more", F.col("scenario") - F.col("planned"))
        .orderBy(F.desc(F.abs("more")), s.UNIQUE_ID)
        .limit(SHOWN)
        .toPandas()
    )
    line = (
        f"scenario {scenario.name}: {plural(whole['steps'], 'forecast')} of {whole['series']:,} series changed; all "
        f"forecasts together, by {model}: {number(whole['planned'])} as planned, {number(whole['scenario'])} so "
        f"({_percent(whole['planned'], whole['scenario'])})"
    )
    return line, _as_table(of_series)


def _as_table(of_series: pd.DataFrame) -> str:
    width = max([len("series"), *map(len, of_series[s.UNIQUE_ID])])
    lines = [f"  {'series':<{width}}  {'as planned':>12}  {'scenario':>12}"]
    for row in of_series.itertuples(index=False):
        unique_id, planned, scenario, _ = row
        change = _percent(planned, scenario)
        lines.append(f"  {unique_id:<{width}}  {number(planned):>12}  {number(scenario):>12}  {change:>8}")
    return "\n".join(lines)


def _percent(planned: float, scenario: float) -> str:
    return f"{100 * (scenario / planned - 1):+.1f} %" if planned else "was 0"
