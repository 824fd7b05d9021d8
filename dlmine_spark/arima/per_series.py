"""Fits and forecasts of all series as frames: one task handles one series after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.arima.fit import (
    AHEAD,
    BOUNDS,
    FIT_COLUMNS,
    FIT_CUTOFF,
    KNOWN,
    LOWER,
    ORIGIN,
    OWN_FIT_CUTOFF,
    OWN_ORIGIN,
    PART_NAMES,
    PARTS,
    PATH,
    REFITTED,
    SIGMA,
    UPPER,
    fit_series,
    predict_series,
    result_types,
)
from dlmine_spark.arima.packing import TASK
from dlmine_spark.arima.timeline import ForecastPlan
from dlmine_spark.config import ArimaConfig
from dlmine_spark.frequency import sql_literal

_KEY = (s.MODEL, s.UNIQUE_ID, s.CUTOFF, s.DS, s.H)
"""Of a forecast, within a run."""


def fit_all(series: DataFrame, config: ArimaConfig, plan: ForecastPlan, tasks: int) -> DataFrame:
    """Fit and forecast every series, one after the other in its task.

    Spark starts its Python workers with ``OMP_NUM_THREADS`` set to the cores of a task (one, unless
    ``spark.task.cpus`` says otherwise), so linear algebra does not compete for the cores of other tasks. Rows cross to
    Python in batches of many series: a group each, as of ``applyInPandas``, would cost more than a short series' fit.

    Args:
        series: one row per series and step, from the series' first date to ``horizon`` steps after the last cutoff,
            with the columns ``read_timeline`` wants and ``task``, a number below ``tasks`` that is the same in all
            rows of a series.
        config: limits of the search.
        plan: horizon and cutoffs.
        tasks: how many there are.

    Returns:
        ``result_types``: one row per series and origin.
    """

    def fit(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for rows in whole_series(frames):
            yield fit_series(rows.drop(columns=TASK), config, plan)

    types = result_types(plan.frequency.sql_type)
    ddl = ", ".join(f"`{name}` {type_}" for name, type_ in types.items())
    return series.repartitionById(tasks, TASK).sortWithinPartitions(s.UNIQUE_ID, s.DS).mapInPandas(fit, schema=ddl)


def predict_all(series: DataFrame, models: DataFrame, config: ArimaConfig, plan: ForecastPlan) -> DataFrame:
    """Forecast every series from the end of its data with its stored parameters, see ``predict_series``.

    Args:
        series: as for ``fit_all``, without ``task``.
        models: rows of ``gold.arima_models`` with orders, one per series that has any.
        config: limits of the search.
        plan: horizon and final cutoff.

    Returns:
        ``result_types`` and ``refitted``: one row per series.
    """

    def predict(rows: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
        return predict_series(rows, stored, config, plan)

    types = result_types(plan.frequency.sql_type) | {REFITTED: "string"}
    ddl = ", ".join(f"`{name}` {type_}" for name, type_ in types.items())
    return series.groupBy(s.UNIQUE_ID).cogroup(models.groupBy(s.UNIQUE_ID)).applyInPandas(predict, schema=ddl)


def whole_series(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """All rows of one series at a time, of frames that are sorted by series and may end within one."""
    held: list[pd.DataFrame] = []
    for frame in frames:
        if frame.empty:
            continue
        ids = frame[s.UNIQUE_ID].to_numpy()
        bounds = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1), len(ids)]
        for start, end in pairwise(bounds):
            if held and held[-1][s.UNIQUE_ID].iat[0] != ids[start]:
                yield pd.concat(held, ignore_index=True)
                held = []
            held.append(frame.iloc[start:end])
    if held:
        yield pd.concat(held, ignore_index=True)


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
    steps = _steps_ahead(results, plan, PATH, *BOUNDS)
    return steps.select(
        F.lit(run_id).alias(s.RUN_ID),
        *_KEY,
        F.col(f"step.{PATH}").alias(s.Y_HAT),
        *(F.col(f"step.{bound}").alias(bound) for bound in BOUNDS),
    )


def intervals_of(results: DataFrame, plan: ForecastPlan, levels: Sequence[float]) -> DataFrame:
    """The rows of ``gold.arima_intervals``: one per series, cutoff, step ahead and further level."""
    of_level = F.explode(F.arrays_zip(F.array(*map(F.lit, levels)).alias("level"), LOWER, UPPER)).alias("of_level")
    by_level = results.select(s.MODEL, s.UNIQUE_ID, ORIGIN, AHEAD, PATH, of_level).select("*", "of_level.*")
    steps = _steps_ahead(by_level, plan, LOWER, UPPER, also=("level",))
    return steps.select(*_KEY, "level", F.col(f"step.{LOWER}").alias("lo"), F.col(f"step.{UPPER}").alias("hi"))


def _steps_ahead(results: DataFrame, plan: ForecastPlan, *paths: str, also: Sequence[str] = ()) -> DataFrame:
    """A row per step ahead of the cutoffs: ``step`` holds its moment and what each array of paths has for it."""
    is_cutoff = F.col(ORIGIN).isin([F.expr(sql_literal(cutoff)) for cutoff in plan.cutoffs])
    steps = F.posexplode(F.arrays_zip(AHEAD, *paths)).alias("before", "step")
    made = results.where(F.col(PATH).isNotNull() & is_cutoff).withColumnRenamed(ORIGIN, s.CUTOFF)
    return made.select(s.MODEL, s.UNIQUE_ID, s.CUTOFF, *also, steps).select(
        "*", F.col(f"step.{AHEAD}").alias(s.DS), (F.col("before") + 1).cast("int").alias(s.H)
    )


def fitted_of(results: DataFrame) -> DataFrame:
    """The rows of ``gold.arima_fitted``: one per series and known value."""
    steps = results.where(F.col(KNOWN).isNotNull()).select(
        s.UNIQUE_ID, F.col(FIT_CUTOFF).alias(s.CUTOFF), F.explode(F.arrays_zip(KNOWN, PARTS)).alias("step")
    )
    no_number = F.lit(float("nan"))
    return steps.select(
        s.UNIQUE_ID,
        s.CUTOFF,
        F.col(f"step.{KNOWN}").alias(s.DS),
        *(F.nullif(F.col(f"step.{PARTS}")[at], no_number).alias(name) for at, name in enumerate(PART_NAMES)),
    )
