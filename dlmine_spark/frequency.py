"""Steps of a panel (day, week, month) and the forecast origins that follow from them. Plain dates, no Spark."""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from dlmine_spark.errors import TableContractError

Alias = Literal["D", "W", "MS"]


@dataclass(frozen=True, slots=True)
class Frequency:
    """The step of a panel: its pandas alias and the steps of its main season."""

    alias: Alias
    season_length: int

    def shift(self, day: date, steps: int) -> date:
        """The date ``steps`` after ``day`` (before, if negative); month steps keep the day, or the month's last."""
        if self.alias == "MS":
            months = day.year * 12 + day.month - 1 + steps
            year, month = divmod(months, 12)
            return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
        return day + timedelta(days=steps * (7 if self.alias == "W" else 1))

    def sql_interval(self) -> str:
        """The step as a Spark SQL interval, for ``sequence(start, end, interval)``."""
        return {"D": "interval 1 day", "W": "interval 7 days", "MS": "interval 1 month"}[self.alias]


DAILY = Frequency("D", 7)
WEEKLY = Frequency("W", 52)
MONTHLY = Frequency("MS", 12)
BY_ALIAS: dict[str, Frequency] = {freq.alias: freq for freq in (DAILY, WEEKLY, MONTHLY)}


def from_step(days: float) -> Frequency:
    """The frequency whose usual distance between two dates is ``days``.

    Raises:
        TableContractError: for a distance that is no day, week or month.
    """
    if days < 4:
        return DAILY
    if 6 <= days <= 8:
        return WEEKLY
    if 27 <= days <= 32:
        return MONTHLY
    raise TableContractError(
        f"silver.panel: dates are {days:g} days apart; set cleaning.frequency to D, W or MS, or aggregate the source"
    )


def backtest_cutoffs(last: date, frequency: Frequency, horizon: int, cutoffs: int, step: int | None) -> Sequence[date]:
    """Rolling origins, oldest first; the newest leaves exactly one horizon of actuals up to ``last``."""
    stride = step or horizon
    return [frequency.shift(last, -(horizon + stride * back)) for back in reversed(range(cutoffs))]
