"""Forecasts of trained networks, and what explaining one needs. Plain torch: no ranks, no Spark."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from dlmine_spark import schemas as s
from dlmine_spark.errors import TrainingError
from dlmine_spark.frequency import Moment, name_of
from dlmine_spark.training.checkpoints import load_model, written_whole
from dlmine_spark.training.model import MEDIAN, QUANTILES, Forecaster, ModelShape, forecast
from dlmine_spark.training.networks import network_of
from dlmine_spark.training.shards import Features, Ints, PanelArrays, PanelSource, moment_type, read_panel
from dlmine_spark.training.windows import (
    Batch,
    InputGroup,
    SeasonalLag,
    WindowShape,
    gather,
    in_batches,
    input_groups,
    origins_before,
    plan_origins,
)

log = logging.getLogger(__name__)

MODEL_FILE = "model.ckpt"
"""A network as it forecasts."""
VALIDATED_FILE = "validated.ckpt"
"""The same before it was tuned on the windows that were kept for validation; not there if none were."""
REHEARSED_FILE = "rehearsed.ckpt"
"""The same tuned up to a horizon before the cutoff only; likewise."""
FORECAST_FILE = "forecasts.parquet"
VALIDATION_FILE = "validation.parquet"
EMBEDDING_FILE = "embeddings.parquet"
ORIGIN, EMBEDDING = "origin", "embedding"
BOUNDS = {s.LO_95: 0.025, s.LO_80: 0.1, s.Y_HAT: 0.5, s.HI_80: 0.9, s.HI_95: 0.975}
"""Forecast columns by the quantile they hold."""
FORECAST_COLUMNS = (s.UNIQUE_ID, s.CUTOFF, s.DS, s.H, s.Y_HAT, s.LO_80, s.HI_80, s.LO_95, s.HI_95)
NAMED_SERIES = 5
ORIGINS_AT_ONCE = 4_096
"""Origins forecast together where the forecasts are written on, or cut down, before the next ones."""


def cutoff_folder(run_folder: Path, cutoff: Moment) -> Path:
    """Where a training run keeps what it made for a cutoff."""
    return run_folder / f"cutoff={name_of(cutoff)}"


def member_folders(folder: Path, members: int) -> list[Path]:
    """Where a cutoff's folder keeps its networks, each with its checkpoints."""
    return [folder / f"member={number}" for number in range(1, members + 1)]


@dataclass(frozen=True)
class TrainedModel:
    """The networks of one cutoff, whose mean is the forecast, with what they were trained for.

    Attributes:
        networks: one a member, in evaluation mode.
        features: the covariates they read, in their order.
        window: what their windows span.
        manifest: of the first one's training.
    """

    networks: tuple[Forecaster, ...]
    features: Features
    window: WindowShape
    manifest: dict[str, Any]


def describe(shape: ModelShape, features: Features, window: WindowShape) -> dict[str, Any]:
    """The part of a manifest that ``load_trained`` rebuilds a network from."""
    return {"shape": asdict(shape), "features": asdict(features), "window": asdict(window)}


def load_trained(folder: Path, file: str = MODEL_FILE) -> TrainedModel:
    """Load the networks of one cutoff's folder, as they forecast or, from ``VALIDATED_FILE``, before.

    Raises:
        TrainingError: one is missing, or its file is damaged or of another program.
    """
    _, manifest = load_model(member_folders(folder, 1)[0] / file)
    try:
        features = Features(**{role: tuple(names) for role, names in manifest["features"].items()})
        window = WindowShape(
            manifest["window"]["history"],
            manifest["window"]["horizon"],
            tuple(SeasonalLag(**lag) for lag in manifest["window"]["lags"]),
        )
        places = member_folders(folder, int(manifest["training"]["members"]))
    except (KeyError, TypeError) as error:
        raise TrainingError(f"{folder}: the manifest of its first network is not understood: {error}") from error
    return TrainedModel(tuple(_load_network(place / file) for place in places), features, window, manifest)


def load_validated(folder: Path) -> TrainedModel:
    """Load the networks of one cutoff's folder as they were before they saw its validation windows."""
    is_tuned = (member_folders(folder, 1)[0] / VALIDATED_FILE).exists()
    return load_trained(folder, VALIDATED_FILE if is_tuned else MODEL_FILE)


def _load_network(path: Path) -> Forecaster:
    weights, manifest = load_model(path)
    try:
        shape = ModelShape(**{**manifest["shape"], "cardinalities": tuple(manifest["shape"]["cardinalities"])})
        network = network_of(shape)
        network.load_state_dict(weights)
    except (KeyError, TypeError, RuntimeError) as error:
        raise TrainingError(f"{path}: weights and manifest do not fit: {error}") from error
    return network.eval()


def read_for(model: TrainedModel, source: PanelSource, cutoff: Moment) -> PanelArrays:
    """One cutoff's panel, if it has the covariates the network was trained on.

    Raises:
        TrainingError: it has others, or cannot be read.
    """
    arrays = read_panel(source, cutoff, model.window.horizon, model.manifest["training"]["mined"])
    if arrays.features != model.features:
        differing = sorted(set(arrays.features.all) ^ set(model.features.all))
        raise TrainingError(
            f"{source.location} version {source.version}: its covariates are not those the model was trained on "
            f"({', '.join(differing)}); train again"
        )
    return arrays


def predict_panel(
    networks: Sequence[Forecaster], arrays: PanelArrays, origins: Ints, window: WindowShape
) -> pd.DataFrame:
    """Forecasts from some origins, the mean of the networks'.

    Returns:
        One row per origin and step, in the columns ``FORECAST_COLUMNS`` (moments as Python's), y_hat being the
        median; ``cutoff`` is the origin's date, or the panel's cutoff where the origin is the last row up to it.
    """
    return pd.concat(predict_blocks(networks, arrays, origins, window), ignore_index=True)


def predict_blocks(
    networks: Sequence[Forecaster], arrays: PanelArrays, origins: Ints, window: WindowShape
) -> Iterator[pd.DataFrame]:
    """The rows of ``predict_panel``, of some origins at a time; one frame at least."""
    for first in range(0, max(1, len(origins)), ORIGINS_AT_ONCE):
        yield _predicted(networks, arrays, origins[first : first + ORIGINS_AT_ONCE], window)


def _predicted(networks: Sequence[Forecaster], arrays: PanelArrays, origins: Ints, window: WindowShape) -> pd.DataFrame:
    quantiles = [forecast(networks, batch).numpy() for batch in in_batches(arrays, origins, window)]
    values = (
        np.concatenate(quantiles).astype(np.float64) if quantiles else np.empty((0, window.horizon, len(QUANTILES)))
    )
    return forecast_rows(arrays, origins, window, values)


def forecast_rows(
    arrays: PanelArrays, origins: Ints, window: WindowShape, values: npt.NDArray[np.float64]
) -> pd.DataFrame:
    """Quantiles (origins x horizon x ``QUANTILES``) as the rows of ``predict_panel``."""
    steps = np.arange(1, window.horizon + 1)
    series = np.searchsorted(arrays.starts, origins, side="right") - 1
    columns: dict[str, Any] = {
        s.UNIQUE_ID: np.repeat(arrays.ids[series].astype(object), window.horizon),
        s.CUTOFF: np.repeat(_cutoffs(arrays, origins, series), window.horizon),
        s.DS: arrays.ds[(origins[:, None] + steps).ravel()].astype(object),
        s.H: np.tile(steps.astype(np.int32), len(origins)),
    }
    for name, quantile in BOUNDS.items():
        columns[name] = values[:, :, QUANTILES.index(quantile)].ravel()
    return pd.DataFrame({name: columns[name] for name in FORECAST_COLUMNS})


def _cutoffs(arrays: PanelArrays, origins: Ints, series: Ints) -> npt.NDArray[np.object_]:
    """What each origin is called: a series need not have a row on the panel's cutoff itself."""
    cutoffs = arrays.ds[origins].astype(object)
    cutoffs[origins == arrays.cutoff_rows[series]] = arrays.cutoff
    return cutoffs


def predict_cutoff(folder: Path, source: PanelSource, cutoff: Moment) -> Iterator[pd.DataFrame]:
    """Forecast every series from a cutoff with the networks in a folder, some series at a time; see ``predict_panel``.

    Series without enough known values before the cutoff are named in a warning and left out.
    """
    model = load_trained(folder)
    arrays = read_for(model, source, cutoff)
    origins = plan_origins(arrays, model.window, validation_origins=0)
    warn_of_skipped(origins.skipped, cutoff)
    yield from predict_blocks(model.networks, arrays, origins.predict, model.window)


@torch.no_grad()
def embed_cutoff(folder: Path, source: PanelSource, cutoff: Moment) -> Iterator[pd.DataFrame]:
    """What the networks in a folder remember of each series at a cutoff: their encoders' states, side by side.

    Yields:
        ``unique_id``, ``cutoff`` and ``embedding`` (members x hidden numbers between -1 and 1), some series at a time.
    """
    model = load_trained(folder)
    arrays = read_for(model, source, cutoff)
    origins = plan_origins(arrays, model.window, validation_origins=0)
    for batch in in_batches(arrays, origins.predict, model.window):
        states = torch.cat([network.encode(batch) for network in model.networks], dim=1)
        ids = arrays.ids[batch.series.numpy()].astype(object)
        yield pd.DataFrame({s.UNIQUE_ID: ids, s.CUTOFF: cutoff, EMBEDDING: list(states.numpy().astype(np.float64))})


def write_embeddings(frames: Iterable[pd.DataFrame], path: Path, cutoff: Moment) -> None:
    """Write ``embed_cutoff``'s rows as one parquet file, whole or not at all."""
    _write_rows(frames, path, cutoff, (s.UNIQUE_ID, s.CUTOFF, EMBEDDING))


def predict_rehearsal(folder: Path, source: PanelSource, cutoff: Moment) -> Iterator[pd.DataFrame]:
    """Forecasts of the last horizon before a cutoff by the networks in a folder that were tuned up to its start.

    Yields:
        ``FORECAST_COLUMNS`` and ``y``, of the steps whose value is known and counts, some series at a time; see
        ``predict_panel``. No row where the panel was too short to keep any from training.
    """
    is_rehearsed = (member_folders(folder, 1)[0] / REHEARSED_FILE).exists()
    model = load_trained(folder, REHEARSED_FILE if is_rehearsed else MODEL_FILE)
    arrays = read_for(model, source, cutoff)
    origins = origins_before(arrays, model.window, 1 if is_rehearsed else 0)
    yield from with_values(predict_blocks(model.networks, arrays, origins, model.window), arrays, origins, model.window)


def with_values(
    blocks: Iterable[pd.DataFrame], arrays: PanelArrays, origins: Ints, window: WindowShape
) -> Iterator[pd.DataFrame]:
    """Forecasts of some origins, in their order, with ``y`` of the steps whose value is known and counts."""
    rows = (origins[:, None] + np.arange(1, window.horizon + 1)).ravel()
    for forecasts in blocks:
        own, rows = np.split(rows, [len(forecasts)])
        forecasts[s.Y] = arrays.y[own].astype(np.float64)
        yield forecasts.loc[arrays.mask[own] > 0]


def write_validation(frames: Iterable[pd.DataFrame], path: Path, cutoff: Moment) -> None:
    """Write ``predict_rehearsal``'s rows as one parquet file, whole or not at all; the origin as ``origin``."""
    named = (frame.rename(columns={s.CUTOFF: ORIGIN}) for frame in frames)
    _write_rows(named, path, cutoff, (s.UNIQUE_ID, ORIGIN, *FORECAST_COLUMNS[2:], s.Y))


def warn_of_skipped(skipped: tuple[str, ...], cutoff: Moment) -> None:
    """Name the series that get no forecast."""
    if skipped:
        shown = ", ".join(skipped[:NAMED_SERIES]) + (" ..." if len(skipped) > NAMED_SERIES else "")
        log.warning("cutoff %s: %d series have too few known values for a forecast: %s", cutoff, len(skipped), shown)


def write_forecasts(frames: Iterable[pd.DataFrame], path: Path, cutoff: Moment) -> None:
    """Write forecasts, whose moments are of the cutoff's kind, as one parquet file, whole or not at all."""
    _write_rows(frames, path, cutoff, FORECAST_COLUMNS)


def _write_rows(frames: Iterable[pd.DataFrame], path: Path, cutoff: Moment, columns: Sequence[str]) -> None:
    moment = moment_type(cutoff)
    types = {s.UNIQUE_ID: pa.string(), s.CUTOFF: moment, ORIGIN: moment, s.DS: moment, s.H: pa.int32()}
    types[EMBEDDING] = pa.list_(pa.float64())
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in columns])
    with written_whole(path) as file, pq.ParquetWriter(file, schema) as writer:
        for frame in frames:
            writer.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False))


@dataclass(frozen=True)
class Explanation:
    """A forecast, windows it was not trained on, and the inputs that can be exchanged between them.

    Attributes:
        batch: the windows.
        unique_ids: series of each window.
        groups: inputs by name and role; ``windows.permuted(batch, group, order)`` exchanges one.
        predict: from windows to medians in the units of the data; windows x horizon.
        target: actual values; windows x horizon.
        mask: 1 where an actual value is known and counts.
        held_out: whether the windows were really kept from training (a short panel may leave none).
    """

    batch: Batch
    unique_ids: tuple[str, ...]
    groups: tuple[InputGroup, ...]
    predict: Callable[[Batch], npt.NDArray[np.float64]]
    target: npt.NDArray[np.float64]
    mask: npt.NDArray[np.float64]
    held_out: bool


def load_for_explanation(folder: Path, source: PanelSource, cutoff: Moment, windows: int, seed: int) -> Explanation:
    """Load a backtest cutoff's networks with validation windows to explain it on.

    Args:
        folder: of the cutoff, see ``cutoff_folder``.
        source: the training panel.
        cutoff: a backtest cutoff (the production model has been trained on all there is).
        windows: at most; a seeded sample.
        seed: of the sample.
    """
    model = load_validated(folder)
    arrays = read_for(model, source, cutoff)
    origins = plan_origins(arrays, model.window, int(model.manifest["training"]["validation_origins"]))
    held_out = len(origins.validation) > 0
    rows = origins.validation if held_out else origins.train
    if len(rows) > windows:
        rows = np.sort(np.random.default_rng(seed).choice(rows, windows, replace=False))
    batch = gather(arrays, rows, model.window)

    def predict(changed: Batch) -> npt.NDArray[np.float64]:
        return forecast(model.networks, changed)[..., MEDIAN].numpy().astype(np.float64)

    return Explanation(
        batch=batch,
        unique_ids=tuple(str(name) for name in arrays.ids[batch.series.numpy()]),
        groups=input_groups(model.features, model.window),
        predict=predict,
        target=batch.target.numpy().astype(np.float64),
        mask=batch.target_mask.numpy().astype(np.float64),
        held_out=held_out,
    )
