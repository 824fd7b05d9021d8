"""Launchers that wait no longer than their ranks live.

A launcher may not notice that a rank is gone: Horovod waits for the exit code of a command on a machine that was
lost, and Spark starts a failed barrier stage again before anybody is told. The ranks that are left do notice, in their
next exchange, and leave a note (``job.run_rank``). So the notes are watched too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from dlmine_spark.training.job import FAILURE_PATTERN

log = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
"""How long after a rank's note its launcher may take to end by itself, which tells more."""
POLL_SECONDS = 0.3


@contextmanager
def ended_with_its_ranks(folder: Path, spark: SparkSession) -> Iterator[None]:
    """Cancel the session's jobs if the block, a launcher's, outlives a failed rank by ``GRACE_SECONDS``.

    Nothing else runs in the session while it trains. The block stays in its thread: Horovod sets signal handlers, which
    Python allows in the main thread only.

    Args:
        folder: where ranks leave their notes.
        spark: the session whose tasks the ranks are.
    """
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(over, folder, spark), name="dlmine-rank-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(over: threading.Event, folder: Path, spark: SparkSession) -> None:
    while not any(folder.glob(FAILURE_PATTERN)):
        if over.wait(POLL_SECONDS):
            return
    # More than once: a job that was just being planned would have been missed.
    while not over.wait(GRACE_SECONDS):
        log.debug("the launcher did not end in the %.0f s after a rank had failed", GRACE_SECONDS)
        spark.sparkContext.cancelAllJobs()
