"""Cold start: forecasts of series without history, which have attributes only, and how well that works.

Everything is derived from forecasts that are there; nothing is trained. Spark sums the shapes by segment, fold and
step; what the driver holds is a row of attributes per series, of at most so many donors.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.arima.paths import ARIMA
from dlmine_spark.errors import TableContractError
from dlmine_spark.evaluation.cold_start import (
    COLD_START,
    COUNT,
    FEWEST_DONORS,
    FOLD,
    LEVEL,
    NO_SEGMENT,
    OVERALL_MEAN,
    SEGMENT,
    SHAPE,
    Floats,
    attribute_matrix,
    fold_of,
    forecasts_of,
    left_out,
    placed,
    shapes_without,
    width_ratios,
    with_bounds,
)
from dlmine_spark.evaluation.combine import BLEND
from dlmine_spark.evaluation.compare import scored_actuals
from dlmine_spark.evaluation.metrics import SCALE, SQUARED_SCALE, SUMS, error_terms, measures
from dlmine_spark.frequency import Moment, sql_literal
from dlmine_spark.fusion.encoding import dates_as_days
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.calibration import segments_as_of
from dlmine_spark.pipelines.common import as_stages
from dlmine_spark.pipelines.forecast import newest_cutoffs
from dlmine_spark.report.text import plural

log = logging.getLogger(__name__)

PREFERRED = (BLEND, "lstm", ARIMA)
"""Whose forecasts of the donors are taken apart: the first of these that there are."""
MOST_DONORS = 5_000
"""Chosen by the hash of their ids where there are more: further ones tell little more of attributes."""
_SCORES = ("wape", "coverage_80", "coverage_95")


@dataclass(frozen=True, slots=True)
class Donors:
    """Series with a forecast from one cutoff, taken apart.

    Attributes:
        table: one row per donor: ``unique_id``, ``level``, ``segment``, ``fold``.
        attributes: donors x features, in its order.
        new: the same features of series without a forecast.
        new_ids: their ids.
        shapes: sums by segment, fold and step.
        dates: the date of each step, of most donors.
    """

    table: pd.DataFrame
    attributes: Floats
    new: Floats
    new_ids: list[str]
    shapes: pd.DataFrame
    dates: pd.Series


def run(lakehouse: Lakehouse) -> tuple[str, str]:
    """Write ``gold.cold_start``, and ``gold.cold_start_scores`` from the newest backtest cutoff.

    Args:
        lakehouse: the tables as the last run of forecast saw and left them.

    Returns:
        One line on the new series, and one on how left-out series fared.

    Raises:
        TableContractError: there are no attributes, or too few series that have forecasts and attributes.
    """
    if not lakehouse.exists(s.STATICS.name):
        raise TableContractError(
            "silver.statics: is not there, and a series without history is known by its attributes only: declare a "
            "source of kind statics that has the new series, too"
        )
    forecasts = as_stages(lakehouse.read(s.FORECASTS.name))
    model = _model_of(forecasts)
    forecasts = forecasts.where(F.col(s.MODEL) == model)
    final, backtest = newest_cutoffs(lakehouse)
    scores, ratios = _scores(lakehouse, _donors(lakehouse, forecasts, backtest), backtest)
    donors = _donors(lakehouse, forecasts, final)
    made = _of_new_series(donors, ratios)
    _write(lakehouse, s.COLD_START, made, final)
    _write(lakehouse, s.COLD_START_SCORES, scores, backtest)
    return _in_words(made, scores, len(donors.table), model)


def _model_of(forecasts: DataFrame) -> str:
    there = {row[s.MODEL] for row in forecasts.select(s.MODEL).distinct().collect()}
    return next((model for model in PREFERRED if model in there), sorted(there)[0])


# Donors


def _donors(lakehouse: Lakehouse, forecasts: DataFrame, cutoff: Moment) -> Donors:
    of_cutoff = forecasts.where((F.col(s.CUTOFF) == F.expr(sql_literal(cutoff))) & F.col(s.Y_HAT).isNotNull())
    levels = of_cutoff.groupBy(s.UNIQUE_ID).agg(F.avg(s.Y_HAT).alias(LEVEL)).where(F.col(LEVEL) > 0)
    segments = segments_as_of(lakehouse.read(s.TRAINING_PANEL.name), cutoff)
    statics = lakehouse.read(s.STATICS.name)
    names = [name for name in statics.columns if name != s.UNIQUE_ID and not name.endswith(s.IMPUTED_SUFFIX)]
    known = dates_as_days(statics, names).select(s.UNIQUE_ID, *(f"`{name}`" for name in names))
    with_levels = known.join(levels, on=s.UNIQUE_ID, how="left").join(segments, on=s.UNIQUE_ID, how="left")
    has_forecast = of_cutoff.select(s.UNIQUE_ID).distinct().withColumn("__old", F.lit(True))
    marked = with_levels.join(has_forecast, on=s.UNIQUE_ID, how="left")
    old = marked.where(F.col(LEVEL).isNotNull()).orderBy(F.xxhash64(s.UNIQUE_ID), s.UNIQUE_ID).limit(MOST_DONORS)
    new = marked.where(F.col("__old").isNull())
    if lakehouse.exists(s.SET_ASIDE.name):
        # They have a history, though of other steps than the panel's.
        new = new.join(lakehouse.read(s.SET_ASIDE.name).select(s.UNIQUE_ID), on=s.UNIQUE_ID, how="left_anti")
    rows = old.unionByName(new).toPandas().sort_values(s.UNIQUE_ID, ignore_index=True)
    is_donor = rows[LEVEL].notna().to_numpy()
    if is_donor.sum() < FEWEST_DONORS:
        raise TableContractError(
            f"silver.statics: {plural(int(is_donor.sum()), 'series')} with attributes have a forecast from {cutoff}, "
            f"at least {FEWEST_DONORS} are needed to tell levels by attributes"
        )
    x = attribute_matrix(rows[names])
    table = rows.loc[is_donor, [s.UNIQUE_ID, LEVEL, SEGMENT]].reset_index(drop=True)
    table[SEGMENT] = table[SEGMENT].fillna(NO_SEGMENT).astype("int64")
    table[FOLD] = fold_of(table[s.UNIQUE_ID].tolist())
    shapes = _shapes(lakehouse, of_cutoff, table)
    dates = of_cutoff.groupBy(s.H).agg(F.mode(s.DS, deterministic=True).alias(s.DS)).toPandas()
    new_ids = rows.loc[~is_donor, s.UNIQUE_ID].tolist()
    return Donors(table, x[is_donor], x[~is_donor], new_ids, shapes, dates.set_index(s.H)[s.DS].sort_index())


def _shapes(lakehouse: Lakehouse, of_cutoff: DataFrame, donors: pd.DataFrame) -> pd.DataFrame:
    """Sums of forecasts over their level by segment, fold and step; as many rows as these have values."""
    of_donors = F.broadcast(lakehouse.spark.createDataFrame(donors))
    return (
        of_cutoff.join(of_donors, on=s.UNIQUE_ID, how="inner")
        .groupBy(SEGMENT, FOLD, s.H)
        .agg(F.sum(F.col(s.Y_HAT) / F.col(LEVEL)).alias(SHAPE), F.count(F.lit(1)).alias(COUNT))
        .toPandas()
    )


# How well it works


def _scores(lakehouse: Lakehouse, donors: Donors, cutoff: Moment) -> tuple[pd.DataFrame, dict[str, float]]:
    """Measures of left-out series by model, and the ratios that make intervals of new ones."""
    made = left_out(donors.table, donors.attributes, donors.shapes)
    dates = donors.dates.rename(s.DS).reset_index()
    ids = lakehouse.spark.createDataFrame(donors.table[[s.UNIQUE_ID]])
    first, last = sql_literal(donors.dates.min()), sql_literal(donors.dates.max())
    actuals = scored_actuals(lakehouse.read(s.PANEL.name)).where(F.col(s.DS).between(F.expr(first), F.expr(last)))
    values = actuals.join(F.broadcast(ids), on=s.UNIQUE_ID, how="left_semi").toPandas()
    errors = made.merge(dates, on=s.H).merge(values, on=[s.UNIQUE_ID, s.DS])
    if errors.empty:
        raise TableContractError(f"silver.panel: no value after {cutoff} to compare left-out series with")
    errors = with_bounds(errors).assign(**{SCALE: np.nan, SQUARED_SCALE: np.nan})
    sums = error_terms(errors)[list(SUMS)].groupby(errors[s.MODEL]).sum()
    found = measures(sums)[list(_SCORES)].assign(series=errors.groupby(s.MODEL)[s.UNIQUE_ID].nunique())
    ratios = width_ratios(errors[errors[s.MODEL] == COLD_START])
    return found.rename_axis(s.MODEL).reset_index(), ratios


# New series


def _of_new_series(donors: Donors, ratios: dict[str, float]) -> pd.DataFrame:
    """One row per new series and step, with bounds."""
    new = placed(
        donors.attributes,
        donors.table[LEVEL].to_numpy(dtype=np.float64),
        donors.table[SEGMENT].to_numpy(dtype=np.int64),
        donors.new,
    )
    medians = forecasts_of(new, shapes_without(donors.shapes, None))
    steps = medians.shape[1]
    rows = pd.DataFrame(
        {
            s.UNIQUE_ID: np.repeat(np.array(donors.new_ids, dtype=object), steps),
            s.H: np.tile(np.arange(1, steps + 1), len(donors.new_ids)),
            s.Y_HAT: medians.ravel(),
            SEGMENT: np.repeat(new.segments, steps),
        }
    )
    rows[s.DS] = rows[s.H].map(donors.dates)
    return rows.assign(**{bound: rows[s.Y_HAT] * ratio for bound, ratio in ratios.items()})


def _write(lakehouse: Lakehouse, table: s.Table, rows: pd.DataFrame, cutoff: Moment) -> None:
    types = table.typed(dict(lakehouse.read(s.TRAINING_PANEL.name).dtypes)[s.CUTOFF])
    cells = rows[[name for name in types if name != s.CUTOFF]].astype(object)
    listed = cells.where(cells.notna(), None).to_dict("records")
    ddl = ", ".join(f"`{name}` {type_}" for name, type_ in types.items())
    filled = [tuple({s.CUTOFF: cutoff, **row}[name] for name in types) for row in listed]
    lakehouse.overwrite(table.name, lakehouse.spark.createDataFrame(filled, ddl))


def _in_words(made: pd.DataFrame, scores: pd.DataFrame, donors: int, model: str) -> tuple[str, str]:
    by_model = scores.set_index(s.MODEL).to_dict("index")
    ours, blind = by_model[COLD_START], by_model[OVERALL_MEAN]
    new = made[s.UNIQUE_ID].nunique()
    line = (
        f"new series: {new:,} without history forecast from {donors:,} with one, by their attributes and segments"
        if new
        else "new series: silver.statics has none without history"
    )
    percent = {name: f"{100 * ours[name]:.1f}" for name in _SCORES}
    left_out_series = plural(int(ours["series"]), "series")
    fared = (
        f"  {left_out_series} left out in turn: WAPE {percent['wape']} % (by the mean of the others, without "
        f"attributes, {100 * blind['wape']:.1f} %); intervals of 80 and 95 % hold {percent['coverage_80']} and "
        f"{percent['coverage_95']} %; donors' forecasts are those of {model}"
    )
    return line, fared
