"""The header of a CSV file: read, checked against the columns that are wanted. Plain Python, no Spark."""

from __future__ import annotations

import bz2
import codecs
import csv
import difflib
import gzip
import io
import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlmine_spark.cleaning.names import bronze_name, bronze_names
from dlmine_spark.config import SourceConfig
from dlmine_spark.errors import SourceError
from dlmine_spark.sources.encoding import Encoding

log = logging.getLogger(__name__)

_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_BYTES = 1 << 16
_LONGEST_HEADER_BYTES = 1 << 22
_SHOWN_NAMES = 20
UNREADABLE = (".zst", ".xz", ".zip", ".7z", ".lz4", ".snappy", ".deflate")


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of a file under their bronze names, and the line that names them, as it stands in the file."""

    names: tuple[str, ...]
    line: str


def read_header(
    file: Path, name: str, source: SourceConfig, encoding: Encoding, from_folders: Sequence[str] = ()
) -> Header | None:
    """The checked header of a file; None where no row follows it.

    Raises:
        SourceError: the file cannot be decoded, or its header lacks a mapped column or names one twice.
    """
    text = _start_of(file, name, encoding)
    lines = [line.rstrip("\n") for line in io.StringIO(text, newline=None) if line.strip()]
    if not lines:
        raise SourceError(f"{file}: holds blank lines only, expected a header")
    header = header_of(lines[0], text if source.multiline else lines[0], str(file), name, source, from_folders)
    return header if len(lines) > 1 else None


def header_of(
    line: str, text: str, where: str, name: str, source: SourceConfig, from_folders: Sequence[str] = ()
) -> Header:
    """The checked header that a text starts with.

    Args:
        line: first line of the file, as it stands there.
        text: what to read the header from: the line, or more where cells may hold line breaks.
        where: the file, for messages.
        name: of the source.
        source: its declaration.
        from_folders: columns that come from the names of folders.
    """
    cells = _cells(text.lstrip("\ufeff"), source.delimiter)
    if cells is None:
        raise SourceError(
            f"{where}: the header has a quote that is not closed in its line; if names hold line breaks, set "
            f"sources.{name}.multiline=true"
        )
    names = bronze_names(cells)
    counts = Counter(bronze.lower() for bronze in names)
    missing = missing_columns(source, [*counts, *from_folders])
    if missing:
        other = _other_delimiter(text, source, missing)
        if other is not None:
            raise SourceError(
                f"{where}: the delimiter is not {source.delimiter!r}: set sources.{name}.delimiter={other} "
                f"({other} splits the header into the mapped columns)"
            )
        raise SourceError(explain_missing(where, name, names, missing))
    twice = [bronze for bronze in names if counts[bronze.lower()] > 1]
    if twice:
        raise SourceError(
            f"{where}: the header has columns {', '.join(twice[:_SHOWN_NAMES])} that are the same to Spark, which "
            "ignores case; rename all but one"
        )
    return Header(tuple(names), line)


def missing_columns(source: SourceConfig, names: Iterable[str]) -> dict[str, str]:
    """The mapped columns that are not among the names, case aside: canonical name -> bronze name."""
    there = {name.lower() for name in names}
    wanted = {column: bronze_name(spec.source or column) for column, spec in source.columns.items()}
    return {column: bronze for column, bronze in wanted.items() if bronze.lower() not in there}


def explain_missing(where: str, name: str, names: Sequence[str], missing: Mapping[str, str]) -> str:
    """What to say of mapped columns that a file or table does not have."""
    wanted = ", ".join(_wanted(column, bronze, names) for column, bronze in missing.items())
    columns, are = ("column", "is") if len(missing) == 1 else ("columns", "are")
    shown = ", ".join(names[:_SHOWN_NAMES])
    more = f" and {len(names) - _SHOWN_NAMES:,} more" if len(names) > _SHOWN_NAMES else ""
    keys = ", ".join(f"sources.{name}.columns.{column}" for column in missing)
    return f"{where}: {columns} {wanted} {are} missing; there are {shown}{more}: set {keys}"


def _wanted(column: str, bronze: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(bronze, names, n=1, cutoff=0.5)
    return f"{bronze} (for {column}{f', did you mean {near[0]}?' if near else ''})"


def check_quotes(file: Path, name: str, encoding: Encoding) -> None:
    """Refuse a file that opens a quote and never closes it: read with line breaks in cells, its rest would be one cell.

    Raises:
        SourceError: the number of quotes is odd.
    """
    decoder = codecs.getincrementaldecoder(encoding.codec)(errors="replace")
    quotes = 0
    try:
        with opened(file) as stream:
            for chunk in iter(lambda: stream.read(_LONGEST_HEADER_BYTES), b""):
                quotes += decoder.decode(chunk).count('"') if encoding.is_wide else chunk.count(b'"')
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{file}: cannot be read: {error}") from error
    if quotes % 2:
        raise SourceError(
            f"{file}: opens a quote that is never closed (there are {quotes:,}), which would swallow the rest of the "
            f"file; repair it, or set sources.{name}.multiline=false, which puts only the broken lines into quarantine"
        )


def _start_of(file: Path, name: str, encoding: Encoding) -> str:
    """The first lines of a file as text, at least the whole header."""
    if file.suffix in UNREADABLE:
        raise SourceError(f"{file}: {file.suffix} is not read; unpack it, or compress it as .gz")
    try:
        with opened(file) as stream:
            sample = stream.read(_SAMPLE_BYTES)
            if len(sample) == _SAMPLE_BYTES:
                # A header may be longer than the sample, and a sample may end inside the first line after it.
                sample += stream.readline(_LONGEST_HEADER_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{file}: cannot be read: {error}") from error
    if len(sample) >= _LONGEST_HEADER_BYTES and b"\n" not in sample and b"\r" not in sample:
        raise SourceError(f"{file}: has no line break in its first {len(sample) >> 20} MB; is it a CSV file?")
    text = codecs.getincrementaldecoder(encoding.codec)(errors="replace").decode(sample)
    _check_encoding(file, name, encoding, sample, text)
    return text.lstrip("\ufeff")


def opened(file: Path) -> io.BufferedIOBase:
    """The bytes of a file, unpacked where its name says that it is compressed."""
    if file.suffix == ".gz":
        return gzip.open(file, "rb")
    return bz2.open(file, "rb") if file.suffix == ".bz2" else file.open("rb")


def _check_encoding(file: Path, name: str, encoding: Encoding, sample: bytes, text: str) -> None:
    """Refuse a file that is plainly in another encoding; single bad bytes are left to the quarantine."""
    key = f"set sources.{name}.encoding"
    if not encoding.is_wide:
        if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise SourceError(f"{file}: is UTF-16, by its first two bytes: {key}=UTF-16")
        if sample.count(b"\0") > len(sample) // 5:
            raise SourceError(f"{file}: every other byte is zero, as in UTF-16: {key}=UTF-16LE (or UTF-16BE)")
    # The sign for what cannot be decoded may also stand in the file itself.
    wrong = text.count("\ufffd") - sample.count("\ufffd".encode("utf-8"))
    if wrong > 0 and 2 * wrong >= sum(letter > "\x7f" for letter in text):
        codec = "UTF-8" if encoding.spark == "UTF-8" else encoding.codec
        raise SourceError(f"{file}: is not {codec}: {key}, e.g. to cp1252 or latin-1")


def _cells(text: str, delimiter: str) -> list[str] | None:
    """The cells of the first record of a text; None where a quote is left open."""
    # Python's reader knows delimiters of one letter; a longer one becomes a letter that no file holds.
    single = delimiter if len(delimiter) == 1 else "\ue000"
    reader = csv.reader(io.StringIO(text.replace(delimiter, single), newline=""), delimiter=single, strict=True)
    try:
        return next((cells for cells in reader if cells), [])
    except csv.Error:
        return None


def _other_delimiter(text: str, source: SourceConfig, missing: Mapping[str, str]) -> str | None:
    """The delimiter that splits a header into all mapped columns, as one writes it; the usual reason for none."""
    for delimiter in _DELIMITERS:
        split = {bronze.lower() for bronze in bronze_names(_cells(text, delimiter) or [])}
        if delimiter != source.delimiter and all(bronze.lower() in split for bronze in missing.values()):
            return '"\\t"' if delimiter == "\t" else f"'{delimiter}'"
    return None
