"""Integrated gradients: how much of a forecast comes from each input, against a baseline. Torch and captum only.

Sundararajan, Taly and Yan (2017, "Axiomatic attribution for deep networks"). The contributions of all inputs sum to the
difference between the forecast and that of the baseline; how well they do is measured, and the path between the two is
divided more finely until they do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import IntegratedGradients

Floats = npt.NDArray[np.float64]
Inputs = Mapping[str, torch.Tensor]
"""Tensors by name, the first axis being windows."""

TOLERANCE = 1e-3
"""Of the forecast: what the contributions may miss of the difference."""
STEPS = (64, 128, 256, 512)
"""Points on the path from the baseline, the next number where they were too few."""


@dataclass(frozen=True)
class Attribution:
    """Where one number of a forecast comes from.

    Attributes:
        forecast: the number, in units of the data.
        baseline: the same of the baseline.
        contributions: of every number of each input, in the input's shape; together ``forecast - baseline - gap``.
        gap: what is left; above ``TOLERANCE`` of the forecast only where no division of the path was fine enough.
    """

    forecast: float
    baseline: float
    contributions: dict[str, Floats]
    gap: float


def attribute(predict: Callable[[Inputs], torch.Tensor], inputs: Inputs, baseline: Inputs, step: int) -> Attribution:
    """Attribute the forecast of one step of one window to its inputs.

    Args:
        predict: from any number of windows to their forecasts, differentiable; windows x horizon.
        inputs: of one window.
        baseline: likewise, what the forecast is compared with.
        step: of the horizon, from 0.
    """
    names = tuple(inputs)

    def of_step(*tensors: torch.Tensor) -> torch.Tensor:
        return predict(dict(zip(names, tensors, strict=True)))[:, step]

    given, compared = tuple(inputs[name] for name in names), tuple(baseline[name] for name in names)
    with torch.no_grad():
        forecast, of_baseline = float(of_step(*given)), float(of_step(*compared))
    method = IntegratedGradients(of_step)
    parts: tuple[torch.Tensor, ...] = ()
    gap = 0.0
    for steps in STEPS:
        parts = method.attribute(given, compared, n_steps=steps)
        gap = forecast - of_baseline - sum(float(part.sum(dtype=torch.float64)) for part in parts)
        if abs(gap) <= TOLERANCE * max(abs(forecast), abs(forecast - of_baseline)):
            break
    contributions = {
        name: part.detach().squeeze(0).numpy().astype(np.float64) for name, part in zip(names, parts, strict=True)
    }
    return Attribution(forecast, of_baseline, contributions, gap)
