"""The trials of a search on disk: a folder a study, a JSON file a trial, nothing that would have to be unpickled."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlmine_spark.training.checkpoints import write_bytes
from dlmine_spark.tuning.trials import Trial

log = logging.getLogger(__name__)

STUDY_FILE = "study.json"
_STUDIES, _TRIALS = "study-*", "trial-*.json"


@dataclass(frozen=True, slots=True)
class Study:
    """Trials on the same panel, in the same space, with the same seed; how many of them is no part of it."""

    folder: Path

    def trial_folder(self, number: int) -> Path:
        """Where a trial that is under way keeps its checkpoints."""
        return self.folder / f"trial-{number:04d}"

    def keep(self, trial: Trial) -> None:
        """Note a trial that is over; its checkpoints are needed no more."""
        write_bytes(self.folder / f"trial-{trial.number:04d}.json", trial.to_json().encode())
        shutil.rmtree(self.trial_folder(trial.number), ignore_errors=True)

    def trials(self) -> dict[int, Trial]:
        """The trials that are over, by number. One that failed is tried again: the reason may be gone."""
        found = {}
        for path in sorted(self.folder.glob(_TRIALS)):
            try:
                trial = Trial.from_json(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("%s: is no trial (%s); it is trained again", path, error)
                continue
            if trial.state != "failed":
                found[trial.number] = trial
        return found


def open_study(folder: Path, parts: Mapping[str, Any]) -> Study:
    """The study of these parts, the old one if there is one; the log says what it is.

    Args:
        folder: of all studies.
        parts: what makes a study, by the name people know it by; a change of any is another study.
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    study = Study(folder / f"study-{hashlib.sha256(text.encode()).hexdigest()[:12]}")
    if (study.folder / STUDY_FILE).exists():
        done = len(study.trials())
        log.info("going on with a search of which %d trial%s done", done, " is" if done == 1 else "s are")
        return study
    others = sorted(folder.glob(f"{_STUDIES}/{STUDY_FILE}"), key=lambda path: path.stat().st_mtime)
    if others:
        log.info("a new search: %s changed since the last one", _changed(others[-1], json.loads(text)))
    write_bytes(study.folder / STUDY_FILE, text.encode())
    return study


def _changed(study_file: Path, parts: Mapping[str, Any]) -> str:
    try:
        before = json.loads(study_file.read_text(encoding="utf-8"))
        names = [name for name in parts if before.get(name) != parts[name]]
    except (OSError, ValueError, AttributeError):
        names = []
    return ", ".join(names) or "something"
