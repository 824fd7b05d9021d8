"""Apriori beside MLlib's FP-growth: from the same cached baskets to written itemsets, in one session; then rules.

    .venv/bin/python scripts/bench_mining.py --data $DLMINE_DATA [--peers] [--world FOLDER ...] [--growth]

The floor is the same frame sent once through an Arrow identity: what any engine in Python has to pay. Each runs once to
warm up, then ``--repeats`` times; medians are shown, of seconds on the clock and of processor seconds of driver, JVM
and Python workers together. On a machine that others use, only ratios mean something, those of processor seconds most.

With ``--peers``, libraries for one machine mine the same baskets out of the memory of one process: FP-growth in C
(``pip install pyfim``, Borgelt's) beside our miner without Spark, and mlxtend's, which is asked once. ``--world`` adds
the baskets of simulations; ``--growth`` mines shares of these alone, of 0.1 to 3 million baskets as far as they go, and
the largest resident memory of driver, JVM and any Python worker.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial, reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from measuring import in_mebibytes, largest_memory, processor_seconds
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig, SparkConfig
from dlmine_spark.mining.apriori import mine_large
from dlmine_spark.mining.baskets import BasketSummary, baskets_of_lines, summarise, with_items
from dlmine_spark.mining.encode import dictionary_of, encode
from dlmine_spark.mining.itemsets import described
from dlmine_spark.mining.miner import ItemClass, mine_classes
from dlmine_spark.mining.rules import count_hypotheses, rules_of, with_verdicts
from dlmine_spark.pipelines.common import kept
from dlmine_spark.pipelines.mine import ENGINES, mined
from dlmine_spark.session import open_session

log = logging.getLogger("bench_mining")

CASES = {
    "retail-0.1%": ("fimi/retail_fimi.dat", 0.001),
    "retail-0.05%": ("fimi/retail_fimi.dat", 0.0005),
    "mushroom-20%": ("fimi/mushroom_fimi.dat", 0.2),
}
WORLD_SUPPORT = 0.002
GROWTH = (100_000, 300_000, 1_000_000, 3_000_000)
"""Baskets."""
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
            _bench_case(_baskets(spark, arguments.data / file), case, min_support, arguments)
        if arguments.world:
            worlds = reduce(DataFrame.unionByName, [_simulated(spark, folder) for folder in arguments.world])
            if arguments.growth:
                _bench_growth(worlds, arguments.repeats)
            else:
                _bench_case(worlds, "simulated", WORLD_SUPPORT, arguments)


def _bench_growth(baskets: DataFrame, repeats: int) -> None:
    """The same support of more and more baskets, by tasks: what the driver would mine itself is left to them too."""
    config = MiningConfig(min_support=WORLD_SUPPORT)
    smallest = 0.0
    with kept(baskets) as every:
        there = every.count()
        for wanted in (*(size for size in GROWTH if size < there), there):
            chosen = every.where(F.pmod(F.xxhash64(s.BASKET_ID), F.lit(10_000)) < round(10_000 * wanted / there))
            with kept(chosen) as some:
                summary = summarise(some)
                with largest_memory() as memory:
                    cost = _median(partial(_mine_by_tasks, some, summary, config), repeats)
            smallest = smallest or cost[1] / summary.baskets
            log.info(
                "  %11s baskets %8.2f s %8.2f CPU s %6.2f x the CPU a basket of the first   MiB at most: %s",
                f"{summary.baskets:,}",
                *cost,
                cost[1] / summary.baskets / smallest,
                in_mebibytes(memory),
            )


def _mine_by_tasks(baskets: DataFrame, summary: BasketSummary, config: MiningConfig) -> None:
    _write(mine_large(baskets, summary, config))


def _simulated(spark: SparkSession, folder: Path) -> DataFrame:
    """The baskets of a simulation; ids of two simulations are told apart by their folder."""
    lines = spark.read.csv(f"{folder}/receipts_*.csv", sep=";", header=True)
    basket_id = F.concat(F.lit(f"{folder.name}/"), F.col("receipt"))
    return with_items(
        baskets_of_lines(lines.select(basket_id.alias(s.BASKET_ID), F.lower(F.trim("item")).alias(s.ITEM)))
    )


def _bench_case(baskets: DataFrame, case: str, min_support: float, arguments: argparse.Namespace) -> None:
    config = MiningConfig(min_support=min_support)
    with kept(baskets):
        log.info("%s: %s baskets, support %g", case, f"{baskets.count():,}", min_support)
        _bench(baskets, config, arguments.engines, arguments.repeats)
        if arguments.peers:
            _bench_alone(baskets, config, arguments.repeats)


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


def _bench_alone(baskets: DataFrame, config: MiningConfig, repeats: int) -> None:
    """Our miner and others in this process, from baskets in its memory; all find the same number of itemsets."""
    lists = baskets.select(s.ITEMS).toArrow().column(s.ITEMS).combine_chunks()
    counts = lists.flatten().value_counts()
    least = BasketSummary(len(lists), len(lists.values), 0, None).min_count(config.min_support)
    dictionary = dictionary_of(counts.field("values"), np.asarray(counts.field("counts")), len(lists), least)
    found: dict[str, int] = {}

    def ours() -> None:
        classes = [ItemClass(item) for item in range(len(dictionary))]
        blocks = mine_classes(encode(lists, dictionary), classes, least)
        found["numpy"] = len(dictionary) + sum(len(block.counts) for block in blocks)

    costs = {"numpy": _median(ours, repeats)}
    if importlib.util.find_spec("fim"):
        import fim

        transactions = lists.to_pylist()

        def in_c() -> None:
            found["C"] = len(fim.fpgrowth(transactions, supp=-least, zmin=1))

        costs["C"] = _median(in_c, repeats)
    if importlib.util.find_spec("mlxtend"):
        from mlxtend.frequent_patterns import fpgrowth
        from mlxtend.preprocessing import TransactionEncoder

        def in_pandas() -> None:
            encoder = TransactionEncoder()
            cells = encoder.fit_transform(lists.to_pylist())
            table = pd.DataFrame(cells, columns=encoder.columns_)
            found["mlxtend"] = len(fpgrowth(table, min_support=(least - 0.5) / len(lists)))

        costs["mlxtend"] = _median(in_pandas, 0)
    for name, cost in costs.items():
        _tell(f"1 x {name}", cost, costs.get("C", costs["numpy"]), f"{found[name]:,} itemsets; floor here: C, if there")
    # The one in C leaves out an item that is in every basket.
    everywhere = int((dictionary.counts == len(lists)).sum())
    if max(found.values()) - min(found.values()) > everywhere:
        raise SystemExit(f"the miners do not agree: {found}")


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
    with mined(baskets, summary, config.model_copy(update={"algorithm": name})) as found:
        _write(found.itemsets.withColumn("support", F.col("count") / float(summary.baskets)))
    return sum(found.by_size.values())


def _baskets(spark: SparkSession, file: Path) -> DataFrame:
    lines = spark.read.text(str(file)).withColumn(s.BASKET_ID, F.monotonically_increasing_id().cast("string"))
    return with_items(lines.select(s.BASKET_ID, F.split(F.trim("value"), r"\s+").alias(s.ITEMS)))


def _identity(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches


def _write(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()


def _median(action: Callable[[], None], repeats: int) -> Cost:
    """Cost of the middle one of some runs, after one that warms up the JVM; of that one, where there is no other."""
    clock, processor = [], []
    for _ in range(repeats + 1):
        start, used = time.perf_counter(), processor_seconds()
        action()
        clock.append(time.perf_counter() - start)
        processor.append(processor_seconds() - used)
    first = min(1, repeats)
    return statistics.median(clock[first:]), statistics.median(processor[first:])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("DLMINE_DATA")
    parser.add_argument("--data", type=Path, default=default, required=default is None, help="folder of public data")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), help="which to run")
    parser.add_argument("--peers", action="store_true", help="libraries for one machine, too")
    parser.add_argument(
        "--world", type=Path, nargs="+", default=[], help="folders of simulations whose receipts are mined, too"
    )
    parser.add_argument("--growth", action="store_true", help="of the simulations, shares of more and more baskets")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="MLlib takes minutes")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each after the first")
    parser.add_argument("--master", default="local[2]", help="Spark master")
    parser.add_argument("--driver-memory", default="2g", help="driver heap")
    return parser.parse_args()


if __name__ == "__main__":
    main()
