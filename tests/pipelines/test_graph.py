"""Bringing stages up to date: what runs, what is skipped, what a killed or failed run leaves behind.

The stages here are two tiny ones, ``first`` (reads the sources) and ``second`` (reads ``first``'s table).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dlmine_spark import sources
from dlmine_spark.config import Config, load_config
from dlmine_spark.errors import ConfigError, DlmineError, SourceError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import graph
from dlmine_spark.pipelines.graph import Stage, bring_up_to_date, upstream_of
from dlmine_spark.runs import DONE, FAILED, RUNNING, Ledger, NotApplicable, Run, StageReport

CONFIG = load_config(overrides=["sources.panel={kind: panel, path: p.csv, columns: {ds: date, y: sales}}"])


@dataclass
class World:
    """Two stages that note what ran, and a source whose content can change."""

    ran: list[tuple[str, str]] = field(default_factory=list)
    content: str = "content-1"
    error: BaseException | None = None
    page: Path | None = None
    before_second: Callable[[], object] = lambda: None
    rows_seen: int = 0
    times_behind: int = 0

    def first(self, config: Config, lakehouse: Lakehouse) -> StageReport:
        self.ran.append(("first", lakehouse.run_id))
        lakehouse.overwrite("silver.first", lakehouse.spark.sql("select 1 as x"))
        model = lakehouse.folder("models") / "model"
        model.write_text("weights")
        lakehouse.keep(model)
        if self.error is not None:
            raise self.error
        self.times_behind -= 1
        return StageReport(rows_in=1, rows_out=1, message="first is done", is_behind=self.times_behind >= 0)

    def second(self, config: Config, lakehouse: Lakehouse) -> StageReport | NotApplicable:
        self.ran.append(("second", lakehouse.run_id))
        self.before_second()
        rows = self.rows_seen = lakehouse.read("silver.first").count()
        if self.page is not None:
            self.page.write_text("page")
            lakehouse.keep(self.page)
        return StageReport(rows_in=rows, rows_out=0) if config.mining.max_len != 1 else NotApplicable("no")

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.ran]


class Silent:
    """A listener that keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def started(self, stage: str, index: int, total: int) -> None:
        self.heard.append(f"{stage} started {index}/{total}")

    def up_to_date(self, stage: str, index: int, total: int) -> None:
        self.heard.append(f"{stage} up to date")

    def finished(self, stage: str, message: str, seconds: float) -> None:
        self.heard.append(f"{stage} finished: {message}")

    def failed(self, stage: str, seconds: float) -> None:
        self.heard.append(f"{stage} failed")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    stages = {
        "first": Stage("first", (), ("sources", "cleaning")),
        "second": Stage("second", ("first",), ("mining",)),
    }
    monkeypatch.setattr(graph, "STAGES", stages)
    monkeypatch.setattr(graph, "_stage_function", lambda name: getattr(made, name))
    monkeypatch.setattr(sources, "contents", lambda *_: made.content)
    return made


def test_stages_run_in_order_once_and_are_then_up_to_date(world: World, lakehouse: Lakehouse) -> None:
    listener = Silent()
    bring_up_to_date(CONFIG, lakehouse, ["second"], listener)
    bring_up_to_date(CONFIG, lakehouse, ["second"], listener)

    assert world.names == ["first", "second"]
    assert listener.heard == [
        "first started 1/2",
        "first finished: first is done",
        "second started 2/2",
        "second finished: ",
        "first up to date",
        "second up to date",
    ]


def test_a_stage_that_took_in_a_part_of_what_is_there_runs_again(world: World, lakehouse: Lakehouse) -> None:
    world.times_behind = 2
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())

    assert world.names == ["first", "first", "first", "second"]
    # Each is a run of its own.
    assert len({run_id for _, run_id in world.ran}) == 4


def test_a_kill_between_two_such_runs_leaves_no_stage_that_seems_up_to_date(
    world: World, lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill_in_the_second(ledger: Ledger, *known: object, begin: Callable[..., Run] = Ledger.begin) -> Run:
        if world.ran:
            raise Killed
        return begin(ledger, *known)

    world.times_behind = 1
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "begin", kill_in_the_second)
        with pytest.raises(Killed):
            bring_up_to_date(CONFIG, lakehouse, ["first"], Silent())
    bring_up_to_date(CONFIG, lakehouse, ["first"], Silent())
    bring_up_to_date(CONFIG, lakehouse, ["first"], Silent())

    assert world.names == ["first", "first"]


@pytest.mark.parametrize(("table", "stage"), [("silver.first", "first"), ("ops.runs", "second")])
def test_a_damaged_table_is_told_and_set_aside_when_it_is_forced(
    world: World, lakehouse: Lakehouse, table: str, stage: str
) -> None:
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())
    folder = Path(lakehouse.address(table))
    (folder / "_delta_log" / f"{0:020}.json").write_text('{"commitInfo"', encoding="utf-8")

    with pytest.raises(DlmineError, match=rf"{table} .*commit 0 of its log .* is no JSON: 'dlmine {stage} --force'"):
        bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent(), force=True)

    assert world.names == ["first", "second"] * 2
    assert lakehouse.damage(table) is None
    (aside,) = folder.parents[1].glob(f"damaged/*/{folder.parent.name}/{folder.name}/_delta_log/{0:020}.json")
    assert aside.read_text(encoding="utf-8") == '{"commitInfo"'


def test_what_nothing_writes_anew_is_not_set_aside(world: World, lakehouse: Lakehouse) -> None:
    log_folder = Path(lakehouse.address("ops.corrections"), "_delta_log")
    log_folder.mkdir(parents=True)
    (log_folder / f"{1:020}.json").write_text("{}", encoding="utf-8")

    with pytest.raises(DlmineError, match=r"ops.corrections .*has no commit 0, and no stage can write it anew"):
        bring_up_to_date(CONFIG, lakehouse, ["second"], Silent(), force=True)
    assert log_folder.is_dir()


def test_of_a_shared_table_that_was_begun_anew_earlier_rows_are_gone(lakehouse: Lakehouse) -> None:
    for table in ("gold.forecasts", "gold.rules"):
        log_folder = Path(lakehouse.address(table), "_delta_log")
        log_folder.mkdir(parents=True)
        (log_folder / f"{3:020}.json").touch()

    assert [lakehouse.has("gold.forecasts", version) for version in (3, 4)] == [True, False]
    assert lakehouse.has("gold.rules", 4)


def test_a_changed_source_reruns_everything_after_it(world: World, lakehouse: Lakehouse) -> None:
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())
    world.content = "content-2"
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())

    assert world.names == ["first", "second", "first", "second"]


def test_a_changed_section_reruns_the_stages_that_depend_on_it(world: World, lakehouse: Lakehouse) -> None:
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())
    changed = CONFIG.model_copy(update={"mining": CONFIG.mining.model_copy(update={"min_support": 0.5})})
    bring_up_to_date(changed, lakehouse, ["second"], Silent())

    assert world.names == ["first", "second", "second"]


def test_a_stage_whose_file_is_gone_runs_again(world: World, lakehouse: Lakehouse) -> None:
    page = lakehouse.folder("report") / "index.html"
    world.page = page
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())
    assert world.names == ["first", "second"]

    page.unlink()
    runs = bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())

    assert world.names == ["first", "second", "second"]
    assert runs["second"].output_versions == {"file report/index.html": 4}
    # Only a table's version is an input of the next stage.
    assert set(runs["second"].input_versions) == {"stage first", "table silver.first"}


def test_a_file_cut_off_counts_as_gone(lakehouse: Lakehouse, tmp_path: Path) -> None:
    page, elsewhere = lakehouse.folder("report") / "index.html", tmp_path / "elsewhere.html"
    for file in (page, elsewhere):
        file.write_text("page")
        lakehouse.keep(file)
    assert lakehouse.written == {"file report/index.html": 4, f"file {elsewhere}": 4}
    assert all(lakehouse.has(output, 4) for output in lakehouse.written)

    for file in (page, elsewhere):
        file.write_text("pa")
    assert not any(lakehouse.has(output, 4) for output in lakehouse.written)


def test_a_clock_that_was_set_back_does_not_hide_the_last_run(lakehouse: Lakehouse) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    ledger = Ledger(lakehouse)
    ledger._write(Run("first-1", "first", RUNNING, {}, "hash", tomorrow))

    ledger.finish(ledger.begin("first", "hash", {}), StageReport(rows_in=1, rows_out=1), {})

    last = Ledger(lakehouse).last("first")
    assert last is not None
    assert (last.run_id, last.status) == ("first-1", DONE)


def test_a_stage_reads_the_versions_that_it_started_with(world: World, lakehouse: Lakehouse) -> None:
    world.before_second = lambda: lakehouse.append("silver.first", lakehouse.spark.sql("select 2 as x"))
    runs = bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())

    assert world.rows_seen == 1
    assert runs["second"].input_versions["table silver.first"] == "0"


def test_a_table_corrected_by_hand_reaches_the_stages_after_it(world: World, lakehouse: Lakehouse) -> None:
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())
    lakehouse.append("silver.first", lakehouse.spark.sql("select 2 as x"))
    runs = bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())

    assert world.names == ["first", "second", "second"]
    assert runs["second"].input_versions["table silver.first"] == "1"


def test_forcing_reruns_the_target_only(world: World, lakehouse: Lakehouse) -> None:
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent(), force=True)

    assert world.names == ["first", "second", "second"]


def test_without_upstream_a_stale_input_is_refused(world: World, lakehouse: Lakehouse) -> None:
    with pytest.raises(ConfigError, match=r"first is not up to date.*dlmine first"):
        bring_up_to_date(CONFIG, lakehouse, ["second"], Silent(), upstream=False)
    assert world.ran == []


def test_without_new_data_the_last_clean_is_worked_on(world: World, lakehouse: Lakehouse) -> None:
    with pytest.raises(ConfigError, match=r"the last first left, but there is none: run 'dlmine first'"):
        bring_up_to_date(CONFIG, lakehouse, ["second"], Silent(), new_data=False)
    bring_up_to_date(CONFIG, lakehouse, ["first"], Silent())
    world.content = "content-2"

    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent(), new_data=False)
    assert world.names == ["first", "second"]
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())
    assert world.names == ["first", "second", "first", "second"]

    other = load_config(overrides=["sources.panel={kind: panel, path: other.csv, columns: {ds: date, y: sales}}"])
    with pytest.raises(ConfigError, match="had other settings"):
        bring_up_to_date(other, lakehouse, ["second"], Silent(), new_data=False)


def test_ranks_over_spark_connect_are_refused_before_any_work() -> None:
    remote = load_config(overrides=["spark.remote=sc://cluster:15002"])
    graph.check_ranks(remote, ["mine", "arima"])
    graph.check_ranks(load_config(overrides=["spark.remote=sc://c", "training.backend=local"]), ["report"])
    with pytest.raises(ConfigError, match=r"training.backend is horovod.*stage train.*training\.backend=local"):
        graph.check_ranks(remote, ["report"])


def test_a_failed_stage_is_noted_and_continued_under_its_id(world: World, lakehouse: Lakehouse) -> None:
    world.error = SourceError("p.csv: is empty")
    listener = Silent()
    with pytest.raises(SourceError):
        bring_up_to_date(CONFIG, lakehouse, ["second"], listener)
    last = Ledger(lakehouse).last("first")
    assert last is not None
    assert last.status == FAILED
    assert listener.heard[-1] == "first failed"

    world.error = None
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())

    assert world.names == ["first", "first", "second"]
    assert world.ran[0] == world.ran[1]


def test_a_killed_stage_is_continued_under_its_id(world: World, lakehouse: Lakehouse) -> None:
    inputs = {"source panel": "content-1"}
    killed = Ledger(lakehouse).begin("first", CONFIG.digest("sources", "cleaning"), inputs)

    bring_up_to_date(CONFIG, lakehouse, ["first"], Silent())

    assert world.ran == [("first", killed.run_id)]
    rows = lakehouse.read("ops.runs").orderBy("started_at", "ended_at").collect()
    assert [(row["run_id"], row["status"]) for row in rows] == [
        (killed.run_id, RUNNING),
        (killed.run_id, RUNNING),
        (killed.run_id, "done"),
    ]
    assert rows[-1]["started_at"] < rows[-1]["ended_at"]
    last = Ledger(lakehouse).last("first")
    assert last is not None
    assert last.status == "done"


def test_a_stage_with_nothing_to_do_counts_as_up_to_date(world: World, lakehouse: Lakehouse) -> None:
    config = CONFIG.model_copy(update={"mining": CONFIG.mining.model_copy(update={"max_len": 1})})
    runs = bring_up_to_date(config, lakehouse, ["second"], Silent())
    bring_up_to_date(config, lakehouse, ["second"], Silent())

    assert world.names == ["first", "second"]
    assert runs["second"].status == "not_applicable"
    assert runs["second"].message == "no"


def test_a_deleted_table_is_made_again(world: World, lakehouse: Lakehouse) -> None:
    import shutil

    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())
    shutil.rmtree(lakehouse.address("silver.first"))
    bring_up_to_date(CONFIG, lakehouse, ["second"], Silent())

    assert world.names[:3] == ["first", "second", "first"]


def test_a_stage_beside_is_read_where_it_is_up_to_date_and_never_run_for_it(
    world: World, lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last stage reads the second one, where it has been asked for on the same inputs and settings."""
    monkeypatch.setitem(graph.STAGES, "last", Stage("last", ("first",), ("report",), beside=("second",)))
    seen: list[bool] = []

    def last(config: Config, bound: Lakehouse) -> StageReport:
        seen.append(bound.exists("silver.second"))
        return StageReport(rows_in=0, rows_out=0)

    def second(config: Config, bound: Lakehouse) -> StageReport:
        bound.overwrite("silver.second", bound.spark.sql("select 1 as x"))
        return StageReport(rows_in=0, rows_out=0)

    functions = {"first": world.first, "second": second, "last": last}
    monkeypatch.setattr(graph, "_stage_function", functions.__getitem__)
    changed = CONFIG.model_copy(update={"mining": CONFIG.mining.model_copy(update={"max_len": 2})})

    for config, targets in (
        (CONFIG, "last"),
        (CONFIG, "second"),
        (CONFIG, "last"),
        (CONFIG, "last"),
        (changed, "last"),
    ):
        bring_up_to_date(config, lakehouse, [targets], Silent())

    # Not there, there, up to date with it, and of other settings than now.
    assert seen == [False, True, False]
    assert world.names == ["first"]

    # One that tells its settings is read beside others.
    monkeypatch.setitem(graph.STAGES, "second", replace(graph.STAGES["second"], tells_settings=True))
    bring_up_to_date(changed, lakehouse, ["last"], Silent())
    assert seen[-1]


def test_no_sources_is_said_before_anything_starts(lakehouse: Lakehouse) -> None:
    with pytest.raises(ConfigError, match="no sources are configured"):
        bring_up_to_date(Config(), lakehouse, ["clean"], Silent())


def test_the_real_graph_orders_every_stage_after_its_inputs() -> None:
    assert upstream_of(["train"]) == ["clean", "segment", "mine", "arima", "fuse", "train"]
    names = list(graph.STAGES)
    for stage in graph.STAGES.values():
        assert all(names.index(name) < names.index(stage.name) for name in (*stage.upstream, *stage.beside))
    assert not {"ablation", "tune"} & set(upstream_of(["report"]))
