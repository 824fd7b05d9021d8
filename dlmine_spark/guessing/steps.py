"""The step of time of a table, how much history there is, and how far ahead to forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dlmine_spark.frequency import MINUTES_A_DAY, Frequency, from_distance
from dlmine_spark.guessing.words import likeness

FROM_MOMENTS_A_DAY = 1.5
"""Different times that a series has on a day, on average, from which on they are steps: cleaning goes by the same."""
REGULAR = 0.5
"""Share of distances that are the usual one, below which times are those of single events."""
_HORIZONS = {"D": 28, "W": 13, "MS": 12, "QS": 4, "YS": 3, "step": 12}
_HISTORIES_A_HORIZON = 5
"""A horizon is at most a fifth of the history: the rest is learned from, and held out once."""
_SEASONS_BY_NAME = {"week": 52, "woche": 52, "month": 12, "monat": 12, "quarter": 4, "quartal": 4, "hour": 24, "day": 7}


@dataclass(frozen=True, slots=True)
class Steps:
    """The step of time of a sample.

    Attributes:
        frequency: as cleaning knows it; None where the usual distance is no known step.
        distance: the usual one, in words.
        history: steps from the first to the last moment.
        first: moment, as text.
        last: moment, as text.
        is_regular: whether most neighbours are the usual distance apart.
    """

    frequency: Frequency | None
    distance: str
    history: int
    first: str
    last: str
    is_regular: bool

    @property
    def horizon(self) -> int:
        """Steps to forecast: what is usual for the step, if there is history enough; at least 1."""
        assert self.frequency is not None
        usual = _HORIZONS.get(self.frequency.alias, 2 * self.frequency.season_length)
        return max(1, min(usual, self.history // _HISTORIES_A_HORIZON))


def steps_of(moments: pd.Series, series: pd.Series | None, parts: np.ndarray[Any, Any]) -> Steps | None:
    """The step of a sample's rows; None where no series has two moments.

    Args:
        moments: dates and times (``datetime64``), or numbers that count steps; one a row.
        series: the name of each row's series; None where there is one only.
        parts: which stretch of the file each row is from; rows of two stretches are no neighbours.
    """
    name = series if series is not None else pd.Series("", index=moments.index)
    rows = pd.DataFrame({"series": name, "part": parts, "moment": moments}).dropna()
    sql_type = "int"
    if pd.api.types.is_datetime64_any_dtype(rows["moment"]):
        days = rows["moment"].dt.normalize()
        a_day = len(rows.drop_duplicates(["series", "moment"])) / max(
            1, len(pd.DataFrame({"series": rows["series"], "day": days}).drop_duplicates())
        )
        has_times = bool((days != rows["moment"]).any())
        sql_type = "timestamp_ntz" if has_times and a_day >= FROM_MOMENTS_A_DAY else "date"
        if sql_type == "date":
            rows = rows.assign(moment=days)
    rows = rows.drop_duplicates().sort_values(["series", "part", "moment"], kind="stable")
    gaps = rows.groupby(["series", "part"], sort=False)["moment"].diff().dropna()
    if gaps.empty:
        return None
    minutes = {"date": MINUTES_A_DAY, "timestamp_ntz": 1}
    distances = gaps.dt.total_seconds() / (60 * minutes[sql_type]) if sql_type in minutes else gaps.astype(float)
    usual = float(distances.quantile(0.5, interpolation="lower"))
    frequency = from_distance(sql_type, usual)
    first, last = rows["moment"].min(), rows["moment"].max()
    # Months are 28 to 31 days apart.
    is_regular = bool((abs(distances - usual) <= 0.12 * usual).mean() >= REGULAR)
    words = {"date": "days", "timestamp_ntz": "minutes", "int": "steps"}[sql_type]
    return Steps(
        frequency,
        f"{usual:g} {words}",
        1 if frequency is None else _history(frequency, first, last),
        _shown(first),
        _shown(last),
        is_regular,
    )


def season_of(name: str, history: int) -> int | None:
    """The season of counted steps that the name of their column tells, if the history has two of them."""
    found = next((length for word, length in _SEASONS_BY_NAME.items() if likeness(name, (word,)) > 0), None)
    return found if found is not None and 2 * found <= history else None


def _history(frequency: Frequency, first: Any, last: Any) -> int:
    if frequency.unit == "step":
        return frequency.steps(int(first), int(last)) + 1
    if frequency.unit == "minute":
        return frequency.steps(first.to_pydatetime(), last.to_pydatetime()) + 1
    return frequency.steps(first.date(), last.date()) + 1


def _shown(moment: Any) -> str:
    if not isinstance(moment, pd.Timestamp):
        return f"{moment:g}"
    is_day = moment == moment.normalize()
    return f"{moment:%Y-%m-%d}" if is_day else f"{moment:%Y-%m-%d %H:%M}"


def is_time_of_event(steps: Steps) -> bool:
    """Whether moments are those of single events, which have to be summed by the day to become a panel."""
    minutes = steps.distance.endswith("minutes")
    return minutes and (not steps.is_regular or steps.frequency is None or steps.frequency.size >= MINUTES_A_DAY)
