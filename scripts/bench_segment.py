"""k-means of a million entities: MLlib beside ``blocked`` beside scikit-learn's best of ten starts, in one session.

    .venv/bin/python scripts/bench_segment.py [--entities 1000000] [--centres 5] [--engines mllib blocked sklearn]

The points lie around k planted centres, drawn evenly between -C and C in each coordinate, with a standard deviation of
1: with the default C of 5 the groups are apart, with 1 they run into each other. MLlib and ``blocked`` read the same
cached frame of arrays; what they store of it for themselves is part of their cost. ``mllib`` is a single start,
``mllib-restarts`` what the stage does with it: starts until one is within 1 % of what a sample of 2,000 attains.
scikit-learn has the points in memory. Each runs once to warm up (``--cold`` leaves that away), then ``--repeats``
times; medians of seconds on the clock and of processor seconds of driver, JVM and Python workers together. Inertia is
computed by numpy from the centres. On a machine that others use, only ratios mean something, those of processor seconds
most.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import processor_seconds
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from sklearn.cluster import KMeans

from dlmine_spark.config import SegmentationConfig, SparkConfig
from dlmine_spark.segmentation.blocked import fit_by_blocks
from dlmine_spark.segmentation.choice import assess
from dlmine_spark.segmentation.kmeans import fit_by_mllib
from dlmine_spark.segmentation.segments import SAMPLE, SIMILAR
from dlmine_spark.session import open_session

Floats = NDArray[np.float64]
Engine = Callable[[], Floats]

ENGINES = ("mllib", "mllib-restarts", "blocked", "sklearn")
STARTS = 10
ROWS_AT_A_TIME = 100_000


def main() -> None:
    """Print a row per engine."""
    arguments = _parse()
    rng = np.random.default_rng(arguments.seed)
    planted = rng.uniform(-arguments.centres, arguments.centres, (arguments.k, arguments.coordinates))
    points = planted[rng.integers(0, arguments.k, arguments.entities)] + rng.normal(
        size=(arguments.entities, arguments.coordinates)
    )
    spark_config = SparkConfig(
        master=arguments.master, driver_memory=arguments.driver_memory, conf={"spark.ui.enabled": "false"}
    )
    with tempfile.TemporaryDirectory(prefix="dlmine-bench-") as scratch, open_session(spark_config) as spark:
        _write(points, Path(scratch))
        frame = spark.read.parquet(scratch).persist()
        frame.count()
        engines = _engines(points, frame, arguments)
        costs = {name: _median(engines[name], arguments.repeats, cold=arguments.cold) for name in arguments.engines}
    _tell(points, planted, costs, arguments)


def _engines(points: Floats, frame: DataFrame, arguments: argparse.Namespace) -> dict[str, Engine]:
    entities, width = points.shape
    k, config = arguments.k, SegmentationConfig(restarts=STARTS, seed=arguments.seed)

    def restarted() -> Floats:
        attainable = assess(points[:SAMPLE], [k], config.max_iter, config.seed)[0].inertia * SIMILAR
        return fit_by_mllib(frame, entities, k, config, attainable)

    def by_sklearn() -> Floats:
        fitted = KMeans(k, n_init=STARTS, random_state=arguments.seed).fit(points)
        return np.asarray(fitted.cluster_centers_, dtype=np.float64)

    return {
        "mllib": lambda: fit_by_mllib(frame, entities, k, config.model_copy(update={"restarts": 1}), 0.0),
        "mllib-restarts": restarted,
        "blocked": lambda: fit_by_blocks(frame, entities, width, k, config),
        "sklearn": by_sklearn,
    }


def _write(points: Floats, folder: Path) -> None:
    """Files of a hundred thousand rows: ``entity_id``, ``point``."""
    for part, at in enumerate(range(0, len(points), ROWS_AT_A_TIME)):
        some = points[at : at + ROWS_AT_A_TIME]
        lists = pa.FixedSizeListArray.from_arrays(pa.array(some.ravel()), some.shape[1])
        names = pa.array([f"e{number}" for number in range(at, at + len(some))])
        table = pa.table({"entity_id": names, "point": lists.cast(pa.list_(pa.float64()))})
        pq.write_table(table, folder / f"part-{part:04d}.parquet")


def _tell(
    points: Floats, planted: Floats, costs: dict[str, tuple[float, float, Floats]], arguments: argparse.Namespace
) -> None:
    inertia = {name: _inertia(points, centres) for name, (_, _, centres) in costs.items()}
    true, least = _inertia(points, planted), min(inertia.values())
    beside_inertia = inertia.get("sklearn", least)
    beside_cpu = costs.get("mllib", next(iter(costs.values())))[1]
    print(f"{len(points):,} x {points.shape[1]}, k = {arguments.k}, centres within {arguments.centres:g}")
    print(f"inertia of the planted centres: {true / beside_inertia:.6f} of scikit-learn's\n")
    print(
        "| engine | s | CPU s | less CPU than MLlib | inertia beside scikit-learn's best of 10 |\n|---|---|---|---|---|"
    )
    for name, (clock, processor, _) in costs.items():
        ratio, excess = beside_cpu / processor, inertia[name] / beside_inertia
        print(f"| {name} | {clock:.2f} | {processor:.2f} | {ratio:.1f} x | {excess:.6f} |")


def _inertia(points: Floats, centres: Floats) -> float:
    total = 0.0
    for at in range(0, len(points), ROWS_AT_A_TIME):
        some = points[at : at + ROWS_AT_A_TIME]
        total += float(np.min([((some - centre) ** 2).sum(axis=1) for centre in centres], axis=0).sum())
    return total


def _median(engine: Engine, repeats: int, *, cold: bool) -> tuple[float, float, Floats]:
    """Cost of the middle one of some runs, and the centres of the last."""
    clock, processor = [], []
    centres = engine() if not cold else np.empty(0)
    for _ in range(repeats):
        start, used = time.perf_counter(), processor_seconds()
        centres = engine()
        clock.append(time.perf_counter() - start)
        processor.append(processor_seconds() - used)
    return statistics.median(clock), statistics.median(processor), centres


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entities", type=int, default=1_000_000, help="points")
    parser.add_argument("--coordinates", type=int, default=16, help="of each point")
    parser.add_argument("--k", type=int, default=8, help="planted centres, and centres to find")
    parser.add_argument("--centres", type=float, default=5.0, help="how far out the planted centres lie at most")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["mllib", "blocked", "sklearn"])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each after the first")
    parser.add_argument("--cold", action="store_true", help="no run to warm up")
    parser.add_argument("--seed", type=int, default=7, help="of points and starts")
    parser.add_argument("--master", default="local[2]", help="Spark master")
    parser.add_argument("--driver-memory", default="3g", help="driver heap")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
