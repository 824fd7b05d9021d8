"""What a session does when its JVM does not survive; in a process of its own, for the tests' session must."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dlmine_spark.clusters import first_line
from dlmine_spark.session import _NO_DELTA, _told_by_delta

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


INTERRUPTED = """
import os, signal, subprocess, threading
from dlmine_spark.config import SparkConfig
from dlmine_spark.session import open_session

threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
with open_session(SparkConfig(master="local[1]", driver_memory="600m", jvm="quick")):
    raise SystemExit("was not interrupted")
"""


@pytest.mark.spark
def test_an_interrupt_while_spark_starts_leaves_no_jvm_behind() -> None:
    # The pipe is closed once the last process that has it is gone.
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60)

    assert done.stderr.strip().splitlines()[-1] == "KeyboardInterrupt"
    assert "NoSuchFileException" not in done.stderr


@pytest.mark.parametrize(
    ("message", "is_there"),
    [
        ("[DELTA_TABLE_ONLY_OPERATION] `/nonexistent-dlmine-probe` is not a Delta table.", True),
        (
            "Cannot find catalog plugin class for 'spark_catalog': org.apache.spark.sql.delta.catalog.DeltaCatalog.",
            False,
        ),
        ("[PARSE_SYNTAX_ERROR] Syntax error at or near 'HISTORY'. DESCRIBE HISTORY delta.`/nonexistent`", False),
    ],
)
def test_delta_is_there_if_it_is_delta_that_refuses(message: str, is_there: bool) -> None:
    assert _told_by_delta(message) is is_there


@pytest.mark.parametrize(
    "trace",
    [
        "Caused by: java.lang.ClassNotFoundException: org.apache.spark.sql.delta.files.DeltaFileFormatWriter$$",
        "Caused by: java.lang.ClassCastException: cannot assign instance of java.lang.invoke.SerializedLambda to x",
    ],
)
def test_executors_without_delta_are_known_by_their_traces(trace: str) -> None:
    assert _NO_DELTA.search(trace)


def test_what_java_says_is_told_not_which_object_was_called() -> None:
    told = first_line(Exception("An error occurred while calling o80.sql.\n: java.io.IOException: no\n\tat x"))

    assert told == "java.io.IOException: no"
