"""Tune: networks with other settings, tried side by side, and the best of them against the configured one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

import yaml
from pyspark import inheritable_thread_target

from dlmine_spark import schemas as s
from dlmine_spark.caching import kept
from dlmine_spark.config import Config, TrainingConfig
from dlmine_spark.errors import TrainingError
from dlmine_spark.evaluation.ablation import FULL, Effect, measure_effects
from dlmine_spark.evaluation.compare import scored_actuals
from dlmine_spark.frequency import Moment, from_text
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.ablation import Variant, read_variants
from dlmine_spark.pipelines.search import Search, try_out
from dlmine_spark.pipelines.study import open_study
from dlmine_spark.pipelines.train import launch_request
from dlmine_spark.places import winner_file
from dlmine_spark.runs import NotApplicable, StageReport
from dlmine_spark.training.checkpoints import write_bytes
from dlmine_spark.training.job import LaunchRequest
from dlmine_spark.training.launch.spread import launch_each, launch_trial
from dlmine_spark.training.shards import read_panel
from dlmine_spark.training.trial import Selection, SelectionRequest, plan_selection
from dlmine_spark.tuning.optuna_search import importances, require_optuna
from dlmine_spark.tuning.space import configured, search_space, shortest_history, with_params
from dlmine_spark.tuning.trials import Trial, best_of, rungs

log = logging.getLogger(__name__)

TUNING = "tuning"
DEFAULT = "default"
"""The variant with the configured settings; the best trial's is ``FULL``."""


@dataclass(frozen=True, kw_only=True)
class TuneReport(StageReport):
    """What was found; ``rows_in`` counts trials, ``rows_out`` those trained to the end, ``rows_rejected`` failures."""

    trials: tuple[Trial, ...]
    best: Trial
    effect: Effect | None
    """On held-out dates; None where the configured settings were the best."""


def run(config: Config, lakehouse: Lakehouse) -> TuneReport | NotApplicable:
    """Search for settings with a smaller error on windows before all test windows, and compare on held-out dates.

    The configured settings are the first trial, so that the best is never worse than they are on these windows.
    What a killed run has done is not done again.

    Raises:
        ConfigError: selection windows would overlap the test windows.
        EnvironmentProblem: optuna is not installed.
        TrainingError: the history is too short, or no trial could be trained.
    """
    require_optuna()
    if not lakehouse.exists(s.TRAINING_PANEL.name):
        return NotApplicable("no training panel: there is no network to tune")
    request = launch_request(config, lakehouse, lakehouse.read(s.TRAINING_PANEL.name))
    search = plan_search(config, lakehouse, request)
    trials = try_out(search, lambda trial: launch_trial(trial, lakehouse.spark), _in_thread_of(lakehouse))
    best = best_of(trials)
    if best is None:
        raise TrainingError(
            f"none of {len(trials)} trial(s) could be trained; the first, with the configured settings: "
            f"{trials[0].error or 'stopped early'}"
        )
    effect = compare_held_out(config, lakehouse, request, best, can_default=trials[0].state != "failed")
    write_tables(lakehouse, search, trials, best, effect)
    _write_winner(lakehouse, search, trials, best, effect)
    return TuneReport(
        rows_in=len(trials),
        rows_out=sum(trial.state == "complete" for trial in trials),
        rows_rejected=sum(trial.state == "failed" for trial in trials),
        trials=tuple(trials),
        best=best,
        effect=effect,
        message=_message(trials, best, effect),
    )


def plan_search(config: Config, lakehouse: Lakehouse, request: LaunchRequest) -> Search:
    """Everything that can be wrong is found here: the panel is read once, in this process.

    Raises:
        TrainingError: the panel cannot be read, or its history is too short.
    """
    tuning = config.tuning
    # Single networks, each in one task: with more, a trial would cost as many trainings.
    training = config.training.model_copy(update={"members": 1, "workers": 1})
    space = search_space(tuning.space, config.training)
    cutoff = request.backtest[0]
    launch = replace(request, backtest=(), final=cutoff, training=training)
    selection = SelectionRequest(
        origins=tuning.origins,
        until=None if tuning.until is None else from_text(str(tuning.until)),
        history=shortest_history(space, training),
    )
    arrays = read_panel(launch.source, cutoff, launch.horizon, training.mined)
    planned = plan_selection(arrays, launch.window, training.validation_origins, selection)
    _tell_plan(planned, cutoff)
    study = open_study(
        lakehouse.folder(TUNING),
        {
            "the panel": [str(cutoff), arrays.checksum(), launch.horizon, launch.season_length, launch.year_length],
            "the search space": {key: span.model_dump(mode="json") for key, span in space.items()},
            "training.seed": training.seed,
            "the other settings of training": training.model_dump(
                mode="json", exclude={*training.execution, "seed", "final_epochs"}
            ),
            "the selection windows": [tuning.origins, str(tuning.until), selection.history],
            "tuning.parallel or reduction": [tuning.parallel, tuning.reduction],
        },
    )
    return Search(config, space, launch, selection, rungs(training.epochs, tuning.reduction), study)


def _tell_plan(planned: Selection, cutoff: Moment) -> None:
    log.info(
        "trials are judged on %d windows, %s to %s, and trained on what lies before them; the first test window "
        "begins after %s",
        len(planned.rows),
        planned.first,
        planned.last,
        cutoff,
    )
    if planned.origins.note:
        log.warning("before the selection windows: %s", planned.origins.note)


def _in_thread_of(lakehouse: Lakehouse) -> Callable[[Callable[[], Trial | None]], Callable[[], Trial | None]]:
    """What gives a thread the Spark properties of this one."""
    return inheritable_thread_target(lakehouse.spark)


# What was found


def compare_held_out(
    config: Config, lakehouse: Lakehouse, request: LaunchRequest, best: Trial, *, can_default: bool
) -> Effect | None:
    """The best trial's settings against the configured ones on the test windows: at every backtest cutoff, with seeds.

    Nothing is chosen by it. Networks are single ones, trained from scratch as the ablation's are; those that a killed
    run has trained are not trained again. None where there is nothing to compare: the configured settings are the best,
    or (``can_default``) could not be trained.

    Raises:
        TrainingError: a network cannot be trained with another seed than the trial's, or at another cutoff.
    """
    if best.number == 0 or not can_default or not config.tuning.seeds:
        return None
    settings = {DEFAULT: config.training, FULL: with_params(config.training, best.params)}
    seeds = range(config.training.seed, config.training.seed + config.tuning.seeds)
    variants = [_variant(request, name, training, seed) for name, training in settings.items() for seed in seeds]
    networks = [one for variant in variants for one in variant.networks]
    log.info("%d networks for the comparison on held-out dates", len(networks))
    try:
        launch_each(networks, lakehouse.spark)
    except TrainingError as error:
        raise TrainingError(
            f"the settings of trial {best.number} were the best, but not with every seed and cutoff they can be "
            f"trained: {error}; narrow tuning.space, or take them as they are with tuning.seeds=0"
        ) from error
    actuals = scored_actuals(lakehouse.read(s.PANEL.name))
    forecasts = read_variants(lakehouse, variants, request.backtest)
    with kept(forecasts.join(actuals, on=[s.UNIQUE_ID, s.DS], how="inner")) as paired:
        return measure_effects(paired, [DEFAULT])[0]


def _variant(request: LaunchRequest, name: str, training: TrainingConfig, seed: int) -> Variant:
    folder = request.folder / name / f"seed-{seed}"
    single = training.model_copy(update={"seed": seed, "members": 1})
    networks = tuple(
        replace(request, backtest=(), final=cutoff, training=single, folder=folder) for cutoff in request.backtest
    )
    return Variant(name, seed, folder, networks)


def write_tables(
    lakehouse: Lakehouse, search: Search, trials: Sequence[Trial], best: Trial, effect: Effect | None
) -> None:
    """Write ``gold.trials``, ``gold.tuned`` and ``gold.tuning_effect``."""
    run_id, spark = lakehouse.run_id, lakehouse.spark
    of_trials = [
        (
            run_id,
            trial.number,
            trial.state,
            {key: float(value) for key, value in trial.params.items()},
            None if trial.state == "failed" else trial.value,
            list(trial.values),
            trial.epochs,
            trial.seconds,
            trial.error or None,
        )
        for trial in trials
    ]
    lakehouse.overwrite(s.TRIALS.name, spark.createDataFrame(of_trials, s.TRIALS.ddl))
    shares = importances(search.space, trials)
    default = configured(search.space, search.launch.training)
    settings = [
        (run_id, key, float(default[key]), float(best.params[key]), shares.get(key)) for key in sorted(search.space)
    ]
    lakehouse.overwrite(s.TUNED.name, spark.createDataFrame(settings, s.TUNED.ddl))
    # The same measures as an ablation's, where the configured settings stand for what is left out.
    compared = []
    if effect is not None:
        _, with_best, with_default, *others = astuple(effect)
        compared = [(run_id, with_default, with_best, *others)]
    lakehouse.overwrite(s.TUNING_EFFECT.name, spark.createDataFrame(compared, s.TUNING_EFFECT.ddl))


def _write_winner(
    lakehouse: Lakehouse, search: Search, trials: Sequence[Trial], best: Trial, effect: Effect | None
) -> None:
    """The settings as a small configuration file, which ``tuning.apply`` and ``--config`` take."""
    until = search.config.tuning.until or str(search.launch.final)
    content = {"training": dict(best.params), "tuning": {"until": until}}
    comment = f"# Found by dlmine tune: {_message(trials, best, effect)}\n"
    path = lakehouse.folder(TUNING) / "best.yaml"
    write_bytes(path, (comment + yaml.safe_dump(content, sort_keys=False)).encode())
    lakehouse.keep(path)


def winner_in_words(config: Config) -> list[str]:
    """How to use what the last search found, line by line; nothing where there is nothing."""
    path = winner_file(config.lakehouse)
    if path is None or not path.is_file():
        return []
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    options = " ".join(f"--set training.{key}={value}" for key, value in content["training"].items())
    return [
        f"the settings: {options}",
        f"they are in {path}: --config takes it beside yours, and with --set tuning.apply=true every command does",
    ]


def _message(trials: Sequence[Trial], best: Trial, effect: Effect | None) -> str:
    counts = {state: sum(trial.state == state for trial in trials) for state in ("complete", "pruned", "failed")}
    told = [f"{count} {word}" for state, word in _WORDS.items() if (count := counts[state])]
    text = f"{len(trials)} trial{'' if len(trials) == 1 else 's'} ({', '.join(told)}); "
    default = trials[0]
    if best.number == 0:
        return f"{text}none was better than the configured settings: WAPE {best.values[-1]:.2%} on selection windows"
    before = "no number" if default.state == "failed" else f"{default.values[-1]:.2%}"
    text += (
        f"WAPE on selection windows {before} with the configured settings, {best.values[-1]:.2%} with those of trial "
        f"{best.number}"
    )
    return text if effect is None else f"{text}; on held-out dates {_effect_in_words(effect)}"


_WORDS = {"complete": "trained to the end", "pruned": "stopped early", "failed": "failed"}


def _effect_in_words(effect: Effect) -> str:
    text = f"{effect.wape_without:.2%} and {effect.wape_with:.2%}"
    if effect.lo_95 is None or effect.hi_95 is None:
        return f"{text}, which may be chance"
    interval = f"95 % interval of the gain {100 * effect.lo_95:+.2f} to {100 * effect.hi_95:+.2f} pp"
    if effect.lo_95 > 0:
        return f"{text}: better beyond chance ({interval})"
    if effect.hi_95 < 0:
        return f"{text}: worse beyond chance ({interval}), so the configured settings are to be preferred"
    return f"{text}: no difference beyond chance ({interval})"
