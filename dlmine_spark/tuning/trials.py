"""What is known of a trial, and which trials go on: plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["complete", "pruned", "failed"]
Params = Mapping[str, int | float]
"""Settings by name, ``{"hidden": 64, "learning_rate": 0.003}``."""
RUNGS = 3
"""How often a trial is judged."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that is over.

    Attributes:
        number: from 0, which has the configured settings.
        params: the settings that are searched.
        state: trained to the end, stopped at a rung, or without a usable error.
        values: error (WAPE) on the selection windows after each rung.
        epochs: done.
        seconds: that it took.
        error: why it failed.
        elapsed: seconds that the search had taken by its end.
    """

    number: int
    params: Params
    state: State
    values: tuple[float, ...]
    epochs: int
    seconds: float
    error: str = ""
    elapsed: float = 0.0

    @property
    def value(self) -> float | None:
        """The last error; None if there is none."""
        return self.values[-1] if self.values else None

    def to_json(self) -> str:
        """As kept in a file."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """As kept in a file.

        Raises:
            ValueError, KeyError, TypeError: it is no such file.
        """
        read = json.loads(text)
        return cls(**{**read, "values": tuple(read["values"])})


def rungs(epochs: int, reduction: int) -> tuple[int, ...]:
    """Epochs after which a trial is judged: of 12 by thirds 2, 4 and 12; fewer rungs where there are few epochs."""
    return tuple(sorted({math.ceil(epochs / reduction**step) for step in range(RUNGS)}))


def limit(values: Sequence[float], reduction: int) -> float:
    """The largest error with which a trial goes on after a rung: it is among the best 1/reduction.

    That is successive halving without waiting for others (Li et al. 2020, "A system for massively parallel
    hyperparameter tuning"): each trial is compared with those before it, and is not looked at again.

    Args:
        values: errors of earlier trials after the same rung; without any, every trial goes on.
        reduction: one of so many goes on, the best of fewer.
    """
    if not values:
        return math.inf
    places = max(1, (len(values) + 1) // reduction)
    return sorted(values)[places - 1]


def limits(trials: Sequence[Trial], count: int, reduction: int) -> tuple[float, ...]:
    """The limits of all rungs but the last, from the trials that are over.

    Args:
        trials: those that a new one is compared with.
        count: rungs.
        reduction: see ``limit``.
    """
    return tuple(
        limit([trial.values[rung] for trial in trials if len(trial.values) > rung], reduction)
        for rung in range(count - 1)
    )


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the least error of those trained to the end, the first of equals; None if none is."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return min(complete, key=lambda trial: (trial.values[-1], trial.number), default=None)


def ranks(trials: Sequence[Trial]) -> list[int]:
    """The place of each trial, 0 for the best: who got further comes first, then who had the smaller error there."""
    order = sorted(trials, key=lambda trial: (-len(trial.values), trial.value or 0.0, trial.number))
    place = {trial.number: at for at, trial in enumerate(order)}
    return [place[trial.number] for trial in trials]
