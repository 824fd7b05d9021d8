"""The Databricks bundle: held against the platform's own model of a job, and run task by task as it would be there."""

from __future__ import annotations

import importlib.metadata
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from dlmine_spark.cli import main
from dlmine_spark.pipelines.graph import STAGES, upstream_of

ROOT = Path(__file__).parents[1]
BUNDLE = yaml.safe_load((ROOT / "databricks.yml").read_text(encoding="utf-8"))
JOBS = {
    name: job
    for file in sorted((ROOT / "resources").glob("*.yml"))
    for name, job in yaml.safe_load(file.read_text(encoding="utf-8"))["resources"]["jobs"].items()
}


def tasks_of(job: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {task["task_key"]: task for task in job["tasks"]}


def before(tasks: Mapping[str, Mapping[str, Any]], name: str) -> set[str]:
    """The tasks that are over when one starts."""
    direct = {dependency["task_key"] for dependency in tasks[name].get("depends_on", ())}
    return direct.union(*(before(tasks, other) for other in direct))


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_one_to_the_platform(name: str) -> None:
    jobs = pytest.importorskip("databricks.bundles.jobs")
    job = jobs.Job.from_dict(JOBS[name])

    clusters = {cluster.job_cluster_key for cluster in job.job_clusters}
    environments = {environment.environment_key for environment in job.environments}
    for task in job.tasks:
        assert (task.job_cluster_key in clusters) != (task.environment_key in environments), task.task_key
    assert str(job.schedule.pause_status) == "PauseStatus.PAUSED"
    with pytest.raises(ValueError, match="Unexpected field"):
        jobs.Job.from_dict({**JOBS[name], "task": []})


@pytest.mark.parametrize("name", JOBS)
def test_tasks_have_the_order_of_the_stages_and_never_run_the_same_one_side_by_side(name: str) -> None:
    tasks = tasks_of(JOBS[name])
    runs: dict[str, set[str]] = {}
    for task in tasks:
        done = before(tasks, task)
        runs[task] = set(upstream_of([task])) - set(upstream_of(done))
        # Stages without a task of their own are run by the task that needs them.
        assert {stage for stage in runs[task] if stage in tasks} == {task}
        assert ("--no-clean" in tasks[task]["python_wheel_task"]["parameters"]) == (task != "clean")
    for one, other in combinations(tasks, 2):
        side_by_side = one not in before(tasks, other) and other not in before(tasks, one)
        assert not (side_by_side and runs[one] & runs[other]), (one, other)
    assert set.union(*runs.values()) == set(STAGES) - {"ablation", "tune"}


def test_variables_are_declared_and_used() -> None:
    texts = [(ROOT / "databricks.yml").read_text(encoding="utf-8")]
    texts += [file.read_text(encoding="utf-8") for file in sorted((ROOT / "resources").glob("*.yml"))]
    used = set(re.findall(r"\$\{var\.(\w+)\}", "".join(texts)))
    assert used == set(BUNDLE["variables"])
    assert [name for name, variable in BUNDLE["variables"].items() if "default" not in variable] == ["config"]
    assert set(BUNDLE["targets"]) == {"dev", "prod"}


@pytest.mark.parametrize("name", JOBS)
def test_the_entry_point_is_the_commands(name: str) -> None:
    for task in JOBS[name]["tasks"]:
        wheel = task["python_wheel_task"]
        scripts = importlib.metadata.distribution(wheel["package_name"]).entry_points.select(group="console_scripts")
        assert scripts[wheel["entry_point"]].load() is main


def shop(folder: Path) -> Path:
    """A configuration of a panel that is forecast within seconds."""
    first = date(2024, 1, 1)
    rows = [
        f"s{series},{first + timedelta(days=day)},{20 + 5 * series + 4 * (day % 7) + (day * 7 + series) % 3}"
        for series in range(3)
        for day in range(70)
    ]
    (folder / "sales.csv").write_text("\n".join(["store,date,sales", *rows]), encoding="utf-8")
    config = {
        "sources": {
            "sales": {
                "kind": "panel",
                "path": str(folder / "sales.csv"),
                "columns": {"unique_id": "store", "ds": "date", "y": "sales"},
            }
        },
        "evaluation": {"horizon": 7},
        "arima": {"feature_origins": 2},
        "training": {
            "backend": "local",
            "epochs": 1,
            "final_epochs": 1,
            "samples_per_epoch": 64,
            "members": 1,
            "hidden": 4,
            "history": 14,
        },
        "explain": {"windows": 4, "repeats": 1},
    }
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@pytest.fixture
def schema(spark: SparkSession) -> Iterator[str]:
    """The name of a schema that no other run has left files of."""
    name = f"dlmine_{uuid.uuid4().hex}"
    yield name
    spark.sql(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_task_runs_with_what_the_bundle_passes(
    spark: SparkSession,
    schema: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = {
        "workspace.file_path": str(ROOT),
        "var.config": str(shop(tmp_path)),
        "var.catalog": "spark_catalog",
        "var.schema": schema,
        "var.volume": str(tmp_path / "volume"),
        "var.workers": "1",
    }

    def resolved(text: str) -> str:
        return re.sub(r"\$\{([\w.]+)\}", lambda match: known[match[1]], text)

    job = JOBS["dlmine"]
    for cluster in job.get("job_clusters", ()):
        for variable, value in cluster["new_cluster"]["spark_env_vars"].items():
            monkeypatch.setenv(variable, resolved(value))
    for task in job["tasks"]:
        # Returns: a SystemExit, even 0, would be a failure there.
        main([resolved(parameter) for parameter in task["python_wheel_task"]["parameters"]])

    assert "report: " in capsys.readouterr().out
    assert (tmp_path / "volume" / "report" / "index.html").exists()
    assert spark.table(f"{schema}.gold_metrics").where("model = 'blend'").count() > 0
    failed = spark.table(f"{schema}.ops_runs").where("status = 'failed'").count()
    assert failed == 0
