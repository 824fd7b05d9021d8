"""A Spark standalone cluster of separate processes on this machine, to try out what is meant for a real one.

    scripts/cluster up [--workers 2] [--cores 1] [--memory 2g] [--port 7077]
    scripts/cluster status
    scripts/cluster down

``up`` starts a master and workers on the loopback interface and prints the master's address once all workers have
registered; what runs already is left alone, a worker that died is replaced. The processes outlive the shell that
started them and end with ``down``, whatever they started with them. They know nothing of this project: neither its
environment nor its folder. State, logs and the workers' folders are in build/cluster.

Exit codes: 0 done, 1 the cluster does not run as it should, 2 wrong usage, 3 something is missing or in the way.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "cluster"
HOST = "127.0.0.1"
START_SECONDS = 50.0
"""Java takes two seconds where nobody else works, and ten times as long where everybody does."""
END_SECONDS = 10.0
DEPLOY = "org.apache.spark.deploy"
MARK = "DLMINE_CLUSTER"
"""Variable that all processes of a cluster have: its folder."""


class ClusterError(Exception):
    """What is wrong, as the line that a user reads."""

    exit_code = 3


class NotRunning(ClusterError):
    """Some or all of the processes are not there."""

    exit_code = 1


@dataclass(frozen=True)
class Shape:
    """What is asked for: ``memory`` is what a worker may give to executors, as Java writes it (2g, 700m)."""

    workers: int
    cores: int
    memory: str


@dataclass(frozen=True)
class Daemon:
    """A process of the cluster; its time of birth tells it from a later one of the same number."""

    name: str
    pid: int
    born: float

    @classmethod
    def of(cls, name: str, pid: int) -> Daemon:
        """The daemon that a process which was just started is."""
        return cls(name, pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process, or None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            alive = process.create_time() == self.born and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


@dataclass(frozen=True)
class Cluster:
    """A cluster that was started, as it is written to its folder."""

    folder: Path
    shape: Shape
    port: int
    ui_port: int
    master: Daemon
    workers: tuple[Daemon, ...] = ()

    @property
    def address(self) -> str:
        """What spark-submit takes as --master."""
        return f"spark://{HOST}:{self.port}"

    @property
    def ui(self) -> str:
        """The master's page."""
        return f"http://{HOST}:{self.ui_port}"

    def dead(self) -> list[Daemon]:
        """The processes that should run, and do not."""
        return [daemon for daemon in (self.master, *self.workers) if daemon.process() is None]

    def registered(self) -> int:
        """How many workers the master counts on; 0 while it does not answer."""
        try:
            with urllib.request.urlopen(f"{self.ui}/json/", timeout=5) as answer:
                told = json.load(answer)
        except (OSError, ValueError):
            return 0
        return sum(worker["state"] == "ALIVE" for worker in told["workers"])

    def log_of(self, name: str) -> Path:
        """Where a process writes what it has to say."""
        return self.folder / f"{name}.log"

    def place_of(self, name: str) -> Path:
        """A worker's own folder, with one folder an executor: <application>/<number>."""
        return self.folder / name

    def save(self) -> None:
        """Write it down, whole or not at all."""
        partial = self.folder / "cluster.json.partial"
        partial.write_text(json.dumps(asdict(self), default=str, indent=1), encoding="utf-8")
        partial.replace(self.folder / "cluster.json")


def load(folder: Path) -> Cluster | None:
    """Return the cluster that was started in a folder and not taken down; parts of it may have died since."""
    try:
        told: dict[str, Any] = json.loads((folder / "cluster.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ClusterError(f"{folder / 'cluster.json'} is damaged ({error}): scripts/cluster down, then up") from error
    workers = tuple(Daemon(**worker) for worker in told["workers"])
    shape, master = Shape(**told["shape"]), Daemon(**told["master"])
    return Cluster(folder, shape, told["port"], told["ui_port"], master, workers)


# --- Up, status, down -----------------------------------------------------------------------------


def up(folder: Path, shape: Shape, port: int, environment: Mapping[str, str] | None = None) -> Cluster:
    """Start what does not run yet, and wait until all workers have registered.

    Args:
        folder: for state, logs and the workers' own folders.
        shape: workers, and the cores and memory of each.
        port: the master's; 0 takes a free one.
        environment: variables that the processes, and so the executors' Python, get besides the few they need.

    Raises:
        ClusterError: Java is missing, the port is taken, another cluster runs in the folder, or a process ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    variables = {**daemon_environment(), **(environment or {}), MARK: str(folder)}
    cluster = load(folder)
    if cluster is not None and cluster.master.process() is None:
        # Workers without a master would go on asking for it.
        down(folder)
        cluster = None
    if cluster is None:
        require_free(port)
        cluster = start_master(folder, shape, port or free_port(), variables)
    elif cluster.shape != shape or port not in (0, cluster.port):
        raise ClusterError(
            f"another cluster is running ({cluster.address}, {in_words(cluster.shape)}): scripts/cluster down first"
        )
    cluster = start_workers(cluster, variables)
    await_workers(cluster)
    return cluster


def status(folder: Path) -> Cluster:
    """Return the cluster if all of it runs.

    Raises:
        NotRunning: there is none, or a part of it has died.
    """
    cluster = load(folder)
    if cluster is None:
        raise NotRunning("no cluster is running: scripts/cluster up")
    dead = cluster.dead()
    if dead:
        told = "; ".join(f"{daemon.name} has ended ({last_words(cluster.log_of(daemon.name))})" for daemon in dead)
        raise NotRunning(f"{cluster.address}: {told}: scripts/cluster up starts it again")
    registered = cluster.registered()
    if registered < cluster.shape.workers:
        raise NotRunning(f"{cluster.address}: {registered} of {cluster.shape.workers} workers are registered")
    return cluster


def down(folder: Path) -> int:
    """End every process of the cluster and all that they started; return how many there were.

    An executor whose worker was killed is found, too.
    """
    with contextlib.suppress(FileNotFoundError):
        (folder / "cluster.json").unlink()
    found = list(processes_in(folder))
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(found, timeout=END_SECONDS)
    for process in {*left, *processes_in(folder)}:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(left, timeout=END_SECONDS)
    for place in folder.glob("*/"):
        # What executors unpacked there may take gigabytes.
        shutil.rmtree(place, ignore_errors=True)
    return len(found)


def processes_in(folder: Path) -> Iterator[psutil.Process]:
    """Yield the processes that the cluster of a folder is made of, by the mark that they hand down."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder):
                yield process


# --- The processes --------------------------------------------------------------------------------


def start_master(folder: Path, shape: Shape, port: int, environment: Mapping[str, str]) -> Cluster:
    """Start a master; the cluster is written down at once, so that ``down`` finds it if this is interrupted."""
    ui_port = free_port()
    place = ["--host", HOST, "--port", str(port), "--webui-port", str(ui_port)]
    master = start(folder, "master", [f"{DEPLOY}.master.Master", *place], environment)
    cluster = Cluster(folder, shape, port, ui_port, master)
    cluster.save()
    return cluster


def start_workers(cluster: Cluster, environment: Mapping[str, str]) -> Cluster:
    """Start the workers that do not run."""
    size = ["--cores", str(cluster.shape.cores), "--memory", cluster.shape.memory]
    alive = {worker.name: worker for worker in cluster.workers if worker.process() is not None}
    for name in (f"worker-{number}" for number in range(1, cluster.shape.workers + 1)):
        if name not in alive:
            place = ["--host", HOST, "--webui-port", "0", "--work-dir", str(cluster.place_of(name))]
            command = [f"{DEPLOY}.worker.Worker", *place, *size, cluster.address]
            alive[name] = start(cluster.folder, name, command, environment)
            cluster = replace(cluster, workers=tuple(alive.values()))
            cluster.save()
    return cluster


def start(folder: Path, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Daemon:
    """Start a process that outlives this one and the shell."""
    place = folder / name
    place.mkdir(exist_ok=True)
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(spark_home() / "bin" / "spark-class"), *command],
            cwd=place,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Daemon.of(name, process.pid)


def await_workers(cluster: Cluster) -> None:
    """Wait until all workers have registered with the master.

    Raises:
        ClusterError: a process has ended, or the time is over.
    """
    deadline = time.monotonic() + START_SECONDS
    while (registered := cluster.registered()) < cluster.shape.workers:
        for daemon in cluster.dead():
            log = cluster.log_of(daemon.name)
            raise ClusterError(f"{daemon.name} ended at its start: {last_words(log)} (log: {log})")
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{registered} of {cluster.shape.workers} workers have registered after {START_SECONDS:.0f} s "
                f"(logs: {cluster.folder}/*.log); scripts/cluster down ends them all"
            )
        time.sleep(0.3)


def daemon_environment() -> dict[str, str]:
    """Return the variables of the processes: what Spark needs to start, and nothing of this program's environment.

    Raises:
        ClusterError: there is no Java, or no Spark.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home, "bin"))) if home else shutil.which("java")
    if java is None:
        where = f"JAVA_HOME is {home}" if home else "there is none on the path"
        raise ClusterError(f"Java is missing ({where}): install a JDK 17 or newer, or let JAVA_HOME name one")
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR", "USER") if name in os.environ}
    return {
        **kept,
        "PATH": os.pathsep.join(dict.fromkeys([str(Path(java).parent), "/usr/local/bin", "/usr/bin", "/bin"])),
        **({"JAVA_HOME": home} if home else {}),
        "SPARK_HOME": str(spark_home()),
        "SPARK_LOCAL_IP": HOST,
        # It would take jobs from anybody who can connect, and no Python ones.
        "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false",
    }


def spark_home() -> Path:
    """Return the folder of Spark: the one that SPARK_HOME names, else that of the installed pyspark."""
    if "SPARK_HOME" in os.environ:
        return Path(os.environ["SPARK_HOME"])
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise ClusterError("pyspark is not installed: run 'make setup'")
    return Path(found.origin).parent


def require_free(port: int) -> None:
    """Raise ClusterError if somebody else listens at a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ClusterError(f"port {port} on {HOST} is in use by another program: choose one with --port") from error


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def last_words(log: Path) -> str:
    """Return the last line of a log that tells of an error, else the last one."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        return "no log"
    telling = [line for line in lines if re.search(r"ERROR|Exception|error:", line) and not line.startswith("\t")]
    return ((telling or lines or ["no word"])[-1]).strip()[:300]


def in_words(shape: Shape) -> str:
    """Describe what a cluster has."""
    return f"{shape.workers} workers of {shape.cores} cores and {shape.memory}"


# --- The command line -----------------------------------------------------------------------------


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One command at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["up", "status", "down"])
    parser.add_argument("--workers", type=_count, default=2, help="default: 2")
    parser.add_argument("--cores", type=_count, default=1, help="of a worker; default: 1")
    parser.add_argument("--memory", type=_memory, default="2g", help="of a worker, for its executors; default: 2g")
    parser.add_argument("--port", type=int, default=7077, help="of the master, 0 for any; default: 7077")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: build/cluster")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number from 1 on is needed")
    return int(text)


def _memory(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*[mg]", text):
        raise argparse.ArgumentTypeError(f"{text}: write it like 2g or 700m")
    return text


def main(arguments: Sequence[str]) -> int:
    """Do what is asked; return the exit code."""
    given = parse(arguments)
    folder = given.folder.resolve()
    try:
        with locked(folder):
            if given.command == "down":
                print(f"ended {down(folder)} processes")
                return 0
            if given.command == "up":
                cluster = up(folder, Shape(given.workers, given.cores, given.memory), given.port)
            else:
                cluster = status(folder)
    except ClusterError as problem:
        print(f"cluster: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print("cluster: interrupted; 'scripts/cluster down' ends what was started", file=sys.stderr)
        return 130
    print(f"{cluster.address}  ({in_words(cluster.shape)}; {cluster.ui}; logs: {folder})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
