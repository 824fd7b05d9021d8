"""Files that commands write for people to edit: whole or not at all, and never over an earlier one unasked."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dlmine_spark.errors import ConfigError

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""What file systems say that have no second names for files."""
_YOUNG_SECONDS = 60.0
"""A folder may have been made a moment ago by one who is about to lock it."""


def refuse_overwriting(file: Path, *, option: str, force: bool, replacing: str = "--force") -> None:
    """Raise ConfigError if the file is there already: it may have been edited.

    Args:
        file: to be written.
        option: of the command that names another file.
        force: whether it may be replaced.
        replacing: option of the command that says so.
    """
    if file.exists() and not force:
        raise ConfigError(f"{file}: is there already; name another file by {option}, or replace it by {replacing}")


@contextmanager
def written_whole(file: Path, *, force: bool) -> Iterator[Path]:
    """Have a file written beside its place, and put it there at the end: one that is cut off would load.

    Args:
        file: its folder is made if it is not there.
        force: whether a file that is there is replaced.

    Yields:
        The path to write to. What is raised meanwhile keeps the file from being there.

    Raises:
        ConfigError: it cannot be written, or came to be there meanwhile.
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if force or not _linked(partial, file):
            partial.replace(file)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _linked(partial: Path, file: Path) -> bool:
    """Give a file a second name if that is free, which a rename would not ask; False where there are no such names.

    Raises:
        ConfigError: the name is taken.
    """
    try:
        os.link(partial, file)
    except FileExistsError as error:
        raise ConfigError(f"{file}: came to be there meanwhile; nothing was replaced") from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


@contextmanager
def room_beside(place: Path) -> Iterator[Path]:
    """A folder beside a place, for what is to be put there; it goes in the end.

    If that is a good one, so do the folders that killed processes left. Not before: one of them may hold what had been
    taken out of the place when its process was killed.
    """
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as folder, _in_use(Path(folder)):
        yield Path(folder)
    is_room = re.compile(re.escape(f".{place.name}.") + "[a-z0-9_]{8}")
    for left in place.parent.iterdir():
        with suppress(OSError):
            if is_room.fullmatch(left.name) and time.time() - left.stat().st_mtime > _YOUNG_SECONDS:
                _remove_if_unused(left)


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Hold a lock of a folder, which ends with the process, however that ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Where folders have no locks, nobody gets one to remove them either.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def _remove_if_unused(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(handle)
