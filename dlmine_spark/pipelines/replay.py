"""Replay: take up what was corrected in ``silver.quarantine``, to be judged again by the next ``clean``."""

from __future__ import annotations

import logging
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.corrections import corrected_row, unknown_cells
from dlmine_spark.config import Config
from dlmine_spark.errors import TableContractError
from dlmine_spark.lakehouse import Lakehouse

log = logging.getLogger(__name__)

_KEYS = ("source", "row")


def take_up_corrections(config: Config, lakehouse: Lakehouse) -> int:
    """Keep the corrections of refused rows in ``ops.corrections``, where every later run of ``clean`` finds them.

    A correction of a row that was corrected before, and refused again, takes the place of the earlier one.

    Returns:
        How many there are to take up.

    Raises:
        TableContractError: there is no quarantine, or a correction is no JSON object of the source's columns.
    """
    if lakehouse.version(s.QUARANTINE.name) is None:
        raise TableContractError(f"{s.QUARANTINE.name}: there is no such table; run 'dlmine clean' first")
    quarantine = lakehouse.read(s.QUARANTINE.name).where(F.col("corrected").isNotNull())
    found = quarantine.groupBy(*_KEYS).agg(F.max("corrected").alias("corrected"))
    # A source that is new in the configuration has no bronze yet, and nothing to correct.
    ingested = [name for name in config.sources if lakehouse.version(f"bronze.{name}") is not None]
    if not ingested:
        return 0
    parts = [_of_source(lakehouse, name, found.where(F.col("source") == name)) for name in ingested]
    new = reduce(DataFrame.unionByName, parts).localCheckpoint()
    if new.isEmpty():
        return 0
    _keep(lakehouse, new)
    return new.count()


def _of_source(lakehouse: Lakehouse, name: str, corrections: DataFrame) -> DataFrame:
    bronze = lakehouse.read(f"bronze.{name}")
    judged = corrections.select(
        *_KEYS,
        F.col("corrected").alias("given"),
        corrected_row(F.col("corrected"), bronze).alias("corrected"),
        unknown_cells(F.col("corrected"), bronze).alias("unknown"),
    )
    wrong = judged.where(F.col("corrected").isNull() | (F.size("unknown") > 0)).orderBy("row").first()
    if wrong is not None:
        problem = f"has no column {', '.join(wrong['unknown'])}" if wrong["unknown"] else "is no JSON object"
        raise TableContractError(
            f"{s.QUARANTINE.name}: the correction {wrong['given']!r} of source {name} {problem}; nothing was taken up"
        )
    return judged.select(*_KEYS, "corrected")


def _keep(lakehouse: Lakehouse, new: DataFrame) -> None:
    if lakehouse.version(s.CORRECTIONS.name) is not None:
        old = lakehouse.read(s.CORRECTIONS.name).select(
            "source", F.col("corrected").alias("row"), F.col("row").alias("first")
        )
        # What was refused again is shown as it was corrected; it stands for the row that came.
        new = new.join(old, on=list(_KEYS), how="left").select(
            "source", F.coalesce("first", "row").alias("row"), "corrected"
        )
    kept = new.withColumns({"corrected_at": F.current_timestamp(), s.RUN_ID: F.lit(lakehouse.run_id)})
    if lakehouse.version(s.CORRECTIONS.name) is None:
        lakehouse.overwrite(s.CORRECTIONS.name, kept)
    else:
        lakehouse.merge(s.CORRECTIONS.name, kept, keys=_KEYS)
