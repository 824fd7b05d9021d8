"""Code that spark-submit ships (--py-files), brought to processes that are not Spark's.

Spark puts it on the path of its own Python workers only. Ranks are processes that such a worker starts: they would
look for this package in vain, before a line of ours could run.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable

from pyspark.sql import SparkSession

from dlmine_spark.training.job import LaunchRequest


def with_shipped_code(
    rank: Callable[[LaunchRequest], None], request: LaunchRequest, spark: SparkSession
) -> Callable[[], None]:
    """A rank's work as a function that first finds the shipped code, which lies in an executor's working folder."""
    files = spark.sparkContext.getConf().get("spark.submit.pyFiles", "") or ""
    names = [os.path.basename(file) for file in files.split(",") if file]
    work = pickle.dumps((rank, request))

    # A nested function travels by value; what it imports would otherwise be needed to unpickle it.
    def start() -> None:
        import os
        import pickle
        import sys

        sys.path[1:1] = [os.path.abspath(name) for name in names if os.path.exists(name)]
        function, argument = pickle.loads(work)
        function(argument)

    return start
