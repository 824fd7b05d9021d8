"""What the terminal shows while stages run: a bar on a terminal, plain lines elsewhere, JSON lines on request."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

log = logging.getLogger("dlmine")

_RECORD_FIELDS = ("stage", "event", "seconds")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the stage's event where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({name: getattr(record, name) for name in _RECORD_FIELDS if hasattr(record, name)})
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def configure_logging(*, json_logs: bool, verbose: bool, console: Console) -> None:
    """Send the package's log to standard error, once, in the form asked for."""
    handler: logging.Handler
    if json_logs:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
    elif console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_level=False, log_time_format="[%H:%M:%S]")
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("dlmine", "dlmine_spark"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.captureWarnings(True)
    # Libraries' warnings are for their developers; --verbose shows them.
    logging.getLogger("py.warnings").setLevel(logging.DEBUG if verbose else logging.ERROR)
    # Py4J repeats a broken gateway as a trace of its own, to the root logger; the error that matters is raised anyway.
    handler.addFilter(lambda record: not (record.name == "root" and "while sending command" in record.msg))
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    # PySpark logs the query and the whole Java trace of every error that it then raises.
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


class StageProgress:
    """Tells what the stages do; a context manager, since a bar has to be taken down again."""

    def __init__(self, console: Console, *, bars: bool) -> None:
        self._bars = (
            Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("stages"),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
            if bars
            else None
        )
        self._task = self._bars.add_task("starting Spark", total=None) if self._bars else None

    def __enter__(self) -> StageProgress:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def started(self, stage: str, index: int, total: int) -> None:
        """A stage starts."""
        self._show(stage, index - 1, total)
        if self._bars is None:
            log.info("[%d/%d] %s ...", index, total, stage, extra={"stage": stage, "event": "started"})

    def up_to_date(self, stage: str, index: int, total: int) -> None:
        """A stage need not run."""
        self._show(stage, index, total)
        log.info("[%d/%d] %s is up to date", index, total, stage, extra={"stage": stage, "event": "up_to_date"})

    def finished(self, stage: str, message: str, seconds: float) -> None:
        """A stage ended well."""
        if self._bars and self._task is not None:
            self._bars.advance(self._task)
        text = f"{stage} ({seconds:.1f} s): {message}"
        log.info("%s", text, extra={"stage": stage, "event": "finished", "seconds": round(seconds, 3)})

    def failed(self, stage: str, seconds: float) -> None:
        """A stage ended with an error, which is shown elsewhere."""
        log.info(
            "%s failed after %.1f s",
            stage,
            seconds,
            extra={"stage": stage, "event": "failed", "seconds": round(seconds, 3)},
        )

    def _show(self, stage: str, completed: int, total: int) -> None:
        if self._bars and self._task is not None:
            self._bars.update(self._task, description=stage, completed=completed, total=total)
