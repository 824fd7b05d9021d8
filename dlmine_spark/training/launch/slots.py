"""Whether Spark can run all ranks at the same time; asked first, since a gang that waits for a slot hangs."""

from __future__ import annotations

import logging
import time

from pyspark.sql import SparkSession

from dlmine_spark.errors import EnvironmentProblem

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0


def require_slots(spark: SparkSession, ranks: int, timeout: float) -> None:
    """Wait until Spark can run ``ranks`` tasks at once; executors of a cluster may still be starting.

    Raises:
        EnvironmentProblem: there are fewer slots when the time is over, or the session is a remote one (Spark Connect),
            from which ranks cannot be started.
    """
    master = _master(spark)
    deadline = time.monotonic() + timeout
    while True:
        slots = _slots(spark)
        if slots >= ranks:
            return
        # A local master never gets more slots than it has.
        if master.startswith("local") or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    raise EnvironmentProblem(
        f"training.workers is {ranks}, but Spark ({master}) can run only {slots} tasks at once: "
        f"set training.workers={max(1, slots)}, or give Spark more cores"
    )


def slots_left(spark: SparkSession, wanted: int, timeout: float) -> int:
    """Tasks that Spark can run at once, ``wanted`` at most; waits for executors that are being replaced.

    Raises:
        EnvironmentProblem: there is not even one slot when the time is over.
    """
    if is_local(spark):
        # Nothing of it can be lost without the session.
        return wanted
    deadline = time.monotonic() + timeout
    while _slots(spark) < wanted and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    left = min(wanted, _slots(spark))
    require_slots(spark, max(1, left), 0.0)
    return left


def is_local(spark: SparkSession) -> bool:
    """Whether driver and executors are one process on this machine."""
    return _master(spark).startswith("local[") or _master(spark) == "local"


def _master(spark: SparkSession) -> str:
    return str(spark.conf.get("spark.master", ""))


def _slots(spark: SparkSession) -> int:
    try:
        context = spark.sparkContext._jsc.sc()
    except Exception as error:
        # pyspark raises a PySparkException or, by version, an AttributeError.
        raise EnvironmentProblem(
            "training ranks cannot be started through Spark Connect: use spark-submit, or training.backend=local"
        ) from error
    profile = context.resourceProfileManager().defaultResourceProfile()
    return int(context.maxNumConcurrentTasks(profile))
