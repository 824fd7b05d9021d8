"""The only Spark in the ARIMA stage: one task handles one series after another."""

from __future__ import annotations

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.arima.fit import (
    AHEAD,
    BOUNDS,
    FIT_COLUMNS,
    FIT_CUTOFF,
    ORIGIN,
    OWN_FIT_CUTOFF,
    OWN_ORIGIN,
    PATH,
    SIGMA,
    fit_series,
    result_types,
)
from dlmine_spark.arima.timeline import ForecastPlan
from dlmine_spark.config import ArimaConfig
from dlmine_spark.frequency import sql_literal


def fit_all(series: DataFrame, config: ArimaConfig, plan: ForecastPlan) -> DataFrame:
    """Fit and forecast every series.

    Spark starts its Python workers with ``OMP_NUM_THREADS`` set to the cores of a task (one, unless
    ``spark.task.cpus`` says otherwise), so linear algebra does not compete for the cores of other tasks.

    Args:
        series: one row per series and step, from the series' first date to ``horizon`` steps after the last cutoff,
            with the columns ``read_timeline`` wants.
        config: limits of the search.
        plan: horizon and cutoffs.

    Returns:
        ``result_types``: one row per series and origin.
    """

    def fit_group(rows: pd.DataFrame) -> pd.DataFrame:
        return fit_series(rows, config, plan)

    types = result_types(plan.frequency.sql_type)
    ddl = ", ".join(f"`{name}` {type_}" for name, type_ in types.items())
    return series.groupBy(s.UNIQUE_ID).applyInPandas(fit_group, schema=ddl)


def models_of(results: DataFrame) -> DataFrame:
    """The rows of ``gold.arima_models``: one per series and fit."""
    return results.where(F.col("status").isNotNull()).select(
        s.UNIQUE_ID, F.col(FIT_CUTOFF).alias(s.CUTOFF), *FIT_COLUMNS
    )


def origins_of(results: DataFrame) -> DataFrame:
    """The rows of ``gold.arima_origins``: one per series and origin that has a forecast."""
    return results.where(F.col(PATH).isNotNull()).select(
        s.UNIQUE_ID, F.col(OWN_ORIGIN).alias(ORIGIN), F.col(OWN_FIT_CUTOFF).alias(FIT_CUTOFF), PATH, SIGMA
    )


def forecasts_of(results: DataFrame, plan: ForecastPlan, run_id: str) -> DataFrame:
    """The rows of ``gold.forecasts``: one per series, cutoff and step ahead, under the name of what made them."""
    is_cutoff = F.col(ORIGIN).isin([F.expr(sql_literal(cutoff)) for cutoff in plan.cutoffs])
    steps = results.where(F.col(PATH).isNotNull() & is_cutoff).select(
        s.MODEL,
        s.UNIQUE_ID,
        F.col(ORIGIN).alias(s.CUTOFF),
        F.posexplode(F.arrays_zip(AHEAD, PATH, *BOUNDS)).alias("before", "step"),
    )
    return steps.select(
        F.lit(run_id).alias(s.RUN_ID),
        s.MODEL,
        s.UNIQUE_ID,
        s.CUTOFF,
        F.col(f"step.{AHEAD}").alias(s.DS),
        (F.col("before") + 1).cast("int").alias(s.H),
        F.col(f"step.{PATH}").alias(s.Y_HAT),
        *(F.col(f"step.{bound}").alias(bound) for bound in BOUNDS),
    )
