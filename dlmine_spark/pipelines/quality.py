"""Mined quality rules as a part of ``clean``: mine a source's judged rows, treat them, record what was found."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.plan import SUSPICIONS, is_good
from dlmine_spark.cleaning.quality import mine_quality, treat_suspicious
from dlmine_spark.config import ColumnConfig, MinedRules
from dlmine_spark.lakehouse import Lakehouse

log = logging.getLogger(__name__)


def treat_source(
    lakehouse: Lakehouse,
    name: str,
    columns: Mapping[str, ColumnConfig],
    settings: MinedRules,
    key: Sequence[str],
) -> None:
    """Replace ``staging.<name>`` by its rows with ``SUSPICIONS``; what was found lies beside it.

    Writes ``staging.<name>__suspicions``, one row per suspicious cell, so that the table's rows are joined with a
    small table instead of with the plan that made it, and ``staging.<name>__dependencies``.
    """
    judged = lakehouse.read(f"staging.{name}")
    good = judged.where(is_good())
    quality, suspicious = mine_quality(good, columns, settings)
    lakehouse.overwrite(f"staging.{name}__suspicions", suspicious)
    treated = treat_suspicious(good, lakehouse.read(f"staging.{name}__suspicions"), quality, columns, settings, key)
    rest = judged.where(~is_good())
    lakehouse.overwrite(f"staging.{name}", treated.unionByName(rest, allowMissingColumns=True))
    found = [
        (
            name,
            list(one.determinant),
            one.value,
            one.dependent,
            list(one.usual),
            one.error,
            one.groups,
            one.rows,
            lakehouse.run_id,
        )
        for one in quality.dependencies
    ]
    lakehouse.overwrite(f"staging.{name}__dependencies", lakehouse.spark.createDataFrame(found, s.DEPENDENCIES.ddl))
    log.info(
        "source %s: %d columns looked at for suspicious cells, %d dependencies in use: %s",
        name,
        len(quality.columns),
        len(found),
        ", ".join(str(one) for one in quality.dependencies[:10]) or "none",
    )


def write_findings(lakehouse: Lakehouse, staged: Mapping[str, DataFrame]) -> None:
    """Write ``silver.suspicions`` and ``silver.dependencies`` of the sources whose rules are mined.

    Without any such source the tables are emptied, if an earlier run left them.

    Args:
        lakehouse: the tables.
        staged: source -> its treated rows with a column ``__key`` that names a row.
    """
    if not staged:
        for table in (s.SUSPICIONS, s.DEPENDENCIES):
            if lakehouse.version(table.name) is not None:
                lakehouse.overwrite(table.name, lakehouse.spark.createDataFrame([], table.ddl))
        return
    cells = [
        rows.select(F.lit(name).alias("source"), F.col("__key").alias("key"), F.explode(SUSPICIONS).alias("cell"))
        .select("source", "key", "cell.*")
        .withColumn(s.RUN_ID, F.lit(lakehouse.run_id))
        for name, rows in staged.items()
    ]
    lakehouse.overwrite(s.SUSPICIONS.name, reduce(DataFrame.unionByName, cells))
    rules = [lakehouse.read(f"staging.{name}__dependencies") for name in staged]
    lakehouse.overwrite(s.DEPENDENCIES.name, reduce(DataFrame.unionByName, rules))
