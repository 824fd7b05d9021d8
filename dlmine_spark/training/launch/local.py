"""Training in this process: one rank, ``training.workers`` threads."""

from __future__ import annotations

import torch

from dlmine_spark.training.comm import SingleProcess
from dlmine_spark.training.job import LaunchRequest, train_cutoffs


def launch_local(request: LaunchRequest) -> None:
    """Train here; the process's number of torch threads is as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(request.training.workers)
    try:
        train_cutoffs(request, SingleProcess())
    finally:
        torch.set_num_threads(threads)
