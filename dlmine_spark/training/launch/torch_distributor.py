"""Ranks started by Spark's TorchDistributor, averaging through torch.distributed (gloo, or nccl between GPUs)."""

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


GLOO = "gloo"
NCCL = "cpu:gloo,cuda:nccl"
"""What is in memory still goes by gloo."""


def exchange_backend(config: TrainingConfig, gpus: int, has_nccl: bool) -> str:
    """What torch.distributed exchanges by: nccl where every rank has a GPU of its own, else gloo.

    Args:
        config: device, and how many ranks there are.
        gpus: that a rank sees on its machine; on a cluster the distributor shows none, so that one has all ranks.
        has_nccl: whether torch was built with it.
    """
    return NCCL if config.device != "cpu" and config.workers <= gpus and has_nccl else GLOO


class TorchComm:
    """Collectives carried by torch.distributed, whose process group the rank's process has started.

    Attributes:
        takes_gpu_tensors: whether the group was started with ``NCCL``.
    """

    def __init__(self, backend: str = GLOO) -> None:
        self.takes_gpu_tensors = backend == NCCL

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
        # Its errors have no type of their own, and these calls can fail in no other way.
        raise RankLost(f"torch.distributed: {error}") from error


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
    backend = exchange_backend(request.training, torch.cuda.device_count(), dist.is_nccl_available())
    dist.init_process_group(backend, timeout=EXCHANGE_TIMEOUT)
    comm = TorchComm(backend)
    speak_through(request.folder, comm.rank)
    try:
        run_rank(request, comm, THREADS_PER_RANK)
    finally:
        dist.destroy_process_group()
