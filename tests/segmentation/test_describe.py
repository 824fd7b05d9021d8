"""Segments in a few words."""

from __future__ import annotations

import pytest

from dlmine_spark.segmentation.describe import Standing, describe
from dlmine_spark.segmentation.features import MONTH_LEVELS, WEEKDAY_SHARES


def week(*away: float) -> dict[str, Standing]:
    """How far each day's share is from a seventh, and as many hundredths of standard deviations."""
    return {name: Standing(1 / 7 + by, 1 / 7, 50 * by) for name, by in zip(WEEKDAY_SHARES, away, strict=True)}


def year(**away: float) -> dict[str, Standing]:
    return {
        name: Standing(1 + away.get(name.split()[0], 0.0), 1.0, 5 * away.get(name.split()[0], 0.0))
        for name in MONTH_LEVELS
    }


WEEKEND = week(-0.02, -0.02, -0.02, -0.02, -0.02, 0.06, 0.04)
WEEKDAY = week(0.02, 0.02, 0.02, 0.02, 0.02, -0.06, -0.04)


@pytest.mark.parametrize(
    ("standings", "words"),
    [
        ({}, "average stores"),
        (WEEKEND, "weekend stores"),
        (WEEKDAY, "weekday stores"),
        ({**WEEKEND, **year(December=0.6)}, "weekend stores, strong in December"),
        (year(December=-0.6), "stores, weak in December"),
        (year(June=0.2, August=0.3, July=0.4, May=0.15), "stores, strong in June, July and August"),
        (week(-0.03, 0.0, 0.0, 0.0, 0.03, 0.0, 0.0), "stores, strong on Fridays"),
        ({"average level": Standing(900.0, 500.0, 1.2), **WEEKEND}, "large weekend stores"),
        ({"average level": Standing(100.0, 500.0, -0.6)}, "small stores"),
        ({"promotion uplift": Standing(0.45, 0.2, 1.1)}, "stores, strong response to promotions (+45%)"),
        ({"promotion uplift": Standing(0.02, 0.2, -1.1)}, "stores, weak response to promotions (+2%)"),
        ({"growth per year": Standing(-0.12, 0.0, -1.0)}, "stores, shrinking by 12% a year"),
        ({"growth per year": Standing(0.04, 0.1, -1.0)}, "stores, growing by 4% a year"),
        # Telling by standard deviations, but a hundredth of the week's trade is not seen.
        (week(0.001, 0.001, 0.001, 0.001, 0.001, -0.003, -0.002), "average stores"),
        (week(0.012, -0.003, -0.003, -0.003, -0.003, 0.0, 0.0), "average stores"),
        (year(December=0.6, March=-0.2), "stores, strong in December"),
        ({"closed share": Standing(0.3, 0.1, 0.9)}, "stores, often closed"),
        ({"closed share": Standing(0.0, 0.1, -0.9), "share of zeros": Standing(0.0, 0.1, -0.9)}, "average stores"),
        # Far in standard deviations, but nobody would see it in a shop; and the other way round.
        ({"promotion uplift": Standing(0.21, 0.2, 3.0), **year(December=0.05)}, "average stores"),
        ({"promotion uplift": Standing(0.6, 0.2, 0.4)}, "average stores"),
    ],
)
def test_stores(standings: dict[str, Standing], words: str) -> None:
    assert describe("store", standings) == words


@pytest.mark.parametrize(
    ("standings", "words"),
    [
        ({}, "average customers"),
        (
            {"baskets": Standing(30.0, 9.0, 1.5), "total spend": Standing(900.0, 200.0, 1.2)},
            "frequent customers, high total spend",
        ),
        (
            {"days since last visit": Standing(200.0, 40.0, 2.0), "baskets": Standing(1.0, 9.0, -0.7)},
            "rare lapsed customers",
        ),
        ({"days since last visit": Standing(41.0, 40.0, 2.0)}, "average customers"),
        (
            {"weekend share": Standing(0.9, 0.3, 1.0), "spend per basket": Standing(5.0, 20.0, -1.0)},
            "weekend customers, cheap baskets",
        ),
    ],
)
def test_customers(standings: dict[str, Standing], words: str) -> None:
    assert describe("customer", standings) == words


def test_no_more_is_said_than_can_be_remembered() -> None:
    everything = {
        "average level": Standing(900.0, 500.0, 0.6),
        "volatility": Standing(0.5, 0.1, 0.7),
        "promotion uplift": Standing(0.9, 0.1, 0.8),
        "closed share": Standing(0.3, 0.1, 0.9),
        **WEEKEND,
        **year(December=0.6),
    }
    assert describe("store", everything) == (
        "weekend stores, strong in December, often closed, strong response to promotions (+90%)"
    )
