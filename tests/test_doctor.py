"""The doctor says what is wrong and what to do; injected checks stand for broken machines."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlmine_spark import doctor
from dlmine_spark.config import Config, LakehouseConfig, SparkConfig, TrackingConfig, TrainingConfig
from dlmine_spark.doctor import Check, CheckResult
from dlmine_spark.errors import EnvironmentProblem


def passing(config: Config) -> Iterator[CheckResult]:
    yield CheckResult("good", "ok", "here")


def optional_missing(config: Config) -> Iterator[CheckResult]:
    yield CheckResult("extra", "warn", "not installed: less is possible", "install it")


def half_broken(config: Config) -> Iterator[CheckResult]:
    yield CheckResult("first half", "ok", "here")
    raise EnvironmentProblem("the second half is missing\nwith details nobody asked for")


def test_a_check_that_raises_fails_with_its_remedy_and_the_others_still_run() -> None:
    told: list[CheckResult] = []
    results = doctor.run_checks(
        Config(),
        on_result=told.append,
        checks=[Check("broken", half_broken, "mend it"), Check("good", passing, "")],
    )
    assert results == told
    assert results == [
        CheckResult("first half", "ok", "here"),
        CheckResult("broken", "fail", "the second half is missing", "mend it"),
        CheckResult("good", "ok", "here"),
    ]
    assert doctor.exit_code(results) == 3


def test_what_is_optional_does_not_fail() -> None:
    results = doctor.run_checks(Config(), checks=[Check("extra", optional_missing, "")])
    assert [result.status for result in results] == ["warn"]
    assert doctor.exit_code(results) == 0


@pytest.mark.parametrize(("version", "status"), [((3, 10), "fail"), ((3, 12), "ok"), ((3, 13), "fail")])
def test_python_versions(version: tuple[int, int], status: str) -> None:
    [result] = doctor.check_python(Config(), version)
    assert result.status == status
    assert bool(result.remedy) == (status != "ok")


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
    ],
)
def test_java_version(printed: str, version: int | None) -> None:
    assert doctor.java_version(printed) == version


def fake_java(home: Path, version: str) -> Path:
    """A JAVA_HOME whose java only knows its version."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return home


def test_an_old_java_home_fails_whatever_is_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path, "11.0.2")))
    [result] = doctor.check_java(Config())
    assert (result.status, "version 11" in result.detail) == ("fail", True)
    assert "JAVA_HOME" in result.remedy
    remote = Config(spark=SparkConfig(remote="sc://elsewhere:15002"))
    assert [result.status for result in doctor.check_java(remote)] == ["warn"]


def test_a_java_home_without_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    [result] = doctor.check_java(Config())
    assert result.status == "fail"
    assert str(tmp_path) in result.detail


def test_missing_extras_warn_and_name_the_consequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda module: False)
    results = [
        *doctor.check_torch(Config()),
        *doctor.check_horovod(Config()),
        *doctor.check_deltalake(Config()),
    ]
    assert [result.status for result in results] == ["warn", "warn", "warn"]
    assert "no training" in results[0].detail
    assert "needs torch" in results[1].detail
    assert all(result.remedy for result in results)


def test_without_horovod_training_has_another_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda module: module != "horovod")
    [result] = doctor.check_horovod(Config())
    assert (result.status, result.detail) == ("warn", "not installed: training will use backend torch")


def test_horovod_is_needed_where_no_fallback_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda module: False)
    config = Config(training=TrainingConfig(backend="horovod", fallback=False))
    assert [result.status for result in doctor.check_horovod(config)] == ["fail"]


def test_a_process_that_hangs_is_ended_and_one_that_fails_is_quoted() -> None:
    with pytest.raises(EnvironmentProblem, match="no answer in 0 s"):
        doctor._run([sys.executable, "-c", "import time; time.sleep(60)"], 0.2)
    with pytest.raises(EnvironmentProblem, match=r"^no luck$"):
        doctor._run([sys.executable, "-c", "import sys; sys.exit('no luck')"], 60)


@pytest.mark.parametrize(
    ("setting", "gib"), [("3g", 3.0), ("512m", 0.5), ("2GB", 2.0), ("1t", 1024.0), (str(2**30), 1.0)]
)
def test_heap(setting: str, gib: float) -> None:
    assert doctor.heap_gib(setting) == gib


def test_a_heap_that_the_jvm_would_refuse_is_named() -> None:
    with pytest.raises(ValueError, match=r"spark.driver_memory .* got 'lots'"):
        doctor.heap_gib("lots")


def test_the_server_of_mlflow_is_asked_where_runs_are_logged(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    assert list(doctor.check_tracking(Config())) == []

    def found(uri: str) -> tuple[str, str]:
        config = Config(tracking=TrackingConfig(enabled=True, uri=uri))
        [result] = doctor.run_checks(config, checks=[Check("MLflow", doctor.check_tracking, "mend it")])
        return result.status, result.detail

    assert found(f"sqlite:///{tmp_path}/runs/mlflow.db")[0] == "ok"
    assert not (tmp_path / "runs").exists()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    status, detail = found(f"http://127.0.0.1:{port}")
    assert status == "fail"
    assert f"http://127.0.0.1:{port}" in detail


def test_more_memory_wanted_than_there_is() -> None:
    [result] = doctor.check_memory(Config(spark=SparkConfig(driver_memory="4000g")))
    assert result.status == "warn"
    assert "spark.driver_memory" in result.remedy


def test_disk_looks_where_tables_will_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(lakehouse=LakehouseConfig(root=str(tmp_path / "not" / "yet" / "there")))
    assert [result.status for result in doctor.check_disk(config)] == ["ok", "ok"]
    monkeypatch.setattr(doctor, "NO_DISK_GIB", 1e9)
    monkeypatch.setattr(doctor, "LITTLE_DISK_GIB", 1e9)
    assert [result.status for result in doctor.check_disk(config)] == ["fail", "fail"]
    remote = Config(lakehouse=LakehouseConfig(root="s3a://bucket/lake"))
    assert [result.name for result in doctor.check_disk(remote)] == ["disk (temporary files)"]


def test_importing_the_doctor_imports_nothing_heavy() -> None:
    code = (
        "import sys, dlmine_spark.doctor; "
        "sys.exit(str({'pyspark', 'torch', 'pandas', 'deltalake', 'horovod'} & set(sys.modules) or '') or 0)"
    )
    doctor._run([sys.executable, "-c", code], 60)
