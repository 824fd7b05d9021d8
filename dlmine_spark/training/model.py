"""What every network shares, and the default one: an encoder-decoder LSTM, every step of the horizon at once.

The encoder reads the past; the decoder starts from its state and reads what is known of the future: covariates,
closures, ARIMA's forecasts, the values of earlier seasons. Each window is scaled by its own level, so that large and
small series share one set of weights, and scaled back at the end ("reversible" scaling, after Kim et al. 2022,
RevIN). The head gives quantiles that cannot cross: the median, and distances from it that cannot be negative.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from dlmine_spark.training.devices import CPU, in_precision
from dlmine_spark.training.windows import Batch

QUANTILES = (0.025, 0.1, 0.5, 0.9, 0.975)
"""The median, and the ends of the 80 % and the 95 % interval."""
MEDIAN = QUANTILES.index(0.5)
LEAST_SPREAD = 0.01
"""A window that hardly varies is scaled by this share of what windows typically vary by."""
SCALED_LIMIT = 12.0
"""Scaled forecasts stay within so many typical deviations of the level: an untrained network must not overflow."""
CATEGORY_DROP = 2.0
"""Categories are forgotten this many times as often as units, so that an unknown category is nothing new."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Everything that fixes the sizes and the scaling of a network; saved with its weights and compared at load.

    Attributes:
        past: columns of ``Batch.past``.
        future: columns of ``Batch.future``.
        lags: columns of ``Batch.lags``.
        static: columns of ``Batch.static``.
        cardinalities: codes of each category, 0 (unknown) included.
        horizon: steps forecast.
        hidden: units of the LSTM.
        layers: of the LSTM.
        dropout: share of units dropped while training.
        embedding: width of a category's embedding.
        log_scale: whether values are scaled on log1p (no value is negative) or linearly.
        location: mean level of the windows, on the scale of ``log_scale``.
        location_spread: standard deviation of the level between windows.
        spread: typical deviation within a window.
        preset: which network (``training.preset``).
    """

    past: int
    future: int
    lags: int
    static: int
    cardinalities: tuple[int, ...]
    horizon: int
    hidden: int
    layers: int
    dropout: float
    embedding: int
    log_scale: bool
    location: float
    location_spread: float
    spread: float
    preset: str = "default"


@dataclass(frozen=True, slots=True)
class Scaling:
    """Level and spread of each window; windows x 1."""

    level: torch.Tensor
    spread: torch.Tensor
    log_scale: bool

    def scale(self, values: torch.Tensor) -> torch.Tensor:
        """Values as the network sees them; windows x steps."""
        raw = torch.log1p(values.clamp_min(0.0)) if self.log_scale else values
        return (raw - self.level) / self.spread

    def restore(self, scaled: torch.Tensor) -> torch.Tensor:
        """Values in the units of the data; windows x steps."""
        raw = scaled.clamp(-SCALED_LIMIT, SCALED_LIMIT) * self.spread + self.level
        return torch.expm1(raw).clamp_min(0.0) if self.log_scale else raw


class DropoutMasks:
    """Dropout whose pattern follows from the seed and the step alone, one pattern for all steps of a window.

    The pattern is drawn for the global batch and each rank takes its windows' rows: any number of ranks computes the
    same function, and a resumed run needs no random state.
    """

    def __init__(
        self, rate: float, seed: int, step: int, windows: int, rows: slice, device: torch.device = CPU
    ) -> None:
        self._rate = rate
        self._windows = windows
        self._rows = rows
        self._device = device
        # On the CPU, whatever the device: others draw other numbers.
        self._generator = torch.Generator().manual_seed(seed * 1_000_003 + step)

    def __call__(self, width: int, times: float = 1.0) -> torch.Tensor:
        """Factors of 0 or 1 / (1 - rate); this rank's windows x width."""
        rate = min(self._rate * times, 0.9)
        kept = torch.rand(self._windows, width, generator=self._generator)[self._rows] >= rate
        return (kept / (1.0 - rate)).to(self._device)


Dropout = Callable[..., torch.Tensor]


class Forecaster(nn.Module, ABC):
    """A global network: one set of weights for all series, each window scaled by its own level."""

    embeddings: nn.ModuleList
    """One a categorical attribute that the network reads; weights are rows by code."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape

    @abstractmethod
    def forward(self, batch: Batch, scaling: Scaling, dropout: Dropout | None = None) -> torch.Tensor:
        """Scaled quantiles, never decreasing along the last axis; windows x horizon x quantiles."""

    @abstractmethod
    def encode(self, batch: Batch) -> torch.Tensor:
        """What the network remembers at the end of the past; windows x hidden."""

    def losses(self, quantiles: torch.Tensor, scaling: Scaling, batch: Batch) -> torch.Tensor:
        """What training makes small, from what ``forward`` gave, by window."""
        return pinball(quantiles, scaling, batch)

    def scaling(self, batch: Batch) -> Scaling:
        """Level and spread of each window, from the values it may see."""
        known = batch.mask.sum(1, keepdim=True).clamp_min(1.0)
        if self.shape.log_scale:
            level = (torch.log1p(batch.y.clamp_min(0.0)) * batch.mask).sum(1, keepdim=True) / known
            return Scaling(level, torch.full_like(level, self.shape.spread), log_scale=True)
        level = (batch.y * batch.mask).sum(1, keepdim=True) / known
        variance = ((batch.y - level).square() * batch.mask).sum(1, keepdim=True) / known
        return Scaling(level, variance.sqrt().clamp_min(LEAST_SPREAD * self.shape.spread), log_scale=False)


class EncoderDecoder(Forecaster):
    """Encoder, decoder and quantile head; see the module's docstring."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__(shape)
        self.embeddings = nn.ModuleList(
            # Row 0 stays zero: an unknown category says nothing.
            nn.Embedding(size, shape.embedding, padding_idx=0)
            for size in shape.cardinalities
        )
        context = shape.static + shape.embedding * len(shape.cardinalities) + 1
        encoder_inputs = 2 + shape.past + context
        decoder_inputs = 1 + shape.future + 2 + 2 * shape.lags + 1 + context
        sizes = [shape.hidden] * (shape.layers - 1)
        self.encoder = nn.ModuleList(nn.LSTM(size, shape.hidden, batch_first=True) for size in (encoder_inputs, *sizes))
        self.decoder = nn.ModuleList(nn.LSTM(size, shape.hidden, batch_first=True) for size in (decoder_inputs, *sizes))
        self.mix = nn.Linear(shape.hidden + decoder_inputs, shape.hidden)
        self.head = nn.Linear(shape.hidden, len(QUANTILES))
        nn.init.zeros_(self.head.weight)
        # softplus(-.5) is about .47: intervals start about as wide as a window varies.
        nn.init.constant_(self.head.bias, -0.5)
        with torch.no_grad():
            self.head.bias[MEDIAN] = 0.0

    def forward(self, batch: Batch, scaling: Scaling, dropout: Dropout | None = None) -> torch.Tensor:
        """Scaled quantiles, never decreasing along the last axis; windows x horizon x quantiles."""
        context = self._context(batch, scaling, dropout)
        seen = self._seen(batch, scaling, context)
        lags = self._scaled_lags(batch, scaling)
        position = torch.arange(1, self.shape.horizon + 1, device=batch.y.device) / self.shape.horizon
        known = torch.cat(
            [
                batch.open.unsqueeze(2),
                batch.future,
                (scaling.scale(batch.path) * batch.path_known).unsqueeze(2),
                batch.path_known.unsqueeze(2),
                lags,
                batch.lags_known,
                position.expand(len(batch), -1).unsqueeze(2),
                context.unsqueeze(1).expand(-1, self.shape.horizon, -1),
            ],
            dim=2,
        )
        hidden, steps = seen, known
        for encoder, decoder in zip(self.encoder, self.decoder, strict=True):
            hidden, state = encoder(hidden)
            steps, _ = decoder(steps, state)
            if dropout is not None:
                mask = dropout(self.shape.hidden).unsqueeze(1)
                hidden, steps = hidden * mask, steps * mask
        mixed = F.gelu(self.mix(torch.cat([steps, known], dim=2)))
        # Quantiles lie close to one another: they need all digits.
        with in_precision("float32", mixed.device):
            return without_crossing(self.head(mixed.float()), _anchor(lags, batch.lags_known))

    def encode(self, batch: Batch) -> torch.Tensor:
        """What the encoder remembers at the end of the past; windows x hidden."""
        scaling = self.scaling(batch)
        hidden = self._seen(batch, scaling, self._context(batch, scaling, None))
        for encoder in self.encoder:
            hidden, _ = encoder(hidden)
        last: torch.Tensor = hidden[:, -1]
        return last

    def _seen(self, batch: Batch, scaling: Scaling, context: torch.Tensor) -> torch.Tensor:
        """What the encoder reads; windows x history x inputs."""
        return torch.cat(
            [
                (scaling.scale(batch.y) * batch.mask).unsqueeze(2),
                batch.mask.unsqueeze(2),
                batch.past,
                context.unsqueeze(1).expand(-1, batch.y.shape[1], -1),
            ],
            dim=2,
        )

    def _scaled_lags(self, batch: Batch, scaling: Scaling) -> torch.Tensor:
        flat = scaling.scale(batch.lags.flatten(1)).view_as(batch.lags)
        return flat * batch.lags_known

    def _context(self, batch: Batch, scaling: Scaling, dropout: Dropout | None) -> torch.Tensor:
        """What is the same for all steps of a window: attributes, categories, level."""
        level = (scaling.level - self.shape.location) / self.shape.location_spread
        parts = [batch.static, level]
        for column, embedding in enumerate(self.embeddings):
            codes = batch.category[:, column]
            size = self.shape.cardinalities[column]
            # A code the network never met is an unknown category, not an index out of range.
            embedded = embedding(torch.where((codes >= 0) & (codes < size), codes, 0))
            if dropout is not None:
                embedded = embedded * (dropout(1, CATEGORY_DROP) > 0)
            parts.append(embedded)
        return torch.cat(parts, dim=1)


def _anchor(lags: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The mean of the known seasonal values, from which the head's median departs; 0, the level, without any."""
    return (lags * known).sum(2, keepdim=True) / known.sum(2, keepdim=True).clamp_min(1.0)


def without_crossing(raw: torch.Tensor, anchor: torch.Tensor) -> torch.Tensor:
    """Quantiles from a head's numbers: the median, and softplus distances added up outwards."""
    median = anchor + raw[..., MEDIAN : MEDIAN + 1]
    above = median + F.softplus(raw[..., MEDIAN + 1 :]).cumsum(-1)
    below = median - F.softplus(raw[..., :MEDIAN]).flip(-1).cumsum(-1).flip(-1)
    return torch.cat([below, median, above], dim=-1)


def window_losses(
    model: Forecaster, batch: Batch, dropout: Dropout | None = None, precision: str = "float32"
) -> torch.Tensor:
    """The network's loss of each window on its own scale, over the steps that count; 0 where none does.

    A mean per window rather than over all steps: then the mean over a batch is the mean of its parts, whatever rank
    holds which window. Scaling and loss are ``float32`` whatever the precision of what lies between.
    """
    scaling = model.scaling(batch)
    with in_precision(precision, batch.y.device):
        quantiles = model(batch, scaling, dropout)
    return model.losses(quantiles, scaling, batch)


def pinball(quantiles: torch.Tensor, scaling: Scaling, batch: Batch) -> torch.Tensor:
    """Pinball loss of scaled quantiles, by window; see ``window_losses``."""
    error = scaling.scale(batch.target).unsqueeze(2) - quantiles
    levels = torch.tensor(QUANTILES, device=error.device)
    loss = torch.maximum(levels * error, (levels - 1.0) * error).mean(2) * batch.target_mask
    result: torch.Tensor = loss.sum(1) / batch.target_mask.sum(1).clamp_min(1.0)
    return result


@torch.no_grad()
def scaled_forecast(networks: Sequence[Forecaster], batch: Batch) -> tuple[torch.Tensor, Scaling]:
    """``mean_of`` without gradients."""
    return mean_of(networks, batch)


def mean_of(networks: Sequence[Forecaster], batch: Batch) -> tuple[torch.Tensor, Scaling]:
    """Scaled quantiles, the mean of the networks', and the scaling they share; windows x horizon x quantiles.

    Averaging quantiles rather than probabilities keeps them ordered and does not widen the intervals (Lichtendahl,
    Grushka-Cockayne and Winkler 2013, Is it better to average probabilities or quantiles?).
    """
    scaling = networks[0].scaling(batch)
    return torch.stack([network(batch, scaling) for network in networks]).mean(0), scaling


def restored(scaled: torch.Tensor, scaling: Scaling, batch: Batch) -> torch.Tensor:
    """Scaled quantiles in the units of the data, 0 on closed days; windows x horizon x quantiles."""
    return scaling.restore(scaled.flatten(1)).view_as(scaled) * (batch.open > 0).unsqueeze(2)


def forecast(networks: Sequence[Forecaster], batch: Batch) -> torch.Tensor:
    """Quantiles in the units of the data by the mean of some networks; windows x horizon x quantiles."""
    return restored(*scaled_forecast(networks, batch), batch)
