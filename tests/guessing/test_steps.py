"""The step of time of a sample, its history, and how far ahead to forecast."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlmine_spark.guessing.steps import Steps, season_of, steps_of
from tests.guessing import examples as x


def steps(frame: pd.DataFrame) -> Steps:
    """The steps of rows with a moment, a series and the part of the file they are from."""
    found = steps_of(frame["at"], frame.get("series"), frame.get("part", pd.Series(0, index=frame.index)).to_numpy())
    assert found is not None
    return found


def test_neighbours_are_those_of_a_series() -> None:
    # Weeks that begin on another day in each.
    frames = [
        pd.DataFrame({"at": pd.date_range(start, periods=60, freq="7D"), "series": start})
        for start in ("2024-01-01", "2024-01-03", "2024-01-05")
    ]
    mixed = pd.concat(frames).sort_values("at", ignore_index=True)

    found = steps(mixed)

    assert (found.frequency and found.frequency.alias, found.distance, found.history) == ("W", "7 days", 60)
    assert (found.first, found.last, found.horizon) == ("2024-01-01", "2025-02-21", 12)


def test_series_of_one_row_tell_no_step() -> None:
    lengths = [2] * 10 + [1] * 40
    series = [
        pd.DataFrame({"at": pd.date_range("2024-01-01", periods=length, freq="7D"), "series": f"S{place:02d}"})
        for place, length in enumerate(lengths)
    ]

    assert steps(pd.concat(series, ignore_index=True)).distance == "7 days"


def test_rows_of_two_stretches_of_a_file_are_no_neighbours() -> None:
    at = [*pd.date_range("2020-01-01", periods=3), *pd.date_range("2024-01-01", periods=3)]
    parts = pd.DataFrame({"at": at, "part": [0, 0, 0, 1, 1, 1]})

    assert steps(parts).is_regular
    assert steps(parts).history == 1464
    assert steps_of(pd.Series(pd.date_range("2024-01-01", periods=2)), None, np.array([0, 1])) is None


@pytest.mark.parametrize(
    ("freq", "alias", "horizon"),
    [
        ("D", "D", 28),
        ("MS", "MS", 12),
        ("ME", "MS", 12),
        ("QS", "QS", 4),
        ("YS", "YS", 3),
        ("h", "h", 48),
        ("30min", "30min", 96),
    ],
)
def test_known_steps_and_their_usual_horizons(freq: str, alias: str, horizon: int) -> None:
    periods = 600 if freq in ("D", "h", "30min") else 100
    found = steps(pd.DataFrame({"at": pd.date_range("1990-01-01", periods=periods, freq=freq)}))

    assert (found.frequency and found.frequency.alias, found.history, found.horizon) == (alias, periods, horizon)


def test_one_time_a_day_is_a_date() -> None:
    times = pd.to_datetime([f"{day} 08:5{place % 9}" for place, day in enumerate(x.days(30))])

    assert steps(pd.DataFrame({"at": times})).distance == "1 days"


def test_a_gap_is_no_step() -> None:
    at = pd.Series(pd.date_range("2024-01-01", periods=50)).drop(index=[7, 20, 21])

    assert steps(pd.DataFrame({"at": at})).distance == "1 days"


@pytest.mark.parametrize(
    ("name", "history", "season"),
    [("WEEK_IDX", 104, 52), ("WEEK_IDX", 103, None), ("Monat", 24, 12), ("step", 500, None)],
)
def test_the_season_of_counted_steps_is_told_by_their_name(name: str, history: int, season: int | None) -> None:
    assert season_of(name, history) == season
