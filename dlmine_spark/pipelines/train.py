"""Train: the global LSTM at every cutoff, and its forecasts at those that can be evaluated."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError, TrainingError
from dlmine_spark.frequency import Frequency, Moment, from_alias, from_text, sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.alignment import to_own_clocks
from dlmine_spark.pipelines.calibration import recalibrated, segments_as_of, write_factors
from dlmine_spark.pipelines.steps import panel_frequency
from dlmine_spark.redaction import without_credentials
from dlmine_spark.runs import NotApplicable, StageReport
from dlmine_spark.training.checkpoints import write_bytes
from dlmine_spark.training.job import CutoffResult
from dlmine_spark.training.launch import LaunchRequest, RunResult, launch
from dlmine_spark.training.predict import (
    FORECAST_FILE,
    MODEL_FILE,
    ORIGIN,
    REHEARSED_FILE,
    VALIDATED_FILE,
    VALIDATION_FILE,
    cutoff_folder,
    member_folders,
)
from dlmine_spark.training.shards import PanelSource, location_of

log = logging.getLogger(__name__)

MODEL_NAME = "lstm"
MODELS = "models"
USUAL = "cpu in float32"
"""What ``training.devices.computed_on`` says of most trainings; nobody has to be told."""
LATEST_FILE = "LATEST"
"""Names the run folder whose models are in use."""


@dataclass(frozen=True, kw_only=True)
class TrainReport(StageReport):
    """What was trained: how often, how well, how fast, by whom."""

    cutoffs: tuple[Moment, ...]
    epochs: int
    best_validation_wape: float | None
    samples_per_second: float
    backend: str
    workers: int
    seconds: float
    series: int
    skipped: int
    folder: Path


def run(config: Config, lakehouse: Lakehouse) -> TrainReport | NotApplicable:
    """Train at each cutoff of ``gold.training_panel`` and write the backtest forecasts to ``gold.forecasts``."""
    if not lakehouse.exists(s.TRAINING_PANEL.name):
        return NotApplicable("no training panel: there are no series to forecast")
    training_panel = lakehouse.read(s.TRAINING_PANEL.name)
    request = launch_request(config, lakehouse, training_panel)

    rows = training_panel.count()
    _describe_run(config, lakehouse, request, rows, training_panel.columns)
    result = launch(request, lakehouse.spark)
    _write_metrics(request, result)

    write_factors(lakehouse, request, training_panel)
    validation = validation_forecasts(lakehouse, request.folder, request.backtest)
    lakehouse.overwrite(s.VALIDATION_FORECASTS.name, validation)
    forecasts = _backtest_forecasts(lakehouse, request, training_panel)
    write_forecasts(lakehouse, forecasts, f"cutoff < {sql_literal(request.final)}")
    write_bytes(lakehouse.folder(MODELS) / LATEST_FILE, lakehouse.run_id.encode())
    for file in (lakehouse.folder(MODELS) / LATEST_FILE, *_model_files(request)):
        lakehouse.keep(file)
    return _report(request, result, rows, forecasts.count())


def _model_files(request: LaunchRequest) -> list[Path]:
    folders = [cutoff_folder(request.folder, cutoff) for cutoff in request.cutoffs]
    places = [place for folder in folders for place in member_folders(folder, request.training.members)]
    files = [place / name for place in places for name in (MODEL_FILE, VALIDATED_FILE, REHEARSED_FILE)]
    return [file for file in files if file.name == MODEL_FILE or file.exists()]


def _backtest_forecasts(lakehouse: Lakehouse, request: LaunchRequest, training_panel: DataFrame) -> DataFrame:
    """Forecasts at the cutoffs that can be evaluated, each with the intervals that were right before it."""
    factors = lakehouse.read(s.CALIBRATION.name)
    of_cutoffs = [
        recalibrated(
            read_forecasts(lakehouse, request.folder, (cutoff,)),
            factors.where(F.col(s.CUTOFF) == F.expr(sql_literal(cutoff))),
            segments_as_of(training_panel, cutoff),
        )
        for cutoff in request.backtest
    ]
    return reduce(lambda upper, lower: upper.unionByName(lower), of_cutoffs)


def validation_forecasts(lakehouse: Lakehouse, folder: Path, backtest: Sequence[Moment]) -> DataFrame:
    """The rows of ``gold.validation_forecasts`` by the models in a folder, moments on the series' own clocks."""
    of_cutoffs = [
        lakehouse.spark.read.parquet(_path(cutoff_folder(folder, cutoff) / VALIDATION_FILE)).withColumn(
            s.CUTOFF, F.expr(sql_literal(cutoff))
        )
        for cutoff in backtest
    ]
    rows = to_own_clocks(lakehouse, reduce(lambda upper, lower: upper.unionByName(lower), of_cutoffs))
    origins = rows.withColumns({ORIGIN: F.col(s.DS), s.DS: F.col(ORIGIN)})
    return to_own_clocks(lakehouse, origins).withColumns({ORIGIN: F.col(s.DS), s.DS: F.col(ORIGIN)})


def launch_request(config: Config, lakehouse: Lakehouse, training_panel: DataFrame) -> LaunchRequest:
    """What the ranks are asked to do: where the panel lies, at which cutoffs, with which settings."""
    cutoffs = sorted(row[s.CUTOFF] for row in training_panel.select(s.CUTOFF).distinct().collect())
    if len(cutoffs) < 2:
        raise TrainingError(
            f"gold.training_panel has {len(cutoffs)} cutoffs, expected those of the backtest and the end of the data; "
            "rerun the stage fuse"
        )
    refuse_selected_later(config, cutoffs[0])
    frequency = frequency_of(config, lakehouse)
    return LaunchRequest(
        source=panel_source(config, lakehouse),
        backtest=tuple(cutoffs[:-1]),
        final=cutoffs[-1],
        horizon=config.evaluation.horizon,
        season_length=frequency.season_length,
        year_length=frequency.year_length,
        training=config.training,
        folder=(lakehouse.folder(MODELS) / lakehouse.run_id).absolute(),
    )


def refuse_selected_later(config: Config, first: Moment) -> None:
    """Refuse settings that were, or are to be, selected on what a backtest cutoff's forecasts are tested on.

    Args:
        config: ``tuning.until`` says how far the selection windows reach.
        first: the first backtest cutoff, with the first test window after it.

    Raises:
        ConfigError: they reach further than the cutoff.
    """
    if config.tuning.until is None:
        return
    until = from_text(str(config.tuning.until))
    if type(until) is not type(first):
        raise ConfigError(f"tuning.until is {until}, but moments of this panel are like {first}")
    if until > first:
        raise ConfigError(
            f"tuning.until is {until}, after the first backtest cutoff {first}: selection windows would overlap the "
            "test windows, and the backtest would praise settings for what they were chosen by; set evaluation.cutoffs "
            "to fewer, or tune again with these"
        )


def panel_source(config: Config, lakehouse: Lakehouse, table: str = s.TRAINING_PANEL.name) -> PanelSource:
    """Where ranks, which have no Spark, find the training panel of this run, or another table of its shape."""
    address = lakehouse.address(table)
    version = lakehouse.pinned_version(table)
    if lakehouse.config.catalog is not None:
        # A catalog knows names; the files lie where it put them.
        quoted = ".".join(f"`{part}`" for part in address.split("."))
        address = lakehouse.spark.sql(f"DESCRIBE DETAIL {quoted}").collect()[0]["location"]
    return PanelSource(
        location_of(address.removeprefix("file:")),
        version,
        in_memory_mb=config.training.in_memory_mb,
        scratch=config.training.scratch,
    )


def trained_models(lakehouse: Lakehouse) -> Path:
    """Folder of the newest finished training run.

    Raises:
        TrainingError: nothing has been trained yet.
    """
    models = lakehouse.folder(MODELS)
    try:
        return models / (models / LATEST_FILE).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise TrainingError(f"{models}: there is no trained model yet; run the stage train ('dlmine train')") from error


def forecasts_in(lakehouse: Lakehouse, folder: Path, cutoffs: Sequence[Moment], file: str = FORECAST_FILE) -> DataFrame:
    """The forecasts that were left in the folders of some cutoffs, ``ds`` on the common clock."""
    return lakehouse.spark.read.parquet(*(_path(cutoff_folder(folder, cutoff) / file) for cutoff in cutoffs))


def _path(file: Path) -> str:
    """Not Path.as_uri(): Spark would take its %3D for part of the name."""
    return f"file://{file.absolute()}"


def read_forecasts(
    lakehouse: Lakehouse,
    folder: Path,
    cutoffs: Sequence[Moment],
    file: str = FORECAST_FILE,
    model: str = MODEL_NAME,
) -> DataFrame:
    """The forecasts of some cutoffs that a model left in its folder, as rows of ``gold.forecasts``."""
    return (
        to_own_clocks(lakehouse, forecasts_in(lakehouse, folder, cutoffs, file))
        .withColumn(s.RUN_ID, F.lit(lakehouse.run_id))
        .withColumn(s.MODEL, F.lit(model))
        .select(*s.FORECASTS.names)
    )


def write_forecasts(lakehouse: Lakehouse, forecasts: DataFrame, cutoffs: str) -> None:
    """Replace the network's forecasts at some cutoffs, given as a SQL condition."""
    lakehouse.overwrite(s.FORECASTS.name, forecasts, replace_where=f"{s.MODEL} = '{MODEL_NAME}' AND {cutoffs}")


def frequency_of(config: Config, lakehouse: Lakehouse) -> Frequency:
    """The step of the panel, without a look at it where the configuration tells."""
    declared = from_alias(config.cleaning.frequency)
    if declared is not None and declared.has_calendar:
        return declared
    return panel_frequency(config, lakehouse.read(s.PANEL.name))


def _describe_run(config: Config, lakehouse: Lakehouse, request: LaunchRequest, rows: int, columns: list[str]) -> None:
    """Write beside the models what they are made from."""
    manifest = {
        "run_id": lakehouse.run_id,
        "table": without_credentials(lakehouse.address(s.TRAINING_PANEL.name)),
        "version": request.source.version,
        "rows": rows,
        "columns": columns,
        "backtest": [str(cutoff) for cutoff in request.backtest],
        "final": str(request.final),
        "horizon": request.horizon,
    }
    # Nothing is read from it: a run that goes on has the configuration of its own command, credentials included.
    write_bytes(request.folder / "config.yaml", config.to_yaml().encode())
    write_bytes(request.folder / "manifest.json", json.dumps(manifest, indent=1).encode())


def _write_metrics(request: LaunchRequest, result: RunResult) -> None:
    """The loss curves and speeds, beside the models."""
    write_bytes(request.folder / "metrics.json", json.dumps(asdict(result), default=str, indent=1).encode())


def _validation_in_words(result: CutoffResult) -> str:
    if result.validation_wape is None:
        return "validation WAPE unknown"
    alone = [f"{member.validation_wape:.4f}" for member in result.members if member.validation_wape is not None]
    return f"validation WAPE {result.validation_wape:.4f}" + (f" (alone {', '.join(alone)})" if len(alone) > 1 else "")


def computed_in_words(computed: Sequence[str]) -> str:
    """What the networks were trained on, where it is not what everybody has; several where a run went on elsewhere."""
    if list(computed) in ([], [USUAL]):
        return ""
    return "; trained " + ", then ".join(f"on {way}" for way in computed)


def _report(request: LaunchRequest, result: RunResult, rows_in: int, rows_out: int) -> TrainReport:
    backtest = [one for one in result.cutoffs if one.cutoff != request.final] or list(result.cutoffs)
    newest = backtest[-1]
    epochs = sum(one.epochs for one in result.cutoffs)
    speed = sum(one.samples_per_second for one in backtest) / len(backtest)
    return TrainReport(
        rows_in=rows_in,
        rows_out=rows_out,
        cutoffs=request.cutoffs,
        epochs=epochs,
        best_validation_wape=newest.validation_wape,
        samples_per_second=speed,
        backend=result.backend,
        workers=result.workers,
        seconds=result.seconds,
        series=newest.series,
        skipped=newest.skipped,
        folder=request.folder,
        message=(
            f"{newest.series:,} series, {len(request.cutoffs)} cutoffs, {epochs} epochs, "
            f"{_validation_in_words(newest)}, {speed:,.0f} samples/s "
            f"({result.backend}, {result.workers} {'threads' if result.backend == 'local' else 'ranks'})"
            + (f"; {newest.skipped} series too short" if newest.skipped else "")
            + computed_in_words(result.computed)
        ),
    )
