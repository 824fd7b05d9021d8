"""The first, middle and last rows of files: enough to guess from, and no more memory for 100 GB than for 10 MB.

Of a text file of more than ``WHOLE`` bytes, two stretches at its start, one in its middle and one at its end are read;
of a compressed one, which can only be read from its start, the first ``UNPACKED`` bytes; of Parquet and Delta the first
rows of the first, the middle and the last row group (file). Of many files, the first, the middle and the last one.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dlmine_spark.cleaning.names import bronze_names
from dlmine_spark.config import ColumnType, SourceConfig
from dlmine_spark.damage import damage_of_parquet
from dlmine_spark.errors import ConfigError, EnvironmentProblem, SourceError
from dlmine_spark.guessing.baskets import BasketLines, as_baskets
from dlmine_spark.sources.files import COMPRESSED, MAGIC, files_of, folder_columns, is_local, is_zone
from dlmine_spark.sources.headers import UNREADABLE, opened

STRETCH = 1 << 20
WHOLE = 4 * STRETCH
UNPACKED = 64 * STRETCH
ROWS = 20_000
"""Of each row group."""
MOST_COLUMNS = 2_000

Format = Literal["csv", "json", "parquet", "delta", "text", "jdbc"]
DELIMITERS = (",", ";", "\t", "|")
_CONSISTENT = 0.9
"""Share of lines with the usual number of cells, for them to be a table."""
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MOST_BINARY = 0.01
_HEADER_LINES = 200
_MOST_PREAMBLE = 20
"""Lines above a header that are looked for."""
_FEWEST_BELOW = 3
"""Rows below it, for it to be one."""


@dataclass(frozen=True)
class Sample:
    """Rows of files of one shape, and how to read them.

    Attributes:
        path: as the configuration will have it.
        format: of the files.
        files: how many there are.
        size: bytes of all of them.
        is_whole: whether these are all rows.
        cells: every cell a trimmed text, None where there is nothing; columns as the file names them.
        parts: which stretch each row is from: rows of two stretches are no neighbours.
        types: of columns, as far as the file declares them.
        lists: columns whose cells are lists.
        delimiter: between the cells of a CSV line.
        encoding: of text.
        multiline: cells, or JSON records, hold line breaks.
        baskets: what the lines are where the file is no table.
        odd_lines: lines that have more or fewer cells than the header, or are no JSON object.
        first_odd: number of the first line that is no JSON object, from 1; 0 where that is not known.
        database: which table of it this is, and who may read it; empty for files.
    """

    path: str
    format: Format
    files: int
    size: int
    is_whole: bool
    cells: pd.DataFrame = field(repr=False)
    parts: np.ndarray[Any, Any] = field(repr=False)
    types: dict[str, ColumnType] = field(default_factory=dict)
    lists: tuple[str, ...] = ()
    delimiter: str = ","
    encoding: str = "UTF-8"
    multiline: bool = False
    baskets: BasketLines | None = None
    odd_lines: int = 0
    first_odd: int = 0
    database: dict[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[object, ...]:
        """What files that belong to one source have in common."""
        return (self.format, self.delimiter, tuple(self.cells.columns), self.baskets is None)


def look_at(path: str) -> Sample:
    """A sample of a file, a folder of files of one shape, or a Delta table.

    Raises:
        ConfigError: the path is an address.
        SourceError: nothing is there, or nothing that can be read as a table or as baskets; it names the file.
        EnvironmentProblem: a Delta table, and deltalake is not installed.
    """
    if not is_local(path):
        raise ConfigError(f"{path}: init looks at local files: copy a few of them here, and edit the path afterwards")
    place = Path(path)
    if (place / "_delta_log").is_dir():
        return _delta(path)
    listing = SourceConfig(kind="table", path=path, format="parquet")
    files = files_of("", listing, is_declared=False)
    # One file of each ending is opened: a folder may hold a hundred thousand.
    endings: dict[str, list[Path]] = {}
    for file in files:
        endings.setdefault("".join(file.suffixes[-2:] if file.suffix in COMPRESSED else [file.suffix]), []).append(file)
    formats: dict[Format, list[Path]] = {}
    for alike in endings.values():
        formats.setdefault(_format_of(alike[0]), []).extend(alike)
    if len(formats) > 1:
        found = ", ".join(f"{len(some)} {name} (e.g. {some[0].name})" for name, some in formats.items())
        raise SourceError(f"{path}: holds files of several formats, {found}: name those of one format, or each file")
    (format_,) = formats
    chosen = [files[place] for place in _spread(len(files))]
    samples = [_of_file(file, format_) for file in chosen]
    odd = next((one for one in samples[1:] if one.shape != samples[0].shape), None)
    if odd is not None:
        raise SourceError(
            f"{path}: {samples[0].path} and {odd.path} have other columns than each other: name one of the files"
        )
    if place.is_dir():
        partitions = folder_columns(listing, files)
        samples = [_with_partitions(one, partitions) for one in samples]
    return merged(samples, path, len(files), sum(file.stat().st_size for file in files), is_all=len(files) <= 3)


def _spread(count: int) -> list[int]:
    """The places of the first, the middle and the last of so many."""
    return sorted({0, count // 2, count - 1}) if count else []


def merged(samples: Sequence[Sample], path: str, files: int, size: int, *, is_all: bool) -> Sample:
    """Samples of files of one shape as one; ``is_all``: of all files there is one."""
    first = samples[0]
    parts, offset = [], 0
    for one in samples:
        parts.append(one.parts + offset)
        offset += int(one.parts.max(initial=-1)) + 1
    return Sample(
        path=path,
        format=first.format,
        files=files,
        size=size,
        is_whole=is_all and all(one.is_whole for one in samples),
        cells=pd.concat([one.cells for one in samples], ignore_index=True),
        parts=np.concatenate(parts),
        types=first.types,
        lists=first.lists,
        delimiter=first.delimiter,
        encoding=next((one.encoding for one in samples if one.encoding != "UTF-8"), "UTF-8"),
        multiline=any(one.multiline for one in samples),
        baskets=first.baskets,
        odd_lines=sum(one.odd_lines for one in samples),
        first_odd=first.first_odd if len(samples) == 1 else 0,
    )


def _with_partitions(sample: Sample, names: Sequence[str]) -> Sample:
    """The sample with the columns whose values are in the names of its file's folders."""
    values = dict(part.split("=", 1) for part in Path(sample.path).parts if "=" in part)
    added = {name: values.get(name) for name in names if name not in sample.cells.columns}
    return Sample(**{**vars(sample), "cells": sample.cells.assign(**added)}) if added else sample


def _format_of(file: Path) -> Format:
    """What a file is, by its first bytes rather than by its name.

    Raises:
        SourceError: it is of a kind that nothing here reads.
    """
    if file.suffix in UNREADABLE:
        raise SourceError(f"{file}: {file.suffix} is not read; unpack it, or compress it as .gz")
    with file.open("rb") as stream:
        start = stream.read(4)
    if start.startswith(b"PAR1"):
        return "parquet"
    for magic, problem in MAGIC.items():
        if file.suffix not in COMPRESSED and start.startswith(magic):
            raise SourceError(f"{file}: {problem.format(name='<name>')}")
    text = _bytes_of(file, 1 << 12)
    if not text:
        raise SourceError(f"{file}: is empty when it is unpacked")
    is_wide = text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or text.count(0) > len(text) // 5
    if not is_wide and len(_BINARY.findall(text)) > _MOST_BINARY * len(text):
        raise SourceError(f"{file}: is a binary file, neither text nor Parquet: export it as CSV")
    stripped = text.removeprefix(codecs.BOM_UTF8).lstrip()
    return "json" if re.match(rb'\{\s*"|\[\s*\{', stripped) else "csv"


def _bytes_of(file: Path, most: int) -> bytes:
    try:
        with opened(file) as stream:
            return stream.read(most)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{file}: cannot be read: {error}") from error


def _of_file(file: Path, format_: Format) -> Sample:
    if format_ == "parquet":
        return _parquet(file)
    stretches, is_whole = _stretches(file)
    encoding = _encoding(stretches[0])
    if encoding.startswith("UTF-16"):
        # A byte does not tell where a letter begins, so nothing can be read from the middle on.
        is_whole, stretches = is_whole or len(stretches) == 1, stretches[:1]
    codec = "utf-8-sig" if encoding == "UTF-8" else encoding
    texts = [one.decode(codec, errors="replace").lstrip("\ufeff") for one in stretches]
    if not any(text.strip() for text in texts):
        raise SourceError(f"{file}: holds blank lines only")
    if format_ == "json":
        return _json(file, texts, is_whole=is_whole)
    return _table_or_baskets(file, texts, encoding, is_whole=is_whole)


# Bytes


def _stretches(file: Path) -> tuple[list[bytes], bool]:
    """Whole lines from the start, the middle and the end of a file; whether these are all of it."""
    try:
        if file.suffix in COMPRESSED:
            return _unpacked_stretches(file)
        size = file.stat().st_size
        if size <= WHOLE:
            return [file.read_bytes()], True
        with file.open("rb") as stream:
            found = [_whole_lines(stream.read(2 * STRETCH), starts=True)]
            for place in (size // 2, size - STRETCH):
                stream.seek(place)
                found.append(_whole_lines(stream.read(STRETCH), ends=place + STRETCH >= size))
        return [one for one in found if one], False
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{file}: cannot be read: {error}") from error


def _unpacked_stretches(file: Path) -> tuple[list[bytes], bool]:
    with opened(file) as stream:
        start = stream.read(WHOLE)
        if len(start) < WHOLE:
            return [start], True
        last: deque[bytes] = deque(maxlen=2)
        read = len(start)
        while read < UNPACKED and (block := stream.read(STRETCH)):
            last.append(block)
            read += len(block)
    ends = read < UNPACKED
    return [one for one in (_whole_lines(start, starts=True), _whole_lines(b"".join(last), ends=ends)) if one], False


def _whole_lines(block: bytes, *, starts: bool = False, ends: bool = False) -> bytes:
    """A block without the lines that are cut off at its ends."""
    first = 0 if starts else block.find(b"\n") + 1
    last = len(block) if ends else block.rfind(b"\n") + 1
    return block[first:last] if last > first else (block if starts else b"")


def _encoding(start: bytes) -> str:
    """UTF-8, UTF-16 by its first bytes or its zeros, else the usual encoding of one byte a letter."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    if start.count(0) > len(start) // 5:
        return "UTF-16LE" if start[1::2].count(0) >= start[::2].count(0) else "UTF-16BE"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return "cp1252"
    return "UTF-8"


# CSV, or baskets


def _table_or_baskets(file: Path, texts: Sequence[str], encoding: str, *, is_whole: bool) -> Sample:
    """A table where lines have as many cells as the header, baskets where they have any number of items.

    Raises:
        SourceError: it is neither, or a table without a header.
    """
    size = file.stat().st_size
    start = texts[0]
    delimiter, multiline = _delimiter(start)
    problem = None
    if delimiter is not None:
        rows = list(_records(start, delimiter, multiline=multiline))
        header, body = rows[0], rows[1:]
        problem = _no_header(header, body)
        if problem is None:
            return _csv(file, texts, encoding, delimiter, header, multiline=multiline, is_whole=is_whole)
    else:
        _refuse_preamble(file, start)
    lines = [line for text in texts for line in _lines(text) if line.strip()]
    baskets = as_baskets(lines, is_table=delimiter is not None and not _has_blanks(rows))
    if baskets is None:
        if problem is not None:
            raise SourceError(f"{file}: {problem}")
        raise SourceError(
            f"{file}: is neither a table nor baskets: no delimiter ({' '.join(map(repr, DELIMITERS))}) splits most of "
            f"its lines into as many cells as the first one ({_shown(lines[0])})"
        )
    parts = np.zeros(0, dtype=np.int64)
    return Sample(
        path=str(file),
        format="text",
        files=1,
        size=size,
        is_whole=is_whole,
        cells=pd.DataFrame(),
        parts=parts,
        encoding=encoding,
        baskets=baskets,
    )


def _refuse_preamble(file: Path, start: str) -> None:
    """Refuse a table that has lines of text above its header, which names the columns for nobody who reads it.

    Raises:
        SourceError: naming the line that seems to be the header.
    """
    lines = _lines(start)
    for above in range(1, min(_MOST_PREAMBLE, len(lines) - _FEWEST_BELOW) + 1):
        below = "\n".join(lines[above:])
        delimiter, multiline = _delimiter(below)
        if delimiter is None or not lines[above].strip():
            continue
        header, *body = islice(_records(below, delimiter, multiline=multiline), _HEADER_LINES)
        has_values = any(re.search(r"\d", cell) for cell in body[0]) if len(body) >= _FEWEST_BELOW else False
        if has_values and _no_header(header, body) is None:
            raise SourceError(
                f"{file}: line {above + 1} ({_shown(lines[above])}) looks like the header, and what is above it like a "
                f"title: remove these lines (tail -n +{above + 1} {file.name} > table.csv)"
            )


def _csv(
    file: Path,
    texts: Sequence[str],
    encoding: str,
    delimiter: str,
    header: Sequence[str],
    *,
    multiline: bool,
    is_whole: bool,
) -> Sample:
    bronze = bronze_names(list(header))
    names = [name.strip() or bronze[place] for place, name in enumerate(header)]
    twice = [name for name, copies in Counter(name.lower() for name in bronze).items() if copies > 1]
    if twice:
        raise SourceError(
            f"{file}: the header has columns {', '.join(twice)} that are the same to Spark, which ignores case; rename "
            "all but one"
        )
    if len(names) > MOST_COLUMNS:
        raise SourceError(f"{file}: has {len(names):,} columns; init looks at up to {MOST_COLUMNS:,}")
    rows: list[list[str]] = []
    parts: list[int] = []
    odd = 0
    # Where cells hold line breaks, a stretch from the middle may begin inside of one.
    for part, text in enumerate(texts[:1] if multiline else texts):
        for cells in _records(text, delimiter, multiline=multiline):
            if len(cells) != len(names):
                odd += 1
            elif list(cells) != list(header):
                rows.append(cells)
                parts.append(part)
    if not rows:
        raise SourceError(f"{file}: holds a header ({_shown(delimiter.join(names))}) and no rows")
    return Sample(
        path=str(file),
        format="csv",
        files=1,
        size=file.stat().st_size,
        is_whole=is_whole,
        cells=_tidied(pd.DataFrame(rows, columns=names, dtype=object)),
        parts=np.array(parts, dtype=np.int64),
        delimiter=delimiter,
        encoding=encoding,
        multiline=multiline,
        odd_lines=odd,
    )


def _delimiter(start: str) -> tuple[str | None, bool]:
    """What splits most lines into as many cells as the first one, and whether cells hold line breaks."""
    best: tuple[float, int, str, bool] | None = None
    for delimiter in DELIMITERS:
        for multiline in (False, True):
            rows = list(islice(_records(start, delimiter, multiline=multiline), _HEADER_LINES))
            if not rows or len(rows[0]) < 2:
                continue
            share = sum(len(cells) == len(rows[0]) for cells in rows) / len(rows)
            holds_breaks = any("\n" in cell for cells in rows for cell in cells)
            if multiline != holds_breaks or share < _CONSISTENT:
                continue
            candidate = (round(share, 2), len(rows[0]), delimiter, multiline)
            best = candidate if best is None else max(best, candidate, key=lambda one: one[:2])
    return (best[2], best[3]) if best is not None else (None, False)


def _records(text: str, delimiter: str, *, multiline: bool) -> Iterator[list[str]]:
    """The cells of each record; without ``multiline`` a quote that is left open ends with its line."""
    if multiline:
        yield from (cells for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if cells)
        return
    for line in _lines(text):
        if line.strip():
            yield next(csv.reader([line], delimiter=delimiter)) if '"' in line else line.split(delimiter)


def _lines(text: str) -> list[str]:
    """Lines as Spark splits them; Python's own would also split at signs that may stand in a cell."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _no_header(header: Sequence[str], body: Sequence[Sequence[str]]) -> str | None:
    """What is wrong with a first line that names no columns; None where it seems to."""
    number_or_date = re.compile(r"[+-]?\d[\d.,:/ -]*")
    is_value = [bool(number_or_date.fullmatch(cell.strip())) for cell in header]
    shown = _shown(", ".join(header))
    if not any(cell.strip() for cell in header) or sum(not cell.strip() for cell in header) > len(header) / 2:
        return f"the first line ({shown}) names no columns: add a header line"
    below = [Counter(bool(number_or_date.fullmatch(row[place].strip())) for row in body if place < len(row))
             for place in range(len(header))]  # fmt: skip
    reappears = any(header[place] in {row[place] for row in body if place < len(row)} for place in range(len(header)))
    as_below = [value and counts[True] > counts[False] for value, counts in zip(is_value, below, strict=True)]
    names = sum(not value for value in is_value)
    if all(is_value) or (any(as_below) and (reappears or not names)):
        return f"the first line ({shown}) looks like data: add a header line that names the columns"
    return None


def _has_blanks(rows: Sequence[Sequence[str]]) -> bool:
    """Whether lines are filled up with blank cells, as a spreadsheet does with baskets."""
    return sum(not row[-1].strip() for row in rows) > len(rows) / 2


# Formats that bring their columns


def _json(file: Path, texts: Sequence[str], *, is_whole: bool) -> Sample:
    is_array = texts[0].lstrip().startswith("[")
    records: list[dict[str, Any]] = []
    parts: list[int] = []
    odd = first_odd = 0
    for part, text in enumerate(texts[:1] if is_array else texts):
        broken: list[int] = []
        found = list(_array_records(text) if is_array else _line_records(text, broken))
        records += found
        parts += [part] * len(found)
        odd += len(broken)
        if part == 0 and broken:
            first_odd = broken[0]
    if not records:
        raise SourceError(f"{file}: holds no JSON record a line, nor an array of records: write one a line")
    names = list(dict.fromkeys(name for record in records for name in record))
    lists = tuple(name for name in names if any(isinstance(record.get(name), list) for record in records))
    cells = {name: [_json_cell(record.get(name)) for record in records] for name in names}
    return Sample(
        path=str(file),
        format="json",
        files=1,
        size=file.stat().st_size,
        is_whole=is_whole and not (is_array and len(texts) > 1),
        cells=_tidied(pd.DataFrame(cells, dtype=object)),
        parts=np.array(parts, dtype=np.int64),
        lists=lists,
        multiline=is_array,
        odd_lines=odd,
        first_odd=first_odd,
    )


def _line_records(text: str, broken: list[int]) -> Iterator[dict[str, Any]]:
    """The object of each line; ``broken`` gets the numbers of the lines that hold something else."""
    for number, line in enumerate(_lines(text), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            yield record
        elif line.strip():
            broken.append(number)


def _array_records(text: str) -> Iterator[dict[str, Any]]:
    decoder, place = json.JSONDecoder(), text.index("[") + 1
    while True:
        place += len(text[place:]) - len(text[place:].lstrip(", \t\r\n")) if place < len(text) else 0
        try:
            record, place = decoder.raw_decode(text, place)
        except ValueError:
            return
        if isinstance(record, dict):
            yield record


def _json_cell(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _parquet(file: Path) -> Sample:
    try:
        damage = damage_of_parquet(file)
        if damage is not None:
            raise SourceError(f"{file}: {damage}")
        with pq.ParquetFile(file) as opened_file:
            return _row_groups(str(file), opened_file, file.stat().st_size)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{file}: cannot be read as Parquet: {error}") from error


def _row_groups(path: str, file: Any, size: int) -> Sample:
    tables = [next(file.iter_batches(ROWS, row_groups=[group]), None) for group in _spread(file.num_row_groups)]
    batches = [pa.Table.from_batches([one]) for one in tables if one is not None and one.num_rows]
    if not batches:
        raise SourceError(f"{path}: holds no rows")
    read = sum(one.num_rows for one in batches)
    return _arrow(path, "parquet", batches, size, is_whole=read == file.metadata.num_rows)


def _delta(path: str) -> Sample:
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise EnvironmentProblem(
            f"{path}: is a Delta table, which init reads with deltalake: pip install 'dlmine-spark[train]'"
        ) from error
    # Nothing but the log is looked at here, and a folder has one.
    files_of("", SourceConfig(kind="table", path=path, format="delta"))
    try:
        table = DeltaTable(path)
        actions = table.get_add_actions(flatten=True)
        sizes = pa.table(actions).column("size_bytes").to_pylist()
        dataset = table.to_pyarrow_dataset()
        fragments = list(dataset.get_fragments())
        chosen = [fragments[place] for place in _spread(len(fragments))]
        found = [one.scanner(schema=dataset.schema).head(ROWS) for one in chosen]
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be read as a Delta table: {error}") from error
    tables = [one for one in found if one.num_rows]
    if not tables:
        raise SourceError(f"{path}: holds no rows")
    is_whole = len(fragments) == len(chosen) and all(one.num_rows < ROWS for one in tables)
    return _arrow(path, "delta", tables, sum(sizes), is_whole=is_whole)


def of_database(path: str, rows: pa.Table, database: dict[str, str], *, is_whole: bool) -> Sample:
    """The first rows of a table of a database, as it gave them.

    Raises:
        SourceError: there are none.
    """
    if not rows.num_rows:
        raise SourceError(f"{path}#{database['table']}: holds no rows")
    return replace(_arrow(path, "jdbc", [rows], rows.nbytes, is_whole=is_whole), database=database)


def _arrow(path: str, format_: Format, tables: Sequence[Any], size: int, *, is_whole: bool) -> Sample:
    """Typed columns as texts, the way Spark casts them."""
    table = pa.concat_tables(tables, promote_options="permissive")
    types: dict[str, ColumnType] = {}
    lists, cells = [], {}
    for column in table.schema:
        values = table.column(column.name)
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            lists.append(column.name)
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            cells[column.name] = [None if one is None else json.dumps(one, default=str) for one in values.to_pylist()]
            continue
        types[column.name] = _column_type(column.type)
        is_instant = pa.types.is_timestamp(column.type) and column.type.tz is not None
        if is_instant and (format_ != "parquet" or not is_zone(column.type.tz)):
            # Whatever zone is noted beside them, Spark tells them in UTC.
            values = values.cast(pa.timestamp(column.type.unit))
        cells[column.name] = [_as_text(one) for one in values.to_pylist()]
    return Sample(
        path=path,
        format=format_,
        files=1,
        size=size,
        is_whole=is_whole,
        cells=_tidied(pd.DataFrame(cells, dtype=object)),
        parts=np.repeat(np.arange(len(tables)), [one.num_rows for one in tables]),
        types=types,
        lists=tuple(lists),
    )


def _column_type(type_: Any) -> ColumnType:
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_):
        return "integer"
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return "double"
    if pa.types.is_timestamp(type_):
        return "timestamp"
    return "date" if pa.types.is_date(type_) else "string"


def _as_text(value: Any) -> str | None:
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _tidied(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells as cleaning sees them: without outer spaces, None where nothing is left."""
    return cells.map(lambda cell: (" ".join(cell.split()) or None) if isinstance(cell, str) else None)


def _shown(text: str) -> str:
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    return line if len(line) <= 60 else f"{line[:59]}…"
