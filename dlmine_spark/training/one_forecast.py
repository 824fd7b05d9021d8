"""One forecast of one series as a function of what was known of its steps, for questions of where it comes from."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from dlmine_spark.errors import TrainingError
from dlmine_spark.frequency import Moment
from dlmine_spark.training.model import MEDIAN, mean_of, restored
from dlmine_spark.training.predict import TrainedModel, load_trained, read_for
from dlmine_spark.training.shards import PanelArrays, PanelSource
from dlmine_spark.training.windows import Batch, gather, plan_origins

FUTURE, LAGS, PATH = "future", "lags", "path"
"""Inputs that differ from step to step of the horizon, as ``Batch`` names them."""

Inputs = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class OneForecast:
    """The forecast of one series from a cutoff.

    Attributes:
        moments: of the horizon.
        is_open: whether the series is open at each of them; if not, the forecast is 0.
        covariates: columns of ``FUTURE``, the known-future covariates.
        inputs: ``FUTURE`` (1 x horizon x covariates), ``LAGS`` (1 x horizon x lags) and ``PATH`` (1 x horizon).
        average: the same on average: covariates of the open steps that the network sees of the past, seasonal values
            and ARIMA's forecasts of the horizon.
        predict: medians of any number of windows from their inputs, in units of the data, with gradients; windows x
            horizon.
    """

    moments: tuple[Moment, ...]
    is_open: tuple[bool, ...]
    covariates: tuple[str, ...]
    inputs: Inputs
    average: Inputs
    predict: Callable[[Inputs], torch.Tensor]


def load_one_forecast(folder: Path, source: PanelSource, cutoff: Moment, unique_id: str) -> OneForecast:
    """The forecast of a series by the networks in a folder.

    Args:
        folder: of the cutoff, see ``predict.cutoff_folder``.
        source: the training panel.
        cutoff: of the forecast.
        unique_id: the series.

    Raises:
        TrainingError: there is no such series, or it has no forecast.
    """
    model = load_trained(folder)
    arrays = read_for(model, source, cutoff)
    batch = gather(arrays, np.array([_origin(model, arrays, unique_id)]), model.window)
    rows = batch.origins.numpy()[:, None] + np.arange(1, model.window.horizon + 1)

    def predict(inputs: Inputs) -> torch.Tensor:
        count = len(next(iter(inputs.values())))
        alike = {one.name: _repeated(getattr(batch, one.name), count) for one in fields(batch)}
        changed = Batch(**{**alike, **inputs})
        return restored(*mean_of(model.networks, changed), changed)[..., MEDIAN]

    return OneForecast(
        moments=tuple(arrays.ds[rows.ravel()].astype(object)),
        is_open=tuple((batch.open[0] > 0).tolist()),
        covariates=model.features.known_future,
        inputs={name: getattr(batch, name) for name in (FUTURE, LAGS, PATH)},
        average=_average(batch, len(model.features.known_future)),
        predict=predict,
    )


def _origin(model: TrainedModel, arrays: PanelArrays, unique_id: str) -> int:
    """The row that the series is forecast from."""
    names = arrays.ids.tolist()
    if unique_id not in names:
        near = difflib.get_close_matches(unique_id, names, 3)
        raise TrainingError(
            f"gold.training_panel has no series {unique_id!r}"
            + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")
        )
    row = int(arrays.cutoff_rows[names.index(unique_id)])
    if row not in plan_origins(arrays, model.window, validation_origins=0).predict:
        raise TrainingError(
            f"series {unique_id!r} has too few known values before {arrays.cutoff} for a forecast of the network"
        )
    return row


def _repeated(tensor: torch.Tensor, count: int) -> torch.Tensor:
    return tensor.expand(count, *tensor.shape[1:])


def _average(batch: Batch, covariates: int) -> Inputs:
    # past holds whether a step is inside the series, whether it is open, and then the covariates.
    counts = (batch.past[..., 0] * batch.past[..., 1]).unsqueeze(2)
    future = _mean(batch.past[..., 2 : 2 + covariates], counts, (1,)).unsqueeze(1)
    lags = _mean(batch.lags, batch.lags_known, (1, 2)).view(-1, 1, 1)
    path = _mean(batch.path, batch.path_known, (1,)).unsqueeze(1)
    average = {FUTURE: future, LAGS: lags, PATH: path}
    return {name: value.expand_as(getattr(batch, name)).contiguous() for name, value in average.items()}


def _mean(values: torch.Tensor, counts: torch.Tensor, dimensions: tuple[int, ...]) -> torch.Tensor:
    weights = counts.expand_as(values)
    mean: torch.Tensor = (values * weights).sum(dimensions) / weights.sum(dimensions).clamp_min(1.0)
    return mean
