"""One series at a time: recovery, intervals, statuses, and no look into the future."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest
from scipy.special import stdtrit
from statsmodels.api import OLS

from dlmine_spark.arima.fit import RESULT_COLUMNS, fit_series
from dlmine_spark.arima.forecast import forecast
from dlmine_spark.arima.model import ModelProblem, fit_model
from dlmine_spark.arima.paths import Wanted
from dlmine_spark.arima.timeline import ForecastPlan, read_timeline
from dlmine_spark.config import ArimaConfig
from dlmine_spark.frequency import COUNTED, HOURLY, MONTHLY, QUARTERLY, WEEKLY, Frequency, Moment, minutes
from tests.arima.examples import FAR, START, arma, plan, series

CUTOFFS_ONLY = ArimaConfig(feature_origins=0)
WEEK = np.array([0.0, 1.0, 2.0, 1.0, 4.0, 9.0, 5.0])


def last(result: pd.DataFrame) -> pd.Series:
    return result.iloc[-1]


def test_an_ar1_process_is_recovered() -> None:
    y = 50 + arma(800, ar=0.7)
    fit = last(fit_series(series(y, 7), CUTOFFS_ONLY, plan(800, 7)))
    assert fit["status"] == "ok"
    assert fit["d"] == 0
    assert fit["sigma2"] == pytest.approx(1.0, abs=0.15)
    assert fit["path"][0] - 50 == pytest.approx(0.7 * (y[-1] - 50), abs=0.4)
    assert fit["path"][6] == pytest.approx(50, abs=0.8)


def test_fixed_orders_are_kept_and_their_coefficients_estimated() -> None:
    y = 20 + arma(800, ar=0.6, ma=0.4)
    config = ArimaConfig(feature_origins=0, order=(1, 0, 1), season_length=1, transform="none")
    fit = last(fit_series(series(y, 3), config, plan(800, 3)))
    assert (fit["p"], fit["d"], fit["q"]) == (1, 0, 1)
    assert fit["params"]["ar.1"] == pytest.approx(0.6, abs=0.1)
    assert fit["params"]["ma.1"] == pytest.approx(0.4, abs=0.1)


def test_a_random_walk_is_differenced_and_forecast_by_its_last_value() -> None:
    y = 500 + np.cumsum(arma(600))
    fit = last(fit_series(series(y, 5), CUTOFFS_ONLY, plan(600, 5)))
    assert fit["d"] == 1
    assert fit["path"] == pytest.approx([y[-1]] * 5, abs=1.5)


def test_weekdays_and_a_planned_promotion_are_known_ahead() -> None:
    n, horizon = 420, 14
    promo = (np.arange(n + horizon) % 10 < 3).astype(float)
    week = np.tile(WEEK, 63)[: n + horizon]
    truth = 30 + week + 12 * promo
    y = truth[:n] + arma(n, sd=0.5)
    result = fit_series(series(y, horizon, promo=promo), CUTOFFS_ONLY, plan(n, horizon))
    assert last(result)["path"] == pytest.approx(truth[n:], rel=0.03)


def test_constant_and_collinear_covariates_are_left_out_by_name() -> None:
    n, horizon = 200, 7
    promo = (np.arange(n + horizon) % 9 == 0).astype(float)
    rows = series(30 + arma(n), horizon, always=np.ones(n + horizon), promo=promo, promo_again=2 * promo)
    diagnostics = last(fit_series(rows, CUTOFFS_ONLY, plan(n, horizon)))["diagnostics"]
    assert {name for name in diagnostics if name.startswith("dropped")} == {"dropped.always", "dropped.promo_again"}


def test_closed_steps_are_forecast_as_zero_and_do_not_pull_the_others_down() -> None:
    n, horizon = 280, 14
    is_open = (np.arange(n + horizon) % 7 != 6).astype(int)
    y = np.where(is_open[:n] == 1, 40 + np.tile(WEEK, 40) + arma(n, sd=0.3), 0.0)
    rows = series(y, horizon, open=is_open)
    path = np.array(last(fit_series(rows, CUTOFFS_ONLY, plan(n, horizon)))["path"])
    expected = np.where(is_open[n:] == 1, 40 + np.tile(WEEK, 2), 0.0)
    assert path == pytest.approx(expected, abs=1.0)


def test_closures_that_are_not_known_ahead_are_expected_as_a_season_ago() -> None:
    n, horizon = 140, 7
    is_open = np.ones(n + horizon, dtype=int)
    is_open[n - 2] = 0
    is_open[n + 1] = 0
    rows = series(30 + arma(n), horizon, open=is_open)
    path = last(fit_series(rows, CUTOFFS_ONLY, plan(n, horizon, open_is_known=False)))["path"]
    assert [step for step, value in enumerate(path) if value == 0] == [5]


def test_a_monthly_season_is_followed() -> None:
    months = np.tile(np.arange(12.0) * 3, 10)
    y = 100 + months + arma(120, sd=1.0)
    fit = last(fit_series(series(y, 12, frequency=MONTHLY), CUTOFFS_ONLY, plan(120, 12, frequency=MONTHLY)))
    assert fit["path"] == pytest.approx(100 + np.arange(12) * 3, abs=4.0)


@pytest.mark.parametrize("seed", [25, 26, 27])
def test_six_years_of_a_weak_season_are_not_repeated(seed: int) -> None:
    rng = np.random.default_rng(seed)
    level = 100 + np.cumsum(rng.normal(0, 1, 72))
    y = level + 3 * np.sin(np.arange(72) * np.pi / 6) + rng.normal(0, 3, 72)
    fit = last(fit_series(series(y, 12, frequency=MONTHLY), CUTOFFS_ONLY, plan(72, 12, frequency=MONTHLY)))
    assert fit["seasonal_d"] == 0


def test_a_week_of_hours_is_followed_beside_the_day() -> None:
    steps = np.arange(24 * 7 * 5 + 48)
    day = 10 * np.sin(2 * np.pi * steps / 24)
    truth = 100 + day * np.where(steps // 24 % 7 >= 5, 0.2, 1.0)
    n = steps.size - 48
    y = truth[:n] + arma(n, ar=0.5, sd=0.5)
    config = ArimaConfig(feature_origins=0, season_length=24)
    fit = last(fit_series(series(y, 48), config, plan(n, 48)))
    assert any(name.startswith("x.wave.168.") for name in fit["params"])
    assert np.abs(np.array(fit["path"]) - truth[n:]).mean() < 1.5
    day_only = last(fit_series(series(y, 48), config.model_copy(update={"season_lengths": ()}), plan(n, 48)))
    assert np.abs(np.array(day_only["path"]) - truth[n:]).mean() > np.abs(np.array(fit["path"]) - truth[n:]).mean()


@pytest.mark.parametrize(
    ("frequency", "start", "m"),
    [(minutes(30) or HOURLY, datetime(2024, 1, 1), 48), (COUNTED, 1, 52)],
    ids=["half hours", "counted weeks"],
)
def test_a_season_too_long_for_levels_is_waves(frequency: Frequency, start: Moment, m: int) -> None:
    n = 6 * m
    truth = 100 + 10 * np.sin(2 * np.pi * np.arange(n + m) / m)
    rows = of_frequency(frequency, start, n, m).assign(y=np.r_[truth[:n] + arma(n, sd=0.5), np.full(m, np.nan)])
    config = ArimaConfig(feature_origins=0, season_length=m)
    fit = last(fit_series(rows, config, ForecastPlan(frequency, m, (), frequency.shift(start, n - 1))))
    assert fit["params"][f"x.wave.{m}.sin.1"] == pytest.approx(10, abs=0.5)
    assert fit["path"] == pytest.approx(truth[n:], abs=1)


def test_a_slope_that_wanders_is_differenced_twice() -> None:
    slope = 3 + np.cumsum(arma(300, sd=0.1))
    y = 500 + np.cumsum(slope)
    fit = last(fit_series(series(y, 5), ArimaConfig(feature_origins=0, transform="none"), plan(300, 5)))
    assert (fit["status"], fit["d"]) == ("ok", 2)
    assert fit["path"] == pytest.approx(y[-1] + slope[-1] * np.arange(1, 6), abs=1)
    assert "x.(trend)" not in fit["params"]


def test_one_day_without_a_sale_does_not_decide_on_the_scale() -> None:
    y = 1000 + arma(300, ar=0.3, sd=30)
    y[50] = 0
    assert last(fit_series(series(y, 7), CUTOFFS_ONLY, plan(300, 7)))["diagnostics"]["power"] == 1


def test_numbers_that_are_not_known_ahead_are_told() -> None:
    n, horizon = 120, 7
    price = 10 + (np.arange(n + horizon) % 4).astype(float)
    rows = series(50 - 2 * price[:n] + arma(n, sd=0.3), horizon, price=price, promo=price % 2, kind=["x"] * (n + 7))
    rows.loc[n + 2 : n + 3, "price"] = np.nan
    fit = last(fit_series(rows, CUTOFFS_ONLY, plan(n, horizon)))
    told = {name: value for name, value in fit["diagnostics"].items() if name.startswith("blank")}
    assert (fit["status"], told) == ("ok", {"blank.price": 2.0})
    assert fit["path"][2] == pytest.approx(50 - 2 * np.median(price[:n]), abs=1)


def test_no_more_regressors_than_the_history_carries() -> None:
    rng = np.random.default_rng(0)
    columns = {f"x{number}": rng.normal(size=507) for number in range(20)}
    rows = series(30 + arma(500), 7, **columns)
    fit = last(fit_series(rows, ArimaConfig(feature_origins=0, max_history=60), plan(500, 7)))
    assert len([name for name in fit["params"] if name.startswith("x.")]) <= 60 // 4
    assert fit["sigma2"] == pytest.approx(1, abs=0.5)


def test_intervals_hold_what_is_not_known_of_coefficients() -> None:
    n = 60
    x = np.r_[np.arange(n) % 3, 10.0, 0.0].astype(float)
    rows = series(20 + 2 * x[:n] + arma(n), 2, x=x)
    config = ArimaConfig(feature_origins=0, order=(0, 0, 0), transform="none", season_length=1)
    timeline = read_timeline(rows, plan(n, 2))
    fit = fit_model(timeline, n - 1, config, 1, FAR)
    lower, upper = forecast(fit, timeline, Wanted([n - 1], 2)).bounds[95.0]

    ols = OLS(rows["y"][:n].to_numpy(), np.column_stack([np.ones(n), x[:n]])).fit()
    uncertain = np.array([ols.cov_params()[0, 0] + 20 * ols.cov_params()[0, 1] + 100 * ols.cov_params()[1, 1]])
    far, near = (upper - lower)[0]
    t = stdtrit(fit.diagnostics["sigma2_degrees"], 0.975)
    assert far == pytest.approx(2 * t * np.sqrt(fit.sigma2 + uncertain[0]), rel=0.01)
    assert near == pytest.approx(2 * t * np.sqrt(fit.sigma2 + ols.cov_params()[0, 0]), rel=0.01)


def test_no_sales_below_zero_are_forecast() -> None:
    y = np.maximum(1 + arma(200, ar=0.5), 0)
    for transform in ("none", "log1p"):
        config = ArimaConfig(feature_origins=0, transform=transform)
        fit = last(fit_series(series(y, 7), config, plan(200, 7)))
        assert fit["lo_95"] == [0.0] * 7
    below = last(fit_series(series(y - 1, 7), CUTOFFS_ONLY, plan(200, 7)))
    assert max(below["lo_95"]) < 0


def test_the_memory_of_a_series_waits_while_it_is_closed() -> None:
    y = 50 + arma(200, ar=0.9)
    config = ArimaConfig(feature_origins=0, order=(1, 0, 0), transform="none", season_length=1)
    rows = series(y, 4)
    always = last(fit_series(rows, config, plan(200, 4)))["path"]
    rows.loc[200:201, "open"] = 0
    assert last(fit_series(rows, config, plan(200, 4)))["path"] == pytest.approx([0, 0, *always[:2]])


def test_a_tiny_series_does_not_run_away() -> None:
    rows = series(1e-6 * (5 + arma(60)), 3)
    timeline = read_timeline(rows, plan(60, 3))
    fit = fit_model(timeline, 59, ArimaConfig(), 1, FAR)
    with pytest.raises(ModelProblem, match=r"a forecast of .* where no value exceeds"):
        forecast(replace(fit, coefficients=fit.coefficients + 1.0), timeline, Wanted([59], 3))


def test_a_steady_trend_goes_on_and_a_random_walk_has_none() -> None:
    trended = last(fit_series(series(0.5 * np.arange(200) + arma(200, ar=0.5), 20), CUTOFFS_ONLY, plan(200, 20)))
    assert trended["params"]["x.(trend)"] == pytest.approx(0.5, abs=0.1)
    assert trended["path"][-1] == pytest.approx(0.5 * 219, abs=5)
    walk = last(fit_series(series(500 + np.cumsum(arma(200)), 5), CUTOFFS_ONLY, plan(200, 5)))
    assert "x.(trend)" not in walk["params"]


def test_idle_seasons_are_left_out() -> None:
    fit = last(fit_series(series(50 + arma(400, ar=0.5), 7), CUTOFFS_ONLY, plan(400, 7)))
    assert not [name for name in fit["params"] if name.startswith("x.season.")]


def test_intervals_are_as_wide_as_the_last_errors() -> None:
    y = 50 + arma(400, seed=5) * np.where(np.arange(400) < 340, 1.0, 4.0)
    fit = last(fit_series(series(y, 7), ArimaConfig(feature_origins=0, transform="none"), plan(400, 7)))
    assert fit["sigma2"] == pytest.approx(16, rel=0.5)


def test_intervals_hold_their_share_of_the_future() -> None:
    inside_80, inside_95, forecasts = 0, 0, 0
    for seed in range(20):
        y = 50 + arma(230, ar=0.5, seed=seed)
        fit = last(fit_series(series(y[:220], 10), CUTOFFS_ONLY, plan(220, 10)))
        future = y[220:]
        inside_80 += int(((future >= fit["lo_80"]) & (future <= fit["hi_80"])).sum())
        inside_95 += int(((future >= fit["lo_95"]) & (future <= fit["hi_95"])).sum())
        forecasts += 10
    assert 0.70 <= inside_80 / forecasts <= 0.90
    assert 0.89 <= inside_95 / forecasts <= 0.995


@pytest.mark.parametrize(
    ("y", "status", "path"),
    [
        (np.full(60, 7.0), "ok", [7.0] * 3),
        (np.zeros(60), "ok", [0.0] * 3),
        (np.concatenate([np.full(55, np.nan), np.arange(5.0)]), "too_short", None),
        (np.concatenate([np.full(59, np.nan), [4.0]]), "too_short", [4.0] * 3),
        (np.full(60, np.nan), "failed", None),
    ],
    ids=["constant", "zeros", "five values", "one value", "no value"],
)
def test_a_poor_series_keeps_its_row(y: np.ndarray, status: str, path: list[float] | None) -> None:
    result = fit_series(series(y, 3), CUTOFFS_ONLY, plan(60, 3))
    assert list(result.columns) == list(RESULT_COLUMNS)
    assert last(result)["status"] == status
    assert (last(result)["error"] is None) == (status == "ok")
    if path is not None:
        assert last(result)["path"] == pytest.approx(path)
    if status == "failed":
        assert last(result)["path"] is None
    else:
        assert np.isfinite(last(result)["lo_95"]).all()
        assert np.isfinite(last(result)["hi_95"]).all()


def test_infinite_and_imputed_values_count_as_unknown() -> None:
    y = 30 + arma(120)
    y[50] = np.inf
    y[60] = 1e6
    imputed = np.zeros(127, dtype=bool)
    imputed[60] = True
    fit = last(fit_series(series(y, 7, y_imputed=imputed), CUTOFFS_ONLY, plan(120, 7)))
    assert fit["status"] == "ok"
    assert fit["path"] == pytest.approx([30] * 7, abs=3)


@pytest.mark.parametrize("damage", ["twice", "hole"])
def test_rows_that_are_no_series_fail_with_a_reason(damage: str) -> None:
    rows = series(30 + arma(60), 3)
    rows = pd.concat([rows, rows.iloc[[5]]]) if damage == "twice" else rows.drop(index=5)
    fit = last(fit_series(rows, CUTOFFS_ONLY, plan(60, 3)))
    assert fit["status"] == "failed"
    assert ("more than once" if damage == "twice" else "every step") in fit["error"]


def test_a_slow_series_falls_back_under_another_name() -> None:
    config = ArimaConfig(feature_origins=0, timeout=1e-9)
    fit = last(fit_series(series(30 + arma(60), 3), config, plan(60, 3)))
    assert (fit["status"], fit["model"]) == ("timeout", "arima_naive")
    assert len(fit["path"]) == 3


def test_the_future_changes_no_earlier_forecast() -> None:
    n, horizon, cutoff = 200, 7, 170
    y = 30 + np.tile(WEEK, 40)[:n] + arma(n, ar=0.5)
    noise = y.copy()
    noise[cutoff:] = 1000 * np.random.default_rng(0).random(n - cutoff)
    config = ArimaConfig(feature_origins=8)
    asked = plan(n, horizon, cutoff)
    columns = ["origin", "fit_cutoff", "path", "lo_95", "hi_80", "sigma", "aicc", "params"]
    before, after = (
        result.loc[[origin <= asked.backtest[0] for origin in result["origin"]], columns]
        for result in (fit_series(series(values, horizon), config, asked) for values in (y, noise))
    )
    pd.testing.assert_frame_equal(before, after)


def test_origins_use_the_newest_fit_and_hold_every_cutoff() -> None:
    n, cutoffs = 200, (160, 180)
    config = ArimaConfig(feature_origins=4, feature_step=10)
    result = fit_series(series(30 + arma(n), 5), config, plan(n, 5, *cutoffs))
    steps = [(row.origin - START).days + 1 for row in result.itertuples()]
    fits = [(row.fit_cutoff - START).days + 1 for row in result.itertuples()]
    assert steps == [120, 130, 140, 150, 160, 170, 180, 190, 200]
    assert fits == [120, 120, 120, 120, 160, 160, 180, 180, 200]
    assert result["path"].map(len).eq(5).all()


def of_frequency(frequency: Frequency, start: Moment, n: int, horizon: int) -> pd.DataFrame:
    """Rows of a series that starts then."""
    return series(30 + arma(n), horizon).assign(ds=[frequency.shift(start, step) for step in range(n + horizon)])


@pytest.mark.parametrize(
    ("frequency", "start"),
    [(HOURLY, datetime(2024, 3, 30, 5)), (QUARTERLY, date(2000, 2, 29)), (COUNTED, 17)],
    ids=["hours", "ends of quarters", "counted"],
)
def test_forecasts_stand_at_moments_of_the_series_own_kind(frequency: Frequency, start: Moment) -> None:
    n, horizon = 60, 4
    asked = ForecastPlan(frequency, horizon, (frequency.shift(start, n - 11),), frequency.shift(start, n - 1))
    result = fit_series(of_frequency(frequency, start, n, horizon), CUTOFFS_ONLY, asked)

    assert result["status"].tolist() == ["ok", "ok"]
    assert result["ahead"].tolist() == [
        [frequency.shift(start, known + step) for step in range(horizon)] for known in (n - 10, n)
    ]


def test_a_cutoff_between_the_rows_of_a_series_means_the_last_row_before_it() -> None:
    n, horizon, wednesday = 60, 4, date(2022, 1, 5)
    mondays = [WEEKLY.shift(date(2022, 1, 3), step) for step in (n - 10, n)]
    rows = of_frequency(WEEKLY, wednesday, n, horizon)
    between = fit_series(rows, CUTOFFS_ONLY, ForecastPlan(WEEKLY, horizon, (mondays[0],), mondays[1]))
    own = [WEEKLY.shift(wednesday, step) for step in (n - 11, n - 1)]
    on_rows = fit_series(rows, CUTOFFS_ONLY, ForecastPlan(WEEKLY, horizon, (own[0],), own[1]))

    assert between["origin"].tolist() == mondays
    assert between["own_origin"].tolist() == between["own_fit_cutoff"].tolist() == own
    told = ["ahead", "path", "lo_95", "params"]
    pd.testing.assert_frame_equal(between[told], on_rows[told])
