"""Training on a panel larger than memory need be: what a rank holds, when it starts, how fast it goes.

    .venv/bin/python scripts/bench_large_panel.py [--rows 50_000_000] [--ways mapped memory torch] [--folder D]

A made-up panel of so many rows in Delta, series of 1,000 days with twenty covariates, is written shard by shard. Each
way then trains one network on it in fresh processes, forecasts every series, and tells for the rank that held most:

``RssAnon``  memory of its own, in MB: what it cannot work without.
``VmHWM``    with pages of files that it had mapped (parts of the panel, libraries), which the system takes back when
             it needs room.

Ways: ``mapped`` (the default setting, one process), ``memory`` (the same, all arrays in memory), ``torch`` (two ranks
of one thread over gloo, mapped, one copy for both). ``--cold`` tells what cutting the windows of a batch costs when the
arrays' files are in the system's cache, and when they are not: windows a second without a network; and with one that
computes between batches, for how long the process is neither running nor waiting for a processor but for the disk, and
how much is read from there. The last two depend little on what else the machine does.

Panel and mapped files take some 150 bytes a row of disk; all is removed at the end, but for ``--keep``.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from deltalake import DeltaTable, write_deltalake
from numpy.typing import NDArray

from dlmine_spark.config import TrainingConfig
from dlmine_spark.training import job
from dlmine_spark.training.comm import Comm, SingleProcess
from dlmine_spark.training.job import LaunchRequest, read_results
from dlmine_spark.training.launch.torch_distributor import TorchComm
from dlmine_spark.training.model import window_losses
from dlmine_spark.training.networks import model_shape, new_network
from dlmine_spark.training.shards import PanelSource, read_panel
from dlmine_spark.training.windows import WindowBatches, plan_origins

DAYS = 1_000
HORIZON = 28
SERIES_A_SHARD = 500
CUTOFF = date(2024, 6, 30)
KNOWN_FUTURE, PAST_ONLY = 16, 4
WAYS = ("mapped", "memory", "torch")
WATCHED = ("RssAnon", "RssFile", "VmHWM")


def main() -> None:
    """Write the panel, train each way, print a table."""
    arguments = _parse()
    logging.basicConfig(level=logging.WARNING)
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="dlmine-bench-"))
    try:
        source = _panel(folder / "panel", arguments.rows)
        print(f"{arguments.rows:,} rows, {_size(folder / 'panel') / 2**30:.1f} GB in Delta")
        _trainings(source, folder, arguments)
        if arguments.cold:
            _cutting(source, folder)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=50_000_000)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--steps", type=int, default=300, help="of training, two epochs of half as many")
    parser.add_argument("--cold", action="store_true", help="time the cutting of windows alone, too")
    parser.add_argument("--folder", help="for panel and files; default: a temporary one")
    parser.add_argument("--keep", action="store_true", help="leave the folder, and use the panel that is there")
    return parser.parse_args()


def _panel(folder: Path, rows: int) -> PanelSource:
    """The table, written a shard at a time."""
    shards = math.ceil(rows / (SERIES_A_SHARD * DAYS))
    if not folder.exists():
        start = time.perf_counter()
        for shard in range(shards):
            write_deltalake(str(folder), _shard(shard), mode="append", partition_by=["cutoff", "shard"])
        print(f"written in {time.perf_counter() - start:.0f} s")
    return PanelSource(str(folder), DeltaTable(str(folder)).version())


def _shard(number: int) -> pa.Table:
    """Series with a week and promotions, in covariates that are few values or are rounded, as real ones are."""
    draw = np.random.default_rng(number)
    rows = SERIES_A_SHARD * DAYS
    series = np.repeat(np.arange(SERIES_A_SHARD), DAYS)
    # Dealt to shards in turn, as fusion does: a shard's series are spread over the order of all.
    ids = np.char.mod("series-%07d", np.arange(SERIES_A_SHARD) * 1_000 + number)
    first = CUTOFF + timedelta(days=HORIZON + 1 - DAYS)
    ds = np.datetime64(first) + np.arange(DAYS)
    known = np.tile(np.arange(DAYS) < DAYS - HORIZON, SERIES_A_SHARD)
    weekday = np.tile(np.arange(DAYS) % 7, SERIES_A_SHARD)
    promo = draw.random(rows) < 0.2
    level = np.exp(draw.normal(4.0, 1.0, SERIES_A_SHARD))[series]
    noise = np.exp(0.2 * draw.standard_normal(rows, dtype=np.float32))
    sales = np.round(level * (1 + 0.3 * np.sin(weekday)) * (1 + 0.4 * promo) * noise, 2)
    is_open = np.ones(rows, dtype=np.int32)
    columns = {
        "cutoff": pa.array(np.full(rows, np.datetime64(CUTOFF))),
        "shard": pa.array(np.full(rows, number, dtype=np.int32)),
        "unique_id": pa.array(ids[series]),
        "ds": pa.array(np.tile(ds, SERIES_A_SHARD)),
        "y": pa.array(sales, mask=~known),
        "mask": pa.array(known.astype(np.int32)),
        "open": pa.array(is_open),
        "arima_path": _paths(level, weekday),
        "kf_promo": pa.array(promo.astype(float)),
        "sn_size": pa.array(np.round(np.log(level), 3)),
        "sc_series": pa.array(np.zeros(rows)),
        "sc_region": pa.array((series % 20 + 1).astype(float)),
    }
    for at in range(KNOWN_FUTURE - 1):
        values = (weekday == at) if at < 7 else draw.integers(-300, 300, rows) / 100
        columns[f"kf_{at:02d}"] = pa.array(values.astype(float))
    for at in range(PAST_ONLY):
        columns[f"po_{at:02d}"] = pa.array(np.where(known, draw.integers(-300, 300, rows) / 100, 0.0))
    return pa.table(columns)


def _paths(level: NDArray[np.float64], weekday: NDArray[np.int64]) -> pa.Array:
    """A path at every 28th day of each series, as ARIMA's rolling origins are."""
    made = np.arange(len(level)) % DAYS % HORIZON == HORIZON - 1
    values = level[made, None] * (1 + 0.3 * np.sin(weekday[made, None] + np.arange(1, HORIZON + 1)))
    offsets = np.concatenate([[0], np.cumsum(np.where(made, HORIZON, 0))]).astype(np.int32)
    mask = pa.array(~made)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()), mask=mask)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _trainings(source: PanelSource, folder: Path, arguments: argparse.Namespace) -> None:
    print(
        "\n| way | RssAnon MB | VmHWM MB | s to the first step | samples/s | s in all | MB of files |"
        "\n|---|---|---|---|---|---|---|"
    )
    for way in arguments.ways:
        place = folder / f"run-{way}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        ranks = 2 if way == "torch" else 1
        training = TrainingConfig(
            backend="local", workers=ranks, members=1, epochs=2, samples_per_epoch=arguments.steps // 2 * 64
        )
        limit = math.inf if way == "memory" else training.in_memory_mb
        request = LaunchRequest(
            source=replace(source, in_memory_mb=limit, scratch=str(folder / "scratch")),
            backtest=(),
            final=CUTOFF,
            horizon=HORIZON,
            season_length=7,
            year_length=365,
            training=training,
            folder=place,
        )
        torch.multiprocessing.spawn(_rank, args=(ranks, request), nprocs=ranks)
        notes = [json.loads((place / f"note-{rank}.json").read_text()) for rank in range(ranks)]
        (result,) = read_results(request)
        most = max(notes, key=lambda note: note["RssAnon"])
        print(
            f"| {way} ({ranks} x 1 thread) | {most['RssAnon']:,.0f} | {most['VmHWM']:,.0f} | {most['first']:.0f} | "
            f"{result.samples_per_second:,.0f} | {most['all']:.0f} | {most['files']:,.0f} |",
            flush=True,
        )
        curve = [f"{entry.loss:.4f}" for entry in result.members[0].history]
        print(f"<!-- {way}: loss {', '.join(curve)}; peaks by part {json.dumps(most['parts'])} -->", flush=True)


def _rank(rank: int, ranks: int, request: LaunchRequest) -> None:
    torch.set_num_threads(1)
    start = time.perf_counter()
    comm: Comm = SingleProcess()
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{request.folder}/rendezvous", rank=rank, world_size=ranks)
        comm = TorchComm()
    with _watching() as watch:
        fit = job.fit

        def noted(*arguments: object, **named: object) -> object:
            watch.part = "training"
            watch.first = time.perf_counter() - start
            watch.files = _size(Path(request.source.scratch or "")) / 2**20
            state = fit(*arguments, **named)  # type: ignore[arg-type]
            watch.part = "forecasting"
            return state

        job.fit = noted  # type: ignore[assignment]
        job.train_cutoffs(request, comm)
    note = {
        **watch.peaks,
        "parts": watch.parts,
        "first": watch.first,
        "files": watch.files,
        "all": time.perf_counter() - start,
    }
    (request.folder / f"note-{rank}.json").write_text(json.dumps(note))
    if ranks > 1:
        dist.destroy_process_group()


class _Watch:
    """Largest values seen, in MB; ``parts`` by what the rank was doing."""

    def __init__(self) -> None:
        self.part = "reading"
        self.peaks = dict.fromkeys(WATCHED, 0.0)
        self.parts: dict[str, dict[str, float]] = {}
        self.first = self.files = float("nan")

    def look(self) -> None:
        """Note what the process holds now."""
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        own = self.parts.setdefault(self.part, dict.fromkeys(("RssAnon", "RssFile"), 0.0))
        for name in WATCHED:
            value = int(status[name].split()[0]) / 1024
            self.peaks[name] = max(self.peaks[name], value)
            if name in own:
                own[name] = round(max(own[name], value))


@contextmanager
def _watching() -> Iterator[_Watch]:
    watch, over = _Watch(), threading.Event()

    def watching() -> None:
        while not over.wait(0.02):
            watch.look()

    thread = threading.Thread(target=watching, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
        watch.look()


def _cutting(source: PanelSource, folder: Path) -> None:
    """What windows cost without a network, and beside one."""
    # Others of this process would be waited for, too.
    torch.set_num_threads(1)
    training = TrainingConfig(samples_per_epoch=6_400)
    request = LaunchRequest(source, (), CUTOFF, HORIZON, 7, 365, training, folder)
    print(
        "\n| arrays | windows cut/s | ms a batch waited for the disk, beside a network | MB read a batch |"
        "\n|---|---|---|---|"
    )
    for name, limit in (("in memory", math.inf), ("mapped, cached", 0), ("mapped, read from disk", 0)):
        scratch = folder / "scratch"
        arrays = read_panel(replace(source, in_memory_mb=limit, scratch=str(scratch)), CUTOFF, HORIZON)
        origins = plan_origins(arrays, request.window, 2)
        batches = WindowBatches(arrays, request.window, origins, 64, 6_400, 7, SingleProcess())
        rates = []
        for epoch in range(4):
            if name.endswith("disk"):
                _drop_cached(scratch)
            start = time.perf_counter()
            windows = sum(len(batch) for batch in batches.train(epoch))
            rates.append(windows / (time.perf_counter() - start))
        network = new_network(model_shape(arrays, request.window, training), 7)
        if name.endswith("disk"):
            arrays.release()
            _drop_cached(scratch)
        before, idle, steps = _read_from_disk(), _Idle(), 0
        for batch in batches.train(4):
            window_losses(network, batch).sum().backward()  # type: ignore[no-untyped-call]
            steps += 1
        waited, read = idle.seconds() / steps * 1e3, (_read_from_disk() - before) / steps
        print(f"| {name} | {np.median(rates[1:]):,.0f} | {waited:.1f} | {read / 2**20:.2f} |", flush=True)
        del arrays, batches


class _Idle:
    """Seconds for which this thread neither ran nor waited for a processor, as Linux counts them."""

    def __init__(self) -> None:
        self._start, self._busy = time.perf_counter(), self._counted()

    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._start - (self._counted() - self._busy)

    def _counted(self) -> float:
        ran, queued, _ = Path("/proc/thread-self/schedstat").read_text().split()
        return (int(ran) + int(queued)) / 1e9


def _read_from_disk() -> int:
    """Bytes that this process has made the disk read."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"])


def _drop_cached(folder: Path) -> None:
    for path in folder.rglob("*.npy"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
