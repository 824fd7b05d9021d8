"""Dates and times in plain Python, by the patterns that Spark reads them by."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from dlmine_spark.cleaning.notation import DATE_PATTERNS, FIRST_YEAR, ISO, LAST_YEAR, OTHER_PATTERNS

ISO_NAME = "ISO"
"""Stands for ISO's ways of writing, which cleaning reads without being told."""
PATTERNS = (
    *dict.fromkeys((*DATE_PATTERNS, *OTHER_PATTERNS)),
    "dd.MM.yyyy HH:mm:ss",
    "dd.MM.yy",
    "dd/MM/yyyy HH:mm:ss",
    "MM/dd/yyyy HH:mm",
    "MM/dd/yyyy HH:mm:ss",
    "d/M/yyyy H:mm",
    "M/d/yyyy H:mm:ss",
    "d/M/yyyy H:mm:ss",
    "M/d/yy H:mm",
    "d/M/yy H:mm",
    "M/d/yyyy h:mm a",
    "M/d/yyyy h:mm:ss a",
    "dd-MM-yyyy HH:mm",
    "dd-MMM-yyyy",
    "dd-MMM-yyyy HH:mm",
    "d-MMM-yyyy",
    "dd-MMM-yy",
    "d MMM yyyy",
    "MMM d, yyyy",
    "MMMM d, yyyy",
    "yyyyMMddHHmm",
    "yyyy-MM",
    "yyyy/MM",
    "yyyy.MM",
    "MM/yyyy",
    "MM.yyyy",
    "MM-yyyy",
    "MMM yyyy",
    "MMM-yyyy",
    "MMM-yy",
    "MMMM yyyy",
)
"""What may have to be declared; ISO's own are tried before. Ambiguous ones are in the order of what is usual."""
NUMBER_PATTERNS = ("yyyyMM", "yyyy")
"""Dates that look like plain numbers: only a column's name tells them."""
MOST_FORMATS = 5
_EVENER = 0.1
"""How much larger the share of equal gaps has to be, to speak against what is usual."""
_MONTHS_FOR_DAYS = 0.999
_FEWEST_EVEN = 6
"""Dates all equally far apart, which are no chance."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SHORT_YEARS_FROM = 2000
"""Spark reads yy as a year from 2000 on."""
_GROUPS = {
    "yyyy": r"(?P<year>\d{4})",
    "yy": r"(?P<short>\d{2})",
    "MMMM": r"(?P<name>[A-Za-z]{3,9})",
    "MMM": r"(?P<name>[A-Za-z]{3})",
    "MM": r"(?P<month>\d{2})",
    "M": r"(?P<month>\d{1,2})",
    "dd": r"(?P<day>\d{2})",
    "d": r"(?P<day>\d{1,2})",
    "HH": r"(?P<hour>\d{2})",
    "H": r"(?P<hour>\d{1,2})",
    "h": r"(?P<half>\d{1,2})",
    "mm": r"(?P<minute>\d{2})",
    "ss": r"(?P<second>\d{2})",
    "a": r"(?P<noon>[AaPp][Mm])",
}

_OFFSET = re.compile(r".*:\d\d(?:\.\d+)? ?(?:Z|[+-]\d{2}:?\d{2})", re.ASCII)

Reader = Callable[[str], datetime | None]


@dataclass(frozen=True, slots=True)
class Formats:
    """How the dates of a column are written.

    Attributes:
        patterns: those that read some cell, of most cells first; ``ISO_NAME`` stands for ISO.
        share: of cells that one of them reads.
        rival: a pattern that reads all that the first one does, with day and month exchanged; None if there is none.
    """

    patterns: tuple[str, ...]
    share: float
    rival: str | None = None

    @property
    def declared(self) -> tuple[str, ...]:
        """The patterns to declare: none where all is ISO."""
        if self.patterns == (ISO_NAME,):
            return ()
        return tuple("yyyy-MM-dd" if pattern == ISO_NAME else pattern for pattern in self.patterns)


def has_offset(text: str) -> bool:
    """Whether a time in ISO tells how far its clock is from UTC."""
    return _OFFSET.fullmatch(text) is not None


@functools.cache
def reader(pattern: str) -> Reader:
    """What reads texts by a pattern, as Spark's ``try_to_timestamp`` would; None for what is not in it."""
    if pattern == ISO_NAME:
        return _iso
    tokens = re.findall(r"y+|M+|d+|H+|h+|m+|s+|a|'[^']*'|[^yMdHhmsa']", pattern)
    shape = re.compile("".join(_GROUPS.get(token, re.escape(token.strip("'"))) for token in tokens), re.ASCII)

    def read(text: str) -> datetime | None:
        match = shape.fullmatch(text)
        return None if match is None else _moment(match.groupdict())

    return read


def _iso(text: str) -> datetime | None:
    if re.match(ISO, text, re.ASCII) is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    # The day as it is written, as cleaning takes it; the offset tells no more than an hour's difference of steps.
    return moment.replace(tzinfo=None)


def _moment(parts: Mapping[str, str]) -> datetime | None:
    year = int(parts["year"]) if "year" in parts else _SHORT_YEARS_FROM + int(parts["short"])
    month = int(parts.get("month") or 1)
    if "name" in parts:
        start = parts["name"][:3].lower()
        if start not in _MONTHS:
            return None
        month = _MONTHS.index(start) + 1
    hour = int(parts.get("hour") or 0)
    if "half" in parts:
        if not 1 <= int(parts["half"]) <= 12:
            return None
        hour = int(parts["half"]) % 12 + (12 if parts["noon"].lower() == "pm" else 0)
    try:
        moment = datetime(
            year, month, int(parts.get("day") or 1), hour, int(parts.get("minute") or 0), int(parts.get("second") or 0)
        )
    except ValueError:
        return None
    return moment if FIRST_YEAR <= year <= LAST_YEAR else None


def formats_of(counts: Mapping[str, int], *, day_first: bool = False, further: Sequence[str] = ()) -> Formats:
    """The patterns that dates are written in: the one that reads most cells, then what reads the rest.

    Args:
        counts: text -> how many cells hold it.
        day_first: whether 03/04/2024 is rather in April, where nothing else tells.
        further: patterns that are tried, too.

    Returns:
        The patterns; none where no cell is a date.
    """
    total = sum(counts.values())
    left = dict(counts)
    chosen: list[str] = []
    rival = None
    while left and len(chosen) < MOST_FORMATS:
        read = {
            pattern: sum(copies for text, copies in left.items() if reader(pattern)(text) is not None)
            for pattern in (ISO_NAME, *further, *PATTERNS)
        }
        most = max(read.values())
        if most == 0:
            break
        best = [pattern for pattern, cells in read.items() if cells == most]
        orders = {order_of(pattern): pattern for pattern in reversed(best)}
        pattern = best[0]
        if not chosen and {"dMy", "Mdy"} <= orders.keys():
            both = {order: orders[order] for order in ("dMy", "Mdy")}
            pattern = _likelier(both, list(left), day_first=day_first)
            rival = next(other for other in both.values() if other != pattern)
        chosen.append(pattern)
        left = {text: copies for text, copies in left.items() if reader(pattern)(text) is None}
    share = 1 - sum(left.values()) / total if total else 0.0
    return Formats(tuple(chosen), share, rival)


def order_of(pattern: str) -> str:
    """Which of day, month and year comes first: ``dMy``."""
    return "".join(sign for sign in dict.fromkeys(pattern) if sign in "dMy")


def _likelier(orders: Mapping[str, str], texts: Sequence[str], *, day_first: bool) -> str:
    """Of patterns that read the same cells, the one whose dates follow each other more evenly, else the usual one."""

    def evenness(pattern: str) -> float:
        ordered = sorted(moment for text in texts if (moment := reader(pattern)(text)) is not None)
        gaps = Counter(_gap(earlier, later) for earlier, later in pairwise(ordered))
        (unit, _), copies = gaps.most_common(1)[0] if gaps else (("", 0), 0)
        # Twelve days in a row are twelve months the other way round, and days are more usual.
        return copies / max(len(ordered) - 1, 1) * (_MONTHS_FOR_DAYS if unit == "months" else 1)

    ranked = {pattern: evenness(pattern) for pattern in orders.values()}
    usual = orders["dMy" if day_first else "Mdy"]
    best = max(ranked, key=ranked.__getitem__)
    # The first days of months are, the other way round, twelve days in a row each January: nearly even.
    is_even = ranked[best] >= _MONTHS_FOR_DAYS and len(texts) >= _FEWEST_EVEN
    return usual if ranked[usual] >= ranked[best] - (0 if is_even else _EVENER) else best


def _gap(earlier: datetime, later: datetime) -> tuple[str, float]:
    """How far apart dates are: in months where they are on the same day of these, else in seconds."""
    months = (later.year - earlier.year) * 12 + later.month - earlier.month
    if months and (later.day, later.time()) == (earlier.day, earlier.time()):
        return "months", months
    return "seconds", (later - earlier).total_seconds()
