"""The whole pipeline on a tiny simulated world, every job through real spark-submit, two real Horovod ranks.

One lakehouse is filled step by step, so the tests of this file run in order; each job's test fails on its own words.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from dlmine_spark.config import SparkConfig
from dlmine_spark.datasets.simulate import simulate
from dlmine_spark.pipelines.graph import STAGES
from dlmine_spark.session import java_options

ROOT = Path(__file__).parents[1]
JOBS = ["clean", "segment", "mine", "arima", "train", "backtest", "tune", "explain", "forecast", "report", "run"]
ALWAYS = ("clean", "train", "run")
"""These run the stages of the others, too."""
KILLED_ONCE = ("clean", "train")
"""Killed before they may finish; ``scripts/fault_kill.py`` does so in every stage and compares all tables."""
SMALL = [
    "training.epochs=2",
    "training.final_epochs=1",
    "training.samples_per_epoch=512",
    "training.hidden=16",
    "training.history=28",
    "evaluation.horizon=14",
    "arima.feature_origins=20",
    "tuning.trials=2",
    "tuning.seeds=1",
    "tuning.space={hidden: [24]}",
    "explain.windows=24",
    "explain.repeats=1",
    "segmentation.restarts=1",
    "segmentation.k_max=4",
    "mining.min_support=0.02",
    "spark.driver_memory=1500m",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw files of a tiny world, and a folder for its lakehouse."""
    folder = tmp_path_factory.mktemp("world")
    simulate("tiny", 7, folder / "raw")
    return folder


def options(world: Path) -> list[str]:
    """Arguments that point the demo's configuration at the tiny world."""
    demo = (ROOT / "conf" / "examples" / "demo.yaml").read_text(encoding="utf-8")
    config = world / "demo.yaml"
    config.write_text(demo.replace("build/demo/raw", str(world / "raw")), encoding="utf-8")
    settings = [*SMALL, f"lakehouse.root={world / 'lakehouse'}"]
    return ["--config", str(config), *(part for setting in settings for part in ("--set", setting))]


def run_command(arguments: list[str], timeout: int = 400) -> subprocess.CompletedProcess[str]:
    """Run a program as a user would: in the activated environment, from another folder than the project's."""
    return subprocess.run(arguments, capture_output=True, text=True, timeout=timeout, cwd="/", env=activated())


def activated() -> dict[str, str]:
    """The variables of an activated environment."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def spark_submit(job: str, world: Path) -> list[str]:
    """The command that submits a job of ``jobs/``."""
    submit = str(Path(sys.executable).with_name("spark-submit"))
    java = " ".join(java_options(SparkConfig(jvm="quick")))
    spark = [submit, "--master", "local[2]", "--driver-memory", "1500m", "--driver-java-options", java]
    return [*spark, str(ROOT / "jobs" / f"{job}.py"), "--json-logs", *options(world)]


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("job", [job if job in ALWAYS else pytest.param(job, marks=pytest.mark.slow) for job in JOBS])
def test_every_job_runs_through_spark_submit(world: Path, job: str) -> None:
    killed_run = kill_while_running(job, world) if job in KILLED_ONCE else None

    done = run_command(spark_submit(job, world), timeout=1200)

    assert done.returncode == 0, done.stderr[-3000:]
    expected = "report" if job == "run" else job
    assert f"{expected}: " in done.stdout
    if killed_run is not None:
        # It went on under the killed run's name: nothing was done twice under two.
        assert runs_of(job, world) == {killed_run: "done"}


def kill_while_running(job: str, world: Path) -> str:
    """Kill -9 all processes of a job some seconds after its stage started; the id of the run that was killed."""
    killed = subprocess.Popen(
        spark_submit(job, world),
        # spark-submit passes both on to the one.
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=activated(),
    )
    assert killed.stdout is not None
    for line in killed.stdout:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("stage") == job and event.get("event") == "started":
            break
    else:
        raise AssertionError(f"{job} never started: exit code {killed.wait()}")
    while "running" not in (runs := runs_of(job, world)).values():
        assert killed.poll() is None, f"{job} was over before it could be killed"
        time.sleep(0.2)
    time.sleep(2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert runs_of(job, world) == runs
    (run_id,) = runs
    return run_id


def runs_of(stage: str, world: Path) -> dict[str, str]:
    """Runs of a stage on the ledger, and the last word about each."""
    try:
        ledger = DeltaTable(world / "lakehouse" / "ops" / "runs").to_pandas()
    except TableNotFoundError:
        return {}
    runs = ledger[ledger["stage"] == stage].sort_values(["started_at", "ended_at"], na_position="first")
    return dict(zip(runs["run_id"], runs["status"], strict=True))


def test_a_scenario_changes_the_forecasts_it_is_about_and_no_others(world: Path) -> None:
    scenario = world / "scenario.yaml"
    scenario.write_text(
        "name: no_promotion\nchanges: [{series: [S001], set: {promo: 0, promoted_item: none}}]\n", encoding="utf-8"
    )
    submit = [*spark_submit("forecast", world), "--scenario", str(scenario), "--new-series"]

    done = run_command(submit)

    assert done.returncode == 0, done.stderr[-3000:]
    assert "scenario no_promotion: 14 forecasts of 1 series changed" in done.stdout
    assert "left out in turn: WAPE" in done.stdout
    rows = DeltaTable(world / "lakehouse" / "gold" / "scenarios").to_pandas()
    assert {"lstm", "arima", "blend", "seasonal_naive"} <= set(rows["model"])
    about = rows["unique_id"] == "S001"
    np.testing.assert_allclose(rows.loc[~about, "y_hat"], rows.loc[~about, "as_planned"], rtol=1e-5)
    assert (rows["is_changed"] == about).all()
    of_network = rows[about & (rows["model"] == "lstm")]
    assert not np.allclose(of_network["y_hat"], of_network["as_planned"], rtol=1e-3)


def test_the_ranks_were_horovods_where_it_is_installed(world: Path) -> None:
    if importlib.util.find_spec("horovod") is None:
        pytest.skip("Horovod is not installed")
    metrics = list((world / "lakehouse" / "models").rglob("metrics.json"))

    assert metrics
    assert json.loads(metrics[0].read_text(encoding="utf-8"))["backend"] == "horovod"


def test_the_report_is_there(world: Path) -> None:
    page = (world / "lakehouse" / "report" / "index.html").read_text(encoding="utf-8")

    assert "<html" in page
    assert "LSTM" in page


def test_the_jobs_are_the_graphs_stages() -> None:
    assert set(JOBS) == (set(STAGES) - {"fuse", "blend", "ablation"}) | {"run"}
