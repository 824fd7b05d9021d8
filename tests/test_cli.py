"""The command line: exit codes, one-line errors, help that names every command; no Spark needed here."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dlmine_spark import cli, session
from dlmine_spark.cli import STAGE_HELP, main
from dlmine_spark.config import Config, LakehouseConfig, load_config
from dlmine_spark.pipelines import graph
from dlmine_spark.places import lock
from dlmine_spark.progress import JsonFormatter

ROOT = Path(__file__).parents[1]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command run in this process."""
    try:
        main(arguments)
        code = 0
    except SystemExit as done:
        code = int(done.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["mine", "--set", "mining.min_suport=.1"], 2, "mining.min_suport: unknown key, did you mean min_support?"),
        (["mine", "--set", "evaluation.horizon=0"], 2, "evaluation.horizon"),
        (["mine", "--config", "nowhere.yaml"], 2, "nowhere.yaml: no such configuration file"),
        (["mine", "--nonsense"], 2, "--nonsense"),
        (["mine", "--since", "3"], 2, "--since says what --drift compares with: give both or neither"),
        (["mine", "--drift", "--since", "-1"], 2, "--since"),
        (["arima", "--predict", "--force"], 2, "--force fits all series, --predict as few as it can"),
        (["arima", "--predict", "--cutoffs", "3"], 2, "--predict forecasts from the end of the data only"),
        (["arima", "--cutoffs", "0"], 2, "evaluation.cutoffs: Input should be greater than or equal to 1, got 0 (--cu"),
        (["mine", "--by", "month"], 2, "--by month: no source of kind lines is configured"),
        (["nonsense"], 2, "nonsense"),
        (["simulate"], 2, "--out"),
        (["init"], 2, "FILE..."),
        (["init", "nowhere.csv"], 1, "nowhere.csv: no such file"),
        (["init", "a.csv", "b.csv", "--long", "c.csv"], 2, "--long writes one file anew"),
        (["show"], 2, "TABLE"),
        (["show", "panel", "--rows", "0"], 2, "--rows"),
        (["tables", "--set", "lakehouse.root=nowhere"], 1, "holds no tables yet"),
        (["mine", "--set", "mining.min_support"], 2, "expected section.key=value"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    actual, _, stderr = run(capsys, *arguments)

    assert actual == code
    assert message in stderr
    assert len(stderr.strip().splitlines()) == 1
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("by", "targets"), [("store_segment", ["segment", "mine"]), ("month", ["mine"]), ("store_id", ["mine"])]
)
def test_groups_by_segment_need_segments(monkeypatch: pytest.MonkeyPatch, by: str, targets: list[str]) -> None:
    called: list[tuple[Sequence[str], str]] = []

    def stages(targets: Sequence[str], _config: Config, *, follow: Sequence[Any], **_options: Any) -> None:
        called.extend((targets, follower.args[0]) for follower in follow)

    monkeypatch.setattr(cli, "_run_stages", stages)
    columns = "{basket_id: null, item: null, ts: null, store_id: null}"
    source = ("sources.r.kind=lines", "sources.r.path=lines.csv", f"sources.r.columns={columns}")
    main(["mine", "--by", by, *(part for setting in source for part in ("--set", setting))])
    assert called == [(targets, by)]


@pytest.mark.parametrize(("options", "targets"), [([], ["backtest"]), (["--ablation"], ["ablation", "backtest"])])
def test_an_ablation_is_made_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, options: list[str], targets: list[str]
) -> None:
    called: list[Sequence[str]] = []
    monkeypatch.setattr(cli, "_run_stages", lambda targets, *_, **__: called.append(targets))
    main(["backtest", *options])
    assert called == [targets]


def test_what_export_cannot_do_is_told_before_spark_is_started(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(session, "open_session", lambda *_: pytest.fail("Spark was started"))
    for table in ("gold/forecasts", "silver/panel"):
        (tmp_path / "house" / table / "_delta_log").mkdir(parents=True)
    (tmp_path / "house" / "silver" / "panel" / "_delta_log" / f"{1:020}.json").write_text("{}", encoding="utf-8")

    def said(*arguments: str) -> tuple[int, str]:
        code, _, problem = run(capsys, "export", *arguments, "--set", f"lakehouse.root={tmp_path}/house")
        return code, problem

    own = said("forecasts", f"{tmp_path}/house/gold", "--format", "csv", "--mode", "append")
    assert own[0] == 2
    assert "house/gold: is where lakehouse.root is" in own[1]
    unknown = said("forecast", f"{tmp_path}/out.csv")
    assert unknown[0] == 2
    assert "forecast: there is no such table; did you mean gold.forecasts?" in unknown[1]
    damaged = said("panel", f"{tmp_path}/out.csv")
    assert damaged[0] == 1
    assert "is damaged, its log has no commit 0: run the stage that writes it with --force" in damaged[1]


@pytest.mark.parametrize("arguments", [["init", "s.csv", "--out="], ["export", "x", "o.csv", "--where", ""]])
def test_an_option_without_a_value_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, _, problem = run(capsys, *arguments)
    assert code == 2
    assert "has no value" in problem


def test_a_file_that_spark_cannot_read_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (
        "An error occurred while calling o1.count.\n: org.apache.spark.SparkException: [FAILED_READ_FILE.NO_HINT] "
        "Encountered error while reading file file:///lake/silver/panel/p.parquet. SQLSTATE: KD001\n\tat x\n"
        "Caused by: java.io.EOFException: it ends early"
    )

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(cli, "_run_stages", fail)
    code, _, problem = run(capsys, "report")

    assert code == 1
    assert problem.startswith(
        "error: file:///lake/silver/panel/p.parquet: cannot be read: it ends early; if it is of a t"
    )
    assert len(problem.splitlines()) == 1


def test_a_date_without_its_series_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, problem = run(capsys, "explain", "--date", "2024-06-21")
    assert code == 2
    assert "--date says which forecast of a series to explain: give --series, too" in problem


def test_what_was_tuned_lies_over_the_files_and_below_set_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop = tmp_path / "shop.yaml"
    shop.write_text(f"lakehouse: {{root: {tmp_path}/house}}\ntraining: {{hidden: 8, layers: 1}}\n", encoding="utf-8")
    asked = ("config", "--config", str(shop), "--set", "training.layers=3", "--set", "tuning.apply=true")
    assert "hidden: 8" in run(capsys, *asked)[1]

    (tmp_path / "house" / "tuning").mkdir(parents=True)
    winner = tmp_path / "house" / "tuning" / "best.yaml"
    winner.write_text("training: {hidden: 24, layers: 2}\ntuning: {until: '2024-01-05'}\n", encoding="utf-8")
    applied = run(capsys, *asked)[1]
    assert "hidden: 24" in applied
    assert "layers: 3" in applied
    assert "until: '2024-01-05'" in applied
    assert "hidden: 8" in run(capsys, *asked[:5])[1]

    # A search starts from what is configured, not from what the last one found.
    called: list[Config] = []
    monkeypatch.setattr(cli, "_run_stages", lambda _, asked, **__: called.append(asked.config))
    pytest.importorskip("optuna")
    main(["tune", *asked[1:]])
    main(["backtest", *asked[1:]])
    assert [config.training.hidden for config in called] == [8, 24]


def test_cutoffs_of_arima_are_those_of_the_evaluation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Config] = []
    monkeypatch.setattr(cli, "_run_stages", lambda _, asked, **__: called.append(asked.config))
    assert run(capsys, "arima", "--cutoffs", "3")[0] == 0
    assert called == [load_config(overrides=["evaluation.cutoffs=3"])]


def test_without_optuna_nothing_is_started(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr(cli, "_run_stages", lambda *_, **__: pytest.fail("work has started"))
    code, _, stderr = run(capsys, "tune")
    assert code == 3
    assert "pip install 'dlmine-spark[tune]'" in stderr


def test_what_needs_no_spark_is_refused_before_it_starts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def started(_: object) -> None:
        raise AssertionError("Spark was started")

    monkeypatch.setattr(session, "open_session", started)
    file = tmp_path / "sales.csv"
    source = f"sources.sales={{kind: panel, path: '{file}', columns: {{ds: date, y: sales}}}}"
    command = ["clean", "--set", source, "--set", f"lakehouse.root={tmp_path}/house"]

    code, _, stderr = run(capsys, *command)
    assert code == 1
    assert f"{file}: no such file" in stderr

    file.write_text("date,turnover\n2024-01-01,1\n")
    code, _, stderr = run(capsys, *command)
    assert code == 1
    assert "column sales (for y) is missing" in stderr

    file.write_text("date,sales\n2024-01-01,1\n")
    with lock(LakehouseConfig(root=f"{tmp_path}/house")):
        code, _, stderr = run(capsys, *command)
    assert code == 1
    assert "another dlmine job (process" in stderr


def test_debug_shows_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, stderr = run(capsys, "mine", "--debug", "--set", "mining.min_support=9")

    assert code == 2
    assert "Traceback" in stderr


def test_success_returns_instead_of_leaving() -> None:
    main(["config"])


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, stdout, _ = run(capsys, "--help")

    assert code == 0
    for command in (*STAGE_HELP, "run", "simulate", "doctor", "config"):
        assert command in stdout


def test_the_environment_counts_below_set(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLMINE__EVALUATION__HORIZON", "11")
    assert "horizon: 11" in run(capsys, "config")[1]
    assert "horizon: 12" in run(capsys, "config", "--set", "evaluation.horizon=12")[1]


def test_every_stage_that_is_asked_for_has_a_command_and_every_command_a_job() -> None:
    # fuse and blend have no commands of their own: train and backtest bring them up to date.
    assert set(STAGE_HELP) == set(graph.STAGES) - {"fuse", "blend", "ablation"}
    assert {job.stem for job in (ROOT / "jobs").glob("*.py")} == {*STAGE_HELP, "run"}
    for job in (ROOT / "jobs").glob("*.py"):
        assert len(job.read_text().splitlines()) < 10
        assert f'main(["{job.stem}", *sys.argv[1:]])' in job.read_text(), job.name


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"pyspark", "torch", "horovod", "statsmodels", "jinja2", "pandas"}
    code = f"import sys, dlmine_spark, dlmine_spark.cli; print(*({heavy!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert loaded.stdout.split() == []


def test_json_logs_are_one_object_a_line() -> None:
    record = logging.LogRecord("dlmine", logging.INFO, __file__, 1, "mine: %s", ("385\nitemsets",), None)
    record.stage, record.event, record.seconds = "mine", "finished", 1.5

    line = JsonFormatter().format(record)

    assert "\n" not in line
    entry = json.loads(line)
    assert entry["message"] == "mine: 385\nitemsets"
    assert (entry["stage"], entry["event"], entry["seconds"], entry["level"]) == ("mine", "finished", 1.5, "info")


def test_init_writes_a_configuration_beside_and_says_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    days = [f"2024-01-{day:02d},{100 + day}" for day in range(1, 31)]
    Path("my sales.csv").write_text("\n".join(["date,sales", *days]))

    code, told, _ = run(capsys, "init", "my sales.csv")

    assert code == 0
    assert "sales   y         sounds like what is forecast" in told
    assert told.splitlines()[-1].endswith("run it: dlmine run --config my_sales.yaml")
    assert load_config([Path("my_sales.yaml")]).sources["my_sales"].path == "my sales.csv"

    code, _, error = run(capsys, "init", "my sales.csv")
    assert (code, "my_sales.yaml: is there already; name another file by --out" in error) == (2, True)
    assert run(capsys, "init", "my sales.csv", "--force", "--out", "my_sales.yaml")[0] == 0


def test_init_turns_a_wide_file_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    months = [",".join([f"2024-{month:02d}", *(str(unit * month) for unit in range(1, 7))]) for month in range(1, 13)]
    Path("wide.csv").write_text("\n".join(["month,T1,T2,T3,T4,T5,T6", *months]))

    code, _, error = run(capsys, "init", "wide.csv")
    assert (code, "dlmine init wide.csv --long wide_long.csv" in error) == (1, True)

    code, told, _ = run(capsys, "init", "wide.csv", "--long", "wide_long.csv")
    assert code == 0
    assert "wide_long.csv: 72 rows, one for each date and series" in told
    assert load_config([Path("wide_long.yaml")]).sources["wide_long"].columns["unique_id"].source == "unique_id"
