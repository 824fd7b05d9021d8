"""Ranks as Spark tasks that average through Horovod (gloo); the only file that imports it.

The exchange is one allreduce of one flat tensor a step (see ``loop.FlatGradient``), which does what
``hvd.DistributedOptimizer`` does with a hook per parameter, in fewer messages.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import horovod.spark
import horovod.torch as hvd
import pyspark
import torch
from horovod.common.exceptions import HorovodInternalError
from pyspark.sql import SparkSession
from torch.nn import functional as F

from dlmine_spark.slots import WAIT_SECONDS, require_slots
from dlmine_spark.training.comm import RankLost
from dlmine_spark.training.job import LaunchRequest, run_rank
from dlmine_spark.training.launch.relay import listening, speak_through
from dlmine_spark.training.launch.shipped import with_shipped_code
from dlmine_spark.training.launch.waiting import ended_with_its_ranks

log = logging.getLogger(__name__)

THREADS_PER_RANK = 1
"""Ranks take a core each; a second thread would compete with the neighbour and with Horovod's own."""
CYCLE_TIME, CYCLE_MILLISECONDS = "HOROVOD_CYCLE_TIME", "1"
"""How often Horovod's thread asks the other ranks whether they are there, too. Each time takes a part of the core that
the rank computes on, and a rank waits for the next time: measured in docs/benchmarks.md.
"""
POLL_SECONDS = 2e-4
"""How often a rank looks whether the mean is there. Horovod's own wait spins, and takes the core from the thread
that it waits for."""


class HorovodComm:
    """Collectives carried by Horovod; initialised by the rank's process."""

    @property
    def rank(self) -> int:
        """Number of this process."""
        return int(hvd.rank())

    @property
    def local_rank(self) -> int:
        """Number of this process among those of its machine."""
        return int(hvd.local_rank())

    @property
    def size(self) -> int:
        """Number of processes."""
        return int(hvd.size())

    @property
    def takes_gpu_tensors(self) -> bool:
        """Whether Horovod was built with nccl, and each rank of the machine has a GPU of its own, as nccl asks for."""
        return bool(hvd.nccl_built()) and int(hvd.local_size()) <= torch.cuda.device_count()

    def mean_(self, tensor: torch.Tensor) -> None:
        """Average over the ranks."""
        # Horovod keeps what ranks agreed on for a name as long as type and length are the same.
        name = f"mean-{tensor.dtype}-{tensor.numel()}"
        with _naming_the_cause():
            if tensor.dtype is torch.bfloat16:
                _mean_of_bfloat16_(tensor, name)
            else:
                handle = hvd.allreduce_async_(tensor, op=hvd.Average, name=name)
                while not hvd.poll(handle):
                    time.sleep(POLL_SECONDS)
                hvd.synchronize(handle)

    def broadcast_(self, tensor: torch.Tensor) -> None:
        """Take rank 0's."""
        with _naming_the_cause():
            hvd.broadcast_(tensor, root_rank=0, name="broadcast")

    def barrier(self) -> None:
        """Wait for all."""
        with _naming_the_cause():
            hvd.barrier()


def _mean_of_bfloat16_(tensor: torch.Tensor, name: str) -> None:
    """Horovod cannot add bfloat16: each rank averages a part, in 32 bits, and all gather the parts.

    As much travels as in a ring: every rank's number once to whoever averages it, and every mean once to the others.
    """
    size = hvd.size()
    # From memory: nccl has no numbers of this type.
    parts = F.pad(tensor.cpu(), (0, -len(tensor) % size)).view(size, -1)
    received = hvd.alltoall(parts.view(torch.int16), name=f"{name}-parts").view(torch.bfloat16)
    means = received.view(size, -1).float().mean(0).to(torch.bfloat16)
    gathered = hvd.allgather(means.view(torch.int16), name=f"{name}-means").view(torch.bfloat16)
    tensor.copy_(gathered[: len(tensor)])


@contextmanager
def _naming_the_cause() -> Iterator[None]:
    try:
        yield
    except HorovodInternalError as error:
        raise RankLost(f"Horovod: {error}") from error


def launch_horovod(request: LaunchRequest, spark: SparkSession) -> None:
    """Run the ranks as Spark tasks and wait for them.

    Raises:
        EnvironmentProblem: Spark has fewer slots than ranks.
        TrainingError: a rank's own error.
    """
    config = request.training
    require_slots(spark, config.workers, min(config.launch_timeout, WAIT_SECONDS))
    # Horovod starts its ranks by the executors' launcher, which on local-cluster masters looks for Spark here.
    os.environ.setdefault("SPARK_HOME", os.path.dirname(pyspark.__file__))
    with (
        listening(request.folder, config.workers) as output,
        output.open("a", encoding="utf-8") as stream,
        _quiet_threads(),
        ended_with_its_ranks(request.folder, spark),
    ):
        horovod.spark.run(
            with_shipped_code(_rank, request, spark),
            num_proc=config.workers,
            start_timeout=int(config.launch_timeout),
            use_gloo=True,
            use_mpi=False,
            # Added to the executors' own environment; the driver's may be that of another machine.
            env={
                "OMP_NUM_THREADS": str(THREADS_PER_RANK),
                CYCLE_TIME: os.environ.get(CYCLE_TIME, CYCLE_MILLISECONDS),
            },
            stdout=stream,
            stderr=stream,
            verbose=0,
            # What Spark's own tasks run: the driver's interpreter need not be on other machines.
            executable=spark.sparkContext.pythonExec,
        )


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Keep what dies in Horovod's own threads out of the user's terminal.

    When a rank fails, Horovod cancels its Spark job, and the thread that waits for that job prints the cancellation
    with its trace: a consequence that would bury the rank's own error, which is raised anyway.
    """
    before = threading.excepthook

    def note(failure: threading.ExceptHookArgs) -> None:
        name = failure.thread.name if failure.thread else "unknown"
        log.debug("thread %s ended with %s", name, failure.exc_type.__name__, exc_info=failure.exc_value)

    threading.excepthook = note
    try:
        yield
    finally:
        threading.excepthook = before


def _rank(request: LaunchRequest) -> None:
    hvd.init()
    comm = HorovodComm()
    speak_through(request.folder, comm.rank)
    try:
        run_rank(request, comm, THREADS_PER_RANK)
    finally:
        hvd.shutdown()
