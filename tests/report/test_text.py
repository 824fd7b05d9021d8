from __future__ import annotations

import math
from datetime import date

import pytest

from dlmine_spark.report import text as t


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (1234.5, "1,234"),
        (12.34, "12.3"),
        (0.01234, "0.0123"),
        (-3.456, "-3.46"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (0.00001, "1.0e-05"),
    ],
)
def test_numbers_have_three_digits(value: float | None, shown: str) -> None:
    assert t.number(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0812, "8.1 %"), (1.5, "150.0 %"), (0.0004, "0.040 %"), (0, "0 %"), (None, "–")]
)
def test_shares_are_shown_as_percent(share: float | None, shown: str) -> None:
    assert t.percent(share) == shown


def test_words_for_lists_counts_times_and_days() -> None:
    assert t.enumeration(["a", "b", "c"]) == "a, b and c"
    assert t.plural(1, "day") == "1 day"
    assert t.plural(1200, "series") == "1,200 series"
    assert t.seconds(185) == "3 min 05 s"
    assert t.day(date(2024, 5, 3)) == "3 May 2024"
    assert t.shorten("a very long name of an item in a shop", 12) == "a very long…"
