"""Browse: what tables there are, what is in one, what ran; read-only, and without Spark where that can be."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from dlmine_spark import schemas as s
from dlmine_spark.aligned import aligned
from dlmine_spark.browsing import (
    Browser,
    FileBrowser,
    NeedsSpark,
    SparkBrowser,
    TableState,
    attempts,
    can_browse_files,
    refuse_nothing,
    writers,
)
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError, DlmineError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.places import local_path, root_of
from dlmine_spark.session import open_session

log = logging.getLogger(__name__)

T = TypeVar("T")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_WIDEST_CELL = 40
_WIDEST_ERROR = 100


def tables(config: Config) -> str:
    """Every table of the lakehouse, as a table: rows, size, version, when it was written, by which stage and run.

    Raises:
        DlmineError: there is none.
    """

    def look(browser: Browser) -> str:
        names = browser.tables()
        refuse_nothing(names, _where(config))
        written = list(writers(browser.ledger()))
        rows: list[tuple[str, ...]] = [("table", "rows", "size", "version", "written", "stage", "run")]
        for name in names:
            try:
                state = browser.state(name)
            except DlmineError as problem:
                # The others are there all the same.
                log.warning("%s", problem)
                rows.append((name, "damaged", *["-"] * (len(rows[0]) - 2)))
                continue
            run = _writer_of(state, written)
            rows.append((*_cells(state), *((run["stage"], run[s.RUN_ID]) if run is not None else ("-", "-"))))
        return "\n".join(aligned(rows, widest=_WIDEST_CELL))

    return _with_browser(config, look)


def show(config: Config, table: str, rows: int, where: str | None = None) -> str:
    """Some rows of a table, as a table; which ones is left to what reads fastest.

    Args:
        config: says where the lakehouse lies.
        table: ``silver.panel``, or ``panel`` if no other layer has one.
        rows: how many at most.
        where: a condition in SQL.

    Raises:
        ConfigError: there is no such table, or the condition cannot be read.
        DlmineError: there are no tables at all.
    """

    def look(browser: Browser) -> str:
        names = browser.tables()
        refuse_nothing(names, _where(config))
        name = full_name(table, names)
        excerpt = browser.excerpt(name, rows, where)
        lines = aligned([excerpt.columns, *excerpt.rows], widest=_WIDEST_CELL)
        of = "" if where is not None else f" of {_count(browser.state(name).rows)}"
        return "\n".join([*lines, f"{name}: {len(excerpt.rows):,}{of} rows"])

    return _with_browser(config, look)


def history(config: Config, stage: str | None = None, last: int = 20) -> str:
    """The last runs of ``ops.runs``, newest first, as a table: what became of each, how long it took, its rows.

    Args:
        config: says where the lakehouse lies.
        stage: only its runs.
        last: how many at most.

    Raises:
        ConfigError: no run is of that stage.
        DlmineError: nothing ran yet.
    """

    def look(browser: Browser) -> str:
        found = attempts(browser.ledger())
        refuse_nothing(found, _where(config))
        stages = sorted({str(run["stage"]) for run in found})
        if stage is not None and stage not in stages:
            raise ConfigError(f"--stage {stage}: no run of it is on record; there are runs of {', '.join(stages)}")
        chosen = [run for run in found if stage in (None, run["stage"])]
        rows: list[tuple[str, ...]] = [
            ("started", "stage", "status", "seconds", "rows in", "out", "rejected", "message")
        ]
        rows += [_run_cells(run) for run in chosen[:last]]
        more = len(chosen) - last
        return "\n".join([*aligned(rows, widest=_WIDEST_ERROR), *([f"and {more:,} earlier ones"] if more > 0 else [])])

    return _with_browser(config, look)


def _with_browser(config: Config, look: Callable[[Browser], T]) -> T:
    """Look into files on this machine without Spark; with it where there are none, or it alone can read them."""
    root = local_path(root_of(config.lakehouse))
    if config.lakehouse.catalog is None and root is not None and can_browse_files():
        try:
            return look(FileBrowser(root))
        except NeedsSpark as problem:
            log.info("looking again with Spark: %s", str(problem).splitlines()[0])
    with open_session(config.spark) as spark:
        return look(SparkBrowser(Lakehouse(spark, config.lakehouse)))


def _where(config: Config) -> str:
    lakehouse = config.lakehouse
    return root_of(lakehouse) if lakehouse.catalog is None else f"catalog {lakehouse.catalog}"


def _writer_of(state: TableState, written: Sequence[tuple[str, int, Mapping[str, Any]]]) -> Mapping[str, Any] | None:
    """The run that made the version of a table that is there now; None where no run noted it.

    A run also notes a table that it found and kept, so the one counts that was at work when the version was made.
    """
    own = [(version, run) for table, version, run in written if table == state.name]
    noted = [run for version, run in own if version == state.version]
    at_work = [
        run
        for run in noted
        if run["ended_at"] is not None and _utc(run["started_at"]) <= state.written_at <= _utc(run["ended_at"])
    ]
    return next(iter([*at_work, *noted]), None)


def full_name(table: str, names: Sequence[str]) -> str:
    """The table that is meant, by its full name or by that within its layer.

    Raises:
        ConfigError: there is none, or several, with names that are near.
    """
    if table in names:
        return table
    fitting = [name for name in names if name.partition(".")[2] == table]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigError(f"{table}: is there several times: {', '.join(fitting)}; name one of them")
    ends = {name.partition(".")[2]: name for name in names}
    near = [*difflib.get_close_matches(table, names, n=3), *difflib.get_close_matches(table, ends, n=3)]
    meant = list(dict.fromkeys(ends.get(name, name) for name in near))
    hint = f"did you mean {' or '.join(meant)}?" if meant else f"there are {', '.join(names)}"
    raise ConfigError(f"{table}: there is no such table; {hint} (dlmine tables lists all)")


def _cells(state: TableState) -> tuple[str, str, str, str, str]:
    return (state.name, _count(state.rows), _bytes(state.size), str(state.version), _at(state.written_at))


def _run_cells(run: Mapping[str, Any]) -> tuple[str, ...]:
    started, ended = run["started_at"], run["ended_at"]
    seconds = "" if ended is None else f"{(ended - started).total_seconds():,.1f}"
    counts = ("" if run[name] is None else f"{run[name]:,}" for name in ("rows_in", "rows_out", "rows_rejected"))
    said = run["error"] or run["message"] or ("has no end: it runs, or was killed" if ended is None else "")
    return (_at(started), run["stage"], run["status"], seconds, *counts, said)


def _count(rows: int | None) -> str:
    return "?" if rows is None else f"{rows:,}"


def _bytes(size: int) -> str:
    value = float(size)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError(size)


def _at(moment: datetime) -> str:
    return f"{_utc(moment):%Y-%m-%d %H:%M:%S}"


def _utc(moment: datetime) -> datetime:
    """The time in UTC, as in the tables; what Spark collected has no zone and is in the machine's."""
    return moment.astimezone(UTC)
