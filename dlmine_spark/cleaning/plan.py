"""A source's declaration as one pass over its rows: typed values, reasons to refuse, and a record of what changed.

The rows that come out are still all the rows that went in (the counts law is checked on them): each has its values, its
``REASONS`` (empty for a good row), its ``REPAIRS`` and its ``COPY`` number among exact duplicates.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning import parse
from dlmine_spark.cleaning.names import bronze_name
from dlmine_spark.config import ColumnConfig, SourceConfig

REASONS, REPAIRS, ORIGINAL, COPY, RANK = "__reasons", "__repairs", "__original", "__copy", "__rank"
WARNINGS = "__warnings"
ORDER = (s.SOURCE_FILE, s.SOURCE_BLOCK, s.SOURCE_ROW)
"""Columns that give the order of rows as they came."""

MALFORMED = "the line does not have as many cells as the header"
_REASON = "struct<rule: string, column: string, message: string>"
_REPAIR = "struct<column: string, old_value: string, new_value: string, rule: string>"

DEFAULT_KEYS: dict[str, tuple[str, ...]] = {
    "panel": (s.UNIQUE_ID, s.DS),
    "calendar": (s.UNIQUE_ID, s.DS),
    "statics": (s.UNIQUE_ID,),
}
SQL_TYPES = {
    "string": "string",
    "integer": "double",
    "double": "double",
    "boolean": "double",
    "date": "date",
    "timestamp": "timestamp",
}


def key_of(source: SourceConfig, columns: Sequence[str]) -> tuple[str, ...]:
    """Columns that identify a row: the declared ones, else those of the kind that are there."""
    return source.key or tuple(name for name in DEFAULT_KEYS.get(source.kind, ()) if name in columns)


def mark_rows(bronze: DataFrame, source: SourceConfig, columns: dict[str, ColumnConfig]) -> DataFrame:
    """Type every cell and judge every row, in one pass; exact copies are numbered (one shuffle).

    Args:
        bronze: rows as they came.
        source: the declaration.
        columns: canonical name -> declaration, those of kept other columns included.

    Returns:
        One row per row of ``bronze``: the canonical columns, ``REASONS``, ``REPAIRS``, ``WARNINGS``, ``ORIGINAL`` (the row
        as JSON), ``COPY`` (1 for the first of equal rows) and ``ORDER``.
    """
    cells = [name for name in bronze.columns if not name.startswith("_") or name == s.RAW_LINE]
    values: dict[str, Column] = {}
    reasons: list[Column] = [_reason(F.col(s.RAW_LINE).isNotNull(), "malformed_line", "", F.lit(MALFORMED))]
    repairs: list[Column] = []
    for name, spec in columns.items():
        value, refused, repaired = _column(name, spec, source)
        values[name] = value
        reasons += refused
        repairs += repaired
    copies = Window.partitionBy(*(F.col(f"`{cell}`") for cell in cells)).orderBy(*ORDER)
    typed = bronze.withColumn(COPY, F.row_number().over(copies)).select(
        *(value.alias(name) for name, value in values.items()),
        _present(reasons, _REASON).alias(REASONS),
        _present(repairs, _REPAIR).alias(REPAIRS),
        F.to_json(F.struct(*(F.col(f"`{cell}`") for cell in cells))).alias(ORIGINAL),
        COPY,
        *ORDER,
    )
    return _judge_rows(typed, source)


def _judge_rows(typed: DataFrame, source: SourceConfig) -> DataFrame:
    """Add the reasons and warnings of whole-row rules; a rule that cannot be decided (null) counts as met."""
    broken = {
        action: [
            F.when(
                ~F.coalesce(F.expr(rule.expr).cast("boolean"), F.lit(True)),
                F.struct(
                    F.lit(rule.name).alias("rule"), F.lit("").alias("column"), F.lit(rule.expr).alias("message")
                ).cast(_REASON),
            )
            for rule in source.rules
            if rule.action == action
        ]
        for action in ("quarantine", "warn")
    }
    refused = _present(broken["quarantine"], _REASON)
    warned = F.transform(_present(broken["warn"], _REASON), lambda reason: reason["rule"])
    # A line of the wrong shape has no cells that a rule could be asked about.
    is_line = F.size(F.filter(F.col(REASONS), lambda reason: reason["rule"] == "malformed_line")) == 0
    return typed.withColumn(WARNINGS, warned).withColumn(
        REASONS, F.when(is_line, F.concat(F.col(REASONS), refused)).otherwise(F.slice(F.col(REASONS), 1, 1))
    )


def _column(name: str, spec: ColumnConfig, source: SourceConfig) -> tuple[Column, list[Column], list[Column]]:
    """Value, reasons to refuse the row, and repairs of one cell."""
    type_ = source.column_type(name) if name in source.columns else (spec.type or "string")
    cell = F.col(f"`{bronze_name(spec.source or name)}`")
    text = parse.present(cell, source)
    value = parse.parsed(text, type_, spec)
    readable = text.isNull() | value.isNotNull()
    reasons: list[Column] = []
    repairs: list[Column] = []
    required = source.is_required(name) if name in source.columns else False

    if type_ != "string":
        if required:
            reasons.append(_reason(~readable, "unparseable", name, F.concat(F.lit(f"no {type_}: "), _short(cell))))
        else:
            repairs.append(_repair(~readable, name, cell, F.lit(None), "unparseable"))
        repairs.append(_repair(value.isNotNull() & ~parse.is_plain(text, type_, spec), name, cell, value, "format"))
    if spec.allowed:
        near = parse.corrected(text, spec)
        legal = value.isin(*spec.allowed)
        unknown = value.isNotNull() & ~legal & near.isNull()
        reasons.append(_reason(unknown, "not_allowed", name, F.concat(F.lit("not an allowed value: "), _short(cell))))
        repairs.append(_repair(~legal & near.isNotNull(), name, cell, near, "allowed"))
        value = F.when(legal, value).otherwise(near)
    if spec.minimum is not None or spec.maximum is not None:
        outside = _outside(value, spec)
        if spec.out_of_range == "quarantine":
            reasons.append(_reason(outside, "out_of_range", name, F.concat(F.lit(_range(spec)), _short(cell))))
        elif spec.out_of_range == "null":
            repairs.append(_repair(outside, name, cell, F.lit(None), "out_of_range"))
            value = F.when(~F.coalesce(outside, F.lit(False)), value)
    if required:
        reasons.append(_reason(text.isNull(), "missing", name, F.lit("is required and has no value")))
    return value.cast(SQL_TYPES[type_]), reasons, repairs


def _outside(value: Column, spec: ColumnConfig) -> Column:
    below = value < F.lit(spec.minimum) if spec.minimum is not None else F.lit(False)
    above = value > F.lit(spec.maximum) if spec.maximum is not None else F.lit(False)
    return below | above


def _range(spec: ColumnConfig) -> str:
    low = "" if spec.minimum is None else f"at least {spec.minimum:g}"
    high = "" if spec.maximum is None else f"at most {spec.maximum:g}"
    return f"expected {' and '.join(part for part in (low, high) if part)}, found "


def _short(cell: Column) -> Column:
    """A cell as shown in a message: a ten-megabyte field must not be there twice."""
    return F.substring(F.coalesce(cell, F.lit("")), 1, 100)


def _reason(condition: Column, rule: str, column: str, message: Column) -> Column:
    made = F.struct(F.lit(rule).alias("rule"), F.lit(column).alias("column"), message.alias("message"))
    return F.when(F.coalesce(condition, F.lit(False)), made.cast(_REASON))


def _repair(condition: Column, column: str, old: Column, new: Column, rule: str) -> Column:
    made = F.struct(
        F.lit(column).alias("column"),
        old.cast("string").alias("old_value"),
        new.cast("string").alias("new_value"),
        F.lit(rule).alias("rule"),
    )
    return F.when(F.coalesce(condition, F.lit(False)), made.cast(_REPAIR))


def _present(entries: list[Column], type_: str) -> Column:
    """The entries that apply, as an array."""
    if not entries:
        return F.array().cast(f"array<{type_}>")
    return F.filter(F.array(*entries), lambda entry: entry.isNotNull())


def number_versions(marked: DataFrame, source: SourceConfig, key: Sequence[str]) -> DataFrame:
    """Number the good rows of each key in ``RANK``; 1 is the one that stays, the others are superseded."""
    if not key:
        return marked.withColumn(RANK, F.lit(1))
    order = [F.col(name).desc() if source.keep == "last" else F.col(name) for name in ORDER]
    is_good = (F.size(REASONS) == 0) & (F.col(COPY) == 1)
    versions = Window.partitionBy(is_good, *(F.col(f"`{name}`") for name in key)).orderBy(*order)
    return marked.withColumn(RANK, F.when(is_good, F.row_number().over(versions)).otherwise(1))
