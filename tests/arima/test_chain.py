"""No series is lost: what stands in for an ARIMA, under which name, and with which status."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dlmine_spark.arima import budget, chain
from dlmine_spark.arima.fit import fit_series
from dlmine_spark.arima.intermittent import is_intermittent
from dlmine_spark.arima.paths import Wanted
from dlmine_spark.arima.smoothing import Smoothing
from dlmine_spark.arima.timeline import read_timeline
from dlmine_spark.config import ArimaConfig
from tests.arima.examples import arma, plan, series

CUTOFFS_ONLY = ArimaConfig(feature_origins=0)


def last(y: np.ndarray, horizon: int = 7, **config: object) -> pd.Series:
    """The row of one series at its last cutoff."""
    asked = ArimaConfig.model_validate({"feature_origins": 0, **config})
    return fit_series(series(y, horizon), asked, plan(len(y), horizon)).iloc[-1]


def break_models(monkeypatch: pytest.MonkeyPatch, *, beyond: int) -> None:
    """The first models of the chain raise."""

    def broken(_: chain.Asked) -> chain.Forecaster:
        raise FloatingPointError("overflow")

    monkeypatch.setattr(chain, "WHOLE_CHAIN", (*[broken] * beyond, *chain.WHOLE_CHAIN[beyond:]))


@pytest.mark.parametrize(
    ("beyond", "name"), [(1, "arima_simple"), (2, "arima_smoothing"), (3, "arima_naive")], ids=lambda value: str(value)
)
def test_the_next_model_of_the_chain_stands_in_under_its_own_name(
    monkeypatch: pytest.MonkeyPatch, beyond: int, name: str
) -> None:
    break_models(monkeypatch, beyond=beyond)
    row = last(50 + arma(120, ar=0.5))
    assert (row["status"], row["model"]) == ("fallback", name)
    assert row["error"] == "FloatingPointError: overflow"
    assert row["path"] == pytest.approx([50] * 7, abs=6)
    assert (np.array(row["lo_95"]) <= row["lo_80"]).all()
    assert (np.array(row["hi_80"]) <= row["hi_95"]).all()
    assert np.isfinite(row["sigma"])


def test_a_series_that_no_model_forecasts_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    break_models(monkeypatch, beyond=4)
    row = last(50 + arma(120, ar=0.5))
    assert (row["status"], row["model"], row["path"]) == ("failed", None, None)
    assert row["error"] == "FloatingPointError: overflow"


def test_an_error_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: chain.Asked) -> chain.Forecaster:
        raise ValueError("one\n  two")

    monkeypatch.setattr(chain, "WHOLE_CHAIN", (broken, *chain.WHOLE_CHAIN[1:]))
    assert last(50 + arma(120))["error"] == "ValueError: one two"


def test_time_is_looked_at_within_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def a_second_a_look() -> float:
        looks.append(time.monotonic())
        return looks[0] + len(looks)

    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=a_second_a_look))
    row = last(50 + arma(120, ar=0.5), timeout=30)
    assert (row["status"], row["model"]) == ("timeout", "arima_naive")
    assert row["error"] == "more than arima.timeout of 30 s"
    assert len(looks) == 30


def test_values_older_than_the_history_do_not_count() -> None:
    row = last(np.r_[30 + arma(100), np.full(60, np.nan), 31.0], max_history=50)
    assert (row["status"], row["model"]) == ("too_short", "arima_naive")
    assert row["error"] == "1 known values in the last 50 steps up to the cutoff, arima.min_history is 16"
    assert np.isfinite(row["path"]).all()


def test_an_order_that_is_too_much_for_the_values_says_so() -> None:
    row = last(30 + arma(40), order=(20, 2, 20))
    assert (row["status"], row["model"]) == ("fallback", "arima_simple")
    assert row["error"].startswith("ValueError: arima.order [20, 2, 20] and ")
    assert last(30 + arma(100), order=(24, 0, 24))["model"] == "arima"


def test_a_product_that_was_not_there_yet_is_fitted_from_its_first_sale_on() -> None:
    week = np.array([0.0, 10, 20, 10, 40, 90, 50])
    y = np.r_[np.zeros(350), 100 + np.tile(week, 30) + arma(210, sd=3.0)]
    row = last(y)
    assert (row["status"], row["model"]) == ("ok", "arima")
    assert row["path"] == pytest.approx(100 + week, abs=8)
    assert row["diagnostics"]["observations"] + row["d"] == 210


@pytest.mark.parametrize(
    ("y", "first"),
    [
        (np.tile([0.0, 0, 0, 0, 7], 30), 0),
        (np.r_[0.0, 0, 0, np.tile([0.0, 7], 30)], 4),
        (np.r_[np.zeros(30), 5.0, np.zeros(9)], 0),
        (np.r_[np.zeros(30), -5.0, np.ones(30)], 0),
        (np.zeros(50), 0),
    ],
    ids=["as many later", "fewer later", "too few values would remain", "negative", "nothing but zeros"],
)
def test_zeros_at_the_beginning_that_are_a_pattern_stay(y: np.ndarray, first: int) -> None:
    timeline = read_timeline(series(y, 3), plan(len(y), 3))
    assert timeline.steps_used(len(y) - 1, CUTOFFS_ONLY)[0] == first


def test_a_short_series_is_smoothed() -> None:
    row = last(np.array([4.0, 6.0, 5.0, 5.0, 6.0, 4.0, 5.0]))
    assert (row["status"], row["model"]) == ("too_short", "arima_smoothing")
    assert row["path"] == pytest.approx([5] * 7, abs=1)
    assert row["params"].keys() == {"level_rate"}


def test_smoothing_keeps_the_season_and_closed_days(monkeypatch: pytest.MonkeyPatch) -> None:
    break_models(monkeypatch, beyond=2)
    week = np.array([10.0, 20, 30, 40, 50, 60, 70])
    row = last(np.tile(week, 10) + arma(70, sd=0.5), horizon=14)
    assert row["path"] == pytest.approx(np.tile(week, 2), abs=3)


def test_a_closed_day_does_not_move_the_season_of_smoothing(monkeypatch: pytest.MonkeyPatch) -> None:
    break_models(monkeypatch, beyond=2)
    week = np.array([10.0, 20, 30, 40, 50, 60, 70])
    rows = series(np.tile(week, 10) + arma(70, sd=0.5), 14)
    rows.loc[72, "open"] = 0
    path = fit_series(rows, CUTOFFS_ONLY, plan(70, 14)).iloc[-1]["path"]
    assert path == pytest.approx(np.where(np.arange(14) == 2, 0, np.tile(week, 2)), abs=3)


def test_intervals_of_smoothing_grow_with_its_rate() -> None:
    made = Smoothing(level_rate=0.5, season_rate=None, sigma2=4.0, degrees=10**6, season_length=1, start=0)
    timeline = read_timeline(series(50 + arma(30), 4), plan(30, 4))
    lower, upper = made.paths(timeline, Wanted([29], 4)).bounds[95.0]
    # Hyndman et al. (2008), table 6.1: sigma^2 (1 + (h - 1) alpha^2).
    assert (upper - lower)[0] == pytest.approx(2 * 1.96 * 2 * np.sqrt(1 + 0.25 * np.arange(4)), rel=1e-3)


def rare(n: int = 300, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.25, rng.integers(1, 9, n), 0).astype(float)


def test_rare_demand_goes_to_a_model_of_its_own() -> None:
    row = last(rare())
    assert (row["status"], row["model"], row["error"]) == ("ok", "arima_intermittent", None)
    assert row["path"] == pytest.approx([0.25 * 4.5] * 7, abs=0.5)
    assert row["lo_80"] == [0.0] * 7
    assert 1 <= row["hi_80"][0] <= row["hi_95"][0] <= 8
    assert row["diagnostics"]["mean_interval"] == pytest.approx(4, abs=0.7)


def test_intervals_of_rare_demand_hold_their_share() -> None:
    inside = []
    for seed in range(30):
        values = rare(330, seed)
        row = last(values[:300], horizon=30)
        inside.append(((values[300:] >= row["lo_95"]) & (values[300:] <= row["hi_95"])).mean())
    assert np.mean(inside) >= 0.93


def test_demand_that_fades_is_expected_less() -> None:
    faded = np.concatenate([rare(200), np.zeros(100)])
    assert last(faded)["path"][0] < 0.3 * last(rare(300))["path"][0]


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (rare(), True),
        (np.r_[np.tile([5.0, 6, 0, 0, 0, 0, 0], 20), [5.0, 0, 0, 3, 0, 0, 0]], False),
        (np.zeros(60), False),
        (rare() - 1, False),
        (20 + arma(100), False),
    ],
    ids=["rare", "weekends only", "nothing", "negative", "every day"],
)
def test_only_irregular_rare_demand_is_intermittent(y: np.ndarray, expected: bool) -> None:
    assert is_intermittent(y, 7) is expected


@pytest.mark.parametrize(
    "y",
    [
        1e15 * (2 + arma(80, ar=0.5) / 10),
        1e-12 * (2 + arma(80) / 10),
        np.r_[np.full(79, 1e-300), 1e300],
        np.r_[np.zeros(79), 5.0],
        -(10.0 ** np.arange(80)),
        np.where(np.arange(80) % 3 == 0, np.inf, 5.0 + arma(80)),
        np.r_[30 + arma(40), np.full(30, np.nan), 30 + arma(40, seed=2)],
    ],
    ids=["huge", "tiny", "jump", "one sale", "explosion", "infinite", "gap"],
)
def test_strange_numbers_end_in_finite_forecasts_with_a_status(y: np.ndarray) -> None:
    row = last(y)
    assert row["status"] in ("ok", "fallback")
    assert np.isfinite(row["path"]).all()
    assert (np.array(row["lo_95"]) <= row["hi_95"]).all()
    assert (row["error"] is None) == (row["status"] == "ok")


def test_statuses_add_up_with_broken_series_among_good_ones() -> None:
    counts: dict[str, int] = {}
    for seed in range(20):
        y = 30 + arma(60, seed=seed)
        rows = series(y, 3)
        if seed == 7:
            rows = pd.concat([rows, rows.iloc[[5]]])
        if seed == 8:
            rows["y"] = np.nan
        if seed == 9:
            rows = rows.iloc[55:]
        status = fit_series(rows, CUTOFFS_ONLY, plan(60, 3)).iloc[-1]["status"]
        counts[status] = counts.get(status, 0) + 1
    assert counts == {"ok": 17, "failed": 2, "too_short": 1}
