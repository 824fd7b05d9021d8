"""The stages, what each depends on, and bringing them up to date as make does.

    clean -> segment, mine, arima -> fuse -> train -> blend -> backtest, forecast -> report
                                         |         -> explain ....................^
                                         -> ablation, tune (when asked for) ......^

A stage runs when its inputs or its configuration changed since it last finished, or what it wrote is gone; otherwise
it is skipped. Everything is decided from the ledger and Delta versions, so a killed job goes on where it stopped.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import uuid4

from dlmine_spark import schemas as s
from dlmine_spark import sources
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError, EnvironmentProblem
from dlmine_spark.lakehouse import FILE_PREFIX, SHARED_TABLES, Lakehouse
from dlmine_spark.pipelines import batches, damaged
from dlmine_spark.pipelines.data_sets import check_still_fresh
from dlmine_spark.runs import DONE, NOT_APPLICABLE, Ledger, NotApplicable, Run, StageReport

log = logging.getLogger(__name__)

StageFunction = Callable[[Config, Lakehouse], StageReport | NotApplicable]


@dataclass(frozen=True, slots=True)
class Stage:
    """A node of the graph.

    Attributes:
        name: of the stage, its command and its module in ``dlmine_spark.pipelines``.
        upstream: stages whose tables it reads.
        sections: parts of the configuration its result depends on: sections, or settings of one (``training.mined``).
        beside: stages whose tables it reads, too, where they are up to date; they are not run for it.
        tells_settings: what it wrote says with which settings, and stays true beside others on the same inputs.
    """

    name: str
    upstream: tuple[str, ...]
    sections: tuple[str, ...]
    beside: tuple[str, ...] = ()
    tells_settings: bool = False


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("clean", (), ("sources", "cleaning")),
        Stage("segment", ("clean",), ("sources", "cleaning", "segmentation")),
        Stage("mine", ("clean",), ("mining",)),
        Stage("arima", ("clean",), ("sources", "cleaning", "arima", "evaluation")),
        Stage(
            "fuse",
            ("segment", "mine", "arima"),
            # Of the signals, sequences and activations are only made for it where they are asked for.
            ("sources", "cleaning", "segmentation", "mining", "evaluation", "training.mined"),
        ),
        Stage("train", ("fuse",), ("training", "evaluation", "cleaning")),
        Stage("blend", ("train",), ("sources", "evaluation", "arima", "cleaning", "training", "lightgbm")),
        Stage("backtest", ("blend",), ("evaluation", "cleaning")),
        Stage("ablation", ("fuse",), ("training", "evaluation", "cleaning", "ablation")),
        Stage("tune", ("fuse",), ("training", "evaluation", "cleaning", "tuning"), tells_settings=True),
        Stage("explain", ("train",), ("explain", "evaluation", "cleaning", "sources")),
        Stage("forecast", ("blend",), ("evaluation",)),
        Stage("report", ("backtest", "explain", "forecast"), ("report", "evaluation"), beside=("ablation", "tune")),
    )
}
"""In the order they run; every stage stands after those it depends on."""


class Listener(Protocol):
    """Told what happens, to show it to whoever waits."""

    def started(self, stage: str, index: int, total: int) -> None: ...

    def up_to_date(self, stage: str, index: int, total: int) -> None: ...

    def finished(self, stage: str, message: str, seconds: float) -> None: ...

    def failed(self, stage: str, seconds: float) -> None: ...


class Tracker(Protocol):
    """Told what becomes of every run, to note it elsewhere; what goes wrong with that is its own business."""

    def begun(self, run: Run, sections: Sequence[str]) -> None: ...

    def finished(self, run: Run, report: StageReport | NotApplicable, lakehouse: Lakehouse, seconds: float) -> None: ...

    def failed(self, run: Run, error: BaseException) -> None: ...


def upstream_of(names: Iterable[str]) -> list[str]:
    """The named stages and everything they depend on, in running order."""
    wanted = set(names)
    for stage in reversed(STAGES.values()):
        if stage.name in wanted:
            wanted.update(stage.upstream)
    return [name for name in STAGES if name in wanted]


def check_sources(config: Config) -> None:
    """Refuse what can be seen to be wrong without Spark, which takes seconds to start.

    Raises:
        ConfigError: there are no sources.
        SourceError: a source's files are not there, are empty or plainly of another kind.
    """
    _refuse_no_sources(config)
    for name, source in config.sources.items():
        sources.look_at(name, source)


def check_ranks(config: Config, targets: Sequence[str]) -> None:
    """Refuse, before any work, to train by ranks that a remote session cannot start.

    Raises:
        ConfigError: ``spark.remote`` with another backend than local.
    """
    if config.spark.remote is not None and config.training.backend != "local" and "train" in upstream_of(targets):
        raise ConfigError(
            f"training.backend is {config.training.backend}, but ranks cannot be started through Spark Connect "
            "(spark.remote), and stage train is asked for: set training.backend=local to train in this process, or use "
            "spark-submit"
        )


def check_engine(config: Config, targets: Sequence[str]) -> None:
    """Refuse, before any work, an engine of ARIMA, or LightGBM, that is not installed.

    Raises:
        EnvironmentProblem: ``arima.engine`` or ``lightgbm.enabled`` asks for a library that is not there.
    """
    if config.arima.engine != "statsmodels" and "arima" in upstream_of(targets):
        # Only here: it brings numpy and pandas with it.
        from dlmine_spark.arima.other_engine import require_statsforecast

        require_statsforecast(config.arima)
    if config.lightgbm.enabled and "blend" in upstream_of(targets):
        from dlmine_spark.training.trees import require_lightgbm

        require_lightgbm()


def _refuse_no_sources(config: Config) -> None:
    if not config.sources:
        raise ConfigError(
            "no sources are configured: name a file, e.g. --config conf/examples/sales_csv.yaml "
            "--set sources.sales.path=sales.csv"
        )


def bring_up_to_date(
    config: Config,
    lakehouse: Lakehouse,
    targets: Sequence[str],
    listener: Listener,
    *,
    force: bool = False,
    upstream: bool = True,
    new_data: bool = True,
    tracker: Tracker | None = None,
) -> dict[str, Run]:
    """Run the targets, and before them the stages they depend on, where they are not up to date.

    Args:
        config: the whole configuration.
        lakehouse: the tables, not bound to a run.
        targets: stages wanted.
        listener: told of every stage.
        force: run the targets even if they are up to date.
        upstream: bring their inputs up to date first; otherwise refuse if they are not.
        new_data: whether to take in what became of the sources since the last clean; jobs that run side by side, or one
            after the other while files come in, work on what the first of them left.
        tracker: told of every run that is made, if there is one.

    Returns:
        The finished run of every stage involved.

    Raises:
        ConfigError: an input is not up to date and ``upstream`` is false; or there is no clean to work on.
        DlmineError: of the stage that failed, noted in the ledger.
        SourceError: a source that did not change is by now older than its ``freshness`` allows.
    """
    _refuse_no_sources(config)
    plan = upstream_of(targets)
    if force:
        damaged.set_aside(config, lakehouse)
    # Before it is read.
    damaged.refuse(lakehouse, [s.RUNS.name], targets[-1])
    ledger = Ledger(lakehouse)
    finished: dict[str, Run] = {}
    for index, name in enumerate(plan, start=1):
        stage = STAGES[name]
        config_hash = config.digest(*stage.sections)
        finished |= _up_to_date_beside(config, stage, lakehouse, ledger, finished)
        inputs = _input_versions(config, stage, lakehouse, finished)
        last = ledger.last(name)
        if last is not None:
            damaged.refuse(lakehouse, tables_written(last), name)
        forced = force and name in targets
        if not (new_data or stage.upstream):
            inputs = _inputs_as_they_were(name, last, config_hash, lakehouse)
        if last is not None and not forced and _is_up_to_date(last, config_hash, inputs, lakehouse):
            if new_data and name == "clean":
                check_still_fresh(config, lakehouse, datetime.now(UTC))
            finished[name] = last
            listener.up_to_date(name, index, len(plan))
            continue
        if not upstream and name not in targets:
            raise ConfigError(
                f"{name} is not up to date, and --no-upstream was given: run 'dlmine {name}' first, or drop the option"
            )
        listener.started(name, index, len(plan))
        is_behind = True
        while is_behind:
            run = ledger.begin(name, config_hash, inputs)
            finished[name], is_behind = _run_stage(config, lakehouse, ledger, run, listener, tracker)
            if is_behind:
                inputs = _input_versions(config, stage, lakehouse, finished)
    return finished


def _inputs_as_they_were(name: str, last: Run | None, config_hash: str, lakehouse: Lakehouse) -> dict[str, str]:
    """The inputs of a stage's last run, whatever they are by now.

    Raises:
        ConfigError: it did not end well, had another configuration, or a table of it is gone.
    """
    if last is None or not _is_up_to_date(last, config_hash, last.input_versions, lakehouse):
        problem = (
            "there is none" if last is None else f"it is {last.status}, had other settings, or its tables are gone"
        )
        raise ConfigError(f"--no-clean works on what the last {name} left, but {problem}: run 'dlmine {name}' first")
    return dict(last.input_versions)


def _run_stage(
    config: Config, lakehouse: Lakehouse, ledger: Ledger, run: Run, listener: Listener, tracker: Tracker | None
) -> tuple[Run, bool]:
    """The finished run, and whether there is more to take in."""
    start = time.monotonic()
    if tracker is not None:
        tracker.begun(run, STAGES[run.stage].sections)
    bound = lakehouse.for_run(run.run_id, _pins(run.input_versions))
    try:
        report = _stage_function(run.stage)(config, bound)
    except BaseException as error:
        listener.failed(run.stage, time.monotonic() - start)
        _note_failure(ledger, run, error)
        if tracker is not None:
            tracker.failed(run, error)
        raise
    seconds = time.monotonic() - start
    # What is done is done, whatever becomes of telling others.
    done = ledger.finish(run, report, bound.written)
    listener.finished(run.stage, done.message, seconds)
    if tracker is not None:
        tracker.finished(done, report, bound, seconds)
    return done, isinstance(report, StageReport) and report.is_behind


def _note_failure(ledger: Ledger, run: Run, error: BaseException) -> None:
    try:
        ledger.fail(run, str(error) or type(error).__name__)
    except Exception as second:
        # A full disk or a dead JVM must not replace the error that the user needs to see.
        log.debug("the failure of %s could not be noted in ops.runs: %s", run.stage, second)


def _stage_function(name: str) -> StageFunction:
    """The stage's ``run``; imported here, so that mining needs no torch."""
    try:
        function: StageFunction = importlib.import_module(f"dlmine_spark.pipelines.{name}").run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("dlmine_spark"):
            raise
        raise EnvironmentProblem(
            f"stage {name} needs the package {error.name}: pip install 'dlmine-spark[train]' (or the extra it is in)"
        ) from error
    return function


def _input_versions(config: Config, stage: Stage, lakehouse: Lakehouse, finished: Mapping[str, Run]) -> dict[str, str]:
    """What identifies a stage's inputs: source files, runs of the stages before it, versions of their tables."""
    if not stage.upstream:
        return {
            f"source {name}": (
                batches.fingerprint(lakehouse, name, source)
                if source.load == "merge"
                # What nobody can tell to be the same is read again.
                else sources.contents(lakehouse.spark, name, source) or f"read {uuid4()}"
            )
            for name, source in sorted(config.sources.items())
        }
    versions: dict[str, str] = {}
    for name in (*upstream_of(stage.upstream), *(other for other in stage.beside if other in finished)):
        run = finished[name]
        versions[f"stage {name}"] = run.run_id
        for table, written in run.output_versions.items():
            if table.startswith(FILE_PREFIX):
                continue
            # A table of one writer counts as it is now: a correction made by hand reaches the stages after it.
            current = written if table in SHARED_TABLES else lakehouse.version(table)
            known = int(versions.get(f"table {table}", -1))
            versions[f"table {table}"] = str(max(known, written if current is None else current))
    return versions


def _up_to_date_beside(
    config: Config, stage: Stage, lakehouse: Lakehouse, ledger: Ledger, finished: Mapping[str, Run]
) -> dict[str, Run]:
    """The last runs of the stages beside this one, as far as they are up to date; those before them are finished."""
    found = {}
    for name in stage.beside:
        other, last = STAGES[name], ledger.last(name)
        inputs = _input_versions(config, other, lakehouse, finished)
        if last is None:
            continue
        config_hash = last.config_hash if other.tells_settings else config.digest(*other.sections)
        if _is_up_to_date(last, config_hash, inputs, lakehouse):
            found[name] = last
    return found


def _pins(input_versions: Mapping[str, str]) -> dict[str, int]:
    return {
        key.removeprefix("table "): int(version) for key, version in input_versions.items() if key.startswith("table ")
    }


def _is_up_to_date(last: Run, config_hash: str, inputs: Mapping[str, str], lakehouse: Lakehouse) -> bool:
    return (
        last.status in (DONE, NOT_APPLICABLE)
        and last.config_hash == config_hash
        and last.input_versions == inputs
        and all(lakehouse.has(output, recorded) for output, recorded in last.output_versions.items())
    )


def tables_of(lakehouse: Lakehouse, run: Run) -> Lakehouse:
    """The tables as a finished run saw and left them, whatever became of them since; what is written has its id."""
    return lakehouse.for_run(run.run_id, _pins(run.input_versions) | tables_written(run))


def tables_written(run: Run) -> dict[str, int]:
    """The versions of the tables that a run wrote."""
    return {table: version for table, version in run.output_versions.items() if not table.startswith(FILE_PREFIX)}


def check_stage(name: str) -> str:
    """The name, if there is such a stage.

    Raises:
        ConfigError: naming the stages there are.
    """
    if name not in STAGES:
        raise ConfigError(f"no stage {name!r}; stages: {', '.join(STAGES)}")
    return name
