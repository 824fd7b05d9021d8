"""Rules that outlive the run: what cleaning made true of a table, no other writer can undo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.cleaning.columns import declared_columns
from dlmine_spark.cleaning.constraints import constraint_of
from dlmine_spark.config import Config, SourceConfig
from dlmine_spark.errors import TableContractError
from dlmine_spark.lakehouse import CHECK_PREFIX, Lakehouse
from dlmine_spark.pipelines import clean

CUSTOMERS = {
    "id": {"required": True},
    "age": {"type": "double", "min": 0, "max": 120},
    "sex": {"allowed": ["f", "m", "it's"]},
    "height": {"type": "double", "min": 0, "out_of_range": "warn"},
}


def table(path: str = "c.csv", columns: dict[str, Any] = CUSTOMERS) -> SourceConfig:
    return SourceConfig.model_validate({"kind": "table", "path": path, "columns": columns})


def test_what_is_repaired_or_refused_is_promised_and_what_only_warns_is_not() -> None:
    source = table()

    promised = constraint_of(source, declared_columns(source), ["id", "age", "sex", "height"])

    assert promised == (
        "`id` IS NOT NULL AND (`age` IS NULL OR (`age` >= 0.0 AND `age` <= 120.0)) AND "
        "(`sex` IS NULL OR `sex` IN ('f', 'm', 'it\\'s'))"
    )
    assert constraint_of(table(columns={"id": None}), {}, ["id"]) is None


@pytest.mark.spark
def test_a_wrong_row_cannot_enter_by_another_door(lakehouse: Lakehouse, spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("id,age,sex,height\na,30,f,170\nb,,it's,-5\n", encoding="utf-8")
    first = Config.model_validate({"sources": {"customers": table(str(path))}})
    clean.run(first, lakehouse)
    wrong = spark.sql("select 'c' as id, -1.0D as age, 'f' as sex, 1.0D as height")

    with pytest.raises(TableContractError, match=rf"silver.customers .*CHECK constraint {CHECK_PREFIX}.*violated"):
        lakehouse.append("silver.customers", wrong)

    # The same plan leaves the constraint as it is, another one has its own.
    version = lakehouse.version("silver.customers") or 0
    clean.run(first, lakehouse)
    assert lakehouse.version("silver.customers") == version + 1
    wider = {**CUSTOMERS, "age": {"type": "double", "min": -1}}
    clean.run(Config.model_validate({"sources": {"customers": table(str(path), wider)}}), lakehouse)
    lakehouse.append("silver.customers", wrong)
    assert lakehouse.read("silver.customers").count() == 3

    # And a table whose plan promises nothing is held to nothing.
    clean.run(
        Config.model_validate({"sources": {"customers": table(str(path), {"id": {"required": False}})}}), lakehouse
    )
    lakehouse.append("silver.customers", spark.sql("select cast(null as string) as id"))
