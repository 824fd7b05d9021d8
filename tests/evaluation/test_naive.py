"""The seasonal naive forecast, its scales, and what it may know."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from dlmine_spark.evaluation.naive import PROFILE, SEASONAL_NAIVE, YEAR_AGO, NaivePlan, naive_rows
from dlmine_spark.frequency import COUNTED, DAILY, HOURLY, MONTHLY, WEEKLY, Frequency
from dlmine_spark.naive import error_scale, expected_open, profile, seasonal_naive, year_ago_growth

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


def seasonal_rows(series: pd.DataFrame, plan: NaivePlan) -> pd.DataFrame:
    rows = naive_rows(series, plan)
    return rows[rows["model"] == SEASONAL_NAIVE]


def test_a_year_ago_times_the_growth_since() -> None:
    first = np.arange(1.0, 13.0)
    y = np.concatenate([first, 1.5 * first])
    # The last quarter of a year grew by half; a step that was not known a year ago is the last season's.
    assert year_ago_growth(y, np.ones(14, dtype=bool), 12, 1).tolist() == [*(2.25 * first), *(2.25 * first[:2])]
    y[13] = math.nan
    assert year_ago_growth(y, np.array([True, True, False]), 12, 1).tolist() == [2.25, 18.0, 0.0]
    # Growth is bounded, and not made of less than half of the steps.
    assert year_ago_growth(np.array([1.0, 1.0, 9.0, 9.0]), np.ones(1, dtype=bool), 2, 1).tolist() == [27.0]
    # Of the last four steps one is known: no growth can be told, so the last value goes on.
    unknown = np.concatenate([np.arange(1.0, 18.0), [math.nan] * 3])
    assert year_ago_growth(unknown, np.ones(1, dtype=bool), 16, 1).tolist() == [17.0]
    short = np.array([1.0, 2.0, 3.0])
    assert year_ago_growth(short, np.ones(2, dtype=bool), 12, 2).tolist() == [2.0, 3.0]


def test_the_median_of_steps_that_are_alike() -> None:
    y = np.array([1.0, 10.0, 3.0, 20.0, 100.0, 30.0, 5.0, math.nan])
    kinds = np.array([0, 0, 0, 0, 1, 0, 0, 0, 0, math.nan, 1, 1], dtype=float)
    always = np.ones(4, dtype=bool)
    # Steps of an even place, not promoted: 1, 3, 5; promoted: 100. Promoted ones of an odd place were never seen.
    assert profile(y, always, kinds, 2, 100).tolist() == [3.0, 20.0, 100.0, 20.0]
    assert profile(y, np.array([True, False, True, True]), kinds, 2, 5).tolist() == [5.0, 0.0, 100.0, 25.0]
    nothing = np.full(3, math.nan)
    nothing[0] = 4.0
    assert profile(nothing, always, np.zeros(7), 3, 2).tolist() == [4.0] * 4


def test_promotions_and_years_reach_the_simple_forecasts() -> None:
    days = 500
    promoted = [step % 3 == 0 for step in range(days + 3)]
    y = [10.0 + 5.0 * promo + (2.0 if step >= 364 else 0.0) for step, promo in enumerate(promoted)]
    rows = naive_rows(
        panel(y).assign(promotion=[float(promo) for promo in promoted]),
        NaivePlan(DAILY, 7, 3, (START + timedelta(days=days - 1),)),
    )
    by_model = {model: found["y_hat"].tolist() for model, found in rows.groupby("model")}
    assert by_model[PROFILE] == [10.0 + 5.0 * promo for promo in promoted[days:]]
    assert by_model[YEAR_AGO] != by_model[SEASONAL_NAIVE]
    assert rows.loc[rows["model"] != SEASONAL_NAIVE, "lo_95"].isna().all()
    assert rows["scale"].nunique() == 1


def test_forecasts_of_a_series_start_after_the_cutoff() -> None:
    cutoff = START + timedelta(days=8)
    rows = seasonal_rows(panel([100.0 + v for v in range(12)]), NaivePlan(DAILY, 7, 3, (cutoff,)))
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
    assert seasonal_rows(imputed, plan)["y_hat"].tolist() == [5.0, 5.0, 5.0]


def test_series_that_end_early_or_start_late() -> None:
    plan = NaivePlan(MONTHLY, 12, 2, (date(2024, 3, 1), date(2024, 9, 1)))
    assert (
        seasonal_rows(panel([1.0, 2.0], MONTHLY), plan)["cutoff"].tolist()
        == [date(2024, 3, 1)] * 2 + [date(2024, 9, 1)] * 2
    )
    late = panel([1.0, 2.0], MONTHLY).assign(ds=[date(2024, 8, 1), date(2024, 9, 1)])
    assert seasonal_rows(late, plan)["cutoff"].tolist() == [date(2024, 9, 1)] * 2
    assert seasonal_rows(panel([None, None], MONTHLY), plan).empty


def test_hours_counted_steps_and_weeks_of_any_day() -> None:
    y: list[float | None] = [1.0, 2.0, 3.0, 4.0]
    for frequency, start in ((HOURLY, datetime(2024, 3, 31)), (COUNTED, 5), (WEEKLY, date(2024, 1, 3))):
        moments = [frequency.shift(start, step) for step in range(5)]
        rows = seasonal_rows(panel(y).assign(ds=moments[:4]), NaivePlan(frequency, 2, 2, (moments[2],)))
        assert rows["ds"].tolist() == moments[3:]
        assert rows["y_hat"].tolist() == [2.0, 3.0]
    # On a Monday, Wednesdays end with the one before.
    wednesdays = panel(y).assign(ds=[WEEKLY.shift(date(2024, 1, 3), step) for step in range(4)])
    rows = seasonal_rows(wednesdays, NaivePlan(WEEKLY, 2, 2, (date(2024, 1, 22),)))
    assert rows["cutoff"].tolist() == [date(2024, 1, 22)] * 2
    assert rows["ds"].tolist() == [date(2024, 1, 24), date(2024, 1, 31)]
    assert rows["y_hat"].tolist() == [2.0, 3.0]
