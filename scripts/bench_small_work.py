"""What small tables cost, where Spark's and Delta's fixed work is all there is: a row written or read, and ``clean``.

    .venv/bin/python scripts/bench_small_work.py [--repeats 6] [--jvm quick] [--conf KEY=VALUE ...]

Medians of the runs after the second: by then Java has compiled most of what it will. ``--conf`` sets a Spark setting,
so that two calls show what it changes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from pyspark.sql import SparkSession

from dlmine_spark.config import Config, SparkConfig, load_config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean
from dlmine_spark.session import open_session

WARM_UP = 2


def main() -> None:
    """Print a line per action, in the order they were measured."""
    arguments = _parse()
    conf = dict(setting.partition("=")[::2] for setting in arguments.conf)
    spark_config = SparkConfig(
        master="local[2]", driver_memory="1500m", jvm=arguments.jvm, conf={"spark.ui.enabled": "false", **conf}
    )
    with tempfile.TemporaryDirectory(prefix="dlmine-bench-") as scratch, open_session(spark_config) as spark:
        config = _sales(Path(scratch))
        lakehouse = Lakehouse(spark, config.lakehouse)
        print("| action | s (median) | of an append |\n|---|---|---|")
        appended = 0.0
        for name, action in _actions(spark, lakehouse, config).items():
            seconds = _median(action, arguments.repeats)
            appended = appended or seconds
            print(f"| {name} | {seconds:.2f} | {seconds / appended:.1f} x |", flush=True)


def _actions(spark: SparkSession, lakehouse: Lakehouse, config: Config) -> dict[str, Callable[[], object]]:
    row = spark.sql("SELECT 1 AS x, 'a' AS part")

    def new_and_read() -> None:
        lakehouse.overwrite("staging.read", row)
        lakehouse.read("staging.read").count()

    return {
        "append a row": lambda: lakehouse.append("staging.appended", row),
        "replace the table": lambda: lakehouse.overwrite("staging.replaced", row),
        "replace a row (replaceWhere)": lambda: lakehouse.overwrite("staging.rows", row, replace_where="part = 'a'"),
        "read a row again": lambda: lakehouse.read("staging.replaced").count(),
        "replace the table, then read it": new_and_read,
        "clean a panel of 13 rows": lambda: clean.run(config, lakehouse.for_run("bench", {})),
    }


def _sales(folder: Path) -> Config:
    file = folder / "sales.csv"
    days = [date(2024, 1, 1) + timedelta(days=day) for day in range(13)]
    file.write_text("date,sales\n" + "".join(f"{day},{100 + day.day % 7}\n" for day in days), encoding="utf-8")
    source = f"{{kind: panel, path: '{file}', columns: {{ds: date, y: sales}}}}"
    return load_config(overrides=[f"sources.sales={source}", f"lakehouse.root={folder}/house"])


def _median(action: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(WARM_UP + repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UP:])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=6, help="runs of each that count")
    parser.add_argument("--jvm", choices=["server", "quick"], default="quick", help="spark.jvm")
    parser.add_argument("--conf", action="append", default=[], help="a Spark setting, KEY=VALUE; repeatable")
    return parser.parse_args()


if __name__ == "__main__":
    main()
