"""No series is lost: what stands in for an ARIMA, under which name, and with which status."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlmine_spark.arima import chain
from dlmine_spark.arima.fit import fit_series
from dlmine_spark.arima.intermittent import is_intermittent
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
