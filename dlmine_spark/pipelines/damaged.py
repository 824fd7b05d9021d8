"""Damaged tables of ours: told before a stage begins, and set aside where they are to be written anew."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import DlmineError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import batches

log = logging.getLogger(__name__)


def refuse(lakehouse: Lakehouse, tables: Iterable[str], stage: str) -> None:
    """Refuse to go on where a table's log is damaged: Delta would read it wrongly, or say so in pages of Java.

    Raises:
        DlmineError: naming the table, what it lacks, and the command that writes it anew.
    """
    for table in dict.fromkeys(tables):
        damage = lakehouse.damage(table)
        if damage is not None:
            raise DlmineError(
                f"{table} ({lakehouse.address(table)}): is damaged, {damage}: 'dlmine {stage} --force' sets it aside "
                "and writes it anew; or bring the file back from a copy"
            )


def set_aside(config: Config, lakehouse: Lakehouse) -> list[str]:
    """Move all damaged tables of a local lakehouse out of the way, so that stages write them anew; nothing is deleted.

    Returns:
        Their names.

    Raises:
        DlmineError: one of them holds what no stage could write anew.
    """
    damaged = {table: damage for table in lakehouse.local_tables() if (damage := lakehouse.damage(table)) is not None}
    merged = [name for name, source in config.sources.items() if source.load == "merge"]
    lasting = {s.CORRECTIONS.name}
    if merged:
        lasting |= {s.FILES.name, s.BATCHES.name, *(f"bronze.{name}" for name in merged)}
    for table in sorted(damaged.keys() & lasting):
        raise DlmineError(
            f"{table} ({lakehouse.address(table)}): is damaged, {damaged[table]}, and no stage can write it anew, "
            "since it holds what came earlier: bring the file back from a copy; or move the folder away and lose it"
        )
    for table, damage in damaged.items():
        log.warning("%s: was damaged, %s; set aside in %s", table, damage, lakehouse.set_aside(table))
    if merged and any(table.startswith("silver.") for table in damaged):
        # What is new alone would be merged into a table that is not there.
        batches.judge_anew(lakehouse, merged)
    return list(damaged)
