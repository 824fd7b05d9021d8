"""How ranks exchange tensors: the few collectives that training needs, whoever carries them.

The launchers bring their own: Horovod's in ``launch/horovod.py``, torch's in ``launch/torch_distributor.py``. Every
collective is called by all ranks in the same order; a rank that leaves early would leave the others waiting, so all
decisions that end an epoch or a run are taken from reduced values, which are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from dlmine_spark.errors import TrainingError


class RankLost(TrainingError):
    """An exchange failed because another rank is gone: a consequence, whose cause lies with that rank."""


class Comm(Protocol):
    """The ranks of one training run; every collective raises ``RankLost`` when another rank is gone."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def local_rank(self) -> int:
        """Number of this process among those of its machine, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    @property
    def takes_gpu_tensors(self) -> bool:
        """Whether ``mean_`` takes tensors of a GPU; else they go through memory."""
        ...

    def mean_(self, tensor: torch.Tensor) -> None:
        """Replace a contiguous tensor of floating-point numbers, of 16 bits too, by its mean over the ranks."""
        ...

    def broadcast_(self, tensor: torch.Tensor) -> None:
        """Replace a contiguous tensor by that of rank 0."""
        ...

    def barrier(self) -> None:
        """Wait until every rank is here."""
        ...


class SingleProcess:
    """One rank on its own: every collective leaves its tensor as it is."""

    rank = 0
    local_rank = 0
    size = 1
    takes_gpu_tensors = True

    def mean_(self, tensor: torch.Tensor) -> None:
        """The mean over one rank."""

    def broadcast_(self, tensor: torch.Tensor) -> None:
        """The tensor of the only rank."""

    def barrier(self) -> None:
        """Nobody to wait for."""


def broadcast_bytes(comm: Comm, payload: bytes | None) -> bytes | None:
    """The bytes (or the None) that rank 0 gave, on every rank."""
    size = torch.tensor([-1 if payload is None else len(payload)], dtype=torch.int64)
    comm.broadcast_(size)
    length = int(size.item())
    if length < 0:
        return None
    if comm.rank == 0 and payload is not None:
        buffer = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
    else:
        buffer = torch.empty(length, dtype=torch.uint8)
    if length:
        comm.broadcast_(buffer)
    return buffer.numpy().tobytes()


def broadcast_flag(comm: Comm, flag: bool) -> bool:
    """What rank 0 decided, on every rank."""
    tensor = torch.tensor([int(flag)], dtype=torch.int64)
    comm.broadcast_(tensor)
    return bool(tensor.item())


def sums_over_ranks(comm: Comm, values: Sequence[float]) -> list[float]:
    """Sums over the ranks, value by value."""
    tensor = torch.tensor(list(values), dtype=torch.float64)
    comm.mean_(tensor)
    return [float(value) * comm.size for value in tensor]


def require_same(comm: Comm, numbers: Sequence[int], what: str) -> None:
    """Stop all ranks, now and with a reason, if they would disagree later and wait for each other for ever.

    Args:
        comm: the ranks.
        numbers: whole numbers below 2**53 that must be equal everywhere.
        what: they describe, for the message.

    Raises:
        TrainingError: on every rank, if any of them differs from rank 0.
    """
    own = torch.tensor(list(numbers), dtype=torch.float64)
    first = own.clone()
    comm.broadcast_(first)
    differs = torch.tensor([float(not torch.equal(own, first))], dtype=torch.float64)
    comm.mean_(differs)
    if differs.item() > 0:
        raise TrainingError(
            f"ranks disagree on {what}: rank {comm.rank} has {list(numbers)}, rank 0 has "
            f"{[int(value) for value in first]}; do all machines reach the same storage and run the same version?"
        )


def slice_of(total: int, comm: Comm) -> slice:
    """This rank's contiguous part of ``total`` things; the parts of all ranks cover them once."""
    bounds = np.linspace(0, total, comm.size + 1).astype(int)
    return slice(int(bounds[comm.rank]), int(bounds[comm.rank + 1]))
