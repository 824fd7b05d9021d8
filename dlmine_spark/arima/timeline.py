"""One series as arrays by step, and the dates it is forecast from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dlmine_spark import schemas as s
from dlmine_spark.config import ArimaConfig
from dlmine_spark.frequency import Frequency, Moment
from dlmine_spark.moments import moments_of

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Steps = NDArray[np.intp]


class UnusableSeries(ValueError):
    """The rows of a series are no time series: a date twice, a hole, no row before the forecast begins."""


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
    backtest: tuple[Moment, ...]
    final: Moment
    open_is_known: bool = True

    @property
    def cutoffs(self) -> tuple[Moment, ...]:
        """Every cutoff, oldest first."""
        return (*self.backtest, self.final)

    def season_length(self, config: ArimaConfig) -> int:
        """Steps in a season: those asked for, else the frequency's."""
        return self.frequency.season_length if config.season_length == "auto" else config.season_length


@dataclass(frozen=True, slots=True)
class Timeline:
    """One series by step, from its first date to ``horizon`` steps after the last cutoff.

    Attributes:
        dates: consecutive moments.
        y: values on the original scale; NaN where unknown, imputed, infinite, closed or in the future.
        is_open: whether the series could have a value.
        covariates: known-future covariates, one row per step.
    """

    dates: tuple[Moment, ...]
    y: Floats
    is_open: Bools
    covariates: pd.DataFrame

    def index(self, moment: Moment) -> int | None:
        """The last step up to a moment, None where the series begins later."""
        reached = bisect_right(self.dates, moment)
        return reached - 1 if reached else None

    def known_until(self, index: int) -> int:
        """How many values are known up to a step."""
        return int(np.isfinite(self.y[: index + 1]).sum())

    def steps_used(self, cutoff: int, config: ArimaConfig) -> Steps:
        """What a model is fitted on: steps with a known value among the last ``max_history`` up to a cutoff.

        Zeros before the first sale are left out where they are no pattern of the series: a product that was not there
        yet. (Not where fewer than ``min_history`` values would remain.)
        """
        known = np.flatnonzero(np.isfinite(self.y[: cutoff + 1]))
        steps = known[known > cutoff - config.max_history]
        begun = steps[_zeros_before_the_first_sale(self.y[steps]) :]
        return begun if begun.size >= config.min_history else steps


def _zeros_before_the_first_sale(values: Floats) -> int:
    """How many zeros values begin with; 0 where later ones are as many in a row, or a value is negative."""
    others = np.flatnonzero(values)
    if not others.size or values.min() < 0:
        return 0
    longest_later = int(np.diff(others, append=values.size).max()) - 1
    return int(others[0]) if others[0] > longest_later else 0


def read_timeline(series: pd.DataFrame, plan: ForecastPlan) -> Timeline:
    """The rows of one series in order.

    Args:
        series: ``ds``, ``y``, ``open``, optionally ``y_imputed``; every other column but ``unique_id`` is a
            known-future covariate. One row per date, in any order.
        plan: what will be asked of the series.

    Raises:
        UnusableSeries: a date occurs twice, a step is missing, or no row lies in the past.
    """
    rows = series.sort_values(s.DS, ignore_index=True)
    if rows.empty:
        raise UnusableSeries("the series has no rows")
    if rows[s.DS].duplicated().any():
        twice = moments_of(rows.loc[rows[s.DS].duplicated(), s.DS])[0]
        raise UnusableSeries(f"{twice} occurs more than once")
    dates = moments_of(rows[s.DS])
    if dates[0] > plan.final:
        raise UnusableSeries(f"no row up to {plan.final}: the series begins on {dates[0]}")
    end = plan.frequency.shift(plan.final, plan.horizon)
    steps = plan.frequency.steps(dates[0], dates[-1]) + 1
    if steps != len(dates) or plan.frequency.shift(dates[-1], 1) <= end:
        raise UnusableSeries(f"{len(dates)} rows from {dates[0]} to {dates[-1]}, expected every step up to {end}")
    y = rows[s.Y].to_numpy(dtype=np.float64, na_value=np.nan)
    is_open = rows[s.OPEN].fillna(1).to_numpy(dtype=np.float64) != 0
    usable = np.isfinite(y) & is_open & (np.arange(len(dates)) < bisect_right(dates, plan.final))
    if s.Y_IMPUTED in rows:
        # A filled value may have been interpolated from values after the cutoff.
        usable &= ~rows[s.Y_IMPUTED].eq(True).to_numpy(dtype=np.bool_)
    own = [s.UNIQUE_ID, s.DS, s.Y, s.OPEN, s.Y_IMPUTED]
    return Timeline(dates, np.where(usable, y, np.nan), is_open, rows.drop(columns=own, errors="ignore"))


def feature_origins(plan: ForecastPlan, config: ArimaConfig) -> Sequence[Moment]:
    """Origins whose forecasts become inputs of the network, oldest first; every cutoff is among them.

    ``feature_origins`` of them, ``feature_step`` steps apart, lead up to the first backtest cutoff; they go on at that
    distance to the final one.
    """
    step = config.feature_step or (plan.frequency.season_length if plan.frequency.days <= 1 else 1)
    first_cutoff = plan.cutoffs[0]
    origins = {plan.frequency.shift(first_cutoff, -step * back) for back in range(config.feature_origins + 1)}
    onward = first_cutoff
    while onward < plan.final and config.feature_origins > 0:
        origins.add(onward)
        onward = plan.frequency.shift(onward, step)
    return sorted(origins | set(plan.cutoffs))
