"""MLflow: where runs go, who is asked before work begins, what a run holds. A real database each; no Spark."""

from __future__ import annotations

import importlib.util
import os
import socket
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dlmine_spark.config import Config, load_config
from dlmine_spark.errors import ConfigError, EnvironmentProblem
from dlmine_spark.scoring import LOADER, write_scorer
from dlmine_spark.tracking import Measure, Tracking, address_of, open_tracking
from dlmine_spark.training.comm import SingleProcess
from dlmine_spark.training.job import train_cutoffs
from dlmine_spark.training.predict import cutoff_folder
from tests.test_cli import run
from tests.test_scoring import FACTORS
from tests.training.panels import FINAL, SMALL, panel_rows, small_request

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed (extra mlflow)"
)


def tracked(folder: Path, **settings: Any) -> Config:
    return Config.model_validate({"lakehouse": {"root": str(folder)}, "tracking": {"enabled": True, **settings}})


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tracked(tmp_path_factory.mktemp("tracked"))


@pytest.fixture
def tracking(config: Config) -> Tracking:
    return open_tracking(config, {})


@pytest.fixture
def client(config: Config) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=address_of(config, {}).uri)


def test_runs_go_where_the_configuration_or_the_platform_or_the_environment_says(tmp_path: Path) -> None:
    server = {"MLFLOW_TRACKING_URI": "https://ann:pa55@mlflow.example"}
    platform = {"DATABRICKS_RUNTIME_VERSION": "17.3"}
    beside = address_of(tracked(tmp_path), {})
    assert beside.uri == f"sqlite:///{tmp_path}/tracking/mlflow.db"
    assert beside.files == f"file://{tmp_path}/tracking/artifacts"
    assert address_of(tracked(tmp_path), server).uri == "https://ann:pa55@mlflow.example"
    assert repr(address_of(tracked(tmp_path), server)) == "Address(https://***@mlflow.example)"
    assert address_of(tracked(tmp_path), server | platform).uri == "databricks"
    assert address_of(tracked(tmp_path, uri="http://other:5000"), server).uri == "http://other:5000"
    with pytest.raises(ConfigError, match="no local folder that a database could lie in"):
        address_of(
            tracked(tmp_path).model_copy(
                update={"lakehouse": Config().lakehouse.model_copy(update={"root": "s3a://bucket/lake"})}
            ),
            {},
        )
    with pytest.raises(ConfigError, match="retired its file store: give sqlite:///FILE"):
        address_of(tracked(tmp_path, uri="mlruns"), {})


def test_credentials_in_the_configuration_are_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError, match=r"tracking\.uri holds credentials: give them in the environment") as problem:
        load_config(overrides=["tracking.uri=https://ann:pa55@mlflow.example"])
    assert "pa55" not in str(problem.value)


@needs_mlflow
def test_a_server_that_is_not_there_is_told_of_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:pa55@127.0.0.1:{port}")
    (tmp_path / "sales.csv").write_text("ds,y\n2024-01-01,1\n", encoding="utf-8")
    source = f"sources.sales={{kind: panel, path: {tmp_path}/sales.csv, columns: {{ds: ds, y: y}}}}"
    root = f"lakehouse.root={tmp_path}/house"
    started = time.monotonic()

    code, _, stderr = run(capsys, "clean", "--set", source, "--set", root, "--set", "tracking.enabled=true")

    assert code == 3
    assert f"no MLflow answers at http://***@127.0.0.1:{port}" in stderr
    assert "pa55" not in stderr
    assert time.monotonic() - started < 30
    assert [path.name for path in (tmp_path / "house").iterdir()] == [".dlmine.lock"]


@needs_mlflow
def test_a_server_that_says_nothing_is_not_waited_for(
    tmp_path: Path, silent_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    started = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=rf"MLflow at http://127.0.0.1:{silent_server} cannot be used") as told:
        open_tracking(tracked(tmp_path, uri=f"http://127.0.0.1:{silent_server}"), {})
    assert time.monotonic() - started < 20
    assert "t0ken" not in str(told.value)
    # Nothing of our patience is left in the environment.
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


@needs_mlflow
def test_a_database_that_cannot_be_made_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(EnvironmentProblem, match=r"MLflow at sqlite:////\S+/file/mlflow.db cannot be used"):
        open_tracking(tracked(tmp_path, uri=f"sqlite:///{tmp_path}/file/mlflow.db"), {})


@needs_mlflow
def test_an_attempt_under_the_same_id_goes_on_with_its_run(tracking: Tracking, client: Any) -> None:
    first = tracking.begin("train-1", "train-1", parameters={"training.workers": "2"}, tags={"dlmine.stage": "train"})
    tracking.add(first, measures=[Measure("loss/2024-01-01/member 1", 0.5, 1)])

    again = tracking.begin("train-1", "train-1", parameters={"training.workers": "1", "b (c)": "x"}, tags={})
    tracking.add(again, measures=[Measure("loss/2024-01-01/member 1", 0.25, 2), Measure("none", float("nan"))])
    tracking.add_text(again, "a: 1\n", "config.yaml")
    tracking.end(again, "FINISHED")

    assert again == first != tracking.begin("train-2", "train-2", parameters={}, tags={})
    found = client.get_run(first)
    assert found.info.status == "FINISHED"
    # What a run was begun with stays: its results are of no other settings than of execution.
    assert found.data.params == {"training.workers": "2", "b _c_": "x"}
    assert found.data.metrics == {"loss/2024-01-01/member 1": 0.25}
    curve = client.get_metric_history(first, "loss/2024-01-01/member 1")
    assert [(point.step, point.value) for point in curve] == [(1, 0.5), (2, 0.25)]
    assert [one.path for one in client.list_artifacts(first)] == ["config.yaml"]


@needs_mlflow
def test_a_registered_model_is_loaded_and_scores(
    tracking: Tracking, client: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    request = small_request(tmp_path, SMALL.model_copy(update={"epochs": 1}))
    train_cutoffs(request, SingleProcess())
    scorer = write_scorer(tmp_path / "scorer", cutoff_folder(request.folder, FINAL), "D", FACTORS, {"s1": 0})
    run_id = tracking.begin("train-3", "train-3", parameters={}, tags={})

    columns = (scorer.inputs, scorer.outputs)
    assert tracking.add_model(run_id, tmp_path / "scorer", LOADER, columns, "sales") == "models:/sales/1"
    assert tracking.add_model(run_id, tmp_path / "scorer", LOADER, columns, "sales") == "models:/sales/2"

    assert client.get_model_version("sales", "1").run_id == run_id
    kept = {one.path for one in client.list_artifacts(run_id, "model")}
    assert not [path for path in kept if path.endswith((".pkl", ".pickle"))]
    # Only here, as a user would.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address_of(config, {}).uri)
    model = mlflow.pyfunc.load_model("models:/sales/1")
    rows = panel_rows(FINAL).to_pandas()
    pd.testing.assert_frame_equal(model.predict(rows), scorer.predict(rows))
    names = {column.name: column.required for column in model.metadata.get_input_schema().inputs}
    assert names["kf_promo"]
    assert not names["arima_path"]
    returned = [column.name for column in model.metadata.get_output_schema().inputs]
    assert returned[-4:] == ["lo_80", "hi_80", "lo_95", "hi_95"]
    with pytest.raises(mlflow.exceptions.MlflowException, match="kf_promo"):
        model.predict(rows.drop(columns=["kf_promo"]))
