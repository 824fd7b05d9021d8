"""A segment in a few words that a shop manager uses: "weekend stores, strong in December". No Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlmine_spark.segmentation import features as f

TELLING = 0.5
"""Standard deviations that a segment has to lie from the mean of all entities for a feature to be named."""
MOST_WORDS = 4
"""Things said of a segment at most: those that set it apart most."""
WEEKEND_SHARE = 0.02
DAY_SHARE = 0.015
MONTH_LEVEL = 0.08
MOST_MONTHS = 3
"""Differences in a feature's own unit below which nobody would see them in a shop."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A segment's mean of one feature: in its unit, beside that of all entities, and in standard deviations."""

    mean: float
    overall: float
    z: float

    @property
    def away(self) -> float:
        """In the feature's own unit."""
        return self.mean - self.overall


Standings = Mapping[str, Standing]
"""By the feature's name; without those that are unknown."""
Word = tuple[float, str]
"""How much a phrase sets the segment apart, and the phrase."""


def describe(entity: str, standings: Standings) -> str:
    """What sets a segment apart, the most telling first; "average stores" where nothing does.

    A feature is named where the segment's mean lies ``TELLING`` standard deviations and a visible difference from that
    of all entities. Weekdays and months are told together, or a week would take seven phrases.

    Args:
        entity: ``store``, ``customer``, or what a row of a table is.
        standings: of the features of that entity.
    """
    told_of = {f.STORE: _of_store, f.CUSTOMER: _of_customer}
    noun, words = f"{entity}s", told_of.get(entity, _of_row)(standings)
    told = [word for weight, word in sorted(words, key=lambda one: -one[0]) if weight >= TELLING][:MOST_WORDS]
    if not told:
        return f"average {noun}"
    # What can stand before the noun does: "large weekend stores".
    before = [word for word in told if word in _BEFORE]
    after = [word for word in told if word not in _BEFORE]
    head = " ".join([*sorted(before, key=_BEFORE.index), noun])
    return ", ".join([head, *after])


_BEFORE = ("large", "small", "steady", "erratic", "frequent", "rare", "lapsed", "recent", "weekend", "weekday")


def _of_store(standings: Standings) -> list[Word]:
    words = [*_week(standings), *_year(standings)]
    words += _either(standings, f.LEVEL, "large", "small")
    words += _either(standings, f.VOLATILITY, "erratic", "steady", least=0.03)
    if f.GROWTH in standings:
        growth = standings[f.GROWTH].mean
        direction = "growing" if growth > 0 else "shrinking"
        grows = f"{direction} by {abs(growth):.0%} a year"
        words += _either(standings, f.GROWTH, grows, grows, least=0.03)
    if f.PROMOTION in standings:
        uplift = f"({standings[f.PROMOTION].mean:+.0%})"
        strong, weak = f"strong response to promotions {uplift}", f"weak response to promotions {uplift}"
        words += _either(standings, f.PROMOTION, strong, weak, least=0.05)
    # That the others are closed more often is no news about these.
    words += [word for word in _either(standings, f.CLOSED, "often closed", "", least=0.03) if word[1]]
    words += [word for word in _either(standings, f.EMPTY, "often without a sale", "", least=0.05) if word[1]]
    return words


def _week(standings: Standings) -> list[Word]:
    """Weekend or weekday stores, else the one weekday that stands out."""
    days = {name: standings[name] for name in f.WEEKDAY_SHARES if name in standings}
    if len(days) < len(f.WEEKDAY_SHARES):
        return []
    weekend = [days[name] for name in f.WEEKDAY_SHARES[5:]]
    away = sum(day.away for day in weekend)
    # Of two days that move together the clearer one says how far the weekend is out.
    z = max((day.z for day in weekend), key=lambda value: value if away > 0 else -value)
    if abs(away) >= WEEKEND_SHARE and (z > 0) == (away > 0) and abs(z) >= TELLING:
        return [(abs(z), "weekend" if away > 0 else "weekday")]
    name, day = max(days.items(), key=lambda item: item[1].z)
    return [(day.z, f"strong on {name.split()[0]}s")] if day.away >= DAY_SHARE else []


def _year(standings: Standings) -> list[Word]:
    words: list[Word] = []
    for sign, said in ((1, "strong"), (-1, "weak")):
        months = [
            (sign * standings[name].z, at, f.MONTHS[at])
            for at, name in enumerate(f.MONTH_LEVELS)
            if name in standings and sign * standings[name].away >= MONTH_LEVEL and sign * standings[name].z >= TELLING
        ]
        if months:
            best = sorted(months, reverse=True)[:MOST_MONTHS]
            named = [month for _, _, month in sorted(best, key=lambda one: one[1])]
            words.append((best[0][0], f"{said} in {_listed(named)}"))
    # A strong December makes every other month look weak beside it.
    return words[:1]


def _of_customer(standings: Standings) -> list[Word]:
    words = _either(standings, f.FREQUENCY, "frequent", "rare")
    words += _either(standings, f.RECENCY, "lapsed", "recent", least=7.0)
    words += _either(standings, f.MONETARY, "high total spend", "low total spend")
    words += _either(standings, f.SPEND_PER_BASKET, "expensive baskets", "cheap baskets")
    words += _either(standings, f.ITEMS_PER_BASKET, "many items a basket", "few items a basket", least=0.5)
    words += _either(standings, f.WEEKEND, "weekend", "weekday", least=0.1)
    return words


def _of_row(standings: Standings) -> list[Word]:
    """Columns by their names: nothing else is known of them."""
    return [word for name in standings for word in _either(standings, name, f"high {name}", f"low {name}")]


def _either(standings: Standings, name: str, above: str, below: str, least: float = 0.0) -> list[Word]:
    standing = standings.get(name)
    if standing is None or abs(standing.away) < least:
        return []
    return [(abs(standing.z), above if standing.z > 0 else below)]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
