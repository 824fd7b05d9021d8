"""Boosting: LightGBM beside the network, where ``lightgbm.enabled`` asks for it; part of the stage blend.

Trees and forecasts of each cutoff are left beside the networks, under the id of the run, so that a killed run fits
no finished cutoff twice and a scenario can ask them again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import TrainingError
from dlmine_spark.frequency import Moment
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.calibration import factors_of, recalibrated, segments_as_of
from dlmine_spark.pipelines.train import MODELS, launch_request, panel_source, read_forecasts, validation_forecasts
from dlmine_spark.training.boosting import TREES_FILE, boost_cutoffs, predict_boosted
from dlmine_spark.training.checkpoints import write_bytes
from dlmine_spark.training.predict import FORECAST_FILE, VALIDATION_FILE, cutoff_folder, write_forecasts

LIGHTGBM = "lightgbm"
LATEST_FILE = "LATEST_LIGHTGBM"
"""Names the run folder whose trees are in use."""


def boost(config: Config, lakehouse: Lakehouse) -> tuple[DataFrame, DataFrame]:
    """Fit trees at every cutoff of ``gold.training_panel``, in this process.

    Returns:
        Forecasts of all cutoffs, in the columns of ``gold.forecasts`` but the run; and those of the last horizon before
        each backtest cutoff, as in ``gold.validation_forecasts``.

    Raises:
        TrainingError: the panel cannot be read or has not enough history.
    """
    training_panel = lakehouse.read(s.TRAINING_PANEL.name)
    request = launch_request(config, lakehouse, training_panel)
    request = replace(request, folder=request.folder / LIGHTGBM)
    boost_cutoffs(request, config.lightgbm)
    of_cutoffs = [
        _with_widths(config, lakehouse, training_panel, request.folder, cutoff, min(cutoff, request.backtest[-1]))
        for cutoff in request.cutoffs
    ]
    pointer = lakehouse.folder(MODELS) / LATEST_FILE
    write_bytes(pointer, lakehouse.run_id.encode())
    for file in (pointer, *(cutoff_folder(request.folder, cutoff) / TREES_FILE for cutoff in request.cutoffs)):
        lakehouse.keep(file)
    forecasts = reduce(DataFrame.unionByName, of_cutoffs)
    return forecasts, validation_forecasts(lakehouse, request.folder, request.backtest)


def boost_once_more(
    config: Config, lakehouse: Lakehouse, table: str, cutoff: Moment, newest: Moment, file: str
) -> DataFrame:
    """Forecasts by the trees there are of a panel that is not the one they were fitted on.

    Args:
        config: which mined signals they read.
        lakehouse: the tables.
        table: of the shape of ``gold.training_panel``.
        cutoff: the end of the data.
        newest: the newest backtest cutoff, which told the widths of intervals.
        file: to leave them in, in the cutoff's folder.

    Raises:
        TrainingError: there are no trees, or the panel has other covariates.
    """
    folder = boosted_models(lakehouse)
    source, mined = panel_source(config, lakehouse, table), config.training.mined
    made = predict_boosted(cutoff_folder(folder, cutoff), source, cutoff, mined, config.lightgbm.threads)
    write_forecasts(made, cutoff_folder(folder, cutoff) / file, cutoff)
    return _with_widths(config, lakehouse, lakehouse.read(s.TRAINING_PANEL.name), folder, cutoff, newest, file)


def boosted_models(lakehouse: Lakehouse) -> Path:
    """Folder of the newest trees.

    Raises:
        TrainingError: there are none.
    """
    models = lakehouse.folder(MODELS)
    try:
        return models / (models / LATEST_FILE).read_text(encoding="utf-8").strip() / LIGHTGBM
    except OSError as error:
        raise TrainingError(f"{models}: LightGBM has no trees yet; run the stage blend ('dlmine backtest')") from error


def _with_widths(
    config: Config,
    lakehouse: Lakehouse,
    training_panel: DataFrame,
    folder: Path,
    cutoff: Moment,
    told_at: Moment,
    file: str = FORECAST_FILE,
) -> DataFrame:
    """Forecasts of a cutoff, with intervals as wide as was right before a backtest cutoff."""
    segments = segments_as_of(training_panel, told_at)
    validation = cutoff_folder(folder, told_at) / VALIDATION_FILE
    factors = factors_of(lakehouse.spark, validation, segments, config.evaluation.horizon)
    forecasts = read_forecasts(lakehouse, folder, (cutoff,), file, LIGHTGBM)
    return recalibrated(forecasts, factors, segments).drop(s.RUN_ID)
