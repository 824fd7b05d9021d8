from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from dlmine_spark.config import TrainingConfig
from dlmine_spark.errors import EnvironmentProblem, TrainingError
from dlmine_spark.training import launch as launching
from dlmine_spark.training.job import failure_file, read_results
from dlmine_spark.training.launch import LaunchRequest, RunResult, launch, waiting
from dlmine_spark.training.launch.relay import RankFailed, listening
from dlmine_spark.training.predict import FORECAST_FILE, cutoff_folder, load_for_explanation, predict_cutoff
from dlmine_spark.training.windows import permuted
from tests.training.panels import SMALL, panel_rows, small_request, write_panel

needs_horovod = pytest.mark.skipif(
    importlib.util.find_spec("horovod") is None, reason="Horovod is not installed ('make horovod' builds it)"
)


def request_by(backend: str, folder: Path, workers: int = 2, training: TrainingConfig = SMALL) -> LaunchRequest:
    return small_request(folder, training.model_copy(update={"backend": backend, "workers": workers}))


def losses(result: RunResult) -> list[list[float]]:
    return [[entry.loss for member in cutoff.members for entry in member.history] for cutoff in result.cutoffs]


def wapes(result: RunResult) -> list[float]:
    """Of the means and of the networks alone, where there was something to validate on."""
    found = [
        wape for one in result.cutoffs for wape in (one.validation_wape, *(m.validation_wape for m in one.members))
    ]
    return [wape for wape in found if wape is not None]


def test_one_launch_trains_every_cutoff_and_tunes_the_last(tmp_path: Path) -> None:
    request = small_request(tmp_path)
    result = launch(request, None)

    backtest, final = result.cutoffs
    assert (backtest.cutoff, final.cutoff) == request.cutoffs
    assert (backtest.epochs, final.epochs) == (SMALL.epochs, SMALL.final_epochs)
    assert losses(result)[1][0] < losses(result)[0][0]  # it does not start from nothing
    assert final.validation_wape is None
    for cutoff in request.cutoffs:
        assert {path.name for path in cutoff_folder(request.folder, cutoff).iterdir()} == {
            FORECAST_FILE,
            "member=1",
            "result.json",
        }


def test_the_models_predict_and_can_be_explained(tmp_path: Path) -> None:
    request = small_request(tmp_path)
    launch(request, None)

    frame = pd.concat(predict_cutoff(cutoff_folder(request.folder, request.final), request.source, request.final))
    assert len(frame) == 4 * request.horizon
    assert frame.loc[frame["unique_id"] == "s1", "y_hat"].mean() == pytest.approx(110, rel=0.5)

    folder = cutoff_folder(request.folder, request.backtest[0])
    explanation = load_for_explanation(folder, request.source, request.backtest[0], windows=5, seed=1)
    assert explanation.held_out
    assert explanation.predict(explanation.batch).shape == explanation.target.shape == (5, request.horizon)
    promo = next(group for group in explanation.groups if group.name == "kf_promo")
    swapped = permuted(explanation.batch, promo, np.array([1, 2, 3, 4, 0]))
    assert not np.allclose(explanation.predict(swapped), explanation.predict(explanation.batch))

    rows = panel_rows(request.final)
    renamed = rows.rename_columns([name.replace("sn_", "sn_new_") for name in rows.column_names])
    with pytest.raises(TrainingError, match=r"covariates .* \(sn_new_size, sn_size\); train again"):
        next(predict_cutoff(folder, write_panel(tmp_path / "renamed", renamed), request.final))


@pytest.mark.spark
@pytest.mark.horovod
@needs_horovod
def test_two_horovod_ranks_train_as_one_process_does(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = SMALL.model_copy(update={"members": 2})
    alone = launch(small_request(tmp_path / "alone", pair), None)
    with caplog.at_level(logging.INFO, "dlmine_spark"):
        ranks = launch(request_by("horovod", tmp_path / "ranks", training=pair), spark)

    assert (ranks.backend, ranks.workers) == ("horovod", 2)
    np.testing.assert_allclose(losses(ranks)[0], losses(alone)[0], atol=1e-4)
    np.testing.assert_allclose(losses(ranks)[1], losses(alone)[1], atol=1e-4)
    np.testing.assert_allclose(wapes(ranks), wapes(alone), atol=1e-4)
    assert "epoch 3/3: loss" in caplog.text


@pytest.mark.spark
@pytest.mark.horovod
@needs_horovod
def test_a_rank_that_fails_ends_the_job_with_its_own_error(spark: SparkSession, tmp_path: Path) -> None:
    alone = small_request(tmp_path / "alone")
    launch(alone, None)
    # The first cutoff is trained before the second, which the panel does not have.
    request = request_by("horovod", tmp_path, training=SMALL.model_copy(update={"compression": "bf16"}))
    with pytest.raises(TrainingError, match="has no rows for cutoff 2023-09-08"):
        launch(replace(request, final=date(2023, 9, 8)), spark)

    backtest = request.backtest[:1]
    found, expected = (
        [entry.loss for entry in one.members[0].history]
        for request in (request, alone)
        for one in read_results(replace(request, backtest=(), final=backtest[0]))
    )
    assert found != expected
    np.testing.assert_allclose(found, expected, atol=1e-2)


@pytest.mark.spark
def test_torch_distributor_ranks_train_and_report_their_errors(spark: SparkSession, tmp_path: Path) -> None:
    request = request_by("torch", tmp_path)
    result = launch(request, spark)
    assert result.backend == "torch"
    assert [cutoff.epochs for cutoff in result.cutoffs] == [SMALL.epochs, SMALL.final_epochs]
    with pytest.raises(TrainingError, match=r"evaluation\.horizon is 9"):
        launch(replace(request, horizon=9, folder=tmp_path / "second"), spark)


@pytest.mark.spark
@pytest.mark.horovod
@needs_horovod
def test_more_ranks_than_slots_are_refused_at_once(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"training\.workers is 3, but Spark .* only 2 tasks"):
        launch(request_by("horovod", tmp_path, workers=3), spark)


def test_without_horovod_torch_takes_over_or_it_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(launching.importlib.util, "find_spec", lambda name: None)
    request = request_by("horovod", tmp_path)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(EnvironmentProblem, match="backend torch needs a Spark session"),
    ):
        launch(request, None)
    assert "training by backend torch instead" in caplog.text

    strict = replace(request, training=request.training.model_copy(update={"fallback": False}))
    with pytest.raises(EnvironmentProblem, match="make horovod"):
        launch(strict, None)


Note = tuple[int, str, str]
LOST: Note = (0, "RankLost", "gloo: connection reset")


@pytest.mark.parametrize(
    ("notes", "kind", "message"),
    [
        ([LOST], TrainingError, "rank 1 and 2 ended without a word"),
        ([LOST, (2, "ZeroDivisionError", "division by zero")], TrainingError, "rank 2 failed: ZeroDivisionError: div"),
        ([LOST, (1, "EnvironmentProblem", "models: no space left")], EnvironmentProblem, "^models: no space left$"),
    ],
)
def test_the_cause_is_told_not_its_consequences(
    tmp_path: Path, notes: list[Note], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        _launcher_that_fails(tmp_path, notes)


def _launcher_that_fails(folder: Path, notes: list[Note]) -> None:
    with listening(folder, 3):
        for at, (rank, kind, message) in enumerate(notes):
            ours = kind != "ZeroDivisionError"
            content = {"rank": rank, "kind": kind, "ours": ours, "message": message, "at": at}
            failure_file(folder, rank).write_text(json.dumps(content))
        raise RuntimeError("the launcher's own words")


@pytest.mark.spark
def test_after_a_kill_the_ranks_go_on_from_the_checkpoint(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"epochs": 8, "patience": 8, "samples_per_epoch": 1920, "learning_rate": 3e-3}
    undisturbed = launch(with_settings(small_request(tmp_path / "calm"), **settings), None)
    request = with_settings(request_by("torch", tmp_path / "killed"), **settings, max_restarts=1)

    with ThreadPoolExecutor(1) as beside, caplog.at_level(logging.INFO, "dlmine_spark"):
        killed = beside.submit(_kill_rank, request.folder, 1)
        result = launch(request, spark)

    assert killed.result(), caplog.messages
    assert "rank 1 ended without a word" in caplog.text, caplog.messages
    assert "starting again (restarts left: 0)" in caplog.text
    resumed = re.search(r"going on from the checkpoint of epoch (\d+)", caplog.text)
    assert resumed is not None
    assert int(resumed[1]) >= 2
    for found, expected in zip(losses(result), losses(undisturbed), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def with_settings(request: LaunchRequest, **settings: object) -> LaunchRequest:
    return replace(request, training=request.training.model_copy(update=settings))


def test_what_a_restart_would_meet_again_is_not_tried_again(tmp_path: Path) -> None:
    starts = 0

    def ranks(request: LaunchRequest, spark: SparkSession) -> None:
        nonlocal starts
        starts += 1
        raise TrainingError("evaluation.horizon is 9")

    with pytest.raises(TrainingError, match="horizon is 9"):
        launching._with_restarts(ranks, small_request(tmp_path), cast(SparkSession, None))
    assert starts == 1


def test_there_are_no_more_restarts_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "slots_left", lambda spark, wanted, timeout: wanted)
    starts = 0

    def ranks(request: LaunchRequest, spark: SparkSession) -> None:
        nonlocal starts
        starts += 1
        raise RankFailed(f"start {starts}")

    request = with_settings(request_by("torch", tmp_path), max_restarts=2)
    with pytest.raises(TrainingError, match="start 3"):
        launching._with_restarts(ranks, request, cast(SparkSession, None))


def test_lost_slots_leave_fewer_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "slots_left", lambda spark, wanted, timeout: 1)
    seen: list[int] = []

    def ranks(request: LaunchRequest, spark: SparkSession) -> None:
        seen.append(request.training.workers)
        if len(seen) == 1:
            raise RankFailed("training rank 1 ended without a word")

    finished = launching._with_restarts(ranks, request_by("torch", tmp_path), cast(SparkSession, None))
    assert seen == [2, 1]
    assert finished.training.workers == 1


@pytest.mark.spark
def test_a_launcher_that_outlives_its_ranks_loses_its_jobs(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "GRACE_SECONDS", 0.5)

    def never(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        time.sleep(120)
        yield from batches

    failure_file(tmp_path, 0).write_text("{}")
    start = time.monotonic()
    with pytest.raises(Exception, match="cancelled"), waiting.ended_with_its_ranks(tmp_path, spark):
        spark.range(1).mapInArrow(never, "id long").collect()
    assert time.monotonic() - start < 60


def _kill_rank(folder: Path, rank: int) -> bool:
    """Wait for the first epochs, then kill the process of a rank in the middle of the next; whether it was there."""
    start = time.time()
    progress = folder / "progress.jsonl"
    while not (progress.exists() and "epoch 2/" in progress.read_text()):
        if time.time() > start + 120:
            return False
        time.sleep(0.1)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            # Ranks of earlier tests may still be ending.
            if environment.get("RANK") == str(rank) and "LOCAL_RANK" in environment and process.create_time() > start:
                process.kill()
                return True
    return False
