"""The network of textbooks, to compare with: LSTM(50) + Dense(1), which forecasts one step and reads its own forecasts.

It sees the past values of a series and whether a step is closed; no covariates, no attributes, no other seasons. The
LSTM reads the history and gives the next value. That is read as if it had been observed, and so on to the end of the
horizon (recursive, or iterated, forecasting); the state is carried on, where textbooks often read the last ``history``
values anew for each step, so that a forecast costs one pass. Textbooks give no intervals. Here the quantiles of the
errors that the recursive forecast makes, by step ahead, are learned beside the weights, which do not feel them; like
those of any network they are corrected by what happened before the cutoff (``evaluation.conformal``).
"""

from __future__ import annotations

import torch
from torch import nn

from dlmine_spark.training.devices import in_precision
from dlmine_spark.training.model import (
    MEDIAN,
    QUANTILES,
    Dropout,
    Forecaster,
    ModelShape,
    Scaling,
    pinball,
    without_crossing,
)
from dlmine_spark.training.windows import Batch

State = tuple[torch.Tensor, torch.Tensor]


class Textbook(Forecaster):
    """The next scaled value from the scaled values before it; see the module's docstring."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__(shape)
        self.embeddings = nn.ModuleList()
        self.lstm = nn.LSTM(1, shape.hidden, shape.layers, batch_first=True)
        self.dense = nn.Linear(shape.hidden, 1)
        # As in the default network: intervals start about as wide as a window varies.
        self.distances = nn.Parameter(torch.full((shape.horizon, len(QUANTILES) - 1), -0.5))

    def forward(self, batch: Batch, scaling: Scaling, dropout: Dropout | None = None) -> torch.Tensor:
        """Scaled quantiles; of the medians, only those of the first step have gradients. No dropout."""
        value, state = self._next(scaling.scale(batch.y) * batch.mask)
        medians = [value]
        with torch.no_grad():
            for step in range(self.shape.horizon - 1):
                # As in the past, the value of a closed step is the level.
                value, state = self._next(value * batch.open[:, step : step + 1], state)
                medians.append(value)
        no_shift = self.distances.new_zeros(self.shape.horizon, 1)
        raw = torch.cat([self.distances[:, :MEDIAN], no_shift, self.distances[:, MEDIAN:]], dim=1)
        return without_crossing(raw.expand(len(batch), -1, -1), torch.stack(medians, dim=1))

    def losses(self, quantiles: torch.Tensor, scaling: Scaling, batch: Batch) -> torch.Tensor:
        """The squared error of the first step, for the weights, and the pinball loss, for the intervals alone."""
        medians = quantiles[..., MEDIAN : MEDIAN + 1]
        first = (scaling.scale(batch.target)[:, 0] - medians[:, 0, 0]).square() * batch.target_mask[:, 0]
        return first + pinball(quantiles - medians + medians.detach(), scaling, batch)

    def encode(self, batch: Batch) -> torch.Tensor:
        """The LSTM's output after the past."""
        values = self.scaling(batch).scale(batch.y) * batch.mask
        last: torch.Tensor = self.lstm(values.unsqueeze(2))[0][:, -1]
        return last

    def _next(self, values: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
        """The value after some (windows x steps) that follow a state; windows x 1, and the state then."""
        outputs, state = self.lstm(values.unsqueeze(2), state)
        with in_precision("float32", values.device):
            return self.dense(outputs[:, -1].float()), state
