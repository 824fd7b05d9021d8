"""What is wrong with a source's rules, found out before any row is read."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Iterator, Sequence

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    NullType,
    NumericType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from dlmine_spark import schemas as s
from dlmine_spark.cleaning import parse
from dlmine_spark.cleaning.columns import declared_columns
from dlmine_spark.cleaning.plan import SQL_TYPES
from dlmine_spark.config import SourceConfig


def wrong_rules(spark: SparkSession, name: str, source: SourceConfig, others: Sequence[str]) -> list[str]:
    """Everything that Spark would refuse, one line each with its key.

    Args:
        spark: asked about expressions and patterns; no row of any source is read.
        name: of the source.
        source: its declaration.
        others: columns of the file that are kept under their own name.
    """
    at = f"sources.{name}"
    return [
        *_unknown_columns(at, source, others),
        *(
            f"{at}.columns.{column}.formats: {problem}"
            for column, spec in source.columns.items()
            for pattern in spec.formats
            for problem in _wrong_pattern(spark, pattern)
        ),
        *(problem for name in source.columns for problem in _wrong_texts(spark, at, source, name)),
        *_wrong_separator(spark, at, source),
        *_wrong_expressions(spark, at, source, others),
    ]


def _unknown_columns(at: str, source: SourceConfig, others: Sequence[str]) -> Iterator[str]:
    known = [*source.columns, *others]
    if source.kind == "table" and not known:
        yield f"{at}.columns: none is mapped: list those that are needed, or set {at}.other_columns=keep"
    if source.kind == "panel":
        known.append(s.UNIQUE_ID)
    asked = [(f"{at}.key", source.key)]
    for name, spec in source.columns.items():
        asked.append((f"{at}.columns.{name}.fill_by", spec.fill_by))
        asked.append((f"{at}.columns.{name}.outliers.by", spec.outliers.by if spec.outliers else ()))
    if source.cancellations is not None:
        asked.append((f"{at}.cancellations.match", source.cancellations.match))
    if source.mining is not None:
        asked.append((f"{at}.mined.columns", source.mining.columns))
        asked.append((f"{at}.mined.repair_columns", source.mining.repair_columns))
        declared = source.mining.dependencies
        named = dict.fromkeys(name for rule in declared for name in (*rule.determinant, rule.dependent))
        asked.append((f"{at}.mined.dependencies", tuple(named)))
    for key, names in asked:
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                yield f"{key}: there is no column {name}; {hint}mapped columns are {', '.join(source.columns)}"


def _wrong_pattern(spark: SparkSession, pattern: str) -> Iterator[str]:
    if not re.search("[yu]", re.sub("'[^']*'", "", pattern)):
        yield f"{pattern!r} has no year (y)"
        return
    problem = _problem(spark, F.try_to_timestamp(F.lit("2024-01-31"), F.lit(pattern)))
    if problem is not None:
        yield f"{pattern!r} is no date pattern of Spark's (e.g. dd.MM.yyyy HH:mm): {problem}"


def _wrong_texts(spark: SparkSession, at: str, source: SourceConfig, name: str) -> Iterator[str]:
    """Patterns and time zones that Java does not know, and declared values that do not match the pattern."""
    spec, key = source.columns[name], f"{at}.columns.{name}"
    if spec.pattern is not None:
        # Alone, too: what closes our own bracket would be right inside it.
        problem = _problem(spark, F.lit("a").rlike(spec.pattern)) or _problem(
            spark, F.lit("a").rlike(parse.whole_text(spec.pattern))
        )
        if problem is not None:
            yield f"{key}.pattern: {spec.pattern!r} is no regular expression: {problem}"
        else:
            own = [*spec.allowed, *(() if spec.fill_value is None else (str(spec.fill_value),))]
            for value in own:
                if not _value(spark, F.lit(value).rlike(parse.whole_text(spec.pattern))):
                    yield f"{key}: {value!r} is declared as a value, but does not match pattern {spec.pattern!r}"
    if spec.time_zone is not None and not _is_zone(spark, spec.time_zone):
        near = difflib.get_close_matches(spec.time_zone, sorted(zoneinfo.available_timezones()), n=1)
        hint = f"did you mean {near[0]}?" if near else "e.g. Europe/Berlin"
        yield f"{key}.time_zone: {spec.time_zone!r} is no time zone, {hint}"


def _is_zone(spark: SparkSession, name: str) -> bool:
    """Whether both of Spark's ways to read a time know the zone."""
    if not re.fullmatch(r"[\w+\-:/]+", name):
        return False
    moments = parse.moments(F.lit("2024-01-31 12:00:00"), ("yyyy-MM-dd' 'HH:mm:ss",), name)
    return bool(_value(spark, moments[0].isNotNull() & moments[1].isNotNull()))


def _wrong_separator(spark: SparkSession, at: str, source: SourceConfig) -> Iterator[str]:
    if source.kind != "baskets":
        return
    key = f"{at}.separator"
    problem = _problem(spark, F.lit("a").rlike(source.separator))
    if problem is not None:
        yield f"{key}: {source.separator!r} is no regular expression: {problem}"
    elif _value(spark, F.lit("").rlike(f"^(?:{source.separator})$")):
        yield f"{key}: {source.separator!r} also matches nothing at all; write special signs as [|] or [.]"


_FITTING: dict[str, tuple[type[DataType], ...]] = {
    "string": (StringType,),
    "double": (NumericType, BooleanType),
    "date": (DateType, TimestampType, TimestampNTZType),
    "timestamp": (DateType, TimestampType, TimestampNTZType),
}
"""Types of expressions that a cell of a type can be set to."""


def _wrong_expressions(spark: SparkSession, at: str, source: SourceConfig, others: Sequence[str]) -> Iterator[str]:
    types = {name: SQL_TYPES[spec.type or "string"] for name, spec in declared_columns(source).items()}
    types |= dict.fromkeys(others, "string")
    if source.kind == "baskets":
        types = {s.BASKET_ID: "string", s.ITEMS: "array<string>"}
    rows = spark.createDataFrame([], ", ".join(f"`{name}` {type_}" for name, type_ in types.items()))
    booleans = [name for name in source.columns if source.column_type(name) == "boolean"]
    for rule in source.rules:
        yield from _wrong_condition(rows, f"{at}.rules.{rule.name}", rule.expr, booleans)
        for name, text in rule.set.items():
            yield from _wrong_value(rows, f"{at}.rules.{rule.name}.set.{name}", text, types[name])
    if source.cancellations is not None:
        yield from _wrong_condition(rows, f"{at}.cancellations.marker", source.cancellations.marker, booleans)


def _wrong_condition(rows: DataFrame, key: str, text: str, booleans: Sequence[str]) -> Iterator[str]:
    try:
        # A filter, unlike a column, refuses aggregates and window functions.
        rows.where(F.expr(text).cast("boolean")).schema  # noqa: B018
        found = rows.select(F.expr(text).alias("value")).schema["value"].dataType
    except PySparkException as error:
        yield f"{key}: {text!r} is no condition on a row: {_first_line(error)}"
        return
    # A column that holds booleans holds them as numbers.
    if not isinstance(found, (BooleanType, NullType)) and text.strip().strip("`") not in booleans:
        yield f"{key}: {text!r} is no condition on a row, but of type {found.simpleString()}"


def _wrong_value(rows: DataFrame, key: str, text: str, type_: str) -> Iterator[str]:
    try:
        rows.where(F.expr(text).isNull()).schema  # noqa: B018
        found = rows.select(F.expr(text).alias("value")).schema["value"].dataType
    except PySparkException as error:
        yield f"{key}: {text!r} is no value of a row: {_first_line(error)}"
        return
    if not isinstance(found, (*_FITTING[type_], NullType)):
        yield f"{key}: {text!r} is of type {found.simpleString()}, the column is of type {type_}"


def _problem(spark: SparkSession, expression: Column) -> str | None:
    try:
        _value(spark, expression)
    except PySparkException as error:
        return _first_line(error)
    return None


def _value(spark: SparkSession, expression: Column) -> object:
    return spark.range(1).select(expression.alias("value")).collect()[0]["value"]


def _first_line(error: PySparkException) -> str:
    """What Spark says, without the plan and the advice to change its own settings."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.partition(" SQLSTATE")[0].strip()
