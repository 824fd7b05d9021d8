"""One trial of a search for better settings: a network trained in rungs, judged on windows that it has not seen.

The panel is taken back by as many horizons as there are selection windows: what comes after is not hidden behind an
index, the values are gone from the arrays that the network is trained and stopped early on. So scaling, training and
early stopping know nothing of the selection windows.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dlmine_spark.config import TrainingConfig
from dlmine_spark.errors import TrainingError
from dlmine_spark.frequency import Moment
from dlmine_spark.training.checkpoints import CheckpointStore, Manifest, normalised, write_bytes
from dlmine_spark.training.comm import SingleProcess
from dlmine_spark.training.devices import resolved
from dlmine_spark.training.job import LaunchRequest
from dlmine_spark.training.loop import TrainState, fit, validate
from dlmine_spark.training.model import Forecaster
from dlmine_spark.training.networks import model_shape, new_network
from dlmine_spark.training.predict import describe
from dlmine_spark.training.shards import Ints, Moments, PanelArrays, read_panel
from dlmine_spark.training.windows import Origins, WindowBatches, WindowShape, origins_before, plan_origins

log = logging.getLogger(__name__)

PROGRESS_FILE = "progress.json"

Outcome = Literal["complete", "pruned", "failed", "late"]
"""Trained to the end; stopped at a rung; a loss that is no number; not begun, since the time was over."""


@dataclass(frozen=True, slots=True)
class SelectionRequest:
    """Which windows settings are selected on.

    Attributes:
        origins: windows of a series, a horizon apart.
        until: the last moment that they may hold; None: the panel's cutoff.
        history: steps the encoder sees at least, so that all trials are judged on the same windows.
    """

    origins: int
    until: Moment | None
    history: int


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """A network to try; plain values, so that it travels to any process.

    Attributes:
        launch: the panel, the settings, and (``final``) the cutoff; ``folder`` holds the trial's checkpoints.
        selection: what it is judged on.
        rungs: epochs after which it is judged, the last being that of the settings.
        limits: of all rungs but the last: the largest error with which it goes on.
        deadline: when it is too late to begin, in seconds since 1970.
    """

    launch: LaunchRequest
    selection: SelectionRequest
    rungs: tuple[int, ...]
    limits: tuple[float, ...]
    deadline: float = math.inf


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What became of a trial.

    Attributes:
        outcome: how it ended.
        values: error (WAPE) on the selection windows after each rung, that of the best epoch by validation so far; one
            that stopped early has its last error at the rungs it did not need.
        epochs: done.
        seconds: taken, those before an interruption included.
        error: why it failed.
    """

    outcome: Outcome
    values: tuple[float, ...] = ()
    epochs: int = 0
    seconds: float = 0.0
    error: str = ""

    def to_json(self) -> str:
        """As tasks hand it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TrialResult:
        """As handed back."""
        read = json.loads(text)
        return cls(**{**read, "values": tuple(read["values"])})


@dataclass(frozen=True)
class Selection:
    """A panel divided into what trials learn from and what they are judged on.

    Attributes:
        known: the panel without any value of the selection windows, or after them.
        origins: in ``known``: to train and to validate on.
        rows: origins of the selection windows.
        first, last: moments that these windows hold.
    """

    known: PanelArrays
    origins: Origins
    rows: Ints
    first: Moment
    last: Moment


def plan_selection(
    arrays: PanelArrays, shape: WindowShape, validation_origins: int, request: SelectionRequest
) -> Selection:
    """Set the last windows of every series aside.

    Raises:
        TrainingError: nothing is left to learn from, or the windows hold no known value.
    """
    where = f"gold.training_panel, cutoff {arrays.cutoff}"
    ends = _rows_up_to(arrays, request.until)
    rows = origins_before(replace(arrays, cutoff_rows=ends), replace(shape, history=request.history), request.origins)
    advice = "give more history, or lower tuning.origins, evaluation.horizon or training.history"
    if not len(rows):
        raise TrainingError(
            f"{where}: no series has a known value in {request.origins} selection windows of {shape.horizon} steps "
            f"(tuning.origins, evaluation.horizon) before {request.until or arrays.cutoff}; {advice}"
        )
    known = _without_values_after(arrays, np.maximum(ends - shape.horizon * request.origins, arrays.starts[:-1]))
    try:
        origins = plan_origins(known, shape, validation_origins)
    except TrainingError as error:
        raise TrainingError(
            f"{where}: {request.origins} selection windows of {shape.horizon} steps leave nothing to train on; {advice}"
        ) from error
    held = (rows[:, None] + np.arange(1, shape.horizon + 1)).ravel()
    moments = arrays.ds[held]
    return Selection(known, origins, rows, _moment(moments.min()), _moment(moments.max()))


def _rows_up_to(arrays: PanelArrays, until: Moment | None) -> Ints:
    """The last row of each series up to a moment, and up to the cutoff; its first one where there is none."""
    if until is None:
        return arrays.cutoff_rows
    bound: Any = until if isinstance(until, int) else np.datetime64(until)
    is_after: Moments = arrays.ds > bound
    later = np.add.reduceat(is_after, arrays.starts[:-1], dtype=np.int64)
    ends: Ints = np.minimum(arrays.starts[1:] - 1 - later, arrays.cutoff_rows)
    return np.maximum(ends, arrays.starts[:-1])


def _without_values_after(arrays: PanelArrays, rows: Ints) -> PanelArrays:
    """The panel as if ``rows`` were the cutoffs of its series."""
    dynamic = arrays.dynamic.copy()
    is_after = np.arange(arrays.rows) > np.repeat(rows, np.diff(arrays.starts))
    dynamic[is_after, :2] = 0.0
    return replace(arrays, dynamic=dynamic, cutoff_rows=rows)


def _moment(value: Any) -> Moment:
    moment: Moment = value.item()
    return moment


def train_trial(request: TrialRequest) -> TrialResult:
    """Train a network rung by rung in this process, as long as it is among the better ones, and judge it.

    What an interrupted attempt has done is not done again.

    Raises:
        TrainingError: the panel cannot be read, or has not enough history.
        OSError: the folder cannot be written.
    """
    start = time.perf_counter()
    if time.time() > request.deadline:
        return TrialResult("late")
    comm = SingleProcess()
    config = resolved(request.launch.training, comm)
    launch = replace(request.launch, training=config)
    request = replace(request, launch=launch)
    arrays = read_panel(launch.source, launch.final, launch.horizon, config.mined)
    selection = plan_selection(arrays, launch.window, config.validation_origins, request.selection)
    network = new_network(model_shape(selection.known, launch.window, config), config.seed)
    batches = WindowBatches(
        selection.known,
        launch.window,
        selection.origins,
        config.batch_size,
        config.samples_per_epoch,
        config.seed,
        comm,
    )
    # All windows, whatever the size of an epoch.
    judged = replace(
        batches,
        arrays=arrays,
        origins=replace(selection.origins, validation=selection.rows),
        samples=4 * len(selection.rows),
    )
    manifest = _manifest(request, arrays, network)
    store = CheckpointStore(launch.folder / "checkpoints", 1)
    state, done = _where_it_stopped(request, store, manifest, TrainState.start(network))
    values = list(done.values)

    def ended(outcome: Outcome, error: str = "") -> TrialResult:
        return TrialResult(outcome, tuple(values), state.epoch, done.seconds + time.perf_counter() - start, error)

    def save(now: TrainState) -> None:
        store.save(now, manifest)

    for place, (rung, limit) in enumerate(zip(request.rungs, (*request.limits, math.inf), strict=True)):
        if place == len(values):
            try:
                state = fit(network, batches, config, comm, state, save, until=rung)
            except TrainingError as error:
                return ended("failed", str(error))
            _, wape = validate([network], judged, comm)
            if wape is None or not math.isfinite(wape):
                return ended("failed", "the error on the selection windows is no number")
            values.append(wape)
            _Progress(tuple(values), done.seconds + time.perf_counter() - start).write(launch.folder)
        if values[place] > limit:
            return ended("pruned")
    return ended("complete")


@dataclass(frozen=True, slots=True)
class _Progress:
    """What the rungs of an unfinished trial have brought, beside its checkpoint."""

    values: tuple[float, ...] = ()
    seconds: float = 0.0

    def write(self, folder: Path) -> None:
        write_bytes(folder / PROGRESS_FILE, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, folder: Path) -> _Progress:
        try:
            found = json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
            return cls(tuple(float(value) for value in found["values"]), float(found["seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()


def _where_it_stopped(
    request: TrialRequest, store: CheckpointStore, manifest: Manifest, start: TrainState
) -> tuple[TrainState, _Progress]:
    """Checkpoint and progress of an interrupted attempt; the start where they do not fit each other."""
    state, done = store.newest(manifest), _Progress.read(request.launch.folder)
    if state is None or len(done.values) > len(request.rungs):
        return start, _Progress()
    ends = (0, *request.rungs, request.rungs[-1])
    # A rung that was passed without being judged could only be judged by later weights.
    fits = state.stopped or ends[len(done.values)] <= state.epoch <= ends[len(done.values) + 1]
    return (state, done) if fits else (start, _Progress())


def _manifest(request: TrialRequest, arrays: PanelArrays, network: Forecaster) -> Manifest:
    """What a trial's weights are made from; a checkpoint with another manifest is not continued."""
    launch = request.launch
    return normalised(
        {
            "cutoff": str(launch.final),
            "panel": arrays.checksum(),
            "selection": [request.selection.origins, str(request.selection.until), request.selection.history],
            **describe(network.shape, arrays.features, launch.window),
            "training": launch.training.model_dump(mode="json", exclude=set(TrainingConfig.execution)),
        }
    )
