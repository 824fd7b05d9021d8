"""The stage ``arima`` on more and more short series: time for each, and memory of driver, JVM and Python workers.

    .venv/bin/python scripts/bench_arima_growth.py [--series 1000 10000 100000] [--values 30] [--broken .05]

Every series is simulated by Spark itself: a level, weekdays, noise. ``--broken`` of them are none: a value alone, an
infinite one among values, a constant, a date twice, a hole in the middle. Each is fitted at a backtest
cutoff and at the end. Processor seconds are those of driver, JVM and workers together. Prints a line a size, with what
became of the fits; exits with 1 if a series has no row.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from measuring import in_mebibytes, largest_memory, processor_seconds
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, SparkConfig
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import arima
from dlmine_spark.session import open_session

log = logging.getLogger("bench_arima_growth")

HORIZON = 4
KINDS_OF_DAMAGE = 5


def main() -> int:
    """Print a line per number of series."""
    arguments = _parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("py4j").setLevel(logging.ERROR)
    logging.getLogger("dlmine_spark").setLevel(logging.ERROR)
    spark_config = SparkConfig(
        master=arguments.master, driver_memory=arguments.driver_memory, conf={"spark.ui.enabled": "false"}
    )
    lost = 0
    with tempfile.TemporaryDirectory(prefix="dlmine-bench-") as scratch, open_session(spark_config) as spark:
        for count in arguments.series:
            config = _config(Path(scratch) / str(count))
            lakehouse = Lakehouse(spark, config.lakehouse)
            lakehouse.overwrite(s.PANEL.name, _panel(spark, count, arguments.values, arguments.broken))
            start, used = time.perf_counter(), processor_seconds()
            with largest_memory() as memory:
                report = arima.run(config, lakehouse)
            clock, processor = time.perf_counter() - start, processor_seconds() - used
            lost += sum(report.fits_by_status.values()) != 2 * count
            log.info(
                "%9s series %8.1f s %8.1f CPU s %6.2f ms and %6.2f CPU ms each; %s   MiB at most: %s",
                f"{count:,}",
                clock,
                processor,
                1000 * clock / count,
                1000 * processor / count,
                ", ".join(f"{fits:,} {status}" for status, fits in report.fits_by_status.items()),
                in_mebibytes(memory),
            )
    return 1 if lost else 0


def _config(folder: Path) -> Config:
    columns = dict.fromkeys((s.UNIQUE_ID, s.DS, s.Y))
    return Config.model_validate(
        {
            "sources": {"panel": {"kind": "panel", "path": "simulated", "columns": columns}},
            "lakehouse": {"root": str(folder)},
            "arima": {"feature_origins": 0},
            "evaluation": {"horizon": HORIZON, "cutoffs": 1},
        }
    )


def _panel(spark: SparkSession, count: int, values: int, broken: float) -> DataFrame:
    """Rows of ``silver.panel``: one per series and day, but for those that are broken."""
    days = spark.range(count).withColumnRenamed("id", "series").crossJoin(spark.range(values))
    number, day = F.col("series"), F.col("id").cast("int")
    level = F.exp(3 + 1.5 * F.sin(number * 12.9898))
    noise = F.sin(F.pmod(F.xxhash64(number, day), F.lit(1_000_003)) * 0.37) * 0.3
    y = F.round(level * F.exp(0.3 * F.sin(2 * F.pi() * day / 7) + noise), 2)
    is_broken = F.pmod(F.xxhash64(number), F.lit(10_000)) < broken * 10_000
    damage = F.when(is_broken, number % KINDS_OF_DAMAGE).otherwise(-1)
    y = (
        F.when((damage == 0) & (day < values - 1), None)
        .when((damage == 1) & (day == values // 2), float("inf"))
        .when(damage == 2, level)
        .otherwise(y)
    )
    is_there = (damage != 4) | ~day.between(values // 2, values // 2 + 2)
    copies = F.when((damage == 3) & (day == 1), 2).otherwise(1)
    return (
        days.where(is_there)
        .withColumn("copy", F.explode(F.sequence(F.lit(1), copies)))
        .select(
            F.format_string("%09d", number).alias(s.UNIQUE_ID),
            F.date_add(F.lit("2024-01-01").cast("date"), day).alias(s.DS),
            y.alias(s.Y),
            F.lit(1).alias(s.OPEN),
            F.lit(False).alias(s.Y_IMPUTED),
        )
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="how many")
    parser.add_argument("--values", type=int, default=30, help="of each, days")
    parser.add_argument("--broken", type=float, default=0.05, help="share of series that are none")
    parser.add_argument("--master", default="local[2]", help="Spark's")
    parser.add_argument("--driver-memory", default="1g", help="heap of the JVM, driver and executor in one here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
