"""Training windows: a past of ``history`` steps, a future of ``horizon`` steps, cut out of the panel when needed.

A window is only a row number, its *origin*: the last row whose value is known to the forecast. The windows of a batch
are gathered by one indexing operation a batch; nothing else is ever materialised. Which origins an epoch visits, and
in what order, follows from the seed and the epoch alone, and a rank takes its slice of every global batch: so the
sequence of global batches is the same for any number of ranks, and all ranks take equally many steps.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch

from dlmine_spark.errors import TrainingError
from dlmine_spark.training.comm import Comm, slice_of
from dlmine_spark.training.scratch import FileRows, read_here_and_there
from dlmine_spark.training.shards import Features, Ints, PanelArrays

log = logging.getLogger(__name__)

Rows = npt.NDArray[np.int32] | Ints
"""Row numbers."""

MIN_KNOWN = 4
"""Known values the encoder must see: fewer do not even tell a series' level."""
MAX_PATH_AGE = 7
"""Steps for which an ARIMA path made before the origin still serves; what of it lies in the horizon is used."""
LAG_SEASONS = 4
"""Seasons looked back for the values at the same position of the season."""
LEAST_KNOWN = 4
"""Windows without validation have at least this part of their horizon before the cutoff."""
MIN_TRAIN_ORIGINS = 32
"""With fewer training windows than this the validation region is given back to training."""
VISITS_PER_EPOCH = 8
"""An epoch on a small panel sees no window more often than this, so that early stopping can act in time."""
RELEASED_WINDOWS = 2_048
"""Windows after which a panel's files are let go of: each brings some pages in, with their neighbours 64 KB at a place,
so what is mapped stays within some hundred MB. They are still in the system's cache.
"""
PARTS_AHEAD = 2
"""Batches whose rows are being read from disk while others are computed; one ahead served as well as four where it was
measured, and a slower disk has twice the time.
"""
MIN_STEPS = 20
"""But takes at least so many steps: the number of steps is what a small panel's accuracy depends on."""


@dataclass(frozen=True, slots=True)
class SeasonalLag:
    """A past value for each step of the horizon: the last one known a whole number of periods ago, ``extra``
    earlier.
    """

    period: int
    extra: int = 0


def seasonal_lags(season_length: int, year_length: int) -> tuple[SeasonalLag, ...]:
    """The last four seasons, and the year before where the season is shorter than a year."""
    lags = [SeasonalLag(season_length, back * season_length) for back in range(LAG_SEASONS)]
    if year_length > season_length * LAG_SEASONS:
        lags.append(SeasonalLag(year_length))
    return tuple(lags)


@dataclass(frozen=True, slots=True)
class WindowShape:
    """What a window spans: steps seen, steps forecast, seasonal values looked up."""

    history: int
    horizon: int
    lags: tuple[SeasonalLag, ...]


@dataclass(frozen=True)
class Batch:
    """Some windows, in the units of the data (scaling is the model's).

    Attributes:
        y: values seen, 0 where unknown; windows x history. Likewise:
        mask: 1 where the value is known and counts.
        past: valid (1 inside the series, 0 before its start), open, known-future and past-only covariates.
        open: 1 where the series will be open; windows x horizon. Likewise:
        future: known-future covariates.
        path: ARIMA's forecast, where ``path_known``.
        lags: seasonal values, where ``lags_known``; windows x horizon x lags.
        static: numeric attributes; windows x attributes.
        category: codes of categorical attributes.
        target: values to forecast, where ``target_mask``.
        series: number of the series; one per window. Likewise:
        origins: row of the origin.
    """

    y: torch.Tensor
    mask: torch.Tensor
    past: torch.Tensor
    open: torch.Tensor
    future: torch.Tensor
    path: torch.Tensor
    path_known: torch.Tensor
    lags: torch.Tensor
    lags_known: torch.Tensor
    static: torch.Tensor
    category: torch.Tensor
    target: torch.Tensor
    target_mask: torch.Tensor
    series: torch.Tensor
    origins: torch.Tensor

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.y)

    def to(self, device: torch.device) -> Batch:
        """The windows on a device."""
        if device == self.y.device:
            return self
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def take(self, chosen: slice) -> Batch:
        """Some of the windows."""
        return replace(self, **{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


def gather(arrays: PanelArrays, origins: Rows, shape: WindowShape, hidden: int = 0) -> Batch:
    """Cut the windows of some origins out of the panel; steps before a series' start are zeros with ``mask`` 0.

    Of the last ``hidden`` steps up to a series' cutoff nothing is a target.
    """
    origins = origins.astype(np.int64, copy=False)
    count = len(arrays.features.known_future)
    series = np.searchsorted(arrays.starts, origins, side="right") - 1
    start = arrays.starts[series][:, None]

    past_rows = origins[:, None] + np.arange(1 - shape.history, 1)
    valid = past_rows >= start
    past = arrays.dynamic[np.maximum(past_rows, start)] * valid[:, :, None]

    steps = np.arange(1, shape.horizon + 1)
    future_rows = origins[:, None] + steps
    future = arrays.dynamic[future_rows]
    target_mask = future[:, :, 1]
    if hidden:
        target_mask = target_mask * (future_rows <= (arrays.cutoff_rows[series] - hidden)[:, None])

    lag_rows = np.stack(
        [origins[:, None] + steps - lag.period * -(-steps // lag.period) - lag.extra for lag in shape.lags], axis=2
    )
    lag_inside = lag_rows >= start[:, :, None]
    lag_rows = np.maximum(lag_rows, start[:, :, None])
    lags_known = arrays.mask[lag_rows] * lag_inside

    path, path_known = _paths(arrays, origins, start[:, 0], shape.horizon)
    return Batch(
        y=_tensor(past[:, :, 0] * past[:, :, 1]),
        mask=_tensor(past[:, :, 1]),
        past=_tensor(np.concatenate([valid[:, :, None], past[:, :, 2:]], axis=2)),
        open=_tensor(future[:, :, 2]),
        future=_tensor(future[:, :, 3 : 3 + count]),
        path=_tensor(path),
        path_known=_tensor(path_known),
        lags=_tensor(arrays.y[lag_rows] * lags_known),
        lags_known=_tensor(lags_known),
        static=_tensor(arrays.static[series]),
        category=torch.from_numpy(arrays.category[series]),
        target=_tensor(future[:, :, 0] * target_mask),
        target_mask=_tensor(target_mask),
        series=torch.from_numpy(series),
        origins=torch.from_numpy(origins),
    )


def _paths(arrays: PanelArrays, origins: Ints, starts: Ints, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """ARIMA's forecasts for the steps after each origin, by the latest path not older than ``MAX_PATH_AGE``.

    Paths are made at some origins only; one made three steps before still covers all but the last three steps.
    """
    if not len(arrays.paths):
        shape = (len(origins), horizon)
        return np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.bool_)
    latest = np.searchsorted(arrays.path_origins, origins, side="right") - 1
    made_at = arrays.path_origins[np.maximum(latest, 0)]
    ages = np.maximum(origins - made_at, 0)
    # The latest one before a series' own first path is another series'.
    usable = (latest >= 0) & (made_at >= starts) & (ages < min(MAX_PATH_AGE, horizon))
    step = np.arange(horizon) + ages[:, None]
    known = usable[:, None] & (step < horizon)
    return arrays.paths[np.maximum(latest, 0)[:, None], np.minimum(step, horizon - 1)] * known, known


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


@dataclass(frozen=True)
class Origins:
    """The origins of one cutoff by use, and how many series have none.

    Attributes:
        train: rows whose whole horizon lies before the validation region, or without one a part of it before the
            cutoff; 32 bits where that is enough, since this is the one array that grows with the panel.
        validation: the last origins before the cutoff, a horizon apart: their horizons are not trained on.
        predict: the cutoff's row of every series with enough known values.
        skipped: names of the series without.
        note: what had to be given up because the series are short; empty if nothing.
        hidden: last steps up to each cutoff that are no targets.
    """

    train: Rows
    validation: Ints
    predict: Ints
    skipped: tuple[str, ...]
    note: str = ""
    hidden: int = 0


def plan_origins(arrays: PanelArrays, shape: WindowShape, validation_origins: int) -> Origins:
    """Divide the past of a cutoff into origins to train on and origins to validate on.

    Without validation origins, windows are trained on, too, of whose horizon at least a quarter is known: the newest
    steps say most. Where series are too short for all that is asked, validation is given up step by step, and at last
    a single known step is enough.

    Raises:
        TrainingError: not even one series has enough known values before the cutoff.
    """
    for count in range(validation_origins, -1, -1):
        distance = shape.horizon * (count + 1) if count else _least_known(shape)
        origins = _divided(arrays, shape, count, distance)
        if len(origins.train) >= MIN_TRAIN_ORIGINS or (count == 0 and len(origins.train)):
            note = "" if count == validation_origins else f"{count} validation origins instead of {validation_origins}"
            return replace(origins, note=note)
    origins = _divided(arrays, shape, 0, 1)
    if not len(origins.train):
        raise TrainingError(
            f"gold.training_panel, cutoff {arrays.cutoff}: no series has {MIN_KNOWN + 1} known values in "
            f"{shape.history} steps (training.history); give more history, or a coarser cleaning.frequency"
        )
    note = f"no validation and partly known horizons: no series has {shape.horizon} steps (evaluation.horizon) to spare"
    return replace(origins, note=note)


def plan_rehearsal(arrays: PanelArrays, shape: WindowShape) -> Origins:
    """The origins that a training without validation would have had, had each cutoff been a horizon earlier."""
    return _divided(arrays, shape, 0, shape.horizon + _least_known(shape), hidden=shape.horizon)


def _least_known(shape: WindowShape) -> int:
    """How much of a window's horizon must be known where no window is kept for validation."""
    return max(1, shape.horizon // LEAST_KNOWN)


def _divided(
    arrays: PanelArrays, shape: WindowShape, validation_origins: int, distance: int, hidden: int = 0
) -> Origins:
    """The origins of all series: those to train on lie at least ``distance`` steps before their series' cutoff."""
    # Filled from the front: parts put together would need twice the memory.
    few = arrays.rows < 2**31
    train: Rows = np.empty(arrays.rows, dtype=np.int32) if few else np.empty(arrays.rows, dtype=np.int64)
    filled = 0
    validation, predictable = [], []
    for block in arrays.blocks():
        first_row = int(arrays.starts[block.start])
        rows = _BlockRows.of(arrays, shape, block)
        found = rows.train(shape.horizon, distance, hidden) + first_row
        train[filled : filled + len(found)] = found
        filled += len(found)
        validation.append(rows.validation(shape.horizon, validation_origins) + first_row)
        predictable.append(rows.usable[rows.cutoff_rows])
    can = np.concatenate(predictable)
    skipped = tuple(str(name) for name in arrays.ids[~can])
    return Origins(train[:filled], np.concatenate(validation), arrays.cutoff_rows[can], skipped, hidden=hidden)


def origins_before(arrays: PanelArrays, shape: WindowShape, count: int) -> Ints:
    """The last ``count`` origins of every series before its cutoff, a horizon apart, the last horizon ending there."""
    found = [
        _BlockRows.of(arrays, shape, block).validation(shape.horizon, count) + arrays.starts[block.start]
        for block in arrays.blocks()
    ]
    return np.concatenate(found)


@dataclass(frozen=True)
class _BlockRows:
    """The rows of some series, counted from the first of them.

    Attributes:
        starts: as in ``PanelArrays``.
        cutoff_rows: likewise.
        known: values known and counted before each row, and before the end.
        usable: whether a row can be an origin: enough known values among the steps the encoder sees.
    """

    starts: Ints
    cutoff_rows: Ints
    known: Ints
    usable: np.ndarray

    @classmethod
    def of(cls, arrays: PanelArrays, shape: WindowShape, series: slice) -> _BlockRows:
        """Those of some series that follow one another."""
        bounds = arrays.starts[series.start : series.stop + 1]
        mask = arrays.mask[bounds[0] : bounds[-1]]
        known = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
        rows = np.arange(len(mask))
        first = np.maximum(rows + 1 - shape.history, np.repeat(bounds[:-1] - bounds[0], np.diff(bounds)))
        usable = known[rows + 1] - known[first] >= min(MIN_KNOWN, shape.history)
        return cls(bounds - bounds[0], arrays.cutoff_rows[series] - bounds[0], known, usable)

    def train(self, horizon: int, distance: int, hidden: int) -> Ints:
        """Usable rows at least ``distance`` steps before their series' cutoff, with something to learn in their
        horizon but the last ``hidden`` steps.
        """
        rows = np.flatnonzero(self.usable)
        cutoffs = np.repeat(self.cutoff_rows, np.diff(self.starts))[rows]
        is_early = rows + distance <= cutoffs
        rows, cutoffs = rows[is_early], cutoffs[is_early]
        last = np.minimum(rows + horizon, cutoffs - hidden)
        kept: Ints = rows[self.known[last + 1] > self.known[rows + 1]]
        return kept

    def validation(self, horizon: int, count: int) -> Ints:
        """The last ``count`` usable rows before each cutoff, a horizon apart."""
        rows = self.cutoff_rows[:, None] - horizon * np.arange(1, count + 1)
        rows = np.sort(rows[rows >= self.starts[:-1, None]])
        kept: Ints = rows[self.usable[rows] & (self.known[rows + 1 + horizon] > self.known[rows + 1])]
        return kept


@dataclass(frozen=True)
class WindowBatches:
    """The batches of one cutoff, as one rank sees them.

    Attributes:
        arrays: the panel.
        shape: of the windows.
        origins: to train and to validate on.
        batch_size: windows a step, all ranks together.
        samples: windows an epoch at most, all ranks together.
        seed: of the order.
        comm: the ranks.
    """

    arrays: PanelArrays
    shape: WindowShape
    origins: Origins
    batch_size: int
    samples: int
    seed: int
    comm: Comm

    @property
    def steps(self) -> int:
        """Steps of an epoch, the same on every rank."""
        windows = max(len(self.origins.train) * VISITS_PER_EPOCH, MIN_STEPS * self.batch_size)
        return max(1, min(windows, self.samples) // self.batch_size)

    def epoch_order(self, epoch: int) -> Ints:
        """The origins of an epoch, all ranks together: each training origin as often as any other, give or take one.

        Needs memory for what it draws, and for all origins only where it draws more than a fiftieth of them (numpy's
        ``choice`` draws less by trial and error).
        """
        generator = np.random.default_rng([self.seed, epoch])
        wanted, available = self.steps * self.batch_size, len(self.origins.train)
        rounds, rest = divmod(wanted, available)
        parts = [generator.permutation(available) for _ in range(rounds)]
        parts.append(generator.choice(available, rest, replace=False, shuffle=True))
        return self.origins.train[np.concatenate(parts)].astype(np.int64)

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """This rank's slice of each global batch of an epoch, from some step on."""
        order = self.epoch_order(epoch).reshape(self.steps, self.batch_size)[first:]
        own = (global_batch[slice_of(self.batch_size, self.comm)] for global_batch in order)
        yield from _gathered(self.arrays, own, self.shape, self.origins.hidden)

    def validation(self) -> Iterator[Batch]:
        """This rank's part of the validation windows; all are used, or a fixed sample of a quarter of an epoch."""
        rows = self.origins.validation
        limit = max(self.samples // 4, self.batch_size)
        if len(rows) > limit:
            rows = np.sort(np.random.default_rng(self.seed).choice(rows, limit, replace=False))
        yield from in_batches(self.arrays, rows[slice_of(len(rows), self.comm)], self.shape)

    def names(self, epoch: int, step: int, positions: list[int]) -> list[str]:
        """Series of some windows of a global batch, for an error message."""
        rows = self.epoch_order(epoch).reshape(self.steps, self.batch_size)[step][positions]
        series = np.searchsorted(self.arrays.starts, rows, side="right") - 1
        return sorted({str(name) for name in self.arrays.ids[series]})


def in_batches(arrays: PanelArrays, origins: Ints, shape: WindowShape, size: int = 512) -> Iterator[Batch]:
    """The windows of all origins in order, some at a time; without gradients larger batches are faster."""
    parts = (origins[first : first + size] for first in range(0, len(origins), size))
    yield from _gathered(arrays, parts, shape)


def _gathered(arrays: PanelArrays, parts: Iterable[Ints], shape: WindowShape, hidden: int = 0) -> Iterator[Batch]:
    """The windows of each part; a panel's files are let go of from time to time."""
    windows = 0
    files = arrays.file_rows
    with read_here_and_there(tuple(files.values())):
        for origins in _expected(arrays, files, parts, shape) if files else parts:
            windows += len(origins)
            if windows > RELEASED_WINDOWS:
                arrays.release()
                windows = len(origins)
            yield gather(arrays, origins, shape, hidden)
    arrays.release()


def _expected(
    arrays: PanelArrays, files: Mapping[str, FileRows], parts: Iterable[Ints], shape: WindowShape
) -> Iterator[Ints]:
    """The parts as they are, each one handed on when the disk is told what the next ones need."""
    coming: deque[Ints] = deque()
    for origins in parts:
        for name, first, end in rows_of_windows(arrays, origins, shape):
            if name in files:
                files[name].expect(first, end)
        coming.append(origins)
        if len(coming) > PARTS_AHEAD:
            yield coming.popleft()
    yield from coming


def rows_of_windows(arrays: PanelArrays, origins: Rows, shape: WindowShape) -> Iterator[tuple[str, Ints, Ints]]:
    """The rows that ``gather`` reads for some origins: name of the array, and a range for each origin, end excluded."""
    origins = origins.astype(np.int64, copy=False)
    start = arrays.starts[np.searchsorted(arrays.starts, origins, side="right") - 1]
    yield "dynamic", np.maximum(origins + 1 - shape.history, start), origins + 1 + shape.horizon
    steps = np.arange(1, shape.horizon + 1)
    for lag in shape.lags:
        back = steps - lag.period * -(-steps // lag.period) - lag.extra
        if back.min() <= -shape.history:
            # Before the start of the series, its first row is read.
            yield "dynamic", np.maximum(origins + back.min(), start), np.maximum(origins + back.max(), start) + 1
    if len(arrays.paths):
        latest = np.maximum(np.searchsorted(arrays.path_origins, origins, side="right") - 1, 0)
        yield "paths", latest, latest + 1


@dataclass(frozen=True, slots=True)
class InputGroup:
    """An input as a person would name it, with its role and what of a batch belongs to it."""

    name: str
    role: str
    parts: tuple[tuple[str, int | None], ...]
    """Fields of ``Batch``, each with a column on its last axis, or None for the whole field."""


def input_groups(features: Features, shape: WindowShape) -> tuple[InputGroup, ...]:
    """Everything the network sees, as groups that can be exchanged between windows on their own."""
    count = len(features.known_future)
    groups = [
        InputGroup("history", "target", (("y", None), ("mask", None))),
        InputGroup("seasonal values", "target", (("lags", None), ("lags_known", None))),
        InputGroup("arima_path", "mined", (("path", None), ("path_known", None))),
    ]
    # past holds two columns of its own (valid, open) before the covariates.
    groups += [
        InputGroup(name, "known_future", (("past", 2 + at), ("future", at)))
        for at, name in enumerate(features.known_future)
    ]
    groups += [InputGroup(name, "past_only", (("past", 2 + count + at),)) for at, name in enumerate(features.past_only)]
    groups += [InputGroup(name, "static", (("static", at),)) for at, name in enumerate(features.static)]
    groups += [InputGroup(name, "static", (("category", at),)) for at, name in enumerate(features.category)]
    return tuple(groups)


def permuted(batch: Batch, group: InputGroup, order: torch.Tensor) -> Batch:
    """The batch with one input taken from other windows: window ``i`` gets that of window ``order[i]``."""
    changed: dict[str, torch.Tensor] = {}
    for name, column in group.parts:
        tensor = changed.get(name, getattr(batch, name)).clone()
        if column is None:
            tensor = tensor[order]
        else:
            tensor[..., column] = tensor[order][..., column]
        changed[name] = tensor
    return replace(batch, **changed)
