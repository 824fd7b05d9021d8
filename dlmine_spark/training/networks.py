"""The networks a training starts from: new ones, and ones that carry on what was learned at an earlier cutoff."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dlmine_spark.config import TrainingConfig
from dlmine_spark.training.model import EncoderDecoder, Forecaster, ModelShape
from dlmine_spark.training.shards import Ints, PanelArrays
from dlmine_spark.training.textbook import Textbook
from dlmine_spark.training.windows import WindowShape

NETWORKS: Mapping[str, type[Forecaster]] = {"default": EncoderDecoder, "textbook": Textbook}
"""By ``training.preset``."""


@dataclass(frozen=True, slots=True)
class SeriesCodes:
    """The codes that series had in one cutoff's panel, since codes of categories are given out per cutoff.

    Attributes:
        ids: of the series, sorted.
        category: codes of categorical attributes; series x attributes.
    """

    ids: npt.NDArray[np.str_]
    category: Ints

    @classmethod
    def of(cls, arrays: PanelArrays) -> SeriesCodes:
        """Those of a panel, without keeping the panel."""
        return cls(arrays.ids, arrays.category)


def member_seed(seed: int, member: int) -> int:
    """Seed of one member (from 1) of an average; the first one's is the run's own."""
    return seed if member == 1 else int(np.random.SeedSequence([seed, member]).generate_state(1)[0])


def network_of(shape: ModelShape) -> Forecaster:
    """The network of a shape, with random weights.

    Raises:
        KeyError: it is of a preset that there is none of.
    """
    return NETWORKS[shape.preset](shape)


def new_network(shape: ModelShape, seed: int) -> Forecaster:
    """A network with random weights; torch's own random state is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network_of(shape)


def carried_on(old: Forecaster, old_codes: SeriesCodes, shape: ModelShape, codes: SeriesCodes, seed: int) -> Forecaster:
    """A network of another shape's category codes with an old one's weights.

    Embeddings follow the series whose codes they were; those of codes that are new are random.
    """
    network = new_network(shape, seed)
    weights = dict(old.state_dict())
    _, in_old, in_new = np.intersect1d(old_codes.ids, codes.ids, return_indices=True)
    for column in range(len(network.embeddings)):
        name = f"embeddings.{column}.weight"
        moved = network.state_dict()[name].clone()
        moved[codes.category[in_new, column]] = weights[name][old_codes.category[in_old, column]]
        moved[0] = 0.0
        weights[name] = moved
    network.load_state_dict(weights)
    return network


def cardinalities(category: Ints) -> tuple[int, ...]:
    """Number of codes of each categorical attribute, 0 (unknown) included."""
    return tuple(int(code) + 1 for code in category.max(axis=0, initial=0))


def model_shape(arrays: PanelArrays, window: WindowShape, config: TrainingConfig) -> ModelShape:
    """Sizes and scaling, from the panel up to the cutoff."""
    features = arrays.features
    log_scale = all((values >= 0).all() for values, _, _ in _known_values(arrays))
    levels, counts = np.zeros(len(arrays.ids)), np.zeros(len(arrays.ids), dtype=np.int64)
    squares = 0.0
    for values, series, block in _known_values(arrays):
        scaled = np.log1p(values) if log_scale else values
        many = block.stop - block.start
        counts[block] = np.bincount(series, minlength=many)
        levels[block] = np.bincount(series, scaled, minlength=many) / np.maximum(counts[block], 1)
        squares += float(np.sum((scaled - levels[block][series]) ** 2))
    deviation = float(np.sqrt(squares / counts.sum())) if counts.any() else 0.0
    levels = levels[counts > 0]
    location_spread = float(levels.std()) if len(levels) else 0.0
    return ModelShape(
        past=2 + len(features.known_future) + len(features.past_only),
        future=len(features.known_future),
        lags=len(window.lags),
        static=len(features.static),
        cardinalities=cardinalities(arrays.category),
        horizon=window.horizon,
        hidden=config.hidden,
        layers=config.layers,
        dropout=config.dropout,
        embedding=config.embedding,
        log_scale=log_scale,
        location=float(levels.mean()) if len(levels) else 0.0,
        # One series, or constant ones, vary by nothing: any scale will do.
        location_spread=location_spread if location_spread > 1e-6 else 1.0,
        spread=deviation if deviation > 1e-6 else 1.0,
        preset=config.preset,
    )


def _known_values(arrays: PanelArrays) -> Iterator[tuple[npt.NDArray[np.float64], Ints, slice]]:
    """Some series at a time: the values that count, the series of each (from 0 on), and which series these are."""
    for block in arrays.blocks():
        bounds = arrays.starts[block.start : block.stop + 1]
        known = arrays.mask[bounds[0] : bounds[-1]] > 0
        series = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))[known]
        yield arrays.y[bounds[0] : bounds[-1]][known].astype(np.float64), series, block
