"""From the files of a Delta table to arrays of float32, without Spark.

Every rank reads the training panel's pinned version with ``deltalake`` and pyarrow. That reader does not know every
Delta feature, and on two of them it would return wrong rows instead of an error: such tables are refused.

A panel is read some shards at a time, each with whole series, and its arrays lie in memory, or in mapped files where
they are large (``scratch``). Their content is the same, however many shards there are and wherever they lie.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow.dataset import Dataset, ParquetFragmentScanOptions

from dlmine_spark import schemas as s
from dlmine_spark.config import ALL_SIGNALS
from dlmine_spark.errors import EnvironmentProblem, TrainingError
from dlmine_spark.frequency import Moment
from dlmine_spark.stores import explained, reader_options
from dlmine_spark.training.scratch import (
    FileRows,
    Files,
    Memory,
    Store,
    lease,
    release,
    remove_leftovers,
    scratch_root,
)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Moments = npt.NDArray[Any]
"""Dates by day, times by microsecond, or whole numbers."""

REFUSED_FEATURES = {
    "columnMapping": "delta.columnMapping.mode",
    "deletionVectors": "delta.enableDeletionVectors",
}
"""Reader features that would be read wrongly, with the table property that switches them on."""
MASK = "mask"
ARIMA_PATH = "arima_path"
ARIMA_SIGNAL = "arima"
READ_ROWS = 500_000
"""Rows read and sorted at once; some 300 MB with twenty covariates. A shard with more is read alone."""
BLOCK_ROWS = 1_000_000
"""Rows that are looked at together where all are: what that needs by the way stays small beside the panel."""
_OWN_COLUMNS = (s.UNIQUE_ID, s.DS, s.Y, MASK, s.OPEN, ARIMA_PATH)


@dataclass(frozen=True, slots=True)
class PanelSource:
    """Where ranks find the training panel.

    Attributes:
        location: folder or object-store address of the Delta table.
        version: of the table, pinned for the run.
        storage_options: of deltalake, e.g. a region or an endpoint; never logged, since they may hold credentials.
        in_memory_mb: size of a cutoff's arrays up to which they are held in memory.
        scratch: local folder for larger ones; None: the system's for temporary files.
    """

    location: str
    version: int
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    in_memory_mb: float = math.inf
    scratch: str | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """Full column names of the panel's covariates by role, sorted."""

    known_future: tuple[str, ...]
    past_only: tuple[str, ...]
    static: tuple[str, ...]
    category: tuple[str, ...]

    @classmethod
    def of(cls, columns: Sequence[str], mined: Sequence[str] = ALL_SIGNALS) -> Features:
        """The covariates among a table's columns, without mined signals that are not asked for."""

        def starting(prefix: str) -> tuple[str, ...]:
            unwanted = tuple(f"{prefix}{s.MINED}{signal}" for signal in ALL_SIGNALS if signal not in mined)
            return tuple(sorted(name for name in columns if name.startswith(prefix) and not name.startswith(unwanted)))

        return cls(
            starting(s.KNOWN_FUTURE_PREFIX),
            starting(s.PAST_ONLY_PREFIX),
            starting(s.STATIC_PREFIX),
            starting(s.CATEGORY_PREFIX),
        )

    @property
    def all(self) -> tuple[str, ...]:
        """Every covariate."""
        return (*self.known_future, *self.past_only, *self.static, *self.category)


@dataclass(frozen=True)
class PanelArrays:
    """One cutoff's training panel: all series under each other, in the order of ``unique_id`` and date.

    Attributes:
        cutoff: last date whose ``y`` is known.
        features: names of the covariates.
        ids: of the series.
        starts: row at which each series begins; one more entry than series, the last is the number of rows.
        cutoff_rows: row of the cutoff in each series: the last one up to it.
        ds: date of each row (or time, or step).
        dynamic: per row: y (0 where unknown), mask, open, known-future covariates, past-only covariates.
        static: per series: numeric attributes.
        category: per series: codes of categorical attributes, 0 is unknown.
        path_origins: rows that an ARIMA path was made at, sorted.
        paths: these paths, of ``horizon`` steps each.
        maps: files behind the arrays; none where they are in memory.
    """

    cutoff: Moment
    features: Features
    ids: npt.NDArray[np.str_]
    starts: Ints
    cutoff_rows: Ints
    ds: Moments
    dynamic: Floats
    static: Floats
    category: Ints
    path_origins: Ints
    paths: Floats
    maps: tuple[mmap.mmap, ...] = field(default=(), repr=False)

    @property
    def y(self) -> Floats:
        """The value of each row, 0 where it is unknown."""
        return self.dynamic[:, 0]

    @property
    def mask(self) -> Floats:
        """1 where ``y`` is known and counts."""
        return self.dynamic[:, 1]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.dynamic)

    def release(self) -> None:
        """Let go of what was read of the files: it need not count as this process's memory."""
        release(self.maps)

    @property
    def file_rows(self) -> dict[str, FileRows]:
        """Where the rows that windows are cut out of lie on disk, by name: ``dynamic``, ``paths``; none in memory."""
        found = {name: FileRows.of(array) for name, array in (("dynamic", self.dynamic), ("paths", self.paths))}
        return {name: rows for name, rows in found.items() if rows is not None}

    def blocks(self) -> Iterator[slice]:
        """All series in their order, some at a time: of ``BLOCK_ROWS`` rows together, or one that has more."""
        first = 0
        while first < len(self.ids):
            fitting = int(np.searchsorted(self.starts, self.starts[first] + BLOCK_ROWS, side="right")) - 1
            last = max(first + 1, fitting)
            yield slice(first, last)
            self.release()
            first = last

    def checksum(self) -> int:
        """A number of 48 bits that two ranks share if, and practically only if, they read the same panel."""
        digest = hashlib.blake2b(digest_size=6)
        for array in (self.starts, self.dynamic, self.static, self.category, self.path_origins, self.paths):
            for first in range(0, len(array), BLOCK_ROWS):
                digest.update(np.ascontiguousarray(array[first : first + BLOCK_ROWS]).view(np.uint8).data)
                self.release()
        return int.from_bytes(digest.digest(), "big")


def moment_type(moment: Moment) -> pa.DataType:
    """What Arrow has moments of one kind as."""
    if isinstance(moment, datetime):
        return pa.timestamp("us")
    return pa.date32() if isinstance(moment, date) else pa.int32()


def read_panel(source: PanelSource, cutoff: Moment, horizon: int, mined: Sequence[str] = ALL_SIGNALS) -> PanelArrays:
    """Read one cutoff's training panel at its pinned version, with the mined signals asked for.

    Arrays of more than ``source.in_memory_mb`` are mapped from files that all processes of this machine share.

    Raises:
        TrainingError: the table cannot be read rightly or at all, has no rows for the cutoff, does not reach the
            horizon, or holds numbers that are none.
        EnvironmentProblem: there is no room for the files.
    """
    rows = _rows_of(source, cutoff, mined)
    count = rows.count()
    if count == 0:
        raise TrainingError(
            f"{source.location} version {source.version} has no rows for cutoff {cutoff}; rerun the stage fuse"
        )
    root = scratch_root(source.scratch)
    remove_leftovers(root)
    in_memory = _megabytes(count, rows.features) <= source.in_memory_mb
    if in_memory and count <= READ_ROWS:
        return panel_arrays(rows.read(), rows.features, cutoff, horizon)
    if in_memory:
        return PanelArrays(cutoff=cutoff, features=rows.features, **_fill(Memory(), rows, horizon))

    def fill(files: Files) -> None:
        arrays = _fill(files, rows, horizon)
        files.finish({name: array for name, array in arrays.items() if name not in _LARGE})

    held = lease(root, rows.key(horizon), fill)
    panel = PanelArrays(cutoff=cutoff, features=rows.features, maps=held.maps, **held.arrays)
    # The files are mapped now, and only those who come later need their names; at the latest when this process ends.
    weakref.finalize(panel, held.end)
    return panel


def read_categories(
    source: PanelSource, cutoff: Moment, mined: Sequence[str] = ALL_SIGNALS
) -> tuple[npt.NDArray[np.str_], Ints]:
    """Ids of a cutoff's series, sorted, and their codes of categorical attributes (series x attributes), alone.

    Raises:
        TrainingError: the table cannot be read.
    """
    rows = _rows_of(source, cutoff, mined)
    names = rows.features.category
    series = rows.by_series([s.UNIQUE_ID], dict.fromkeys(names, "min")).sort_by(s.UNIQUE_ID)
    codes = [series.column(name).to_numpy().round().astype(np.int64) for name in names]
    ids = np.asarray(series.column(s.UNIQUE_ID).to_pylist(), dtype=np.str_)
    return ids, np.stack(codes, axis=1) if codes else np.empty((len(ids), 0), dtype=np.int64)


_LARGE = ("dynamic", "ds", "paths")
"""Arrays that grow with the rows of a panel."""


def _megabytes(rows: int, features: Features) -> float:
    """Size of the arrays that grow with the rows; ARIMA's paths, of which few rows have one, are left out."""
    columns = 3 + len(features.known_future) + len(features.past_only)
    return rows * (columns * 4 + 8) / 2**20


@dataclass(frozen=True)
class _Rows:
    """One cutoff's rows in the table's files.

    Attributes:
        source: of the table.
        table_id: of the table at this place, which may be another one's later.
        dataset: the files of the pinned version.
        cutoff: whose rows.
        features: covariates that are read.
        with_paths: whether ARIMA's paths are.
    """

    source: PanelSource
    table_id: str
    dataset: Dataset
    cutoff: Moment
    features: Features
    with_paths: bool

    def count(self) -> int:
        """Number of rows."""
        with self._naming_the_table():
            return int(self.dataset.count_rows(filter=self._filter()))

    def read(self, shards: Sequence[int] | None = None) -> pa.Table:
        """All that is needed of the rows of some shards."""
        own = [name for name in _OWN_COLUMNS if name != ARIMA_PATH or self.with_paths]
        with self._naming_the_table():
            rows = self.dataset.to_table(
                columns=[*own, *self.features.all], filter=self._filter(shards), fragment_scan_options=_verifying()
            )
        if self.with_paths:
            return rows
        return rows.append_column(ARIMA_PATH, pa.nulls(rows.num_rows, pa.list_(pa.float64())))

    def by_series(self, keys: Sequence[str], columns: Mapping[str, str]) -> pa.Table:
        """Columns aggregated by some keys, batch by batch: the functions have to be those that aggregate themselves.

        ``rows`` has the number of rows.
        """
        names = [*keys, *columns]
        parts: list[pa.Table] = []
        with self._naming_the_table():
            for batch in self.dataset.to_batches(
                columns=names, filter=self._filter(), fragment_scan_options=_verifying()
            ):
                table = pa.Table.from_batches([batch]).append_column("rows", pa.array(np.ones(len(batch), np.int64)))
                parts.append(_aggregated(table, keys, columns))
                if sum(part.num_rows for part in parts) > READ_ROWS:
                    parts = [_aggregated(pa.concat_tables(parts), keys, columns)]
        return _aggregated(pa.concat_tables(parts), keys, columns)

    def key(self, horizon: int) -> str:
        """A name for the arrays made from these rows: equal for what is equal."""
        what = (self.table_id, self.source.version, self.cutoff, horizon, self.features, self.with_paths)
        return hashlib.blake2b(repr(what).encode(), digest_size=12).hexdigest()

    def _filter(self, shards: Sequence[int] | None = None) -> pc.Expression:
        of_cutoff = pc.field(s.CUTOFF) == pa.scalar(self.cutoff, moment_type(self.cutoff))
        return of_cutoff if shards is None else of_cutoff & pc.field(s.SHARD).isin(list(shards))

    @contextmanager
    def _naming_the_table(self) -> Iterator[None]:
        try:
            yield
        except (DeltaError, OSError, pa.ArrowException) as error:
            _refuse_store(self.source, error)
            raise TrainingError(
                f"{self.source.location} version {self.source.version}: a file of cutoff {self.cutoff} cannot be "
                f"read: {_first_line(error)}; rerun the stage fuse with --force"
            ) from error


def _verifying() -> ParquetFragmentScanOptions:
    # Spark writes a checksum with every page: a damaged file is an error instead of other numbers.
    return ParquetFragmentScanOptions(page_checksum_verification=True)


def _aggregated(table: pa.Table, keys: Sequence[str], columns: Mapping[str, str]) -> pa.Table:
    wanted = [*columns.items(), ("rows", "sum")]
    found = table.group_by(list(keys)).aggregate(wanted)
    return found.select([*keys, *(f"{name}_{how}" for name, how in wanted)]).rename_columns([*keys, *columns, "rows"])


def _rows_of(source: PanelSource, cutoff: Moment, mined: Sequence[str]) -> _Rows:
    table = _open(source)
    columns = [field.name for field in table.schema().fields]
    missing = [name for name in (s.CUTOFF, s.SHARD, *_OWN_COLUMNS) if name not in columns]
    if missing:
        raise TrainingError(f"{source.location} version {source.version}: column {', '.join(missing)} is missing")
    features = Features.of(columns, mined)
    return _Rows(source, str(table.metadata().id), table.to_pyarrow_dataset(), cutoff, features, ARIMA_SIGNAL in mined)


def _fill(store: Store, rows: _Rows, horizon: int) -> dict[str, Any]:
    """The arrays of a panel, read some shards at a time; each series goes to its place in the order of all.

    The large ones lie in the store.
    """
    found = rows.by_series([s.SHARD, s.UNIQUE_ID], {})
    names = np.asarray(found.column(s.UNIQUE_ID).to_pylist(), dtype=np.str_)
    ids, own = np.unique(names, return_index=True)
    counts = found.column("rows").to_numpy()
    starts = np.append(0, np.cumsum(counts[own])).astype(np.int64)
    total, features = int(starts[-1]), rows.features
    dynamic = store.empty("dynamic", (total, 3 + len(features.known_future) + len(features.past_only)), np.float32)
    ds = store.empty("ds", (total,), _moment(rows.cutoff).dtype)
    cutoff_rows = np.empty(len(ids), dtype=np.int64)
    static = np.empty((len(ids), len(features.static)), dtype=np.float32)
    category = np.empty((len(ids), len(features.category)), dtype=np.int64)
    origins: list[Ints] = []
    paths: list[Floats] = []
    for shards in _groups(found):
        part = panel_arrays(rows.read(shards), features, rows.cutoff, horizon)
        at = np.searchsorted(ids, part.ids)
        lengths = np.diff(part.starts)
        split = lengths != np.diff(starts)[at]
        if split.any():
            raise TrainingError(
                f"{rows.source.location} version {rows.source.version}: series {str(part.ids[split.argmax()])!r} lies "
                "in more than one shard; rerun the stage fuse with --force"
            )
        moved = starts[at] - part.starts[:-1]
        for to, first, length in zip(starts[at].tolist(), part.starts.tolist(), lengths.tolist(), strict=False):
            dynamic[to : to + length] = part.dynamic[first : first + length]
            ds[to : to + length] = part.ds[first : first + length]
        cutoff_rows[at] = part.cutoff_rows + moved
        static[at], category[at] = part.static, part.category
        series = np.searchsorted(part.starts, part.path_origins, side="right") - 1
        origins.append(part.path_origins + moved[series])
        paths.append(store.empty(f"paths-{len(paths)}", part.paths.shape, np.float32))
        paths[-1][:] = part.paths
        del part
        store.release()
        # What Arrow read into is kept by its allocator for the next time, up to several times as much.
        pa.default_memory_pool().release_unused()
    path_origins = np.sort(np.concatenate(origins))
    in_order = store.empty("paths", (len(path_origins), horizon), np.float32)
    for number, (own_origins, own_paths) in enumerate(zip(origins, paths, strict=True)):
        in_order[np.searchsorted(path_origins, own_origins)] = own_paths
        store.drop(f"paths-{number}")
        store.release()
    return {
        "ids": ids,
        "starts": starts,
        "cutoff_rows": cutoff_rows,
        "ds": ds,
        "dynamic": dynamic,
        "static": static,
        "category": category,
        "path_origins": path_origins,
        "paths": in_order,
    }


def _groups(series: pa.Table) -> Iterator[list[int]]:
    """Shards to read together: as many as have ``READ_ROWS`` rows, at least one."""
    sizes = series.group_by(s.SHARD).aggregate([("rows", "sum")]).sort_by(s.SHARD)
    together: list[int] = []
    rows = 0
    for shard, size in zip(sizes.column(s.SHARD).to_pylist(), sizes.column("rows_sum").to_pylist(), strict=True):
        if together and rows + size > READ_ROWS:
            yield together
            together, rows = [], 0
        together.append(shard)
        rows += size
    yield together


def panel_arrays(rows: pa.Table, features: Features, cutoff: Moment, horizon: int) -> PanelArrays:
    """The arrays of one cutoff's rows, whatever order they come in.

    Raises:
        TrainingError: a date occurs twice, a series ends before the horizon, or a number is none.
    """
    names = rows.column(s.UNIQUE_ID).dictionary_encode().unify_dictionaries().combine_chunks()
    names = names if isinstance(names, pa.DictionaryArray) else names.chunk(0)
    ids, ranks = np.unique(np.asarray(names.dictionary.to_pylist(), dtype=np.str_), return_inverse=True)
    series = ranks[names.indices.to_numpy()].astype(np.int64)
    ds = rows.column(s.DS).to_numpy()
    ds = ds.astype(np.int64) if ds.dtype.kind == "i" else ds.astype(_moment(cutoff).dtype)
    # Columns are put in order one by one: a second table of all of them would need as much memory again.
    order = np.lexsort((ds, series))
    series, ds = series[order], ds[order]
    starts = np.append(np.flatnonzero(np.diff(series, prepend=-1)), len(series)).astype(np.int64)
    _check_dates(ds, series, ids)
    dynamic = _dynamic(rows, order, features, ids, series)
    cutoff_rows = _cutoff_rows(ds, starts, ids, cutoff, horizon)
    first = starts[:-1]
    path_origins, paths = _paths(rows.column(ARIMA_PATH), order, horizon)
    return PanelArrays(
        cutoff=cutoff,
        features=features,
        ids=ids,
        starts=starts,
        cutoff_rows=cutoff_rows,
        ds=ds,
        dynamic=dynamic,
        static=_matrix(rows, order, features.static, ids, series)[first],
        category=_matrix(rows, order, features.category, ids, series)[first].round().astype(np.int64),
        path_origins=path_origins,
        paths=paths,
    )


def _open(source: PanelSource) -> DeltaTable:
    """The table at its pinned version, if this reader returns its rows rightly."""
    where = f"{source.location} version {source.version}"
    # Of the rank's own machine: it may be another than the driver's.
    options = {**reader_options(source.location, os.environ), **source.storage_options}
    try:
        table = DeltaTable(source.location, version=source.version, storage_options=options)
        protocol = table.protocol()
        properties = table.metadata().configuration
    except (DeltaError, OSError) as error:
        _refuse_store(source, error)
        raise TrainingError(
            f"{where}: cannot be opened by the training reader (deltalake): {_first_line(error)}"
        ) from error
    used = set(protocol.reader_features or ())
    if properties.get("delta.columnMapping.mode", "none") != "none":
        used.add("columnMapping")
    if properties.get("delta.enableDeletionVectors", "false").lower() == "true":
        used.add("deletionVectors")
    refused = sorted(used & REFUSED_FEATURES.keys())
    if refused:
        named = " and ".join(f"{name} ({REFUSED_FEATURES[name]})" for name in refused)
        raise TrainingError(
            f"{where}: the table uses {named}, which the ranks' reader would misread; "
            "drop the table, switch the property off for new tables, and rerun the stage fuse"
        )
    return table


def _refuse_store(source: PanelSource, error: BaseException) -> None:
    """Say what an object store lacks, or this machine to reach it, if the error is of that.

    Raises:
        EnvironmentProblem: it is.
    """
    reason = explained(str(error), source.location, os.environ)
    if reason is not None:
        raise EnvironmentProblem(f"{source.location} version {source.version}: {reason}") from error


def _dynamic(rows: pa.Table, order: Ints, features: Features, ids: npt.NDArray[np.str_], series: Ints) -> Floats:
    """Per row: y, mask, open and the covariates that change with time, in one contiguous matrix.

    One matrix, so that the windows of a batch are gathered by one indexing operation.
    """
    y = rows.column(s.Y).to_numpy().astype(np.float64)[order]
    mask = pc.fill_null(rows.column(MASK), 0).to_numpy().astype(np.float32)[order]
    bad = (mask > 0) & ~np.isfinite(y)
    if bad.any():
        raise TrainingError(
            f"gold.training_panel: y of series {str(ids[series[bad.argmax()]])!r} is no number on {bad.sum()} date(s) "
            "that count; check cleaning of y"
        )
    time_varying = (*features.known_future, *features.past_only)
    dynamic = np.empty((len(y), 3 + len(time_varying)), dtype=np.float32)
    dynamic[:, 0] = np.where(np.isfinite(y), y, 0.0)
    dynamic[:, 1] = mask
    dynamic[:, 2] = pc.fill_null(rows.column(s.OPEN), 1).to_numpy()[order]
    _fill_matrix(dynamic[:, 3:], rows, order, time_varying, ids, series)
    return dynamic


def _matrix(rows: pa.Table, order: Ints, names: Sequence[str], ids: npt.NDArray[np.str_], series: Ints) -> Floats:
    """Some columns side by side; every cell a number."""
    matrix = np.empty((rows.num_rows, len(names)), dtype=np.float32)
    _fill_matrix(matrix, rows, order, names, ids, series)
    return matrix


def _fill_matrix(
    matrix: Floats, rows: pa.Table, order: Ints, names: Sequence[str], ids: npt.NDArray[np.str_], series: Ints
) -> None:
    for position, name in enumerate(names):
        matrix[:, position] = rows.column(name).to_numpy()[order]
        bad = ~np.isfinite(matrix[:, position])
        if bad.any():
            raise TrainingError(
                f"gold.training_panel: column {name} is null or no number in {int(bad.sum())} row(s), first in series "
                f"{str(ids[series[bad.argmax()]])!r}; set a fill for it in sources.*.columns"
            )


def _moment(moment: Moment) -> np.datetime64 | np.int64:
    if isinstance(moment, datetime):
        return np.datetime64(moment, "us")
    return np.datetime64(moment, "D") if isinstance(moment, date) else np.int64(str(moment))


def _check_dates(ds: Moments, series: Ints, ids: npt.NDArray[np.str_]) -> None:
    repeated = (ds[1:] <= ds[:-1]) & (np.diff(series) == 0)
    if repeated.any():
        row = int(repeated.argmax())
        raise TrainingError(
            f"gold.training_panel: series {str(ids[series[row]])!r} has more than one row for {ds[row]}"
        )


def _cutoff_rows(ds: Moments, starts: Ints, ids: npt.NDArray[np.str_], cutoff: Moment, horizon: int) -> Ints:
    """Last row up to the cutoff in each series; every series reaches exactly the horizon after it."""
    last = starts[1:] - 1
    rows = last - horizon
    short = rows < starts[:-1]
    bound = _moment(cutoff)
    following = ds[np.minimum(np.maximum(rows, 0) + 1, last)]
    wrong = short | (ds[np.maximum(rows, 0)] > bound) | (following <= bound)
    if wrong.any():
        name = str(ids[int(wrong.argmax())])
        raise TrainingError(
            f"gold.training_panel: series {name!r} ends at {ds[last[int(wrong.argmax())]]}, which is not {horizon} "
            f"steps after the cutoff {cutoff} (evaluation.horizon is {horizon}); rerun the stage fuse"
        )
    return rows.astype(np.int64)


def _paths(column: pa.ChunkedArray, order: Ints, horizon: int) -> tuple[Ints, Floats]:
    """The rows, in order, that ARIMA made a path at, and the paths themselves."""
    made_at = np.flatnonzero(np.asarray(column.is_valid())[order])
    lists = column.take(pa.array(order[made_at])).combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    if (lengths != horizon).any():
        raise TrainingError(
            f"gold.training_panel: an arima_path has {int(lengths[lengths != horizon][0])} steps, "
            f"evaluation.horizon is {horizon}; rerun the stages arima and fuse"
        )
    values: Any = pc.list_flatten(lists)
    paths = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(-1, horizon)
    usable = np.isfinite(paths).all(axis=1)
    return made_at[usable], paths[usable]


def location_of(address: str) -> str:
    """A table's address as deltalake expects it."""
    return address if "://" in address else str(Path(address).absolute())


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
