"""Which files a path stands for, and whether they are still the same. Plain Python, no Spark."""

from __future__ import annotations

import difflib
import glob
import hashlib
import os
import re
import sys
import zoneinfo
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlmine_spark.config import SourceConfig
from dlmine_spark.damage import damage_of_log, damage_of_parquet
from dlmine_spark.errors import SourceError

MAGIC = {
    b"PAR1": "is a Parquet file: set sources.{name}.format=parquet",
    b"PK\x03\x04": "is a zip archive or an Excel workbook: unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook: save it as CSV",
    b"\x1f\x8b": "is compressed: give it a name that ends with .gz, which Spark goes by",
    b"BZh": "is compressed: give it a name that ends with .bz2, which Spark goes by",
}
COMPRESSED = (".gz", ".bz2")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it lay there when it was looked at: its path or address, bytes, and milliseconds since 1970."""

    path: str
    size: int
    modified: int


def is_local(path: str) -> bool:
    """Whether a path names files that Python can look at, rather than an address (s3a://..., dbfs:/..., jdbc:...)."""
    if path.lower().startswith("jdbc:"):
        return False
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", path)
    return scheme is None or scheme[1] == "file"


def files_of(name: str, source: SourceConfig, *, is_declared: bool = True) -> list[Path]:
    """The files that a local path stands for, by name; hidden ones (``.x``, ``_x``) are none of the data.

    Args:
        name: of the source, for messages.
        source: its declaration.
        is_declared: whether the source's format is somebody's word, which files have to be like.

    Raises:
        SourceError: there are none, where the source needs some, or one cannot be what the source says, or is damaged.
    """
    place = _place(source)
    if source.format == "delta":
        if not (place / "_delta_log").is_dir():
            raise SourceError(f"{source.path}: is no Delta table (there is no _delta_log folder in it)")
        damage = damage_of_log(place / "_delta_log")
        if damage is not None:
            raise SourceError(f"{source.path}: is damaged, {damage}: bring that file back, or write the table again")
        return sorted((place / "_delta_log").glob("*.json"))
    try:
        files = sorted(_matches(place))
        # Of a source that grows, all files may have gone after they were taken in.
        if not files and not (source.load == "merge" and _folder_of(place).is_dir()):
            raise SourceError(f"{source.path}: {_nothing_there(place)}")
        for file in files:
            _check_ends(file, name, source, is_declared=is_declared)
    except OSError as error:
        raise SourceError(f"{error.filename or source.path}: cannot be read: {error.strerror or error}") from error
    return files


def fingerprint(source: SourceConfig) -> str:
    """Hash of what identifies the content of a local source: name, size and time of every file."""
    digest = hashlib.sha256(source.path.encode())
    for file in files_of("", source):
        try:
            status = file.stat()
        except OSError as error:
            raise SourceError(f"{file}: cannot be read: {error.strerror}") from error
        digest.update(f"{file}|{status.st_size}|{status.st_mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def list_local(name: str, source: SourceConfig) -> list[SourceFile]:
    """The files that a local path stands for, as they lie there.

    Raises:
        SourceError: as ``files_of`` raises it.
    """
    found = []
    for file in files_of(name, source):
        try:
            status = file.stat()
        except OSError as error:
            raise SourceError(f"{file}: cannot be read: {error.strerror}") from error
        found.append(SourceFile(_spelled(file), status.st_size, status.st_mtime_ns // 1_000_000))
    return found


def _spelled(file: Path) -> str:
    """A path as Spark spells it: whole, without ``..`` and double slashes."""
    return re.sub("^/+", "/", os.path.normpath(file.absolute()))


def first_changed(files: Iterable[SourceFile], *, may_be_gone: bool = False) -> str | None:
    """The first of some local files that is not as it was when they were listed."""
    for file in files:
        try:
            status = Path(file.path).stat()
        except OSError:
            if may_be_gone:
                continue
            return file.path
        if (status.st_size, status.st_mtime_ns // 1_000_000) != (file.size, file.modified):
            return file.path
    return None


def size_of(source: SourceConfig) -> int:
    """Bytes of a source's files as they lie there; what Python cannot look at counts as large."""
    if not is_local(source.path):
        return sys.maxsize
    try:
        return sum(file.stat().st_size for file in files_of("", source))
    except OSError as error:
        raise SourceError(f"{error.filename or source.path}: cannot be read: {error.strerror or error}") from error


def folder_columns(source: SourceConfig, files: Iterable[Path]) -> list[str]:
    """Columns whose values are in the names of folders (``store=7/``), as Hive and Spark write partitioned data."""
    place = _place(source).absolute()
    if source.format == "delta" or not place.is_dir():
        return []
    parts = {part for file in files for part in file.absolute().relative_to(place).parts[:-1]}
    return sorted({part.partition("=")[0] for part in parts if re.fullmatch(r"\w+=.+", part)})


def nanosecond_columns(file: Path) -> dict[str, bool]:
    """Columns of a Parquet file that hold times in nanoseconds, as pandas writes them, and whether these are in UTC.

    Raises:
        SourceError: it is no Parquet file.
    """
    return {column.name: column.type.tz is not None for column in _times(file) if column.type.unit == "ns"}


def zones_of(files: Sequence[Path]) -> dict[str, dict[Path, str]]:
    """The zones of Parquet columns of times, by file, as pandas notes them beside instants; see ``is_zone``.

    A column that no file has a zone of is left out.

    Raises:
        SourceError: one is no Parquet file.
    """
    with ThreadPoolExecutor() as pool:
        times = pool.map(_times, files)
    zones: dict[str, dict[Path, str]] = {}
    for file, columns in zip(files, times, strict=True):
        for column in columns:
            if column.type.tz and is_zone(column.type.tz):
                zones.setdefault(column.name, {})[file] = column.type.tz
    return zones


def is_zone(name: str) -> bool:
    """Whether times that have this zone beside them are told there: it is a known one, and another than UTC."""
    is_known = name in zoneinfo.available_timezones() or re.fullmatch(r"[+-]\d{2}:\d{2}", name) is not None
    return name != "UTC" and is_known


def _times(file: Path) -> list[Any]:
    """The fields of a Parquet file that are times of a day."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{file}: cannot be read as Parquet: {error}") from error
    return [column for column in schema if pa.types.is_timestamp(column.type)]


def spark_path(file: Path | str) -> str:
    """A path or address that Spark takes literally: its own globs would read [ ] { } ? * in a file's name."""
    path = str(file.absolute()) if isinstance(file, Path) else file
    return re.sub(r"([\[\]{}?*\\])", r"\\\1", path)


def _place(source: SourceConfig) -> Path:
    return Path(re.sub(r"^file:(//)?(?=/)", "", source.path))


def _matches(place: Path) -> Iterable[Path]:
    """A file by its name, a folder's files at any depth, or what a glob matches."""
    if place.is_file():
        return [place]
    if place.is_dir():
        folder, found = place, list(place.rglob("*"))
    else:
        folder = _folder_of(place)
        found = [Path(match) for match in glob.glob(str(place), recursive=True)]
    return [
        file
        for file in found
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
    ]


def _folder_of(place: Path) -> Path:
    """The folder that a path's files are looked for in: itself, or the one above a glob."""
    if not glob.has_magic(str(place)):
        return place
    return next(parent for parent in place.parents if not glob.has_magic(str(parent)))


def _nothing_there(place: Path) -> str:
    if place.is_dir():
        return "there is no file in this folder"
    if glob.has_magic(str(place)):
        return f"no file matches this pattern (working folder: {Path.cwd().name}/)"
    if not place.parent.is_dir():
        return f"no such file, nor a folder {place.parent}"
    near = difflib.get_close_matches(place.name, [file.name for file in place.parent.iterdir()], n=1)
    hint = f", did you mean {near[0]}?" if near else ""
    return f"no such file{hint} (working folder: {Path.cwd().name}/)"


def _check_ends(file: Path, name: str, source: SourceConfig, *, is_declared: bool) -> None:
    """Refuse a file that is empty, or of another kind than its name or the source's format says, or cut off."""
    with file.open("rb") as stream:
        start = stream.read(4)
    if not start:
        raise SourceError(f"{file}: is empty; remove it or give another path")
    if ":" in file.name:
        raise SourceError(f"{file}: Spark cannot read a file whose name holds a colon; rename it")
    if source.format == "parquet":
        damage = damage_of_parquet(file) if is_declared else None
        if damage is not None:
            raise SourceError(f"{file}: {damage}")
        return
    if file.suffix in COMPRESSED:
        return
    for magic, problem in MAGIC.items():
        if start.startswith(magic):
            raise SourceError(f"{file}: {problem.format(name=name or '<name>')}")
