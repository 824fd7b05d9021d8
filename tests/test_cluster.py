"""A job on a cluster of real processes, with the code as scripts/package builds it; and the cluster's own commands.

What the packed environments do there, and that all tables come out as in local mode, ``scripts/check_cluster.py`` shows
in minutes.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cluster
import package
import psutil
import pytest
from deltalake import DeltaTable

from dlmine_spark.config import SparkConfig
from dlmine_spark.session import java_options
from tests.test_jobs import activated

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.spark


@dataclass(frozen=True)
class Place:
    """A folder with the built code in it, and the address of a cluster."""

    folder: Path
    address: str

    def submit(self, job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Submit a job from another folder; code comes from the zip on executors, from the installed wheel here."""
        quick = " ".join(java_options(SparkConfig(jvm="quick")))
        command = [
            str(Path(sys.executable).with_name("spark-submit")),
            *("--master", self.address, "--driver-memory", "600m", "--driver-java-options", quick),
            *("--conf", "spark.driver.host=127.0.0.1", "--py-files", str(self.folder / "dlmine_spark.zip")),
            str(ROOT / "jobs" / f"{job}.py"),
            *("--config", str(ROOT / "conf" / "cluster.yaml"), *arguments),
        ]
        environment = {**activated(), "PYTHONPATH": str(self.folder / "installed"), "SPARK_LOCAL_IP": "127.0.0.1"}
        return subprocess.run(command, capture_output=True, text=True, timeout=400, cwd="/", env=environment)


def script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of ``scripts/`` as a user does."""
    command = [str(ROOT / "scripts" / arguments[0]), *arguments[1:]]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd="/", env={**os.environ, **environment}
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The wheel built and installed in a folder, and a cluster of two workers."""
    folder = tmp_path_factory.mktemp("cluster")
    assert package.main(["code", "--out", str(folder)]) == 0
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]
    subprocess.run([*install, str(folder / "installed"), str(next(folder.glob("*.whl")))], check=True)
    processes = folder / "processes"
    try:
        started = script("cluster", "up", "--folder", str(processes), "--port", "0", "--memory", "600m")
        assert started.returncode == 0, started.stderr
        yield Place(folder, started.stdout.split()[0])
    finally:
        script("cluster", "down", "--folder", str(processes))


SMALL = ["spark.conf.spark.executor.cores=1", "spark.conf.spark.executor.memory=512m", "spark.shuffle_partitions=2"]


def test_a_job_runs_on_the_cluster_with_the_packaged_code(place: Place) -> None:
    choice = random.Random(7)
    baskets = [sorted(choice.sample("abcdefgh", choice.randint(1, 5))) for _ in range(300)]
    (place.folder / "baskets.txt").write_text("\n".join(map(" ".join, baskets)) + "\n")
    own = [f"lakehouse.root={place.folder / 'lakehouse'}", f"sources.baskets.path={place.folder / 'baskets.txt'}"]
    settings = [*SMALL, *own, "mining.min_support=0.05", "mining.algorithm=apriori"]
    config = ["--config", str(ROOT / "conf" / "examples" / "baskets.yaml")]

    done = place.submit("mine", *config, *(part for setting in settings for part in ("--set", setting)))

    assert done.returncode == 0, done.stderr[-3000:]
    assert "mine: " in done.stdout
    found = DeltaTable(place.folder / "lakehouse" / "gold" / "itemsets").to_pandas()
    singles = found[found["size"] == 1]
    counts = {items[0]: count for items, count in zip(singles["items"], singles["count"], strict=True)}
    assert counts == Counter(item for basket in baskets for item in basket)


def test_executors_that_fit_nowhere_are_told_of(place: Place) -> None:
    config = ["--config", str(ROOT / "conf" / "examples" / "baskets.yaml")]
    own = [f"sources.baskets.path={__file__}", f"lakehouse.root={place.folder / 'unused'}", "spark.executor_timeout=2"]

    done = place.submit("clean", *config, *(part for setting in own for part in ("--set", setting)))

    assert done.returncode == 3
    # spark-submit passes on what a program writes to either in its own standard output.
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert said.startswith(f"error: {place.address} gave no executor in 2 s; asked for were such of 4 cores and 8g")
    assert "--executor-memory" in said


def test_the_cluster_is_left_alone_mended_and_ended(place: Place) -> None:
    processes = place.folder / "processes"
    again = script("cluster", "up", "--folder", str(processes), "--port", "0", "--memory", "600m")
    assert (again.returncode, again.stdout.split()[0]) == (0, place.address)
    other = script("cluster", "up", "--folder", str(processes), "--port", "0", "--memory", "700m")
    assert other.returncode == 3
    assert "another cluster is running" in other.stderr
    running = cluster.load(processes)
    assert running is not None

    os.kill(running.workers[1].pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(running.workers[1].pid)], timeout=10)
    status = script("cluster", "status", "--folder", str(processes))
    assert status.returncode == 1
    assert "worker-2 has ended" in status.stderr
    mended = script("cluster", "up", "--folder", str(processes), "--port", "0", "--memory", "600m")
    assert mended.returncode == 0, mended.stderr
    assert script("cluster", "status", "--folder", str(processes)).returncode == 0

    assert script("cluster", "down", "--folder", str(processes)).returncode == 0
    assert list(cluster.processes_in(processes)) == []
    ended = script("cluster", "status", "--folder", str(processes))
    assert (ended.returncode, ended.stderr) == (1, "cluster: no cluster is running: scripts/cluster up\n")


def test_a_port_in_use_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = script("cluster", "up", "--folder", str(tmp_path), "--port", str(port))

    assert done.returncode == 3
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr


def test_java_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    done = script("cluster", "up", "--folder", str(tmp_path), JAVA_HOME=str(tmp_path))

    assert done.returncode == 3
    assert f"Java is missing (JAVA_HOME is {tmp_path})" in done.stderr


def test_a_process_that_ends_at_its_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'Error: this Java is none' >&2\nexit 1\n")
    java.chmod(0o755)

    try:
        done = script("cluster", "up", "--folder", str(tmp_path / "processes"), "--port", "0", JAVA_HOME=str(tmp_path))
    finally:
        script("cluster", "down", "--folder", str(tmp_path / "processes"))

    assert done.returncode == 3
    assert "ended at its start" in done.stderr
