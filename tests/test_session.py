"""What a session does when its JVM does not survive; in a process of its own, for the tests' session must."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.session import check_delta

PROGRAM = """
import os, signal
from dlmine_spark.config import SparkConfig
from dlmine_spark.session import open_session

with open_session(SparkConfig(master="local[1]", driver_memory="600m", jvm="quick")) as spark:
    os.kill(spark.sparkContext._gateway.proc.pid, signal.SIGKILL)
    spark.range(1).count()
"""


@pytest.mark.spark
def test_a_jvm_that_was_killed_is_told_of() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)

    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("dlmine_spark.errors.EnvironmentProblem: Spark's JVM ended while it worked (it was killed")
    assert "raise spark.driver_memory (now 600m)" in last


@pytest.mark.spark
def test_a_session_without_deltas_catalog_is_refused(spark: SparkSession) -> None:
    class WithoutCatalog:
        """The session, as if its catalog were Spark's own."""

        def __init__(self) -> None:
            self.sql = spark.sql
            self.conf = {"spark.sql.catalog.spark_catalog": "builtin"}

    check_delta(spark)
    with pytest.raises(EnvironmentProblem, match=r"not its catalog.*spark\.sql\.catalog\.spark_catalog="):
        check_delta(WithoutCatalog())  # type: ignore[arg-type]
