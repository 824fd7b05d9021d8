"""How many tasks Spark can run at the same time; asked first, since what waits for a slot that never comes hangs."""

from __future__ import annotations

import logging
import time

from pyspark.sql import SparkSession

from dlmine_spark.errors import EnvironmentProblem

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
WAIT_SECONDS = 40.0
"""Longest wait for executors that are to come; some ten seconds are usual. Nobody learns more by waiting longer."""


def require_slots(spark: SparkSession, ranks: int, timeout: float) -> None:
    """Wait until Spark can run ``ranks`` tasks at once; executors of a cluster may still be starting.

    Raises:
        EnvironmentProblem: there are fewer slots when the time is over, or the session is a remote one (Spark Connect),
            from which ranks cannot be started.
    """
    master = _master(spark)
    deadline = time.monotonic() + timeout
    while True:
        slots = count_slots(spark)
        if slots >= ranks:
            return
        # A local master never gets more slots than it has.
        if master.startswith("local") or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    more = "" if is_local(spark) else " (more executors, or more cores for each: --num-executors, --executor-cores)"
    raise EnvironmentProblem(
        f"training.workers is {ranks}, but Spark ({master}) can run only {slots} tasks at once: "
        f"set training.workers={max(1, slots)}, or give Spark more cores{more}"
    )


def first_slot(spark: SparkSession, timeout: float) -> bool:
    """Wait until Spark can run a task, which on a cluster means that an executor is there; whether it can."""
    deadline = time.monotonic() + timeout
    while count_slots(spark) == 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def slots_left(spark: SparkSession, wanted: int, timeout: float) -> int:
    """Tasks that Spark can run at once, ``wanted`` at most; waits for executors that are being replaced.

    Raises:
        EnvironmentProblem: there is not even one slot when the time is over.
    """
    if is_local(spark):
        # Nothing of it can be lost without the session.
        return wanted
    deadline = time.monotonic() + timeout
    while count_slots(spark) < wanted and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    left = min(wanted, count_slots(spark))
    require_slots(spark, max(1, left), 0.0)
    return left


def is_local(spark: SparkSession) -> bool:
    """Whether driver and executors are one process on this machine."""
    return _master(spark).startswith("local[") or _master(spark) == "local"


def _master(spark: SparkSession) -> str:
    return str(spark.conf.get("spark.master", ""))


def count_slots(spark: SparkSession) -> int:
    """Tasks that Spark can run at once, now.

    Raises:
        EnvironmentProblem: the session is a remote one (Spark Connect).
    """
    try:
        context = spark.sparkContext._jsc.sc()
    except Exception as error:
        # pyspark raises a PySparkException or, by version, an AttributeError.
        raise EnvironmentProblem(
            "training ranks cannot be started through Spark Connect: use spark-submit, or training.backend=local"
        ) from error
    profile = context.resourceProfileManager().defaultResourceProfile()
    return int(context.maxNumConcurrentTasks(profile))
