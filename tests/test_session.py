"""What a session does when its JVM does not survive; in a process of its own, for the tests' session must."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
