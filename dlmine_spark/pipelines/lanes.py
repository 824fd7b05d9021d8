"""The lane of plain rows: those that ``cleaning.plain`` knows to need no verdict, and that share their key with nobody.

They stay in bronze until silver is written. What joins the judged rows after all: copies and versions of each other
(``note_repeated``), and rows that an outlier rule has something to say of.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.corrections import row_of
from dlmine_spark.cleaning.panel import ONLY_SERIES
from dlmine_spark.cleaning.plain import plain_values, within_rules
from dlmine_spark.cleaning.plan import (
    COPY,
    ORDER,
    ORIGINAL,
    RANK,
    REASONS,
    REPAIRS,
    WARNINGS,
    key_of,
    mark_rows,
    no_reasons,
    no_repairs,
)
from dlmine_spark.config import ColumnConfig, SourceConfig
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.subjects import Subject

_PLAIN_ROWS, _ROWS, _ROW = "plain_rows", "rows", "__row"


def with_rules_met(rows: DataFrame, source: SourceConfig, columns: Mapping[str, ColumnConfig]) -> DataFrame:
    """Rows that break a rule about a column or about whole rows are not plain."""
    is_within = within_rules(columns)
    if is_within is not None:
        rows = rows.withColumn(s.PLAIN, F.col(s.PLAIN) & is_within)
    if not source.rules:
        return rows
    # Rules speak of canonical columns, whose names may be those of other columns of the file.
    values = [value.alias(name) for name, value in plain_values(columns).items()]
    whole = rows.select(F.struct(*(F.col(f"`{name}`") for name in rows.columns)).alias(_ROW), *values)
    are_met = [F.coalesce(F.expr(rule.expr).cast("boolean"), F.lit(True)) for rule in source.rules]
    is_plain = F.when(F.col(_ROW)[s.PLAIN], reduce(Column.__and__, are_met)).otherwise(F.lit(False))
    checked = whole.select(_ROW, is_plain.alias(s.PLAIN))
    return checked.select(*(F.col(_ROW)[name].alias(name) for name in rows.columns if name != s.PLAIN), s.PLAIN)


def note_repeated(lakehouse: Lakehouse, subject: Subject, odd: DataFrame) -> None:
    """Write the identities that more than one row has, with the number of plain rows of each (one aggregation).

    Rows that are copies or versions of each other have the same identity. Others may share one by chance, which only
    sends them the long way.
    """
    key = key_of(subject.source, subject.columns)
    # The same cells may come plain in one line, and between quotes in another.
    identities = (
        subject.bronze.where(s.PLAIN)
        .select(s.IDENTITY, s.PLAIN)
        .unionByName(odd.select(_hash_of_cells(odd).alias(s.IDENTITY), F.lit(False).alias(s.PLAIN)))
    )
    if key:
        # A plain row may be a version of one that is not.
        marked = mark_rows(odd, subject.source, subject.columns)
        of_odd = marked.select(_hash_of_key(marked, key).alias(s.IDENTITY), F.lit(False).alias(s.PLAIN))
        identities = identities.unionByName(of_odd.where(F.col(s.IDENTITY).isNotNull()))
    repeated = (
        identities.groupBy(s.IDENTITY)
        .agg(F.count(F.lit(1)).alias(_ROWS), F.count_if(F.col(s.PLAIN)).alias(_PLAIN_ROWS))
        .where((F.col(_ROWS) > 1) & (F.col(_PLAIN_ROWS) > 0))
    )
    lakehouse.overwrite(_repeated_table(subject.name), repeated.select(s.IDENTITY, _PLAIN_ROWS))


def _repeated_table(name: str) -> str:
    return f"staging.{name}_repeated"


def identity_of(rows: DataFrame, source: SourceConfig, columns: Mapping[str, ColumnConfig]) -> Column:
    """Of a plain row: a hash of its key, or of all its cells where it has no key or a blank in it; else null."""
    identity = _hash_of_cells(rows)
    key = key_of(source, columns)
    if key:
        values = plain_values(columns)
        parts = [values[name] for name in key if name in values]
        is_whole = reduce(Column.__and__, (part.isNotNull() for part in parts))
        identity = F.when(is_whole, F.xxhash64(*parts)).otherwise(identity)
    return F.when(F.col(s.PLAIN), identity)


def _hash_of_cells(bronze: DataFrame) -> Column:
    # By name: files with their columns in another order hold the same cells.
    cells = [F.col(f"`{name}`") for name in sorted(bronze.columns) if name not in s.BRONZE_METADATA]
    return F.xxhash64(F.lit("cells"), *cells)


def _hash_of_key(marked: DataFrame, key: tuple[str, ...]) -> Column:
    """Of a judged row; null where a part of its key is missing."""
    parts = [F.col(f"`{name}`") for name in key if name in marked.columns]
    return F.when(reduce(Column.__and__, (part.isNotNull() for part in parts)), F.xxhash64(*parts))


def repeated_rows(lakehouse: Lakehouse, subject: Subject) -> DataFrame:
    """The plain rows of bronze that share their identity."""
    repeated = lakehouse.read(_repeated_table(subject.name))
    plain = subject.bronze.where(s.PLAIN)
    return plain.join(repeated, on=s.IDENTITY, how="left_semi").select(*subject.bronze.columns)


def plain_rows(lakehouse: Lakehouse, subject: Subject, *, touched: bool = False) -> DataFrame:
    """The plain rows whose identity nobody shares, in the shape of judged ones, with ``IDENTITY``.

    ``touched``: without those that an outlier rule has something to say of, once it has spoken.
    """
    elsewhere = lakehouse.read(_repeated_table(subject.name)).select(s.IDENTITY)
    if touched:
        # By identity: holding every row against its fences once more would take longer.
        elsewhere = elsewhere.unionByName(lakehouse.read(touched_table(subject.name)).select(s.IDENTITY))
    alone = subject.bronze.where(s.PLAIN).join(elsewhere, on=s.IDENTITY, how="left_anti")
    # Of plain rows, nothing but an outlier rule refuses any.
    original = row_of(subject.bronze) if refuses_outliers(subject.columns) else F.lit(None)
    rows = alone.select(
        *(value.alias(column) for column, value in plain_values(subject.columns).items()),
        no_reasons().alias(REASONS),
        no_repairs().alias(REPAIRS),
        F.array().cast("array<string>").alias(WARNINGS),
        original.cast("string").alias(ORIGINAL),
        F.lit(1).alias(COPY),
        F.lit(1).alias(RANK),
        *ORDER,
        s.IDENTITY,
    )
    return with_series(rows, subject.source, subject.columns)


def touched_table(name: str) -> str:
    return f"staging.{name}_touched"


def refuses_outliers(columns: Mapping[str, ColumnConfig]) -> bool:
    return any(spec.outliers is not None and spec.outliers.action == "quarantine" for spec in columns.values())


def is_touched() -> Column:
    """Whether a rule has something to say of a row."""
    return (F.size(REASONS) > 0) | (F.size(REPAIRS) > 0) | (F.size(WARNINGS) > 0)


def count_alone(lakehouse: Lakehouse, subject: Subject, *, touched: bool) -> int:
    """How many plain rows need no verdict: those with an identity of their own that no outlier rule ``touched``."""
    plain = subject.bronze.where(s.PLAIN).count()
    repeated = lakehouse.read(_repeated_table(subject.name)).agg(F.sum(_PLAIN_ROWS).alias(_PLAIN_ROWS)).collect()[0]
    dropped = lakehouse.read(touched_table(subject.name)).count() if touched else 0
    return plain - int(repeated[_PLAIN_ROWS] or 0) - dropped


def with_series(rows: DataFrame, source: SourceConfig, columns: Mapping[str, ColumnConfig]) -> DataFrame:
    """A panel that does not name its series is one."""
    if source.kind == "panel" and s.UNIQUE_ID not in columns:
        return rows.withColumn(s.UNIQUE_ID, F.lit(ONLY_SERIES))
    return rows
