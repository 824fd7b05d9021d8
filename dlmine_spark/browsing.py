"""What lies in a lakehouse, for people who look: without Spark where its tables are files on this machine.

Nothing here scans a table: rows are counted from Delta's log (or the footers of the files that it lists), and of what
is shown only as much is read as is asked for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pyspark.errors import PySparkException

from dlmine_spark import schemas as s
from dlmine_spark.damage import damage_of_log, damaged_table, tables_below
from dlmine_spark.errors import ConfigError, DlmineError
from dlmine_spark.lakehouse import Lakehouse

LAYERS = ("bronze", "staging", "silver", "gold", "ops")


class NeedsSpark(Exception):
    """A table, or a condition on its rows, that only Spark can read."""


@dataclass(frozen=True, slots=True)
class TableState:
    """A table as it is now.

    Attributes:
        name: ``<layer>.<name>``.
        rows: None where neither the log nor the files tell.
        size: bytes of its current files.
        version: of the last transaction.
        written_at: when that was.
    """

    name: str
    rows: int | None
    size: int
    version: int
    written_at: datetime


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Some rows of a table: names of its columns, and the cells of each row as texts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Browser(Protocol):
    """Looks into one lakehouse."""

    def tables(self) -> list[str]:
        """The names of all tables, by layer."""
        ...

    def state(self, table: str) -> TableState:
        """A table as it is now."""
        ...

    def excerpt(self, table: str, rows: int, where: str | None) -> Excerpt:
        """The first rows that come, of those that meet a condition."""
        ...

    def ledger(self) -> list[Mapping[str, Any]]:
        """The rows of ``ops.runs``, in no order; none where there is no such table."""
        ...


def can_browse_files() -> bool:
    """Whether the package is there that reads Delta tables without Spark."""
    return importlib.util.find_spec("deltalake") is not None


class FileBrowser:
    """Looks into a lakehouse in a local folder, with deltalake: answers within a second.

    Raises:
        NeedsSpark: in all but ``tables``, of a table with features that deltalake does not know.
        DlmineError: in all but ``tables``, of a table whose log is damaged.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def tables(self) -> list[str]:
        """The names of all tables, by layer."""
        return sorted(tables_below(self._root), key=_place)

    def state(self, table: str) -> TableState:
        """A table as it is now; where its log does not count the rows, the footers of its files do."""
        from deltalake.exceptions import DeltaError

        opened = self._open(table)
        try:
            last = opened.history(1)[0]
            files = pa.table(opened.get_add_actions(flatten=True))
            counts = files.column("num_records").to_pylist() if "num_records" in files.column_names else [None]
            rows = None if _has_deletions(opened) else _sum(counts)
            if rows is None and not _has_deletions(opened):
                # Reads the footers of the files.
                rows = int(opened.to_pyarrow_dataset().count_rows())
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise NeedsSpark(f"{table}: {error}") from error
        size = sum(files.column("size_bytes").to_pylist())
        return TableState(table, rows, size, opened.version(), datetime.fromtimestamp(last["timestamp"] / 1000, UTC))

    def excerpt(self, table: str, rows: int, where: str | None) -> Excerpt:
        """The first rows that come, of those that meet a condition."""
        from deltalake import QueryBuilder
        from deltalake.exceptions import DeltaError

        opened = self._open(table)
        if _has_deletions(opened):
            raise NeedsSpark(f"{table}: has deletion vectors")
        try:
            if where is None:
                found = opened.to_pyarrow_dataset().head(rows)
            else:
                # The line break ends a comment in the condition.
                query = f"SELECT * FROM shown WHERE ({where}\n) LIMIT {rows}"
                found = pa.table(QueryBuilder().register("shown", opened).execute(query).read_all())
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise NeedsSpark(f"{table}: {error}") from error
        cells = zip(*(map(_as_text, found.column(name).to_pylist()) for name in found.column_names), strict=True)
        return Excerpt(tuple(found.column_names), tuple(cells))

    def ledger(self) -> list[Mapping[str, Any]]:
        """The rows of ``ops.runs``, in no order; none where there is no such table."""
        from deltalake.exceptions import DeltaError

        if s.RUNS.name not in self.tables():
            return []
        try:
            rows = self._open(s.RUNS.name).to_pyarrow_table().to_pylist()
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise NeedsSpark(f"{s.RUNS.name}: {error}") from error
        return [{**row, "output_versions": dict(row["output_versions"] or ())} for row in rows]

    def _open(self, table: str) -> Any:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        place = self._root.joinpath(*table.split("."))
        damage = damage_of_log(place / "_delta_log")
        if damage is not None:
            raise DlmineError(damaged_table(table, place, damage))
        try:
            return DeltaTable(str(place))
        except (DeltaError, OSError) as error:
            raise NeedsSpark(f"{table}: {error}") from error


class SparkBrowser:
    """Looks into a lakehouse with Spark: one in a catalog or an object store, or of tables that only Spark can read.

    Which tables there are, the ledger tells there: each run notes what it wrote.
    """

    def __init__(self, lakehouse: Lakehouse) -> None:
        self._lakehouse = lakehouse

    def tables(self) -> list[str]:
        """The names of all tables that some run wrote and that are still there, by layer."""
        noted = {name for row in self.ledger() for name in row["output_versions"] if " " not in name}
        if self._lakehouse.exists(s.RUNS.name):
            noted.add(s.RUNS.name)
        return sorted((name for name in noted if self._lakehouse.exists(name)), key=_place)

    def state(self, table: str) -> TableState:
        """A table as it is now; Delta counts from its log where that has the numbers of rows."""
        details = self._lakehouse.describe(table)
        rows = self._lakehouse.read(table, details.version).count()
        return TableState(table, rows, details.size, details.version, details.written_at)

    def excerpt(self, table: str, rows: int, where: str | None) -> Excerpt:
        """The first rows that come, of those that meet a condition.

        Raises:
            ConfigError: the condition is no SQL, or names no column.
        """
        frame = self._lakehouse.read(table)
        try:
            found = (frame if where is None else frame.where(where)).limit(rows).collect()
        except PySparkException as error:
            first = str(error).strip().splitlines()[0]
            raise ConfigError(f"--where {where}: {first} (columns: {', '.join(frame.columns)})") from error
        return Excerpt(tuple(frame.columns), tuple(tuple(map(_as_text, row)) for row in found))

    def ledger(self) -> list[Mapping[str, Any]]:
        """The rows of ``ops.runs``, in no order; none where there is no such table."""
        if not self._lakehouse.exists(s.RUNS.name):
            return []
        rows = [row.asDict() for row in self._lakehouse.read(s.RUNS.name).collect()]
        return [{**row, "output_versions": row["output_versions"] or {}} for row in rows]


def attempts(ledger: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last word about every attempt at a run, the newest attempt first."""
    last: dict[tuple[str, datetime], Mapping[str, Any]] = {}
    for row in ledger:
        key = (row[s.RUN_ID], row["started_at"])
        if key not in last or row["ended_at"] is not None:
            last[key] = row
    return sorted(last.values(), key=lambda row: (row["started_at"], row[s.RUN_ID]), reverse=True)


def writers(ledger: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Every table and version that a run noted as its own, with that run; newest runs first."""
    for run in attempts(ledger):
        for table, version in run["output_versions"].items():
            yield table, version, run


def refuse_nothing(found: Sequence[object], where: str) -> None:
    """Raise DlmineError where a lakehouse holds no tables, or no runs."""
    if not found:
        raise DlmineError(f"lakehouse {where}: holds no tables yet; dlmine run --config FILE makes them")


def _place(table: str) -> tuple[int, str]:
    layer = table.partition(".")[0]
    return (LAYERS.index(layer) if layer in LAYERS else len(LAYERS), table)


def _has_deletions(table: Any) -> bool:
    """Whether files hold rows that count as deleted, which the log's numbers of rows include."""
    return "deletionVectors" in (table.protocol().reader_features or ())


def _sum(counts: Sequence[int | None]) -> int | None:
    """The sum of all, None where one is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value.isoformat(sep=" ") if isinstance(value, datetime) else str(value)
