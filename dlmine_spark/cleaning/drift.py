"""Drift: how far a source differs from what it was in the run before, by a few statistics of both.

- Numbers: the Kolmogorov-Smirnov distance, the largest difference between the shares of values up to some number
  (Smirnov 1948), taken from quantiles.
- Texts: the total variation distance, the share of values that would have to change into others (half the sum of all
  differences between shares), taken from the most frequent texts.

Both lie between 0 and 1 and are shares of the known values, so that one setting serves for both. Two samples of the
same kind never look quite the same: what chance alone would explain is allowed beyond that setting. Plain Python on
plain values; ``statistics`` measures them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dlmine_spark.config import Drift

_KS_AT_5_PERCENT = 1.36
"""Of the distance of two samples of the same kind, in units of sqrt(1/n + 1/m), exceeded one time in twenty."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """What is known of a column.

    Attributes:
        blanks: share of its cells without a value.
        quantiles: of numbers, from the smallest to the largest, at equal steps; else empty.
        shares: of texts, the most frequent ones with their shares of the known values; else empty.
    """

    blanks: float
    quantiles: tuple[float, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of the good rows of a source in one run."""

    rows: int
    columns: Mapping[str, ColumnProfile]


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between two runs that is larger than allowed."""

    rule: str
    column: str
    message: str


def changes(before: Profile, now: Profile, allowed: Drift) -> list[Change]:
    """The differences that are larger than allowed, first of the number of rows, then column by column.

    Columns that only one of the two has, or that became another type, are not compared.
    """
    found = list(_change_of_rows(before.rows, now.rows, allowed.rows))
    for name in now.columns:
        if name in before.columns:
            pair = before.columns[name], now.columns[name]
            found += _change_of_blanks(name, *pair, before.rows, now.rows, allowed.blanks)
            found += _change_of_values(name, *pair, before.rows, now.rows, allowed.shares)
    return found


def ks_distance(some: Sequence[float], others: Sequence[float]) -> float:
    """The Kolmogorov-Smirnov distance of two sorted samples, or of their quantiles at equal steps; between 0 and 1."""
    return max(
        abs(bisect_right(some, value) / len(some) - bisect_right(others, value) / len(others))
        for value in (*some, *others)
    )


def total_variation(some: Mapping[str, float], others: Mapping[str, float]) -> float:
    """The total variation distance of two lists of most frequent values with their shares; between 0 and 1.

    What a list leaves out it leaves out for being rarer than all in it: it is taken to be as near to the other side as
    that allows, so that the distance is never too large.
    """
    pairs = _paired(some, others)
    rest = _rest(share for share, _ in pairs.values()) - _rest(share for _, share in pairs.values())
    return (sum(abs(share - other) for share, other in pairs.values()) + abs(rest)) / 2


def _paired(some: Mapping[str, float], others: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    least, least_other = _largest_left_out(some), _largest_left_out(others)
    return {
        value: (
            some.get(value, min(least, others.get(value, 0.0))),
            others.get(value, min(least_other, some.get(value, 0.0))),
        )
        for value in (*some, *(value for value in others if value not in some))
    }


def _largest_left_out(shares: Mapping[str, float]) -> float:
    """The largest share that a value may have without being in the list."""
    return min(*shares.values(), _rest(shares.values())) if shares else 0.0


def _rest(shares: Iterable[float]) -> float:
    return max(0.0, 1 - sum(shares))


def _change_of_rows(before: int, now: int, allowed: float | None) -> Iterator[Change]:
    if allowed is not None and before > 0 and abs(now - before) / before > allowed:
        share = (now - before) / before
        message = f"{now:,} good rows, {before:,} in the run before ({share:+.0%}, drift.rows is {allowed:g})"
        yield Change("drift_rows", "", message)


def _change_of_blanks(
    name: str, before: ColumnProfile, now: ColumnProfile, rows_before: int, rows_now: int, allowed: float | None
) -> Iterator[Change]:
    if allowed is None or not (rows_before and rows_now):
        return
    pooled = (before.blanks * rows_before + now.blanks * rows_now) / (rows_before + rows_now)
    by_chance = 1.96 * math.sqrt(pooled * (1 - pooled) * (1 / rows_before + 1 / rows_now))
    if abs(now.blanks - before.blanks) > allowed + by_chance:
        message = f"column {name}: {now.blanks:.0%} blanks, {before.blanks:.0%} in the run before"
        yield Change("drift_blanks", name, f"{message} (drift.blanks is {allowed:g})")


def _change_of_values(
    name: str, before: ColumnProfile, now: ColumnProfile, rows_before: int, rows_now: int, allowed: float | None
) -> Iterator[Change]:
    known_before, known_now = rows_before * (1 - before.blanks), rows_now * (1 - now.blanks)
    if allowed is None or not (known_before and known_now):
        return
    scale = math.sqrt(1 / known_before + 1 / known_now)
    if before.quantiles and now.quantiles:
        distance, by_chance = ks_distance(before.quantiles, now.quantiles), _KS_AT_5_PERCENT * scale
        measure = "Kolmogorov-Smirnov distance"
        middle, middle_before = _middle(now.quantiles), _middle(before.quantiles)
        shown = f"median {middle:g}, {middle_before:g} in the run before"
    elif before.shares and now.shares:
        distance = total_variation(before.shares, now.shares)
        # What is to be expected, half the sum of mean absolute normal deviations, and a margin as for numbers.
        pooled = [(share + other) / 2 for share, other in _paired(before.shares, now.shares).values()]
        expected = sum(math.sqrt(max(0.0, share * (1 - share)) / (2 * math.pi)) for share in pooled)
        by_chance = (expected + _KS_AT_5_PERCENT / 2) * scale
        measure = "total variation distance"
        shown = _most_changed(before.shares, now.shares)
    else:
        return
    if distance > allowed + by_chance:
        message = f"column {name}: its values are others than in the run before ({measure} {distance:.2f}"
        yield Change("drift_shares", name, f"{message}, drift.shares is {allowed:g}; {shown})")


def _middle(quantiles: Sequence[float]) -> float:
    return quantiles[len(quantiles) // 2]


def _most_changed(before: Mapping[str, float], now: Mapping[str, float]) -> str:
    pairs = _paired(before, now)
    largest = sorted(pairs, key=lambda value: (-abs(pairs[value][0] - pairs[value][1]), value))[:_SHOWN]
    return ", ".join(f"{value!r} {pairs[value][1]:.0%}, was {pairs[value][0]:.0%}" for value in largest)
