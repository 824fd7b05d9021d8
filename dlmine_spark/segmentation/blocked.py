"""k-means of every entity by matrix products inside Arrow batches; where there are few, on the driver."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from math import ceil

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark.caching import kept
from dlmine_spark.config import SegmentationConfig
from dlmine_spark.segmentation.blocks import (
    Cells,
    Floats,
    Grid,
    Integers,
    Sums,
    SumsOf,
    descend,
    fit_starts,
    sums_of_cells,
    total,
)
from dlmine_spark.segmentation.features import ENTITY_ID
from dlmine_spark.segmentation.kmeans import POINT

log = logging.getLogger(__name__)

Points = NDArray[np.float32]
Hashes = NDArray[np.int64]
Batches = Iterator[pa.RecordBatch]

DRIVER_COORDINATES = 2_000_000
"""Up to so many coordinates come to the driver (8 MB): its work on them takes less time than a Spark job."""
ROWS_PER_TASK = 250_000
"""A pass over so many takes a tenth of a second, about ten times what a task costs by itself."""
START_SAMPLE = 10_000
"""Entities that starts are tried on, about: those whose ids have the smallest hashes."""

HASH = "hash"
_BLOCKS = "block binary, largest double, sample binary, hashes binary"
_SUMS = "counts binary, totals binary, squares string"


def fit_by_blocks(points: DataFrame, entities: int, width: int, k: int, config: SegmentationConfig) -> Floats:
    """Centres by Lloyd's iterations on everyone, from the best of ``config.restarts`` starts on a sample.

    An iteration multiplies blocks of points by all centres, and adds up counts and coordinates of each centre's points
    (``blocks.Sums``) a partition. All of it is exact, so the centres do not depend on order, partitions or cores, nor
    on whether the driver worked alone. Coordinates count as 32-bit floats: they should be centred, as ``Scaling`` makes
    them.

    Actions: where the driver works alone, one that collects the points. Otherwise one that stores the points as
    blocks, in memory as far as there is room, and collects a sample of about ``START_SAMPLE`` of them; then one an
    iteration, which collects a row a partition of some kilobytes.

    Args:
        points: ``entity_id``, ``point`` (array of coordinates), no nulls.
        entities: how many there are.
        width: coordinates of each.
        k: centres wanted; fewer come back where the sample has not as many different points.
        config: restarts, iterations at most, and seed.

    Raises:
        ValueError: a coordinate is not a finite 32-bit float.
    """
    hashed = points.select(F.xxhash64(ENTITY_ID).alias(HASH), POINT)
    last_hash = min(2**64 - 1, int(START_SAMPLE / max(entities, 1) * 2.0**64))
    if entities * width <= DRIVER_COORDINATES:
        return _fit_on_driver(hashed, width, last_hash, k, config)

    tasks = max(1, ceil(entities / ROWS_PER_TASK))
    with kept(hashed.coalesce(tasks).mapInArrow(_packing(width, last_hash), _BLOCKS)) as blocks:
        rows = blocks.select("largest", "sample", "hashes").collect()
        grid = _grid([row["largest"] for row in rows], width)
        sample = _in_order(
            grid.cells(np.frombuffer(b"".join(row["sample"] for row in rows), np.float32).reshape(-1, width)),
            np.frombuffer(b"".join(row["hashes"] for row in rows), np.int64),
        )
        return _fit(lambda centres: _sums(blocks, grid, centres), sample, grid, k, config)


def _fit_on_driver(hashed: DataFrame, width: int, last_hash: int, k: int, config: SegmentationConfig) -> Floats:
    table = hashed.toArrow()
    parts = [_matrix(batch.column(POINT), width) for batch in table.to_batches()]
    points = np.concatenate(parts) if parts else np.empty((0, width), np.float32)
    hashes = table.column(HASH).to_numpy()
    grid = _grid([_largest(points)], width)
    cells, is_sampled = grid.cells(points), _is_sampled(hashes, last_hash)
    sample = _in_order(cells[is_sampled], hashes[is_sampled])
    return _fit(lambda centres: sums_of_cells(cells, centres), sample, grid, k, config)


def _fit(sums_of: SumsOf, sample: Cells, grid: Grid, k: int, config: SegmentationConfig) -> Floats:
    starts = fit_starts(sample, k, config.restarts, config.max_iter, config.seed)
    fits = descend(sums_of, starts, sample, config.max_iter)
    best = min(fits, key=lambda fit: fit.inertia)
    for fit in fits:
        log.debug("k=%d: inertia %.6g after %d iterations", k, float(fit.inertia) * grid.step**2, fit.iterations)
    return best.centres * grid.step


def _grid(largest: list[float], width: int) -> Grid:
    reach = max(largest, default=0.0)
    # A NaN is no maximum of anything: it would be passed over.
    if not np.isfinite(largest).all():
        raise ValueError(f"a coordinate is not a finite 32-bit float: the largest is {reach}")
    return Grid.over(reach, width)


def _largest(points: Points) -> float:
    return float(np.abs(points).max()) if points.size else 0.0


def _is_sampled(hashes: Hashes, last_hash: int) -> NDArray[np.bool_]:
    return np.asarray(hashes.view(np.uint64) <= np.uint64(last_hash))


def _in_order(cells: Cells, hashes: Hashes) -> Cells:
    """The sample by its hashes; of equal hashes by the cells, so that equal rows only may change places."""
    return cells[np.lexsort((*cells.T[::-1], hashes))]


def _matrix(points: pa.ListArray, width: int) -> Points:
    """Rows of coordinates, from a column of lists."""
    values = points.flatten().to_numpy(zero_copy_only=False)
    # What is too large becomes infinite, and is refused.
    with np.errstate(over="ignore"):
        return np.asarray(values.astype(np.float32).reshape(len(points), width))


def _packing(width: int, last_hash: int) -> Callable[[Batches], Batches]:
    """Points of a batch to one block of 32-bit floats, with its largest coordinate and its part of the sample."""

    def pack(batches: Batches) -> Batches:
        for batch in batches:
            points, hashes = _matrix(batch.column(1), width), batch.column(0).to_numpy()
            is_sampled = _is_sampled(hashes, last_hash)
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([points.tobytes()], pa.binary()),
                    pa.array([_largest(points)], pa.float64()),
                    pa.array([points[is_sampled].tobytes()], pa.binary()),
                    pa.array([hashes[is_sampled].tobytes()], pa.binary()),
                ],
                ["block", "largest", "sample", "hashes"],
            )

    return pack


def _sums(blocks: DataFrame, grid: Grid, centres: Integers) -> Sums:
    """Sums over all blocks: one job, a row a partition."""
    rows = blocks.select("block").mapInArrow(_summing(grid, centres), _SUMS).collect()
    sets, k, width = centres.shape
    parts = (
        Sums(
            np.frombuffer(row["counts"], np.int64).reshape(sets, k),
            np.frombuffer(row["totals"], np.int64).reshape(sets, k, width),
            int(row["squares"]),
        )
        for row in rows
    )
    return total(parts, centres.shape)


def _summing(grid: Grid, centres: Integers) -> Callable[[Batches], Batches]:
    """Blocks of a partition to the one row of their sums."""

    def cells(batches: Batches) -> Iterator[Cells]:
        for batch in batches:
            for block in batch.column(0):
                yield grid.cells(np.frombuffer(block.as_buffer(), np.float32).reshape(-1, centres.shape[2]))

    def add_up(batches: Batches) -> Batches:
        sums = total((sums_of_cells(block, centres) for block in cells(batches)), centres.shape)
        yield pa.RecordBatch.from_arrays(
            [
                pa.array([sums.counts.tobytes()], pa.binary()),
                pa.array([sums.totals.tobytes()], pa.binary()),
                pa.array([str(sums.squares)], pa.string()),
            ],
            ["counts", "totals", "squares"],
        )

    return add_up
