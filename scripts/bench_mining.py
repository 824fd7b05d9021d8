"""Apriori beside MLlib's FP-growth: from the same cached baskets to written itemsets, in one session; then rules.

    .venv/bin/python scripts/bench_mining.py --data $DLMINE_DATA

The floor is the same frame sent once through an Arrow identity: what any engine in Python has to pay. Each runs once to
warm up, then ``--repeats`` times; medians are shown, of seconds on the clock and of processor seconds of driver, JVM
and Python workers together. On a machine that others use, only ratios mean something, those of processor seconds most.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig, SparkConfig
from dlmine_spark.mining.baskets import summarise, with_items
from dlmine_spark.mining.itemsets import count_by_size, described
from dlmine_spark.mining.rules import count_hypotheses, rules_of, with_verdicts
from dlmine_spark.pipelines.mine import ENGINES, kept
from dlmine_spark.session import open_session

log = logging.getLogger("bench_mining")

CASES = {
    "retail-0.1%": ("fimi/retail_fimi.dat", 0.001),
    "retail-0.05%": ("fimi/retail_fimi.dat", 0.0005),
    "mushroom-20%": ("fimi/mushroom_fimi.dat", 0.2),
}
Cost = tuple[float, float]
"""Seconds on the clock, processor seconds."""


def main() -> None:
    """Print a line per case and engine."""
    arguments = _parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("py4j").setLevel(logging.ERROR)
    spark_config = SparkConfig(
        master=arguments.master, driver_memory=arguments.driver_memory, conf={"spark.ui.enabled": "false"}
    )
    with open_session(spark_config) as spark:
        for case in arguments.cases:
            file, min_support = CASES[case]
            with kept(_baskets(spark, arguments.data / file)) as baskets:
                log.info("%s: %s baskets", case, f"{baskets.count():,}")
                _bench(baskets, MiningConfig(min_support=min_support), arguments.engines, arguments.repeats)


def _bench(baskets: DataFrame, config: MiningConfig, engines: list[str], repeats: int) -> None:
    floor = _median(lambda: _write(baskets.mapInArrow(_identity, baskets.schema)), repeats)
    _tell("floor", floor, floor)
    itemsets: dict[str, int] = {}
    for name in engines:

        def mine(name: str = name) -> None:
            itemsets[name] = _mine(name, baskets, config)

        _tell(name, _median(mine, repeats), floor, f"{itemsets[name]:,} itemsets")
    if len(set(itemsets.values())) > 1:
        raise SystemExit(f"the engines do not agree: {itemsets}")
    _bench_rules(baskets, config, floor, engines[0], repeats)


def _bench_rules(baskets: DataFrame, config: MiningConfig, floor: Cost, engine: str, repeats: int) -> None:
    summary = summarise(baskets)
    with kept(ENGINES[engine](baskets, summary, config)) as itemsets:
        itemsets.count()
        _tell("flags", _median(lambda: _write(described(itemsets, summary.baskets)), repeats), floor)
        hypotheses = count_hypotheses(itemsets, config)
        rules = rules_of(itemsets, summary.baskets, config)
        _tell("rules", _median(lambda: _write(rules), repeats), floor, f"confidence {config.min_confidence:g}")
        with kept(rules) as tested:
            verdicts = _median(lambda: _write(with_verdicts(tested, hypotheses, config)), repeats)
            _tell("verdicts", verdicts, floor, f"{tested.count():,} rules")


def _tell(name: str, cost: Cost, floor: Cost, note: str = "") -> None:
    log.info(
        "  %-9s %8.2f s %8.2f CPU s %8.1f x floor %8.1f x floor's CPU   %s",
        name,
        *cost,
        cost[0] / floor[0],
        cost[1] / floor[1],
        note,
    )


def _mine(name: str, baskets: DataFrame, config: MiningConfig) -> int:
    """What the stage does from cached baskets on, with the limits checked before the itemsets are written."""
    summary = summarise(baskets)
    with kept(ENGINES[name](baskets, summary, config)) as itemsets:
        count = sum(count_by_size(itemsets, config).values())
        _write(itemsets.withColumn("support", F.col("count") / float(summary.baskets)))
    return count


def _baskets(spark: SparkSession, file: Path) -> DataFrame:
    lines = spark.read.text(str(file)).withColumn(s.BASKET_ID, F.monotonically_increasing_id().cast("string"))
    return with_items(lines.select(s.BASKET_ID, F.split(F.trim("value"), r"\s+").alias(s.ITEMS)))


def _identity(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches


def _write(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()


def _median(action: Callable[[], None], repeats: int) -> Cost:
    """Cost of the middle one of some runs, after one that warms up the JVM."""
    clock, processor = [], []
    for _ in range(repeats + 1):
        start, used = time.perf_counter(), _processor_seconds()
        action()
        clock.append(time.perf_counter() - start)
        processor.append(_processor_seconds() - used)
    return statistics.median(clock[1:]), statistics.median(processor[1:])


def _processor_seconds() -> float:
    """Of this process and all below it; those that ended count with their parents."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("DLMINE_DATA")
    parser.add_argument("--data", type=Path, default=default, required=default is None, help="folder of public data")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="which to run")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="MLlib takes minutes")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each after the first")
    parser.add_argument("--master", default="local[2]", help="Spark master")
    parser.add_argument("--driver-memory", default="2g", help="driver heap")
    return parser.parse_args()


if __name__ == "__main__":
    main()
