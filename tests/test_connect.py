"""Spark Connect: every stage but ranks through a real server, in a process of its own as users' are."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlmine_spark.config import SparkConfig
from dlmine_spark.datasets.simulate import simulate
from dlmine_spark.errors import ConfigError, EnvironmentProblem
from dlmine_spark.pipelines.graph import upstream_of
from dlmine_spark.session import DELTA_CATALOG, DELTA_EXTENSION, java_options, open_session
from tests.test_jobs import activated, options, run_command, runs_of

START_SECONDS = 90


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Spark Connect server with Delta that was started for these tests."""
    pytest.importorskip("grpc")
    port = free_port()
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.extensions": DELTA_EXTENSION,
        "spark.sql.catalog.spark_catalog": DELTA_CATALOG,
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.ui.enabled": "false",
    }
    submit = str(Path(sys.executable).with_name("spark-submit"))
    java = " ".join(java_options(SparkConfig(jvm="quick")))
    command = [submit, "--master", "local[2]", "--driver-memory", "1500m", "--driver-java-options", java]
    command += [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    said = tmp_path_factory.mktemp("server") / "server.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=said.parent,
            env={**activated(), "PYSPARK_PYTHON": sys.executable},
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not listens(port):
            assert process.poll() is None, said.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, said.read_text(errors="replace")[-2000:]
            time.sleep(0.3)
        yield f"sc://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", ["train", pytest.param("report", marks=pytest.mark.slow)])
def test_stages_run_through_a_server(server: str, tmp_path: Path, target: str) -> None:
    simulate("tiny", 7, tmp_path / "raw")
    settings = [*options(tmp_path), "--set", f"spark.remote={server}", "--set", "training.backend=local"]
    dlmine = str(Path(sys.executable).with_name("dlmine"))

    done = run_command([dlmine, target, "--json-logs", *settings], timeout=800)

    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "lakehouse" / "report" / "index.html").exists() == (target == "report")
    for stage in upstream_of([target]):
        assert set(runs_of(stage, tmp_path).values()) == {"done"}, stage


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no session were there: that of other tests would be used as it is."""
    pytest.importorskip("grpc")
    monkeypatch.setattr("dlmine_spark.session.SparkSession.getActiveSession", lambda: None)


@pytest.mark.usefixtures("no_session")
def test_a_server_that_is_not_there_is_told_of_at_once() -> None:
    config = SparkConfig(remote=f"sc://127.0.0.1:{free_port()}/;token=secret")
    start = time.monotonic()
    with (
        pytest.raises(EnvironmentProblem, match=r"no Spark cluster answers at sc://127\.0\.0\.1:\d+") as caught,
        open_session(config),
    ):
        pass
    assert time.monotonic() - start < 10
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("no_session")
def test_an_address_that_is_none_is_told_of_without_what_it_holds() -> None:
    config = SparkConfig(remote="https://somewhere/;token=secret")
    with pytest.raises(ConfigError, match="expected sc://host:port") as caught, open_session(config):
        pass
    assert "secret" not in str(caught.value)
