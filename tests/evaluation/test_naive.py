"""The seasonal naive forecast, its scales, and what it may know."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from dlmine_spark.evaluation.naive import NaivePlan, naive_rows
from dlmine_spark.frequency import COUNTED, DAILY, HOURLY, MONTHLY, WEEKLY, Frequency
from dlmine_spark.naive import error_scale, expected_open, seasonal_naive

START = date(2024, 1, 1)
ALWAYS = np.ones(6, dtype=bool)


def test_each_step_repeats_the_last_known_value_of_its_phase() -> None:
    y = np.array([1.0, 2.0, 3.0, 4.0, math.nan, 6.0])
    assert seasonal_naive(y, ALWAYS, 3).tolist() == [4.0, 2.0, 6.0, 4.0, 2.0, 6.0]


def test_closed_steps_are_zero_and_unseen_phases_take_the_last_value() -> None:
    is_open = np.array([True, False, True])
    assert seasonal_naive(np.array([5.0, 7.0]), is_open, 3).tolist() == [7.0, 0.0, 7.0]
    assert np.isnan(seasonal_naive(np.array([math.nan]), np.array([True]), 3)).all()


def test_scales_come_from_seasonal_differences() -> None:
    y = np.array([1.0, 10.0, 3.0, 14.0, math.nan, 15.0])
    assert error_scale(y, 2) == (pytest.approx((2 + 4 + 1) / 3), pytest.approx((4 + 16 + 1) / 3))
    assert error_scale(np.array([1.0, 2.0, 5.0]), 7) == (2.0, 5.0)
    assert np.isnan(error_scale(np.full(10, 3.0), 2)).all()


def test_unknown_closures_are_those_of_a_season_ago() -> None:
    is_open = np.array([True, False, True, True, True, False])
    assert expected_open(is_open, 2, 3, 3, is_known=True).tolist() == [True, True, False]
    assert expected_open(is_open, 2, 3, 3, is_known=False).tolist() == [True, False, True]


def panel(y: list[float | None], frequency: Frequency = DAILY, **columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "unique_id": "a",
            "ds": [frequency.shift(START, step) for step in range(len(y))],
            "y": y,
            "open": 1,
            "y_imputed": False,
            **columns,
        }
    )


def test_forecasts_of_a_series_start_after_the_cutoff() -> None:
    cutoff = START + timedelta(days=8)
    rows = naive_rows(panel([100.0 + v for v in range(12)]), NaivePlan(DAILY, 7, 3, (cutoff,)))
    assert rows["y_hat"].tolist() == [102.0, 103.0, 104.0]
    assert rows["ds"].tolist() == [cutoff + timedelta(days=h) for h in (1, 2, 3)]
    assert rows["h"].tolist() == [1, 2, 3]
    assert rows["scale"].unique().tolist() == [7.0]
    assert (rows["lo_95"] < rows["lo_80"]).all()


def test_imputed_and_later_values_are_not_used() -> None:
    known = [5.0] * 9
    plan = NaivePlan(DAILY, 7, 3, (START + timedelta(days=8),))
    imputed = panel([*known, 99.0, 99.0, 99.0], y_imputed=[False] * 2 + [True] + [False] * 9)
    imputed.loc[2, "y"] = 77.0
    assert naive_rows(imputed, plan)["y_hat"].tolist() == [5.0, 5.0, 5.0]


def test_series_that_end_early_or_start_late() -> None:
    plan = NaivePlan(MONTHLY, 12, 2, (date(2024, 3, 1), date(2024, 9, 1)))
    assert (
        naive_rows(panel([1.0, 2.0], MONTHLY), plan)["cutoff"].tolist()
        == [date(2024, 3, 1)] * 2 + [date(2024, 9, 1)] * 2
    )
    late = panel([1.0, 2.0], MONTHLY).assign(ds=[date(2024, 8, 1), date(2024, 9, 1)])
    assert naive_rows(late, plan)["cutoff"].tolist() == [date(2024, 9, 1)] * 2
    assert naive_rows(panel([None, None], MONTHLY), plan).empty


def test_hours_counted_steps_and_weeks_of_any_day() -> None:
    y: list[float | None] = [1.0, 2.0, 3.0, 4.0]
    for frequency, start in ((HOURLY, datetime(2024, 3, 31)), (COUNTED, 5), (WEEKLY, date(2024, 1, 3))):
        moments = [frequency.shift(start, step) for step in range(5)]
        rows = naive_rows(panel(y).assign(ds=moments[:4]), NaivePlan(frequency, 2, 2, (moments[2],)))
        assert rows["ds"].tolist() == moments[3:]
        assert rows["y_hat"].tolist() == [2.0, 3.0]
    # On a Monday, Wednesdays end with the one before.
    wednesdays = panel(y).assign(ds=[WEEKLY.shift(date(2024, 1, 3), step) for step in range(4)])
    rows = naive_rows(wednesdays, NaivePlan(WEEKLY, 2, 2, (date(2024, 1, 22),)))
    assert rows["cutoff"].tolist() == [date(2024, 1, 22)] * 2
    assert rows["ds"].tolist() == [date(2024, 1, 24), date(2024, 1, 31)]
    assert rows["y_hat"].tolist() == [2.0, 3.0]
