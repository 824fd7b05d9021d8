"""Ranks started by Spark's TorchDistributor, averaging through torch.distributed (gloo)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from dlmine_spark.config import TrainingConfig
from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.slots import WAIT_SECONDS, is_local, require_slots
from dlmine_spark.training.comm import RankLost
from dlmine_spark.training.job import LaunchRequest, run_rank
from dlmine_spark.training.launch.relay import listening, speak_through
from dlmine_spark.training.launch.shipped import with_shipped_code
from dlmine_spark.training.launch.waiting import ended_with_its_ranks

log = logging.getLogger(__name__)

THREADS_PER_RANK = 1
EXCHANGE_TIMEOUT = timedelta(minutes=10)
"""Longest a rank waits for another in one exchange; reading the panel lies between two of them."""


class TorchComm:
    """Collectives carried by torch.distributed, whose process group the rank's process has started."""

    @property
    def rank(self) -> int:
        """Number of this process."""
        return dist.get_rank()

    @property
    def local_rank(self) -> int:
        """Number of this process among those of its machine, as its launcher told; else its number among all."""
        return dist.get_node_local_rank(fallback_rank=self.rank)

    @property
    def size(self) -> int:
        """Number of processes."""
        return dist.get_world_size()

    def mean_(self, tensor: torch.Tensor) -> None:
        """Average over the ranks; gloo sums only."""
        with _naming_the_cause():
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
        tensor.div_(self.size)

    def broadcast_(self, tensor: torch.Tensor) -> None:
        """Take rank 0's."""
        with _naming_the_cause():
            dist.broadcast(tensor, src=0)

    def barrier(self) -> None:
        """Wait for all."""
        with _naming_the_cause():
            dist.barrier()


@contextlib.contextmanager
def _naming_the_cause() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # gloo's errors have no type of their own, and these calls can fail in no other way.
        raise RankLost(f"gloo: {error}") from error


def launch_torch(request: LaunchRequest, spark: SparkSession) -> None:
    """Run the ranks as local processes under a local master, else as a barrier stage, and wait for them.

    Raises:
        EnvironmentProblem: the cluster has fewer slots than ranks.
        TrainingError: a rank's own error.
    """
    config = request.training
    local = is_local(spark)
    if not local:
        _tell_of_hidden_gpus(config)
        require_slots(spark, config.workers, min(config.launch_timeout, WAIT_SECONDS))
    with (
        listening(request.folder, config.workers) as output,
        output.open("a", encoding="utf-8") as stream,
        # The distributor writes what ranks print to this process's standard output.
        contextlib.redirect_stdout(stream),
        ended_with_its_ranks(request.folder, spark),
    ):
        distributor = TorchDistributor(num_processes=config.workers, local_mode=local, use_gpu=False)
        # It gives its logger a level of its own, and would tell every user that it started.
        distributor.logger.setLevel(logging.WARNING)
        distributor.run(with_shipped_code(_rank, request, spark))


def _tell_of_hidden_gpus(config: TrainingConfig) -> None:
    """Without a GPU in Spark's own resources, the distributor hides those of the machines from its ranks."""
    remedy = "train by training.backend=horovod, or set training.device=cpu"
    if config.device == "cuda":
        raise EnvironmentProblem(f"training.device is cuda, but backend torch sees no GPU on a cluster: {remedy}")
    if config.device == "auto":
        log.warning("backend torch sees no GPU on a cluster, so ranks train on CPUs: %s", remedy)


def _rank(request: LaunchRequest) -> None:
    dist.init_process_group("gloo", timeout=EXCHANGE_TIMEOUT)
    comm = TorchComm()
    speak_through(request.folder, comm.rank)
    try:
        run_rank(request, comm, THREADS_PER_RANK)
    finally:
        dist.destroy_process_group()
