"""Training beside what it could be: bare torch loops, ranks without exchange, torch DDP, and other forecasters.

    .venv/bin/python scripts/bench_training.py [--parts loop ranks launch] [--repeats 5]
    .venv/bin/python scripts/bench_training.py --accuracy [--members 3]

One simulated panel for everything (``scripts/simulated_panel.py``). Parts:

``loop``    training from Delta, reading included, beside a bare torch loop of the same network on batches that are
            tensors in memory already; one thread each. Goal: .90.
``ranks``   two Horovod ranks of one thread beside two processes that know nothing of each other, with half a batch each
            (the ranks' own work without the exchange) and with a whole one, and beside torch's
            DistributedDataParallel. Goals: .90 of the two processes, never less than DDP.
``cycles``  two Horovod ranks by how often Horovod's thread asks the others and a rank looks for the mean, and what that
            thread alone takes from two processes that exchange nothing.
``compression``  two gloo ranks whose gradients travel as 32 or as 16 bits (``training.compression``), on this
            machine's own network, or on a slower one that it is told to be, as root and for this command alone:
            ``unshare -n sh -c 'ip link set lo up; tc qdisc add dev lo root tbf rate 100mbit burst 256kb latency 400ms;
            GLOO_SOCKET_IFNAME=lo .venv/bin/python scripts/bench_training.py --parts compression'``.
``precision``  one process that trains in float32 or in bfloat16 (``training.precision``), by processor time.
``launch``  seconds from the launch to the first training step, by backend.
``peer``    neuralforecast's LSTM on the same series, horizon and covariates: samples/s and held-out WAPE.

``--accuracy`` adds held-out WAPE beside the irreducible one (that of the simulator's noiseless sales): the network and
the mean of ``--members``, LightGBM on the same windows' inputs, the preset textbook, the seasonal naive.

Repeats of what is compared take turns, and ratios are those of medians: other work on the machine hits all alike. But
where there is much of it, ranks wait for one another however they exchange; the processor time says more then.
neuralforecast and LightGBM are no dependencies: ``pip install --target /tmp/nf neuralforecast``, ``pip install --target
/tmp/lgb lightgbm``, and run with ``PYTHONPATH=.:/tmp/nf:/tmp/lgb``; what is not there is left out with a word.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from simulated_panel import known_in_advance, request_on
from torch.nn.parallel import DistributedDataParallel

from dlmine_spark.config import SparkConfig, TrainingConfig
from dlmine_spark.datasets.world import World, make_world
from dlmine_spark.session import open_session
from dlmine_spark.training.comm import Comm, SingleProcess
from dlmine_spark.training.job import LaunchRequest
from dlmine_spark.training.launch import launch
from dlmine_spark.training.loop import FlatGradient, TrainState, fit
from dlmine_spark.training.model import MEDIAN, Forecaster, forecast, pinball
from dlmine_spark.training.networks import member_seed, model_shape, new_network
from dlmine_spark.training.shards import PanelArrays, read_panel
from dlmine_spark.training.windows import Batch, WindowBatches, gather, in_batches, plan_origins

Floats = NDArray[np.float64]
PARTS = ("loop", "ranks", "cycles", "compression", "precision", "launch", "peer")
HORIZON = 28
RANKS = 2
CYCLES, POLLS = ("0.5", "1", "2"), (1e-4, 2e-4, 5e-4)
SPARK = SparkConfig(master=f"local[{RANKS}]", driver_memory="1g", conf={"spark.ui.enabled": "false"})


def main() -> None:
    """Print a table per part."""
    arguments = _parse()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    world = make_world(arguments.size, arguments.seed, True)
    training = TrainingConfig(backend="local", workers=1, epochs=1, samples_per_epoch=arguments.samples)
    with tempfile.TemporaryDirectory(prefix="dlmine-bench-") as scratch:
        request = request_on(world, Path(scratch), HORIZON, training)
        if "loop" in arguments.parts:
            _loop(request, arguments.repeats)
        if "ranks" in arguments.parts:
            _ranks(request, arguments.repeats)
        if "cycles" in arguments.parts:
            _cycles(request, arguments.repeats)
        if "compression" in arguments.parts:
            _compression(request, arguments.repeats)
        if "precision" in arguments.parts:
            _precision(request, arguments.repeats)
        if "launch" in arguments.parts:
            _launches(request, arguments.repeats)
        if "peer" in arguments.parts:
            _peer(request, world)
        if arguments.accuracy:
            _accuracy(request, world, arguments.members)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--accuracy", action="store_true", help="held-out errors too, which takes minutes")
    parser.add_argument("--members", type=int, default=3, help="networks of the mean, for --accuracy")
    parser.add_argument("--size", default="small", help="of the simulated world")
    parser.add_argument("--samples", type=int, default=6_400, help="windows of an epoch, for everything timed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7, help="of the world")
    return parser.parse_args()


def _setting(request: LaunchRequest, comm: Comm, seed: int | None = None) -> tuple[Forecaster, WindowBatches]:
    """A new network and its batches, read from Delta as a rank reads them."""
    config = request.training
    seed = config.seed if seed is None else seed
    arrays = read_panel(request.source, request.final, request.horizon)
    origins = plan_origins(arrays, request.window, config.validation_origins)
    batches = WindowBatches(arrays, request.window, origins, config.batch_size, config.samples_per_epoch, seed, comm)
    return new_network(model_shape(arrays, request.window, config), seed), batches


def _take_turns(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Any]:
    """Medians by name, number by number; every way is tried once before the next repeat."""
    found: dict[str, list[Any]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, measure in ways.items():
            found[name].append(measure())
    return {name: np.median(values, axis=0) for name, values in found.items()}


def _print_ratios(title: str, medians: dict[str, float], unit: str, base: str) -> None:
    print(f"\n{title}\n\n| | {unit} | of {base} |\n|---|---|---|")
    for name, value in medians.items():
        print(f"| {name} | {value:,.0f} | {value / medians[base]:.2f} |", flush=True)


def _loop(request: LaunchRequest, repeats: int) -> None:
    network, batches = _setting(request, SingleProcess())
    in_memory = list(batches.train(0))

    def from_delta() -> float:
        start = time.perf_counter()
        own, read = _setting(request, SingleProcess())
        fit(own, _without_validation(read), request.training, SingleProcess(), TrainState.start(own))
        return len(in_memory) * batches.batch_size / (time.perf_counter() - start)

    def after_reading() -> float:
        state = fit(network, batches, request.training, SingleProcess(), TrainState.start(network))
        return state.history[-1].samples_per_second

    def bare() -> float:
        return _bare_rate(network, network, in_memory, batches.batch_size, request.training)

    medians = _take_turns({"bare loop": bare, "from Delta": from_delta, "of it, after reading": after_reading}, repeats)
    _print_ratios("One process, one thread", medians, "samples/s", "bare loop")


def _bare_rate(
    network: Forecaster,
    forward: Callable[..., torch.Tensor],
    batches: Iterable[Batch],
    batch_size: int,
    config: TrainingConfig,
) -> float:
    """Samples/s of the loop one writes first; ``forward`` is the network or what wraps it."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    start = time.perf_counter()
    windows = 0
    for batch in batches:
        optimizer.zero_grad()
        scaling = network.scaling(batch)
        quantiles = forward(batch, scaling, _PlainDropout(config.dropout, len(batch)))
        pinball(quantiles, scaling, batch).mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimizer.step()
        windows += batch_size
    return windows / (time.perf_counter() - start)


class _PlainDropout:
    """Dropout of the windows at hand, by torch's own random state."""

    def __init__(self, rate: float, windows: int) -> None:
        self._rate, self._windows = rate, windows

    def __call__(self, width: int, times: float = 1.0) -> torch.Tensor:
        rate = self._rate * times
        return (torch.rand(self._windows, width) >= rate) / (1.0 - rate)


Rate = tuple[float, float]
"""Samples of one process per second, and per second of its processor time."""


def _ranks(request: LaunchRequest, repeats: int) -> None:
    half = replace(request, training=_with_batch(request.training, request.training.batch_size // RANKS))
    folder = Path(request.folder)
    ways = {
        "two processes, half a batch each": lambda: _spawn(_alone, half, folder),
        "two processes, a batch each": lambda: _spawn(_alone, request, folder),
        "two Horovod ranks": lambda: _horovod_rates(request),
        "two gloo ranks (backend torch)": lambda: _spawn(_gloo, request, folder),
        "two DDP ranks": lambda: _spawn(_ddp, request, folder),
    }
    medians = _take_turns(ways, repeats)
    rates, efficiency = ({name: values[at] for name, values in medians.items()} for at in range(2))
    title = f"Two processes of one thread, {request.training.batch_size} windows a step"
    _print_ratios(title, rates, "samples/s together", "two processes, half a batch each")
    _print_ratios(f"{title}, by processor time", efficiency, "samples/CPU s", "two processes, half a batch each")


def _cycles(request: LaunchRequest, repeats: int) -> None:
    half = replace(request, training=_with_batch(request.training, request.training.batch_size // RANKS))
    ways: dict[str, Callable[[], Rate]] = {
        "two processes, half a batch each": lambda: _spawn(_alone, half, Path(request.folder))
    }
    for cycle in CYCLES:
        ways[f"the same, with Horovod's thread, {cycle} ms"] = partial(_horovod_rates, half, cycle, exchanges=False)
        for poll in POLLS:
            name = f"two Horovod ranks, {cycle} ms, look every {1000 * poll:g} ms"
            ways[name] = partial(_horovod_rates, request, cycle, poll)
    rates = {name: values[0] for name, values in _take_turns(ways, repeats).items()}
    _print_ratios("Horovod's cycle", rates, "samples/s together", "two processes, half a batch each")


def _compression(request: LaunchRequest, repeats: int) -> None:
    def rate(way: str) -> Rate:
        config = request.training.model_copy(update={"compression": way})
        return _spawn(_gloo, replace(request, training=config), Path(request.folder))

    def exchange(way: str) -> Rate:
        config = request.training.model_copy(update={"compression": way})
        return _spawn(_exchange_alone, replace(request, training=config), Path(request.folder))

    medians = _take_turns({way: partial(rate, way) for way in ("none", "fp16", "bf16")}, repeats)
    title = f"Two gloo ranks of one thread, {request.training.batch_size} windows a step, by training.compression"
    _print_ratios(title, {name: values[0] for name, values in medians.items()}, "samples/s together", "none")
    alone = _take_turns({way: partial(exchange, way) for way in medians}, repeats)
    _print_ratios("An exchange alone", {name: values[1] for name, values in alone.items()}, "ms", "none")


def _exchange_alone(request: LaunchRequest) -> Rate:
    """Exchanges a second, and milliseconds of one, with nothing computed between them."""
    from dlmine_spark.training.launch.torch_distributor import TorchComm

    comm = TorchComm()
    network, _ = _setting(request, comm)
    gradient = FlatGradient(list(network.parameters()), request.training.compression)
    seconds = []
    for _ in range(40):
        gradient.buffer.normal_()
        comm.barrier()
        start = time.perf_counter()
        gradient.exchange(1.0, 1, wish=False, comm=comm)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    return 1 / median, 1e3 * median


def _precision(request: LaunchRequest, repeats: int) -> None:
    losses: dict[str, float] = {}

    def efficiency(precision: str) -> float:
        own = replace(request, training=request.training.model_copy(update={"precision": precision}))
        network, batches = _setting(own, SingleProcess())
        start = time.process_time()
        state = fit(network, batches, own.training, SingleProcess(), TrainState.start(network))
        losses[precision] = state.history[-1].loss
        return batches.steps * batches.batch_size / (time.process_time() - start)

    medians = _take_turns({way: partial(efficiency, way) for way in ("float32", "bfloat16")}, repeats)
    _print_ratios("One process, one thread, by training.precision", medians, "samples/CPU s", "float32")
    print(f"\nLoss of the epoch: {', '.join(f'{way} {loss:.4f}' for way, loss in losses.items())}", flush=True)


def _together(rates: list[Rate]) -> Rate:
    return sum(rate for rate, _ in rates), statistics.mean(efficiency for _, efficiency in rates)


def _with_batch(config: TrainingConfig, size: int) -> TrainingConfig:
    # The same number of steps.
    samples = config.samples_per_epoch * size // config.batch_size
    return config.model_copy(update={"batch_size": size, "samples_per_epoch": samples})


def _spawn(rate: Callable[[LaunchRequest], Rate], request: LaunchRequest, folder: Path) -> Rate:
    """What two processes at the same time reach."""
    folder.mkdir(exist_ok=True)
    (folder / "rendezvous").unlink(missing_ok=True)
    torch.multiprocessing.spawn(_note_rate, args=(rate, request, folder), nprocs=RANKS)
    return _together([json.loads((folder / f"rate-{rank}").read_text()) for rank in range(RANKS)])


def _note_rate(rank: int, rate: Callable[[LaunchRequest], Rate], request: LaunchRequest, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    dist.barrier()
    (folder / f"rate-{rank}").write_text(json.dumps(rate(request)))
    # Nobody is alone on the machine before everybody is done.
    dist.barrier()
    dist.destroy_process_group()


def _fitted_rate(request: LaunchRequest, comm: Comm) -> Rate:
    """This process's share of the second epoch: in the first, torch loads and compiles what it needs."""
    network, batches = _setting(request, comm)
    batches = _without_validation(batches)
    config = request.training.model_copy(update={"epochs": 2})
    ends: list[float] = []
    state = fit(
        network, batches, config, comm, TrainState.start(network), lambda state: ends.append(time.process_time())
    )
    samples = batches.steps * batches.batch_size / comm.size
    return samples / state.history[-1].seconds, samples / (ends[1] - ends[0])


def _without_validation(batches: WindowBatches) -> WindowBatches:
    """Bare loops have none either."""
    return replace(batches, origins=replace(batches.origins, validation=batches.origins.validation[:0]))


def _alone(request: LaunchRequest) -> Rate:
    return _fitted_rate(request, SingleProcess())


def _gloo(request: LaunchRequest) -> Rate:
    from dlmine_spark.training.launch.torch_distributor import TorchComm

    return _fitted_rate(request, TorchComm())


def _ddp(request: LaunchRequest) -> Rate:
    from dlmine_spark.training.launch.torch_distributor import TorchComm

    comm = TorchComm()
    network, batches = _setting(request, comm)
    wrapped = DistributedDataParallel(network)
    own = batches.batch_size // comm.size
    _bare_rate(network, wrapped, batches.train(0), own, request.training)
    start = time.process_time()
    rate = _bare_rate(network, wrapped, batches.train(1), own, request.training)
    return rate, batches.steps * own / (time.process_time() - start)


def _horovod_rates(
    request: LaunchRequest, cycle: str | None = None, poll: float | None = None, *, exchanges: bool = True
) -> Rate:
    """With other settings than the product's, or only with Horovod's thread beside ranks that exchange nothing."""
    if importlib.util.find_spec("horovod") is None:
        return float("nan"), float("nan")
    import horovod

    return _together(horovod.run(_as_horovod_rank, args=(request, cycle, poll, exchanges), np=RANKS, use_gloo=True))


def _as_horovod_rank(request: LaunchRequest, cycle: str | None, poll: float | None, exchanges: bool) -> Rate:
    import horovod.torch as hvd

    from dlmine_spark.training.launch import horovod as backend

    torch.set_num_threads(1)
    # horovod.run sets it to "(None,)", which is read as 0: its thread would never rest.
    os.environ[backend.CYCLE_TIME] = cycle or backend.CYCLE_MILLISECONDS
    backend.POLL_SECONDS = poll or backend.POLL_SECONDS
    hvd.init()
    try:
        rate = _fitted_rate(request, backend.HorovodComm() if exchanges else SingleProcess())
        # Nobody is alone on the machine before everybody is done.
        hvd.barrier()
        return rate
    finally:
        hvd.shutdown()


def _launches(request: LaunchRequest, repeats: int) -> None:
    print("\nFrom the launch to the first step\n\n| backend | ranks | s |\n|---|---|---|")
    with open_session(SPARK) as spark:
        for backend, workers in (("local", 1), ("torch", RANKS), ("horovod", RANKS)):
            if backend == "horovod" and importlib.util.find_spec("horovod") is None:
                print("| horovod | | not installed |")
                continue
            # One step, then validation.
            update = {"backend": backend, "workers": workers, "samples_per_epoch": request.training.batch_size}
            seconds = []
            for number in range(repeats):
                folder = request.folder / f"launch-{backend}-{number}"
                one = replace(request, training=request.training.model_copy(update=update), folder=folder)
                with _first_step() as first:
                    start = time.perf_counter()
                    launch(one, spark)
                    seconds.append(first.seen - start)
            print(f"| {backend} | {workers} | {statistics.median(seconds):.1f} |", flush=True)


class _first_step(logging.Handler):
    """When rank 0 says what it will train on, just before the first step."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.seen = float("nan")
        self._logger = logging.getLogger("dlmine_spark.training.job")

    def emit(self, record: logging.LogRecord) -> None:
        """Note the time of the plan."""
        if "windows to train on" in record.getMessage():
            self.seen = time.perf_counter()

    def __enter__(self) -> _first_step:
        self._logger.addHandler(self)
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        return self

    def __exit__(self, *exception: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = True


def _held_out(world: World) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Sales, expected sales and openings of the horizon; stores x steps."""
    days = slice(world.size.days - HORIZON, world.size.days)
    return world.sales[:, days], world.expected[:, days], world.is_open[:, days]


def _wape(predicted: Floats, world: World) -> float:
    sales, _, is_open = _held_out(world)
    return float(np.abs(np.where(is_open, predicted, 0.0) - sales).sum() / sales.sum())


def _trained(
    request: LaunchRequest, seed: int, preset: Literal["default", "textbook"] = "default"
) -> tuple[Forecaster, WindowBatches, float]:
    """A network trained by the default settings, its batches, and samples/s."""
    config = TrainingConfig(backend="local", workers=1, seed=seed, preset=preset)
    network, batches = _setting(replace(request, training=config), SingleProcess(), seed)
    state = fit(network, batches, config, SingleProcess(), TrainState.start(network))
    return network, batches, statistics.mean(entry.samples_per_second for entry in state.history)


def _medians(networks: list[Forecaster], batches: WindowBatches) -> Floats:
    found = [forecast(networks, batch)[..., MEDIAN] for batch in _to_predict(batches)]
    return torch.cat(found).numpy().astype(np.float64)


def _to_predict(batches: WindowBatches) -> Iterator[Batch]:
    return in_batches(batches.arrays, batches.origins.predict, batches.shape)


def _accuracy(request: LaunchRequest, world: World, members: int) -> None:
    sales, expected, _ = _held_out(world)
    irreducible = _wape(expected, world)
    print(f"\nHeld-out WAPE, {HORIZON} days of {len(sales)} stores\n\n| | WAPE | of the irreducible |\n|---|---|---|")

    def tell(name: str, predicted: Floats) -> None:
        wape = _wape(predicted, world)
        print(f"| {name} | {wape:.4f} | {wape / irreducible:.2f} |", flush=True)

    tell("irreducible", expected)
    trained = [_trained(request, member_seed(request.training.seed, number + 1)) for number in range(members)]
    networks, batches = [network for network, _, _ in trained], trained[0][1]
    for number, network in enumerate(networks):
        tell(f"network {number + 1}", _medians([network], batches))
    for count in range(2, members + 1):
        tell(f"mean of {count}", _medians(networks[:count], batches))
    if importlib.util.find_spec("lightgbm") is None:
        print("| LightGBM | not installed | |")
    else:
        tell("LightGBM, same inputs", _lightgbm(batches))
    textbook, _, _ = _trained(request, request.training.seed, preset="textbook")
    tell("textbook: LSTM(50) + Dense(1), recursive", _medians([textbook], batches))
    tell("seasonal naive", torch.cat([batch.lags[..., 0] for batch in _to_predict(batches)]).numpy().astype(float))


def _lightgbm(batches: WindowBatches) -> Floats:
    """Direct forecasts by LightGBM from what the network sees of a window, one row per window and step."""
    import lightgbm

    rows = np.random.default_rng(1).choice(batches.origins.train, min(8_000, len(batches.origins.train)), replace=False)
    learn, check, ask = [
        _rows_of(batches.arrays, part, batches) for part in (rows, batches.origins.validation, batches.origins.predict)
    ]
    model = lightgbm.LGBMRegressor(
        objective="l1", n_estimators=2_000, learning_rate=0.05, num_leaves=63, subsample=0.8, subsample_freq=1,
        colsample_bytree=0.8, min_child_samples=50, n_jobs=2, verbose=-1, random_state=1,
    )  # fmt: skip
    model.fit(
        learn.inputs, learn.target, sample_weight=learn.weight,
        eval_set=[(check.inputs, check.target)], eval_sample_weight=[check.weight],
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )  # fmt: skip
    scaled = np.asarray(model.predict(ask.inputs))
    return np.asarray(np.expm1(scaled + ask.level).reshape(-1, HORIZON), dtype=np.float64)


class _Rows:
    """A window's inputs as rows, one per step: what is known of the step, and the past as levels and last values."""

    def __init__(self, batch: Batch) -> None:
        windows, steps = batch.target.shape
        logs = torch.log1p(batch.y)

        def recent(days: int) -> torch.Tensor:
            mask = batch.mask[:, -days:]
            return (logs[:, -days:] * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)

        level = recent(batch.y.shape[1])
        of_window = torch.cat(
            [level, recent(7) - level, recent(28) - level, batch.static, batch.category, (logs - level)[:, -14:]], dim=1
        )
        lags = torch.where(batch.lags_known > 0, torch.log1p(batch.lags) - level.unsqueeze(2), torch.nan)
        of_step = torch.cat(
            [torch.arange(steps).expand(windows, -1).unsqueeze(2), batch.open.unsqueeze(2), batch.future, lags], dim=2
        )
        rows = torch.cat([of_step, of_window.unsqueeze(1).expand(-1, steps, -1)], dim=2)
        self.inputs = rows.flatten(0, 1).numpy()
        self.level = level.expand(-1, steps).flatten().numpy()
        self.target = torch.log1p(batch.target).flatten().numpy() - self.level
        self.weight = batch.target_mask.flatten().numpy()


def _rows_of(arrays: PanelArrays, origins: NDArray[np.int64], batches: WindowBatches) -> _Rows:
    return _Rows(gather(arrays, origins, batches.shape))


def _peer(request: LaunchRequest, world: World) -> None:
    if importlib.util.find_spec("neuralforecast") is None:
        print("\nneuralforecast is not installed: left out")
        return
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    network, batches, rate = _trained(request, request.training.seed)
    size = sum(parameter.numel() for parameter in network.parameters())
    # Two lengths of training, so that what comes before and after the steps cancels out.
    config = TrainingConfig()
    steps = config.epochs * config.samples_per_epoch // config.batch_size
    short, long = (_neuralforecast(world, count) for count in (steps // 10, steps))
    peer_rate = (steps - steps // 10) * config.batch_size / (long["seconds"] - short["seconds"])
    print("\nBeside neuralforecast's LSTM\n\n| | parameters | samples/s | of ours | WAPE |\n|---|---|---|---|---|")
    print(f"| ours | {size:,} | {rate:,.0f} | 1.00 | {_wape(_medians([network], batches), world):.4f} |")
    wape = _wape(long["predicted"], world)
    print(f"| neuralforecast | {long['size']:,} | {peer_rate:,.0f} | {peer_rate / rate:.2f} | {wape:.4f} |", flush=True)


def _neuralforecast(world: World, steps: int) -> dict[str, Any]:
    """Its LSTM on the same values, covariates and numbers of steps and windows a step."""
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MAE
    from neuralforecast.models import LSTM

    config, days = TrainingConfig(), world.size.days
    stores = world.stores["store"].to_numpy(str)
    covariates = {"open": world.is_open[:, :days].astype(float), **known_in_advance(world, days)}
    columns = {name: np.broadcast_to(each, (len(stores), days)).ravel() for name, each in covariates.items()}
    frame = pd.DataFrame(
        {"unique_id": np.repeat(stores, days), "ds": np.tile(world.days[:days], len(stores)), **columns}
    )
    frame["y"] = world.sales[:, :days].ravel()
    frame["available_mask"] = frame["open"]
    is_past = np.tile(np.arange(days) < days - HORIZON, len(stores))
    model = LSTM(
        h=HORIZON, input_size=config.history, encoder_hidden_size=config.hidden, encoder_n_layers=1,
        decoder_hidden_size=config.hidden, decoder_layers=1, futr_exog_list=list(covariates), loss=MAE(),
        scaler_type="robust", learning_rate=config.learning_rate, max_steps=steps, batch_size=32,
        windows_batch_size=config.batch_size, random_seed=config.seed, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    torch.set_num_threads(1)
    start = time.perf_counter()
    peer = NeuralForecast(models=[model], freq="D")
    peer.fit(frame[is_past])
    seconds = time.perf_counter() - start
    future = frame.loc[~is_past, ["unique_id", "ds", *covariates]]
    predicted = peer.predict(futr_df=future).sort_values(["unique_id", "ds"])["LSTM"].to_numpy(float)
    size = sum(parameter.numel() for parameter in peer.models[0].parameters())
    order = np.argsort(np.argsort(stores))
    return {"seconds": seconds, "size": size, "predicted": predicted.reshape(-1, HORIZON)[order]}


if __name__ == "__main__":
    main()
