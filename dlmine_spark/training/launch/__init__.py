"""Starting the ranks: one seam, three backends.

``local`` is one process with several threads; ``horovod`` runs ranks as Spark tasks that average through Horovod's
gloo; ``torch`` runs them through Spark's TorchDistributor. Whatever carries them, ranks do the same
(``training.job``), log to one place, and a rank's own error is what the user sees.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from pyspark.sql import SparkSession

from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.slots import slots_left
from dlmine_spark.training.job import LaunchRequest, RunResult, read_results
from dlmine_spark.training.launch.local import launch_local
from dlmine_spark.training.launch.relay import RankFailed

__all__ = ["LaunchRequest", "RunResult", "launch"]

log = logging.getLogger(__name__)

SLOT_TIMEOUT = 20.0
"""Seconds to wait for executors that replace lost ones, before fewer ranks go on."""

Ranks = Callable[[LaunchRequest, SparkSession], None]


def launch(request: LaunchRequest, spark: SparkSession | None) -> RunResult:
    """Train by the configured backend and wait for the end.

    Args:
        request: what to train.
        spark: needed by every backend but ``local``.

    Raises:
        TrainingError: a rank's own error, whichever rank had it, after ``training.max_restarts`` restarts if it may be
            one that does not come again.
        EnvironmentProblem: the backend is not installed, or there are fewer slots than ranks.
    """
    start = time.perf_counter()
    backend = _available(request)
    if backend == "local":
        launch_local(request)
    elif spark is None:
        raise EnvironmentProblem(f"training.backend {backend} needs a Spark session; use training.backend=local")
    else:
        request = _with_restarts(_ranks_of(backend), request, spark)
    return RunResult(read_results(request), backend, request.training.workers, time.perf_counter() - start)


def _ranks_of(backend: str) -> Ranks:
    """What starts a backend's ranks; its libraries are loaded only if it is used."""
    if backend == "horovod":
        from dlmine_spark.training.launch.horovod import launch_horovod

        return launch_horovod
    from dlmine_spark.training.launch.torch_distributor import launch_torch

    return launch_torch


def _with_restarts(start_ranks: Ranks, request: LaunchRequest, spark: SparkSession) -> LaunchRequest:
    """Run the ranks, and again from the last checkpoint where one failed for no reason of its own.

    Returns:
        The request that was finished: on fewer ranks than asked for, if slots have gone.
    """
    for left in range(request.training.max_restarts, -1, -1):
        try:
            start_ranks(request, spark)
            break
        except RankFailed as error:
            if not left:
                raise
            log.warning("%s; starting again (restarts left: %d)", error, left - 1)
        wanted = request.training.workers
        workers = slots_left(spark, wanted, SLOT_TIMEOUT)
        if workers < wanted:
            log.warning("Spark has slots left for %d of %d ranks: going on with so many", workers, wanted)
            request = replace(request, training=request.training.model_copy(update={"workers": workers}))
    return request


def _available(request: LaunchRequest) -> str:
    """The backend asked for, or torch where Horovod is not installed and that is allowed."""
    config = request.training
    if config.backend != "horovod" or importlib.util.find_spec("horovod") is not None:
        return config.backend
    if not config.fallback:
        raise EnvironmentProblem(
            "training.backend is horovod, but Horovod is not installed: run 'make horovod', "
            "or set training.fallback=true or training.backend=torch"
        )
    log.warning("Horovod is not installed: training by backend torch instead ('make horovod' builds it)")
    return "torch"
