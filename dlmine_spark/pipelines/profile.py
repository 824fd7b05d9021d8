"""Profile: look at every source as it came, and write a cleaning plan; no table is written."""

from __future__ import annotations

import logging
from pathlib import Path

from dlmine_spark import schemas as s
from dlmine_spark import sources
from dlmine_spark.cleaning.profile import profile_table
from dlmine_spark.cleaning.profile_plan import plan_text, table_text
from dlmine_spark.config import Config, MinedRules
from dlmine_spark.errors import SourceError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.files import written_whole
from dlmine_spark.places import local_path

log = logging.getLogger(__name__)

PLAN = "profile.yaml"


def plan_path(config: Config, chosen: Path | None) -> Path:
    """Where the plan is written: where the user says, else beside the lakehouse, else in the working folder."""
    if chosen is not None:
        return chosen
    root = local_path(config.lakehouse.root) if config.lakehouse.catalog is None else None
    return (root.parent if root is not None else Path()) / PLAN


def run(config: Config, lakehouse: Lakehouse, plan: Path) -> dict[str, str]:
    """Profile every source and write the plan.

    Returns:
        Source -> its profile as a table to read.

    Raises:
        SourceError: a file cannot be used, or holds no rows.
        ConfigError: the plan cannot be written.
    """
    profiles = {}
    for name, source in config.sources.items():
        rows = sources.read_source(lakehouse.spark, name, source, lakehouse.run_id)
        names = [column for column in rows.columns if column not in s.BRONZE_METADATA]
        # A line that could not be split has no cells.
        lines = rows.where(rows[s.RAW_LINE].isNull())
        with sources.reading(name, source):
            profile = profile_table(lines, names, source.null_tokens, source.mining or MinedRules())
        if profile.rows == 0:
            raise SourceError(f"{source.path} (source {name}): holds no rows to profile")
        profiles[name] = (source, profile)
        log.info("source %s: %s rows profiled", name, f"{profile.rows:,}")
    text = plan_text(config.lakehouse.root, profiles)
    with written_whole(plan, force=True) as partial:
        partial.write_text(text, encoding="utf-8")
    return {name: table_text(name, profile) for name, (_, profile) in profiles.items()}
