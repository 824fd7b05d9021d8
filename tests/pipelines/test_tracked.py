"""Runs of stages in MLflow: what is logged of each, nothing of those skipped; and work outlives a failure."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import forecast, graph, train
from dlmine_spark.pipelines.graph import Stage, bring_up_to_date
from dlmine_spark.pipelines.tracked import StageTracker
from dlmine_spark.runs import StageReport
from dlmine_spark.tracking import address_of, open_tracking
from tests.pipelines.examples import BACKTEST, with_training_panel
from tests.pipelines.test_graph import Silent
from tests.training.panels import FINAL, SMALL, panel_rows

pytestmark = [
    pytest.mark.spark,
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed (extra mlflow)"),
]


def config_for(lakehouse: Lakehouse, **tracking: Any) -> Config:
    return Config.model_validate(
        {
            "lakehouse": {"root": lakehouse.config.root},
            "sources": {"sales": {"kind": "panel", "path": "p.csv", "columns": {"ds": "date", "y": "sales"}}},
            "spark": {"conf": {"spark.hadoop.fs.s3a.secret.key": "s3cret"}},
            "evaluation": {"horizon": 7},
            "cleaning": {"frequency": "D"},
            "training": SMALL.model_copy(update={"epochs": 2}).model_dump(),
            "tracking": {"enabled": True, "registered_model": "sales", **tracking},
        }
    )


def client_of(config: Config) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=address_of(config, {}).uri)


def runs_of(config: Config) -> dict[str, list[Any]]:
    """The runs in MLflow by stage, oldest first."""
    client = client_of(config)
    experiment = client.get_experiment_by_name("dlmine-spark")
    found: dict[str, list[Any]] = {}
    for run in client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]):
        found.setdefault(run.data.tags["dlmine.stage"], []).append(run)
    return found


class Panels:
    """A stage in the place of all those before the training: the training panel is there already."""

    def __init__(self, tables: dict[str, int]) -> None:
        self.tables = tables
        self.error: BaseException | None = None

    def run(self, config: Config, lakehouse: Lakehouse) -> StageReport:
        if self.error is not None:
            raise self.error
        lakehouse.written.update(self.tables)
        return StageReport(rows_in=3, rows_out=2, rows_rejected=1, message="panels are there")


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch, lakehouse: Lakehouse, tmp_path: Path) -> Panels:
    with_training_panel(lakehouse, tmp_path, panel_rows(FINAL))
    made = Panels({s.TRAINING_PANEL.name: 0, s.PANEL.name: 0})
    stages = {
        "fuse": Stage("fuse", (), ("evaluation",)),
        "train": Stage("train", ("fuse",), ("training", "evaluation", "cleaning")),
    }
    monkeypatch.setattr(graph, "STAGES", stages)
    monkeypatch.setattr(graph, "_stage_function", {"fuse": made.run, "train": train.run}.__getitem__)
    monkeypatch.setattr(graph.sources, "contents", lambda *_: "content")
    return made


def test_what_a_run_is_made_of_and_what_came_of_it(
    panels: Panels, lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    config = config_for(lakehouse)
    tracker = StageTracker(config, open_tracking(config, {}))
    done = bring_up_to_date(config, lakehouse, ["train"], Silent(), tracker=tracker)
    # Up to date: nothing is logged.
    bring_up_to_date(config, lakehouse, ["train"], Silent(), tracker=tracker)

    found = runs_of(config)
    assert {stage: [run.info.status for run in runs] for stage, runs in found.items()} == {
        "fuse": ["FINISHED"],
        "train": ["FINISHED"],
    }
    (fused,), (trained,) = found["fuse"], found["train"]
    assert fused.data.metrics["rows_rejected"] == 1
    assert fused.data.tags["input.source.sales"] == "content"
    assert trained.info.run_name == trained.data.tags["dlmine.run_id"] == done["train"].run_id
    assert trained.data.tags["input.table.gold.training_panel"] == "0"
    assert trained.data.tags["input.stage.fuse"] == done["fuse"].run_id
    assert trained.data.tags["output.table.gold.forecasts"] == "0"
    assert trained.data.params["training.hidden"] == "12"
    assert "mining.min_support" not in trained.data.params
    assert trained.data.metrics["series"] == 4
    client = client_of(config)
    for cutoff in (BACKTEST, FINAL):
        curve = client.get_metric_history(trained.info.run_id, f"loss/{cutoff}/member 1")
        assert [point.step for point in curve] == ([1, 2] if cutoff == BACKTEST else [1])
    files = {one.path for one in client.list_artifacts(trained.info.run_id)}
    assert files == {"config.yaml", "manifest.json", "metrics.json", "model"}
    kept = Path(client.download_artifacts(trained.info.run_id, "config.yaml")).read_text(encoding="utf-8")
    assert "s3cret" not in kept
    assert "hidden: 12" in kept

    # The registered model says what the stage forecast says.
    inputs = {s.TRAINING_PANEL.name: 0, s.PANEL.name: 0, s.CALIBRATION.name: 0}
    forecast.run(config, lakehouse.for_run("forecast-1", inputs))
    expected = lakehouse.read(s.FORECASTS.name).where(f"model = 'lstm' AND cutoff = DATE'{FINAL}'").toPandas()
    rows = lakehouse.read(s.TRAINING_PANEL.name).where(f"cutoff = DATE'{FINAL}'").toPandas()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address_of(config, {}).uri)
    scored = mlflow.pyfunc.load_model("models:/sales/1").predict(rows)
    both = [frame.sort_values(["unique_id", "h"], ignore_index=True) for frame in (scored, expected)]
    names = ["unique_id", "y_hat", "lo_80", "hi_80", "lo_95", "hi_95"]
    pd.testing.assert_frame_equal(both[0][names], both[1][names], rtol=1e-6)


def test_an_attempt_that_failed_is_gone_on_with(panels: Panels, lakehouse: Lakehouse) -> None:
    config = config_for(lakehouse)
    tracker = StageTracker(config, open_tracking(config, {}))
    panels.error = OSError("https://ann:pa55@host is away")
    with pytest.raises(OSError, match="is away"):
        bring_up_to_date(config, lakehouse, ["fuse"], Silent(), tracker=tracker)
    (failed,) = runs_of(config)["fuse"]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["mlflow.note.content"] == "https://***@host is away"

    panels.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bring_up_to_date(config, lakehouse, ["fuse"], Silent(), tracker=tracker)
    assert [run.info.status for run in runs_of(config)["fuse"]] == ["KILLED"]

    panels.error = None
    bring_up_to_date(config, lakehouse, ["fuse"], Silent(), tracker=tracker)
    (done,) = runs_of(config)["fuse"]
    assert (done.info.run_id, done.info.status) == (failed.info.run_id, "FINISHED")
    assert done.data.tags["mlflow.note.content"] == "panels are there"


def test_work_outlives_a_tracking_server_that_is_gone(
    panels: Panels, lakehouse: Lakehouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_for(lakehouse, uri=f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    tracker = StageTracker(config, open_tracking(config, {}))
    shutil.rmtree(tmp_path / "mlflow")

    done = bring_up_to_date(config, lakehouse, ["fuse"], Silent(), tracker=tracker)

    assert done["fuse"].status == "done"
    assert [record.getMessage() for record in caplog.records if "MLflow" in record.getMessage()] == [
        "fuse: not all of it is logged to MLflow: attempt to write a readonly database"
    ]
