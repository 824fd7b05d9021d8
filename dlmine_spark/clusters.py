"""What a cluster has to provide, asked for before any work starts: an answer, executors, and Python in them.

Spark waits for what is missing, tries again for minutes, or tells of it in the middle of a Java trace. Here it is one
line within a minute, with the way out.
"""

from __future__ import annotations

import logging
import re
import socket
import sys
from urllib.parse import urlsplit

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.slots import first_slot

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
"""How long a cluster may take to accept a connection."""
DEFAULT_PORTS = {"spark": 7077, "sc": 15002}
NEEDED_BY_EXECUTORS = ("dlmine_spark", "numpy", "pandas", "pyarrow", "pydantic", "scipy")
"""What tasks of any stage import."""


def require_answer(address: str) -> None:
    """See within seconds whether anybody listens at the address of a standalone cluster or of Spark Connect.

    Other clusters (YARN, Kubernetes) are found by files of their own, and their clients fail in time.

    Raises:
        EnvironmentProblem: nobody does.
    """
    scheme, _, rest = address.partition("://")
    if scheme not in DEFAULT_PORTS:
        return
    problems = []
    # A standalone cluster may have several masters: spark://one:7077,two:7077.
    for master in rest.partition("/")[0].split(","):
        try:
            place = urlsplit(f"//{master}")
            target = (place.hostname or "", place.port or DEFAULT_PORTS[scheme])
            socket.create_connection(target, CONNECT_SECONDS).close()
        except (OSError, ValueError) as error:
            problems.append(f"{master}: {error}")
        else:
            return
    raise EnvironmentProblem(
        f"no Spark cluster answers at {address} ({'; '.join(problems)}): is it running, and is that its "
        "address (--master, spark.master, spark.remote)? 'scripts/cluster up' starts one on this machine"
    )


def require_executors(spark: SparkSession, timeout: float) -> None:
    """Wait for an executor, and see whether it can run our Python code.

    Runs one small task, which also has an executor fetch and unpack what spark-submit ships.

    Raises:
        EnvironmentProblem: none came in ``timeout`` seconds, or its Python is missing, another version or incomplete.
    """
    context = spark.sparkContext
    pages = f"what became of them is told on the cluster's page of {context.applicationId}"
    try:
        came = first_slot(spark, timeout)
    except Py4JError as error:
        raise EnvironmentProblem(f"{context.master} ended this application ({first_line(error)}); {pages}") from error
    if not came:
        settings = context.getConf()
        cores, memory = settings.get("spark.executor.cores", "all"), settings.get("spark.executor.memory", "1g")
        raise EnvironmentProblem(
            f"{context.master} gave no executor in {timeout:.0f} s; asked for were such of {cores} cores and {memory} "
            "of memory. Ask for less (--executor-cores, --executor-memory, or spark.conf), wait until others leave "
            f"some, or raise spark.executor_timeout where machines start first; if executors started and ended, "
            f"{pages}"
        )
    python = str(context.pythonExec)
    needed = NEEDED_BY_EXECUTORS

    # A nested function travels by value: the executor need not import this package to run it.
    def introduce(_: int) -> tuple[str, list[str]]:
        import importlib.util
        import platform

        return platform.python_version(), [name for name in needed if importlib.util.find_spec(name) is None]

    try:
        version, lacking = context.parallelize([0], 1).map(introduce).collect()[0]
    except (Py4JJavaError, PySparkException) as error:
        raise EnvironmentProblem(why_no_python(str(error), python)) from error
    if lacking:
        raise EnvironmentProblem(
            f"the executors' Python ({python}, {version}) cannot import {', '.join(lacking)}: ship the packages with "
            "--archives environment-….tar.gz#environment and dlmine_spark with --py-files dlmine_spark.zip "
            "(scripts/package makes both), or install them on every machine (docs/clusters.md)"
        )
    log.debug("executors run Python %s (%s)", version, python)


def why_no_python(trace: str, python: str) -> str:
    """What keeps executors from running Python, by the trace of a task that failed for it."""
    here = ".".join(map(str, sys.version_info[:2]))
    remedy = (
        f"they need Python {here}, as the driver has: ship it with --archives environment-….tar.gz#environment "
        "(scripts/package makes it) and --conf spark.pyspark.python=./environment/bin/python, or let "
        "spark.pyspark.python name one that every machine has"
    )
    if "PYTHON_VERSION_MISMATCH" in trace:
        found = re.search(r"different version: (\S+) than", trace)
        return f"the executors' Python ({python}) is {found[1] if found else 'another version'}: {remedy}"
    if "Cannot run program" in trace:
        reason = re.search(r"error=\d+, ([^\n]+)", trace)
        return f"the executors have no Python at {python} ({reason[1] if reason else 'it cannot be run'}): {remedy}"
    return f"the executors' Python ({python}) does not run ({cause(trace)}): {remedy}"


def cause(trace: str) -> str:
    """The innermost cause that a Java trace names, else its first line."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return ([*lines[:1], *causes] or ["no word"])[-1][:300]


def first_line(error: BaseException) -> str:
    """What an error of Spark says in short, with its condition where it has one."""
    if isinstance(error, PySparkException) and error.getCondition():
        return f"{error.getCondition()}: {str(error).splitlines()[0]}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Py4J begins with which of its objects was called; what Java said follows.
    java = len(lines) > 1 and lines[0].startswith("An error occurred while calling")
    return lines[1].removeprefix(": ") if java else lines[0]
