"""One series, its features computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dlmine_spark.segmentation.features import MONTH_LEVELS, STORES, WEEKDAY_SHARES
from dlmine_spark.segmentation.shape import describe_series

MONDAY = 19_723  # 2024-01-01, in days since 1970


def describe(
    y: np.ndarray, *, first: int = MONDAY, step: int = 1, closed: np.ndarray | None = None, **options: np.ndarray
) -> dict[str, float]:
    days = first + step * np.arange(len(y))
    is_open = np.ones(len(y), dtype=bool) if closed is None else ~closed
    return describe_series(days, y.astype(float), is_open, options.get("promoted"))


def days_of_the_week(weeks: int) -> np.ndarray:
    return np.arange(7 * weeks) % 7


def test_a_week_with_a_strong_saturday_and_closed_sundays() -> None:
    weekday = days_of_the_week(4)
    y = np.where(weekday == 5, 300.0, 100.0)
    y[weekday == 6] = 999.0
    features = describe(y, closed=weekday == 6)
    assert [features[name] for name in WEEKDAY_SHARES] == pytest.approx([1 / 8] * 5 + [3 / 8, 0.0])
    assert features["average level"] == pytest.approx(800 / 6)
    assert features["closed share"] == pytest.approx(1 / 7)
    assert features["volatility"] == pytest.approx(0.0, abs=1e-9)
    assert features["share of zeros"] == 0.0


def test_a_promotion_that_is_always_on_saturday_is_not_mistaken_for_the_saturday() -> None:
    weekday, week = days_of_the_week(8), np.arange(56) // 7
    promoted = (weekday == 5) & (week % 2 == 0)
    y = np.where(weekday == 5, 200.0, 100.0) * np.where(promoted, 1.5, 1.0)
    features = describe(y, promoted=promoted)
    assert features["Saturday share"] == pytest.approx(2 / 8)
    # The uplift is told at the level of a usual day, on a scale that is not quite logarithmic.
    assert features["promotion uplift"] == pytest.approx(0.5, abs=0.02)


def test_december_is_twice_a_usual_month() -> None:
    days = MONDAY - 365 + np.arange(731)
    month = days.astype("datetime64[D]").astype("datetime64[M]").astype(int) % 12
    features = describe(np.where(month == 11, 200.0, 100.0), first=MONDAY - 365)
    assert [features[name] for name in MONTH_LEVELS] == pytest.approx([100 / (1300 / 12)] * 11 + [200 / (1300 / 12)])
    assert features["growth per year"] == pytest.approx(0.0, abs=1e-9)


def test_growth_is_told_from_the_time_of_year() -> None:
    days = np.arange(731)
    month = (MONDAY - 365 + days).astype("datetime64[D]").astype("datetime64[M]").astype(int) % 12
    y = 100 * np.exp(0.1 * days / 365.25) * np.where(month >= 6, 1.3, 1.0)
    assert describe(y, first=MONDAY - 365)["growth per year"] == pytest.approx(np.exp(0.1) - 1, abs=0.005)


def test_a_wild_week_decides_nothing() -> None:
    rng = np.random.default_rng(1)
    weekday = days_of_the_week(40)
    calm = np.where(weekday == 5, 200.0, 100.0) * np.exp(rng.normal(0, 0.05, 280))
    wild = calm.copy()
    wild[70:77] *= 20
    usual, disturbed = describe(calm), describe(wild)
    assert disturbed["Saturday share"] == pytest.approx(usual["Saturday share"], abs=0.01)
    assert disturbed["volatility"] == pytest.approx(usual["volatility"], rel=0.1)
    assert usual["volatility"] == pytest.approx(0.05, rel=0.1)


def test_the_unit_of_y_matters_for_the_level_only() -> None:
    rng = np.random.default_rng(2)
    y = np.where(days_of_the_week(6) >= 5, 30.0, 10.0) * np.exp(rng.normal(0, 0.1, 42))
    in_pounds, in_millions = describe(y), describe(y / 1e6)
    assert in_millions.pop("average level") == pytest.approx(in_pounds.pop("average level") / 1e6)
    assert in_millions == pytest.approx(in_pounds, nan_ok=True)


@pytest.mark.parametrize("step", [7, 30])
def test_weekly_and_monthly_series_have_no_weekdays(step: int) -> None:
    features = describe(np.full(40, 5.0), step=step)
    assert np.isnan([features[name] for name in WEEKDAY_SHARES]).all()
    assert (features["average level"], features["volatility"]) == (5.0, pytest.approx(0.0, abs=1e-9))


def test_what_a_short_series_cannot_tell_is_missing() -> None:
    features = describe(np.array([3.0, 4.0, 5.0]))
    assert {name for name, value in features.items() if np.isfinite(value)} == {
        "average level",
        "closed share",
        "share of zeros",
    }


def test_a_series_of_mostly_zeros_has_no_typical_week() -> None:
    y = np.zeros(70)
    y[::5] = 40.0
    features = describe(y)
    known = {name: value for name, value in features.items() if np.isfinite(value)}
    assert known == {"average level": 8.0, "closed share": 0.0, "share of zeros": 0.8}


def test_nothing_shrinks_by_more_than_all_of_it() -> None:
    y = np.maximum(100.0 - np.arange(200), 0.0) + 0.01
    assert describe(y)["growth per year"] == -1.0


@pytest.mark.parametrize(
    ("y", "level", "zeros"),
    [
        (np.full(30, 7.0), 7.0, 0.0),
        (np.zeros(30), 0.0, 1.0),
        (np.where(np.arange(30) % 2 == 0, -5.0, 5.0), 0.0, 0.0),
        (np.array([2.0]), 2.0, 0.0),
    ],
    ids=["constant", "only zeros", "negative values", "one date"],
)
def test_odd_series_are_described_without_infinities(y: np.ndarray, level: float, zeros: float) -> None:
    features = describe(y)
    assert (features["average level"], features["share of zeros"]) == (level, zeros)
    assert not np.isinf(list(features.values())).any()


def test_a_series_without_values_has_its_closures_only() -> None:
    closed = np.arange(10) < 5
    features = describe(np.full(10, np.nan), closed=closed)
    assert features.pop("closed share") == 0.5
    assert np.isnan(list(features.values())).all()


def test_the_order_of_the_rows_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    y = rng.gamma(3.0, 20.0, 60)
    days, shuffled = MONDAY + np.arange(60), rng.permutation(60)
    is_open, promoted = rng.random(60) < 0.9, rng.random(60) < 0.2
    one = describe_series(days, y, is_open, promoted)
    other = describe_series(days[shuffled], y[shuffled], is_open[shuffled], promoted[shuffled])
    assert list(one) == list(STORES.names)
    assert np.array_equal(list(one.values()), list(other.values()), equal_nan=True)
