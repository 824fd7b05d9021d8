"""Arrays too large for memory: files of a scratch folder, mapped, one copy for all ranks of a machine.

Whoever needs some arrays first fills their files under a lock; others of the machine wait for that and map the same
files. Every user keeps a shared lock as long as it needs them, and the last one removes them. Locks end with their
process, however it ends: what nobody holds was left behind by a killed one, and goes when the next panel is read.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dlmine_spark.errors import EnvironmentProblem

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]

_LOCK_SUFFIX = ".lock"
_COMPLETE = "complete"


class Store(Protocol):
    """Where arrays of any size are filled."""

    def empty(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array to be filled."""
        ...

    def release(self) -> None:
        """Let go of memory that files hold too."""
        ...

    def drop(self, name: str) -> None:
        """Forget an array that is needed no more."""
        ...


class Memory:
    """Arrays in memory."""

    def empty(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array to be filled."""
        return np.empty(shape, dtype)

    def release(self) -> None:
        """Nothing is anywhere else."""

    def drop(self, name: str) -> None:
        """Whoever filled it lets go of it."""


class Files:
    """Arrays as files of a folder, by name; read once all of them are there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: list[mmap.mmap] = []

    def empty(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array to be filled, its space on disk taken now: a full disk under a mapped file kills the process."""
        path = self._path(name)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        # Not on macOS.
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        self._maps.append(_map_of(array))
        return np.asarray(array)

    def release(self) -> None:
        """Unmap what was filled; the file has it."""
        release(self._maps)

    def drop(self, name: str) -> None:
        """Remove a file; whoever still maps it may go on."""
        self._path(name).unlink()

    def finish(self, small: Mapping[str, Array]) -> None:
        """Add arrays that are small, and say that all are there."""
        for name, array in small.items():
            np.save(self._path(name), array, allow_pickle=False)
        self._maps.clear()
        (self._folder / _COMPLETE).touch()

    @property
    def is_complete(self) -> bool:
        """Whether they were finished."""
        return (self._folder / _COMPLETE).exists()

    def mapped(self) -> tuple[dict[str, Array], tuple[mmap.mmap, ...]]:
        """Every array by name, for reading, and the maps behind them."""
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in self._folder.glob("*.npy")}
        maps = tuple(_map_of(array) for array in arrays.values())
        return {name: np.asarray(array) for name, array in arrays.items()}, maps

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npy"


def release(maps: list[mmap.mmap] | tuple[mmap.mmap, ...]) -> None:
    """Take the pages of some files out of this process; they stay in the system's cache as long as there is room.

    Mapped pages count as the process's memory, for people and for those who end processes that take too much of it.
    """
    for one in maps:
        one.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, slots=True)
class FileRows:
    """The rows of a mapped array, as places of its file.

    Attributes:
        file: its map.
        offset: bytes before the first row.
        size: bytes of a row.
    """

    file: mmap.mmap
    offset: int
    size: int

    @classmethod
    def of(cls, array: Array) -> FileRows | None:
        """Those of an array; None if it lies in memory."""
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        if not isinstance(base, mmap.mmap):
            return None
        first = np.frombuffer(base, np.uint8).ctypes.data
        return cls(base, array.ctypes.data - first, array.strides[0])

    def expect(self, first: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> None:
        """Have the system read ranges of rows (``end`` not included) from disk, without waiting for them."""
        start = (self.offset + first * self.size) // mmap.PAGESIZE * mmap.PAGESIZE
        length = self.offset + end * self.size - start
        for at, count in zip(start[end > first].tolist(), length[end > first].tolist(), strict=True):
            self.file.madvise(mmap.MADV_WILLNEED, at, count)


@contextlib.contextmanager
def read_here_and_there(rows: Sequence[FileRows]) -> Iterator[None]:
    """Within it, what is not in memory yet is read from disk by the page.

    Otherwise the system reads what lies around as well, up to megabytes of it a place, since most files are read from
    front to back.
    """
    for one in rows:
        one.file.madvise(mmap.MADV_RANDOM)
    try:
        yield
    finally:
        for one in rows:
            one.file.madvise(mmap.MADV_NORMAL)


def _map_of(array: Array) -> mmap.mmap:
    base: Any = array.base
    if not isinstance(base, mmap.mmap):
        raise TypeError(f"an array over {type(base).__name__} is no mapped file")
    return base


@dataclass(frozen=True)
class Lease:
    """Mapped arrays, and the lock that keeps their files.

    Attributes:
        arrays: by name, for reading.
        maps: behind them.
        end: gives the lock back, and removes the files if nobody else needs them; may be called once.
    """

    arrays: dict[str, Array]
    maps: tuple[mmap.mmap, ...]
    end: Callable[[], object]


def scratch_root(scratch: str | None) -> Path:
    """Where this user's files lie in a scratch folder; default: the system's folder for temporary files."""
    return Path(scratch or tempfile.gettempdir()) / f"dlmine-panels-{os.getuid()}"


def lease(root: Path, key: str, fill: Callable[[Files], None]) -> Lease:
    """The arrays of a key: mapped if another process of this machine has them, else filled here first.

    Args:
        root: see ``scratch_root``.
        key: what the arrays hold, as a file name; equal keys mean equal arrays.
        fill: fills and finishes them.

    Raises:
        EnvironmentProblem: the folder cannot be written or is full, or its file system has no locks.
    """
    try:
        while True:
            _own(root)
            found = _leased(root, key, fill)
            if found is not None:
                return found
    except OSError as error:
        raise EnvironmentProblem(
            f"{root}: cannot hold a panel that is too large for memory: {error.strerror or error}; "
            "set training.scratch to a folder on a local disk with more space"
        ) from error


def _own(root: Path) -> None:
    """Make the folder, for this user alone: its name can be guessed, and the system's folder is open to everybody.

    Raises:
        PermissionError: it is another user's, who could have put any numbers into it.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise PermissionError(errno.EACCES, "it belongs to another user", str(root))


def _leased(root: Path, key: str, fill: Callable[[Files], None]) -> Lease | None:
    """The arrays; None if whoever was filling them gave up meanwhile, or removed them."""
    folder, lock_path = root / key, root / f"{key}{_LOCK_SUFFIX}"
    files = Files(folder)
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    kept = False
    try:
        is_alone = _try_alone(lock)
        if not is_alone:
            # Waits while another process fills them.
            fcntl.flock(lock, fcntl.LOCK_SH)
        if not _is_still_at(lock, lock_path) or not (is_alone or files.is_complete):
            return None
        if is_alone:
            _fill(folder, lock_path, fill)
        arrays, maps = files.mapped()
        # If a process that tidies up comes in between, the files lose their names: mapped they are already.
        fcntl.flock(lock, fcntl.LOCK_SH)
        kept = True
    finally:
        if not kept:
            os.close(lock)
    return Lease(arrays, maps, lambda: _end(lock, folder, lock_path))


def _fill(folder: Path, lock_path: Path, fill: Callable[[Files], None]) -> None:
    # Of a process that was killed: nobody holds the lock.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        fill(Files(folder))
    except BaseException:
        _remove(folder, lock_path)
        raise


def remove_leftovers(root: Path) -> None:
    """Remove what processes left that were killed: files under a lock that nobody holds."""
    if not root.exists() or root.stat().st_uid != os.getuid():
        return
    for lock_path in root.glob(f"*{_LOCK_SUFFIX}"):
        folder = lock_path.with_suffix("")
        # Another process may be removing the same.
        with contextlib.suppress(FileNotFoundError):
            size = sum(path.stat().st_size for path in folder.glob("*.npy"))
            if _end(os.open(lock_path, os.O_RDWR), folder, lock_path):
                log.info("%s: removed %.0f MB that a killed process had left", folder, size / 2**20)


def _end(lock: int, folder: Path, lock_path: Path) -> bool:
    """Give a lock back; whether nobody else had it, so that its files were removed."""
    try:
        is_last = _try_alone(lock) and _is_still_at(lock, lock_path)
        if is_last:
            _remove(folder, lock_path)
        return is_last
    finally:
        os.close(lock)


def _try_alone(lock: int) -> bool:
    """Whether nobody else holds a lock; then it is held exclusively."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
            return False
        raise
    return True


def _is_still_at(lock: int, path: Path) -> bool:
    """Whether a lock's file still has its name: a lock on a removed one keeps nobody out."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def _remove(folder: Path, lock_path: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock_path.unlink(missing_ok=True)
