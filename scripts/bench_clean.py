"""Cleaning beside the engine's floor, pandas and polars: dirty receipts to clean rows, refused rows and repairs.

    .venv/bin/dlmine simulate --size large --out build/bench/large
    .venv/bin/python scripts/bench_clean.py --data build/bench/large [--files 32 320] [--engines floor dlmine pandas]

The floor reads the files as strings with a schema and writes a Delta table: what Spark cannot do without. ``dlmine``
is the whole stage: bronze, verdicts, statistics, the silver table, quarantine, repairs, metrics. pandas and polars do
the same cleaning in memory (formats of dates and numbers, near misses of categories, ranges, copies, versions of a
key, fences and medians of each item) and write Parquet. Each runs in a process of its own; a session's start and one
run over two files to warm up do not count. Seconds on the clock, processor seconds of all its processes, and the
largest resident memory of them together. On a machine that others use, only ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from measuring import processor_seconds

ENGINES = ("floor", "dlmine", "pandas", "polars")
CATEGORIES = (
    "bakery",
    "beverages",
    "dairy products",
    "fresh produce",
    "cupboard",
    "meat and fish",
    "household",
    "personal care",
)
NULLS = ("", "NA", "N/A", "n/a", "null", "NULL", "None", "NaN", "nan", "-", "?")
FORMATS = ("%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M", "%d-%b-%Y %H:%M")
NAMES = ("receipt", "time", "store", "customer", "item", "category", "quantity", "price")
OUTLIERS = {"method": "iqr", "threshold": 3.0, "by": ["item"], "action": "clip"}
COLUMNS: dict[str, Any] = {
    "receipt": {"required": True},
    "time": {
        "type": "timestamp",
        "required": True,
        "formats": ["yyyy-MM-dd HH:mm", "dd.MM.yyyy HH:mm", "MM/dd/yyyy HH:mm", "dd-MMM-yyyy HH:mm"],
    },
    "store": None,
    "customer": None,
    "item": {"case": "lower", "required": True},
    "category": {"allowed": list(CATEGORIES)},
    "quantity": {"type": "double", "min": 1, "max": 99, "fill": "median", "fill_by": ["item"]},
    "price": {"type": "double", "min": 0.01, "max": 50, "outliers": OUTLIERS, "fill": "median", "fill_by": ["item"]},
}


def main() -> None:
    """Run every engine on every number of files, and print a table."""
    arguments = _parse()
    if arguments.measure is not None:
        print(json.dumps(_measure(arguments.measure, arguments.data, arguments.files[0])))
        return
    print("| lines | engine | s | of floor | CPU s | of floor | GB | accepted |\n|---|---|---|---|---|---|---|---|")
    for files in arguments.files:
        floor: dict[str, float] = {}
        for engine in arguments.engines:
            results = [_in_own_process(engine, arguments.data, files) for _ in range(arguments.repeats)]
            result = {key: statistics.median(one[key] for one in results) for key in ("wall", "cpu", "memory")}
            floor = floor or result
            times = (f"{result[key]:.1f} | {result[key] / floor[key]:.2f} x" for key in ("wall", "cpu"))
            print(
                f"| {results[0]['lines']:,} | {engine} | {' | '.join(times)} | {result['memory'] / 1e9:.1f} | "
                f"{results[0]['accepted']:,} |",
                flush=True,
            )


def _in_own_process(engine: str, data: Path, files: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--data", str(data), "--files", str(files), "--measure", engine]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _measure(engine: str, data: Path, files: int) -> dict[str, Any]:
    """Run an engine once over two files, then over all, which is measured."""
    chosen = sorted(data.glob("receipts_*.csv"))[:files]
    lines = sum(file.read_bytes().count(b"\n") - 1 for file in chosen)
    with tempfile.TemporaryDirectory(prefix="dlmine-bench-", dir=data.parent) as scratch:
        few, all_ = Path(scratch) / "few", Path(scratch) / "all"
        for folder, those in ((few, chosen[:2]), (all_, chosen)):
            folder.mkdir()
            for file in those:
                (folder / file.name).symlink_to(file.resolve())
        run, end = ENGINE[engine](Path(scratch))
        try:
            run(few)
            memory = _Memory()
            start, before = time.perf_counter(), processor_seconds()
            accepted = run(all_)
            wall, cpu = time.perf_counter() - start, processor_seconds() - before
            return {"lines": lines, "accepted": accepted, "wall": wall, "cpu": cpu, "memory": memory.stop()}
        finally:
            end()


Start = Callable[[Path], tuple[Callable[[Path], int], Callable[[], None]]]
"""From a folder to write in: what cleans a folder of files and tells how many rows it accepted, and what ends it."""


def _spark(clean: Callable[[Any, Path, Path], int]) -> Start:
    def start(scratch: Path) -> tuple[Callable[[Path], int], Callable[[], None]]:
        from dlmine_spark.config import SparkConfig
        from dlmine_spark.session import open_session

        opened = open_session(SparkConfig(master="local[2]", driver_memory="3g", conf={"spark.ui.enabled": "false"}))
        session = opened.__enter__()
        return (lambda folder: clean(session, folder, scratch)), lambda: _close(opened)

    return start


def _close(opened: Any) -> None:
    opened.__exit__(None, None, None)


def _floor(spark: Any, folder: Path, scratch: Path) -> int:
    schema = ", ".join(f"{name} string" for name in NAMES)
    rows = spark.read.schema(schema).options(sep=";", header="true").csv(f"{folder}/receipts_*.csv")
    rows.write.format("delta").mode("overwrite").save(f"{scratch}/floor")
    return int(spark.read.format("delta").load(f"{scratch}/floor").count())


def _dlmine(spark: Any, folder: Path, scratch: Path) -> int:
    from dlmine_spark.config import Config
    from dlmine_spark.lakehouse import Lakehouse
    from dlmine_spark.pipelines import clean

    source = {
        "kind": "table",
        "path": f"{folder}/receipts_*.csv",
        "delimiter": ";",
        "columns": COLUMNS,
        "key": ["receipt", "item"],
        "keep": "last",
    }
    config = Config.model_validate({"lakehouse": {"root": f"{scratch}/house"}, "sources": {"receipts": source}})
    return clean.run(config, Lakehouse(spark, config.lakehouse).for_run("bench", {})).rows_out or 0


def _pandas(_: Path) -> tuple[Callable[[Path], int], Callable[[], None]]:
    return _clean_with_pandas, lambda: None


def _clean_with_pandas(folder: Path) -> int:
    import difflib

    import pandas as pd

    files = sorted(folder.glob("receipts_*.csv"))
    raw = pd.concat([pd.read_csv(file, sep=";", dtype=str, keep_default_na=False) for file in files], ignore_index=True)
    repairs, reasons = [], pd.Series("", index=raw.index)
    copies = raw.duplicated()
    text = raw.apply(lambda cells: cells.str.strip().str.replace(r"\s+", " ", regex=True))
    text = text.mask(text.isin(NULLS))

    def note(column: str, new: pd.Series, where: pd.Series, rule: str, old: pd.Series | None = None) -> None:
        before = raw[column] if old is None else old.astype(str)
        changed = {"column": column, "old": before[where], "new": new[where].astype(str), "rule": rule}
        repairs.append(pd.DataFrame(changed))

    rows = text.copy()
    moment = pd.to_datetime(text["time"], format=FORMATS[0], errors="coerce")
    is_first = moment.notna()
    for format_ in FORMATS[1:]:
        rest = moment.isna()
        moment[rest] = pd.to_datetime(text["time"][rest], format=format_, errors="coerce")
    note("time", moment, moment.notna() & ~is_first, "format")
    rows["time"] = moment
    for column, low, high in (("quantity", 1, 99), ("price", 0.01, 50)):
        value = pd.to_numeric(text[column], errors="coerce")
        rest = value.isna() & text[column].notna()
        bare = text[column][rest].str.replace(r"[€$£ ]|EUR|USD", "", regex=True)
        value[rest] = pd.to_numeric(bare.str.replace(r"^([\d.]+),(\d+)$", r"\1.\2", regex=True), errors="coerce")
        note(column, value, rest & value.notna(), "format")
        reasons[(value < low) | (value > high)] += f"out_of_range {column};"
        rows[column] = value
    rows["item"] = text["item"].str.lower()
    note("item", rows["item"], rows["item"].ne(raw["item"]) & rows["item"].notna(), "case")
    unique = text["category"].dropna().unique()
    near = {name: (difflib.get_close_matches(name, CATEGORIES, 1, 0.8) or [None])[0] for name in unique}
    rows["category"] = text["category"].map(near)
    note("category", rows["category"], rows["category"].ne(raw["category"]) & rows["category"].notna(), "allowed")
    reasons[rows["category"].isna() & text["category"].notna()] += "not_allowed category;"
    for column in ("receipt", "time", "item"):
        reasons[rows[column].isna()] += f"missing {column};"
    good = rows[(reasons == "") & ~copies].drop_duplicates(["receipt", "item"], keep="last")
    groups = good.groupby("item")["price"]
    low, high = groups.quantile(0.25), groups.quantile(0.75)
    reach = (high - low) * 3
    below, above = good["item"].map(low - reach), good["item"].map(high + reach)
    clipped = good["price"].clip(below, above)
    outside = clipped.ne(good["price"]) & good["price"].notna()
    note("price", clipped, outside, "outlier", old=good["price"])
    good = good.assign(price=clipped)
    for column in ("quantity", "price"):
        good[f"{column}_imputed"] = good[column].isna()
        good[column] = good[column].fillna(good.groupby("item")[column].transform("median"))
    good.to_parquet(folder.parent / "pandas_silver.parquet")
    raw[(reasons != "") & ~copies].assign(reasons=reasons).to_parquet(folder.parent / "pandas_quarantine.parquet")
    pd.concat(repairs).to_parquet(folder.parent / "pandas_repairs.parquet")
    return len(good)


def _polars(_: Path) -> tuple[Callable[[Path], int], Callable[[], None]]:
    return _clean_with_polars, lambda: None


def _clean_with_polars(folder: Path) -> int:
    import difflib

    import polars as pl

    raw = pl.read_csv(f"{folder}/receipts_*.csv", separator=";", infer_schema=False, truncate_ragged_lines=True)
    raw = raw.with_row_index("row")
    cells = list(NAMES)
    text = raw.with_columns(pl.col(cells).str.strip_chars().str.replace_all(r"\s+", " "))
    text = text.with_columns(pl.when(~pl.col(cells).is_in(NULLS)).then(pl.col(cells)).name.keep())
    moments = [pl.col("time").str.to_datetime(format_, strict=False) for format_ in FORMATS]

    def number(name: str) -> Any:
        bare = pl.col(name).str.replace_all(r"[€$£ ]|EUR|USD", "").str.replace(r"^([\d.]+),(\d+)$", "${1}.${2}")
        return pl.coalesce(pl.col(name).cast(pl.Float64, strict=False), bare.cast(pl.Float64, strict=False)).alias(name)

    unique = text["category"].drop_nulls().unique().to_list()
    near = {name: (difflib.get_close_matches(name, CATEGORIES, 1, 0.8) or [None])[0] for name in unique}
    rows = text.with_columns(
        pl.coalesce(moments).alias("time"),
        pl.col("item").str.to_lowercase(),
        pl.col("category").replace_strict(near, default=None),
        number("quantity"),
        number("price"),
        text["category"].is_not_null().alias("has_category"),
    )
    is_good = (
        pl.col("receipt").is_not_null()
        & pl.col("time").is_not_null()
        & pl.col("item").is_not_null()
        & (pl.col("category").is_not_null() | ~pl.col("has_category"))
        & pl.col("quantity").is_between(1, 99).fill_null(True)
        & pl.col("price").is_between(0.01, 50).fill_null(True)
    )
    copies = raw.select(pl.struct(cells).is_first_distinct().alias("first"))["first"]
    first = rows.with_columns(copies).filter(pl.col("first"))
    good = first.filter(is_good).unique(["receipt", "item"], keep="last", maintain_order=True)
    low, high = (pl.col("price").quantile(share, "linear").over("item") for share in (0.25, 0.75))
    good = good.with_columns(pl.col("price").clip(low - (high - low) * 3, high + (high - low) * 3))
    for column in ("quantity", "price"):
        good = good.with_columns(
            pl.col(column).is_null().alias(f"{column}_imputed"),
            pl.col(column).fill_null(pl.col(column).median().over("item")),
        )
    good.drop("row", "first", "has_category").write_parquet(folder.parent / "polars_silver.parquet")
    raw.filter(pl.col("row").is_in(first.filter(~is_good)["row"].implode())).write_parquet(
        folder.parent / "polars_quarantine.parquet"
    )
    changed = []
    for name in cells:
        old, new = raw[name], rows[name].cast(pl.String)
        changed.append(pl.DataFrame({"column": name, "old": old, "new": new}).filter((old != new) & new.is_not_null()))
    pl.concat(changed).write_parquet(folder.parent / "polars_repairs.parquet")
    return len(good)


ENGINE: dict[str, Start] = {
    "floor": _spark(_floor),
    "dlmine": _spark(_dlmine),
    "pandas": _pandas,
    "polars": _polars,
}


class _Memory:
    """The largest resident memory of this process and its children, looked at every fifth of a second."""

    def __init__(self) -> None:
        self._largest = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._is_over.wait(0.2):
            self._largest = max(self._largest, sum(_of_all(lambda process: process.memory_info().rss)))

    def stop(self) -> int:
        self._is_over.set()
        self._thread.join()
        return self._largest


def _of_all(ask: Callable[[psutil.Process], Any]) -> list[Any]:
    answers = []
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            answers.append(ask(process))
        except psutil.Error:
            continue
    return answers


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a simulation")
    parser.add_argument("--files", type=int, nargs="+", default=[32, 320], help="numbers of its files of receipts")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["floor", "dlmine", "pandas"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--measure", choices=ENGINES, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    main()
