"""Which columns name a series: those with which a moment comes once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from dlmine_spark.guessing.columns import ColumnFacts
from dlmine_spark.guessing.words import SERIES, WHOLE, likeness

UNIQUE = 0.97
"""Share of different rows that a key has to tell apart; the others are versions of rows, which cleaning resolves."""
_NAMED = 0.5
_FEWEST_ROWS = 2.0
"""Rows of a series, on average: where each row is a series of its own, nothing is one."""
_MOST_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """The columns that name a series.

    Attributes:
        columns: none where the table is one series.
        is_unique: whether a series has one row a moment; else its rows have to be summed.
        because: why, for people.
        others: columns that would do as well.
    """

    columns: tuple[str, ...]
    is_unique: bool
    because: str
    others: tuple[str, ...] = ()


def candidates(columns: Sequence[ColumnFacts]) -> list[ColumnFacts]:
    """Columns that could name a series, the likeliest first: texts, or whole numbers under such a name."""

    def is_one(one: ColumnFacts) -> bool:
        if one.is_moment or one.is_flag or one.known == 0:
            return False
        return one.type == "string" or (one.type == "integer" and likeness(one.name, SERIES) >= _NAMED)

    possible = [one for one in columns if is_one(one)]
    return sorted(possible, key=lambda one: (-round(likeness(one.name, SERIES), 1), one.distinct))[:_MOST_CANDIDATES]


def series_key(cells: pd.DataFrame, moments: pd.Series, columns: Sequence[ColumnFacts]) -> SeriesKey:
    """The key of the series of a table.

    Args:
        cells: its rows, as texts.
        moments: when each row is.
        columns: those that may be part of the key.
    """
    rows = cells.assign(**{"": moments}).dropna(subset=[""]).drop_duplicates()
    named = candidates(columns)
    if _tells_apart(rows, ()) and all(one.distinct == 1 for one in named):
        own = next((one.name for one in named if likeness(one.name, SERIES) >= WHOLE - 0.1), None)
        if own is not None:
            return SeriesKey((own,), True, "names the only series")
        return SeriesKey((), True, "each date is there once")
    repeating = [one for one in named if one.distinct > 1]
    for size in (1, 2, 3):
        fitting = [
            names
            for names in combinations([one.name for one in repeating], size)
            if _tells_apart(rows, names) and _has_histories(rows, names)
        ]
        if fitting:
            best = fitting[0]
            others = tuple(" and ".join(names) for names in fitting[1:4])
            words = "with it each date is there once" if size == 1 else "only together they have each date once"
            return SeriesKey(best, True, words, others)
    if _tells_apart(rows, ()):
        return SeriesKey((), True, "each date is there once")
    likely = [
        one.name for one in repeating if likeness(one.name, SERIES) >= _NAMED and _has_histories(rows, (one.name,))
    ]
    return SeriesKey(
        tuple(likely[:1]), False, "by its name; a date has several rows, which are summed", tuple(likely[1:4])
    )


def _tells_apart(rows: pd.DataFrame, names: Sequence[str]) -> bool:
    return len(rows.drop_duplicates([*names, ""])) >= UNIQUE * len(rows)


def _has_histories(rows: pd.DataFrame, names: Sequence[str]) -> bool:
    return len(rows) >= _FEWEST_ROWS * len(rows.drop_duplicates(list(names)))
