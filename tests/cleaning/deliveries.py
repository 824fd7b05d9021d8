"""A source that files are added to, and what came of them: what tests of merging have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean
from dlmine_spark.pipelines.clean import CleanReport

RECEIPTS: dict[str, Any] = {
    "kind": "lines",
    "load": "merge",
    "key": ["basket_id", "item"],
    "columns": {
        "basket_id": "no",
        "ts": "at",
        "item": {"from": "article", "case": "lower"},
        "quantity": {"from": "pieces", "min": 0},
        "price": None,
    },
}
HEADER = "no,at,article,pieces,price"
MONDAY = ("1,2024-03-04,Tea,2,1.5", "1,2024-03-04,milk,1,0.9", "2,2024-03-04,tea,-3,1.5")
TUESDAY = ("3,2024-03-05,tea,1,1.5", "3,2024-03-05,milk,x,0.9", "1,2024-03-04,milk,4,0.9")
TABLES = ("silver.lines", "silver.panel", "silver.quarantine", "silver.repairs")
OF_A_RUN = (s.RUN_ID,)


def receipts(tmp_path: Path, **settings: Any) -> Config:
    declared = {**RECEIPTS, "path": str(tmp_path / "in"), **settings}
    return Config.model_validate({"sources": {"receipts": declared}})


def deliver(tmp_path: Path, name: str, rows: Sequence[str], header: str = HEADER) -> Path:
    """Put a file into the folder where new ones come in."""
    file = tmp_path / "in" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in (header, *rows)), encoding="utf-8")
    return file


def run(config: Config, lakehouse: Lakehouse, run_id: str = "run") -> CleanReport:
    """Clean as a stage does: its own earlier tables are none of its inputs."""
    return clean.run(config, lakehouse.for_run(run_id, {}))


def rows_of(lakehouse: Lakehouse, table: str) -> list[tuple[Any, ...]]:
    """The rows of a table in a fixed order, without what says by which run they were made."""
    frame = lakehouse.read(table).drop(*OF_A_RUN)
    return sorted((tuple(row) for row in frame.collect()), key=repr)


def contents(lakehouse: Lakehouse, tables: Sequence[str] = TABLES) -> Mapping[str, list[tuple[Any, ...]]]:
    return {table: rows_of(lakehouse, table) for table in tables}


def other(lakehouse: Lakehouse, tmp_path: Path, name: str) -> Lakehouse:
    """Another lakehouse, to compare with."""
    return Lakehouse(lakehouse.spark, lakehouse.config.model_copy(update={"root": str(tmp_path / name)}))


def quantities(lakehouse: Lakehouse) -> dict[tuple[str, str], float | None]:
    rows = lakehouse.read("silver.lines").collect()
    return {(row["basket_id"], row["item"]): row["quantity"] for row in rows}


def batches_in_bronze(lakehouse: Lakehouse) -> dict[int, int]:
    """Rows of each batch."""
    return dict(lakehouse.read("bronze.receipts").groupBy(s.BATCH).count().collect())
