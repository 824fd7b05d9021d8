"""From the files of a Delta table to arrays of float32, without Spark.

Every rank reads the training panel's pinned version with ``deltalake`` and pyarrow. That reader does not know every
Delta feature, and on two of them it would return wrong rows instead of an error: such tables are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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
from pyarrow.dataset import ParquetFragmentScanOptions

from dlmine_spark import schemas as s
from dlmine_spark.errors import TrainingError
from dlmine_spark.frequency import Moment

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
ALL_SIGNALS = ("segments", "rules", ARIMA_SIGNAL)
"""Mined signals a panel may hold, as named in ``training.mined``."""
_OWN_COLUMNS = (s.UNIQUE_ID, s.DS, s.Y, MASK, s.OPEN, ARIMA_PATH)


@dataclass(frozen=True, slots=True)
class PanelSource:
    """Where ranks find the training panel.

    Attributes:
        location: folder or object-store address of the Delta table.
        version: of the table, pinned for the run.
        storage_options: of deltalake, e.g. a region or an endpoint; never logged, since they may hold credentials.
    """

    location: str
    version: int
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)


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
        path_rows: per row: the latest ARIMA path made at or before this date, as an index into ``paths``; -1: none.
        path_ages: per row: steps since that path was made.
        paths: ARIMA forecasts, one path of ``horizon`` steps a line.
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
    path_rows: Ints
    path_ages: Ints
    paths: Floats

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

    def checksum(self) -> int:
        """A number of 48 bits that two ranks share if, and practically only if, they read the same panel."""
        digest = hashlib.blake2b(digest_size=6)
        for array in (self.starts, self.dynamic, self.static, self.category, self.path_rows, self.paths):
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return int.from_bytes(digest.digest(), "big")


def moment_type(moment: Moment) -> pa.DataType:
    """What Arrow has moments of one kind as."""
    if isinstance(moment, datetime):
        return pa.timestamp("us")
    return pa.date32() if isinstance(moment, date) else pa.int32()


def read_panel(source: PanelSource, cutoff: Moment, horizon: int, mined: Sequence[str] = ALL_SIGNALS) -> PanelArrays:
    """Read one cutoff's training panel at its pinned version, with the mined signals asked for.

    Raises:
        TrainingError: the table cannot be read rightly or at all, has no rows for the cutoff, does not reach the
            horizon, or holds numbers that are none.
    """
    table = _open(source)
    columns = [field.name for field in table.schema().fields]
    missing = [name for name in (s.CUTOFF, *_OWN_COLUMNS) if name not in columns]
    if missing:
        raise TrainingError(f"{source.location} version {source.version}: column {', '.join(missing)} is missing")
    features = Features.of(columns, mined)
    try:
        rows = table.to_pyarrow_dataset().to_table(
            columns=[*_OWN_COLUMNS, *features.all],
            filter=pc.field(s.CUTOFF) == pa.scalar(cutoff, moment_type(cutoff)),
            # Spark writes a checksum with every page: a damaged file is an error instead of other numbers.
            fragment_scan_options=ParquetFragmentScanOptions(page_checksum_verification=True),
        )
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise TrainingError(
            f"{source.location} version {source.version}: a file of cutoff {cutoff} cannot be read: "
            f"{_first_line(error)}; rerun the stage fuse with --force"
        ) from error
    if rows.num_rows == 0:
        raise TrainingError(
            f"{source.location} version {source.version} has no rows for cutoff {cutoff}; rerun the stage fuse"
        )
    if ARIMA_SIGNAL not in mined:
        at = rows.column_names.index(ARIMA_PATH)
        rows = rows.set_column(at, ARIMA_PATH, pa.nulls(rows.num_rows, pa.list_(pa.float64())))
    return panel_arrays(rows, features, cutoff, horizon)


def panel_arrays(rows: pa.Table, features: Features, cutoff: Moment, horizon: int) -> PanelArrays:
    """The arrays of one cutoff's rows, whatever order they come in.

    Raises:
        TrainingError: a date occurs twice, a series ends before the horizon, or a number is none.
    """
    rows = rows.sort_by([(s.UNIQUE_ID, "ascending"), (s.DS, "ascending")])
    names = rows.column(s.UNIQUE_ID).combine_chunks().dictionary_encode()
    codes = names.indices if isinstance(names, pa.DictionaryArray) else names.combine_chunks().indices
    ids = np.asarray(names.dictionary.to_pylist(), dtype=np.str_)
    series = codes.to_numpy().astype(np.int64)
    ds = rows.column(s.DS).to_numpy()
    ds = ds.astype(np.int64) if ds.dtype.kind == "i" else ds.astype(_moment(cutoff).dtype)
    starts = np.append(np.flatnonzero(np.diff(series, prepend=-1)), len(series)).astype(np.int64)
    _check_dates(ds, series, ids)
    dynamic = _dynamic(rows, features, ids, series)
    cutoff_rows = _cutoff_rows(ds, starts, ids, cutoff, horizon)
    first = starts[:-1]
    path_rows, path_ages, paths = _paths(rows.column(ARIMA_PATH), series, horizon)
    return PanelArrays(
        cutoff=cutoff,
        features=features,
        ids=ids,
        starts=starts,
        cutoff_rows=cutoff_rows,
        ds=ds,
        dynamic=dynamic,
        static=_matrix(rows, features.static, ids, series)[first],
        category=_matrix(rows, features.category, ids, series)[first].round().astype(np.int64),
        path_rows=path_rows,
        path_ages=path_ages,
        paths=paths,
    )


def _open(source: PanelSource) -> DeltaTable:
    """The table at its pinned version, if this reader returns its rows rightly."""
    where = f"{source.location} version {source.version}"
    try:
        table = DeltaTable(source.location, version=source.version, storage_options=dict(source.storage_options))
        protocol = table.protocol()
        properties = table.metadata().configuration
    except (DeltaError, OSError) as error:
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


def _dynamic(rows: pa.Table, features: Features, ids: npt.NDArray[np.str_], series: Ints) -> Floats:
    """Per row: y, mask, open and the covariates that change with time, in one contiguous matrix.

    One matrix, so that the windows of a batch are gathered by one indexing operation.
    """
    y = rows.column(s.Y).to_numpy().astype(np.float64)
    mask = pc.fill_null(rows.column(MASK), 0).to_numpy().astype(np.float32)
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
    dynamic[:, 2] = pc.fill_null(rows.column(s.OPEN), 1).to_numpy()
    dynamic[:, 3:] = _matrix(rows, time_varying, ids, series)
    return dynamic


def _matrix(rows: pa.Table, names: Sequence[str], ids: npt.NDArray[np.str_], series: Ints) -> Floats:
    """Some columns side by side; every cell a number."""
    matrix = np.empty((rows.num_rows, len(names)), dtype=np.float32)
    for position, name in enumerate(names):
        matrix[:, position] = rows.column(name).to_numpy()
        bad = ~np.isfinite(matrix[:, position])
        if bad.any():
            raise TrainingError(
                f"gold.training_panel: column {name} is null or no number in {int(bad.sum())} row(s), first in series "
                f"{str(ids[series[bad.argmax()]])!r}; set a fill for it in sources.*.columns"
            )
    return matrix


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


def _paths(column: pa.ChunkedArray, series: Ints, horizon: int) -> tuple[Ints, Ints, Floats]:
    """The latest ARIMA path of each row, its age in steps, and the paths themselves."""
    present = np.asarray(column.is_valid())
    made_at = np.flatnonzero(present)
    lists = column.filter(pa.array(present)).combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    if (lengths != horizon).any():
        raise TrainingError(
            f"gold.training_panel: an arima_path has {int(lengths[lengths != horizon][0])} steps, "
            f"evaluation.horizon is {horizon}; rerun the stages arima and fuse"
        )
    values: Any = pc.list_flatten(lists)
    paths = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(-1, horizon)
    usable = np.isfinite(paths).all(axis=1)
    made_at, paths = made_at[usable], paths[usable]
    latest = np.full(len(series), -1, dtype=np.int64)
    latest[made_at] = np.arange(len(made_at))
    np.maximum.accumulate(latest, out=latest)
    origin = made_at[latest] if len(made_at) else np.zeros(len(series), dtype=np.int64)
    # A running maximum does not stop where a series does.
    foreign = (latest < 0) | (series[origin] != series)
    latest[foreign] = -1
    ages = np.where(latest < 0, 0, np.arange(len(series)) - origin)
    return latest, ages, paths


def location_of(address: str) -> str:
    """A table's address as deltalake expects it."""
    return address if "://" in address else str(Path(address).absolute())


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
