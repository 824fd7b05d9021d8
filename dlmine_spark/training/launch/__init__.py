"""Starting the ranks: one seam, three backends.

``local`` is one process with several threads; ``horovod`` runs ranks as Spark tasks that average through Horovod's
gloo; ``torch`` runs them through Spark's TorchDistributor. Whatever carries them, ranks do the same
(``training.job``), log to one place, and a rank's own error is what the user sees.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from typing import TYPE_CHECKING

from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.training.job import LaunchRequest, RunResult, read_results
from dlmine_spark.training.launch.local import launch_local

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["LaunchRequest", "RunResult", "launch"]

log = logging.getLogger(__name__)


def launch(request: LaunchRequest, spark: SparkSession | None) -> RunResult:
    """Train by the configured backend and wait for the end.

    Args:
        request: what to train.
        spark: needed by every backend but ``local``.

    Raises:
        TrainingError: a rank's own error, whichever rank had it.
        EnvironmentProblem: the backend is not installed, or there are fewer slots than ranks.
    """
    start = time.perf_counter()
    backend = _available(request)
    if backend == "local":
        launch_local(request)
    elif spark is None:
        raise EnvironmentProblem(f"training.backend {backend} needs a Spark session; use training.backend=local")
    elif backend == "horovod":
        from dlmine_spark.training.launch.horovod import launch_horovod

        launch_horovod(request, spark)
    else:
        from dlmine_spark.training.launch.torch_distributor import launch_torch

        launch_torch(request, spark)
    return RunResult(read_results(request), backend, request.training.workers, time.perf_counter() - start)


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
