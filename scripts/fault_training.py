"""Break training in every way it has to survive, and compare what it ends with to an undisturbed run.

    .venv/bin/python scripts/fault_training.py [--cases kill worker disk ...] [--backends torch horovod]

Every fault is real: processes get SIGKILL, a file system of 400 KB runs full (where mounting is allowed, else files may
not grow beyond 100 KB), files are cut, altered and removed. Prints a row a fault: what was done, after how many seconds
it was over or going on again, what was said, and whether the loss curve is that of the undisturbed run (to 1e-4).
Exits with 1 if a result differs, if a fault was over later than 30 s, or if one could not be tried to the end. Where
other work keeps the machine busy, seconds say little.

``kill``: a rank, in the middle of an epoch. ``worker``: a worker process of a standalone cluster (a master and two
workers, started here on the loopback interface). ``disk``: no space for a checkpoint. ``truncated``: the newest
checkpoint. ``missing``, ``altered``: a file of the panel. ``uneven``: one shard with one series, the other with all
others. ``empty``: a validation window for one rank, none for the other. ``ranks``: more of them than slots.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cluster
import numpy as np
import psutil
import pyarrow as pa
from deltalake import write_deltalake
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from simulated_panel import panel_rows, request_on

from dlmine_spark.config import SparkConfig, TrainingConfig
from dlmine_spark.datasets.world import make_world
from dlmine_spark.errors import DlmineError
from dlmine_spark.session import open_session
from dlmine_spark.training.job import LaunchRequest, read_results
from dlmine_spark.training.launch import launch
from dlmine_spark.training.launch.relay import LOG_FILE
from dlmine_spark.training.shards import PanelSource

HORIZON = 14
LIMIT_SECONDS = 30.0
TOLERANCE = 1e-4
TRAINING = TrainingConfig(
    backend="local", workers=1, members=2, history=28, hidden=16, epochs=8, samples_per_epoch=2_560, batch_size=32,
    patience=8, max_restarts=1,
)  # fmt: skip
RANK_VARIABLES = {"torch": "RANK", "horovod": "HOROVOD_RANK"}


@dataclass(frozen=True)
class Outcome:
    """What became of one fault; ``seconds`` is None where nothing had to end, ``same`` where no result was to come."""

    seconds: float | None
    said: str
    same: bool | None

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost and nobody waited too long."""
        return self.same is not False and (self.seconds or 0.0) <= LIMIT_SECONDS


def main() -> int:
    """Inject the faults one after another."""
    arguments = _parse()
    logging.getLogger("dlmine_spark").setLevel(logging.INFO)
    print("| fault | s | said | result |\n|---|---|---|---|", flush=True)
    good = True
    with tempfile.TemporaryDirectory(prefix="dlmine-fault-") as scratch:
        calm = _request(Path(scratch))
        launch(calm, None)
        for name, fault in _faults(Path(scratch), calm, arguments.backends).items():
            if name.split()[0] not in arguments.cases:
                continue
            try:
                outcome = fault()
            except Exception as error:
                # The faults after it are tried all the same.
                logging.getLogger(__name__).exception("%s", name)
                print(f"| {name} | | {type(error).__name__}: {error} | NOT TRIED TO THE END |", flush=True)
                good = False
                continue
            verdict = {None: "nothing written", True: "same", False: "DIFFERENT"}[outcome.same]
            seconds = "" if outcome.seconds is None else f"{outcome.seconds:.1f}"
            print(f"| {name} | {seconds} | {outcome.said} | {verdict} |", flush=True)
            good = good and outcome.is_good
    return 0 if good else 1


def _parse() -> argparse.Namespace:
    cases = ["kill", "worker", "disk", "truncated", "missing", "altered", "uneven", "empty", "ranks"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=cases, choices=cases)
    parser.add_argument("--backends", nargs="+", default=["torch", "horovod"], choices=["torch", "horovod"])
    return parser.parse_args()


Fault = Callable[[], Outcome]


def _faults(scratch: Path, calm: LaunchRequest, backends: list[str]) -> dict[str, Fault]:
    faults: dict[str, Fault] = {}
    for backend in backends:
        if backend == "horovod" and importlib.util.find_spec("horovod") is None:
            continue
        faults[f"kill of a rank ({backend})"] = lambda backend=backend: _kill(scratch, calm, backend)
        faults[f"worker of a cluster killed ({backend})"] = lambda backend=backend: _worker(scratch, calm, backend)
    return faults | {
        "disk full": lambda: _disk(scratch, calm),
        "truncated checkpoint": lambda: _truncated(scratch, calm),
        "missing file of the panel": lambda: _broken_file(scratch, calm, Path.unlink),
        "altered file of the panel": lambda: _broken_file(scratch, calm, _alter),
        "uneven shards, two ranks": lambda: _uneven(scratch),
        "empty validation at one of two ranks": lambda: _empty(scratch),
        "ranks without slots (3 of 2)": lambda: _too_many(scratch, calm),
    }


def _request(folder: Path) -> LaunchRequest:
    return request_on(make_world("tiny", 7, True), folder, HORIZON, TRAINING)


def _with(request: LaunchRequest, folder: Path, **settings: object) -> LaunchRequest:
    return replace(request, folder=folder, training=request.training.model_copy(update=settings))


def _losses(request: LaunchRequest) -> list[float]:
    return [point.loss for one in read_results(request) for member in one.members for point in member.history]


def _same(request: LaunchRequest, calm: LaunchRequest) -> bool:
    return bool(np.allclose(_losses(request), _losses(calm), atol=TOLERANCE))


class _Heard(logging.Handler):
    """What was logged, and when; warnings and the way on are what a user would look for."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.said: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        if record.levelno >= logging.WARNING or "going on" in record.getMessage():
            self.said.append((time.monotonic(), record.getMessage()))

    @property
    def text(self) -> str:
        """All of it on one line."""
        return " / ".join(text for _, text in self.said)


@contextmanager
def _hearing() -> Iterator[_Heard]:
    handler, logger = _Heard(), logging.getLogger("dlmine_spark")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


@contextmanager
def _session(master: str, **conf: str) -> Iterator[SparkSession]:
    config = SparkConfig(master=master, driver_memory="1g", conf={"spark.ui.enabled": "false", **conf})
    with open_session(config) as spark:
        yield spark


class _Killer(threading.Thread):
    """Kills something once rank 0 has told of its second epoch, in the middle of the next; notes when."""

    def __init__(self, folder: Path, kill: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._progress, self._kill = folder / LOG_FILE, kill
        self.at = float("nan")

    def run(self) -> None:
        """Wait and kill."""
        while not (self._progress.exists() and "epoch 2/" in self._progress.read_text()):
            time.sleep(0.05)
        self._kill()
        self.at = time.monotonic()


def _disturbed(request: LaunchRequest, calm: LaunchRequest, spark: SparkSession, kill: Callable[[], object]) -> Outcome:
    killer = _Killer(request.folder, kill)
    killer.start()
    with _hearing() as heard:
        launch(request, spark)
    noticed = next((at for at, text in heard.said if "starting again" in text), float("inf"))
    return Outcome(noticed - killer.at, heard.text, _same(request, calm))


def _kill(scratch: Path, calm: LaunchRequest, backend: str) -> Outcome:
    request = _with(calm, scratch / f"kill-{backend}", backend=backend, workers=2)
    with _session("local[2]") as spark:
        return _disturbed(request, calm, spark, lambda: _kill_rank(RANK_VARIABLES[backend]))


def _kill_rank(variable: str) -> None:
    """SIGKILL for the innermost of our processes that is rank 1: the ones around it only watch it."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.environ().get(variable) == "1":
                found.append(process)
    max(found, key=lambda process: len(process.parents())).kill()


def _worker(scratch: Path, calm: LaunchRequest, backend: str) -> Outcome:
    request = _with(calm, scratch / f"worker-{backend}", backend=backend, workers=2)
    with (
        _cluster(scratch / f"cluster-{backend}") as running,
        _session(running.address, **{"spark.executor.memory": "512m", "spark.driver.host": "127.0.0.1"}) as spark,
    ):
        return _disturbed(request, calm, spark, lambda: os.kill(running.workers[0].pid, signal.SIGKILL))


@contextmanager
def _cluster(folder: Path) -> Iterator[cluster.Cluster]:
    """A master and two workers of one core each."""
    # What ranks import has to be found by processes that did not start in this folder.
    here = {"PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        yield cluster.up(folder, cluster.Shape(workers=2, cores=1, memory="700m"), port=0, environment=here)
    finally:
        cluster.down(folder)


def _disk(scratch: Path, calm: LaunchRequest) -> Outcome:
    folder = scratch / "disk"
    folder.mkdir()
    request = _with(calm, folder / "models")
    with _full_disk(folder) as make_space:
        start = time.monotonic()
        said = _error_of(request)
        seconds = time.monotonic() - start
        make_space()
        with _hearing() as heard:
            launch(request, None)
        return Outcome(seconds, f"{said} / {heard.text}", _same(request, calm))


@contextmanager
def _full_disk(folder: Path) -> Iterator[Callable[[], object]]:
    """A folder on which little can be written, and what makes space on it."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode == 0:
        try:
            yield lambda: subprocess.run(["mount", "-o", "remount,size=100m", str(folder)], check=True)
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _error_of(request: LaunchRequest, spark: SparkSession | None = None) -> str:
    try:
        launch(request, spark)
    except DlmineError as error:
        return f"{type(error).__name__}: {error}"
    return "NO ERROR"


def _truncated(scratch: Path, calm: LaunchRequest) -> Outcome:
    request = _with(calm, scratch / "truncated")
    # As if it had been killed after the newest checkpoint was written: nothing but checkpoints is there.
    for checkpoints in calm.folder.glob("cutoff=*/member=1/checkpoints"):
        place = request.folder / checkpoints.relative_to(calm.folder)
        shutil.copytree(checkpoints, place)
        newest = max(place.iterdir())
        newest.write_bytes(newest.read_bytes()[:-100])
    with _hearing() as heard:
        launch(request, None)
    return Outcome(None, heard.text, _same(request, calm))


def _broken_file(scratch: Path, calm: LaunchRequest, spoil: Callable[[Path], object]) -> Outcome:
    folder = scratch / f"broken-{spoil.__name__}"
    with _session("local[2]") as spark:
        # As the stage fuse writes it.
        rows = spark.read.parquet(f"{calm.source.location}/cutoff=*")
        cutoff = F.lit(str(calm.final)).cast("date")
        rows.withColumn("cutoff", cutoff).write.format("delta").partitionBy("cutoff", "shard").save(
            str(folder / "panel")
        )
    spoil(next((folder / "panel").rglob("*.parquet")))
    request = replace(calm, source=PanelSource(str(folder / "panel"), 0), folder=folder / "models")
    start = time.monotonic()
    said = _error_of(request)
    written = request.folder.exists() and any(path.is_file() for path in request.folder.rglob("*"))
    return Outcome(time.monotonic() - start, said, False if written or said == "NO ERROR" else None)


def _alter(file: Path) -> None:
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    file.write_bytes(bytes(content))


def _two_ranks_beside_one(folder: Path, rows: pa.Table, **settings: object) -> Outcome:
    """Whether two ranks end as one process does on a panel of their own."""
    write_deltalake(str(folder / "panel"), rows, partition_by=["cutoff", "shard"])
    alone = _with(_request(folder), folder / "alone", **settings)
    launch(alone, None)
    ranks = _with(alone, folder / "ranks", backend="torch", workers=2, **settings)
    with _session("local[2]") as spark, _hearing() as heard:
        launch(ranks, spark)
    return Outcome(None, heard.text or "no word", _same(ranks, alone))


def _rows() -> pa.Table:
    world = make_world("tiny", 7, True)
    return panel_rows(world, world.size.days - HORIZON, HORIZON)


def _uneven(scratch: Path) -> Outcome:
    rows = _rows()
    series = rows.column("sc_series").to_numpy()
    at = rows.column_names.index("shard")
    return _two_ranks_beside_one(scratch / "uneven", rows.set_column(at, "shard", pa.array(series > 1, pa.int32())))


def _empty(scratch: Path) -> Outcome:
    rows = _rows()
    one = rows.filter(pa.array(rows.column("sc_series").to_numpy() == 1))
    return _two_ranks_beside_one(scratch / "empty", one, validation_origins=1)


def _too_many(scratch: Path, calm: LaunchRequest) -> Outcome:
    backend = "horovod" if importlib.util.find_spec("horovod") else "torch"
    request = _with(calm, scratch / "many", backend=backend, workers=3)
    with _session("local[2]") as spark:
        start = time.monotonic()
        return Outcome(time.monotonic() - start, _error_of(request, spark), None)


if __name__ == "__main__":
    sys.exit(main())
