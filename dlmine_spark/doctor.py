"""Checks what the program needs from the machine, by doing it, and says what to do about each failure.

Every check really runs the thing: Spark starts, a Delta table is written and read, two Horovod ranks average.
What could take the program down (torch, Horovod) is tried in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from dlmine_spark.config import Config
from dlmine_spark.damage import damage_of_log, tables_below
from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.places import local_path, root_of
from dlmine_spark.stores import is_s3, require_store
from dlmine_spark.tracking import require_tracking

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

Status = Literal["ok", "warn", "fail"]
GIB = 2**30
OLDEST_JAVA = 17
PYTHONS = ((3, 11), (3, 12))
LITTLE_DISK_GIB, NO_DISK_GIB = 5.0, 1.0
RANK_GIB = 1.0
"""What one training rank takes with torch loaded, in GiB."""
TORCH_SECONDS, RANKS_SECONDS = 120.0, 120.0
JAVA_REMEDY = (
    f"install a JDK {OLDEST_JAVA} or newer (Debian: apt-get install openjdk-17-jre-headless, macOS: "
    "brew install openjdk@17) and let JAVA_HOME, if set, point at it"
)
SPARK_REMEDY = "mend Java first; then see whether SPARK_HOME or spark.master points to another Spark"
DELTA_REMEDY = "make setup (it puts Delta's jars beside Spark's)"
WORKERS_REMEDY = (
    "let PYSPARK_PYTHON name an interpreter of the driver's version that has dlmine_spark, on every machine"
)
TORCH_REMEDY = "make setup SETUP_ARGS=--complete, or pip install 'dlmine-spark[train]'"
S3_REMEDY = "make s3 puts Hadoop's client for S3 beside Spark's jars; credentials come from the environment"
TABLES_REMEDY = "run the stage that writes it with --force, which sets the damaged one aside, or bring the file back"
HOROVOD_REMEDY = "make horovod (what failed is in .venv/setup-logs/horovod.log), or training.backend: torch"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found; ``remedy`` says what to do unless the status is ok."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to try; it may yield several results. What it raises becomes a failure with ``remedy``."""

    name: str
    probe: Callable[[Config], Iterable[CheckResult]]
    remedy: str


def run_checks(
    config: Config,
    *,
    on_result: Callable[[CheckResult], object] | None = None,
    checks: Sequence[Check] | None = None,
) -> list[CheckResult]:
    """Run every check, whatever the others say, and tell each result as soon as it is known."""
    results = []
    for check in CHECKS if checks is None else checks:
        for result in _guarded(check, config):
            results.append(result)
            if on_result is not None:
                on_result(result)
    return results


def exit_code(results: Iterable[CheckResult]) -> int:
    """Return 0, or the exit code of an environment problem if something that is needed failed."""
    failed = any(result.status == "fail" for result in results)
    return EnvironmentProblem.exit_code if failed else 0


def _guarded(check: Check, config: Config) -> Iterator[CheckResult]:
    """Yield a check's results; an error is a result too, so that the other checks still run."""
    try:
        yield from check.probe(config)
    except Exception as error:
        log.debug("check %s failed", check.name, exc_info=True)
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        yield CheckResult(check.name, "fail", first or type(error).__name__, check.remedy)


# --- The checks -------------------------------------------------------------------------------------


def check_python(config: Config, version: tuple[int, int] | None = None) -> Iterator[CheckResult]:
    """Check the interpreter's version against those that the project is built for."""
    found = version or sys.version_info[:2]
    told = f"{'.'.join(map(str, found))} ({sys.executable})"
    legal = " or ".join(".".join(map(str, python)) for python in PYTHONS)
    if found in PYTHONS:
        yield CheckResult("Python", "ok", told)
    else:
        yield CheckResult("Python", "fail", told, f"use Python {legal}: scripts/setup.py --python PATH")


def check_java(config: Config) -> Iterator[CheckResult]:
    """Check the Java that Spark will start: JAVA_HOME's if that is set, else the one on the path."""
    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else Path(shutil.which("java") or "java")
    # A remote session runs no Java on this machine.
    wrong: Status = "warn" if config.spark.remote else "fail"
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        where = f"no {java} (JAVA_HOME is {home})" if home else "no java on the path"
        yield CheckResult("Java", wrong, where, JAVA_REMEDY)
        return
    version = java_version(done.stderr + done.stdout)
    if version is None or version < OLDEST_JAVA:
        yield CheckResult("Java", wrong, f"{java}: version {version or 'unknown'}", JAVA_REMEDY)
    else:
        yield CheckResult("Java", "ok", f"{version} ({java})")


def java_version(printed: str) -> int | None:
    """Return the major version from what ``java -version`` prints: 17 for "17.0.15", 8 for "1.8.0_392"."""
    found = re.search(r'version "(?:1\.)?(\d+)', printed)
    return int(found[1]) if found else None


def check_spark(config: Config) -> Iterator[CheckResult]:
    """Start a session; write and read a Delta table with it; ask its Python workers who they are."""
    from dlmine_spark.session import open_session

    with open_session(config.spark) as spark:
        master = spark.conf.get("spark.master", "remote")
        yield CheckResult("Spark", "ok", f"{spark.version}, master {master}")
        yield from _guarded(Check("Delta", lambda _: _try_delta(spark), DELTA_REMEDY), config)
        yield from _guarded(Check("workers", lambda _: _ask_workers(spark), WORKERS_REMEDY), config)


def _try_delta(spark: SparkSession) -> Iterator[CheckResult]:
    """Write a small table in a temporary folder and read it back."""
    master = spark.conf.get("spark.master", "") or ""
    if not master.startswith("local"):
        # Executors elsewhere do not see this machine's folders; the session has checked that Delta is loaded.
        yield CheckResult("Delta", "ok", "loaded (no table written: the executors run on other machines)")
        return
    with tempfile.TemporaryDirectory(prefix="dlmine-doctor-") as folder:
        table = str(Path(folder, "table"))
        spark.range(3).write.format("delta").save(table)
        rows = spark.read.format("delta").load(table).count()
    if rows != 3:
        raise EnvironmentProblem(f"wrote 3 rows, read {rows}")
    yield CheckResult("Delta", "ok", "a table written and read")


def _ask_workers(spark: SparkSession) -> Iterator[CheckResult]:
    """Ask two Python workers for their interpreter, and whether it finds this package."""

    # A nested function travels by value: the worker need not import this package to run it.
    def introduce(batches: Iterator[RecordBatch]) -> Iterator[RecordBatch]:
        import importlib.util
        import sys

        import pyarrow

        for _ in batches:
            found = importlib.util.find_spec("dlmine_spark") is not None
            told = {
                "executable": [sys.executable],
                "version": [".".join(map(str, sys.version_info[:2]))],
                "found": [found],
            }
            yield pyarrow.RecordBatch.from_pydict(told)

    schema = "executable string, version string, found boolean"
    workers = spark.range(0, 2, 1, 2).mapInArrow(introduce, schema).distinct().collect()
    driver = ".".join(map(str, sys.version_info[:2]))
    told = ", ".join(f"Python {worker.version} ({worker.executable})" for worker in workers)
    if any(worker.version != driver for worker in workers):
        yield CheckResult("workers", "fail", f"{told}, but the driver is Python {driver}", WORKERS_REMEDY)
    elif not all(worker.found for worker in workers):
        yield CheckResult("workers", "fail", f"{told} cannot import dlmine_spark", WORKERS_REMEDY)
    else:
        yield CheckResult("workers", "ok", told)


_TORCH_PROBE = """
import json, torch
devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"version": torch.__version__, "threads": torch.get_num_threads(), "devices": devices}))
"""


def check_torch(config: Config) -> Iterator[CheckResult]:
    """Import torch in a process of its own; tell which GPUs it can use (none is no failure)."""
    if not _installed("torch"):
        yield CheckResult("torch", "warn", "not installed: no training, no explanation, no LSTM", TORCH_REMEDY)
        return
    told = _last_json(_run([sys.executable, "-c", _TORCH_PROBE], TORCH_SECONDS))
    yield CheckResult("torch", "ok", f"{told['version']}, {told['threads']} threads")
    devices = told["devices"]
    yield CheckResult("GPU", "ok", ", ".join(devices) if devices else "none that torch can use: CPU it is")


_RANK_PROBE = """
import sys, torch, horovod.torch as hvd
hvd.init()
total = hvd.allreduce(torch.tensor([hvd.rank() + 1.0]), op=hvd.Sum).item()
sys.exit(0 if hvd.size() == 2 and total == 3.0 else f"size {hvd.size()}, sum {total}")
"""


def check_horovod(config: Config) -> Iterator[CheckResult]:
    """Start two ranks on this machine and let them add their numbers."""
    needed = config.training.backend == "horovod" and not config.training.fallback
    if not _installed("torch") or not _installed("horovod"):
        detail = "not installed: training will use backend torch"
        if not _installed("torch"):
            detail = "not tried: it needs torch"
        yield CheckResult("Horovod", "fail" if needed else "warn", detail, HOROVOD_REMEDY)
        return
    launcher = [sys.executable, "-m", "horovod.runner.launch", "--gloo", "-np", "2", "-H", "localhost:2"]
    _run([*launcher, sys.executable, "-c", _RANK_PROBE], RANKS_SECONDS)
    yield CheckResult("Horovod", "ok", "two ranks started and averaged")


def check_deltalake(config: Config) -> Iterator[CheckResult]:
    """Check the reader with which training ranks read Delta without Spark."""
    if not _installed("deltalake"):
        detail = "not installed: the training ranks cannot read tables"
        yield CheckResult("deltalake", "warn", detail, TORCH_REMEDY)
        return
    import deltalake
    import pyarrow

    with tempfile.TemporaryDirectory(prefix="dlmine-doctor-") as folder:
        deltalake.write_deltalake(folder, pyarrow.table({"id": [1, 2, 3]}))
        rows = deltalake.DeltaTable(folder).to_pyarrow_table().num_rows
    if rows != 3:
        raise EnvironmentProblem(f"wrote 3 rows, read {rows}")
    yield CheckResult("deltalake", "ok", f"{deltalake.__version__}, a table written and read")


def check_store(config: Config) -> Iterator[CheckResult]:
    """Ask the object store for the bucket of the tables, and look for Spark's client; nothing where there is none."""
    from dlmine_spark.session import spark_home

    root = config.lakehouse.root
    if config.lakehouse.catalog is not None or not is_s3(root):
        return
    if require_store(root, os.environ):
        yield CheckResult("object store", "ok", f"{root}: the bucket is there, by the environment's credentials")
    else:
        unseen = f"{root}: the environment's credentials do not show whether the bucket is there"
        yield CheckResult("object store", "warn", unseen, S3_REMEDY)
    if not config.spark.remote and not list((spark_home() / "jars").glob("hadoop-aws-*.jar")):
        # A cluster's own Spark may well have it elsewhere.
        yield CheckResult("object store (jars)", "warn", f"no hadoop-aws in {spark_home() / 'jars'}", S3_REMEDY)


def check_tables(config: Config) -> Iterator[CheckResult]:
    """Look at the log of every table, if they lie in a local folder; nothing where there are none."""
    root = local_path(root_of(config.lakehouse)) if config.lakehouse.catalog is None else None
    tables = {} if root is None else tables_below(root)
    damages = {name: damage_of_log(folder / "_delta_log") for name, folder in tables.items()}
    for name, damage in damages.items():
        if damage is not None:
            yield CheckResult(f"table {name}", "fail", f"is damaged: {damage} ({tables[name]})", TABLES_REMEDY)
    if tables and not any(damages.values()):
        yield CheckResult("tables", "ok", f"the logs of {len(tables)} tables are whole ({root})")


def check_tracking(config: Config) -> Iterator[CheckResult]:
    """Ask the server of MLflow, if runs are to be logged; nothing where they are not."""
    if config.tracking.enabled:
        address = require_tracking(config, os.environ)
        yield CheckResult("MLflow", "ok", f"installed; a server, if one is named, listens: {address.shown}")


def check_memory(config: Config) -> Iterator[CheckResult]:
    """Compare free memory with what the driver and the training ranks may take at the same time."""
    memory = psutil.virtual_memory()
    free = memory.available / GIB
    needed = heap_gib(config.spark.driver_memory) + RANK_GIB * config.training.workers
    told = f"{free:.1f} of {memory.total / GIB:.1f} GiB free; driver and ranks may take {needed:.1f}"
    remedy = "close other programs, or lower spark.driver_memory or training.workers"
    yield CheckResult("memory", "ok" if free >= needed else "warn", told, "" if free >= needed else remedy)


def heap_gib(text: str) -> float:
    """Return a JVM's memory setting ("3g", "512m") in GiB; a number without unit is in bytes.

    Raises:
        ValueError: the setting is no number with a unit that the JVM knows.
    """
    found = re.fullmatch(r"(\d+)\s*([kmgt]?)b?", text.strip().lower())
    if not found:
        raise ValueError(f"spark.driver_memory must be a number with k, m, g or t, got {text!r}")
    return float(int(found[1]) * 1024.0 ** " kmgt".index(found[2] or " ") / GIB)


def check_disk(config: Config) -> Iterator[CheckResult]:
    """Look at the space where tables are written and where Spark spills."""
    places = {"temporary files": Path(tempfile.gettempdir())}
    if "://" not in config.lakehouse.root and config.lakehouse.catalog is None:
        places["lakehouse"] = Path(config.lakehouse.root).absolute()
    for what, folder in places.items():
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free / GIB
        status: Status = "ok" if free >= LITTLE_DISK_GIB else "warn" if free >= NO_DISK_GIB else "fail"
        remedy = "" if status == "ok" else "free some space, or move lakehouse.root or TMPDIR to a larger disk"
        yield CheckResult(f"disk ({what})", status, f"{free:.1f} GiB free in {existing}", remedy)


CHECKS = (
    Check("Python", check_python, ""),
    Check("Java", check_java, JAVA_REMEDY),
    Check("Spark", check_spark, SPARK_REMEDY),
    Check("torch", check_torch, TORCH_REMEDY),
    Check("Horovod", check_horovod, HOROVOD_REMEDY),
    Check("deltalake", check_deltalake, TORCH_REMEDY),
    Check("tables", check_tables, TABLES_REMEDY),
    Check("object store", check_store, S3_REMEDY),
    Check("MLflow", check_tracking, "mend tracking.uri, or set tracking.enabled=false"),
    Check("memory", check_memory, "set spark.driver_memory to something like 3g"),
    Check("disk", check_disk, "let lakehouse.root name a folder that can be made"),
)


# --- Helpers ----------------------------------------------------------------------------------------


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _run(command: Sequence[str], seconds: float) -> str:
    """Run a command in a process group of its own and return what it prints.

    Raises:
        EnvironmentProblem: it failed (with its last line) or took too long (the whole group is killed then).
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=seconds)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise EnvironmentProblem(f"no answer in {seconds:.0f} s") from error
        raise
    if process.returncode != 0:
        lines = [line for line in printed.splitlines() if line.strip()]
        raise EnvironmentProblem(lines[-1].strip() if lines else f"exit code {process.returncode}")
    return printed


def _last_json(printed: str) -> dict[str, Any]:
    """Return the JSON object in the last line of an output (libraries may print warnings before it)."""
    told: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return told
