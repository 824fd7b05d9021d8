"""What benchmarks measure of this process and everything it started."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

LOOKS_A_SECOND = 5


def processor_seconds() -> float:
    """Of this process and all below it; those that ended count with their parents."""
    total = 0.0
    for process in _all():
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


@contextmanager
def largest_memory() -> Iterator[dict[str, int]]:
    """Largest resident memory in bytes of the driver, the JVM and any Python worker while the block runs."""
    largest = {"driver": 0, "JVM": 0, "worker": 0}
    done = threading.Event()

    def watch() -> None:
        me, *_ = _all()
        while not done.wait(1 / LOOKS_A_SECOND):
            for process in _all():
                with suppress(psutil.NoSuchProcess):
                    # What a JVM starts shares its memory for a moment, under the name of the thread that started it.
                    is_python = process.name().startswith("python")
                    kind = "driver" if process == me else "worker" if is_python else "JVM"
                    largest[kind] = max(largest[kind], process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield largest
    finally:
        done.set()
        watcher.join()


def in_mebibytes(memory: dict[str, int]) -> str:
    """The result of ``largest_memory`` for a line of output."""
    return ", ".join(f"{name} {size >> 20:,}" for name, size in memory.items())


def _all() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]
