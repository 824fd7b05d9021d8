"""What is known of a group of rows, beside each of its rows."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def join_groups(rows: DataFrame, groups: DataFrame, by: Sequence[str]) -> DataFrame:
    """The rows with what is known of their group; rows without a group name are a group too.

    Args:
        rows: any rows.
        groups: one row per group: the columns ``by``, and others that ``rows`` does not have.
        by: columns of the group; without any, ``groups`` is one row for all.
    """
    if not by:
        return rows.crossJoin(F.broadcast(groups))
    keys = {name: f"__by_{place}" for place, name in enumerate(by)}
    renamed = groups.withColumnsRenamed(keys)
    same_group = [F.col(f"`{name}`").eqNullSafe(F.col(key)) for name, key in keys.items()]
    return rows.join(renamed, on=same_group, how="left").drop(*keys.values())
