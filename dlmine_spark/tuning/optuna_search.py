"""The only place that knows optuna: what to try next, and which settings mattered.

No storage and no study outlives a call: what is to be proposed follows from the trials that are given, the number of
the new one and the seed. So a search that was killed goes on as if nothing had happened, and nothing has to be read
that optuna would have written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlmine_spark.config import Span
from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.tuning.space import Space, is_whole
from dlmine_spark.tuning.trials import Params, Trial, ranks

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

RANDOM_TRIALS = 8
"""Trials proposed at random, before the others tell anything."""
DRAWS = 20
"""Proposals that were tried already before the search counts as done: then there is hardly anything new."""
DIGITS = 3
"""Significant digits of a proposed number."""
FOR_IMPORTANCE = 8
"""Trials below which nobody can tell what mattered."""
BEST = 0.25
"""Share of the trials that importance is about."""


def require_optuna() -> Any:
    """The package, quiet.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise EnvironmentProblem("dlmine tune needs the package optuna: pip install 'dlmine-spark[tune]'") from error
    # It would say on standard error that each study is made.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def propose(
    space: Space, number: int, seed: int, over: Sequence[Trial], under_way: Mapping[int, Params]
) -> dict[str, int | float] | None:
    """What to try next, by a tree-structured Parzen estimator (Bergstra et al. 2011); at random for the first trials.

    Args:
        space: what is searched.
        number: of the new trial.
        seed: of the search.
        over: trials whose outcome may be used.
        under_way: by number, the settings of the others: what is near them is not proposed.

    Returns:
        The settings; None where hardly anything is left that was not tried.
    """
    optuna = require_optuna()
    tried = [*(trial.params for trial in over), *under_way.values()]
    distributions = {key: _distribution(optuna, key, span) for key, span in space.items()}
    for draw in range(DRAWS):
        state = int(np.random.SeedSequence([seed, number, draw]).generate_state(1)[0])
        # Half of the draws at random: where the estimator is sure of itself, it proposes the same again.
        sampler: BaseSampler = (
            optuna.samplers.TPESampler(seed=state, n_startup_trials=RANDOM_TRIALS)
            if draw < DRAWS // 2
            else optuna.samplers.RandomSampler(seed=state)
        )
        study = optuna.create_study(sampler=sampler)
        study.add_trials([_told(optuna, trial, distributions) for trial in over if _fits(trial.params, space)])
        study.add_trials(
            [
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState.RUNNING, params=dict(params), distributions=distributions
                )
                for params in under_way.values()
                if _fits(params, space)
            ]
        )
        drawn = study.ask(distributions).params
        params = {key: _rounded(key, span, drawn[key]) for key, span in space.items()}
        if params not in tried:
            return params
    return None


def importances(space: Space, trials: Sequence[Trial]) -> dict[str, float]:
    """How much each setting had to do with being among the best quarter of the trials; shares that add up to 1.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023): how far the settings of the best trials are spread otherwise than
    those of all. Trials are ordered as halving left them (``ranks``): most have no final error.

    Returns:
        By setting; empty where there are too few trials, or none of the settings had several values.
    """
    optuna = require_optuna()
    distributions = {key: _distribution(optuna, key, span) for key, span in space.items()}
    judged = [trial for trial in trials if trial.values and _fits(trial.params, space)]
    varied = [key for key in space if len({trial.params[key] for trial in judged}) > 1]
    if len(judged) < FOR_IMPORTANCE or not varied:
        return {}
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(value=float(rank), params=dict(trial.params), distributions=distributions)
            for trial, rank in zip(judged, ranks(judged), strict=True)
        ]
    )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BEST)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    return {key: float(found[key]) for key in varied}


def _distribution(optuna: Any, key: str, span: Span) -> BaseDistribution:
    distribution: BaseDistribution
    if span.choices:
        distribution = optuna.distributions.CategoricalDistribution(_of_kind(key, span.choices))
    elif is_whole(key):
        distribution = optuna.distributions.IntDistribution(*_of_kind(key, span.extremes), log=span.log)
    else:
        distribution = optuna.distributions.FloatDistribution(*_of_kind(key, span.extremes), log=span.log)
    return distribution


def _of_kind(key: str, values: Sequence[int | float]) -> list[int | float]:
    return [int(one) if is_whole(key) else float(one) for one in values]


def _rounded(key: str, span: Span, value: int | float) -> int | float:
    """With few digits, within the range."""
    if is_whole(key):
        return int(value)
    if span.choices:
        return float(value)
    low, high = span.extremes
    return min(max(float(f"{value:.{DIGITS}g}"), float(low)), float(high))


def _fits(params: Params, space: Space) -> bool:
    """Whether settings lie in the space: the configured ones need not."""
    return all(
        params[key] in span.choices if span.choices else min(span.extremes) <= params[key] <= max(span.extremes)
        for key, span in space.items()
    )


def _told(optuna: Any, trial: Trial, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """A trial as the sampler learns from it. One that failed counts as the worst, or it would be tried again."""
    states = optuna.trial.TrialState
    told: FrozenTrial = optuna.trial.create_trial(
        state=states.COMPLETE if trial.state == "complete" else states.PRUNED,
        value=trial.value if trial.state == "complete" else None,
        params=dict(trial.params),
        distributions=dict(distributions),
        intermediate_values={} if trial.state == "failed" else dict(enumerate(trial.values)),
    )
    return told
