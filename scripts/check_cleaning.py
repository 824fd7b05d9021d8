"""Compare what cleaning made of a simulated world with what is true of it, cell by cell.

    .venv/bin/python scripts/check_cleaning.py [--config conf/examples/demo.yaml] [--set KEY=VALUE ...]

The lakehouse must have been cleaned, and report.truth must name the simulation's truth/ folder. Prints what became of
every kind of injected error, then precision and recall of their detection, the share of claimed repairs that equal the
truth, and how many clean cells were changed. Exits with 1 where a figure misses its goal.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.plan import key_of
from dlmine_spark.config import Config, SourceConfig, load_config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.session import open_session

TABLES = {"lines": s.LINES, "panel": s.PANEL, "calendar": s.CALENDAR, "statics": s.STATICS}
RIGHT, ESTIMATED, BLANK, REFUSED, WRONG = "right", "estimated", "blank", "row refused", "wrong"
"""What became of a cell: the true value, a fill flagged as one, nothing, a row in quarantine, another value."""
ROW = ""
"""Stands for the whole row in the place of a column."""
CELL = ["source", "key", "column"]


@dataclass(frozen=True)
class Figure:
    """One result, and whether it is good enough."""

    name: str
    value: float
    shown: str
    good: bool


def main() -> int:
    """Compare, print, and say whether everything is good enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("conf/examples/demo.yaml"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    config = load_config([arguments.config], arguments.settings, dict(os.environ))
    if config.report.truth is None:
        parser.error("report.truth is not set: there is nothing to compare with")
    with open_session(config.spark) as spark:
        lakehouse = Lakehouse(spark, config.lakehouse)
        by_kind, figures = compare(config, lakehouse, Path(config.report.truth).absolute())
    print(by_kind.to_string())
    print()
    for figure in figures:
        print(f"{figure.name:<52} {figure.shown:>10}  {'ok' if figure.good else 'MISSED'}")
    return 0 if all(figure.good for figure in figures) else 1


def compare(config: Config, lakehouse: Lakehouse, truth: Path) -> tuple[pd.DataFrame, list[Figure]]:
    """What became of every kind of error (one row per source and kind), and the figures that sum it up."""
    sources = {name: source for name, source in config.sources.items() if source.kind in TABLES}
    cells = _union([_cells(lakehouse, name, source, truth) for name, source in sources.items()]).cache()
    errors = _errors(lakehouse, sources, truth).cache()
    repairs = lakehouse.read(s.REPAIRS.name)
    on_record = repairs.select(*CELL).distinct().withColumn("on_record", F.lit(True))

    judged = errors.join(cells, on=CELL, how="left").join(on_record, on=CELL, how="left")
    # A missing cell is detected by being missing, a copy or an older row by being gone.
    is_seen = (
        F.coalesce(F.col("on_record"), F.lit(False))
        | F.col("outcome").isin(BLANK, ESTIMATED, REFUSED)
        | (F.col("kind").isin("duplicate", "superseded") & (F.col("outcome") == RIGHT))
    )
    judged = judged.withColumn("detected", is_seen).cache()
    by_kind = judged.groupBy("source", "kind").pivot("outcome").count().toPandas().set_index(["source", "kind"])
    detected = judged.groupBy("source", "kind").agg(F.sum(F.col("detected").cast("int")).alias("detected")).toPandas()
    by_kind = by_kind.fillna(0).astype(int).join(detected.set_index(["source", "kind"])).sort_index()

    wrong_rows = errors.where(F.col("column") == ROW).select("source", "key").distinct().withColumn("row", F.lit(True))
    wrong_cells = errors.where(F.col("column") != ROW).select(*CELL).distinct().withColumn("cell", F.lit(True))
    flagged = on_record.join(wrong_cells, on=CELL, how="left").join(wrong_rows, on=["source", "key"], how="left")
    true_flags = flagged.where(F.col("cell") | F.col("row")).count()
    claims = (
        repairs.where(F.col("new_value").isNotNull() & ~F.col("rule").startswith("fill_"))
        .select(*CELL)
        .distinct()
        .join(cells, on=CELL, how="inner")
    )
    # Rows that a keyed correction replaced are right in the end: what is asked is whether the table holds the truth.
    innocent = (
        cells.where(F.col("column") != ROW)
        .join(wrong_cells, on=CELL, how="left")
        .join(wrong_rows, on=["source", "key"], how="left")
        .join(errors.select("source", "key").distinct().withColumn("any", F.lit(True)), ["source", "key"], "left")
        .where(F.col("cell").isNull() & F.col("row").isNull())
    )
    changed = innocent.where((F.col("outcome") != RIGHT) & ((F.col("outcome") != REFUSED) | F.col("any").isNull()))
    recall = judged.where("detected").count() / max(1, judged.count())
    precision = true_flags / max(1, flagged.count())
    right = claims.where(F.col("outcome") == RIGHT).count() / max(1, claims.count())
    per_ten_thousand = 1e4 * changed.count() / max(1, innocent.count())
    surplus = sum(_surplus_rows(lakehouse, source, truth) for source in sources.values())
    return by_kind, [
        Figure("detection recall", recall, f"{recall:.4f}", recall >= 0.98),
        Figure("detection precision (of cells on record)", precision, f"{precision:.4f}", precision >= 0.98),
        Figure("claimed repairs equal to the truth", right, f"{right:.4f}", right >= 0.95),
        Figure("clean cells changed per 10,000", per_ten_thousand, f"{per_ten_thousand:.2f}", per_ten_thousand <= 1),
        Figure("rows that should not be there", surplus, f"{surplus}", surplus == 0),
    ]


def _clean_rows(lakehouse: Lakehouse, source: SourceConfig, truth: Path, table: DataFrame) -> DataFrame:
    """The rows a source should have given, under canonical names and with the silver table's types."""
    types = dict(table.dtypes)
    files = str(truth / "clean" / Path(source.path).name)
    rows = lakehouse.spark.read.options(header=True, sep=source.delimiter, inferSchema=False).csv(files)
    return rows.select(
        *(F.col(f"`{spec.source or name}`").cast(types[name]).alias(name) for name, spec in source.columns.items())
    )


def _cells(lakehouse: Lakehouse, name: str, source: SourceConfig, truth: Path) -> DataFrame:
    """One row per true cell, and one per true row (column ``ROW``): source, key, column, outcome."""
    table = lakehouse.read(TABLES[source.kind].name)
    clean = _clean_rows(lakehouse, source, truth, table)
    key = list(key_of(source, clean.columns))
    flags = [column for column in table.columns if column.endswith(s.IMPUTED_SUFFIX)]
    values = [column for column in clean.columns if column not in key]
    silver = table.groupBy(*key).agg(
        F.count(F.lit(1)).alias("copies"), *(F.first(column).alias(f"silver:{column}") for column in [*values, *flags])
    )
    joined = clean.join(silver, on=key, how="left")
    is_gone = F.col("copies").isNull()

    def outcome(column: str) -> Column:
        if column in key:
            return F.when(is_gone, REFUSED).otherwise(RIGHT)
        flag = f"silver:{column}{s.IMPUTED_SUFFIX}"
        is_filled = F.coalesce(F.col(f"`{flag}`"), F.lit(False)) if flag in joined.columns else F.lit(False)
        value = F.col(f"`silver:{column}`")
        return (
            F.when(is_gone, REFUSED)
            .when(is_filled, ESTIMATED)
            .when(value.eqNullSafe(F.col(column)), RIGHT)
            .when(value.isNull(), BLANK)
            .otherwise(WRONG)
        )

    any_filled = reduce(
        lambda one, other: one | other, (F.coalesce(F.col(f"`silver:{f}`"), F.lit(False)) for f in flags), F.lit(False)
    )
    # A date added to close a gap, on which the store was closed, has no value at all.
    is_empty = reduce(
        lambda one, other: one & other, (F.col(f"`silver:{column}`").isNull() for column in values if column != s.OPEN)
    )
    row = (
        F.when(is_gone, REFUSED)
        .when(F.col("copies") > 1, WRONG)
        .when(any_filled, ESTIMATED)
        .when(is_empty, BLANK)
        .otherwise(RIGHT)
    )
    outcomes = [(column, outcome(column)) for column in clean.columns] + [(ROW, row)]
    entries = F.array(*(F.struct(F.lit(column).alias("column"), made.alias("outcome")) for column, made in outcomes))
    shown_key = F.concat_ws("|", *(F.col(column).cast("string") for column in key))
    return joined.select(F.lit(name).alias("source"), shown_key.alias("key"), F.explode(entries).alias("cell")).select(
        "source", "key", "cell.*"
    )


def _surplus_rows(lakehouse: Lakehouse, source: SourceConfig, truth: Path) -> int:
    table = lakehouse.read(TABLES[source.kind].name)
    clean = _clean_rows(lakehouse, source, truth, table)
    return table.join(clean, on=list(key_of(source, clean.columns)), how="left_anti").count()


def _errors(lakehouse: Lakehouse, sources: dict[str, SourceConfig], truth: Path) -> DataFrame:
    """The injected errors: source, key, column (canonical, or ``ROW``), kind."""
    errors = pd.read_csv(truth / "errors.csv", dtype=str, keep_default_na=False)
    parts = []
    for name, source in sources.items():
        in_files = errors["file"].map(lambda file, path=source.path: fnmatch.fnmatch(file, Path(path).name))
        canonical = {spec.source or column: column for column, spec in source.columns.items()}
        part = errors[in_files]
        parts.append(part.assign(source=name, column=part["column"].map(lambda c, names=canonical: names.get(c, c))))
    found = pd.concat(parts)[["source", "key", "column", "kind"]]
    return lakehouse.spark.createDataFrame(found)


def _union(frames: list[DataFrame]) -> DataFrame:
    return reduce(DataFrame.unionByName, frames)


if __name__ == "__main__":
    sys.exit(main())
