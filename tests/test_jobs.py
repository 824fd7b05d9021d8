"""The whole pipeline on a tiny simulated world, every job through real spark-submit, two real Horovod ranks.

One lakehouse is filled step by step, so the tests of this file run in order; each job's test fails on its own words.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlmine_spark.config import SparkConfig
from dlmine_spark.datasets.simulate import simulate
from dlmine_spark.pipelines.graph import STAGES
from dlmine_spark.session import java_options

ROOT = Path(__file__).parents[1]
JOBS = ["clean", "segment", "mine", "arima", "train", "backtest", "explain", "forecast", "report", "run"]
SMALL = [
    "training.epochs=2",
    "training.final_epochs=1",
    "training.samples_per_epoch=512",
    "training.hidden=16",
    "training.history=28",
    "evaluation.horizon=14",
    "arima.feature_origins=20",
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


def options(world: Path, lakehouse: str = "lakehouse") -> list[str]:
    """Arguments that point the demo's configuration at the tiny world."""
    demo = (ROOT / "conf" / "examples" / "demo.yaml").read_text(encoding="utf-8")
    config = world / "demo.yaml"
    config.write_text(demo.replace("build/demo/raw", str(world / "raw")), encoding="utf-8")
    settings = [*SMALL, f"lakehouse.root={world / lakehouse}"]
    return ["--config", str(config), *(part for setting in settings for part in ("--set", setting))]


def run_command(arguments: list[str], timeout: int = 400) -> subprocess.CompletedProcess[str]:
    """Run a program as a user would: in the activated environment, from another folder than the project's."""
    activated = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": activated}
    return subprocess.run(arguments, capture_output=True, text=True, timeout=timeout, cwd="/", env=environment)


@pytest.mark.parametrize("job", JOBS)
def test_every_job_runs_through_spark_submit(world: Path, job: str) -> None:
    submit = Path(sys.executable).with_name("spark-submit")
    java = " ".join(java_options(SparkConfig(jvm="quick")))
    spark = [str(submit), "--master", "local[2]", "--driver-memory", "1500m", "--driver-java-options", java]

    done = run_command([*spark, str(ROOT / "jobs" / f"{job}.py"), *options(world)])

    assert done.returncode == 0, done.stderr[-3000:]
    expected = "report" if job == "run" else job
    assert f"{expected}: " in done.stdout


def test_the_ranks_were_horovods_where_it_is_installed(world: Path) -> None:
    if importlib.util.find_spec("horovod") is None:
        pytest.skip("Horovod is not installed")
    metrics = list((world / "lakehouse" / "models").rglob("metrics.json"))

    assert metrics
    assert json.loads(metrics[0].read_text(encoding="utf-8"))["backend"] == "horovod"


def test_the_report_is_there(world: Path) -> None:
    page = (world / "lakehouse" / "report" / "index.html").read_text(encoding="utf-8")

    assert "<html" in page
    assert "lstm" in page


def dlmine(*arguments: str) -> list[str]:
    """The command line of this environment."""
    return [sys.executable, "-c", "from dlmine_spark.cli import main; main()", *arguments]


@pytest.mark.parametrize("stage", ["clean", "train"])
def test_a_killed_pipeline_goes_on_and_ends_with_the_same_tables(world: Path, stage: str, tmp_path: Path) -> None:
    """Kill -9 the process group while a stage runs; the next run continues its run and finishes."""
    lakehouse = f"killed-{stage}"
    if stage == "train":
        # everything before training is taken from the finished lakehouse, minus the training run itself
        _copy_without_training(world / "lakehouse", world / lakehouse)
    command = dlmine(stage, "--json-logs", *options(world, lakehouse), "--set", "training.backend=local")

    killed = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert killed.stderr is not None
    for line in killed.stderr:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("stage") == stage and event.get("event") == "started":
            break
    time.sleep(4)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()

    again = run_command(command)

    assert again.returncode == 0, again.stderr[-3000:]
    assert f"{stage}: " in again.stdout


def _copy_without_training(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("models", "report", "metrics"))


def test_the_jobs_are_the_graphs_stages() -> None:
    assert set(JOBS) == (set(STAGES) - {"fuse"}) | {"run"}
