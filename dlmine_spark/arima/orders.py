"""How often to difference, and which ARMA orders to use: tests and searches that cost milliseconds.

Sources: Kwiatkowski, Phillips, Schmidt and Shin (1992), Testing the null hypothesis of stationarity; Hannan and
Rissanen (1982), Recursive estimation of mixed autoregressive-moving average order; Hurvich and Tsai (1989) for AICc.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from math import ceil, log, log10, sqrt

import numpy as np
from scipy.signal import lfilter

from dlmine_spark.arima.budget import NEVER, check
from dlmine_spark.arima.timeline import Floats, Steps

KPSS_5_PERCENT, KPSS_1_PERCENT = 0.463, 0.739
"""Critical values of the level test, from the paper's table 1."""
MOST_DIFFERENCES = 2
STABLE = 1.01
"""Smallest modulus accepted for a root of an AR or MA polynomial."""


@dataclass(frozen=True, slots=True)
class Arma:
    """Orders of a (seasonal) ARMA process with first estimates of its coefficients.

    Attributes:
        ar, ma: coefficients at lags 1, 2, ...
        seasonal_ar, seasonal_ma: coefficients at the season's length; multiplied with the others as in SARIMA.
        aicc: of the regression that gave them; comparable between candidates for the same data only.
    """

    ar: tuple[float, ...] = ()
    ma: tuple[float, ...] = ()
    seasonal_ar: tuple[float, ...] = ()
    seasonal_ma: tuple[float, ...] = ()
    aicc: float = field(default=float("nan"), compare=False)

    @property
    def parameters(self) -> tuple[float, ...]:
        """In the order statsmodels expects: AR, MA, seasonal AR, seasonal MA."""
        return (*self.ar, *self.ma, *self.seasonal_ar, *self.seasonal_ma)

    @property
    def factors(self) -> tuple[tuple[float, ...], ...]:
        """AR, MA, seasonal AR and seasonal MA coefficients."""
        return self.ar, self.ma, self.seasonal_ar, self.seasonal_ma

    def with_parameters(self, values: Floats) -> Arma:
        """The same orders with other coefficients, in the order of ``parameters``."""
        sizes = (len(self.ar), len(self.ma), len(self.seasonal_ar), len(self.seasonal_ma))
        ar, ma, seasonal_ar, seasonal_ma = (
            tuple(float(value) for value in part) for part in np.split(values, np.cumsum(sizes)[:-1])
        )
        return Arma(ar, ma, seasonal_ar, seasonal_ma, self.aicc)

    def polynomials(self, season_length: int) -> tuple[Floats, Floats]:
        """The whole AR and MA polynomials in the lag operator, constant term first."""
        ar = np.convolve(_polynomial(self.ar, 1, -1.0), _polynomial(self.seasonal_ar, season_length, -1.0))
        ma = np.convolve(_polynomial(self.ma, 1, 1.0), _polynomial(self.seasonal_ma, season_length, 1.0))
        return ar, ma

    def is_stable(self) -> bool:
        """Whether the process is stationary and invertible."""
        factors = (
            (self.ar, -1.0),
            (self.ma, 1.0),
            (self.seasonal_ar, -1.0),
            (self.seasonal_ma, 1.0),
        )
        return all(_roots_are_outside(_polynomial(part, 1, sign)) for part, sign in factors)


def _polynomial(coefficients: tuple[float, ...], lag: int, sign: float) -> Floats:
    polynomial = np.zeros(len(coefficients) * lag + 1)
    polynomial[0] = 1.0
    polynomial[lag::lag] = sign * np.asarray(coefficients)
    return polynomial


def _roots_are_outside(polynomial: Floats) -> bool:
    roots = np.roots(polynomial[::-1])
    return bool(np.all(np.abs(roots) > STABLE))


def aicc(minus_twice_likelihood: float, parameters: int, n: int) -> float:
    """Akaike's criterion corrected for few observations (Hurvich and Tsai 1989)."""
    return minus_twice_likelihood + 2 * parameters * (1 + (parameters + 1) / max(1, n - parameters - 1))


def kpss_statistic(values: Floats) -> float:
    """The KPSS statistic for stationarity around a level; large values speak for a unit root.

    Bartlett weights up to lag ``3 sqrt(n) / 13``, as in the forecasting literature's automatic procedures.
    """
    centred = values - values.mean()
    n = centred.size
    lags = int(3 * sqrt(n) / 13)
    long_run = float(centred @ centred)
    for lag in range(1, lags + 1):
        long_run += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag])
    if long_run <= 0:
        return 0.0
    return float(np.sum(np.cumsum(centred) ** 2) / (n * long_run))


def needs_difference(values: Floats, d: int = 0) -> bool:
    """Whether the level of a series (without its season), differenced ``d`` times already, wanders by the KPSS test.

    At the 5 % level; a second difference, which makes forecasts run away where there is no need of it, at that of 1 %.
    """
    critical = KPSS_5_PERCENT if d == 0 else KPSS_1_PERCENT
    return d < MOST_DIFFERENCES and values.size >= 12 and kpss_statistic(values) > critical


def long_autoregression(values: Floats, season_length: int) -> Floats:
    """Coefficients of an autoregression long enough to whiten the series, by least squares with a trace of ridge."""
    n = values.size
    order = min(max(ceil(10 * log10(max(n, 2))), season_length + 3 if season_length <= 24 else 0), n // 4)
    if order < 1:
        return np.empty(0)
    lagged = _lag_matrix(values, np.arange(1, order + 1))[order:]
    gram = lagged.T @ lagged
    gram[np.diag_indices_from(gram)] *= 1 + 1e-6
    gram[np.diag_indices_from(gram)] += 1e-12 * max(float(values @ values), 1e-300)
    return np.asarray(np.linalg.solve(gram, lagged.T @ values[order:]), dtype=np.float64)


def hannan_rissanen(
    values: Floats,
    *,
    season_length: int,
    max_p: int,
    max_q: int,
    seasonal: bool,
    extra_parameters: int = 0,
    deadline: float = NEVER,
) -> list[Arma]:
    """Every ARMA(p, q)(P, Q) up to the largest orders, best AICc first.

    The innovations are estimated by a long autoregression; then all candidates are least squares on lagged values and
    lagged innovations, so each one is a small block of one Gram matrix.

    Args:
        values: a series around zero without holes.
        season_length: lag of the seasonal terms.
        max_p: largest autoregressive order.
        max_q: largest moving-average order.
        seasonal: whether to try one seasonal AR and one seasonal MA term.
        extra_parameters: regressors already estimated, counted by AICc.
        deadline: on the monotonic clock; looked at before each candidate.

    Raises:
        TimeIsUp: the deadline has passed.
    """
    n = values.size
    autoregression = long_autoregression(values, season_length)
    innovations = lfilter(np.concatenate([[1.0], -autoregression]), [1.0], values)
    first = max(autoregression.size, max_p, max_q, season_length if seasonal else 0)
    if n - first < max(10, 3 * (max_p + max_q)) or not np.any(values):
        return [Arma()]
    # The innovations before the long autoregression's order are not innovations yet.
    start = min(first + (max(max_q, season_length) if seasonal else max_q), n - 10)
    ar_lags = np.arange(1, max_p + 1)
    ma_lags = np.arange(1, max_q + 1)
    season = np.array([season_length])
    blocks = np.hstack(
        [
            _lag_matrix(values, ar_lags),
            _lag_matrix(innovations, ma_lags),
            _lag_matrix(values, season if seasonal else season[:0]),
            _lag_matrix(innovations, season if seasonal else season[:0]),
        ]
    )[start:]
    target = values[start:]
    gram, moment, total = blocks.T @ blocks, blocks.T @ target, float(target @ target)
    rows = target.size
    seasonal_orders = (0, 1) if seasonal else (0,)
    candidates = []
    for p, q, seasonal_p, seasonal_q in product(range(max_p + 1), range(max_q + 1), seasonal_orders, seasonal_orders):
        check(deadline)
        columns = [*range(p), *range(max_p, max_p + q)]
        columns += [max_p + max_q] * seasonal_p + [max_p + max_q + 1] * seasonal_q
        parameters = len(columns) + 1 + extra_parameters
        if rows - parameters < 2:
            continue
        try:
            solution = np.linalg.solve(gram[np.ix_(columns, columns)], moment[columns])
        except np.linalg.LinAlgError:
            continue
        residual = max(total - float(solution @ moment[columns]), 1e-12 * total)
        criterion = aicc(rows * log(residual / rows), parameters, rows)
        ar, ma = solution[:p], solution[p : p + q]
        rest = solution[p + q :]
        candidates.append(
            Arma(tuple(ar), tuple(ma), tuple(rest[:seasonal_p]), tuple(rest[seasonal_p:]), aicc=criterion)
        )
    return sorted(candidates, key=lambda candidate: (candidate.aicc, len(candidate.parameters)))


def start_of_orders(values: Floats, p: int, q: int) -> Arma:
    """First estimates for given orders; small coefficients where least squares gives no stable ones."""
    candidates = hannan_rissanen(values, season_length=1, max_p=p, max_q=q, seasonal=False)
    given = [start for start in candidates if (len(start.ar), len(start.ma)) == (p, q) and start.is_stable()]
    small = 0.5 / max(10, p, q)
    return given[0] if given else Arma(ar=(small,) * p, ma=(small,) * q)


def _lag_matrix(values: Floats, lags: Steps) -> Floats:
    """One column per lag; steps before the series are zero."""
    lagged = np.zeros((values.size, lags.size))
    for column, lag in enumerate(lags):
        lagged[lag:, column] = values[: values.size - lag]
    return lagged
