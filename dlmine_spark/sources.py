"""The only reader of source files: every cell as a string, with where it came from.

A file is looked at before Spark is: a missing, empty or wrongly delimited file is one clear error, not a failed job.
Lines that do not have the header's number of cells are kept whole in ``_raw``, for the quarantine.
"""

from __future__ import annotations

import csv
import difflib
import glob
import gzip
import hashlib
import re
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from urllib.parse import urlparse

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.names import bronze_name
from dlmine_spark.config import SourceConfig
from dlmine_spark.errors import SourceError

METADATA = (s.SOURCE_FILE, s.SOURCE_BLOCK, s.SOURCE_ROW, s.INGESTED_AT, s.BRONZE_RUN_ID, s.RAW_LINE)
TEXT_COLUMN = "value"
_DELIMITERS = (",", ";", "\t", "|")
_SUFFIX_OF_FORMAT = {"json": "json", "parquet": "parquet", "csv": "csv", "text": ""}


def fingerprint(source: SourceConfig) -> str:
    """Hash of what identifies a source's content: path, size and time of every file.

    Files at an address that Python cannot list (an object store) are identified by the address alone: new files there
    are seen with ``--force``.
    """
    digest = hashlib.sha256(source.path.encode())
    if _is_local(source.path):
        for file in _files(source):
            status = file.stat()
            digest.update(f"{file}|{status.st_size}|{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def read_source(spark: SparkSession, name: str, source: SourceConfig, run_id: str) -> DataFrame:
    """The rows of a source as they came.

    Returns:
        One row per line (or record): every cell as a string under its ``bronze_name``, then ``METADATA``.

    Raises:
        SourceError: naming the file, and what to try.
    """
    files = _files(source) if _is_local(source.path) else []
    try:
        if source.format == "csv":
            frame = _read_csv(spark, name, source, files)
        elif source.format == "text":
            frame = spark.read.option("encoding", source.encoding).text(_addresses(source, files))
        else:
            frame = _read_structured(spark, name, source, files)
    except AnalysisException as error:
        raise SourceError(f"{source.path} (source {name}): {str(error).splitlines()[0]}") from error
    cells = [c for c in frame.columns if c not in METADATA]
    raw = F.col(s.RAW_LINE) if s.RAW_LINE in frame.columns else F.lit(None).cast("string")
    has_files = source.format != "delta"
    return frame.select(
        *(F.col(f"`{cell}`").cast("string").alias(cell) for cell in cells),
        (F.col("_metadata.file_path") if has_files else F.lit(source.path)).alias(s.SOURCE_FILE),
        (F.col("_metadata.file_block_start") if has_files else F.lit(0)).cast("bigint").alias(s.SOURCE_BLOCK),
        F.monotonically_increasing_id().alias(s.SOURCE_ROW),
        F.current_timestamp().alias(s.INGESTED_AT),
        F.lit(run_id).alias(s.BRONZE_RUN_ID),
        raw.alias(s.RAW_LINE),
    )


def _is_local(path: str) -> bool:
    return urlparse(path).scheme in ("", "file")


def _files(source: SourceConfig) -> list[Path]:
    """The files a local path stands for, by name.

    Raises:
        SourceError: there are none, or one of them is empty.
    """
    path = source.path.removeprefix("file://")
    place = Path(path)
    if source.format == "delta":
        if not (place / "_delta_log").is_dir():
            raise SourceError(f"{source.path}: is no Delta table (no _delta_log folder)")
        return sorted((place / "_delta_log").glob("*.json"))
    if place.is_dir():
        files = sorted(f for f in place.rglob("*") if f.is_file() and not f.name.startswith((".", "_")))
    else:
        files = sorted(Path(match) for match in glob.glob(path, recursive=True) if Path(match).is_file())
    if not files:
        near = _similar_files(place)
        raise SourceError(f"{source.path}: no such file{near} (working folder: {Path.cwd().name}/)")
    for file in files:
        if file.stat().st_size == 0:
            raise SourceError(f"{file}: is empty; remove it or give another path")
    return files


def _similar_files(place: Path) -> str:
    folder = place.parent
    if not folder.is_dir():
        return f", nor a folder {folder}"
    near = difflib.get_close_matches(place.name, [f.name for f in folder.iterdir()], n=1)
    return f", did you mean {near[0]}?" if near else ""


def _addresses(source: SourceConfig, files: Sequence[Path]) -> list[str]:
    return [_escaped(file) for file in files] or [source.path]


def _escaped(file: Path) -> str:
    """A path that Spark takes literally: its own globs would read [ ] { } ? * in a file's name."""
    return re.sub(r"([\[\]{}?*\\])", r"\\\1", str(file.absolute()))


def _read_csv(spark: SparkSession, name: str, source: SourceConfig, files: Sequence[Path]) -> DataFrame:
    """CSV files by header: files whose columns come in another order must not be read by position."""
    if source.kind == "baskets":
        return _csv_reader(spark, source).text(_addresses(source, files))
    if not files:
        reader = spark.read.option("header", True).option("sep", source.delimiter).option("encoding", source.encoding)
        headers = {tuple(reader.csv(source.path).columns): [source.path]}
    else:
        headers = {}
        for file in files:
            headers.setdefault(_header(file, name, source), []).append(_escaped(file))
    frames = []
    for header, paths in headers.items():
        schema = ", ".join(f"`{column}` string" for column in (*header, s.RAW_LINE))
        reader = _csv_reader(spark, source).schema(schema).option("columnNameOfCorruptRecord", s.RAW_LINE)
        frames.append(reader.option("mode", "PERMISSIVE").option("header", True).csv(paths))
    return reduce(lambda upper, lower: upper.unionByName(lower, allowMissingColumns=True), _with_metadata(frames))


def _with_metadata(frames: Sequence[DataFrame]) -> list[DataFrame]:
    """Frames whose hidden file metadata survives a union."""
    return [frame.select("*", "_metadata") for frame in frames] if len(frames) > 1 else list(frames)


def _csv_reader(spark: SparkSession, source: SourceConfig):  # type: ignore[no-untyped-def]
    return (
        spark.read.option("sep", source.delimiter)
        .option("encoding", source.encoding)
        # Quotes inside quotes are doubled, as RFC 4180 and every spreadsheet have it.
        .option("escape", '"')
        .option("multiLine", source.multiline)
        .option("enforceSchema", True)
        .option("maxCharsPerColumn", -1)
    )


def _header(file: Path, name: str, source: SourceConfig) -> tuple[str, ...]:
    """The bronze names of a file's columns, after checking that the mapped ones are there."""
    lines = _first_lines(file, source, 2)
    if not lines:
        raise SourceError(f"{file}: holds no header line")
    headers = next(csv.reader([lines[0]], delimiter=source.delimiter), [])
    names = [bronze_name(header) for header in headers]
    if not any(names):
        raise SourceError(f"{file}: the first line is blank, expected a header")
    if len(lines) < 2:
        raise SourceError(f"{file}: holds a header and no rows")
    folded = [n.lower() for n in names]
    for n in names:
        if folded.count(n.lower()) > 1:
            raise SourceError(f"{file}: the header names column {n} more than once (case aside); rename one")
    wanted = {column: bronze_name(spec.source or column) for column, spec in source.columns.items()}
    missing = {column: n for column, n in wanted.items() if n.lower() not in folded}
    if missing:
        raise SourceError(_missing_columns(file, name, source, lines[0], names, missing))
    return tuple(names)


def _first_lines(file: Path, source: SourceConfig, count: int) -> list[str]:
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding=source.encoding, errors="strict", newline=None) as stream:
            return [line for line in (stream.readline().rstrip("\n") for _ in range(count)) if line]
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{file}: is not {source.encoding} ({error.reason}); set sources.{name_of(source)}.encoding, e.g. latin-1"
        ) from error
    except (OSError, EOFError) as error:
        raise SourceError(f"{file}: cannot be read: {error}") from error
    except LookupError as error:
        raise SourceError(f"encoding {source.encoding!r} is not known: use e.g. UTF-8 or latin-1") from error


def name_of(source: SourceConfig) -> str:
    """How an error calls a source whose name it does not know."""
    return f"<{source.kind}>"


def _missing_columns(
    file: Path, name: str, source: SourceConfig, line: str, names: Sequence[str], missing: dict[str, str]
) -> str:
    """What is wrong with a header: most often the delimiter, else a name."""
    for delimiter in _DELIMITERS:
        split = {bronze_name(cell).lower() for cell in next(csv.reader([line], delimiter=delimiter), [])}
        if delimiter != source.delimiter and all(n.lower() in split for n in missing.values()):
            shown = "\\t" if delimiter == "\t" else delimiter
            return (
                f"{file}: the delimiter is not {source.delimiter!r}: set "
                f"sources.{name}.delimiter={shown!r} ({shown!r} splits the header into the mapped columns)"
            )
    column, wanted = next(iter(missing.items()))
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return (
        f"{file}: column {wanted} (for {column}) is missing; {hint}the header has {', '.join(names)}: "
        f"set sources.{name}.columns.{column}"
    )


def _read_structured(spark: SparkSession, name: str, source: SourceConfig, files: Sequence[Path]) -> DataFrame:
    """JSON, Parquet and Delta: every mapped column, or all of them, as text."""
    if source.format == "delta":
        frame = spark.read.format("delta").load(source.path)
    else:
        reader = spark.read
        if source.format == "json":
            # Numbers keep the digits they were written with.
            reader = reader.option("primitivesAsString", True)
        frame = reader.format(source.format).load(_addresses(source, files))
    renamed = {column: bronze_name(column) for column in frame.columns}
    by_case = {bronze.lower(): column for column, bronze in renamed.items()}
    for column, spec in source.columns.items():
        wanted = bronze_name(spec.source or column)
        if wanted.lower() not in by_case:
            near = difflib.get_close_matches(wanted, list(renamed.values()), n=1, cutoff=0.5)
            raise SourceError(
                f"{source.path}: column {wanted} (for {column}) is missing; "
                + (f"did you mean {near[0]}? " if near else "")
                + f"found {', '.join(frame.columns)}: set sources.{name}.columns.{column}"
            )
    types = dict(frame.dtypes)
    cells = [_as_text(F.col(f"`{column}`"), types[column]).alias(bronze) for column, bronze in renamed.items()]
    hidden = [F.col("_metadata")] if source.format != "delta" else []
    return frame.select(*cells, *hidden)


def _as_text(column: Column, type_: str) -> Column:
    """A cell as text; nested values as JSON."""
    return F.to_json(column) if type_.startswith(("struct", "array", "map")) else column.cast("string")
