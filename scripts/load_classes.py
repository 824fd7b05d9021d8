"""Run by set-up: does once what sessions do, so that Java can archive the classes that it takes."""

import tempfile

import pandas as pd
from pyspark.sql import functions as F

from dlmine_spark.config import LakehouseConfig, SparkConfig
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.session import open_session


def double(rows: pd.DataFrame) -> pd.DataFrame:
    """Stand for any function of one group."""
    return rows.assign(y=2 * rows["y"])


with tempfile.TemporaryDirectory() as folder, open_session(SparkConfig()) as spark:
    lakehouse = Lakehouse(spark, LakehouseConfig(root=folder))
    numbers = spark.range(100).select((F.col("id") % 7).alias("unique_id"), F.col("id").cast("double").alias("y"))
    lakehouse.overwrite("silver.numbers", numbers)
    grouped = lakehouse.read("silver.numbers").groupBy("unique_id").applyInPandas(double, "unique_id bigint, y double")
    lakehouse.overwrite("silver.numbers", grouped, replace_where="unique_id >= 0")
    totals = grouped.groupBy("unique_id").agg(F.sum("y").alias("y"), F.median("y").alias("median"))
    totals.join(numbers, on="unique_id", how="left").orderBy("median").toPandas()
