"""Plain Python reads numbers as Spark's expressions do."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dlmine_spark.cleaning.notation import number_of
from dlmine_spark.cleaning.parse import number

TEXTS = (
    "12", "-3.5", "+7", ".5", "1,234", "1.234", "1,234.5", "1.234,5", "12,5", "1.234.567", "1,00,000", "1'234.50",
    "1 234,50", "€ 12.50", "12,50 €", "EUR 3", "$1,000", "(12.50)", "12.50-", "−4", "12,5 %", "3%", "1e5", "1e400",
    "2 kg", "n/a", "--", "007", "1,2,3", "١٢", "12.5.3", "1.5e-3", "", "0,5", "1,234,5",
)  # fmt: skip


@pytest.mark.spark
@pytest.mark.parametrize("decimal", [".", ","])
def test_python_reads_the_numbers_that_spark_reads(spark: SparkSession, decimal: str) -> None:
    rows = spark.createDataFrame([(text,) for text in TEXTS], "cell string")
    by_spark = {
        row["cell"]: row["value"]
        for row in rows.select("cell", number(F.col("cell"), decimal).alias("value")).collect()
    }

    by_python = {text: number_of(text, decimal) for text in TEXTS}  # type: ignore[arg-type]

    assert by_python == pytest.approx(by_spark)
    assert by_python["12,5 %"] == pytest.approx(0.125)
