"""A configuration guessed from a table of a real PostgreSQL server runs as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.config import load_config
from dlmine_spark.errors import ConfigError, SourceError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean, init
from tests.database.conftest import PASSWORD, Postgres

pytestmark = pytest.mark.spark

SALES = """
CREATE TABLE sales (store text, day date, sales numeric(9, 2), promo boolean);
INSERT INTO sales SELECT 'S' || s, '2024-01-01'::date + d, 100 * s + d % 7, d % 5 = 0
  FROM generate_series(1, 3) s, generate_series(0, 119) d;
"""


def test_a_guessed_table_is_cleaned_as_it_is(
    spark: SparkSession, lakehouse: Lakehouse, database: Postgres, tmp_path: Path
) -> None:
    database.run(SALES)
    out = tmp_path / "sales.yaml"

    said = init.run([], out, table=init.of_database(database.address, "public.sales", "shop"))

    assert said.startswith(f"{database.address}: panel, day and sales")
    assert "guessed from all 360 rows" in said
    assert PASSWORD not in out.read_text(encoding="utf-8")
    report = clean.run(load_config([out]), lakehouse)
    assert report.rows_out == 360
    columns = lakehouse.read("silver.panel").columns
    assert {"unique_id", "ds", "y", "promo"} <= set(columns)


def test_a_table_without_rows_and_an_address_with_a_password(spark: SparkSession, database: Postgres) -> None:
    database.run("CREATE TABLE sales (store text)")
    with pytest.raises(SourceError, match=r"#sales: holds no rows"):
        init.of_database(database.address, "sales", "shop")
    with pytest.raises(ConfigError, match=r"^path: holds a user or a password"):
        init.of_database("jdbc:postgresql://clerk:s3cret@db/shop", "sales", None)
