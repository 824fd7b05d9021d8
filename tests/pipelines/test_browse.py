"""What lies in a lakehouse and what ran, told from files and by Spark alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from dlmine_spark.browsing import FileBrowser, NeedsSpark, SparkBrowser
from dlmine_spark.config import Config, LakehouseConfig, SparkConfig, load_config
from dlmine_spark.errors import ConfigError, DlmineError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import browse
from dlmine_spark.runs import Ledger, StageReport

deltalake = pytest.importorskip("deltalake")


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse of two tables that two runs wrote, a third of somebody else, and a run that failed."""
    place = tmp_path_factory.mktemp("browse") / "lakehouse"
    lakehouse = Lakehouse(spark, LakehouseConfig(root=str(place)))
    ledger = Ledger(lakehouse)
    cleaned = ledger.begin("clean", "hash", {})
    rows = spark.createDataFrame([("S1", 1.5), ("S2", None), ("S3", 3.25)], "unique_id string, y double")
    versions = {"silver.things": lakehouse.overwrite("silver.things", rows)}
    ledger.finish(cleaned, StageReport(rows_in=4, rows_out=3, rows_rejected=1, message="three of four"), versions)
    mined = ledger.begin("mine", "hash", {})
    versions = {"gold.findings": lakehouse.overwrite("gold.findings", rows.select("y"))}
    ledger.finish(mined, StageReport(rows_in=3, rows_out=3), versions)
    ledger.fail(ledger.begin("arima", "hash", {}), "silver.panel: too short")
    ledger.begin("train", "hash", {})
    deltalake.write_deltalake(str(place / "gold" / "foreign"), pa.table({"n": list(range(7))}))
    return place


@pytest.fixture
def config(root: Path) -> Config:
    return load_config((), [f"lakehouse.root={root}"])


@pytest.fixture
def by_spark(monkeypatch: pytest.MonkeyPatch, spark: SparkSession) -> None:
    """As if deltalake were not installed."""

    @contextmanager
    def session(_config: SparkConfig) -> Iterator[SparkSession]:
        yield spark

    monkeypatch.setattr(browse, "can_browse_files", lambda: False)
    monkeypatch.setattr(browse, "open_session", session)


@pytest.fixture
def without_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    def session(_config: SparkConfig) -> None:
        pytest.fail("Spark was started")

    monkeypatch.setattr(browse, "open_session", session)


@pytest.mark.usefixtures("without_spark")
def test_tables_are_listed_by_layer_with_their_rows_and_writers(config: Config) -> None:
    lines = [line.split() for line in browse.tables(config).splitlines()]

    assert lines[0] == ["table", "rows", "size", "version", "written", "stage", "run"]
    # Name, rows; then size with its unit, version, day, time; stage.
    assert [(line[0], line[1], line[4], line[7]) for line in lines[1:]] == [
        ("silver.things", "3", "0", "clean"),
        ("gold.findings", "3", "0", "mine"),
        ("gold.foreign", "7", "0", "-"),
        ("ops.runs", "7", "6", "-"),
    ]
    assert lines[1][8].startswith("clean-")


def test_both_ways_of_looking_tell_the_same(root: Path, spark: SparkSession) -> None:
    files, by_query = FileBrowser(root), SparkBrowser(Lakehouse(spark, LakehouseConfig(root=str(root))))

    # Of tables that no run of ours wrote, only a folder tells.
    assert [name for name in files.tables() if name != "gold.foreign"] == by_query.tables()
    for name in by_query.tables():
        told, asked = files.state(name), by_query.state(name)
        # One is the time in the commit, the other that of its file.
        assert replace(told, written_at=asked.written_at) == asked
        assert abs(told.written_at - asked.written_at) < timedelta(seconds=5)
    for where in (None, "y > 2", "unique_id = 'S1' -- the first"):
        read, queried = files.excerpt("silver.things", 5, where), by_query.excerpt("silver.things", 5, where)
        assert (read.columns, sorted(read.rows)) == (queried.columns, sorted(queried.rows))
    assert len(files.ledger()) == len(by_query.ledger()) == 7


@pytest.mark.usefixtures("without_spark")
def test_show_prints_rows_of_a_table_named_in_short(config: Config) -> None:
    assert browse.show(config, "things", 10).splitlines() == [
        "unique_id  y",
        "S1         1.5",
        "S2",
        "S3         3.25",
        "silver.things: 3 of 3 rows",
    ]
    assert browse.show(config, "silver.things", 1, "y > 2").splitlines()[1:] == [
        "S3         3.25",
        "silver.things: 1 rows",
    ]


@pytest.mark.usefixtures("without_spark")
@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("silver.thing", "there is no such table; did you mean silver.things?"),
        ("findigs", "did you mean gold.findings"),
        ("xyz", "there are silver.things, gold.findings, gold.foreign, ops.runs"),
    ],
)
def test_an_unknown_table_is_answered_by_near_names(config: Config, table: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem.replace("?", r"\?")):
        browse.show(config, table, 10)


def test_a_condition_of_sparks_own_is_asked_of_spark(
    config: Config, monkeypatch: pytest.MonkeyPatch, spark: SparkSession
) -> None:
    @contextmanager
    def session(_config: SparkConfig) -> Iterator[SparkSession]:
        yield spark

    monkeypatch.setattr(browse, "open_session", session)

    assert "silver.things: 1 rows" in browse.show(config, "things", 9, "`unique_id` rlike '^S3' and y <=> 3.25D")
    with pytest.raises(ConfigError, match=r"--where nothing > 1: .*columns: unique_id, y"):
        browse.show(config, "things", 9, "nothing > 1")


@pytest.mark.usefixtures("without_spark")
def test_history_has_the_last_word_about_each_run_newest_first(config: Config) -> None:
    lines = browse.history(config).splitlines()

    assert [line.split()[2:4] for line in lines[1:]] == [
        ["train", "running"],
        ["arima", "failed"],
        ["mine", "done"],
        ["clean", "done"],
    ]
    assert "it runs, or was killed" in lines[1]
    assert lines[2].endswith("silver.panel: too short")
    assert lines[4].split()[5:] == ["4", "3", "1", "three", "of", "four"]
    assert [line.split()[2] for line in browse.history(config, "clean").splitlines()[1:]] == ["clean"]
    assert browse.history(config, last=1).splitlines()[-1] == "and 3 earlier ones"
    with pytest.raises(ConfigError, match="--stage cleen: no run of it is on record; there are runs of arima, clean"):
        browse.history(config, "cleen")


@pytest.mark.usefixtures("by_spark")
def test_without_deltalake_spark_answers(config: Config) -> None:
    assert "silver.things" in browse.tables(config)
    assert "silver.things: 3 of 3 rows" in browse.show(config, "things", 10)
    assert browse.history(config, "clean").splitlines()[1].endswith("three of four")


def test_a_table_is_of_the_run_that_made_it_and_not_of_one_that_kept_it(tmp_path: Path) -> None:
    table = deltalake.write_deltalake
    place, at = tmp_path / "lakehouse", datetime.now(UTC)
    table(str(place / "gold" / "models"), pa.table({"n": [1]}))
    runs = [
        {
            "run_id": f"segment-{place}",
            "stage": "segment",
            "started_at": at + timedelta(minutes=place),
            "ended_at": at + timedelta(minutes=place + 0.5),
            "output_versions": [("gold.models", 0)],
        }
        for place in range(2)
    ]
    types = pa.map_(pa.string(), pa.int64())
    versions = pa.array([run["output_versions"] for run in runs], types)
    ledger = pa.Table.from_pylist([{**run, "output_versions": None} for run in runs])
    table(str(place / "ops" / "runs"), ledger.set_column(4, "output_versions", versions))

    told = browse.tables(load_config((), [f"lakehouse.root={place}"]))

    assert told.splitlines()[1].split()[-1] == "segment-0"


@pytest.mark.usefixtures("without_spark")
def test_an_empty_or_missing_lakehouse_is_told(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        empty = load_config((), [f"lakehouse.root={root}"])
        for look in (browse.tables, browse.history, partial(browse.show, table="panel", rows=1)):
            with pytest.raises(DlmineError, match="holds no tables yet; dlmine run --config FILE makes them"):
                look(empty)


def test_a_broken_table_needs_spark(tmp_path: Path) -> None:
    (tmp_path / "silver" / "broken" / "_delta_log").mkdir(parents=True)

    with pytest.raises(NeedsSpark, match=r"silver\.broken"):
        FileBrowser(tmp_path).state("silver.broken")


def test_a_table_that_lost_a_commit_is_told_to_be_damaged_beside_the_others(tmp_path: Path) -> None:
    for name in ("panel", "statics"):
        deltalake.write_deltalake(str(tmp_path / "silver" / name), pa.table({"id": [1]}))
        deltalake.write_deltalake(str(tmp_path / "silver" / name), pa.table({"id": [2]}), mode="append")
    (tmp_path / "silver" / "panel" / "_delta_log" / f"{0:020}.json").unlink()
    config = Config(lakehouse=LakehouseConfig(root=str(tmp_path)))

    lines = {line.split()[0]: line.split()[1:3] for line in browse.tables(config).splitlines()}
    assert lines["silver.panel"] == ["damaged", "-"]
    assert lines["silver.statics"][0] == "2"
    with pytest.raises(DlmineError, match=r"silver\.panel \(.*\): is damaged, its log has no commit 0: run"):
        browse.show(config, "panel", 5)
