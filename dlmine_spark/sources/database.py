"""Tables of databases through JDBC: read by several tasks, as a whole or what is new of them.

What a database gives in one go is a *range*: rows whose ``incremental_column`` is above one value and up to another. To
the ledger of batches a range is a file that came, named by its bounds: it is taken in exactly once.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Literal

from pyspark.sql import Column, DataFrame, DataFrameReader, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dlmine_spark.config import DatabaseConfig, SourceConfig
from dlmine_spark.errors import ConfigError, SourceError
from dlmine_spark.jdbc import Database, literal
from dlmine_spark.sources.files import SourceFile

_ABOVE, _UP_TO = " above ", " up to "
_UTC = "+00:00"


@dataclass(frozen=True, slots=True)
class Range:
    """Rows above one value of the incremental column (None: from the first) and up to another, which is included.

    Values are texts that SQL takes as literals of the column's type when quoted.
    """

    above: str | None
    up_to: str

    def condition(self, column: str) -> str:
        """The SQL of it; ``column`` is quoted already."""
        upper = f"{column} <= {literal(self.up_to)}"
        return upper if self.above is None else f"{column} > {literal(self.above)} AND {upper}"


def address_of(source: SourceConfig) -> str:
    """What names a table in messages, in bronze and in the ledger."""
    return f"{source.path}#{_settings(source).table}"


def database_of(name: str, source: SourceConfig) -> Database:
    """The database of a source, and the keys of the configuration that errors name."""
    settings, prefix = _settings(source), f"sources.{name}"
    keys = {key: f"{prefix}.database.{key}" for key in ("table", "credentials", "driver")}
    return Database(
        source.path,
        f"{address_of(source)} (source {name})",
        settings.credentials,
        settings.driver,
        {**keys, "address": f"{prefix}.path"},
    )


def check_credentials(name: str, source: SourceConfig) -> None:
    """Refuse, before Spark is started, to ask a database without the user and password that it is to be asked with.

    Raises:
        EnvironmentProblem: naming the variables.
    """
    database_of(name, source).options()


def contents(spark: SparkSession, name: str, source: SourceConfig) -> str | None:
    """What changes when the rows of a table do; None where only reading them would tell.

    The database counts its rows and looks for the highest value of the incremental column.

    Raises:
        SourceError: the table cannot be asked.
    """
    if _settings(source).incremental_column is None:
        return None
    row = _facts(spark, name, source, None)
    return f"{row['rows']} rows up to {row['highest']}"


def first_rows(spark: SparkSession, name: str, source: SourceConfig, count: int) -> DataFrame:
    """So many rows of a table as its database gives them, with its types.

    Raises:
        SourceError: the database cannot be reached, or has no such table.
    """
    with database_of(name, source).asking():
        return _reader(spark, name, source).option("dbtable", _settings(source).table).load().limit(count)


def read_table(spark: SparkSession, name: str, source: SourceConfig, files: Iterable[SourceFile] | None) -> DataFrame:
    """The rows of a table, or of the ranges that ``list_ranges`` found in it, with the database's types.

    Numbers of any precision are texts: of those with more than 38 digits, or none declared, Spark would round.

    Raises:
        SourceError: the database cannot be reached, or has no such table or column.
    """
    settings = _settings(source)
    if files is None:
        return _partitioned(spark, name, source, settings.table)
    ranges = [_range_of(file) for file in files]
    if len(ranges) != 1:
        raise ValueError(f"a batch of a database is one range, not {len(ranges)}")
    column = _column(spark, name, source, "incremental_column")
    condition = ranges[0].condition(database_of(name, source).quoted(column))
    return _partitioned(spark, name, source, f"(SELECT * FROM {settings.table} WHERE {condition}) dlmine_range")


def list_ranges(spark: SparkSession, name: str, source: SourceConfig, came: Iterable[SourceFile]) -> list[SourceFile]:
    """The rows of a table that are new, as one range; none if there are none.

    Args:
        spark: the session.
        name: of the source.
        source: its declaration, with an incremental column.
        came: the ranges that came before.

    Raises:
        SourceError: the table cannot be asked, or has rows that no range would ever hold.
    """
    settings = _settings(source)
    reached = max((_range_of(file) for file in came), key=_order, default=None)
    above = None if reached is None else _less(reached.up_to, settings, name)
    row = _facts(spark, name, source, above)
    if row["unknown"]:
        raise SourceError(
            f"{address_of(source)} (source {name}): {row['unknown']:,} rows have no {settings.incremental_column}, so "
            "they would never be read: fill it in the database, or name another incremental_column"
        )
    if not row["rows"]:
        return []
    return [_as_file(source, Range(above, row["highest"]), row["rows"])]


def are_there(spark: SparkSession, name: str, source: SourceConfig, files: Iterable[SourceFile]) -> bool:
    """Whether ranges hold as many rows as they did when they were listed."""
    for file in files:
        range_ = _range_of(file)
        if _facts(spark, name, source, range_.above, range_.up_to)["rows"] != file.size:
            return False
    return True


# Ranges


def _as_file(source: SourceConfig, range_: Range, rows: int) -> SourceFile:
    lower = "" if range_.above is None else f"{_ABOVE}{range_.above}"
    column = _settings(source).incremental_column
    return SourceFile(f"{address_of(source)} {column}{lower}{_UP_TO}{range_.up_to}", rows, 0)


def _range_of(file: SourceFile) -> Range:
    rest, _, up_to = file.path.rpartition(_UP_TO)
    _, separator, above = rest.rpartition(_ABOVE)
    return Range(above if separator else None, up_to)


def _order(range_: Range) -> tuple[float, str]:
    """Numbers by size, moments as texts, which sort as they do."""
    try:
        return float(range_.up_to), ""
    except ValueError:
        return 0.0, range_.up_to


def _less(value: str, settings: DatabaseConfig, name: str) -> str:
    """A value of the incremental column less ``lookback``."""
    if settings.lookback is None:
        return value
    is_number = _is_number(value)
    if is_number != settings.lookback.isdigit():
        raise ConfigError(
            f"sources.{name}.database.lookback: {settings.lookback!r} cannot be taken from {value!r}, a value of "
            f"{settings.incremental_column}: give {'a number' if is_number else 'a span like 2 days'}"
        )
    if is_number:
        return str(Decimal(value) - Decimal(settings.lookback))
    number, unit = settings.lookback.split()
    span = timedelta(**{f"{unit.removesuffix('s')}s": int(number)})
    return _as_given(datetime.fromisoformat(value) - span, value)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(E-?\d+)?", text) is not None


def _as_given(moment: datetime, like: str) -> str:
    """A moment as the database wrote another one: a date has no time of day."""
    return moment.date().isoformat() if len(like) == len("2024-01-31") else moment.isoformat(sep=" ")


def _facts(spark: SparkSession, name: str, source: SourceConfig, above: str | None, up_to: str | None = None) -> Row:
    """``rows`` of a range, ``highest`` value of the incremental column in it, and ``unknown``: rows without one."""
    column = database_of(name, source).quoted(_column(spark, name, source, "incremental_column"))
    bounds = [f"{column} > {literal(above)}"] if above is not None else []
    bounds += [f"{column} <= {literal(up_to)}"] if up_to is not None else []
    # Bounds stand in WHERE, where an index answers them.
    inside = f" WHERE {' AND '.join(bounds)}" if bounds else ""
    table = _settings(source).table
    unknown = f"SELECT COUNT(*) FROM {table} WHERE {column} IS NULL"
    query = f"SELECT COUNT(*) AS n, MAX({column}) AS highest, ({unknown}) AS unknown FROM {table}{inside}"
    with database_of(name, source).asking():
        # Oracle writes names that are not quoted in capitals.
        found = _reader(spark, name, source).option("query", query).load().toDF("n", "highest", "unknown")
        return found.select(F.col("n").cast("bigint").alias("rows"), _text(found, "highest"), "unknown").collect()[0]


def _text(found: DataFrame, column: str) -> Column:
    """A number, date or time as SQL takes it, to all of its digits."""
    type_ = found.schema[column].dataType
    value = F.col(column)
    if isinstance(type_, T.TimestampType):
        # An instant has to be told apart from what a clock shows: the database's zone is its own.
        utc = F.to_utc_timestamp(value, F.current_timezone())
        return F.date_format(utc, f"yyyy-MM-dd HH:mm:ss.SSSSSS'{_UTC}'").alias(column)
    if isinstance(type_, T.DecimalType) and type_.scale > 0:
        return F.regexp_replace(value.cast("string"), r"\.?0+$", "").alias(column)
    return value.cast("string").alias(column)


# Asking a database


def _partitioned(spark: SparkSession, name: str, source: SourceConfig, table: str) -> DataFrame:
    """The rows of a table or subquery, by as many tasks as are asked for."""
    with database_of(name, source).asking():
        reader = _reader(spark, name, source)
        described = reader.option("dbtable", table).load().schema
        decimals = [field.name for field in described if isinstance(field.dataType, T.DecimalType)]
        if decimals:
            reader = reader.option("customSchema", ", ".join(f"`{one}` STRING" for one in decimals))
        conditions = _conditions(spark, name, source, table)
        if not conditions:
            return reader.option("dbtable", table).load()
        return reader.jdbc(source.path, table, predicates=conditions)


def _conditions(spark: SparkSession, name: str, source: SourceConfig, table: str) -> list[str]:
    """What each task reads: ranges of the partition column that are as wide as each other, the first with its nulls."""
    settings = _settings(source)
    if settings.partition_column is None:
        return []
    column = database_of(name, source).quoted(_column(spark, name, source, "partition_column"))
    query = f"SELECT MIN({column}) AS lowest, MAX({column}) AS highest FROM {table}"
    ends = _reader(spark, name, source).option("query", query).load().toDF("lowest", "highest")
    row = ends.select(_text(ends, "lowest"), _text(ends, "highest")).collect()[0]
    if row["lowest"] is None:
        return []
    edges = [literal(edge) for edge in cuts(row["lowest"], row["highest"], settings.partitions)]
    if not edges:
        return []
    inner = [f"{column} >= {low} AND {column} < {high}" for low, high in itertools.pairwise(edges)]
    return [f"{column} < {edges[0]} OR {column} IS NULL", *inner, f"{column} >= {edges[-1]}"]


def cuts(lowest: str, highest: str, parts: int) -> list[str]:
    """The values between two numbers, dates or times that cut their range into as many parts, without repeats."""
    shares = [Decimal(part) / parts for part in range(1, parts)]
    if _is_number(lowest):
        low, high = Decimal(lowest), Decimal(highest)
        found = [f"{low + (high - low) * share:f}" for share in shares]
        if "." not in lowest + highest:
            # An index of whole numbers is not used for others.
            found = [str(int(Decimal(cut).to_integral_value(ROUND_CEILING))) for cut in found]
    else:
        first, last = datetime.fromisoformat(lowest), datetime.fromisoformat(highest)
        found = [_as_given(first + (last - first) * float(share), lowest) for share in shares]
    return [cut for cut in dict.fromkeys(found) if cut not in (lowest, highest)]


def _reader(spark: SparkSession, name: str, source: SourceConfig) -> DataFrameReader:
    # A time without a zone stays what a clock showed, wherever the driver runs.
    asked = {"fetchsize": str(_settings(source).fetch_size), "preferTimestampNTZ": "true"}
    return spark.read.format("jdbc").options(**database_of(name, source).options(), **asked)


def _column(
    spark: SparkSession, name: str, source: SourceConfig, setting: Literal["incremental_column", "partition_column"]
) -> str:
    """The column that a setting names, as the database spells it; a number, date or time."""
    wanted = getattr(_settings(source), setting)
    with database_of(name, source).asking():
        schema = _reader(spark, name, source).option("dbtable", _settings(source).table).load().schema
    field = next((field for field in schema if field.name.lower() == wanted.lower()), None)
    if field is None:
        near = difflib.get_close_matches(wanted, schema.names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(schema.names[:10])}"
        raise SourceError(
            f"{address_of(source)} (source {name}): has no column {wanted} (sources.{name}.database.{setting}){hint}"
        )
    if not isinstance(field.dataType, T.NumericType | T.DateType | T.TimestampType | T.TimestampNTZType):
        raise SourceError(
            f"{address_of(source)} (source {name}): column {field.name} is of type {field.dataType.simpleString()}, "
            f"sources.{name}.database.{setting} has to be a number, a date or a time"
        )
    return field.name


def _settings(source: SourceConfig) -> DatabaseConfig:
    if source.database is None:
        raise ValueError(f"{source.path} is no database")
    return source.database
