"""Whether the whole pipeline gives the same tables on a cluster as in local mode; and what its workers run.

    .venv/bin/python scripts/check_cluster.py [--folder build/check-cluster] [--ranks 2]

Simulates a tiny world and runs all stages on it twice through spark-submit, from outside the project's folder: in
local mode, and on a standalone cluster of this machine (scripts/cluster: a worker of one core for each rank), with
conf/cluster.yaml, the zip of the code and the packed environment of scripts/package. Then compares all tables row by
row: to 1e-9 where no network is involved, else to 1e-4. Prints a row a table, where the ranks of Horovod ran, and which
files of this project's environment the executors' Python mapped (there must be none).

Exits with 1 if a value differs, if two ranks shared a worker, or if an executor used this environment. What an
earlier check in the same folder has run is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cluster
import package
import psutil
from deltalake import DeltaTable

from dlmine_spark.config import SparkConfig
from dlmine_spark.datasets.simulate import simulate
from dlmine_spark.session import DEEP_STACK, QUICK_JVM, java_options

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {
    "training.epochs": 2,
    "training.final_epochs": 1,
    "training.samples_per_epoch": 512,
    "training.hidden": 16,
    "training.history": 28,
    "evaluation.horizon": 14,
    "arima.feature_origins": 20,
    "explain.windows": 24,
    "explain.repeats": 1,
    "segmentation.restarts": 1,
    "segmentation.k_max": 4,
    "mining.min_support": 0.02,
    "spark.shuffle_partitions": 4,
}
IGNORED = {"run_id", "_run_id", "_ingested_at", "corrected_at", "fitted_at", "seconds"}
"""Columns that differ from run to run: who wrote a row, and when."""
LAYERS = ("bronze", "silver", "gold")
TRAINED_MODELS = ("lstm", "blend")
TRAINED_TABLES = {
    "gold.attributions", "gold.blend_weights", "gold.calibration", "gold.comparisons", "gold.error_patterns",
    "gold.explanations", "gold.metrics", "gold.validation_forecasts",
}  # fmt: skip
TOLERANCE, TRAINED_TOLERANCE = 1e-9, 1e-4
SECONDS = 3_000


def main() -> int:
    """Run both, compare, tell."""
    arguments = _parse()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / "raw"
    if not raw.exists():
        simulate("tiny", 7, raw)
    if package.main(["code", "training"]):
        return 3
    submissions = Submissions(folder, arguments.ranks)
    local = submissions.run_locally()
    there, ranks, foreign = submissions.run_on_cluster()

    print("| table | rows | largest difference | allowed | |\n|---|---:|---:|---:|---|", flush=True)
    same = [_compared(name, local, there) for name in _tables(local, there)]
    print(f"ranks of Horovod by worker: {', '.join(ranks) or 'none'}")
    print(f"files of this environment in the executors' Python: {', '.join(sorted(foreign)) or 'none'}")
    apart = len(set(ranks)) == len(ranks) == arguments.ranks
    return 0 if all(same) and apart and not foreign else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "check-cluster")
    parser.add_argument("--ranks", type=int, default=2)
    return parser.parse_args()


# --- The two runs ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Submissions:
    """The same job, submitted to two places."""

    folder: Path
    ranks: int

    def run_locally(self) -> Path:
        """Run in one JVM with as many slots as the cluster has; the lakehouse."""
        lakehouse = self.folder / "local"
        self._submit("local", ["--master", f"local[{self.ranks}]"], lakehouse, {})
        return lakehouse

    def run_on_cluster(self) -> tuple[Path, list[str], set[str]]:
        """Run on a cluster of this machine; the lakehouse, each rank's worker, and what executors used of .venv."""
        lakehouse, events, place = self.folder / "cluster", self.folder / "events", self.folder / "processes"
        events.mkdir(exist_ok=True)
        try:
            running = cluster.up(place, cluster.Shape(self.ranks, 1, "2g"), port=0)
            options = [
                *("--master", running.address),
                *("--conf", "spark.driver.host=127.0.0.1"),
                *("--conf", f"spark.pyspark.driver.python={sys.executable}"),
                *("--conf", "spark.pyspark.python=./environment/bin/python"),
                *("--py-files", str(ROOT / "dist" / "dlmine_spark.zip")),
                *("--archives", f"{ROOT / 'dist' / 'environment-training.tar.gz'}#environment"),
            ]
            settings = {
                "spark.conf.spark.executor.cores": 1,
                "spark.conf.spark.executor.memory": "1g",
                "spark.conf.spark.executor.extraJavaOptions": f"{DEEP_STACK} {QUICK_JVM}",
                "spark.conf.spark.eventLog.enabled": True,
                "spark.conf.spark.eventLog.compress": False,
                "spark.conf.spark.eventLog.rolling.enabled": False,
                "spark.conf.spark.eventLog.dir": events.as_uri(),
            }
            with _foreign_files(place) as foreign:
                self._submit("cluster", options, lakehouse, settings, ROOT / "conf" / "cluster.yaml")
            ranks = _workers_of_ranks(max(events.iterdir(), key=os.path.getmtime), running)
        finally:
            cluster.down(place)
        return lakehouse, ranks, foreign

    def _submit(
        self, name: str, options: Sequence[str], lakehouse: Path, settings: dict[str, Any], *configs: Path
    ) -> None:
        """Run all stages in a lakehouse, from another folder than the project's."""
        demo = (ROOT / "conf" / "examples" / "demo.yaml").read_text(encoding="utf-8")
        config = self.folder / "tiny.yaml"
        config.write_text(demo.replace("build/demo/raw", str(self.folder / "raw")), encoding="utf-8")
        own = {**SETTINGS, **settings, "training.workers": self.ranks, "lakehouse.root": lakehouse}
        java = ["--driver-memory", "1500m", "--driver-java-options", " ".join(java_options(SparkConfig(jvm="quick")))]
        command: list[str | Path] = [Path(sys.executable).with_name("spark-submit"), *java, *options]
        command += [ROOT / "jobs" / "run.py"]
        command += [word for file in (*configs, config) for word in ("--config", file)]
        command += [word for key, value in own.items() for word in ("--set", f"{key}={_as_yaml(value)}")]
        log = self.folder / f"{name}.log"
        started = time.monotonic()
        with log.open("wb") as out:
            done = subprocess.run(
                [str(word) for word in command],
                cwd="/",
                # Workers' Python finds the code in the zip; the driver finds this checkout's first.
                env={**_activated(), "PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1"},
                stdout=out,
                stderr=out,
                timeout=SECONDS,
                check=False,
            )
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
        print(f"{name}: {time.monotonic() - started:.0f} s; {last}", flush=True)
        if done.returncode != 0:
            raise SystemExit(f"{name}: spark-submit ended with {done.returncode} (log: {log})")


def _as_yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _activated() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@contextmanager
def _foreign_files(place: Path) -> Iterator[set[str]]:
    """Files of this environment and its Python that Python processes of a cluster map while the block runs."""
    own = (str(Path(sys.prefix)), str(Path(sys.base_prefix)), str(Path(sys.prefix).resolve()))
    found: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            for process in cluster.processes_in(place):
                try:
                    if process.name().startswith("python"):
                        found.update(entry.path for entry in process.memory_maps() if entry.path.startswith(own))
                except psutil.Error:
                    continue

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def _workers_of_ranks(events: Path, running: cluster.Cluster) -> list[str]:
    """The workers that ran the tasks of Horovod's last job, by Spark's own record of it."""
    stages: set[int] = set()
    executors: list[str] = []
    for line in events.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        kind = event["Event"]
        if kind == "SparkListenerJobStart":
            group = (event.get("Properties") or {}).get("spark.jobGroup.id", "")
            if group.startswith("horovod.spark.run"):
                stages, executors = set(event["Stage IDs"]), []
        elif kind == "SparkListenerTaskStart" and event["Stage ID"] in stages:
            executors.append(event["Task Info"]["Executor ID"])
    # A worker keeps each of its executors in a folder of its own: <worker>/<application>/<executor>.
    return [
        worker.name
        for executor in executors
        for worker in running.workers
        if list(running.place_of(worker.name).glob(f"app-*/{executor}"))
    ]


# --- The comparison -------------------------------------------------------------------------------


def _tables(*lakehouses: Path) -> list[str]:
    """Names of all tables that any of them has; forecasts are told apart by whether a network made them."""
    found = {f"{layer}.{path.name}" for root in lakehouses for layer in LAYERS for path in (root / layer).iterdir()}
    return sorted(found)


def _compared(name: str, local: Path, there: Path) -> bool:
    """Compare a table, in two parts where rows of networks and others are in one; print what was found."""
    rows, others = _rows(local, name), _rows(there, name)
    parts = [("", rows, others, name in TRAINED_TABLES)]
    if name == "gold.forecasts":
        parts = [
            (
                f" ({'networks and blend' if trained else 'arima and simple models'})",
                [row for row in rows if (row.get("model") in TRAINED_MODELS) == trained],
                [row for row in others if (row.get("model") in TRAINED_MODELS) == trained],
                trained,
            )
            for trained in (False, True)
        ]
    verdicts = [_judged(name + part, *both, trained=trained) for part, *both, trained in parts]
    return all(verdicts)


def _judged(title: str, rows: list[dict[str, Any]], others: list[dict[str, Any]], *, trained: bool) -> bool:
    allowed = TRAINED_TOLERANCE if trained else TOLERANCE
    difference, problem = _difference(rows, others)
    same = difference <= allowed
    verdict = "same" if same else problem or "DIFFERENT"
    print(f"| {title} | {len(rows):,} | {difference:.1e} | {allowed:.0e} | {verdict} |", flush=True)
    return same


def _rows(lakehouse: Path, name: str) -> list[dict[str, Any]]:
    layer, table = name.split(".", 1)
    place = lakehouse / layer / table
    if not place.exists():
        return []
    rows = DeltaTable(str(place)).to_pyarrow_table().to_pylist()
    return [{key: value for key, value in row.items() if key not in IGNORED} for row in rows]


def _difference(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> tuple[float, str]:
    """The largest difference of two numbers, by rows that agree in all else; infinite if rows have no such partner."""
    ours, theirs = sorted(map(_split, rows)), sorted(map(_split, others))
    if [exact for exact, _ in ours] != [exact for exact, _ in theirs]:
        missing = Counter(exact for exact, _ in ours) - Counter(exact for exact, _ in theirs)
        example = next(iter(missing), "none of ours")
        return math.inf, f"{len(others):,} rows there, {missing.total():,} of ours not among them, as {example[:300]}"
    pairs = (pair for (_, one), (_, other) in zip(ours, theirs, strict=True) for pair in zip(one, other, strict=True))
    return max((_apart(one, other) for one, other in pairs), default=0.0), ""


def _split(row: dict[str, Any]) -> tuple[str, list[float]]:
    """What has to be equal, as text, and the floating-point numbers, in order."""
    numbers: list[float] = []

    def plain(value: Any) -> Any:
        if isinstance(value, float) and math.isfinite(value):
            numbers.append(value)
            return "a number"
        if isinstance(value, dict):
            return {str(key): plain(value[key]) for key in sorted(value, key=str)}
        if isinstance(value, list | tuple):
            # A map comes as a list of pairs, in no order.
            items = sorted(value) if value and all(isinstance(item, tuple) for item in value) else value
            return [plain(item) for item in items]
        return str(value)

    return json.dumps(plain(row), ensure_ascii=False), numbers


def _apart(one: float, other: float) -> float:
    """The difference of two numbers, relative to them where they are large."""
    return abs(one - other) / max(1.0, abs(one), abs(other))


if __name__ == "__main__":
    sys.exit(main())
