"""Steps of a panel (hour, day, week, month, ...) and the moments that follow from them. Plain Python, no Spark.

A *moment* is what ``ds`` and ``cutoff`` hold: a date; for steps shorter than a day a time without a zone, on a clock
that is never changed; or a whole number that counts steps. Series need not share a grid: weeks may begin on another
weekday in each. So a cutoff is no row of every series but a bound: a series' last moment at or before it counts.

What Spark needs to know of steps it gets as SQL text, so that this module stays free of it.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal, Protocol, cast

Unit = Literal["minute", "day", "month", "step"]
MINUTES_A_DAY = 24 * 60
DAYS_A_WEEK = 7


class Moment(Protocol):
    """A ``date``, a ``datetime`` without a zone, or an ``int``; those of one panel are of one type."""

    def __lt__(self, other: Any, /) -> bool: ...

    def __le__(self, other: Any, /) -> bool: ...

    def __gt__(self, other: Any, /) -> bool: ...

    def __ge__(self, other: Any, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Frequency:
    """The step of a panel.

    Attributes:
        alias: as ``cleaning.frequency`` has it, after pandas: ``h``, ``30min``, ``D``, ``W``, ``MS``, ``QS``, ``YS``;
            ``step`` where moments are whole numbers.
        unit: what a step is counted in.
        size: units in a step.
        season_length: steps of the main season.
        year_length: steps of the longest season, a multiple of the main one so that a day meets the same weekday: a
            year, or a week of steps shorter than a day.
        name: of one step, for people.
    """

    alias: str
    unit: Unit
    size: int
    season_length: int
    year_length: int
    name: str

    @property
    def sql_type(self) -> str:
        """Spark's type of the moments."""
        return {"minute": "timestamp_ntz", "step": "int"}.get(self.unit, "date")

    @property
    def has_calendar(self) -> bool:
        """Whether a moment lies in a year."""
        return self.unit != "step"

    @property
    def days(self) -> float:
        """Length of a step; one that is only counted could be a day."""
        return self.size * {"minute": 1 / MINUTES_A_DAY, "month": 365.25 / 12}.get(self.unit, 1.0)

    @property
    def is_within_day(self) -> bool:
        """Whether a day has several steps."""
        return self.unit == "minute"

    def shift(self, moment: Moment, steps: int) -> Moment:
        """The moment ``steps`` later (earlier, if negative); months keep the day, or are ends of months if it is one.

        Steps are to be counted from one moment, best the first of a series: a 30th becomes the 28th in February, and
        from there it would not come back.
        """
        count = steps * self.size
        if self.unit == "step":
            return cast(int, moment) + count
        if self.unit == "minute":
            return cast(datetime, moment) + timedelta(minutes=count)
        day = cast(date, moment)
        return day + timedelta(days=count) if self.unit == "day" else _months_later(day, count)

    def steps(self, start: Moment, moment: Moment) -> int:
        """Which step from ``start`` on a moment belongs to: 0 is the one that begins there, or in its month."""
        return _units(self.unit, start, moment) // self.size

    def moments(self, start: Moment, end: Moment) -> list[Moment]:
        """The moments from ``start`` on, a step apart, up to ``end``."""
        found = [self.shift(start, step) for step in range(self.steps(start, end) + 1)]
        return [moment for moment in found if moment <= end]

    def sql_step(self, start: str, moment: str) -> str:
        """``steps`` in SQL, of two columns."""
        units = {
            "minute": f"timestampdiff(MINUTE, {start}, {moment})",
            "day": f"date_diff({moment}, {start})",
            "month": f"(year({moment}) - year({start})) * 12 + month({moment}) - month({start})",
            "step": f"{moment} - {start}",
        }[self.unit]
        return f"cast(floor(({units}) / {self.size}) as int)"

    def sql_moment(self, start: str, steps: str) -> str:
        """``shift`` in SQL, of a column of moments and one of whole numbers."""
        count = f"{steps} * {self.size}"
        month = f"add_months({start}, {count})"
        return {
            "minute": f"{start} + make_dt_interval(0, 0, {count})",
            "day": f"date_add({start}, {count})",
            "month": f"if({start} = last_day({start}), last_day({month}), {month})",
            "step": f"{start} + {count}",
        }[self.unit]

    def sql_days(self, moment: str) -> str:
        """Days since 1970 in SQL, of a column of moments: with fractions of times, and counted steps as they are."""
        return {
            "minute": f"timestampdiff(MICROSECOND, TIMESTAMP_NTZ'1970-01-01 00:00:00', {moment}) / 86400e6D",
            "step": f"cast({moment} as double)",
        }.get(self.unit, f"cast(unix_date({moment}) as double)")

    def sql_position(self, moment: str) -> str:
        """Where in the season a moment lies, as the calendar has it: a whole number, the same for alike moments.

        Weekday, with the time of day where days have steps; month; of counted steps the place in the declared season.
        """
        if self.unit == "step":
            return f"pmod(floor({moment} / {self.size}), {self.season_length})"
        if self.unit == "minute":
            return f"(dayofweek({moment}) * 24 + hour({moment})) * 60 + minute({moment})"
        return f"dayofweek({moment})" if self.days <= 1 else f"month({moment})"

    def sql_moments(self, start: str, end: str) -> str:
        """``moments`` in SQL: an array; of an end before the start, an empty one."""
        steps = f"sequence(0, {self.sql_step(start, end)})"
        every = f"transform({steps}, step -> {self.sql_moment(start, 'step')})"
        none = f"cast(array() as array<{self.sql_type}>)"
        return f"if({end} < {start}, {none}, filter({every}, moment -> moment <= {end}))"


def _months_later(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    is_end = day.day == calendar.monthrange(day.year, day.month)[1]
    return date(year, month + 1, last if is_end else min(day.day, last))


def _units(unit: Unit, start: Any, moment: Any) -> int:
    if unit == "step":
        return int(moment - start)
    if unit == "minute":
        return int((moment - start) // timedelta(minutes=1))
    if unit == "day":
        return int((moment - start).days)
    return int((moment.year - start.year) * 12 + moment.month - start.month)


DAILY = Frequency("D", "day", 1, DAYS_A_WEEK, 364, "day")
WEEKLY = Frequency("W", "day", DAYS_A_WEEK, 52, 52, "week")
MONTHLY = Frequency("MS", "month", 1, 12, 12, "month")
QUARTERLY = Frequency("QS", "month", 3, 4, 4, "quarter")
YEARLY = Frequency("YS", "month", 12, 1, 1, "year")
COUNTED = Frequency("step", "step", 1, 1, 1, "step")


def minutes(count: int) -> Frequency | None:
    """Steps of so many minutes, None where a day has no whole number of them, or but one."""
    if count < 1 or count >= MINUTES_A_DAY or MINUTES_A_DAY % count:
        return None
    a_day = MINUTES_A_DAY // count
    hours, rest = divmod(count, 60)
    alias, name = f"{count}min", f"{count}-minute step"
    if rest == 0:
        alias, name = (f"{hours}h", f"{hours}-hour step") if hours > 1 else ("h", "hour")
    return Frequency(alias, "minute", count, a_day, DAYS_A_WEEK * a_day, name)


HOURLY = Frequency("h", "minute", 60, 24, 168, "hour")

_BY_LETTER = {
    "D": DAILY,
    "W": WEEKLY,
    **dict.fromkeys(("M", "MS", "ME"), MONTHLY),
    **dict.fromkeys(("Q", "QS", "QE"), QUARTERLY),
    **dict.fromkeys(("Y", "YS", "YE", "A", "AS", "AE"), YEARLY),
    "STEP": COUNTED,
}
KNOWN_ALIASES = "h, 30min (or another part of a day), D, W, MS, QS, YS, or step where ds counts steps"


def from_alias(text: str) -> Frequency | None:
    """The frequency that pandas, or a person, means by an alias: ``H`` is ``h``, ``W-SUN`` is ``W``; None if unknown.

    Which weekday weeks begin on, or whether months are named by their first or last day, the dates themselves say.
    """
    found = re.fullmatch(r"(\d*)(h|H|min|T)", text)
    if found is not None:
        return minutes(int(found[1] or 1) * (60 if found[2] in "hH" else 1))
    return _BY_LETTER.get(text.upper().partition("-")[0])


_BY_DAYS = ((0, 3.99, DAILY), (6, 8, WEEKLY), (27, 32, MONTHLY), (88, 93, QUARTERLY), (360, 370, YEARLY))


def from_distance(sql_type: str, distance: float) -> Frequency | None:
    """The frequency of moments that are usually so far apart: days of dates, minutes of times, or steps; else None."""
    if sql_type == "int":
        return Frequency("step", "step", int(distance), 1, 1, "step") if distance == int(distance) > 0 else None
    if sql_type == "timestamp_ntz":
        return minutes(int(distance)) if distance == int(distance) else None
    return next((known for least, most, known in _BY_DAYS if least <= distance <= most), None)


DISTANCE_UNITS = {"date": "days", "timestamp_ntz": "minutes", "int": "steps"}
"""What ``from_distance`` and ``sql_distance`` count in, by the type of the moments."""


def sql_distance(sql_type: str, before: str, moment: str) -> str:
    """How far two columns of moments are apart, in ``DISTANCE_UNITS``."""
    return {
        "date": f"date_diff({moment}, {before})",
        "timestamp_ntz": f"timestampdiff(MINUTE, {before}, {moment})",
        "int": f"{moment} - {before}",
    }[sql_type]


def sql_usual(distance: str) -> str:
    """The usual one of a column of distances: the median, of two in the middle the lower one."""
    return f"percentile_disc(0.5) WITHIN GROUP (ORDER BY {distance})"


def sql_literal(moment: Moment) -> str:
    """A moment in Spark SQL; a Python ``datetime`` would become a time in the session's zone."""
    if isinstance(moment, datetime):
        return f"TIMESTAMP_NTZ'{moment.isoformat(sep=' ')}'"
    return f"DATE'{moment.isoformat()}'" if isinstance(moment, date) else f"{moment}"


def name_of(moment: Moment) -> str:
    """A moment as part of a file's name, where colons are trouble: ``2024-01-31``, ``2024-01-31T0500``, ``17``."""
    return str(moment).replace(" ", "T").replace(":", "")


def from_text(text: str) -> Moment:
    """The moment that ``str`` wrote."""
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return date.fromisoformat(text) if len(text) == len("2024-01-31") else datetime.fromisoformat(text)


def calendar_days(moments: Sequence[Moment]) -> list[float]:
    """Days since the beginning of our era; without a calendar all are 0: nothing can be said about years."""
    return [
        0.0
        if not isinstance(moment, date)
        else moment.toordinal()
        + ((moment.hour * 60 + moment.minute) / MINUTES_A_DAY if isinstance(moment, datetime) else 0.0)
        for moment in moments
    ]


def backtest_cutoffs(
    last: Moment, frequency: Frequency, horizon: int, cutoffs: int, step: int | None
) -> Sequence[Moment]:
    """Rolling origins, oldest first; the newest leaves exactly one horizon of actuals up to ``last``."""
    stride = step or horizon
    return [frequency.shift(last, -(horizon + stride * back)) for back in reversed(range(cutoffs))]
