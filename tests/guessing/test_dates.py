"""How dates are written where day and month could be either."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import pytest

from dlmine_spark.guessing.dates import formats_of


def pattern_of(days: Iterable[date], written: str) -> tuple[str, str | None]:
    """The pattern that dates written by ``strftime`` are taken for, and what they could be as well."""
    found = formats_of({day.strftime(written): 3 for day in days})
    return found.patterns[0], found.rival


@pytest.mark.parametrize(("written", "pattern"), [("%d/%m/%Y", "dd/MM/yyyy"), ("%m/%d/%Y", "MM/dd/yyyy")])
def test_first_days_of_months_are_no_days_of_januaries(written: str, pattern: str) -> None:
    months = [date(2018 + month // 12, month % 12 + 1, 1) for month in range(60)]
    assert pattern_of(months, written)[0] == pattern
    assert pattern_of(months[:60:3], written)[0] == pattern


@pytest.mark.parametrize(("written", "pattern"), [("%d/%m/%Y", "dd/MM/yyyy"), ("%m/%d/%Y", "MM/dd/yyyy")])
def test_days_tell_by_those_after_the_twelfth(written: str, pattern: str) -> None:
    days = [date(2024, 1, 1) + timedelta(days=day) for day in range(90)]
    assert pattern_of(days, written) == (pattern, None)


def test_what_nothing_tells_is_as_usual() -> None:
    few = [date(2024, month, 1) for month in (1, 2, 3)]
    assert pattern_of(few, "%d/%m/%Y") == ("MM/dd/yyyy", "dd/MM/yyyy")
