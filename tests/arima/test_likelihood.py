"""Estimation held against statsmodels' state space model, and what is said of the innovations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import toeplitz
from scipy.signal import lfilter
from statsmodels.api import GLS
from statsmodels.stats.diagnostic import acorr_ljungbox, het_arch
from statsmodels.stats.stattools import jarque_bera
from statsmodels.tsa.statespace.sarimax import SARIMAX

from dlmine_spark.arima.diagnostics import diagnose
from dlmine_spark.arima.likelihood import maximise, whiten
from dlmine_spark.arima.model import generalised
from dlmine_spark.arima.moves import Moves
from dlmine_spark.arima.orders import Arma, aicc, hannan_rissanen, start_of_orders
from dlmine_spark.arima.scales import from_scale, log_jacobian, slope_of_scale, to_scale

TRUE = Arma((0.5,), (0.4,), (0.3,), (-0.6,))
START = Arma((0.3,), (0.3,), (0.3,), (-0.3,))


def sample(n: int, lag: int) -> np.ndarray:
    ar, ma = TRUE.polynomials(lag)
    return lfilter(ma, ar, np.random.default_rng(0).normal(size=n + 300))[300:]


def state_space(values: np.ndarray, lag: int) -> SARIMAX:
    return SARIMAX(values, order=(1, 0, 1), seasonal_order=(1, 0, 1, lag), concentrate_scale=True)


@pytest.mark.parametrize(("n", "lag"), [(120, 12), (300, 7)])
def test_the_exact_likelihood_and_its_maximum_are_those_of_statsmodels(n: int, lag: int) -> None:
    values = sample(n, lag)
    found = maximise(values, START, lag, exact=True, iterations=30)
    model = state_space(values, lag)
    assert found.converged
    assert found.minus_twice == pytest.approx(-2 * model.loglike(np.array(found.arma.parameters)), rel=1e-8)
    best = model.fit(start_params=found.arma.parameters, disp=0)
    assert found.minus_twice <= -2 * best.llf + 0.01
    assert found.arma.parameters == pytest.approx(best.params, abs=0.02)


def test_the_conditional_likelihood_is_near_on_a_long_series() -> None:
    values = sample(900, 7)
    exact, conditional = (maximise(values, START, 7, exact=exact, iterations=30) for exact in (True, False))
    assert conditional.arma.parameters == pytest.approx(exact.arma.parameters, abs=0.02)


def test_every_step_of_the_search_is_stationary_even_for_a_random_walk() -> None:
    found = maximise(np.cumsum(sample(200, 7)), Arma((0.5, 0.1)), 1, exact=False, iterations=30)
    assert found.arma.is_stable() or max(np.abs(1 / np.roots(found.arma.polynomials(1)[0]))) > 1


@pytest.mark.parametrize(("d", "seasonal_d"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_forecasts_and_their_variances_are_those_of_statsmodels(d: int, seasonal_d: int) -> None:
    values = sample(300, 7)
    for _ in range(d):
        values = np.cumsum(values)
    for _ in range(seasonal_d):
        values = lfilter([1.0], [1.0, *[0.0] * 6, -1.0], values)
    moves = Moves(TRUE, d, seasonal_d, 7)
    paths = moves.carry(values[:, None], np.array([299]), 15)[0, :, 0]
    model = SARIMAX(values, order=(1, d, 1), seasonal_order=(1, seasonal_d, 1, 7))
    expected = model.filter([*TRUE.parameters, 1.0]).get_forecast(15)
    assert paths == pytest.approx(expected.predicted_mean, abs=0.05)
    assert moves.variance(1.0, 15) == pytest.approx(expected.var_pred_mean, rel=0.01)


def test_regression_with_arma_errors_is_generalised_least_squares() -> None:
    n, ar = 80, 0.8
    x = np.column_stack([np.ones(n), np.arange(n) % 5 == 0]).astype(float)
    errors = lfilter([1.0], [1.0, -ar], np.random.default_rng(0).normal(size=n + 100))[100:]
    w = x @ [5.0, 3.0] + errors
    coefficients, covariance = generalised(w, x, Arma((ar,)), 1, exact=True)
    expected = GLS(w, x, sigma=toeplitz(ar ** np.arange(n))).fit()
    assert coefficients == pytest.approx(expected.params)
    assert covariance == pytest.approx(expected.cov_params(), rel=1e-6)


def test_the_criterion_is_corrected_for_few_observations() -> None:
    # Hurvich and Tsai (1989): -2 log L + 2k + 2k(k + 1) / (n - k - 1).
    assert aicc(10.0, 3, 20) == pytest.approx(10 + 6 + 2 * 3 * 4 / 16)


@pytest.mark.parametrize(("ar", "ma"), [((), (0.6,)), ((0.7,), ()), ((0.7,), (0.4,))], ids=str)
def test_first_estimates_are_near_the_process(ar: tuple[float, ...], ma: tuple[float, ...]) -> None:
    values = lfilter(*reversed(Arma(ar, ma).polynomials(1)), np.random.default_rng(0).normal(size=2000))
    found = start_of_orders(values, len(ar), len(ma))
    assert found.parameters == pytest.approx((*ar, *ma), abs=0.08)
    best = hannan_rissanen(values, season_length=1, max_p=2, max_q=2, seasonal=False)[0]
    assert len(best.parameters) >= len(found.parameters)
    assert best.is_stable()


def test_diagnostics_are_those_of_statsmodels() -> None:
    innovations = whiten(sample(400, 7), TRUE, 7, exact=False)
    figures = diagnose(innovations, Arma((0.5,)), 1)
    ljung_box = acorr_ljungbox(innovations, lags=[10], model_df=1)["lb_pvalue"].iloc[0]
    assert figures["ljung_box_p"] == pytest.approx(ljung_box)
    assert figures["arch_p"] == pytest.approx(het_arch(innovations, nlags=10, result_object=False)[1])
    assert figures["jarque_bera_p"] == pytest.approx(jarque_bera(innovations)[1])
    assert (figures["ar_root"], figures["ma_root"]) == (pytest.approx(0.5), 0.0)


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_scales_are_inverted_and_their_slopes_right(power: float) -> None:
    y = np.array([1.0, 4.0, 900.0])
    z = to_scale(y, power)
    assert from_scale(z, power) == pytest.approx(y)
    step = 1e-6
    slope = (from_scale(z + step, power) - from_scale(z - step, power)) / (2 * step)
    assert slope_of_scale(y, power) == pytest.approx(slope, rel=1e-5)
    assert log_jacobian(y, power) == pytest.approx(-np.log(slope).sum(), abs=1e-5)
