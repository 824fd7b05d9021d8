"""Trying settings one after another, some at once: the order of trials follows from their outcomes, not from time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from dlmine_spark.config import Config
from dlmine_spark.pipelines.study import Study
from dlmine_spark.training.job import LaunchRequest
from dlmine_spark.training.trial import SelectionRequest, TrialRequest, TrialResult
from dlmine_spark.tuning.optuna_search import propose
from dlmine_spark.tuning.space import Space, configured, with_params
from dlmine_spark.tuning.trials import Params, Trial, limits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Search:
    """What all trials of a search have in common.

    Attributes:
        config: the whole configuration.
        space: what is searched.
        launch: of the trials: the panel as of the first backtest cutoff, and the configured settings for one network.
        selection: what they are judged on.
        rungs: epochs after which they are.
        study: where they are kept.
    """

    config: Config
    space: Space
    launch: LaunchRequest
    selection: SelectionRequest
    rungs: tuple[int, ...]
    study: Study


def try_out(
    search: Search,
    launch: Callable[[TrialRequest], TrialResult],
    in_thread: Callable[[Callable[[], Trial | None]], Callable[[], Trial | None]] = lambda work: work,
) -> list[Trial]:
    """Try one setting after another, ``tuning.parallel`` of them at once, until the budget is used up.

    A trial is proposed, and given up or not, by the outcome of those at least ``parallel`` places before it, which all
    are over by then. So what is tried follows from configuration and data alone, however fast which machine is; only
    a budget of minutes depends on that, in where the same list of trials ends.

    Returns:
        The trials, in order.
    """
    tuning = search.config.tuning
    over = search.study.trials()
    settings: dict[int, Params] = {}
    under_way: dict[int, Future[Trial | None]] = {}
    spent = max((trial.elapsed for trial in over.values()), default=0.0)
    start = time.monotonic() - spent
    end = math.inf if tuning.minutes is None else start + 60 * tuning.minutes

    def collect(before: int) -> None:
        for number in sorted(one for one in under_way if one < before):
            if (trial := under_way.pop(number).result()) is not None:
                over[number] = trial

    with ThreadPoolExecutor(tuning.parallel, thread_name_prefix="dlmine-trial") as pool:
        try:
            for number in range(tuning.trials):
                known = number - tuning.parallel
                collect(known + 1)
                # The configured settings are tried, however little time there is.
                if number and time.monotonic() > end:
                    log.info("tuning.minutes are over: no trial is started any more")
                    break
                if number in over:
                    settings[number] = over[number].params
                    continue
                earlier = [over[one] for one in sorted(over) if one <= known]
                params = _next_params(search, number, earlier, {one: p for one, p in settings.items() if one > known})
                if params is None:
                    log.info("the search space is exhausted after %d trials", number)
                    break
                settings[number] = params
                request = _trial_request(search, number, params, earlier, end)
                under_way[number] = pool.submit(
                    in_thread(partial(_try, search, launch, number, params, request, start))
                )
            collect(tuning.trials)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    # A larger budget of an earlier search may have gone further.
    return [over[number] for number in sorted(over) if number < tuning.trials]


def _next_params(search: Search, number: int, earlier: Sequence[Trial], others: Mapping[int, Params]) -> Params | None:
    training = search.launch.training
    if number == 0:
        return configured(search.space, training)
    return propose(search.space, number, training.seed, earlier, others)


def _trial_request(search: Search, number: int, params: Params, earlier: Sequence[Trial], end: float) -> TrialRequest:
    folder = search.study.trial_folder(number)
    reduction = search.config.tuning.reduction
    return TrialRequest(
        launch=replace(search.launch, training=with_params(search.launch.training, params), folder=folder),
        selection=search.selection,
        rungs=search.rungs,
        limits=limits(earlier, len(search.rungs), reduction),
        # Where this machine's clock would stand; a trial may wait for a slot until it is too late.
        deadline=math.inf if number == 0 else time.time() + (end - time.monotonic()),
    )


def _try(
    search: Search,
    launch: Callable[[TrialRequest], TrialResult],
    number: int,
    params: Params,
    request: TrialRequest,
    start: float,
) -> Trial | None:
    """Train a trial and keep what became of it; None where it was too late to begin."""
    result = launch(request)
    if result.outcome == "late":
        return None
    trial = Trial(
        number=number,
        params=dict(params),
        state=result.outcome,
        values=result.values,
        epochs=result.epochs,
        seconds=result.seconds,
        error=result.error,
        elapsed=time.monotonic() - start,
    )
    search.study.keep(trial)
    _tell_trial(trial)
    return trial


def _tell_trial(trial: Trial) -> None:
    ending = {"complete": "", "pruned": f", stopped after epoch {trial.epochs}", "failed": f": {trial.error}"}
    log.info(
        "trial %d%s: %s%s",
        trial.number,
        " (the configured settings)" if trial.number == 0 else "",
        "failed" if trial.value is None or trial.state == "failed" else f"WAPE {trial.value:.4f}",
        ending[trial.state],
    )
