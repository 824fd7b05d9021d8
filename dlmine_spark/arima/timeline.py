"""One series as arrays by step, and the dates it is forecast from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dlmine_spark import schemas as s
from dlmine_spark.config import ArimaConfig
from dlmine_spark.frequency import Frequency

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Steps = NDArray[np.intp]


class UnusableSeries(ValueError):
    """The rows of a series are no time series: a date twice, a hole, no row at all."""


@dataclass(frozen=True, slots=True)
class ForecastPlan:
    """What is asked of every series.

    Attributes:
        frequency: step of the panel.
        horizon: steps forecast after every origin.
        backtest: cutoffs with actuals after them, oldest first.
        final: the last date of the panel.
        open_is_known: whether closures are known ahead, or only seen afterwards (then those of a season ago are
            expected again).
    """

    frequency: Frequency
    horizon: int
    backtest: tuple[date, ...]
    final: date
    open_is_known: bool = True

    @property
    def cutoffs(self) -> tuple[date, ...]:
        """Every cutoff, oldest first."""
        return (*self.backtest, self.final)


@dataclass(frozen=True, slots=True)
class Timeline:
    """One series by step, from its first date to ``horizon`` steps after the last cutoff.

    Attributes:
        dates: consecutive dates.
        y: values on the original scale; NaN where unknown, imputed, infinite, closed or in the future.
        is_open: whether the series could have a value.
        covariates: known-future covariates, one row per step.
    """

    dates: tuple[date, ...]
    y: Floats
    is_open: Bools
    covariates: pd.DataFrame

    def index(self, day: date) -> int | None:
        """The step of a date, None where the series does not reach it."""
        try:
            return self.dates.index(day)
        except ValueError:
            return None

    def known_until(self, index: int) -> int:
        """How many values are known up to a step."""
        return int(np.isfinite(self.y[: index + 1]).sum())


def read_timeline(series: pd.DataFrame, plan: ForecastPlan) -> Timeline:
    """The rows of one series in order.

    Args:
        series: ``ds``, ``y``, ``open``, optionally ``y_imputed``; every other column but ``unique_id`` is a
            known-future covariate. One row per date, in any order.
        plan: what will be asked of the series.

    Raises:
        UnusableSeries: a date occurs twice, or a step is missing.
    """
    rows = series.assign(**{s.DS: pd.to_datetime(series[s.DS])}).sort_values(s.DS, ignore_index=True)
    if rows.empty:
        raise UnusableSeries("the series has no rows")
    if rows[s.DS].duplicated().any():
        twice = rows.loc[rows[s.DS].duplicated(), s.DS].iloc[0].date()
        raise UnusableSeries(f"{twice} occurs more than once")
    dates = tuple(rows[s.DS].dt.date)
    end = plan.frequency.shift(plan.final, plan.horizon)
    steps = _steps(dates[0], dates[-1], plan.frequency)
    if steps != len(dates) or dates[-1] < end:
        raise UnusableSeries(f"{len(dates)} rows from {dates[0]} to {dates[-1]}, expected every step up to {end}")
    y = rows[s.Y].to_numpy(dtype=np.float64, na_value=np.nan)
    is_open = rows[s.OPEN].fillna(1).to_numpy(dtype=np.float64) != 0
    usable = np.isfinite(y) & is_open & (rows[s.DS].dt.date <= plan.final).to_numpy()
    if s.Y_IMPUTED in rows:
        # A filled value may have been interpolated from values after the cutoff.
        usable &= ~rows[s.Y_IMPUTED].eq(True).to_numpy(dtype=np.bool_)
    own = [s.UNIQUE_ID, s.DS, s.Y, s.OPEN, s.Y_IMPUTED]
    return Timeline(dates, np.where(usable, y, np.nan), is_open, rows.drop(columns=own, errors="ignore"))


def _steps(first: date, last: date, frequency: Frequency) -> int:
    if frequency.alias == "MS":
        return (last.year - first.year) * 12 + last.month - first.month + 1
    return (last - first).days // (7 if frequency.alias == "W" else 1) + 1


def feature_origins(plan: ForecastPlan, config: ArimaConfig) -> Sequence[date]:
    """Origins whose forecasts become inputs of the network, oldest first; every cutoff is among them.

    ``feature_origins`` of them, ``feature_step`` steps apart, lead up to the first backtest cutoff; they go on at that
    distance to the final one.
    """
    step = config.feature_step or (7 if plan.frequency.alias == "D" else 1)
    first_cutoff = plan.cutoffs[0]
    origins = {plan.frequency.shift(first_cutoff, -step * back) for back in range(config.feature_origins + 1)}
    onward = first_cutoff
    while onward < plan.final and config.feature_origins > 0:
        origins.add(onward)
        onward = plan.frequency.shift(onward, step)
    return sorted(origins | set(plan.cutoffs))
