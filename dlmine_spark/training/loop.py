"""The training loop, the same for one rank and for many: it knows tensors, a network and ``Comm``, nothing else.

A run is a function of its seed: the order of windows and the dropout patterns follow from seed, epoch and step, the
exchange is a mean, and every decision is taken from reduced values. So a resumed run continues where it stopped, and
two ranks compute what one would, up to rounding.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import nn

from dlmine_spark.config import TrainingConfig
from dlmine_spark.errors import TrainingError
from dlmine_spark.training.comm import Comm, require_same, slice_of, sums_over_ranks
from dlmine_spark.training.devices import CPU, computed_on, device_of, resolved
from dlmine_spark.training.model import (
    MEDIAN,
    DropoutMasks,
    Forecaster,
    pinball,
    restored,
    scaled_forecast,
    window_losses,
)
from dlmine_spark.training.windows import Batch

log = logging.getLogger(__name__)

WARM_UP = 0.15
"""Share of the steps over which the learning rate rises to its peak."""
FINAL_RATE = 0.01
"""Learning rate at the end, as a share of the peak."""
NAMED_SERIES = 5
"""Series named in a message at most."""
SLOW_EXCHANGE = 0.2
"""Share of a step spent in exchange beyond which more ranks hardly pay."""
SLOW_SECONDS = 2.0
"""Seconds of exchange in an epoch that are worth a warning."""
COMPRESSED = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""What gradients travel as, by ``training.compression``."""
COMPRESSED_LIMIT = 2.0**15
"""No sum of compressed numbers is greater: half of what 16 bits of ``fp16`` can hold."""
MAX_EXPONENT = 100
"""Compressed numbers are made larger by 2 to this power at most, which 32 bits can still hold."""


class Batches(Protocol):
    """Where the loop gets its windows from."""

    @property
    def steps(self) -> int:
        """Steps of an epoch, the same on every rank."""
        ...

    @property
    def batch_size(self) -> int:
        """Windows a step, all ranks together."""
        ...

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """This rank's windows of an epoch, from some step on."""
        ...

    def validation(self) -> Iterator[Batch]:
        """This rank's windows to validate on."""
        ...

    def names(self, epoch: int, step: int, positions: list[int]) -> list[str]:
        """Series of some windows of a global batch."""
        ...


@dataclass(frozen=True, slots=True)
class EpochLog:
    """What one epoch brought; a point of the loss curve.

    Attributes:
        epoch: from 1.
        loss: mean training loss (pinball, scaled).
        validation_loss: the same on the validation windows; None without any.
        validation_wape: sum of absolute errors over sum of absolute values there; None without any.
        learning_rate: at the end of the epoch.
        samples_per_second: training windows, all ranks together.
        seconds: of training steps.
        exchange_seconds: those of them that rank 0 spent in gradient exchange, waiting for others included.
    """

    epoch: int
    loss: float
    validation_loss: float | None
    validation_wape: float | None
    learning_rate: float
    samples_per_second: float
    seconds: float
    exchange_seconds: float

    @property
    def exchange_share(self) -> float:
        """Part of the training time spent in exchange."""
        return self.exchange_seconds / self.seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an epoch has come.

    Attributes:
        steps: done of it.
        losses: their sum.
        seconds: they took.
        exchange_seconds: those of them that rank 0 spent in exchange.
    """

    steps: int = 0
    losses: float = 0.0
    seconds: float = 0.0
    exchange_seconds: float = 0.0


@dataclass(frozen=True)
class TrainState:
    """Everything a run needs to go on after an epoch, or after some steps of one.

    Attributes:
        epoch: epochs done.
        weights: of the network now.
        optimizer: AdamW's state.
        best_weights: of the epoch with the best validation, else of the last.
        best_epoch: its number; 0 before the first.
        best_metric: its validation WAPE; infinite before the first.
        since_best: epochs done after it.
        stopped: whether training ended before its last epoch for want of improvement.
        history: one entry an epoch.
        computed: device and precision of what has been trained, in order; several where a run went on elsewhere.
        begun: how far the epoch after these has come.
    """

    weights: dict[str, torch.Tensor]
    optimizer: dict[str, Any] | None = None
    epoch: int = 0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_metric: float = math.inf
    since_best: int = 0
    stopped: bool = False
    history: tuple[EpochLog, ...] = ()
    computed: tuple[str, ...] = ()
    begun: Progress = Progress()

    @classmethod
    def start(cls, model: nn.Module) -> TrainState:
        """Before the first epoch, with a network's present weights."""
        return cls(weights=_weights_of(model))


def learning_rate(step: int, steps: int, peak: float) -> float:
    """The one-cycle curve: a linear rise over the first steps, then a cosine down to a hundredth of the peak."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return peak * (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return peak * (FINAL_RATE + (1.0 - FINAL_RATE) * 0.5 * (1.0 + math.cos(math.pi * done)))


class FlatGradient:
    """All gradients side by side in one tensor, which backward fills in place, with two places more: for the loss, and
    for rank 0's wish to write a checkpoint.

    One exchange a step instead of one per parameter: an LSTM of this size has some twenty small tensors, and two ranks
    reached 11,600 samples/s each with the flat tensor against 8,800 with a hook per tensor (a small LSTM, batch 64, one
    thread a rank). What travels along is seen by every rank in the same step: a bad loss, the moment of a checkpoint.

    Compressed gradients travel as numbers of 16 bits, after a message of three numbers: loss, wish, and what the
    largest entry is.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], compression: str = "none") -> None:
        self._compressed = COMPRESSED.get(compression)
        size = sum(parameter.numel() for parameter in parameters) + 2
        self.buffer = torch.zeros(size, device=parameters[0].device)
        offset = 0
        for parameter in parameters:
            part = self.buffer[offset : offset + parameter.numel()]
            parameter.grad = part.view_as(parameter)
            offset += parameter.numel()

    def clear(self) -> None:
        """Before a step: backward adds to what is there."""
        self.buffer.zero_()

    def exchange(self, loss: float, passes: int, wish: bool, comm: Comm) -> tuple[float, bool]:
        """Average gradients and loss, sums over so many passes, over these and the ranks.

        Returns:
            The averaged loss, and whether any rank has the wish.
        """
        self.buffer[-2] = loss
        self.buffer.div_(passes)
        self.buffer[-1] = wish
        if self._compressed is None or comm.size == 1:
            _mean_(self.buffer, comm)
        else:
            self._exchange_compressed(self._compressed, comm)
        return float(self.buffer[-2]), bool(self.buffer[-1] > 0)

    def _exchange_compressed(self, dtype: torch.dtype, comm: Comm) -> None:
        """Average by numbers of 16 bits, brought to a size at which no sum of them can overflow.

        The factor is a power of two that follows from this step's gradients alone: it changes no digit, and a resumed
        run finds the same. ``fp16`` loses digits of entries some 2**20 times smaller than the largest.
        """
        gradient, told = self.buffer[:-2], self.buffer[-2:]
        message = torch.cat([told, gradient.abs().max().view(1)])
        _mean_(message, comm)
        told.copy_(message[:2])
        # At least the largest entry of any rank, and the same number on every rank.
        largest = float(message[2]) * comm.size
        if not math.isfinite(largest):
            # As if it had travelled: all ranks stop.
            gradient.fill_(math.nan)
        elif largest > 0:
            exponent = min(math.floor(math.log2(COMPRESSED_LIMIT / largest / comm.size)), MAX_EXPONENT)
            compressed = (gradient * 2.0**exponent).to(dtype)
            _mean_(compressed, comm)
            gradient.copy_(compressed).mul_(2.0**-exponent)

    def clip(self, limit: float) -> float:
        """Shorten the gradient to ``limit``; returns the length it had."""
        gradient = self.buffer[:-2]
        norm = float(gradient.norm())
        if math.isfinite(norm) and norm > limit:
            gradient.mul_(limit / norm)
        return norm


def _mean_(tensor: torch.Tensor, comm: Comm) -> None:
    """Average over the ranks, through memory where the tensor is a GPU's and the ranks do not exchange by nccl."""
    carried = tensor if tensor.device == CPU or comm.takes_gpu_tensors else tensor.cpu()
    comm.mean_(carried)
    if carried is not tensor:
        tensor.copy_(carried)


def fit(
    model: Forecaster,
    batches: Batches,
    config: TrainingConfig,
    comm: Comm,
    state: TrainState,
    save: Callable[[TrainState], None] = lambda state: None,
    until: int | None = None,
) -> TrainState:
    """Train from a state on, until the last epoch or until validation no longer improves.

    Args:
        model: the network; its weights are replaced by the state's, and are the best ones at the end.
        batches: windows; equally many steps on every rank.
        config: epochs, learning rate, clipping, patience, seed, device, precision.
        comm: the ranks.
        state: where to start, equal on every rank.
        save: told the state after every epoch, and within one every ``config.checkpoint_minutes``, on every rank.
        until: epoch to stop after, with the learning rate on its way to the last one; default: the last.

    Raises:
        EnvironmentProblem: the device is not there, or has not the precision.
        TrainingError: ranks would take different numbers of steps, or loss or gradient is no number: the series of the
            batch are named, and the last checkpoint stays as it is.
    """
    position = [state.epoch, state.begun.steps]
    require_same(comm, [batches.steps, batches.batch_size, config.epochs, *position], "the number of steps")
    config, device = resolved(config, comm), device_of(config, comm)
    model.load_state_dict(state.weights)
    model.to(device)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    if state.optimizer is not None:
        optimizer.load_state_dict(state.optimizer)
    clock = _Clock(config.checkpoint_minutes * 60)
    gradient = FlatGradient(parameters, config.compression)
    training = _Training(model, batches, config, comm, device, gradient, optimizer, clock, save)
    last = config.epochs if until is None else min(until, config.epochs)
    if state.epoch < last and not state.stopped:
        state = _computed_by(state, computed_on(device, config), comm)
    while state.epoch < last and not state.stopped:
        entry = training.epoch(state)
        validation_loss, wape = validate([model], batches, comm)
        entry = replace(entry, validation_loss=validation_loss, validation_wape=wape)
        state = _advance(state, entry, model, optimizer, config.patience)
        if comm.rank == 0:
            _tell(entry, config.epochs, state)
        save(state)
        clock.restart()
    model.load_state_dict(state.best_weights)
    model.to(CPU)
    return state


@dataclass(frozen=True)
class _Training:
    """What all epochs of a training share; see ``fit``."""

    model: Forecaster
    batches: Batches
    config: TrainingConfig
    comm: Comm
    device: torch.device
    gradient: FlatGradient
    optimizer: torch.optim.Optimizer
    clock: _Clock
    save: Callable[[TrainState], None]

    def epoch(self, state: TrainState) -> EpochLog:
        """Train the epoch after a state, or what is left of it."""
        self.model.train()
        epoch, begun, steps, size = state.epoch, state.begun, self.batches.steps, self.batches.batch_size
        loss_sum, exchange_seconds = begun.losses, begun.exchange_seconds
        start = time.perf_counter() - begun.seconds
        passes: list[torch.Tensor] = []
        for at, batch in enumerate(self.batches.train(epoch, begun.steps), start=begun.steps):
            if not passes:
                self._set_rate(epoch, at)
                self.gradient.clear()
            passes.append(self._backward(batch.to(self.device), epoch * steps + at))
            if len(passes) < self.config.accumulate and at + 1 < steps:
                continue
            before = time.perf_counter()
            # Rank 0's clock decides, since those of other ranks differ.
            is_time = self.comm.rank == 0 and self.clock.is_over and at + 1 < steps
            own_loss = sum(float(losses.sum()) for losses in passes) * self.comm.size / size
            mean_loss, is_time = self.gradient.exchange(own_loss, len(passes), is_time, self.comm)
            exchange_seconds += time.perf_counter() - before
            norm = self.gradient.clip(self.config.clip)
            # Both are reduced values: all ranks stop in the same step, or none.
            if not (math.isfinite(mean_loss) and math.isfinite(norm)):
                raise _not_a_number(self.batches, self.comm, epoch, at + 1 - len(passes), passes, mean_loss)
            self.optimizer.step()
            loss_sum += mean_loss * len(passes)
            passes = []
            if is_time:
                done = Progress(at + 1, loss_sum, time.perf_counter() - start, exchange_seconds)
                self.save(_within_epoch(state, done, self.model, self.optimizer))
                self.clock.restart()
        seconds = time.perf_counter() - start
        return EpochLog(
            epoch=epoch + 1,
            loss=loss_sum / steps,
            validation_loss=None,
            validation_wape=None,
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            samples_per_second=steps * size / seconds,
            seconds=seconds,
            exchange_seconds=exchange_seconds,
        )

    def _set_rate(self, epoch: int, at: int) -> None:
        """The learning rate of the optimiser's step that begins with a pass of an epoch."""
        config = self.config
        updates = -(-self.batches.steps // config.accumulate)
        rate = learning_rate(epoch * updates + at // config.accumulate, config.epochs * updates, config.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _backward(self, batch: Batch, step: int) -> torch.Tensor:
        """Add a batch's gradient to what is there; returns the loss of each window."""
        size, config = self.batches.batch_size, self.config
        rows = slice_of(size, self.comm)
        dropout = None
        if config.dropout:
            dropout = DropoutMasks(config.dropout, config.seed, step, size, rows, self.device)
        per_window = window_losses(self.model, batch, dropout, config.precision)
        # Ranks may hold slices that differ by one window: this weighs every window of the global batch the same.
        loss = per_window.sum() * (self.comm.size / size)
        loss.backward()  # type: ignore[no-untyped-call]
        return per_window.detach()


class _Clock:
    """Tells when some seconds have passed; 0: never."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self._start = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether they have."""
        return self._seconds > 0 and time.monotonic() - self._start >= self._seconds


def _not_a_number(
    batches: Batches, comm: Comm, epoch: int, step: int, passes: Sequence[torch.Tensor], mean_loss: float
) -> TrainingError:
    """The error all ranks raise: which series' windows were in it, wherever they were computed.

    Args:
        batches: of the windows.
        comm: the ranks.
        epoch: from 0. Likewise:
        step: of the first of the passes.
        passes: this rank's losses by window, of every pass since the last exchange.
        mean_loss: of all ranks.
    """
    flags = torch.zeros(len(passes), batches.batch_size)
    flags[:, slice_of(batches.batch_size, comm)] = (~torch.isfinite(torch.stack(list(passes)))).float().cpu()
    comm.mean_(flags)
    # A gradient may be none where every loss is a number: then any of the windows may be why.
    guilty = flags > 0 if flags.any() else torch.ones_like(flags, dtype=torch.bool)
    names = sorted(
        {
            name
            for number, of_pass in enumerate(guilty)
            for name in batches.names(epoch, step + number, torch.nonzero(of_pass).flatten().tolist())
        }
    )
    shown = ", ".join(names[:NAMED_SERIES]) + (
        f" and {len(names) - NAMED_SERIES} more" if len(names) > NAMED_SERIES else ""
    )
    what = "loss" if not math.isfinite(mean_loss) else "gradient"
    return TrainingError(
        f"{what} is no number in epoch {epoch + 1}, step {step + 1}, in windows of series {shown}; "
        "the last checkpoint is kept; look at those series, or lower training.learning_rate"
    )


@torch.no_grad()
def validate(networks: Sequence[Forecaster], batches: Batches, comm: Comm) -> tuple[float | None, float | None]:
    """Loss and WAPE of the networks' mean on the validation windows of all ranks; None without any."""
    loss = windows = error = size = points = 0.0
    device = next(networks[0].parameters()).device
    for batch in (batch.to(device) for batch in batches.validation()):
        scaled, scaling = scaled_forecast(networks, batch)
        loss += float(pinball(scaled, scaling, batch).sum())
        windows += float((batch.target_mask.sum(1) > 0).sum())
        median = restored(scaled, scaling, batch)[..., MEDIAN]
        error += float(((median - batch.target).abs() * batch.target_mask).sum(dtype=torch.float64))
        size += float((batch.target.abs() * batch.target_mask).sum(dtype=torch.float64))
        points += float(batch.target_mask.sum())
    loss, windows, error, size, points = sums_over_ranks(comm, (loss, windows, error, size, points))
    if not points:
        return None, None
    # All actual values 0: the error relative to them says nothing, its mean still orders the epochs.
    return loss / windows, error / size if size else error / points


def _weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy in memory, wherever the network computes."""
    return {name: weight.to(CPU, copy=True) for name, weight in model.state_dict().items()}


def _within_epoch(state: TrainState, done: Progress, model: Forecaster, optimizer: torch.optim.Optimizer) -> TrainState:
    """The state after some steps of the epoch that follows a state."""
    weights, moments = _weights_of(model), copy.deepcopy(optimizer.state_dict())
    return replace(state, weights=weights, optimizer=moments, begun=done)


def _advance(
    state: TrainState, entry: EpochLog, model: Forecaster, optimizer: torch.optim.Optimizer, patience: int
) -> TrainState:
    weights = _weights_of(model)
    metric = entry.validation_wape
    # A validation that is no number is never the best; without validation the last epoch is.
    improved = metric is None or metric < state.best_metric or not state.best_epoch
    since_best = 0 if improved else state.since_best + 1
    return TrainState(
        weights=weights,
        optimizer=copy.deepcopy(optimizer.state_dict()),
        epoch=entry.epoch,
        best_weights=weights if improved else state.best_weights,
        best_epoch=entry.epoch if improved else state.best_epoch,
        best_metric=state.best_metric if not improved or metric is None or math.isnan(metric) else metric,
        since_best=since_best,
        stopped=since_best >= patience,
        history=(*state.history, entry),
        computed=state.computed,
    )


def _computed_by(state: TrainState, way: str, comm: Comm) -> TrainState:
    """The state as it goes on by a device and precision, which a killed run may not have had."""
    if state.computed and state.computed[-1] == way:
        return state
    if state.computed and comm.rank == 0:
        log.warning(
            "what was begun on %s goes on on %s: no undisturbed run would come to quite the same weights; to go on as "
            "before, give training.device and training.precision what they were",
            state.computed[-1],
            way,
        )
    return replace(state, computed=(*state.computed, way))


def _tell(entry: EpochLog, epochs: int, state: TrainState) -> None:
    validation = "no validation" if entry.validation_wape is None else f"validation WAPE {entry.validation_wape:.4f}"
    log.info(
        "epoch %d/%d: loss %.4f, %s%s, %.0f samples/s%s",
        entry.epoch,
        epochs,
        entry.loss,
        validation,
        " (best)" if state.best_epoch == entry.epoch and entry.validation_wape is not None else "",
        entry.samples_per_second,
        f"; no better for {state.since_best} epochs, stopping" if state.stopped else "",
    )
    if entry.epoch == 1 and entry.exchange_share > SLOW_EXCHANGE and entry.exchange_seconds > SLOW_SECONDS:
        log.warning(
            "%.0f %% of a step goes into exchange between ranks: a larger training.batch_size, or fewer "
            "training.workers, would use the machine better",
            100 * entry.exchange_share,
        )
