"""Where a rank computes, and in numbers of which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from dlmine_spark.config import TrainingConfig
from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.training.comm import Comm, require_same

CPU = torch.device("cpu")
PRECISIONS = ("float32", "bfloat16")


def device_of(config: TrainingConfig, comm: Comm) -> torch.device:
    """The device that a rank trains on: its own GPU of the machine, as long as there are as many.

    Raises:
        EnvironmentProblem: a GPU is asked for and torch finds none.
    """
    if config.device == "cpu":
        return CPU
    count = torch.cuda.device_count()
    if count:
        return torch.device("cuda", comm.local_rank % count)
    if config.device == "auto":
        return CPU
    raise EnvironmentProblem(
        "training.device is cuda, but torch finds no GPU: run nvidia-smi, or set training.device=cpu (or auto)"
    )


def use_own_gpu(config: TrainingConfig, comm: Comm) -> None:
    """Make a rank's GPU, if it has one, that of its process: nccl looks for it there.

    Raises:
        EnvironmentProblem: a GPU is asked for and torch finds none.
    """
    device = device_of(config, comm)
    if device.type == "cuda":
        torch.cuda.set_device(device)


def resolved(config: TrainingConfig, comm: Comm) -> TrainingConfig:
    """The settings with the precision that ``auto`` stands for on this rank's device: what weights depend on.

    Raises:
        EnvironmentProblem: the device cannot do what is asked for.
        TrainingError: ranks would train in different ones.
    """
    device = device_of(config, comm)
    has_bfloat16 = device.type == "cpu" or _gpu_has_bfloat16(device)
    if config.precision == "bfloat16" and not has_bfloat16:
        raise EnvironmentProblem(
            f"training.precision is bfloat16, which {torch.cuda.get_device_name(device)} ({device}) has not: "
            "set training.precision=auto or float32"
        )
    precision = config.precision
    if precision == "auto":
        precision = "bfloat16" if device.type != "cpu" and has_bfloat16 else "float32"
    require_same(comm, [PRECISIONS.index(precision)], f"the precision to train in ({', '.join(PRECISIONS)})")
    return config.model_copy(update={"precision": precision})


def computed_on(device: torch.device, config: TrainingConfig) -> str:
    """A device and ``resolved`` settings as runs keep them on record."""
    return f"{device.type} in {config.precision}"


def _gpu_has_bfloat16(device: torch.device) -> bool:
    # Ampere and later; others emulate it, slowly.
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def in_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Within it, the products of matrices are of that precision; what has to be exact leaves it again.

    ``bfloat16`` reaches as far as ``float32``, so that no loss has to be scaled.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
