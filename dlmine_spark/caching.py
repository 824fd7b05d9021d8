"""Frames that are computed once and read several times."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

log = logging.getLogger(__name__)


@contextmanager
def kept(frame: DataFrame) -> Iterator[DataFrame]:
    """The frame, computed at most once while it is in use; what memory does not hold goes to disk.

    Serverless platforms keep nothing: there it is computed as often as it is read.
    """
    try:
        cached = frame.persist()
    except PySparkException as error:
        log.debug("this platform keeps no frames: %s", error)
        yield frame
        return
    try:
        yield cached
    finally:
        cached.unpersist()
