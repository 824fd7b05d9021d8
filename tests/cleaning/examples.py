"""Small sources and bronze rows, written down as one reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.columns import declared_columns
from dlmine_spark.cleaning.plan import REPAIRS, WARNINGS, key_of, mark_rows, no_reasons, no_repairs, number_versions
from dlmine_spark.config import SourceConfig

FILE = "file:///data/sales.csv"


def source(columns: dict[str, Any], **settings: Any) -> SourceConfig:
    """A source of kind table over a CSV file that nobody reads."""
    return SourceConfig.model_validate({"kind": "table", "path": "sales.csv", "columns": columns, **settings})


def bronze(
    spark: SparkSession, names: Sequence[str], *rows: Sequence[str | None], raw: Sequence[str | None] = ()
) -> DataFrame:
    """Rows as they came, numbered in the order given; ``raw``: the lines that could not be split."""
    lines = [*raw, *([None] * (len(rows) - len(raw)))]
    data = [(*row, FILE, 0, place, line) for place, (row, line) in enumerate(zip(rows, lines, strict=True))]
    cells = ", ".join(f"`{name}` string" for name in names)
    types = f"{cells}, {s.SOURCE_FILE} string, {s.SOURCE_BLOCK} bigint, {s.SOURCE_ROW} bigint, {s.RAW_LINE} string"
    frame = spark.createDataFrame(data, types)
    return frame.withColumns({s.BATCH: F.lit(0), s.INGESTED_AT: F.current_timestamp(), s.BRONZE_RUN_ID: F.lit("run-1")})


def marked(rows: DataFrame, declaration: SourceConfig) -> DataFrame:
    """Rows after everything that is judged row by row and key by key."""
    columns = declared_columns(declaration)
    return number_versions(mark_rows(rows, declaration, columns), declaration, key_of(declaration, columns))


def good(spark: SparkSession, types: str, *rows: Sequence[Any]) -> DataFrame:
    """Rows that nothing was wrong with so far."""
    frame = spark.createDataFrame([tuple(row) for row in rows], types)
    return frame.withColumns(
        {
            "__reasons": no_reasons(),
            REPAIRS: no_repairs(),
            WARNINGS: F.array().cast("array<string>"),
            s.BATCH: F.lit(0),
        }
    )


def values(frame: DataFrame, *names: str) -> list[Any]:
    """The rows in the order they came; values of a single column without the tuple around them."""
    ordered = frame.orderBy(s.SOURCE_ROW) if s.SOURCE_ROW in frame.columns else frame
    rows = ordered.select(*(F.col(f"`{name}`") for name in names)).collect()
    return [row[0] for row in rows] if len(names) == 1 else [tuple(row) for row in rows]


def entries(frame: DataFrame, name: str) -> list[list[tuple[str, ...]]]:
    """Reasons or repairs of each row, as tuples."""
    return [[tuple(entry) for entry in found] for found in values(frame, name)]
