"""Many networks that have nothing to do with each other: one Spark task trains one of them, without any exchange.

An ablation trains dozens of small networks. Ranks that share the work on one of them would spend their time waiting
for each other; side by side, each takes one core and none waits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd
import torch
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from dlmine_spark.errors import DlmineError, TrainingError
from dlmine_spark.training.job import LaunchRequest
from dlmine_spark.training.launch.local import launch_local
from dlmine_spark.training.trial import TrialRequest, TrialResult, train_trial

_NUMBER, _RESULT, _PROBLEM = "id", "result", "problem"


def launch_each(requests: Sequence[LaunchRequest], spark: SparkSession) -> None:
    """Train every request in a task of its own (one action); cutoffs that are trained already are left as they are.

    Each leaves in its folder what ``launch`` would, whatever its backend: results do not depend on how ranks are
    started, or how many there are.

    Raises:
        TrainingError: some could not be trained; the first one's own words.
    """
    each = spark.range(0, len(requests), 1, numPartitions=max(1, len(requests)))
    alone = [replace(one, training=one.training.model_copy(update={"workers": 1})) for one in requests]

    def train(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        _say_nothing()
        for batch in batches:
            problems = [_train(alone[int(number)]) for number in batch[_NUMBER]]
            yield pd.DataFrame({_NUMBER: batch[_NUMBER], _PROBLEM: pd.Series(problems, dtype=object)})

    done = each.mapInPandas(train, schema=f"{_NUMBER} bigint, {_PROBLEM} string")
    failed = [row for row in done.orderBy(_NUMBER).collect() if row[_PROBLEM] is not None]
    if failed:
        first = failed[0]
        raise TrainingError(
            f"{len(failed)} of {len(requests)} networks could not be trained; the first, in "
            f"{requests[first[_NUMBER]].folder}: {first[_PROBLEM]}"
        )


def launch_trial(request: TrialRequest, spark: SparkSession) -> TrialResult:
    """Train one trial in a task (one action); its checkpoints are left in its folder.

    Raises:
        TrainingError: the panel cannot be read or has not enough history, the folder cannot be written, or the task
            is lost.
    """

    def run(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        _say_nothing()
        torch.set_num_threads(1)
        for batch in batches:
            result, problem = _try(request)
            yield pd.DataFrame(
                {
                    _NUMBER: batch[_NUMBER],
                    _RESULT: pd.Series([result] * len(batch), dtype=object),
                    _PROBLEM: pd.Series([problem] * len(batch), dtype=object),
                }
            )

    task = spark.range(0, 1, 1, numPartitions=1)
    try:
        row = task.mapInPandas(run, schema=f"{_NUMBER} bigint, {_RESULT} string, {_PROBLEM} string").collect()[0]
    except PySparkException as error:
        raise TrainingError(
            f"{request.launch.folder}: the task of this trial was lost: {(str(error).splitlines() or ['?'])[0]}; "
            "run the same command again to go on from its last checkpoint"
        ) from error
    if row[_PROBLEM] is not None:
        raise TrainingError(f"{request.launch.folder}: {row[_PROBLEM]}")
    return TrialResult.from_json(row[_RESULT])


def _try(request: TrialRequest) -> tuple[str | None, str | None]:
    """The result of a trial, or what went wrong that has nothing to do with its settings."""
    try:
        return train_trial(request).to_json(), None
    except (DlmineError, OSError) as error:
        return None, str(error)


def _say_nothing() -> None:
    """What tasks say would come unformatted and mixed; what went wrong comes back as a row."""
    logger = logging.getLogger("dlmine_spark")
    logger.propagate, logger.handlers[:] = False, [logging.NullHandler()]


def _train(request: LaunchRequest) -> str | None:
    """Train here; what went wrong, None if nothing did."""
    try:
        launch_local(request)
    except DlmineError as error:
        return str(error)
    return None
