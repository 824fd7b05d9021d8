"""Stores and their sales: the noise around the expectation, and what couplings change."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from dlmine_spark.datasets.catalogue import ITEMS, PROMOTABLE, pull_of_items
from dlmine_spark.datasets.world import COMPETITOR_RAMP, DAYS_AHEAD, STORE_TYPES, World, make_world


@pytest.fixture(scope="module")
def world() -> World:
    return make_world("small", 7, True)


@pytest.fixture(scope="module")
def uncoupled() -> World:
    return make_world("small", 7, False)


def test_sales_end_on_the_last_day_and_the_calendar_goes_on(world: World) -> None:
    assert world.days[world.size.days - 1] == np.datetime64("2024-06-16")
    assert len(world.days) == world.size.days + DAYS_AHEAD
    assert world.promoted[:, world.size.days :].max() >= 0


def test_expected_sales_are_the_median_and_the_noise_is_moderate(world: World) -> None:
    expected, sales = world.expected[world.is_open], world.sales[world.is_open]

    assert np.median(sales / expected) == pytest.approx(1, abs=0.005)
    assert np.abs(sales - expected).sum() / sales.sum() == pytest.approx(0.065, abs=0.005)
    assert not world.sales[~world.is_open].any()


def test_noise_is_autocorrelated_for_days_not_for_weeks(world: World) -> None:
    resort = world.stores["type"].to_numpy() == 3
    noise = np.log(world.sales[resort] / np.where(world.is_open, world.expected, np.nan)[resort])

    def autocorrelation(lag: int) -> float:
        pairs = [(row[:-lag], row[lag:]) for row in noise]
        both = np.concatenate([np.stack(pair) for pair in pairs], axis=1)
        return float(np.corrcoef(both[:, ~np.isnan(both).any(axis=0)])[0, 1])

    assert autocorrelation(1) == pytest.approx(0.4, abs=0.05)
    assert autocorrelation(7) == pytest.approx(0, abs=0.05)


def test_types_close_as_they_should(world: World) -> None:
    weekday = (world.days.astype(int) + 3) % 7
    kinds = world.stores["type"].to_numpy()
    christmas = np.flatnonzero(world.days == np.datetime64(date(2023, 12, 25)))
    boxing_day = np.flatnonzero(world.days == np.datetime64(date(2023, 12, 26)))

    for number, one in enumerate(STORE_TYPES):
        assert world.is_open[kinds == number][:, weekday == 6].any() == (one.week[6] > 0)
    assert not world.is_open[:, christmas].any()
    assert {STORE_TYPES[kind].name for kind in kinds[world.is_open[:, boxing_day[0]]]} == {"weekend", "resort"}


def test_what_nobody_can_know_in_advance_lies_far_before_the_end(world: World) -> None:
    settled = world.stores["competitor_opens"].dropna() + np.timedelta64(COMPETITOR_RAMP, "D")

    assert len(settled) > 5
    assert settled.max() < np.datetime64("2024-06-16") - np.timedelta64(200, "D")


def test_a_region_promotes_one_item_at_a_time_and_types_are_everywhere(world: World) -> None:
    for _, region in world.stores.groupby("region"):
        assert (world.promoted[region.index] == world.promoted[region.index[0]]).all()
        assert region["type"].nunique() > 1
    used = world.promoted[world.promoted >= 0]
    assert {ITEMS[item] for item in np.unique(used)} == set(PROMOTABLE)


def test_couplings_change_promotions_by_pull_and_type_and_nothing_on_plain_days(world: World, uncoupled: World) -> None:
    closes_tomorrow = np.roll(~world.is_open, -1, axis=1)
    plain = world.is_open & (world.holiday == "") & ~world.is_school_holiday & ~closes_tomorrow
    no_promotion = plain & (world.promoted < 0)
    ratio = np.log(world.expected[plain & (world.promoted >= 0)] / uncoupled.expected[plain & (world.promoted >= 0)])
    item = world.promoted[plain & (world.promoted >= 0)]
    kind = np.broadcast_to(world.stores["type"].to_numpy()[:, None], plain.shape)[plain & (world.promoted >= 0)]
    pulls = pull_of_items(world.popularity)
    gin, butter = ITEMS.index("gin"), ITEMS.index("butter")

    assert np.array_equal(world.expected[no_promotion], uncoupled.expected[no_promotion])
    assert pulls[butter] == 0
    for number, one in enumerate(STORE_TYPES):
        of_gin, of_butter = (ratio[(item == which) & (kind == number)] for which in (gin, butter))
        assert np.ptp(of_gin) < 1e-9
        assert of_gin[0] - of_butter[0] == pytest.approx(one.promotion * 0.4 * pulls[gin])


def test_without_couplings_every_promotion_works_the_same(uncoupled: World) -> None:
    """Uplifts cannot be told apart by item or type: what is left after the season is one number."""
    pulls = pull_of_items(uncoupled.popularity)
    mean_pull = np.mean([pulls[ITEMS.index(item)] for item in PROMOTABLE])
    same_world = make_world("small", 7, True)
    number = [one.name for one in STORE_TYPES].index("weekend")
    store = int(np.flatnonzero(uncoupled.stores["type"] == number)[0])
    plain = uncoupled.is_open[store] & (uncoupled.holiday == "") & ~uncoupled.is_school_holiday
    plain &= ~np.roll(~uncoupled.is_open[store], -1)
    promoted = plain & (uncoupled.promoted[store] >= 0)
    coupled_uplift = STORE_TYPES[number].promotion * (0.1 + 0.4 * pulls[uncoupled.promoted[store, promoted]])

    uplift = np.log(uncoupled.expected[store, promoted] / same_world.expected[store, promoted]) + coupled_uplift

    assert uplift == pytest.approx(0.1 + 0.4 * mean_pull)
