"""Forecast: the steps after the end of the data, by the production model and by the blend of all."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import TrainingError
from dlmine_spark.frequency import Moment, sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.blend import blend_at
from dlmine_spark.pipelines.calibration import recalibrated, segments_as_of
from dlmine_spark.pipelines.train import forecasts_in, panel_source, read_forecasts, trained_models, write_forecasts
from dlmine_spark.runs import NotApplicable, StageReport
from dlmine_spark.training.predict import FORECAST_FILE, cutoff_folder, predict_cutoff
from dlmine_spark.training.predict import write_forecasts as write_file


@dataclass(frozen=True, kw_only=True)
class ForecastReport(StageReport):
    """What was forecast."""

    cutoff: Moment
    series: int


def run(config: Config, lakehouse: Lakehouse) -> ForecastReport | NotApplicable:
    """Forecast every series from the end of the data, in this process, and write ``gold.forecasts``."""
    if not lakehouse.exists(s.TRAINING_PANEL.name):
        return NotApplicable("no training panel: there are no series to forecast")
    models = trained_models(lakehouse)
    cutoff = final_cutoff(lakehouse)

    # Through a file, which Spark reads by itself: rows need not travel through the driver's Python.
    file = cutoff_folder(models, cutoff) / FORECAST_FILE
    write_file(predict_cutoff(cutoff_folder(models, cutoff), panel_source(config, lakehouse), cutoff), file, cutoff)
    forecasts = with_known_widths(lakehouse, read_forecasts(lakehouse, models, (cutoff,)))
    write_forecasts(lakehouse, forecasts, f"cutoff >= {sql_literal(cutoff)}")
    blend_at(lakehouse, cutoff)

    written = forecasts_in(lakehouse, models, (cutoff,)).agg(
        F.count("*").alias("rows"), F.countDistinct(s.UNIQUE_ID).alias("series"), F.min(s.DS), F.max(s.DS)
    )
    rows, series, first, last = written.collect()[0]
    return ForecastReport(
        rows_in=series,
        rows_out=rows,
        cutoff=cutoff,
        series=series,
        message=f"{series:,} series, {first} to {last}, {rows:,} forecasts with 80 % and 95 % intervals",
    )


def with_known_widths(lakehouse: Lakehouse, forecasts: DataFrame) -> DataFrame:
    """With intervals as wide as was right before the newest backtest cutoff: nothing was kept to tell it anew."""
    factors = lakehouse.read(s.CALIBRATION.name)
    newest = factors.agg(F.max(s.CUTOFF)).collect()[0][0]
    segments = segments_as_of(lakehouse.read(s.TRAINING_PANEL.name), newest)
    return recalibrated(forecasts, factors.where(F.col(s.CUTOFF) == F.expr(sql_literal(newest))), segments)


def final_cutoff(lakehouse: Lakehouse) -> Moment:
    """The last date that a value is known for: the newest cutoff of the training panel."""
    newest = lakehouse.read(s.TRAINING_PANEL.name).agg(F.max(s.CUTOFF).alias(s.CUTOFF)).first()
    if newest is None or newest[s.CUTOFF] is None:
        raise TrainingError("gold.training_panel has no rows; rerun the stage fuse")
    cutoff: Moment = newest[s.CUTOFF]
    return cutoff


def newest_cutoffs(lakehouse: Lakehouse) -> tuple[Moment, Moment]:
    """The last date that a value is known for, and the newest cutoff of the backtest."""
    rows = (
        lakehouse.read(s.TRAINING_PANEL.name).select(s.CUTOFF).distinct().orderBy(F.desc(s.CUTOFF)).limit(2).collect()
    )
    if len(rows) < 2:
        raise TrainingError("gold.training_panel has no cutoff of a backtest; rerun the stage fuse")
    final, backtest = (row[s.CUTOFF] for row in rows)
    return final, backtest
