"""What rank processes say, brought to the process that waits for them: log lines as they come, the error at the end.

Ranks run in processes of Spark's or torch's making, whose output would come mixed and unformatted. Rank 0 writes its
log records to a file in the models folder, which the waiting process reads along; a rank that fails leaves a note.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlmine_spark import errors
from dlmine_spark.errors import DlmineError, TrainingError
from dlmine_spark.training.comm import RankLost
from dlmine_spark.training.job import FAILURE_PATTERN, failure_file

LOG_FILE = "progress.jsonl"
OUTPUT_FILE = "ranks.log"
"""What ranks and their launcher wrote to their standard output and error."""
POLL_SECONDS = 0.3


class RankFailed(TrainingError):
    """A rank was killed, or met an error that nobody foresaw: another attempt may end otherwise."""


class RelayHandler(logging.Handler):
    """Appends records to the file that the waiting process reads along."""

    def __init__(self, folder: Path) -> None:
        super().__init__(logging.INFO)
        self._path = folder / LOG_FILE

    def emit(self, record: logging.LogRecord) -> None:
        """One JSON object a line."""
        entry = {"name": record.name, "level": record.levelno, "message": record.getMessage()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def speak_through(folder: Path, rank: int) -> None:
    """In a rank's process: rank 0's records go to the waiting process, those of the others nowhere."""
    logger = logging.getLogger("dlmine_spark")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.handlers[:] = [RelayHandler(folder)] if rank == 0 else [logging.NullHandler()]


@contextmanager
def listening(folder: Path, ranks: int) -> Iterator[Path]:
    """In the waiting process: log what rank 0 logs while the block runs, and raise what one of the ranks failed with.

    Yields:
        The file that takes the ranks' standard output.

    Raises:
        DlmineError: a rank's own error, chained to whatever the launcher raised.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for note in folder.glob(FAILURE_PATTERN):
        note.unlink()
    records = folder / LOG_FILE
    records.write_text("", encoding="utf-8")
    stop = threading.Event()
    reader = threading.Thread(target=_follow, args=(records, stop), name="dlmine-rank-log", daemon=True)
    reader.start()
    output = folder / OUTPUT_FILE
    try:
        yield output
    except Exception as error:
        raise _rank_error(folder, ranks) from error
    finally:
        stop.set()
        reader.join()


def _follow(path: Path, stop: threading.Event) -> None:
    with path.open(encoding="utf-8") as file:
        pending = ""
        while True:
            last_look = stop.wait(POLL_SECONDS)
            pending += file.read()
            *lines, pending = pending.split("\n")
            for line in lines:
                entry = json.loads(line)
                logging.getLogger(entry["name"]).log(entry["level"], "%s", entry["message"])
            if last_look:
                return


def _rank_error(folder: Path, ranks: int) -> DlmineError:
    """The error that started it all.

    When a rank stops, the others fail in their next exchange, and the launcher kills what is left: so an error raised
    on purpose comes first, then any other that is not a lost neighbour; if there is none, the ranks without a note are
    those that went first.
    """
    notes = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(FAILURE_PATTERN)]
    causes = [note for note in notes if note["kind"] != RankLost.__name__]
    if causes:
        note = min(causes, key=lambda entry: (not entry["ours"], entry["at"]))
        if note["ours"]:
            kind: type[DlmineError] = getattr(errors, note["kind"], TrainingError)
            return kind(note["message"])
        first_line = (note["message"].splitlines() or [""])[0]
        where = failure_file(folder, note["rank"])
        return RankFailed(f"rank {note['rank']} failed: {note['kind']}: {first_line} (its trace: {where})")
    silent = " and ".join(str(rank) for rank in sorted(set(range(ranks)) - {note["rank"] for note in notes}))
    if silent:
        what = f"training rank {silent} ended without a word (killed, or out of memory?)"
    else:
        what = "training ranks lost each other (did an executor or its machine end?)"
    return RankFailed(
        f"{what}; what the ranks wrote is in {folder / OUTPUT_FILE}; the next run goes on from the last checkpoint"
    )
