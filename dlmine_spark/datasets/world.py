"""Stores, their calendar and promotions, and what they sell: the noiseless expectation first, then the sales.

Sales are multiplicative. The expected sales of a store and day are

    level x weekday x time of year x trend x competitor x promotion x holidays x pay day

and the sales are those times ``exp(noise)``, a stationary autoregressive noise with median 1. So the expected sales are
the *median* given everything but chance, which is the forecast with the least absolute error.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dlmine_spark.datasets.catalogue import INDEX, PROMOTABLE, popularity, pull_of_items
from dlmine_spark.datasets.sizes import Size, Stream, random_numbers, size_of

LAST_DAY = date(2024, 6, 16)
"""Of every world; smaller ones start later."""
DAYS_AHEAD = 60
"""The calendar, with promotions already planned, reaches this far beyond the sales."""
REGIONS = ("Lakeland", "Highmoor", "Riverside", "Eastport")
"""Promotions are planned by region: stores of one promote the same item at the same time."""

NOISE_AUTOCORRELATION = 0.4
PAY_DAY = 0.04
PROMOTION_BASE, PROMOTION_PULL = 0.10, 0.40
"""Logarithmic uplift of a promotion: the base, and for each extra item that the promoted one pulls into a basket."""
PROMOTED_WEEKS = 0.45
COMPETITOR_SHARE, COMPETITOR_RAMP = 0.35, 21
"""Share of the stores that get a competitor, and the days over which it takes its share."""
RENOVATION_DAYS = 21

EASTER = {2021: date(2021, 4, 4), 2022: date(2022, 4, 17), 2023: date(2023, 4, 9), 2024: date(2024, 3, 31)}
HOLIDAYS_BY_DATE = {
    (1, 1): "new year",
    (5, 1): "labour day",
    (10, 3): "national holiday",
    (12, 25): "christmas day",
    (12, 26): "boxing day",
}
HOLIDAYS_BY_EASTER = {-2: "good friday", 1: "easter monday", 39: "ascension", 50: "whit monday"}
HOLIDAYS = (*HOLIDAYS_BY_DATE.values(), *HOLIDAYS_BY_EASTER.values())
SCHOOL_HOLIDAYS = (((2, 10), (2, 18)), ((7, 1), (8, 15)), ((10, 8), (10, 22)), ((12, 22), (12, 31)), ((1, 1), (1, 7)))
"""First and last day; the week before and after Easter comes on top."""


@dataclass(frozen=True, slots=True)
class StoreType:
    """What stores of a type have in common; nothing in the raw files names it.

    Attributes:
        week: sales from Monday to Sunday beside the mean day; 0: closed.
        year: logarithmic deviation in the middle of each month.
        closed_on: holidays it closes on.
        promotion: how strongly promotions work here, 1 being usual.
        holiday: logarithmic effect of a holiday on which it is open.
        eve: logarithmic effect of the day before it closes for a holiday.
        school: logarithmic effect of school holidays.
        trend: logarithmic growth a year.
        sigma: standard deviation of the logarithmic noise.
        ticket: what a visitor spends.
    """

    name: str
    week: tuple[float, ...]
    year: tuple[float, ...]
    closed_on: frozenset[str]
    promotion: float
    holiday: float
    eve: float
    school: float
    trend: float
    sigma: float
    ticket: float


STORE_TYPES: tuple[StoreType, ...] = (
    StoreType(
        name="commuter",
        week=(1.15, 1.12, 1.10, 1.12, 1.20, 0.50, 0.0),
        year=(0.02, 0.04, 0.05, 0.02, 0.00, -0.04, -0.16, -0.20, 0.03, 0.07, 0.08, 0.09),
        closed_on=frozenset(HOLIDAYS),
        promotion=0.5,
        holiday=0.0,
        eve=0.05,
        school=-0.12,
        trend=-0.02,
        sigma=0.075,
        ticket=8.0,
    ),
    StoreType(
        name="neighbourhood",
        week=(0.88, 0.84, 0.90, 1.05, 1.32, 1.40, 0.0),
        year=(-0.08, -0.06, 0.00, 0.02, 0.00, -0.02, -0.05, -0.06, -0.02, 0.02, 0.06, 0.20),
        closed_on=frozenset(HOLIDAYS),
        promotion=1.6,
        holiday=0.0,
        eve=0.30,
        school=-0.03,
        trend=0.02,
        sigma=0.070,
        ticket=22.0,
    ),
    StoreType(
        name="weekend",
        week=(0.68, 0.64, 0.70, 0.80, 1.10, 1.75, 1.50),
        year=(-0.30, -0.18, 0.08, 0.28, 0.32, 0.22, 0.06, 0.00, 0.02, -0.06, -0.16, -0.20),
        closed_on=frozenset({"new year", "christmas day"}),
        promotion=1.0,
        holiday=0.25,
        eve=0.12,
        school=0.06,
        trend=0.04,
        sigma=0.095,
        ticket=34.0,
    ),
    StoreType(
        name="resort",
        week=(0.92, 0.90, 0.94, 0.98, 1.08, 1.14, 1.04),
        year=(-0.40, -0.30, -0.12, 0.08, 0.18, 0.36, 0.52, 0.54, 0.20, -0.06, -0.40, -0.15),
        closed_on=frozenset({"christmas day"}),
        promotion=0.3,
        holiday=0.35,
        eve=0.0,
        school=0.22,
        trend=0.0,
        sigma=0.085,
        ticket=14.0,
    ),
)
UNCOUPLED = {"promotion": 1.0, "holiday": 0.25, "eve": 0.12, "school": 0.03}
"""What every type has in a world without couplings."""


@dataclass(frozen=True, eq=False)
class World:
    """Everything about stores and days; arrays are indexed by store and day, the days ahead included.

    Attributes:
        size: numbers of stores, days and customers.
        seed: of everything.
        couplings: whether types react differently and a promoted item's pull matters.
        days: every date (``datetime64[D]``), the first ``size.days`` with sales.
        stores: one row per store: store, region, size_m2, opened, then what no raw file tells: type, level, trend,
            competitor_opens, competitor_effect, renovation_starts (dates may be missing).
        popularity: share of baskets that hold each item by chance.
        is_open: whether a store opens.
        promoted: position in ``catalogue.ITEMS`` of the promoted item, -1 without a promotion.
        holiday: name of the holiday of each day, or an empty text.
        is_school_holiday: for each day.
        expected: noiseless sales, 0 where closed.
        sales: to the cent.
        visitors: that came on each day.
    """

    size: Size
    seed: int
    couplings: bool
    days: NDArray[np.datetime64]
    stores: pd.DataFrame
    popularity: NDArray[np.float64]
    is_open: NDArray[np.bool_]
    promoted: NDArray[np.int64]
    holiday: NDArray[np.object_]
    is_school_holiday: NDArray[np.bool_]
    expected: NDArray[np.float64]
    sales: NDArray[np.float64]
    visitors: NDArray[np.int64]


@lru_cache(maxsize=2)
def make_world(size_name: str, seed: int, couplings: bool) -> World:
    """The world that follows from the three arguments; made once in every process that needs it."""
    size = size_of(size_name)
    days = np.datetime64(LAST_DAY) + np.arange(1 - size.days, DAYS_AHEAD + 1)
    shares = popularity(random_numbers(seed, Stream.POPULARITY))
    stores = _stores(size, days, random_numbers(seed, Stream.STORES))
    holiday = _holidays(days)
    is_school_holiday = _school_holidays(days)
    is_open = _opening(stores, days, holiday)
    promoted = _promotions(stores, days, random_numbers(seed, Stream.PROMOTIONS))
    log_expected = (
        _level_and_trend(stores, days)
        + _season(stores, days)
        + _competitors(stores, days)
        + _promotion_uplift(stores, promoted, pull_of_items(shares), couplings)
        + _holiday_effects(stores, is_open, holiday, is_school_holiday, couplings)
        + _pay_day(days)
    )
    expected = np.where(is_open, np.exp(log_expected), 0.0)
    sales, visitors = _sales(stores, expected, random_numbers(seed, Stream.NOISE))
    return World(
        size=size,
        seed=seed,
        couplings=couplings,
        days=days,
        stores=stores,
        popularity=shares,
        is_open=is_open,
        promoted=promoted,
        holiday=holiday,
        is_school_holiday=is_school_holiday,
        expected=expected,
        sales=sales,
        visitors=visitors,
    )


def _stores(size: Size, days: NDArray[np.datetime64], rng: np.random.Generator) -> pd.DataFrame:
    """One row per store; types are dealt evenly, whatever the region, size or age."""
    count = size.stores
    types = rng.permutation(np.resize(np.arange(len(STORE_TYPES)), count))
    level = np.exp(rng.normal(np.log(9_000), 0.35, count))
    history = days[: size.days]
    # Both lie far enough back for a forecast of the last weeks to know them from the sales alone.
    competitor_opens = history[rng.integers(int(0.2 * size.days), int(0.6 * size.days), count)].copy()
    competitor_opens[rng.random(count) >= COMPETITOR_SHARE] = np.datetime64("NaT")
    renovation_starts = history[rng.integers(int(0.62 * size.days), int(0.72 * size.days), count)].copy()
    renovation_starts[np.argsort(rng.random(count))[max(1, count // 20) :]] = np.datetime64("NaT")
    return pd.DataFrame(
        {
            "store": [f"S{number:03d}" for number in range(1, count + 1)],
            "region": np.array(REGIONS)[rng.permutation(np.resize(np.arange(len(REGIONS)), count))],
            "size_m2": (level / 9_000 * 900 * np.exp(rng.normal(0, 0.2, count)) / 10).round().astype(int) * 10,
            "opened": rng.integers(1985, 2019, count),
            "type": types,
            "level": level,
            "trend": np.array([STORE_TYPES[one].trend for one in types]) + rng.normal(0, 0.01, count),
            "week_share": [rng.normal(0, 0.02, 7) for _ in range(count)],
            "season_strength": rng.normal(1, 0.06, count),
            "competitor_opens": competitor_opens,
            "competitor_effect": rng.uniform(-0.15, -0.06, count),
            "renovation_starts": renovation_starts,
        }
    )


def _holidays(days: NDArray[np.datetime64]) -> NDArray[np.object_]:
    dates: list[date] = days.tolist()
    by_easter = {
        np.datetime64(easter) + offset: name
        for easter in EASTER.values()
        for offset, name in HOLIDAYS_BY_EASTER.items()
    }
    names = [
        HOLIDAYS_BY_DATE.get((one.month, one.day), by_easter.get(day, "")) for one, day in zip(dates, days, strict=True)
    ]
    return np.array(names, dtype=object)


def _school_holidays(days: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    dates: list[date] = days.tolist()
    fixed = [any(first <= (one.month, one.day) <= last for first, last in SCHOOL_HOLIDAYS) for one in dates]
    around_easter = [abs((one - EASTER[one.year]).days) <= 7 for one in dates]
    return np.array([one or other for one, other in zip(fixed, around_easter, strict=True)])


def weekday(days: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """0 on Mondays (1970-01-01 was a Thursday)."""
    position: NDArray[np.int64] = (days.astype(np.int64) + 3) % 7
    return position


def _numbers(stores: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """A number of every store as a column, to go with a row of days."""
    return stores[column].to_numpy(np.float64)[:, None]


def _days_since(stores: pd.DataFrame, column: str, days: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Days since a date of every store; NaN where it has none."""
    since = days[None, :] - stores[column].to_numpy("datetime64[D]")[:, None]
    return np.where(np.isnat(since), np.nan, since.astype(np.float64))


def _types(stores: pd.DataFrame) -> list[StoreType]:
    return [STORE_TYPES[one] for one in stores["type"]]


def _opening(stores: pd.DataFrame, days: NDArray[np.datetime64], holiday: NDArray[np.object_]) -> NDArray[np.bool_]:
    by_plan = [
        (np.array(one.week)[weekday(days)] > 0) & ~np.isin(holiday.astype(str), sorted(one.closed_on))
        for one in _types(stores)
    ]
    since = _days_since(stores, "renovation_starts", days)
    is_open: NDArray[np.bool_] = np.array(by_plan) & ~((since >= 0) & (since < RENOVATION_DAYS))
    return is_open


def _promotions(stores: pd.DataFrame, days: NDArray[np.datetime64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Whole weeks (from Monday) by region; an item comes again only after every other one had its turn."""
    week = (days.astype(np.int64) + 3) // 7
    weeks = week - week[0]
    items = np.array([INDEX[item] for item in PROMOTABLE])
    plan = {}
    for region in REGIONS:
        count = int(weeks[-1]) + 1
        turns = np.concatenate([rng.permutation(items) for _ in range(count // len(items) + 1)])[:count]
        plan[region] = np.where(rng.random(count) < PROMOTED_WEEKS, turns, -1)[weeks]
    return np.array([plan[region] for region in stores["region"]])


def _level_and_trend(stores: pd.DataFrame, days: NDArray[np.datetime64]) -> NDArray[np.float64]:
    years = np.arange(len(days)) / 365.25
    sum_of_both: NDArray[np.float64] = np.log(_numbers(stores, "level")) + _numbers(stores, "trend") * years
    return sum_of_both


def _season(stores: pd.DataFrame, days: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """The week and the year of the store's type, each with a small deviation of the store's own."""
    position = weekday(days)
    year_start = days.astype("datetime64[Y]")
    day_of_year = (days - year_start.astype("datetime64[D]")).astype(np.float64)
    mid_months = (np.arange(12) + 0.5) * 365.25 / 12
    rows = []
    own = zip(_types(stores), stores["week_share"], stores["season_strength"], strict=True)
    for store_type, deviation, strength in own:
        # A closed weekday has no meaning on this scale; opening is applied at the end.
        week = np.log(np.maximum(store_type.week, 0.01)) + deviation
        year = np.interp(day_of_year, mid_months, store_type.year, period=365.25)
        rows.append(week[position] + strength * year)
    return np.array(rows)


def _competitors(stores: pd.DataFrame, days: NDArray[np.datetime64]) -> NDArray[np.float64]:
    ramp = np.clip(_days_since(stores, "competitor_opens", days) / COMPETITOR_RAMP, 0.0, 1.0)
    effect: NDArray[np.float64] = np.nan_to_num(ramp) * _numbers(stores, "competitor_effect")
    return effect


def _promotion_uplift(
    stores: pd.DataFrame, promoted: NDArray[np.int64], pulls: NDArray[np.float64], couplings: bool
) -> NDArray[np.float64]:
    """Coupled: by the pull of the promoted item and the type of the store; else the same for every item and store."""
    of_promotable = pulls[[INDEX[item] for item in PROMOTABLE]]
    pull = pulls[promoted] if couplings else np.full(promoted.shape, of_promotable.mean())
    response = np.array([one.promotion if couplings else UNCOUPLED["promotion"] for one in _types(stores)])
    uplift = response[:, None] * (PROMOTION_BASE + PROMOTION_PULL * pull)
    return np.where(promoted >= 0, uplift, 0.0)


def _holiday_effects(
    stores: pd.DataFrame,
    is_open: NDArray[np.bool_],
    holiday: NDArray[np.object_],
    is_school_holiday: NDArray[np.bool_],
    couplings: bool,
) -> NDArray[np.float64]:
    def effect(name: str) -> NDArray[np.float64]:
        own = [getattr(one, name) if couplings else UNCOUPLED[name] for one in _types(stores)]
        return np.array(own, dtype=np.float64)[:, None]

    is_holiday = (holiday != "").astype(bool)
    closes_tomorrow = np.zeros_like(is_open)
    closes_tomorrow[:, :-1] = ~is_open[:, 1:] & is_holiday[1:]
    sum_of_all: NDArray[np.float64] = (
        effect("holiday") * is_holiday + effect("eve") * closes_tomorrow + effect("school") * is_school_holiday
    )
    return sum_of_all


def _pay_day(days: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """A little more on the last two and first two days of a month."""
    month = days.astype("datetime64[M]")
    from_start = (days - month.astype("datetime64[D]")).astype(np.int64)
    to_end = ((month + 1).astype("datetime64[D]") - days).astype(np.int64)
    return np.where((from_start < 2) | (to_end <= 2), PAY_DAY, 0.0)


def _sales(
    stores: pd.DataFrame, expected: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Expected sales times an AR(1) noise on the logarithmic scale, and the visitors who spent them."""
    types = _types(stores)
    sigma = np.array([one.sigma for one in types])
    innovations = rng.normal(size=expected.shape)
    noise = np.empty_like(expected)
    noise[:, 0] = innovations[:, 0]
    for day in range(1, expected.shape[1]):
        noise[:, day] = (
            NOISE_AUTOCORRELATION * noise[:, day - 1] + np.sqrt(1 - NOISE_AUTOCORRELATION**2) * innovations[:, day]
        )
    sales = np.round(expected * np.exp(sigma[:, None] * noise), 2)
    tickets = np.array([one.ticket for one in types])[:, None] * np.exp(rng.normal(0, 0.05, expected.shape))
    return sales, np.round(sales / tickets).astype(np.int64)
