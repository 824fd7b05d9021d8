"""Spark actions that do not depend on each other, run at the same time.

Planning a query keeps one core of the driver busy and leaves the executors idle, and a small table never fills them;
together, independent actions take little longer than the longest of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from functools import partial
from typing import TypeVar

from pyspark import inheritable_thread_target
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

Result = TypeVar("Result")

_UNKNOWN = 200
"""Spark's own number of tasks after a shuffle, where a platform says "auto"."""
AT_ONCE = 4
"""Actions of one call running at a time: their tasks share the cluster's slots, more would only wait for each other."""


def cores(spark: SparkSession) -> int:
    """Tasks that run at the same time; over Spark Connect, where nobody tells, the tasks after a shuffle."""
    try:
        return int(spark.sparkContext.defaultParallelism)
    except PySparkException:
        return shuffle_tasks(spark)


def shuffle_tasks(spark: SparkSession) -> int:
    """As many as the session has after a shuffle."""
    session = str(spark.conf.get("spark.sql.shuffle.partitions"))
    return int(session) if session.isdigit() else _UNKNOWN


def in_parallel(spark: SparkSession, actions: Mapping[str, Callable[[], Result]]) -> dict[str, Result]:
    """Run every action in a thread that has the caller's Spark properties.

    Once an action fails, none is started any more; those that run are let finish, since a thread cannot be stopped.
    An action may itself call this: the limit holds for each call.

    Returns:
        The actions' results under their names, in the order of ``actions``.

    Raises:
        Exception: that of the first action, in the order of ``actions``, that failed, whichever failed earliest.
    """
    has_failed = threading.Event()

    def guarded(action: Callable[[], Result]) -> Result:
        # The pool hands out the next action before anybody could cancel it.
        if has_failed.is_set():
            raise CancelledError
        try:
            return action()
        except BaseException:
            has_failed.set()
            raise

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="dlmine") as pool:
        # A copy of the properties for each: Spark notes there which query a thread is in.
        futures = {
            name: pool.submit(inheritable_thread_target(spark)(partial(guarded, action)))
            for name, action in actions.items()
        }
        try:
            wait(futures.values(), return_when=FIRST_EXCEPTION)
        finally:
            has_failed.set()
            pool.shutdown(wait=True, cancel_futures=True)
    # An action can be handed out first and still find that a later one has failed: cancelled is not failed.
    for future in futures.values():
        if not future.cancelled() and (error := future.exception()) and not isinstance(error, CancelledError):
            raise error
    return {name: future.result() for name, future in futures.items()}
