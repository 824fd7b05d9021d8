"""What every rank does: train one model per cutoff, oldest first, in one launch.

Each backtest cutoff is trained from scratch on what it may see. The production model starts from the newest of them and
is tuned on everything up to the end of the data for a few epochs; it has seen the evaluated period, so it is never
evaluated. What is finished is not done again: a restarted run goes on from the last checkpoint of the cutoff it was at.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlmine_spark.config import TrainingConfig
from dlmine_spark.errors import DlmineError, EnvironmentProblem, TrainingError
from dlmine_spark.frequency import Moment, from_text
from dlmine_spark.training.checkpoints import (
    CheckpointStore,
    Manifest,
    normalised,
    pack_state,
    save_model,
    unpack_state,
    write_bytes,
)
from dlmine_spark.training.comm import Comm, RankLost, broadcast_bytes, broadcast_flag, require_same
from dlmine_spark.training.loop import EpochLog, TrainState, fit
from dlmine_spark.training.model import Forecaster, ModelShape
from dlmine_spark.training.predict import (
    FORECAST_FILE,
    MODEL_FILE,
    cutoff_folder,
    describe,
    load_trained,
    predict_panel,
    warn_of_skipped,
    write_forecasts,
)
from dlmine_spark.training.shards import PanelArrays, PanelSource, read_panel
from dlmine_spark.training.windows import WindowBatches, WindowShape, plan_origins, seasonal_lags

log = logging.getLogger(__name__)

RESULT_FILE = "result.json"
FAILURE_PATTERN = "failure-rank-*.json"
"""Names of the notes that ranks leave of the error they ended with."""
FINE_TUNING_RATE = 0.3
"""Peak learning rate of the production model, as a share of the first training's."""


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """Everything ranks need to know; plain values, so that it travels to any process.

    Attributes:
        source: the training panel.
        backtest: cutoffs to train and evaluate at, oldest first.
        final: cutoff of the production model.
        horizon: steps forecast.
        season_length: steps of the main season.
        year_length: steps of a year.
        training: settings.
        folder: of this run's models, reachable by the driver and by rank 0.
    """

    source: PanelSource
    backtest: tuple[Moment, ...]
    final: Moment
    horizon: int
    season_length: int
    year_length: int
    training: TrainingConfig
    folder: Path

    @property
    def window(self) -> WindowShape:
        """What a training window spans."""
        return WindowShape(self.training.history, self.horizon, seasonal_lags(self.season_length, self.year_length))

    @property
    def cutoffs(self) -> tuple[Moment, ...]:
        """Every cutoff in the order of training."""
        return (*self.backtest, self.final)


@dataclass(frozen=True, slots=True)
class CutoffResult:
    """What became of one cutoff.

    Attributes:
        cutoff: the last date seen.
        epochs: done.
        best_epoch: whose weights are kept.
        validation_wape: of that epoch; None without validation windows.
        samples_per_second: training windows, all ranks together, mean of the epochs.
        seconds: reading, training, predicting.
        series: forecast.
        skipped: series without enough known values.
        windows: origins to train on.
        history: the loss curve.
    """

    cutoff: Moment
    epochs: int
    best_epoch: int
    validation_wape: float | None
    samples_per_second: float
    seconds: float
    series: int
    skipped: int
    windows: int
    history: tuple[EpochLog, ...]

    def to_json(self) -> str:
        """As written to ``result.json``."""
        return json.dumps(asdict(self), default=str, indent=1)

    @classmethod
    def from_json(cls, text: str) -> CutoffResult:
        """As read from ``result.json``."""
        values = json.loads(text)
        return cls(
            **{
                **values,
                "cutoff": from_text(str(values["cutoff"])),
                "history": tuple(EpochLog(**entry) for entry in values["history"]),
            }
        )


@dataclass(frozen=True, slots=True)
class RunResult:
    """One launch: a result per cutoff, and who computed it."""

    cutoffs: tuple[CutoffResult, ...]
    backend: str
    workers: int
    seconds: float


def train_cutoffs(request: LaunchRequest, comm: Comm) -> None:
    """Train every cutoff that is not finished yet; rank 0 leaves models, forecasts and results in the folders.

    Raises:
        DlmineError: on every rank, whichever rank met the problem first.
    """
    for cutoff in request.cutoffs:
        folder = cutoff_folder(request.folder, cutoff)
        if broadcast_flag(comm, comm.rank == 0 and (folder / RESULT_FILE).exists()):
            if comm.rank == 0:
                log.info("cutoff %s is trained already", cutoff)
            continue
        _train_cutoff(request, cutoff, folder, comm)


def _train_cutoff(request: LaunchRequest, cutoff: Moment, folder: Path, comm: Comm) -> None:
    start = time.perf_counter()
    arrays = read_panel(request.source, cutoff, request.horizon, request.training.mined)
    require_same(comm, [arrays.rows, arrays.checksum()], f"the training panel of cutoff {cutoff}")
    model, config = _new_model(request, cutoff, arrays)
    origins = plan_origins(arrays, request.window, config.validation_origins)
    if comm.rank == 0:
        _tell_plan(cutoff, arrays, len(origins.train), len(origins.validation), origins.note)
        warn_of_skipped(origins.skipped, cutoff)
    manifest = _manifest(request, cutoff, config, model.shape, arrays)
    store = CheckpointStore(folder / "checkpoints", config.keep_checkpoints)
    batches = WindowBatches(
        arrays, request.window, origins, config.batch_size, config.samples_per_epoch, config.seed, comm
    )
    state = _agreed_start(model, store, manifest, comm)
    state = fit(model, batches, config, comm, state, on_epoch=_saving(store, manifest, comm))

    def finish() -> None:
        forecasts = predict_panel(model, arrays, origins.predict, request.window)
        write_forecasts(forecasts, folder / FORECAST_FILE, cutoff)
        save_model(folder / MODEL_FILE, state.best_weights, manifest)
        rates = [entry.samples_per_second for entry in state.history]
        result = CutoffResult(
            cutoff=cutoff,
            epochs=state.epoch,
            best_epoch=state.best_epoch,
            validation_wape=next(
                (entry.validation_wape for entry in state.history if entry.epoch == state.best_epoch), None
            ),
            samples_per_second=float(np.mean(rates)),
            seconds=time.perf_counter() - start,
            series=len(origins.predict),
            skipped=len(origins.skipped),
            windows=len(origins.train),
            history=state.history,
        )
        # Written last: a folder with a result is finished.
        write_bytes(folder / RESULT_FILE, result.to_json().encode())

    _on_rank_0(comm, finish)


def _tell_plan(cutoff: Moment, arrays: PanelArrays, train: int, validation: int, note: str) -> None:
    log.info(
        "cutoff %s: %d series, %s rows, %d covariates; %s windows to train on, %s to validate on",
        cutoff,
        len(arrays.ids),
        f"{arrays.rows:,}",
        len(arrays.features.all),
        f"{train:,}",
        f"{validation:,}",
    )
    if note:
        log.warning("cutoff %s: %s", cutoff, note)


def _new_model(request: LaunchRequest, cutoff: Moment, arrays: PanelArrays) -> tuple[Forecaster, TrainingConfig]:
    """The network to start from, and the settings to train it with."""
    shape = _model_shape(request, arrays)
    if cutoff != request.final or not request.backtest:
        return _fresh(shape, request.training.seed), request.training
    base = load_trained(cutoff_folder(request.folder, request.backtest[-1]))
    if base.features != arrays.features or base.network.shape.log_scale != shape.log_scale:
        log.warning("cutoff %s: covariates or sign of the values changed, the final model starts from scratch", cutoff)
        return _fresh(shape, request.training.seed), request.training.model_copy(update={"validation_origins": 0})
    # What was learned is relative to the scaling it was learned with.
    model = _fresh(replace(base.network.shape, cardinalities=shape.cardinalities), request.training.seed)
    before = read_panel(request.source, request.backtest[-1], request.horizon, request.training.mined)
    _transfer(base.network, before, model, arrays)
    tuning = {
        "epochs": request.training.final_epochs,
        "learning_rate": FINE_TUNING_RATE * request.training.learning_rate,
        "validation_origins": 0,
    }
    return model, request.training.model_copy(update=tuning)


def _fresh(shape: ModelShape, seed: int) -> Forecaster:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Forecaster(shape)


def _transfer(old: Forecaster, old_arrays: PanelArrays, new: Forecaster, new_arrays: PanelArrays) -> None:
    """Copy weights; embeddings follow the series whose code they were, since codes are given out per cutoff."""
    weights = dict(old.state_dict())
    _, in_old, in_new = np.intersect1d(old_arrays.ids, new_arrays.ids, return_indices=True)
    for column in range(len(new.embeddings)):
        name = f"embeddings.{column}.weight"
        moved = new.state_dict()[name].clone()
        moved[new_arrays.category[in_new, column]] = weights[name][old_arrays.category[in_old, column]]
        moved[0] = 0.0
        weights[name] = moved
    new.load_state_dict(weights)


def _model_shape(request: LaunchRequest, arrays: PanelArrays) -> ModelShape:
    """Sizes and scaling, from the panel up to the cutoff."""
    config, features = request.training, arrays.features
    known = arrays.mask > 0
    log_scale = bool((arrays.y[known] >= 0).all())
    values = np.log1p(arrays.y[known].astype(np.float64)) if log_scale else arrays.y[known].astype(np.float64)
    series = np.repeat(np.arange(len(arrays.ids)), np.diff(arrays.starts))[known]
    counts = np.bincount(series, minlength=len(arrays.ids))
    levels = np.bincount(series, values, minlength=len(arrays.ids)) / np.maximum(counts, 1)
    deviation = float(np.sqrt(np.mean((values - levels[series]) ** 2))) if len(values) else 0.0
    levels = levels[counts > 0]
    location_spread = float(levels.std()) if len(levels) else 0.0
    return ModelShape(
        past=2 + len(features.known_future) + len(features.past_only),
        future=len(features.known_future),
        lags=len(request.window.lags),
        static=len(features.static),
        cardinalities=tuple(int(code) + 1 for code in arrays.category.max(axis=0, initial=0)),
        horizon=request.horizon,
        hidden=config.hidden,
        layers=config.layers,
        dropout=config.dropout,
        embedding=config.embedding,
        log_scale=log_scale,
        location=float(levels.mean()) if len(levels) else 0.0,
        # One series, or constant ones, vary by nothing: any scale will do.
        location_spread=location_spread if location_spread > 1e-6 else 1.0,
        spread=deviation if deviation > 1e-6 else 1.0,
    )


def _manifest(
    request: LaunchRequest, cutoff: Moment, config: TrainingConfig, shape: ModelShape, arrays: PanelArrays
) -> dict[str, Any]:
    """What the weights belong to; a checkpoint with another manifest is not continued."""
    return normalised(
        {
            **describe(shape, arrays.features, request.window),
            "cutoff": str(cutoff),
            "training": config.model_dump(mode="json", exclude=set(config.execution)),
            "panel": {
                "location": request.source.location,
                "version": request.source.version,
                "rows": arrays.rows,
                "checksum": arrays.checksum(),
            },
        }
    )


def _agreed_start(model: Forecaster, store: CheckpointStore, manifest: Manifest, comm: Comm) -> TrainState:
    """The state of the newest checkpoint, or the untrained network's, as rank 0 has it, on every rank."""
    payload = None
    if comm.rank == 0:
        state = store.newest(manifest)
        if state is not None:
            log.info("going on from the checkpoint of epoch %d", state.epoch)
        payload = pack_state(state or TrainState.start(model), manifest)
    agreed = broadcast_bytes(comm, payload)
    if agreed is None:
        raise TrainingError("rank 0 sent no state to start from")
    return unpack_state(agreed, manifest, "state sent by rank 0")


def _saving(store: CheckpointStore, manifest: Manifest, comm: Comm) -> Callable[[TrainState], None]:
    """Save a checkpoint at rank 0 after each epoch."""

    def save(state: TrainState) -> None:
        _on_rank_0(comm, lambda: store.save(state, manifest))

    return save


def _on_rank_0(comm: Comm, action: Callable[[], object]) -> None:
    """Do something at rank 0 only; if it fails there, every rank stops instead of waiting for rank 0."""
    problem: Exception | None = None
    if comm.rank == 0:
        try:
            action()
        except (OSError, DlmineError) as error:
            problem = error
    if broadcast_flag(comm, problem is not None):
        if isinstance(problem, OSError):
            raise EnvironmentProblem(
                f"{problem.filename or 'the models folder'}: cannot be written: {problem.strerror or problem}; "
                "the last checkpoint is whole, the next run goes on from it"
            ) from problem
        raise problem or TrainingError("rank 0 failed")


def read_results(request: LaunchRequest) -> tuple[CutoffResult, ...]:
    """The results rank 0 left in the folders.

    Raises:
        TrainingError: one is missing: the ranks wrote somewhere this process does not see.
    """
    results = []
    for cutoff in request.cutoffs:
        path = cutoff_folder(request.folder, cutoff) / RESULT_FILE
        try:
            results.append(CutoffResult.from_json(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise TrainingError(
                f"{path}: rank 0 left no result here; the models folder must be on storage that all machines share"
            ) from error
    return tuple(results)


def failure_file(folder: Path, rank: int) -> Path:
    """Where a rank notes the error it ended with."""
    return folder / FAILURE_PATTERN.replace("*", str(rank))


def run_rank(request: LaunchRequest, comm: Comm, threads: int) -> None:
    """The whole life of one rank: settings of its process, training, and a note of the error it ended with."""
    torch.set_num_threads(threads)
    _note_termination()
    try:
        train_cutoffs(request, comm)
    except Exception as error:
        note = {
            "rank": comm.rank,
            "kind": type(error).__name__,
            "ours": isinstance(error, DlmineError),
            "exit_code": getattr(error, "exit_code", 1),
            "message": str(error),
            "trace": traceback.format_exc(),
            "at": time.time(),
        }
        request.folder.mkdir(parents=True, exist_ok=True)
        failure_file(request.folder, comm.rank).write_text(json.dumps(note), encoding="utf-8")
        raise


def _note_termination() -> None:
    """Let a rank that its launcher ends, because another one is gone, say so instead of vanishing like the culprit."""

    def stop(number: int, frame: object) -> None:
        raise RankLost("ended by its launcher")

    # Signals reach the main thread only; elsewhere the launcher's own words have to do.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
