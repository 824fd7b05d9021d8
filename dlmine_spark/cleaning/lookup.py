"""Lookups: what another source says of the row that a blank cell belongs to."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark.cleaning.parse import breaches
from dlmine_spark.cleaning.plan import ORDER
from dlmine_spark.config import ColumnConfig, Lookup


def lookup_table(
    others: DataFrame, lookup: Lookup, column: str, time: str | None = None, cutoff: date | None = None
) -> DataFrame:
    """One row per value of the matching columns: the value to be found there (one aggregation).

    Of several rows, the last one that has a value counts: by time where their source has one, then by arrival.

    Args:
        others: good rows of the other source with their ``ORDER`` columns, as they are before its own fills.
        lookup: the columns that are equal in both, and the one the value is taken from.
        column: the column to be filled.
        time: the column that orders the other source's rows in time.
        cutoff: nothing is taken from a row after this date, where there is a time. Rows that are matched by their time
            too say something of that time only: it is no later than that of the row they fill.

    Returns:
        The matching columns under names of their own, in the order of ``lookup.on``, then the value.
    """
    value = F.col(f"`{lookup.column or column}`")
    keys = list(lookup.on.values())
    known = others.where(value.isNotNull())
    if time is not None and cutoff is not None and time not in keys:
        known = known.where(F.to_date(F.col(f"`{time}`")) <= F.lit(cutoff))
    arrival = [F.col(name) for name in ORDER if name in others.columns]
    order = F.struct(*([F.col(f"`{time}`")] if time else []), *arrival, value)
    own = [F.col(f"`{name}`").alias(f"__on_{place}") for place, name in enumerate(keys)]
    return known.groupBy(*own).agg(F.max_by(value, order).alias("__found")).dropna()


def join_lookup(rows: DataFrame, lookup: Lookup, table: DataFrame, found: str) -> DataFrame:
    """The rows with what a ``lookup_table`` has for each, in a column ``found``; null where it has nothing.

    A blank in one of the matching columns matches nothing.
    """
    keys = table.columns[:-1]
    is_same = [F.col(f"`{name}`") == F.col(key) for name, key in zip(lookup.on, keys, strict=True)]
    return rows.join(table.withColumnRenamed(table.columns[-1], found), on=is_same, how="left").drop(*keys)


def fitting(value: Column, spec: ColumnConfig) -> Column:
    """A value of another source, null where this column's rules would not let it stand."""
    refused = [breach.condition for breach in breaches(value, spec) if breach.action != "warn"]
    is_refused = F.coalesce(reduce(operator.or_, refused), F.lit(False)) if refused else F.lit(False)
    return F.when(~is_refused, value)


def lookups_of(columns: Mapping[str, ColumnConfig]) -> dict[str, Lookup]:
    """The columns that are filled from another source."""
    return {name: spec.fill_from for name, spec in columns.items() if spec.fill_from is not None}
