"""Maximum likelihood for the coefficients of a (seasonal) ARMA process as a least squares problem.

The concentrated Gaussian likelihood of ``n`` values is ``-n/2 log(sum of squares)`` of one-step errors, each divided by
the square root of its variance and multiplied by the geometric mean of all of these (Ansley 1979). So Gauss-Newton
finds its maximum. Exact errors come from statsmodels' innovations algorithm (Brockwell and Davis 1991, section 8.7);
conditional ones take everything before the first value for zero, which costs a thousandth and matters little where the
series is long beside its season.

Coefficients are searched through partial autocorrelations (Monahan 1984), so every step of the search is a stationary
and invertible process.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import numpy as np
from scipy.signal import lfilter
from statsmodels.tsa.innovations.arma_innovations import arma_innovations
from statsmodels.tsa.statespace.tools import constrain_stationary_univariate, unconstrain_stationary_univariate

from dlmine_spark.arima.budget import NEVER, check
from dlmine_spark.arima.orders import Arma
from dlmine_spark.arima.timeline import Floats

LONGEST_EXACT_LAG = 24
"""The innovations algorithm's cost grows with the square of the longest lag."""
STEP = 1e-5
FARTHEST = 12.0
"""Unbounded coordinates end here: a partial autocorrelation of .997."""
SETTLED = 1e-7
"""The search ends where a step lowers the sum of squares by less than this share."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a search found.

    Attributes:
        arma: orders and coefficients.
        sigma2: variance of the innovations, by maximum likelihood.
        minus_twice: minus twice the log-likelihood.
        converged: whether the search settled before its last iteration.
    """

    arma: Arma
    sigma2: float
    minus_twice: float
    converged: bool


def whiten(values: Floats, arma: Arma, lag: int, *, exact: bool) -> Floats:
    """One-step errors whose sum of squares falls as the likelihood rises; regressors may be whitened alike.

    Args:
        values: one row per step, around zero, without holes; may have columns.
        arma: a stationary and invertible process.
        lag: of the seasonal terms.
        exact: see the module.
    """
    ar, ma = arma.polynomials(lag)
    if not exact:
        return np.asarray(lfilter(ar, ma, values, axis=0), dtype=np.float64)
    errors, variances = arma_innovations(np.array(values), -ar[1:], ma[1:], normalize=True)
    return np.asarray(errors * np.exp(0.5 * np.mean(np.log(variances))), dtype=np.float64)


def maximise(
    values: Floats, start: Arma, lag: int, *, exact: bool, iterations: int, deadline: float = NEVER
) -> Estimate:
    """Coefficients of the orders of ``start`` with the greatest likelihood, from its coefficients on.

    Args:
        values: a series around zero without holes.
        start: orders, and where to begin.
        lag: of the seasonal terms.
        exact: exact or conditional likelihood.
        iterations: Gauss-Newton steps at most.
        deadline: on the monotonic clock; looked at before each evaluation of the likelihood.

    Raises:
        TimeIsUp: the deadline has passed.
    """
    n = values.size
    errors = whiten(values, start, lag, exact=exact) if start.parameters else values
    total = float(errors @ errors)
    if not start.parameters or total <= 0:
        return _estimate(start, total, n, converged=True)
    point = _unbounded(start)
    arma, damping, converged = start, 1e-3, False
    for _ in range(iterations):
        slopes = np.empty((n, point.size))
        for column in range(point.size):
            check(deadline)
            moved = point.copy()
            moved[column] += STEP
            slopes[:, column] = (whiten(values, _bounded(start, moved), lag, exact=exact) - errors) / STEP
        gram, gradient = slopes.T @ slopes, slopes.T @ errors
        lower = False
        for _ in range(6):
            check(deadline)
            damped = gram + np.diag(damping * np.diag(gram) + 1e-12 * total)
            there = np.clip(point - np.linalg.solve(damped, gradient), -FARTHEST, FARTHEST)
            tried = _bounded(start, there)
            errors_there = whiten(values, tried, lag, exact=exact)
            total_there = float(errors_there @ errors_there)
            if np.isfinite(total_there) and total_there < total:
                lower = True
                break
            damping *= 10
        if not lower:
            converged = True
            break
        gain = (total - total_there) / total
        point, arma, errors, total, damping = there, tried, errors_there, total_there, damping / 10
        if gain < SETTLED:
            converged = True
            break
    return _estimate(arma, total, n, converged=converged)


def _estimate(arma: Arma, total: float, n: int, *, converged: bool) -> Estimate:
    variance = total / max(1, n)
    return Estimate(arma, variance, n * (log(2 * pi * max(variance, 1e-300)) + 1), converged)


def _unbounded(arma: Arma) -> Floats:
    """Coordinates without bounds of a stationary and invertible process."""
    parts = [
        unconstrain_stationary_univariate(sign * np.array(part)) if part else np.empty(0)
        for part, sign in zip(arma.factors, _SIGNS, strict=True)
    ]
    return np.asarray(np.clip(np.concatenate(parts), -FARTHEST, FARTHEST), dtype=np.float64)


def _bounded(like: Arma, point: Floats) -> Arma:
    """The process of the orders of ``like`` at these coordinates."""
    ends = np.cumsum([len(part) for part in like.factors])[:-1]
    parts = [
        sign * constrain_stationary_univariate(part) if part.size else part
        for part, sign in zip(np.split(point, ends), _SIGNS, strict=True)
    ]
    return like.with_parameters(np.concatenate(parts))


_SIGNS = (1.0, -1.0, 1.0, -1.0)
"""AR and MA polynomials have opposite signs: one constraint serves both."""
