"""Object stores, against a real server that speaks S3 (moto): ranks read there, and what goes wrong is told in time.

What Spark does there is tried where Hadoop's client for S3 is beside Spark's jars or in the cache of ``make s3``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as arrow_fs
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from dlmine_spark import doctor, stores
from dlmine_spark import schemas as s
from dlmine_spark.config import Config, LakehouseConfig
from dlmine_spark.doctor import Check
from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.session import s3_coordinates, s3_settings, spark_home
from dlmine_spark.stores import reader_options, require_store
from dlmine_spark.training.job import LaunchRequest
from dlmine_spark.training.launch import launch
from dlmine_spark.training.shards import PanelSource, read_panel
from tests.test_bad_input import sales
from tests.test_connect import free_port
from tests.test_jobs import run_command
from tests.training.panels import FINAL, SMALL, panel_rows, request_for, write_panel

BACKTEST = FINAL - timedelta(days=7)
BUCKET = "shop"
TINY = {
    "backend": "torch",
    "workers": 2,
    "members": 1,
    "history": 28,
    "hidden": 8,
    "epochs": 1,
    "final_epochs": 1,
    "samples_per_epoch": 256,
}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "s3cret-of-tests"}


def serve(folder: Path, **environment: str) -> Iterator[dict[str, str]]:
    """The environment that a server of S3 is found by; it is ended afterwards."""
    program = shutil.which("moto_server")
    if program is None:
        pytest.skip("moto_server is not installed: there is no S3 to test with (pip install 'moto[server]')")
    port = free_port()
    with (folder / "moto.log").open("wb") as log:
        command = [program, "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment}, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    said = (folder / "moto.log").read_text(errors="replace")[-300:]
                    pytest.skip(f"moto_server does not start: {said}")
                time.sleep(0.2)
        found = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1", **KEYS}
        store_of(found).create_dir(BUCKET)
        yield found
    finally:
        process.terminate()
        process.wait(30)


def store_of(environment: Mapping[str, str]) -> arrow_fs.S3FileSystem:
    return arrow_fs.S3FileSystem(
        access_key=environment["AWS_ACCESS_KEY_ID"],
        secret_key=environment["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=environment["AWS_ENDPOINT_URL"].removeprefix("http://"),
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    yield from serve(tmp_path_factory.mktemp("s3"))


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One that knows no key, and lets nobody do more than make the bucket."""
    yield from serve(tmp_path_factory.mktemp("strict"), INITIAL_NO_AUTH_ACTION_COUNT="2")


@pytest.fixture
def s3(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The server, in this process's environment."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return server


def write_there(address: str, *tables: pa.Table) -> PanelSource:
    options = {**reader_options(address, os.environ), "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
    write_deltalake(address, pa.concat_tables(tables), partition_by=["cutoff", "shard"], storage_options=options)
    return PanelSource(address.replace("s3:", "s3a:"), 0)


def test_what_a_rank_reads_there_is_what_it_reads_here(s3: dict[str, str], tmp_path: Path) -> None:
    rows = panel_rows(FINAL)
    here = read_panel(write_panel(tmp_path / "panel", rows), FINAL, 7)
    source = write_there(f"s3://{BUCKET}/read/panel", rows)

    there = read_panel(source, FINAL, 7)

    assert there.checksum() == here.checksum()
    # In files, too, which are made from some shards at a time.
    mapped = PanelSource(source.location, 0, in_memory_mb=0, scratch=str(tmp_path))
    assert read_panel(mapped, FINAL, 7).checksum() == here.checksum()


@pytest.mark.spark
def test_two_ranks_train_from_there_as_from_here(spark: SparkSession, s3: dict[str, str], tmp_path: Path) -> None:
    tables = (panel_rows(BACKTEST), panel_rows(FINAL))
    training = SMALL.model_copy(update={"backend": "torch", "workers": 2, "epochs": 1})
    write_panel(tmp_path / "here" / "panel", *tables)
    here = request_for(FINAL, tmp_path / "here", training.model_copy(update={"backend": "local", "workers": 1}))
    source = write_there(f"s3://{BUCKET}/ranks/panel", *tables)
    there = LaunchRequest(source, here.backtest, here.final, 7, 7, 364, training, folder=tmp_path / "there" / "models")

    expected, found = launch(here, None), launch(there, spark)

    losses = [[one.members[0].history[0].loss for one in result.cutoffs] for result in (expected, found)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    # What ranks leave says where the panel lay, and nothing of how it was opened.
    written = [path for path in (tmp_path / "there").rglob("*") if path.is_file()]
    assert written
    for path in written:
        assert KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in path.read_bytes()


def test_what_ranks_lack_is_named(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def told(address: str) -> str:
        started = time.monotonic()
        with pytest.raises(EnvironmentProblem) as problem:
            read_panel(PanelSource(address, 0), FINAL, 7)
        assert time.monotonic() - started < 60
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in str(problem.value)
        return str(problem.value)

    assert "there is no bucket nowhere at http://127.0.0.1" in told("s3a://nowhere/gold/training_panel")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert "does not answer (bucket shop)" in told("s3a://shop/gold/training_panel")


def test_a_store_is_asked_before_any_work(s3: dict[str, str]) -> None:
    require_store(f"s3a://{BUCKET}/new/house", s3)
    require_store("/data/house", {})

    def told(address: str, environment: Mapping[str, str]) -> str:
        started = time.monotonic()
        with pytest.raises(EnvironmentProblem) as problem:
            require_store(address, environment)
        assert time.monotonic() - started < 30
        return str(problem.value)

    assert told("s3a://nowhere/house", s3).startswith(
        f"lakehouse.root s3a://nowhere/house: there is no bucket nowhere at {s3['AWS_ENDPOINT_URL']}: make it"
    )
    away = {**s3, "AWS_ENDPOINT_URL": f"http://ann:pa55@127.0.0.1:{free_port()}"}
    assert "http://***@127.0.0.1" in told(f"s3a://{BUCKET}/house", away)
    assert "does not answer (bucket shop)" in told(f"s3a://{BUCKET}/house", away)


def test_the_doctor_asks_the_store_of_the_tables(s3: dict[str, str]) -> None:
    def found(root: str) -> list[tuple[str, str]]:
        check = [Check("object store", doctor.check_store, doctor.S3_REMEDY)]
        results = doctor.run_checks(Config(lakehouse=LakehouseConfig(root=root)), checks=check)
        return [(result.name, result.status) for result in results if result.name != "object store (jars)"]

    assert found(f"s3a://{BUCKET}/house") == [("object store", "ok")]
    assert found("s3a://nowhere/house") == [("object store", "fail")]
    assert found("lakehouse") == []


def test_a_store_that_takes_connections_and_says_nothing_is_not_waited_for(
    silent_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "ASK_SECONDS", 1.0)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    started = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=r"does not answer \(bucket shop\)"):
        require_store("s3a://shop/house", {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent_server}"})
    assert time.monotonic() - started < 20


def test_credentials_that_nobody_knows_are_told_of_and_not_shown(
    strict_server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in strict_server.items():
        monkeypatch.setenv(name, value)
    for ask in (
        lambda: require_store(f"s3a://{BUCKET}/house", strict_server),
        lambda: read_panel(PanelSource(f"s3a://{BUCKET}/house/gold/training_panel", 0), FINAL, 7),
    ):
        with pytest.raises(EnvironmentProblem, match="does not take these credentials for bucket shop") as problem:
            ask()
        assert not [value for value in KEYS.values() if value in str(problem.value)]


# Spark


def test_spark_is_told_of_the_server_and_of_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    found = s3_settings({"AWS_ENDPOINT_URL": "http://127.0.0.1:9000", **KEYS})
    assert found["spark.hadoop.fs.s3a.endpoint"] == "http://127.0.0.1:9000"
    assert found["spark.hadoop.fs.s3a.path.style.access"] == "true"
    assert found["spark.hadoop.fs.s3a.endpoint.region"] == "us-east-1"
    assert not set(KEYS.values()) & set(found.values())
    assert "spark.hadoop.fs.s3a.endpoint" not in s3_settings({"AWS_REGION": "eu-central-1"})
    assert "spark.hadoop.fs.s3a.endpoint" not in s3_settings({"AWS_ENDPOINT_URL": "http://ann:pa55@127.0.0.1:9000"})


def hadoop_client() -> list[str] | None:
    """Settings by which Spark finds Hadoop's client for S3; None where this machine has none."""
    if list((spark_home() / "jars").glob("hadoop-aws-*.jar")):
        return []
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dlmine-spark" / "jars"
    kept = sorted(path.parent for path in cache.glob("s3-*/hadoop-aws-*.jar"))
    return [f"spark.conf.spark.driver.extraClassPath={kept[-1]}/*"] if kept else None


@pytest.mark.spark
def test_spark_without_a_client_for_s3_says_which_jars_it_lacks(spark: SparkSession) -> None:
    if list((spark_home() / "jars").glob("hadoop-aws-*.jar")):
        pytest.skip("Spark has Hadoop's client for S3")
    house = Lakehouse(spark, LakehouseConfig(root="s3a://shop/house"))
    lacking = r"s3a://shop/house/ops/runs\): Spark lacks the jars for S3: 'make s3' puts org.apache.hadoop:hadoop-aws:3"
    with pytest.raises(EnvironmentProblem, match=lacking):
        house.exists("ops.runs")
    with pytest.raises(EnvironmentProblem, match=lacking):
        house.append("ops.runs", spark.createDataFrame([], s.RUNS.ddl))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_pipeline_with_its_tables_there(s3: dict[str, str], tmp_path: Path) -> None:
    client = hadoop_client()
    if client is None:
        pytest.skip(f"Spark has no client for S3 here ('make s3' fetches {s3_coordinates()}, 600 MB)")
    raw = "".join(sales(120, store).partition("\n")[2] for store in ("a", "b"))
    (tmp_path / "sales.csv").write_text(f"date,sales,store\n{raw}", encoding="utf-8")
    settings = [
        "sources.sales.kind=panel",
        f"sources.sales.path={tmp_path}/sales.csv",
        "sources.sales.columns={ds: date, y: sales, unique_id: store}",
        f"lakehouse.root=s3a://{BUCKET}/house",
        f"lakehouse.files={tmp_path}/files",
        "spark.master=local[2]",
        "spark.driver_memory=1500m",
        "spark.jvm=quick",
        "evaluation.horizon=7",
        *(f"training.{name}={value}" for name, value in TINY.items()),
        *client,
    ]
    dlmine = str(Path(sys.executable).with_name("dlmine"))
    options = [part for setting in settings for part in ("--set", setting)]

    done = run_command([dlmine, "train", *options], timeout=800)

    assert done.returncode == 0, done.stderr[-3000:]
    address = f"s3://{BUCKET}/house"
    readable = reader_options(address, s3)
    forecasts = DeltaTable(f"{address}/gold/forecasts", storage_options=readable).to_pyarrow_table()
    assert {"arima", "lstm"} <= set(forecasts["model"].to_pylist())
    runs = DeltaTable(f"{address}/ops/runs", storage_options=readable).to_pyarrow_table().to_pylist()
    done_in_order = sorted((run["started_at"], run["stage"]) for run in runs if run["status"] == "done")
    assert [stage for _, stage in done_in_order] == ["clean", "segment", "arima", "fuse", "train"]
    secret = KEYS["AWS_SECRET_ACCESS_KEY"]
    assert secret not in f"{done.stdout}{done.stderr}{runs}"
    files = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]
