"""What is proposed: legal settings, the same for the same past, and better ones than chance would find."""

from __future__ import annotations

import importlib.util
import math
import sys

import pytest

from dlmine_spark.config import Span, TrainingConfig
from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.tuning.optuna_search import importances, propose, require_optuna
from dlmine_spark.tuning.space import configured, default_space, search_space, shortest_history, with_params
from dlmine_spark.tuning.trials import Params, Trial

TRAINING = TrainingConfig()
SPACE = {
    "learning_rate": Span(low=1e-4, high=1e-1, log=True),
    "dropout": Span(low=0.0, high=0.5),
    "layers": Span(choices=(1, 2)),
}
needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("optuna") is None, reason="optuna is not installed (extra tune)"
)


def error_of(params: Params) -> float:
    """Only the learning rate matters: 0.004 is best."""
    return 0.1 + 0.02 * abs(math.log10(float(params["learning_rate"]) / 0.004))


def searched(seed: int, trials: int = 20, lag: int = 4) -> list[Trial]:
    over: list[Trial] = []
    for number in range(trials):
        earlier = [trial for trial in over if trial.number <= number - lag]
        others = {trial.number: trial.params for trial in over if trial.number > number - lag}
        params = propose(SPACE, number, seed, earlier, others) if number else {**configured(SPACE, TRAINING)}
        assert params is not None
        over.append(Trial(number, params, "complete", (error_of(params),), 1, 1.0))
    return over


@needs_optuna
def test_the_same_past_gives_the_same_proposals_whatever_was_asked_before() -> None:
    first, again = searched(seed=7), searched(seed=7)
    assert [trial.params for trial in first] == [trial.params for trial in again]
    assert [trial.params for trial in first] != [trial.params for trial in searched(seed=8)]


@needs_optuna
def test_proposals_are_legal_new_and_get_better() -> None:
    trials = searched(seed=7)
    for trial in trials[1:]:
        assert with_params(TRAINING, trial.params).layers in (1, 2)
        assert 1e-4 <= trial.params["learning_rate"] <= 1e-1
        assert isinstance(trial.params["layers"], int)
    assert len({tuple(trial.params.values()) for trial in trials}) == len(trials)
    early, late = trials[1:8], trials[-7:]
    assert sum(trial.values[0] for trial in late) < sum(trial.values[0] for trial in early)


@needs_optuna
def test_what_mattered_is_told_and_nothing_of_too_few_trials() -> None:
    trials = searched(seed=7)
    shares = importances(SPACE, trials)
    assert set(shares) == set(SPACE)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert max(shares, key=shares.__getitem__) == "learning_rate"
    assert importances(SPACE, trials[:5]) == {}


@needs_optuna
def test_a_finite_space_is_exhausted() -> None:
    space = {"layers": Span(choices=(1, 2))}
    one = Trial(0, {"layers": 1}, "complete", (0.1,), 1, 1.0)
    assert propose(space, 1, 7, [one], {}) == {"layers": 2}
    assert propose(space, 2, 7, [one], {1: {"layers": 2}}) is None


@needs_optuna
def test_configured_settings_outside_the_space_and_failed_trials_do_not_stop_the_search() -> None:
    outside = Trial(0, {"learning_rate": 0.5, "dropout": 0.9, "layers": 3}, "complete", (0.1,), 1, 1.0)
    failed = Trial(1, {"learning_rate": 0.1, "dropout": 0.1, "layers": 1}, "failed", (), 0, 1.0, "no number")
    assert propose(SPACE, 12, 7, [outside, failed], {2: {**outside.params}}) is not None


def test_the_default_space_is_around_the_configured_settings() -> None:
    space = search_space(None, TRAINING.model_copy(update={"history": 20, "workers": 64}))
    assert space["history"].choices == (10, 20, 40)
    assert space["batch_size"].choices == (64, 128, 256)
    assert shortest_history(space, TRAINING) == 10
    assert shortest_history({"hidden": Span(low=1, high=2)}, TRAINING) == TRAINING.history
    for key, span in default_space(TRAINING).items():
        for value in span.extremes:
            with_params(TRAINING, {key: value})


def test_a_missing_optuna_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(EnvironmentProblem, match=r"needs the package optuna: pip install 'dlmine-spark\[tune\]'"):
        require_optuna()
