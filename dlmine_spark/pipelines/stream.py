"""Stream: a Structured Streaming query that sees new files come in, and has them taken in.

Spark's file source finds the files, at any address, and triggers; it does not read them. What is new is decided by the
ledger of batches (``pipelines.batches``), which every run of ``clean`` shares: a file is taken in exactly once whether
a stream saw it or a run that was started by hand, however often either was killed, and with or without the stream's
checkpoint.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import reduce
from pathlib import Path

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError, DlmineError, NoRowsError
from dlmine_spark.places import root_of
from dlmine_spark.sources import is_local, spark_path

log = logging.getLogger(__name__)

_FILES = "path string, modificationTime timestamp, length bigint, content binary"
_ANY_AGE = "36500d"
"""By default Spark would pass over files that are a week older than the newest one, which are late and not lost."""


def run(config: Config, spark: SparkSession, take_in: Callable[[], None], every: int | None = None) -> None:
    """Call ``take_in`` now, and again whenever new files were seen.

    Args:
        config: the whole configuration.
        spark: the session.
        take_in: brings ``clean`` up to date; called by one thread at a time.
        every: seconds between two looks; None: take in what is there, then return.

    Raises:
        ConfigError: no source is added to by new files.
        DlmineError: from ``take_in``, or what Spark says of a path that it cannot list.
    """
    merged = {name: source for name, source in config.sources.items() if source.load == "merge"}
    paths = sorted({source.path for source in merged.values() if source.database is None})
    if merged and not paths:
        raise ConfigError(
            f"--stream looks for new files, and source {next(iter(merged))} is a table of a database: run dlmine clean "
            "on a schedule, each run takes in what is new"
        )
    if not paths:
        raise ConfigError("--stream: no source has load: merge, so there is nothing that new files are added to")
    try:
        # Also what a stream of the same files saw before is not taken in where the plan has changed.
        take_in()
    except NoRowsError as error:
        if every is None:
            raise
        log.info("%s: waiting for the first one", error)
    failures: list[Exception] = []

    def on_files(_seen: DataFrame, number: int) -> None:
        log.info("stream: new files seen (trigger %d)", number)
        try:
            take_in()
        except Exception as error:
            # Spark would pass on its text only.
            failures.append(error)
            raise

    seen = reduce(DataFrame.unionByName, [_listing(spark, path) for path in paths])
    writer = seen.writeStream.foreachBatch(on_files).option("checkpointLocation", _checkpoint(config, paths))
    if every is None:
        query = writer.trigger(availableNow=True).start()
    else:
        query = writer.trigger(processingTime=f"{every} seconds").start()
        log.info("stream: looking for new files every %d s; Ctrl-C ends it", every)
    try:
        query.awaitTermination()
    except StreamingQueryException as error:
        if failures:
            raise failures[0] from error
        raise DlmineError(f"the stream of {', '.join(paths)} ended: {_first_line(error)}") from error
    finally:
        query.stop()


def _listing(spark: SparkSession, path: str) -> DataFrame:
    options = {"maxFileAge": _ANY_AGE, "recursiveFileLookup": "true"}
    # A folder of this name is none of Spark's patterns.
    literal = spark_path(Path(path)) if is_local(path) and Path(path).exists() else path
    return spark.readStream.format("binaryFile").schema(_FILES).options(**options).load(literal).select("path")


def _checkpoint(config: Config, paths: list[str]) -> str:
    """Where Spark notes what it saw of these paths; of others, it could not go on from there."""
    digest = hashlib.sha256("\n".join(paths).encode()).hexdigest()[:8]
    return f"{root_of(config.lakehouse)}/checkpoints/clean_{digest}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
