"""Dry run: clean into a scratch folder, tell what would change, and leave every table as it is."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pandas as pd
from pyspark.sql import DataFrame

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean
from dlmine_spark.pipelines.common import reasons_by_rule, repairs_by_rule
from dlmine_spark.pipelines.scratch import scratch_lakehouse

log = logging.getLogger(__name__)

_MOST_RULES = 200
_SHOWN_LETTERS = 60


def run(config: Config, lakehouse: Lakehouse) -> dict[str, str]:
    """Clean as ``clean`` would, beside the tables, and compare.

    Returns:
        Heading -> a table to read: rows of each source, what each rule would do with an example, and how many rows of
        each silver table would go and come.

    Raises:
        ConfigError: the tables lie where no scratch folder can be made and removed.
        SourceError: as ``clean`` raises it.
    """
    with scratch_lakehouse(lakehouse.spark, config.lakehouse, "dry-run") as trial:
        if lakehouse.version(s.PROFILES.name) is not None:
            # What the sources are compared with.
            trial.overwrite(s.PROFILES.name, lakehouse.read(s.PROFILES.name))
        report = clean.run(config, trial)
        fates = pd.DataFrame(
            [(one.source, *(getattr(one, fate) for fate in s.FATES)) for one in report.sources],
            columns=["source", *s.FATES],
        )
        return {
            "rows": _shown(fates),
            "cells that would be repaired": _shown(repairs_by_rule(trial.read(s.REPAIRS.name), _MOST_RULES)),
            "rows that would be refused": _shown(reasons_by_rule(trial.read(s.QUARANTINE.name), _MOST_RULES)),
            "silver tables": _shown(_changes(lakehouse, trial)),
        }


def _changes(lakehouse: Lakehouse, trial: Lakehouse) -> pd.DataFrame:
    """One row per silver table of rows: how many it has, would have, and which of them are different ones."""
    records = {s.REPAIRS.name, s.QUARANTINE.name, s.SUSPICIONS.name, s.DEPENDENCIES.name}
    tables = sorted(name for name in trial.written if name.startswith("silver.") and name not in records)
    return pd.DataFrame(
        [(table, *_change(lakehouse, trial, table)) for table in tables],
        columns=["table", "rows now", "rows then", "would go", "would come", "columns"],
    )


def _change(lakehouse: Lakehouse, trial: Lakehouse, table: str) -> tuple[int, int, int, int, str]:
    then = trial.read(table)
    if lakehouse.version(table) is None:
        return 0, then.count(), 0, then.count(), "new table"
    now = lakehouse.read(table)
    shared = [name for name in then.columns if name in now.columns and now.schema[name] == then.schema[name]]
    columns = [f"+{name}" for name in then.columns if name not in shared]
    columns += [f"-{name}" for name in now.columns if name not in shared]
    going = _only_in(now, then, shared)
    return now.count(), then.count(), going, _only_in(then, now, shared), " ".join(columns)


def _only_in(rows: DataFrame, others: DataFrame, columns: Sequence[str]) -> int:
    quoted = [f"`{name}`" for name in columns]
    return rows.select(*quoted).exceptAll(others.select(*quoted)).count()


def _shown(table: pd.DataFrame) -> str:
    if table.empty:
        return "none"
    texts = table.apply(lambda cells: cells.map(lambda cell: "" if pd.isna(cell) else str(cell)[:_SHOWN_LETTERS]))
    return str(texts.to_string(index=False))
