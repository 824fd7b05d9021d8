"""Small series for the tests of the ARIMA stage."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd

from dlmine_spark.arima.timeline import ForecastPlan
from dlmine_spark.frequency import DAILY, MONTHLY, Frequency

START = date(2023, 1, 2)
FAR = float("inf")
"""A deadline that never comes."""


def arma(n: int, *, ar: float = 0.0, ma: float = 0.0, sd: float = 1.0, seed: int = 1) -> np.ndarray:
    """An ARMA(1, 1) process around zero, after a hundred steps to forget its start."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(scale=sd, size=n + 101)
    values = np.zeros(n + 101)
    for t in range(1, n + 101):
        values[t] = ar * values[t - 1] + noise[t] + ma * noise[t - 1]
    return values[101:]


def series(y: np.ndarray, horizon: int, *, frequency: Frequency = DAILY, **covariates: np.ndarray) -> pd.DataFrame:
    """Rows of one series: the values, then ``horizon`` future steps without them; covariates span both."""
    n = len(y) + horizon
    columns = {"open": np.ones(n, dtype=int), **covariates}
    return pd.DataFrame(
        {
            "unique_id": "a",
            "ds": [frequency.shift(START, step) for step in range(n)],
            "y": np.concatenate([np.asarray(y, dtype=float), np.full(horizon, np.nan)]),
            **columns,
        }
    )


def plan(known: int, horizon: int, *backtest: int, frequency: Frequency = DAILY, **options: bool) -> ForecastPlan:
    """Cutoffs after so many values; the final one after ``known``."""
    return ForecastPlan(
        frequency=frequency,
        horizon=horizon,
        backtest=tuple(frequency.shift(START, values - 1) for values in backtest),
        final=frequency.shift(START, known - 1),
        **options,
    )


def shop(known: int, horizon: int) -> pd.DataFrame:
    """Sales of a week's shape, with promotions that half of them have, closed on Sundays, around 100."""
    total = known + horizon
    promo = (np.arange(total) // 5 % 2).astype(float)
    week = np.tile([0.0, 5.0, 8.0, 3.0, 12.0, 20.0, 0.0], total)[:total]
    y = (100 + week + 30 * promo + arma(total, ar=0.6, sd=4.0, seed=3))[:known]
    is_open = (np.arange(total) % 7 != 6).astype(int)
    rows = series(np.where(is_open[:known] == 1, y, 0.0), horizon, promo=promo)
    return rows.assign(open=is_open)


def months(known: int, horizon: int) -> pd.DataFrame:
    """A rising series whose season moves."""
    rng = np.random.default_rng(2)
    season = np.cumsum(rng.normal(scale=2.0, size=(known // 12 + 2, 12)), axis=0) + 20 * np.sin(np.arange(12))
    y = 200 + 0.5 * np.arange(known) + season.ravel()[:known] + arma(known, ar=0.4, seed=5)
    return series(y, horizon, frequency=MONTHLY)
