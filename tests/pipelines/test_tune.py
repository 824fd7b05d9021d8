"""Tuning: what is tried follows from data and settings alone, nothing is done twice, and the winner can be used."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, load_config
from dlmine_spark.errors import ConfigError, TrainingError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import search, tune
from dlmine_spark.pipelines.study import Study, open_study
from dlmine_spark.runs import NotApplicable
from dlmine_spark.training.trial import SelectionRequest, TrialRequest, TrialResult
from dlmine_spark.tuning.space import search_space
from dlmine_spark.tuning.trials import Trial
from tests.pipelines.examples import BACKTEST, with_training_panel
from tests.training.panels import FINAL, SMALL, panel_rows, request_for

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("optuna") is None, reason="optuna is not installed (extra tune)"
)

CONFIG = Config.model_validate(
    {
        "evaluation": {"horizon": 7},
        "cleaning": {"frequency": "D"},
        "training": SMALL.model_dump() | {"epochs": 6, "samples_per_epoch": 640, "learning_rate": 1e-4},
        "tuning": {
            "trials": 5,
            "parallel": 2,
            "origins": 1,
            "seeds": 2,
            "space": {"learning_rate": {"low": 5e-3, "high": 2e-2, "log": True}, "hidden": [8, 12]},
        },
    }
)
INPUTS = {s.TRAINING_PANEL.name: 0, s.PANEL.name: 0}
ROOT = Path(__file__).parents[2]


def with_tuning(**changes: Any) -> Config:
    return CONFIG.model_copy(update={"tuning": CONFIG.tuning.model_copy(update=changes)})


# The search, by a network that takes no time


def search_in(folder: Path, config: Config) -> search.Search:
    study = Study(folder / "study")
    study.folder.mkdir(parents=True, exist_ok=True)
    space = search_space(config.tuning.space, config.training)
    selection = SelectionRequest(1, None, config.training.history)
    return search.Search(config, space, request_for(FINAL, folder, config.training), selection, (1, 2, 4), study)


def imagined(request: TrialRequest) -> TrialResult:
    """A larger learning rate is better."""
    values: list[float] = []
    for rung, limit in zip(request.rungs, (*request.limits, math.inf), strict=True):
        values.append(0.1 / request.launch.training.learning_rate / 100 + 0.01 / rung)
        if values[-1] > limit:
            return TrialResult("pruned", tuple(values), rung, 1.0)
    return TrialResult("complete", tuple(values), 4, 1.0)


def at_any_speed(seed: int) -> Callable[[TrialRequest], TrialResult]:
    chance = random.Random(seed)

    def launch(request: TrialRequest) -> TrialResult:
        time.sleep(chance.random() / 50)
        return imagined(request)

    return launch


def told(trials: list[Trial]) -> list[tuple[Any, ...]]:
    return [(trial.number, dict(trial.params), trial.state, trial.values) for trial in trials]


def test_what_is_tried_does_not_depend_on_who_is_fast_and_the_configured_settings_come_first(tmp_path: Path) -> None:
    config = with_tuning(trials=16, parallel=3, reduction=3)
    first = search.try_out(search_in(tmp_path / "a", config), at_any_speed(1))
    again = search.try_out(search_in(tmp_path / "b", config), at_any_speed(2))
    assert told(first) == told(again)
    assert dict(first[0].params) == {"learning_rate": 1e-4, "hidden": 12}
    assert [trial.number for trial in first] == list(range(16))
    states = [trial.state for trial in first]
    assert states[:3] == ["complete"] * 3
    assert states.count("pruned") > 4


def test_a_driver_that_is_killed_goes_on_with_what_is_left(tmp_path: Path) -> None:
    config = with_tuning(trials=8)
    undisturbed = search.try_out(search_in(tmp_path / "undisturbed", config), imagined)
    program = f"""
import os, signal
from pathlib import Path
from dlmine_spark.pipelines import search
from tests.pipelines import test_tune as t
def launch(request):
    if request.launch.folder.name == "trial-0005":
        os.kill(os.getpid(), signal.SIGKILL)
    return t.imagined(request)
search.try_out(t.search_in(Path({str(tmp_path / "killed")!r}), t.with_tuning(trials=8)), launch)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    own = search_in(tmp_path / "killed", config)
    done = set(own.study.trials())
    assert {0, 1, 2, 3} <= done
    launched: list[str] = []

    def launch(request: TrialRequest) -> TrialResult:
        launched.append(request.launch.folder.name)
        return imagined(request)

    trials = search.try_out(own, launch)
    assert told(trials) == told(undisturbed)
    assert sorted(launched) == [f"trial-{number:04d}" for number in sorted(set(range(8)) - done)]


def test_a_larger_budget_goes_on_where_the_smaller_one_ended(tmp_path: Path) -> None:
    whole = search.try_out(search_in(tmp_path / "a", with_tuning(trials=9)), imagined)
    part = search.try_out(search_in(tmp_path / "b", with_tuning(trials=4)), imagined)
    rest = search.try_out(search_in(tmp_path / "b", with_tuning(trials=9)), imagined)
    assert told(part) == told(whole)[:4]
    assert told(rest) == told(whole)


def test_when_the_minutes_are_over_nothing_is_started_but_the_configured_settings(tmp_path: Path) -> None:
    own = search_in(tmp_path, with_tuning(minutes=1e-9, trials=9))
    assert [trial.number for trial in search.try_out(own, imagined)] == [0]
    late = search_in(tmp_path / "late", with_tuning(trials=3))
    trials = search.try_out(
        late, lambda one: imagined(one) if "0000" in str(one.launch.folder) else TrialResult("late")
    )
    assert [trial.number for trial in trials] == [0]


def test_a_single_trial_and_an_exhausted_space(tmp_path: Path) -> None:
    assert len(search.try_out(search_in(tmp_path / "one", with_tuning(trials=1)), imagined)) == 1
    space = load_config(overrides=["tuning.space={layers: [1, 2, 3]}"]).tuning.space
    trials = search.try_out(search_in(tmp_path / "few", with_tuning(trials=9, space=space)), imagined)
    assert sorted(trial.params["layers"] for trial in trials) == [1, 2, 3]


def test_a_failed_trial_is_told_and_tried_again_by_the_next_run(tmp_path: Path) -> None:
    own = search_in(tmp_path, with_tuning(trials=4))

    def launch(request: TrialRequest) -> TrialResult:
        failed = TrialResult("failed", (), 1, 1.0, "loss is no number")
        return failed if "0002" in str(request.launch.folder) else imagined(request)

    assert [trial.state for trial in search.try_out(own, launch)].count("failed") == 1
    assert 2 not in own.study.trials()
    assert "failed" not in {trial.state for trial in search.try_out(own, imagined)}


def test_a_problem_that_is_none_of_the_settings_ends_the_search(tmp_path: Path) -> None:
    def launch(request: TrialRequest) -> TrialResult:
        if "0002" in str(request.launch.folder):
            raise TrainingError("the disk is full")
        return imagined(request)

    own = search_in(tmp_path, with_tuning(trials=9))
    with pytest.raises(TrainingError, match="the disk is full"):
        search.try_out(own, launch)
    assert {0, 1} <= set(own.study.trials())


def test_another_panel_space_or_seed_is_another_study(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    parts = {"the panel": 1, "training.seed": 7}
    first = open_study(tmp_path, parts)
    first.keep(Trial(0, {"hidden": 8}, "complete", (0.1,), 1, 1.0))
    assert open_study(tmp_path, parts) == first
    assert "1 trial is done" in caplog.text
    assert open_study(tmp_path, {**parts, "training.seed": 8}).trials() == {}
    assert "a new search: training.seed changed" in caplog.text
    (first.folder / "trial-0001.json").write_text("{", encoding="utf-8")
    assert set(first.trials()) == {0}
    assert "it is trained again" in caplog.text


# The whole stage


@pytest.mark.spark
def test_better_settings_are_found_compared_on_held_out_dates_and_can_be_applied(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = with_training_panel(lakehouse, tmp_path, panel_rows(FINAL, series=8))
    space = load_config(overrides=["tuning.space={learning_rate: [2.0e-2], hidden: [16]}"]).tuning.space
    config = with_tuning(trials=2, seeds=1, space=space)
    report = tune.run(config, filled.for_run("tune-1", INPUTS))

    assert isinstance(report, tune.TuneReport)
    assert report.best.number == 1
    # The configured learning rate is far too small, which shows before and after the cutoff.
    assert report.best.values[-1] < report.trials[0].values[-1] - 0.05
    assert report.effect is not None
    assert report.effect.lo_95 is not None
    assert report.effect.lo_95 > 0
    assert "better beyond chance" in report.message
    rows = {row["number"]: row for row in filled.read(s.TRIALS.name).collect()}
    assert set(rows) == {0, 1}
    assert rows[0]["params"] == {"learning_rate": 1e-4, "hidden": 12.0}
    assert rows[report.best.number]["value"] == report.best.values[-1]
    assert {row["parameter"] for row in filled.read(s.TUNED.name).collect()} == {"learning_rate", "hidden"}
    compared = filled.read(s.TUNING_EFFECT.name).collect()
    assert [row["wape_default"] for row in compared] == [report.effect.wape_without]

    winner = filled.folder("tuning") / "best.yaml"
    applied = load_config([winner])
    assert applied.training.hidden == report.best.params["hidden"]
    assert applied.tuning.until == str(BACKTEST)
    words = tune.winner_in_words(CONFIG.model_copy(update={"lakehouse": filled.config}))
    assert f"--set training.hidden={report.best.params['hidden']}" in words[0]

    # Nothing is trained again, in the search or for the comparison.
    monkeypatch.setattr(tune, "launch_trial", lambda *_: pytest.fail("a trial was trained again"))
    again = tune.run(config, filled.for_run("tune-1", INPUTS))
    assert isinstance(again, tune.TuneReport)
    assert (again.trials, again.effect) == (report.trials, report.effect)
    assert not list((filled.folder("tuning")).glob("study-*/trial-????"))


@pytest.mark.spark
def test_without_anything_better_the_configured_settings_stay(lakehouse: Lakehouse, tmp_path: Path) -> None:
    filled = with_training_panel(lakehouse, tmp_path, panel_rows(FINAL, series=1))
    space = load_config(overrides=["tuning.space={learning_rate: [1.0e-6]}"]).tuning.space
    config = with_tuning(space=space, trials=2).model_copy(update={"training": SMALL})
    report = tune.run(config, filled.for_run("tune-1", INPUTS))
    assert isinstance(report, tune.TuneReport)
    assert (report.best.number, report.effect) == (0, None)
    assert "none was better than the configured settings" in report.message
    assert filled.read(s.TUNING_EFFECT.name).isEmpty()
    assert yaml.safe_load((filled.folder("tuning") / "best.yaml").read_text())["training"] == {"learning_rate": 1e-2}


@pytest.mark.spark
def test_it_is_told_when_no_trial_can_be_trained(lakehouse: Lakehouse, tmp_path: Path) -> None:
    filled = with_training_panel(lakehouse, tmp_path, panel_rows(FINAL, series=1))
    wild = CONFIG.training.model_copy(update={"learning_rate": 1e30, "clip": 1e30})
    space = load_config(overrides=["tuning.space={learning_rate: [1.0e+31]}"]).tuning.space
    config = with_tuning(space=space, trials=2).model_copy(update={"training": wild})
    with pytest.raises(TrainingError, match=r"none of 2 trial\(s\) could be trained; the first.*no number"):
        tune.run(config, filled.for_run("tune-1", INPUTS))


@pytest.mark.spark
def test_selection_windows_in_test_windows_and_short_histories_are_refused_before_a_trial(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "launch_trial", lambda *_: pytest.fail("work has started"))
    filled = with_training_panel(lakehouse, tmp_path, panel_rows(FINAL)).for_run("tune-1", INPUTS)
    with pytest.raises(ConfigError, match=rf"tuning\.until is {FINAL}, after the first backtest cutoff {BACKTEST}"):
        tune.run(with_tuning(until=str(FINAL)), filled)
    with pytest.raises(ConfigError, match=r"tuning\.until is 17, but moments of this panel are like"):
        tune.run(with_tuning(until=17), filled)
    with pytest.raises(TrainingError, match=r"40 selection windows of 7 steps .*lower tuning\.origins"):
        tune.run(with_tuning(origins=40), filled)


@pytest.mark.spark
def test_without_a_panel_there_is_nothing_to_tune(lakehouse: Lakehouse) -> None:
    assert isinstance(tune.run(CONFIG, lakehouse), NotApplicable)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tuning.space={hiden: [8]}"], r"tuning\.space: hiden is no setting of training.*did you mean hidden\?"),
        (["tuning.space={epochs: [8]}"], r"tuning\.space: epochs is no setting .*; these can: history, hidden"),
        (["tuning.space={hidden: []}"], r"tuning\.space\.hidden: an empty list leaves nothing to choose"),
        (["tuning.space={hidden: {low: 9, high: 8}}"], r"tuning\.space\.hidden: the range from 9 to 8 is empty"),
        (["tuning.space={hidden: {low: 8, high: 8}}"], r"tuning\.space\.hidden: the range from 8 to 8 is empty"),
        (["tuning.space={hidden: {low: 8}}"], r"tuning\.space\.hidden: a range needs low and high"),
        (["tuning.space={hidden: 8}"], r"tuning\.space\.hidden: expected \{low: .., high: ..\} or a list"),
        (["tuning.space={hidden: [8, 8]}"], r"tuning\.space\.hidden: a value is there twice"),
        (["tuning.space={dropout: {low: 0, high: .5, log: true}}"], r"tuning\.space\.dropout: log: true needs low"),
        (["tuning.space={dropout: {low: 0, high: 1}}"], r"tuning\.space\.dropout: 1 is no legal training\.dropout"),
        (["tuning.space={hidden: [1.5]}"], r"tuning\.space\.hidden: 1\.5 is no legal training\.hidden"),
        (["tuning.space={batch_size: [1, 64]}"], r"tuning\.space\.batch_size: 1 is no legal training\.batch_size"),
        (["tuning.space={}"], r"tuning\.space: names no setting to search"),
        (["tuning.trials=0"], r"tuning\.trials"),
        (["tuning.minutes=0"], r"tuning\.minutes"),
        (["tuning.until=soon"], r"tuning\.until: expected a date, a time or the number of a step, got 'soon'"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_with_the_configuration(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=overrides)


def test_a_space_may_hold_ranges_and_lists() -> None:
    space = load_config(
        overrides=["tuning.space={hidden: [8, 16], learning_rate: {low: 1e-4, high: .01}}"]
    ).tuning.space
    assert space is not None
    assert space["hidden"].choices == (8, 16)
    assert space["learning_rate"].extremes == (1e-4, 0.01)
    assert json.loads(CONFIG.model_dump_json())["tuning"]["space"]["hidden"]["choices"] == [8, 12]
    assert Config.model_validate(yaml.safe_load(CONFIG.to_yaml())) == CONFIG
