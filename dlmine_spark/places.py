"""Where a lakehouse lies, and keeping a second job out of it. Plain Python: asked before Spark is started."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

from dlmine_spark.config import LakehouseConfig
from dlmine_spark.errors import DlmineError, EnvironmentProblem

log = logging.getLogger(__name__)

LOCK_FILE = ".dlmine.lock"


def root_of(config: LakehouseConfig) -> str:
    """The root as an address, or as an absolute path."""
    root = config.root.rstrip("/")
    # Spark resolves relative paths against the driver's folder, ranks against their own.
    return root if urlparse(root).scheme else str(Path(root).absolute())


def local_path(address: str) -> Path | None:
    """The path behind an address, None where it is an object store's."""
    parsed = urlparse(address)
    if parsed.scheme == "file":
        return Path(parsed.path)
    return None if parsed.scheme else Path(address)


def files_root(config: LakehouseConfig) -> Path | None:
    """Folder of what is no table (models, report): ``lakehouse.files``, else the root; None if that is an address."""
    return local_path(root_of(config)) if config.files is None else Path(config.files).absolute()


def winner_file(config: LakehouseConfig) -> Path | None:
    """Where ``dlmine tune`` leaves the settings it found; None where no files can be kept."""
    root = files_root(config)
    return None if root is None else root / "tuning" / "best.yaml"


@contextmanager
def lock(config: LakehouseConfig, *, waits: bool = False) -> Iterator[None]:
    """Keep a second job out of a local lakehouse; the lock ends with the process, however it ends.

    Object stores have none but that of ``lakehouse.files``, which keeps out who has files in the same folder; catalogs
    have none. Run one job at a time there. Delta refuses a write that overlaps with another one, and nothing else; on
    S3 not even that, if the other one is of another driver.

    Args:
        config: where the lakehouse lies.
        waits: whether to wait for a job that works there, instead of giving up.

    Raises:
        EnvironmentProblem: the root cannot be written.
        DlmineError: another job works there.
    """
    root, folder = root_of(config), files_root(config)
    if config.catalog is not None or folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(f"{_setting(config)}: cannot be written: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
                log.info("lakehouse.root %s: this file system has no locks; run one job at a time here", root)
                yield
                return
            if not isinstance(error, BlockingIOError):
                raise
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            if not waits:
                raise DlmineError(
                    f"lakehouse.root {root}: another dlmine job (process {holder}) is writing here; "
                    "wait for it, or give this one its own lakehouse.root"
                ) from None
            log.info("lakehouse.root %s: waiting for another dlmine job (process %s)", root, holder)
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
        except OSError as error:
            raise EnvironmentProblem(f"{_setting(config)}: cannot be written: {error.strerror}") from error
        yield


def _setting(config: LakehouseConfig) -> str:
    """The setting that says where files go, with its value."""
    return f"lakehouse.root {root_of(config)}" if config.files is None else f"lakehouse.files {config.files}"
