"""Bad input through the whole command line: one line that names the culprit, the right exit code, nothing half written.

Runs in this process on the shared session, so that a case costs what its stages cost.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.cli import main
from dlmine_spark.lakehouse import Lakehouse

START = date(2024, 1, 1)


def sales(days: int, store: str | None = None) -> str:
    """A CSV of ``date,sales`` (and ``store``) with a weekly pattern."""
    header = "date,sales" + (",store" if store else "")
    lines = [f"{START + timedelta(days=day)},{100 + day % 7}" + (f",{store}" if store else "") for day in range(days)]
    return "\n".join([header, *lines]) + "\n"


def run(
    capsys: pytest.CaptureFixture[str], lakehouse: Lakehouse, command: str, file: Path, *settings: str
) -> tuple[int, str]:
    """Exit code and last line of standard error of a command on one panel file."""
    overrides = [
        "sources.sales.kind=panel",
        f"sources.sales.path={file}",
        "sources.sales.columns.ds=date",
        "sources.sales.columns.y=sales",
        f"lakehouse.root={lakehouse.config.root}",
        "evaluation.horizon=7",
        *settings,
    ]
    try:
        main([command, *(part for setting in overrides for part in ("--set", setting))])
        code = 0
    except SystemExit as done:
        code = int(done.code or 0)
    stderr = capsys.readouterr().err
    assert "Traceback" not in stderr
    return code, (stderr.strip().splitlines() or [""])[-1]


@pytest.mark.parametrize(
    ("content", "settings", "code", "words"),
    [
        (None, (), 1, ["sales.csv"]),
        ("", (), 1, ["sales.csv", "empty"]),
        ("date,sales\n", (), 1, ["sales.csv"]),
        (sales(40).replace(",", ";"), (), 1, ["sales.csv", "delimiter"]),
        (sales(40).replace("sales", "turnover", 1), (), 1, ["sales.csv", "sales", "turnover"]),
        (sales(40), ("sources.sales.colums.y=x",), 2, ["sources.sales.colums", "unknown key"]),
        (sales(40), ("evaluation.horizon=400",), 1, ["evaluation.horizon", "400", "40", "at most 19"]),
        (sales(1), (), 1, ["evaluation.horizon", "only 1 step (", "longer history"]),
        (
            "date,sales\n" + "\n".join(f"2024-01-{day:02d}," for day in range(1, 31)) + "\n",
            (),
            1,
            ["sales.csv", "column sales (y)", "sources.sales.columns.y.from"],
        ),
    ],
    ids=[
        "missing file",
        "empty file",
        "header only",
        "wrong delimiter",
        "header without the mapped column",
        "unknown key",
        "horizon beyond history",
        "one row",
        "all-null column",
    ],
)
def test_bad_input_is_one_line_that_names_the_culprit(
    spark: SparkSession,
    lakehouse: Lakehouse,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    settings: tuple[str, ...],
    code: int,
    words: list[str],
) -> None:
    file = tmp_path / "sales.csv"
    if content is not None:
        file.write_text(content, encoding="utf-8")

    actual, message = run(capsys, lakehouse, "arima", file, *settings)

    assert actual == code
    assert message.startswith("error: ")
    for word in words:
        assert word in message
    assert not lakehouse.exists("gold.forecasts")


def test_one_store_is_forecast(
    spark: SparkSession, lakehouse: Lakehouse, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sales.csv"
    file.write_text(sales(60, store="7"), encoding="utf-8")

    code, message = run(capsys, lakehouse, "arima", file, "sources.sales.columns.unique_id=store")

    assert code == 0, message
    assert lakehouse.read("gold.forecasts").where("model like 'arima%'").count() == 2 * 7


def test_a_bad_source_leaves_the_tables_of_the_last_good_run(
    spark: SparkSession, lakehouse: Lakehouse, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sales.csv"
    file.write_text(sales(30), encoding="utf-8")
    assert run(capsys, lakehouse, "clean", file)[0] == 0
    before = {table: lakehouse.version(table) for table in ("silver.panel", "silver.quarantine")}

    file.write_text("date,sales\n" + "x,y\n" * 30, encoding="utf-8")
    code, message = run(capsys, lakehouse, "clean", file)

    assert code == 1
    assert "max_rejected" in message
    assert {table: lakehouse.version(table) for table in before} == before
