"""The command line: ``dlmine <command>``; ``jobs/*.py`` call it under spark-submit.

Below this module nobody sees arguments, environment variables or untyped configuration. Errors become one line on
standard error and an exit code: 0 done, 1 the data or a stage failed, 2 wrong usage or configuration, 3 something is
missing on the machine.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from dlmine_spark import __version__
from dlmine_spark.config import Config, load_config, with_setting
from dlmine_spark.damage import unreadable_file
from dlmine_spark.errors import ConfigError, DlmineError
from dlmine_spark.places import root_of, winner_file
from dlmine_spark.progress import StageProgress, configure_logging

if TYPE_CHECKING:
    from dlmine_spark.lakehouse import Lakehouse
    from dlmine_spark.pipelines.tracked import StageTracker
    from dlmine_spark.runs import Run
    from dlmine_spark.scenario import Scenario

log = logging.getLogger("dlmine")
Body = TypeVar("Body", bound=Callable[..., None])
_INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended
errors = Console(stderr=True, soft_wrap=True, highlight=False)
output = Console(soft_wrap=True, highlight=False)

app = typer.Typer(
    name="dlmine",
    help="Data mining and deep learning fused: from dirty files to an explained forecast, as Spark jobs over Delta.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", metavar="FILE", help="YAML file; repeatable, later files overlay earlier ones."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="One setting, e.g. evaluation.horizon=14; repeatable."),
]
Force = Annotated[bool, typer.Option("--force", help="Run the stage even if it is up to date.")]
NoUpstream = Annotated[
    bool, typer.Option("--no-upstream", help="Refuse, instead of first bringing the stage's inputs up to date.")
]
NoClean = Annotated[
    bool, typer.Option("--no-clean", help="Work on what the last clean left, whatever has become of the sources since.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")]
JsonLogs = Annotated[bool, typer.Option("--json-logs", help="Log one JSON object a line (no progress bar).")]

STAGE_HELP = {
    "clean": "Read the sources, repair what can be repaired, put the rest into quarantine: bronze and silver tables.",
    "segment": "Cluster stores and customers with k-means: gold.segments, gold.segment_profiles, gold.segment_models.",
    "mine": "Mine itemsets, rules and sequences from baskets: gold.itemsets, gold.rules, gold.sequences.",
    "arima": "Fit one ARIMA per series and forecast: gold.arima_models, gold.forecasts.",
    "train": "Train the LSTM on everything that was mined: models/, gold.forecasts.",
    "backtest": "Compare all forecasts with held-out actuals: gold.metrics, gold.comparisons.",
    "tune": "Search for better settings of the network, on windows before all test windows: gold.trials, tuning/.",
    "explain": "Measure what drives the network's forecast, and when it fails: gold.explanations, gold.error_patterns.",
    "forecast": "Forecast the time after the data: gold.forecasts.",
    "report": "Write the HTML report (runs every stage that is not up to date).",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; return on success, leave with the exit code of the error otherwise.

    Success returns because Databricks takes every SystemExit, even 0, for a failure.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _refuse_blanks(given)
        code = app(args=given, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        code = _say(error, debug="--debug" in given)
    if code == _INTERRUPTED:
        # Typer returns it, too, for a KeyboardInterrupt.
        errors.print("interrupted: run the same command again to go on from here")
    if code:
        sys.exit(code)


def _refuse_blanks(arguments: Sequence[str]) -> None:
    """Refuse an option that is given nothing, as of a shell's variable that is not set: it would mean this folder."""
    for option, value in pairwise(["", *arguments]):
        if re.fullmatch(r"--[a-z-]+=", value) or (re.fullmatch(r"-c|-s|--[a-z-]+", option) and not value):
            raise ConfigError(f"{(value or option).rstrip('=')}: has no value")


def _say(error: Exception, *, debug: bool) -> int:
    """Print one line about an error; its exit code."""
    if debug:
        errors.print_exception(show_locals=False)
    # Typer's own usage errors: they know how to show themselves and carry exit code 2.
    if hasattr(error, "format_message"):
        errors.print(f"error: {error.format_message()} (see --help)", markup=False)
        return int(getattr(error, "exit_code", 2))
    if isinstance(error, DlmineError):
        errors.print(f"error: {' '.join(str(error).split())}", markup=False)
        return error.exit_code
    unreadable = unreadable_file(str(error))
    if unreadable is not None:
        remedy = "; if it is of a table of the lakehouse, the stage that writes it makes it anew with --force"
        errors.print(f"error: {unreadable}{remedy}", markup=False)
        return 1
    # Py4J begins with which of its objects was called; what Java said follows.
    lines = [line for line in str(error).strip().splitlines() if not line.startswith("An error occurred while calling")]
    first = (lines or [""])[0].removeprefix(": ")
    hint = "" if debug else " (--debug shows where)"
    errors.print(f"error: {type(error).__name__}: {first}{hint}", markup=False)
    return 1


def _load(files: list[Path] | None, overrides: list[str] | None, *, tuned: bool = True) -> Config:
    """The configuration, with the settings that the last search found where ``tuning.apply`` asks for them.

    They lie over the files, and below the environment and ``--set``.
    """
    config = load_config(files or (), overrides or (), dict(os.environ))
    if not (tuned and config.tuning.apply):
        return config
    winner = winner_file(config.lakehouse)
    if winner is None or not winner.is_file():
        log.warning("tuning.apply: there is nothing to apply yet (%s); 'dlmine tune' makes it", winner)
        return config
    log.info("tuning.apply: with the settings of %s", winner)
    return load_config([*(files or ()), winner], overrides or (), dict(os.environ))


def _start_logging(json_logs: bool, verbose: bool) -> None:
    configure_logging(json_logs=json_logs, verbose=verbose, console=errors)


@dataclass(frozen=True, slots=True)
class Asked:
    """What every command of a stage is asked for.

    Attributes:
        config: resolved.
        force: run the stage even if it is up to date.
        upstream: bring its inputs up to date first; otherwise refuse if they are not.
        new_data: take in what the sources have by now; otherwise work on what the last clean left.
        json_logs: log one JSON object a line.
    """

    config: Config
    force: bool = False
    upstream: bool = True
    new_data: bool = True
    json_logs: bool = False


def _run_stages(
    targets: Sequence[str],
    asked: Asked,
    *,
    prepare: Callable[[Config, Lakehouse], bool] | None = None,
    check: Callable[[Lakehouse], None] | None = None,
    follow: Sequence[Callable[[Config, Lakehouse, Run], None]] = (),
) -> None:
    """Bring the targets up to date in one session and say where the results are.

    ``prepare`` is called before, and tells whether the targets have to run even if they are up to date; ``check`` with
    what ``clean`` left, before the stages after it; each of ``follow`` afterwards, with the run of the last target.
    """
    from dlmine_spark.lakehouse import Lakehouse
    from dlmine_spark.pipelines.graph import bring_up_to_date, check_engine, check_ranks, check_sources, tables_of
    from dlmine_spark.places import lock
    from dlmine_spark.session import open_session

    config = asked.config
    check_sources(config)
    check_ranks(config, targets)
    check_engine(config, targets)
    _check_store(config)
    with (
        lock(config.lakehouse),
        _tracking(config) as tracker,
        StageProgress(errors, bars=errors.is_terminal and not asked.json_logs) as progress,
        open_session(config.spark) as spark,
    ):
        lakehouse = Lakehouse(spark, config.lakehouse)
        force = asked.force or (prepare is not None and prepare(config, lakehouse))
        bring = partial(
            bring_up_to_date,
            config,
            lakehouse,
            listener=progress,
            upstream=asked.upstream,
            new_data=asked.new_data,
            tracker=tracker,
        )
        # With --no-upstream nothing may run for it; what the last stage follows up refuses then, too.
        if check is not None and asked.upstream:
            check(tables_of(lakehouse, bring(["clean"])["clean"]))
        runs = bring(targets, force=force)
        for target in targets:
            output.print(f"{target}: {runs[target].message}", markup=False)
        for further in follow:
            further(config, lakehouse, runs[targets[-1]])


def _check_store(config: Config) -> None:
    """Ask the object store, if the tables lie in one: Spark would take minutes to say that nobody answers.

    Where the session is somebody else's, or has settings of its own for S3, it may reach what this process does not.
    """
    from dlmine_spark.session import on_databricks
    from dlmine_spark.stores import require_store

    is_elsewhere = config.spark.remote is not None or on_databricks()
    has_own_settings = any(".fs.s3a." in key for key in config.spark.conf)
    if config.lakehouse.catalog is None and not is_elsewhere and not has_own_settings:
        require_store(root_of(config.lakehouse), os.environ)


@contextmanager
def _tracking(config: Config) -> Iterator[StageTracker | None]:
    """What logs runs to MLflow, if that is asked for; before Spark is started, since it may not answer."""
    if not config.tracking.enabled:
        yield None
        return
    from dlmine_spark.pipelines.tracked import StageTracker
    from dlmine_spark.tracking import open_tracking

    yield StageTracker(config, open_tracking(config, os.environ))


def _options_of_stages(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    force: Force = False,
    no_upstream: NoUpstream = False,
    no_clean: NoClean = False,
    debug: Debug = False,
    verbose: Verbose = False,
    json_logs: JsonLogs = False,
    *,
    tuned: bool,
) -> Asked:
    """What the options that all commands of stages share ask for; ``tuned`` is none of them, see ``_load``."""
    _start_logging(json_logs, verbose)
    return Asked(_load(config, overrides, tuned=tuned), force, not no_upstream, not no_clean, json_logs)


def _options_of_others(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    debug: Debug = False,
    verbose: Verbose = False,
    json_logs: JsonLogs = False,
    *,
    tuned: bool = False,
) -> Config:
    """What the options that other commands share ask for; ``tuned`` is none of them, see ``_load``."""
    _start_logging(json_logs, verbose)
    return _load(config, overrides, tuned=tuned)


def _command(name: str, shared: Callable[..., Any], text: str | None = None, **fixed: Any) -> Callable[[Body], Body]:
    """Make a function a command: it gets what shared options ask for, and options of its own.

    Args:
        name: of the command.
        shared: has the shared options as parameters, and returns what they ask for.
        text: for ``--help``; default: the function's docstring.
        fixed: parameters of ``shared`` that are no options.
    """

    def add(body: Body) -> Body:
        parameters = inspect.signature(shared, eval_str=True).parameters.values()
        options = [option for option in parameters if option.kind is not option.KEYWORD_ONLY]
        _, *own = inspect.signature(body, eval_str=True).parameters.values()

        def command(**given: Any) -> None:
            asked = shared(**{option.name: given.pop(option.name) for option in options}, **fixed)
            body(asked, **given)

        arguments = [one for one in own if one.default is one.empty]
        inner = [one for one in own if one not in arguments]
        # Typer reads them off it.
        order = [*arguments, *options[:2], *inner, *options[2:]]
        command.__signature__ = inspect.Signature(order)  # type: ignore[attr-defined]
        app.command(name, help=text or inspect.getdoc(body))(command)
        return body

    return add


def _stage_command(name: str, *, tuned: bool = True) -> Callable[[Body], Body]:
    return _command(name, _options_of_stages, STAGE_HELP[name], tuned=tuned)


@_stage_command("clean")
def clean(
    asked: Asked,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            help="Write no table: look at every source and write a cleaning plan to edit (--force: over another).",
        ),
    ] = False,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where --profile writes the plan; default: profile.yaml beside the tables."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be repaired, refused and changed; change nothing.")
    ] = False,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Take up what was written into silver.quarantine.corrected, then clean again."),
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Judge all rows of sources with load: merge anew, from bronze.")
    ] = False,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="As a Structured Streaming query: take new files in, then end (see --every)."),
    ] = False,
    every: Annotated[
        int | None, typer.Option(min=1, metavar="SECONDS", help="With --stream: go on, and look again so often.")
    ] = None,
) -> None:
    if not asked.new_data:
        raise ConfigError("--no-clean has the other stages work on what the last clean left: give it to them")
    if plan is not None and not profile:
        raise ConfigError("--plan names what --profile writes: give both or neither")
    if profile + dry_run + replay + rebuild + stream > 1:
        raise ConfigError(
            "--profile, --dry-run, --replay, --rebuild and --stream are different things: give one of them"
        )
    if every is not None and not stream:
        raise ConfigError("--every says how often --stream looks for new files: give both or neither")
    resolved = asked.config
    if (rebuild or stream) and all(source.load != "merge" for source in resolved.sources.values()):
        option = "--rebuild" if rebuild else "--stream"
        raise ConfigError(f"{option}: no source has load: merge, so there is nothing that new files are added to")
    if profile:
        _profile(resolved, plan, force=asked.force)
    elif dry_run:
        _dry_run(resolved)
    elif stream:
        if asked.force or not asked.upstream:
            raise ConfigError(
                "--stream runs clean whenever files are new: --force and --no-upstream mean nothing there"
            )
        _stream(resolved, every, json_logs=asked.json_logs)
    else:
        prepare = _replay if replay else _rebuild if rebuild else None
        _run_stages(["clean"], asked, prepare=prepare)


def _replay(config: Config, lakehouse: Lakehouse) -> bool:
    """Take up corrections by hand; whether there are any, so that what is up to date has to run all the same."""
    from dlmine_spark.pipelines.replay import take_up_corrections

    count = take_up_corrections(config, lakehouse)
    output.print(f"{count:,} corrected rows to be judged again", markup=False)
    return count > 0


def _rebuild(config: Config, lakehouse: Lakehouse) -> bool:
    """Have all rows of merged sources judged anew; whether there are any such sources."""
    from dlmine_spark.pipelines.batches import judge_anew

    judge_anew(lakehouse, [name for name, source in config.sources.items() if source.load == "merge"])
    return True


def _stream(config: Config, every: int | None, *, json_logs: bool) -> None:
    """Clean whenever new files come in; other jobs may work in the lakehouse in between."""
    from dlmine_spark.lakehouse import Lakehouse
    from dlmine_spark.pipelines import stream
    from dlmine_spark.pipelines.graph import bring_up_to_date
    from dlmine_spark.places import lock
    from dlmine_spark.session import open_session

    with (
        _tracking(config) as tracker,
        StageProgress(errors, bars=errors.is_terminal and not json_logs) as progress,
        open_session(config.spark) as spark,
    ):

        def take_in() -> None:
            with lock(config.lakehouse, waits=True):
                # A new one each time: other jobs may have written in between.
                lakehouse = Lakehouse(spark, config.lakehouse)
                run = bring_up_to_date(config, lakehouse, ["clean"], progress, tracker=tracker)["clean"]
            output.print(f"clean: {run.message}", markup=False)

        stream.run(config, spark, take_in, every)


def _profile(config: Config, chosen: Path | None, *, force: bool) -> None:
    """Profile every source, write the plan, and print what was found."""
    from dlmine_spark.lakehouse import Lakehouse
    from dlmine_spark.pipelines import profile as profiling
    from dlmine_spark.pipelines.files import refuse_overwriting
    from dlmine_spark.pipelines.graph import check_sources
    from dlmine_spark.session import open_session

    plan = profiling.plan_path(config, chosen)
    refuse_overwriting(plan, option="--plan", force=force)
    check_sources(config)
    with open_session(config.spark) as spark:
        tables = profiling.run(config, Lakehouse(spark, config.lakehouse), plan)
    for table in tables.values():
        typer.echo(f"{table}\n")
    output.print(f"{plan}: a cleaning plan to edit; run it: dlmine clean --config {plan}", markup=False)


def _dry_run(config: Config) -> None:
    """Clean beside the tables, and print what would change."""
    from dlmine_spark.lakehouse import Lakehouse
    from dlmine_spark.pipelines import dry_run
    from dlmine_spark.pipelines.graph import check_sources
    from dlmine_spark.session import open_session

    check_sources(config)
    with open_session(config.spark) as spark:
        tables = dry_run.run(config, Lakehouse(spark, config.lakehouse))
    for heading, table in tables.items():
        typer.echo(f"{heading}:\n{table}\n")
    output.print("dry run: no table was changed")


@_stage_command("mine")
def mine(
    asked: Asked,
    recommend: Annotated[
        bool,
        typer.Option(
            "--recommend", help="Then apply the rules: gold.recommendations, and their score on held-out baskets."
        ),
    ] = False,
    drift: Annotated[
        bool,
        typer.Option("--drift", help="Then tell which rules appeared, vanished or changed: gold.rule_drift."),
    ] = False,
    since: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="VERSION", help="With --drift: of gold.rules; default: the last with other rules than now."
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Then compare the rules of groups: by store_segment, customer_segment, year, quarter, month, "
            "week, weekday, hour, a column of the lines (or of the table of mining.attributes), or half: two halves "
            "that a hash makes.",
        ),
    ] = None,
) -> None:
    if since is not None and not drift:
        raise ConfigError("--since says what --drift compares with: give both or neither")
    follow: list[Callable[[Config, Lakehouse, Run], None]] = []
    if drift:
        follow.append(partial(_drift, since))
    if recommend:
        from dlmine_spark.pipelines import recommend as recommending

        recommending.check(asked.config)
        follow.append(_recommend)
    if by is not None:
        from dlmine_spark.pipelines import contrast

        contrast.check(asked.config, by)
        follow.append(partial(_contrast, by))
    # Segments are no input of mining itself.
    targets = ["segment", "mine"] if by in ("store_segment", "customer_segment") else ["mine"]
    _run_stages(targets, asked, follow=follow)


def _drift(since: int | None, config: Config, lakehouse: Lakehouse, mined: Run) -> None:
    """Compare the rules of a run with earlier ones."""
    from dlmine_spark.pipelines import drift
    from dlmine_spark.runs import DONE

    if mined.status != DONE:
        output.print(f"drift: nothing to compare ({mined.message})", markup=False)
        return
    message, table = drift.run(config, lakehouse, mined, since)
    output.print(f"drift: {message}", markup=False)
    if table:
        typer.echo(table)


def _recommend(config: Config, lakehouse: Lakehouse, mined: Run) -> None:
    """Apply the rules of a run, and say how well that does."""
    from dlmine_spark.pipelines import recommend
    from dlmine_spark.pipelines.graph import tables_of
    from dlmine_spark.runs import DONE

    if mined.status != DONE:
        output.print(f"recommend: nothing to apply ({mined.message})", markup=False)
        return
    output.print(f"recommend: {recommend.run(config, tables_of(lakehouse, mined))}", markup=False)


def _contrast(by: str, config: Config, lakehouse: Lakehouse, mined: Run) -> None:
    """Compare the rules of groups of baskets."""
    from dlmine_spark.pipelines import contrast
    from dlmine_spark.runs import DONE

    if mined.status != DONE:
        output.print(f"by {by}: nothing to compare ({mined.message})", markup=False)
        return
    message, table = contrast.run(config, lakehouse, by)
    output.print(f"by {by}: {message}", markup=False)
    if table:
        typer.echo(table)


@_stage_command("arima")
def arima(
    asked: Asked,
    predict: Annotated[
        bool,
        typer.Option(
            "--predict",
            help="Forecast from the end of newer data with the parameters that are there; fit only what has changed.",
        ),
    ] = False,
    cutoffs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Forecast out of sample from so many cutoffs, too: evaluation.cutoffs."),
    ] = None,
) -> None:
    if predict and asked.force:
        raise ConfigError("--force fits all series, --predict as few as it can: give one of them")
    if cutoffs is not None:
        if predict:
            raise ConfigError("--predict forecasts from the end of the data only: leave --cutoffs away")
        asked = replace(asked, config=with_setting(asked.config, "evaluation", "cutoffs", cutoffs, "--cutoffs"))
    targets, follow = (["clean"], [_predict]) if predict else (["arima"], [])
    _run_stages(targets, asked, follow=follow)


def _predict(config: Config, lakehouse: Lakehouse, cleaned: Run) -> None:
    """Forecast what the last run of clean left."""
    from dlmine_spark.pipelines import predict

    output.print(f"predict: {predict.run(config, lakehouse, cleaned.run_id)}", markup=False)


@_stage_command("backtest")
def backtest(
    asked: Asked,
    ablation: Annotated[
        bool,
        typer.Option(
            "--ablation", help="Then train the network without each mined signal, to tell what it adds: gold.ablation."
        ),
    ] = False,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Then fail if anything that forecasts rest on comes from after their cutoff."),
    ] = False,
) -> None:
    if ablation:
        asked.config.training.require_covariates("--ablation")
    # The follower takes the run of the last target.
    targets = ["ablation", "backtest"] if ablation else ["backtest"]
    follow = [_audit] if audit else []
    _run_stages(targets, asked, follow=follow)


def _audit(config: Config, lakehouse: Lakehouse, tested: Run) -> None:
    """Look for leaks in what a backtest's forecasts rest on."""
    from dlmine_spark.pipelines import audit
    from dlmine_spark.pipelines.graph import tables_of
    from dlmine_spark.runs import DONE

    if tested.status != DONE:
        output.print(f"audit: nothing to look at ({tested.message})", markup=False)
        return
    output.print(f"audit: {audit.run(config, tables_of(lakehouse, tested))}", markup=False)


@_stage_command("forecast")
def forecast(
    asked: Asked,
    scenario: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Then forecast with covariates changed as this file says: gold.scenarios."),
    ] = None,
    new_series: Annotated[
        bool,
        typer.Option(
            "--new-series",
            help="Then forecast series that have attributes (kind statics) and no history: gold.cold_start.",
        ),
    ] = False,
) -> None:
    follow: list[Callable[[Config, Lakehouse, Run], None]] = []
    if new_series:
        follow.append(_cold_start)
    if scenario is not None:
        from dlmine_spark.scenario import load_scenario

        asked.config.training.require_covariates("--scenario")
        follow.append(partial(_what_if, load_scenario(scenario)))
    _run_stages(["forecast"], asked, follow=follow)


def _what_if(scenario: Scenario, config: Config, lakehouse: Lakehouse, made: Run) -> None:
    """Forecast with changed covariates."""
    from dlmine_spark.pipelines import scenario as what_if
    from dlmine_spark.pipelines.graph import tables_of
    from dlmine_spark.runs import DONE

    if made.status != DONE:
        output.print(f"scenario {scenario.name}: nothing to change ({made.message})", markup=False)
        return
    message, table = what_if.run(config, tables_of(lakehouse, made), scenario)
    output.print(message, markup=False)
    typer.echo(table)


def _cold_start(config: Config, lakehouse: Lakehouse, made: Run) -> None:
    """Forecast series without history."""
    from dlmine_spark.pipelines import cold_start
    from dlmine_spark.pipelines.graph import tables_of
    from dlmine_spark.runs import DONE

    if made.status != DONE:
        output.print(f"new series: nothing to learn from ({made.message})", markup=False)
        return
    for line in cold_start.run(tables_of(lakehouse, made)):
        output.print(line, markup=False)


@_stage_command("explain")
def explain(
    asked: Asked,
    series: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Then say where the forecast of this series comes from: gold.attributions."),
    ] = None,
    date: Annotated[
        str | None,
        typer.Option(help="With --series: of this date of the horizon; default: that of the largest forecast."),
    ] = None,
    embeddings: Annotated[
        bool,
        typer.Option(
            "--embeddings", help="Then write what the network learned of each series, and cluster it: gold.embeddings."
        ),
    ] = False,
    surrogate: Annotated[
        bool,
        typer.Option("--surrogate", help="Then say in short rules what the network forecasts: gold.surrogates."),
    ] = False,
) -> None:
    if date is not None and series is None:
        raise ConfigError("--date says which forecast of a series to explain: give --series, too")
    follow: list[Callable[[Config, Lakehouse, Run], None]] = []
    check = None
    if series is not None:
        from dlmine_spark.pipelines.common import check_series

        asked.config.training.require_covariates("--series")
        check = partial(check_series, unique_id=series)
        follow.append(partial(_why, series, date))
    if embeddings:
        follow.append(_embeddings)
    if surrogate:
        follow.append(_surrogate)
    _run_stages(["explain"], asked, check=check, follow=follow)


def _embeddings(config: Config, lakehouse: Lakehouse, explained: Run) -> None:
    """Write and cluster what the network learned of each series."""
    from dlmine_spark.pipelines import embeddings

    _tell_of_network(explained, lakehouse, "embeddings: there are none", partial(embeddings.run, config))


def _surrogate(config: Config, lakehouse: Lakehouse, explained: Run) -> None:
    """Say in short rules what the network forecasts."""
    from dlmine_spark.pipelines import surrogate

    _tell_of_network(explained, lakehouse, "surrogate: there is nothing to imitate", partial(surrogate.run, config))


def _why(series: str, date: str | None, config: Config, lakehouse: Lakehouse, explained: Run) -> None:
    """Say where the forecast of a series comes from."""
    from dlmine_spark.pipelines import why

    def tell(tables: Lakehouse) -> tuple[str, str]:
        return why.run(config, tables, series, date)

    _tell_of_network(explained, lakehouse, "explain: nothing to explain", tell)


def _tell_of_network(
    explained: Run, lakehouse: Lakehouse, nothing: str, tell: Callable[[Lakehouse], tuple[str, str]]
) -> None:
    """Print a line and a table about the networks that a run of explain saw; ``nothing``, where there were none."""
    from dlmine_spark.pipelines.graph import tables_of
    from dlmine_spark.runs import NOT_APPLICABLE

    if explained.status == NOT_APPLICABLE and "no training panel" in explained.message:
        output.print(f"{nothing} ({explained.message})", markup=False)
        return
    message, table = tell(tables_of(lakehouse, explained))
    output.print(message, markup=False)
    typer.echo(table)


# What an earlier search found is no place to start from: it would be the default of the next one.
@_stage_command("tune", tuned=False)
def tune(asked: Asked) -> None:
    from dlmine_spark.tuning.optuna_search import require_optuna

    require_optuna()
    _run_stages(["tune"], asked, follow=[_tell_winner])


def _tell_winner(config: Config, lakehouse: Lakehouse, tuned: Run) -> None:
    """Say how to use what was found."""
    from dlmine_spark.pipelines.tune import winner_in_words
    from dlmine_spark.runs import DONE

    if tuned.status == DONE:
        for line in winner_in_words(config):
            output.print(line, markup=False)


def _add_stage_command(stage: str) -> None:
    @_stage_command(stage)
    def command(asked: Asked) -> None:
        _run_stages([stage], asked)


for _stage in STAGE_HELP:
    if _stage not in ("clean", "mine", "arima", "backtest", "tune", "forecast", "explain"):
        _add_stage_command(_stage)


@app.command("run")
def run_all(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    force: Force = False,
    debug: Debug = False,
    verbose: Verbose = False,
    json_logs: JsonLogs = False,
) -> None:
    """Run the whole pipeline, from the source files to the report; what is up to date is skipped."""
    from dlmine_spark.pipelines.graph import upstream_of

    _start_logging(json_logs, verbose)
    resolved = _load(config, overrides)
    targets = upstream_of(["report"]) if force else ["report"]
    _run_stages(targets, Asked(resolved, force=force, json_logs=json_logs))


@app.command("init")
def init(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="CSV, JSON lines, Parquet, Delta folders, lines of baskets; or jdbc:... of a database with --table.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="The configuration; default: named for the first file.")
    ] = None,
    long: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="First write the one file, which has a column for each series or date, anew with a row for each.",
        ),
    ] = None,
    table: Annotated[str | None, typer.Option(metavar="NAME", help="Of a database: the table to look at.")] = None,
    credentials: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of a database: DLMINE_NAME_USER and DLMINE_NAME_PASSWORD hold who may read."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier files.")] = False,
    debug: Debug = False,
    verbose: Verbose = False,
    json_logs: JsonLogs = False,
) -> None:
    """Look at files, guess what they are, say why, and write a configuration that runs: dlmine init sales.csv."""
    from dlmine_spark.pipelines import init as guessing
    from dlmine_spark.pipelines.files import refuse_overwriting

    _start_logging(json_logs, verbose)
    if long is not None:
        if len(files) > 1:
            raise ConfigError("--long writes one file anew: give one FILE with it")
        refuse_overwriting(long, option="--long", force=force)
        output.print(f"{long}: {guessing.reshape(files[0], long, force=force)}", markup=False)
        files = [str(long)]
    is_database = files[0].lower().startswith("jdbc:")
    if is_database != (table is not None) or (is_database and len(files) > 1):
        raise ConfigError("--table names the table of a database: give it with one address jdbc:...")
    config = guessing.config_path(files, out, table)
    refuse_overwriting(config, option="--out", force=force)
    sample = None if table is None else guessing.of_database(files[0], table, credentials)
    typer.echo(guessing.run(files, config, force=force, table=sample))
    output.print(f"{config}: a configuration to look at; run it: dlmine run --config {config}", markup=False)


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder to write; made if it is not there.")],
    size: Annotated[str, typer.Option(help="tiny, small, medium or large.")] = "small",
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 7,
    couplings: Annotated[bool, typer.Option(help="Let promotions pull what is bought with the promoted item.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier simulation in the folder.")] = False,
    debug: Debug = False,
    verbose: Verbose = False,
    json_logs: JsonLogs = False,
) -> None:
    """Write the raw, dirty files of a simulated retail world, and the truth about them."""
    from dlmine_spark.datasets.simulate import simulate as write_world

    _start_logging(json_logs, verbose)

    def write(spark: Any = None) -> None:
        report = write_world(size, seed, out, spark, couplings=couplings, force=force)
        output.print(f"{out}: {report.message}", markup=False)

    if size == "large":
        from dlmine_spark.config import SparkConfig
        from dlmine_spark.session import open_session

        with open_session(SparkConfig()) as spark:
            write(spark)
    else:
        write()


@_command("tables", _options_of_others)
def tables(config: Config) -> None:
    """List every table of the lakehouse: rows, size, version, when it was written, by which stage and run."""
    from dlmine_spark.pipelines import browse

    typer.echo(browse.tables(config))


@_command("show", _options_of_others)
def show(
    config: Config,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="silver.panel, or panel where only one layer has it.")],
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="Rows at most.")] = 10,
    where: Annotated[str | None, typer.Option(metavar="SQL", help="Only rows like \"unique_id = 'S1'\".")] = None,
) -> None:
    """Print some rows of a table."""
    from dlmine_spark.pipelines import browse

    typer.echo(browse.show(config, table, rows, where))


@_command("export", _options_of_others)
def export(
    config: Config,
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="gold.forecasts, or forecasts where only one layer has it.")
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="FILE.csv, .parquet, .json or .csv.gz: one file; a folder or address with --format; or jdbc:... of a "
            "database with --into.",
        ),
    ],
    where: Annotated[str | None, typer.Option(metavar="SQL", help="Only rows like \"model = 'lstm'\".")] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these columns, in this order; default: all.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The table as it was in this version; default: as it is.")
    ] = None,
    mode: Annotated[
        str, typer.Option(metavar="MODE", help="What becomes of a target that is there: fail, replace or append.")
    ] = "fail",
    format_: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="Of a folder: csv, parquet or json.")
    ] = None,
    into: Annotated[
        str | None, typer.Option(metavar="TABLE", help="Of a database: the table that gets the rows.")
    ] = None,
    credentials: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of a database: DLMINE_NAME_USER and DLMINE_NAME_PASSWORD hold who may write."
        ),
    ] = None,
) -> None:
    """Write a table as a file, a folder of files or a table of a database: all of it or nothing."""
    from dlmine_spark.lakehouse import Lakehouse
    from dlmine_spark.pipelines import export as exports
    from dlmine_spark.session import open_session

    wanted = exports.target_of(target, format_=format_, into=into, credentials=credentials, mode=mode)
    exports.refuse_own_places(wanted, config)
    table = exports.table_of(config, table)
    names = tuple(name.strip() for name in columns.split(",")) if columns is not None else ()
    with open_session(config.spark) as spark:
        selection = exports.Selection(table, where, names, version)
        rows = exports.run(Lakehouse(spark, config.lakehouse), selection, wanted)
    output.print(f"export: {rows:,} rows of {table} in {into or target}", markup=False)


@_command("history", _options_of_others)
def history(
    config: Config,
    stage: Annotated[str | None, typer.Option(metavar="STAGE", help="Only runs of this stage.")] = None,
    last: Annotated[int, typer.Option(min=1, metavar="N", help="Runs at most, the newest.")] = 20,
) -> None:
    """List the runs of all stages, newest first: what became of each, seconds, rows and errors."""
    from dlmine_spark.pipelines import browse

    typer.echo(browse.history(config, stage, last))


@_command("doctor", _options_of_others, tuned=True)
def doctor(config: Config) -> None:
    """Check Java, Spark, Delta, workers, torch, Horovod, memory and disk, and say what to do about each failure."""
    from dlmine_spark import doctor as checks

    marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}

    def show(result: checks.CheckResult) -> None:
        output.print(f"{marks[result.status]:<5} ", end="")
        output.print(f"{result.name}: {result.detail}", markup=False)
        if result.status != "ok" and result.remedy:
            output.print(f"      -> {result.remedy}", markup=False)

    results = checks.run_checks(config, on_result=show)
    raise typer.Exit(checks.exit_code(results))


@_command("config", _options_of_others, tuned=True)
def show_config(config: Config) -> None:
    """Print the resolved configuration: defaults, files, environment and --set together."""
    typer.echo(config.to_yaml(), nl=False)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"dlmine-spark {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""
