"""Source files as Spark frames: every cell a string, with file, block and order.

CSV is read as lines of text that are split here, unless cells may hold line breaks. That is as fast as Spark's own
reader and keeps what that one loses: the whole text of a line whose quotes, cells or bytes are not right, and any
encoding of one byte a letter.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import reduce
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.names import bronze_name, bronze_names
from dlmine_spark.config import SourceConfig
from dlmine_spark.damage import unreadable_file, unreadable_log
from dlmine_spark.errors import ConfigError, DlmineError, NoRowsError, SourceError
from dlmine_spark.sources import database
from dlmine_spark.sources.encoding import Encoding, encoding_of
from dlmine_spark.sources.files import (
    SourceFile,
    files_of,
    fingerprint,
    folder_columns,
    is_local,
    list_local,
    nanosecond_columns,
    spark_path,
    zones_of,
)
from dlmine_spark.sources.headers import (
    Header,
    check_quotes,
    explain_missing,
    header_of,
    missing_columns,
    read_header,
)

log = logging.getLogger(__name__)

PlainPattern = Callable[[Sequence[str]], str | None]

TEXT_COLUMN = "value"
"""The only column of a source that is read as lines."""
_CELLS, _PARTS, _BROKEN = "__cells", "__parts", "__broken_record"
_PLACE = (s.SOURCE_FILE, s.SOURCE_BLOCK)
_UNDECODABLE = "\ufffd"
_NANOS_AS_NUMBERS = "spark.sql.legacy.parquet.nanosAsLong"
"""Lets Spark read times in nanoseconds, as pandas writes them, instead of refusing the file."""
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
# Spark would pass over missing and corrupt files if a session's settings told it to.
_READ_ALL = {"ignoreCorruptFiles": "false", "ignoreMissingFiles": "false"}


def look_at(name: str, source: SourceConfig) -> None:
    """Refuse what a look from outside shows to be wrong, without Spark; at an address only Spark can look.

    Raises:
        SourceError: files are not there, empty or plainly of another kind, or the first header is not as declared.
        EnvironmentProblem: the user and password of a database are not there.
    """
    if source.format == "jdbc":
        database.check_credentials(name, source)
    if not is_local(source.path):
        return
    files = files_of(name, source)
    if files and source.format == "csv" and not _is_read_by_line(source):
        read_header(files[0], name, source, encoding_of(source.encoding, name), folder_columns(source, files))


def contents(spark: SparkSession, name: str, source: SourceConfig) -> str | None:
    """What changes when a source's rows do: its files, their sizes and times, the version of a Delta table.

    Returns:
        None where only reading the rows would tell, of a database without an ``incremental_column``.

    Raises:
        SourceError: files or tables are not there.
    """
    if is_local(source.path):
        return fingerprint(source)
    if source.format == "jdbc":
        return database.contents(spark, name, source)
    if source.format == "delta":
        with reading(name, source):
            table = source.path.replace("`", "``")
            row = spark.sql(f"DESCRIBE HISTORY delta.`{table}` LIMIT 1").collect()[0]
        return f"version {row['version']} of {row['timestamp']}"
    files = sorted((file.path, file.size, file.modified) for file in list_files(spark, name, source))
    return hashlib.sha256(repr(files).encode(errors="surrogateescape")).hexdigest()[:16]


def list_files(
    spark: SparkSession, name: str, source: SourceConfig, came: Iterable[SourceFile] = ()
) -> list[SourceFile]:
    """The files that a source's path stands for now; Spark lists those at an address, without reading them.

    Of a database, the rows beyond those that ``came`` count as a file.

    Raises:
        SourceError: a local file is not there, or not what the source says.
    """
    if is_local(source.path):
        return list_local(name, source)
    if source.format == "jdbc":
        return database.list_ranges(spark, name, source, came)
    try:
        found = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(source.path)
        rows = found.select("path", "length", F.unix_millis("modificationTime").alias("modified")).collect()
    except AnalysisException as error:
        # Object stores have no folders: one without files is not there.
        if error.getCondition() == "PATH_NOT_FOUND":
            return []
        raise SourceError(f"{source.path} (source {name}): cannot be listed: {_problem_of(error)}") from error
    return [SourceFile(row["path"], row["length"], row["modified"]) for row in rows]


def are_there(spark: SparkSession, name: str, source: SourceConfig, files: Sequence[SourceFile]) -> bool:
    """Whether files, or ranges of a database, are still as they were when they were listed."""
    if source.format == "jdbc":
        return database.are_there(spark, name, source, files)
    return set(files) <= set(list_files(spark, name, source))


def read_source(
    spark: SparkSession,
    name: str,
    source: SourceConfig,
    run_id: str,
    plain: PlainPattern | None = None,
    *,
    only: Sequence[SourceFile] | None = None,
    batch: int = 0,
) -> DataFrame:
    """The rows of a source as they came.

    Args:
        spark: the session.
        name: of the source.
        source: its declaration.
        run_id: noted in every row.
        plain: gives the pattern of a plain row of a file with these columns (``cleaning.plain``), or None for "do not
            ask". Without it no row counts as plain.
        only: the files to read, from ``list_files``; default: all that there are.
        batch: number of the delivery, noted in every row.

    Returns:
        One row per line (or record): every cell as a string under its ``bronze_name``, then ``BRONZE_METADATA``.

    Raises:
        SourceError: naming the file, and what to try.
        ConfigError: a setting that this source cannot have.
    """
    encoding = encoding_of(source.encoding, name)
    if encoding.spark != "UTF-8" and source.format not in ("csv", "text"):
        raise ConfigError(f"sources.{name}.encoding: format {source.format} is always UTF-8, got {source.encoding}")
    with reading(name, source):
        if source.format == "jdbc":
            rows = _of_database(spark, name, source, only)
        else:
            rows = _of_files(spark, name, source, encoding, plain, only)
    cells = [column for column in rows.columns if column not in s.BRONZE_METADATA]
    raw = F.col(s.RAW_LINE) if s.RAW_LINE in rows.columns else F.lit(None).cast("string")
    is_plain = F.coalesce(F.col(s.PLAIN), F.lit(False)) if s.PLAIN in rows.columns else F.lit(False)
    return rows.select(
        *(F.col(f"`{cell}`") for cell in cells),
        F.lit(batch).cast("bigint").alias(s.BATCH),
        s.SOURCE_FILE,
        F.col(s.SOURCE_BLOCK).cast("bigint").alias(s.SOURCE_BLOCK),
        F.monotonically_increasing_id().alias(s.SOURCE_ROW),
        F.current_timestamp().alias(s.INGESTED_AT),
        F.lit(run_id).alias(s.BRONZE_RUN_ID),
        raw.alias(s.RAW_LINE),
        is_plain.alias(s.PLAIN),
        F.lit(None).cast("bigint").alias(s.IDENTITY),
    )


def _of_files(
    spark: SparkSession,
    name: str,
    source: SourceConfig,
    encoding: Encoding,
    plain: PlainPattern | None,
    only: Sequence[SourceFile] | None,
) -> DataFrame:
    """Cells, file, block and, where lines can be wrong, ``RAW_LINE``, of files and the folders they are in."""
    files = None
    if is_local(source.path):
        files = files_of(name, source) if only is None else [Path(file.path) for file in only]
    addresses = [source.path] if only is None else [spark_path(file.path) for file in only]
    from_folders = folder_columns(source, files or [])
    rows = _rows(spark, name, source, encoding, files or addresses, from_folders, plain)
    return _with_folder_columns(rows, from_folders)


def _of_database(spark: SparkSession, name: str, source: SourceConfig, only: Sequence[SourceFile] | None) -> DataFrame:
    """Cells, and the table or range of it in the place of a file."""
    rows = database.read_table(spark, name, source, only)
    where = only[0].path if only else database.address_of(source)
    # As Spark escapes the paths of files.
    place = [F.lit(where.replace("%", "%25")).alias(s.SOURCE_FILE), F.lit(0).alias(s.SOURCE_BLOCK)]
    return _structured(rows, name, source, (), place=place)


@contextmanager
def reading(name: str, source: SourceConfig) -> Iterator[None]:
    """Turn what Spark says about files that it cannot read into one line that names them; pass on all else.

    Raises:
        SourceError: a file vanished, was cut off or is not of the declared format; a database does not answer.
    """
    try:
        with database.database_of(name, source).asking() if source.database is not None else nullcontext():
            yield
    except DlmineError:
        raise
    except Exception as error:
        problem = _problem_of(error)
        if problem is None:
            raise
        raise SourceError(f"{problem} (source {name}, {source.path})") from error


def _problem_of(error: Exception) -> str | None:
    """The file and the innermost cause, from whichever of its exceptions Spark raised; None if no file is to blame."""
    text = str(error)
    problem = unreadable_file(text)
    if problem is not None:
        return problem
    damage = unreadable_log(text)
    if damage is not None:
        return f"the Delta table is damaged, {damage}: bring the missing file back, or write the table again"
    if isinstance(error, AnalysisException):
        return " ".join(next((line for line in text.splitlines() if line.strip()), "cannot be read").split())
    return None


def path_of(source_file: Column) -> Column:
    """The path or address of ``SourceFile.path`` for the ``SOURCE_FILE`` of a row, which Spark has escaped."""
    return F.regexp_replace(_unescaped(source_file), "^file:/+", "/")


def _unescaped(text: Column) -> Column:
    # A plus sign is no space here.
    return F.url_decode(F.replace(text, F.lit("+"), F.lit("%2B")))


def _with_folder_columns(rows: DataFrame, columns: Sequence[str]) -> DataFrame:
    """Add the columns that folders named ``column=value`` stand for."""
    present = {column.lower() for column in rows.columns}
    for column in columns:
        if bronze_name(column).lower() not in present:
            # The address of a file escapes what the folder's name has escaped before.
            value = _unescaped(_unescaped(F.regexp_extract(s.SOURCE_FILE, f"/{re.escape(column)}=([^/]+)/", 1)))
            rows = rows.withColumn(bronze_name(column), F.when(~value.isin("", _HIVE_NULL), value))
    return rows


def _rows(
    spark: SparkSession,
    name: str,
    source: SourceConfig,
    encoding: Encoding,
    files: Sequence[Path] | Sequence[str],
    from_folders: Sequence[str],
    plain: PlainPattern | None,
) -> DataFrame:
    """Cells, file, block and, where lines can be wrong, ``RAW_LINE``; by the way the source has to be read.

    ``files``: paths of files, or addresses that Spark knows how to list.
    """
    paths = [spark_path(file) if isinstance(file, Path) else file for file in files]
    if source.format == "delta":
        return _structured(spark.read.format("delta").load(source.path), name, source, from_folders)
    if source.format == "parquet":
        local = [file for file in files if isinstance(file, Path)]
        nanos = nanosecond_columns(local[0]) if local else {}
        if nanos:
            # To be set when the rows are read, too, which is later.
            spark.conf.set(_NANOS_AS_NUMBERS, "true")
        rows = spark.read.options(**_READ_ALL).parquet(*paths)
        return _structured(rows, name, source, from_folders, nanos, _zones(local))
    if source.format == "json":
        return _json(spark, name, source, paths, from_folders)
    if _is_read_by_line(source):
        if encoding.is_wide:
            raise ConfigError(f"sources.{name}.encoding: lines in {source.encoding} are not read; convert to UTF-8")
        return _text_lines(spark, encoding, paths)
    return _csv(spark, name, source, encoding, files, from_folders, plain)


# Lines and CSV


def _is_read_by_line(source: SourceConfig) -> bool:
    """Whether a whole line is a row: a basket, or what format text is for."""
    return source.format == "text" or (source.kind == "baskets" and s.ITEMS not in source.columns)


def _text_lines(spark: SparkSession, encoding: Encoding, paths: Sequence[str], plain: str | None = None) -> DataFrame:
    """One row per line: its text, and the text again as ``RAW_LINE`` where bytes could not be decoded.

    With ``plain``, ``PLAIN`` says of each whether it matches; one with bytes that are no letters does not.
    """
    line = F.col(TEXT_COLUMN)
    lines = spark.read.options(**_READ_ALL).text(list(paths))
    if plain is not None:
        marked = lines.select(line, line.rlike(plain).alias(s.PLAIN), *_place())
        broken = ~F.col(s.PLAIN) & ~F.is_valid_utf8(line)
        text = F.when(broken, F.make_valid_utf8(line)).otherwise(line)
        return marked.select(text.alias(TEXT_COLUMN), F.when(broken, text).alias(s.RAW_LINE), s.PLAIN, *_PLACE)
    if encoding.upper_half is None:
        is_decoded, text = F.is_valid_utf8(line), F.make_valid_utf8(line)
    else:
        latin = F.decode(line.cast("binary"), "ISO-8859-1")
        text = F.translate(latin, encoding.as_latin_1, encoding.upper_half)
        is_decoded = ~F.contains(text, F.lit(_UNDECODABLE))
    return lines.select(text.alias(TEXT_COLUMN), F.when(~is_decoded, text).alias(s.RAW_LINE), *_place())


def _csv(
    spark: SparkSession,
    name: str,
    source: SourceConfig,
    encoding: Encoding,
    files: Sequence[Path] | Sequence[str],
    from_folders: Sequence[str],
    plain: PlainPattern | None,
) -> DataFrame:
    """CSV by header: files whose columns come in another order must not be read by position."""
    local = [file for file in files if isinstance(file, Path)]
    if not local:
        headers = _headers_at_address(spark, name, source, encoding, [str(file) for file in files])
    else:
        headers = {}
        for file in local:
            header = read_header(file, name, source, encoding, from_folders)
            if header is None:
                log.info("%s: holds a header and no rows", file)
            else:
                headers.setdefault(header, []).append(spark_path(file))
        if not headers:
            raise NoRowsError(f"{source.path}: holds a header and no rows")
    if source.multiline or encoding.is_wide:
        if not encoding.is_wide and encoding.upper_half is not None and encoding.codec != "iso8859-1":
            raise ConfigError(f"sources.{name}.multiline: is read as UTF-8, UTF-16 or latin-1, not {source.encoding}")
        for file in local:
            check_quotes(file, name, encoding)
        parts = [_csv_records(spark, source, encoding, header, paths) for header, paths in headers.items()]
    else:
        # Letters of one byte are none in UTF-8, in which a pattern would be asked.
        ask = plain if encoding.upper_half is None and not from_folders else None
        parts = [
            _csv_lines(spark, source, encoding, header, paths, ask and ask(header.names))
            for header, paths in headers.items()
        ]
    return reduce(lambda upper, lower: upper.unionByName(lower, allowMissingColumns=True), parts)


def _headers_at_address(
    spark: SparkSession, name: str, source: SourceConfig, encoding: Encoding, addresses: Sequence[str]
) -> dict[Header, list[str]]:
    """The headers of files that only Spark can look at (one pass over their lines, one row collected per file)."""
    lines = (
        _text_lines(spark, encoding, addresses)
        .where((F.col(s.SOURCE_BLOCK) == 0) & ~_is_blank())
        .withColumn(s.SOURCE_ROW, F.monotonically_increasing_id())
    )
    first = lines.groupBy(s.SOURCE_FILE).agg(F.min_by(TEXT_COLUMN, s.SOURCE_ROW).alias(TEXT_COLUMN))
    headers: dict[Header, list[str]] = {}
    for row in first.orderBy(s.SOURCE_FILE).collect():
        line = row[TEXT_COLUMN].lstrip("\ufeff")
        header = header_of(line, line, row[s.SOURCE_FILE], name, source)
        headers.setdefault(header, []).append(spark_path(unquote(row[s.SOURCE_FILE])))
    if not headers:
        raise SourceError(f"{source.path} (source {name}): holds no header line")
    return headers


def _csv_lines(
    spark: SparkSession,
    source: SourceConfig,
    encoding: Encoding,
    header: Header,
    paths: Sequence[str],
    plain: str | None,
) -> DataFrame:
    """CSV whose records are lines. A line equal to the header is one, wherever it stands: files get concatenated.

    A line that matches ``plain`` has no quotes and as many cells as the header: it can be split at its delimiters,
    for a quarter of what reading it as CSV costs.
    """
    line = F.col(TEXT_COLUMN)
    is_header = line.isin(header.line, f"\ufeff{header.line}")
    schema = ", ".join(f"`{column}` string" for column in (*header.names, s.RAW_LINE))
    if plain is None:
        lines = _text_lines(spark, encoding, paths).where(~_is_blank() & ~is_header)
        read = lines.withColumn(_CELLS, F.from_csv(line, schema, _csv_options(source)))
        is_plain, parts = F.lit(False), F.array().cast("array<string>")
    else:
        is_plain = F.col(s.PLAIN)
        lines = _text_lines(spark, encoding, paths, plain).where(~_is_blank() & ~is_header)
        read = lines.withColumns(
            {
                _PARTS: F.when(is_plain, F.split(line, re.escape(source.delimiter), -1)),
                _CELLS: F.when(~is_plain, F.from_csv(line, schema, _csv_options(source))),
            }
        )
        parts = F.col(_PARTS)
    is_wrong = F.col(f"{_CELLS}.{s.RAW_LINE}").isNotNull() | _leaves_quote_open(line, source.delimiter)
    raw = F.when(~is_plain, F.coalesce(F.col(s.RAW_LINE), F.when(is_wrong, line)))

    def cell(place: int, column: str) -> Column:
        part = F.get(parts, F.lit(place))
        return F.when(is_plain, F.when(part != "", part)).otherwise(F.col(f"{_CELLS}.`{column}`")).alias(column)

    cells = [cell(place, column) for place, column in enumerate(header.names)]
    return read.select(*cells, raw.alias(s.RAW_LINE), is_plain.alias(s.PLAIN), *_PLACE)


def _leaves_quote_open(line: Column, delimiter: str) -> Column:
    """Whether a cell of a line begins with a quote and the line holds an odd number of them.

    Spark takes such a cell, cut off in the middle, for a whole one. An inch sign (``6" ruler``) opens nothing.
    """
    quotes = F.length(line) - F.length(F.replace(line, F.lit('"'), F.lit("")))
    opens = F.startswith(line, F.lit('"')) | F.contains(line, F.lit(f'{delimiter}"'))
    return F.contains(line, F.lit('"')) & opens & (quotes % 2 == 1)


def _csv_records(
    spark: SparkSession, source: SourceConfig, encoding: Encoding, header: Header, paths: Sequence[str]
) -> DataFrame:
    """CSV whose cells may hold line breaks, by Spark's own reader: one task a file."""
    schema = T.StructType([T.StructField(column, T.StringType()) for column in (*header.names, s.RAW_LINE)])
    options = {**_csv_options(source), **_READ_ALL, "multiLine": "true", "encoding": encoding.spark}
    records = spark.read.schema(schema).options(**options, header="true").csv(list(paths))
    cells = [F.col(f"`{column}`") for column in header.names]
    delimiters = len(header.names) - 1

    def swallows(cell: Column) -> Column:
        return _swallows_lines(cell, source.delimiter, delimiters)

    # Spark keeps the quote of a cell that goes wrong, and puts a sign where bytes cannot be decoded.
    is_wrong = F.exists(F.array(*cells), lambda cell: F.contains(cell, F.lit(_UNDECODABLE)) | swallows(cell))
    text = F.concat_ws(source.delimiter, *(F.coalesce(cell, F.lit("")) for cell in cells))
    raw = F.coalesce(F.col(s.RAW_LINE), F.when(is_wrong, text))
    return records.select(*cells, raw.alias(s.RAW_LINE), *_place())


def _swallows_lines(cell: Column, delimiter: str, delimiters: int) -> Column:
    """Whether a quote was not closed, so that the cell goes on into later lines; one of these looks like a record."""

    def count(text: Column, sign: str) -> Column:
        return (F.length(text) - F.length(F.replace(text, F.lit(sign), F.lit("")))) / len(sign)

    later = F.slice(F.split(cell, r"\r?\n"), 2, F.length(cell))
    holds_record = F.exists(later, lambda line: count(line, delimiter) == delimiters)
    is_record = holds_record if delimiters else F.lit(False)
    return F.startswith(cell, F.lit('"')) & ((count(cell, '"') % 2 == 1) | is_record)


def _csv_options(source: SourceConfig) -> dict[str, str]:
    return {
        "sep": source.delimiter,
        # Quotes inside quotes are doubled, as RFC 4180 and every spreadsheet have it.
        "escape": '"',
        "mode": "PERMISSIVE",
        "columnNameOfCorruptRecord": s.RAW_LINE,
        "maxCharsPerColumn": "-1",
        "maxColumns": "1000000",
    }


def _is_blank() -> Column:
    return F.trim(F.col(TEXT_COLUMN)) == ""


# Formats that bring their columns


def _json(
    spark: SparkSession, name: str, source: SourceConfig, paths: Sequence[str], from_folders: Sequence[str]
) -> DataFrame:
    options = {
        **_READ_ALL,
        # Numbers keep the digits they were written with.
        "primitivesAsString": "true",
        "multiLine": str(source.multiline).lower(),
        "columnNameOfCorruptRecord": _BROKEN,
    }
    records = spark.read.options(**options).json(list(paths))
    if records.columns == [_BROKEN]:
        hint = "" if source.multiline else f"; if records go over several lines, set sources.{name}.multiline=true"
        raise SourceError(f"{source.path} (source {name}): holds no JSON record{hint}")
    return _structured(records, name, source, from_folders)


def _structured(
    records: DataFrame,
    name: str,
    source: SourceConfig,
    from_folders: Sequence[str],
    nanos: Mapping[str, bool] | None = None,
    zones: Mapping[str, Column] | None = None,
    place: Sequence[Column] | None = None,
) -> DataFrame:
    """Every column as text under its bronze name, nested values as JSON.

    ``nanos``: columns of nanoseconds since 1970, which Spark has as numbers, and whether they are in UTC.
    ``zones``: of instants, whose texts get the offset that clocks there showed.
    ``place``: file and block, of rows that Spark does not read from files.
    """
    types = {column: type_ for column, type_ in records.dtypes if column != _BROKEN}
    renamed = dict(zip(types, bronze_names(list(types)), strict=True))
    by_case: dict[str, str] = {}
    for column, bronze in renamed.items():
        if by_case.setdefault(bronze.lower(), column) != column:
            raise SourceError(
                f"{source.path} (source {name}): columns {by_case[bronze.lower()]!r} and {column!r} would both be "
                f"{bronze} in bronze; rename one"
            )
    missing = missing_columns(source, [*by_case, *from_folders])
    if missing:
        raise SourceError(explain_missing(f"{source.path} (source {name})", name, list(renamed.values()), missing))
    raw = [F.col(_BROKEN).alias(s.RAW_LINE)] if _BROKEN in records.columns else []
    cells = {column: F.col(f"`{column}`") for column in renamed}
    # The old twelve-byte times count as nanoseconds, too, and are times to Spark already.
    numbers = {column: in_utc for column, in_utc in (nanos or {}).items() if types.get(column) == "bigint"}
    cells |= {column: _moment(cells[column], in_utc=in_utc) for column, in_utc in numbers.items()}
    instants = {column for column, type_ in types.items() if type_ == "timestamp" or numbers.get(column)}
    days = _zones_of_days(source, renamed)
    if wrong := sorted(days.keys() - instants):
        raise ConfigError(
            f"sources.{name}.columns: {wrong[0]} has a time_zone, which says where the days of instants are meant, but "
            f"{source.path} has none there, but {types[wrong[0]]}: leave time_zone out"
        )
    texts = {
        column: _with_offset(cells[column], zones[column])
        if zones and column in zones and column in instants and column not in days
        else _as_text(cells[column], types[column])
        for column in renamed
    }
    return records.select(
        *(texts[column].alias(bronze) for column, bronze in renamed.items()),
        *raw,
        *(_place() if place is None else place),
    )


def _zones(files: Sequence[Path]) -> dict[str, Column]:
    """In which zone a row's times are told, by the column of Parquet that they are in; UTC where its file has none."""
    told_in = {}
    for column, by_file in zones_of(files).items():
        of_files = {str(file): by_file.get(file, "UTC") for file in files}
        if len(set(of_files.values())) == 1:
            told_in[column] = F.lit(by_file[files[0]])
        else:
            by_path = F.create_map(*(F.lit(part) for part in chain.from_iterable(of_files.items())))
            of_row = F.try_element_at(by_path, path_of(F.col("_metadata.file_path")))
            told_in[column] = F.coalesce(of_row, F.lit("UTC"))
    return told_in


def _zones_of_days(source: SourceConfig, renamed: Mapping[str, str]) -> dict[str, str]:
    """The declared zones of columns that are to be dates, by the names they have before bronze (``renamed``)."""
    declared = {
        bronze_name(spec.source or column).lower(): spec.time_zone
        for column, spec in source.columns.items()
        if spec.time_zone is not None and source.column_type(column) == "date"
    }
    return {column: declared[bronze.lower()] for column, bronze in renamed.items() if bronze.lower() in declared}


def _with_offset(instant: Column, zone: Column) -> Column:
    """What the clocks of a zone showed, and how far they were from UTC: ``2024-03-01 00:00:00+01:00``.

    As an instant alone, midnight in Berlin would be told as the day before.
    """
    utc = F.convert_timezone(F.current_timezone(), F.lit("UTC"), instant.cast("timestamp_ntz"))
    local = F.convert_timezone(F.lit("UTC"), zone, utc)
    minutes = F.timestamp_diff("MINUTE", utc, local)
    sign = F.when(minutes < 0, F.lit("-")).otherwise(F.lit("+"))
    hours = F.format_string("%02d:%02d", F.floor(F.abs(minutes) / 60), F.abs(minutes) % 60)
    return F.concat(local.cast("string"), sign, hours)


def _moment(nanoseconds: Column, *, in_utc: bool) -> Column:
    """The time that so many nanoseconds since 1970 are, to the microsecond: an instant, or what a clock showed."""
    # As a double it would be some other microsecond: there are more digits than it holds.
    micros = F.floor(nanoseconds.cast("decimal(20, 0)") / F.lit(1_000)).cast("bigint")
    if in_utc:
        return F.timestamp_micros(micros)
    seconds = (micros / F.lit(1_000_000)).cast("decimal(18,6)")
    return F.lit("1970-01-01").cast("timestamp_ntz") + F.make_dt_interval(secs=seconds)


def _as_text(column: Column, type_: str) -> Column:
    is_nested = type_.startswith(("struct", "array", "map", "variant"))
    return F.to_json(column) if is_nested else column.cast("string")


def _place() -> list[Column]:
    """File and block of a row, as its reader knows them."""
    return [
        F.col("_metadata.file_path").alias(s.SOURCE_FILE),
        F.col("_metadata.file_block_start").alias(s.SOURCE_BLOCK),
    ]
