"""What the innovations of a fit look like, as named figures."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from dlmine_spark.arima.orders import Arma
from dlmine_spark.arima.timeline import Floats

FEWEST = 12
"""Innovations below which the tests say nothing."""
LONGEST_TESTED_SEASON = 24


def diagnose(innovations: Floats, arma: Arma, lag: int) -> dict[str, float]:
    """Tests of the innovations (p values: small ones speak against the model) and how near to a unit root it is.

    ``ljung_box_p``: structure is left (Ljung and Box 1978). ``arch_p``: the variance has a memory (Engle 1982).
    ``jarque_bera_p``: not normal (Jarque and Bera 1980), so the intervals' shares are only roughly right.
    ``ar_root``, ``ma_root``: largest modulus of the inverse roots; 1 would be a unit root.

    Returns:
        The figures that can be told; none for innovations that are all zero.
    """
    figures = {
        "ar_root": _largest_inverse_root(arma.polynomials(lag)[0]),
        "ma_root": _largest_inverse_root(arma.polynomials(lag)[1]),
    }
    if innovations.size < FEWEST or np.ptp(innovations) == 0:
        return figures
    lags = max(1, min(2 * lag if 1 < lag <= LONGEST_TESTED_SEASON else 10, innovations.size // 5))
    freedom = max(1, lags - len(arma.parameters))
    return {
        **figures,
        "ljung_box_p": float(chi2.sf(_ljung_box(innovations, lags), freedom)),
        "arch_p": _arch_p(innovations, min(lags, 12)),
        "jarque_bera_p": float(chi2.sf(_jarque_bera(innovations), 2)),
    }


def _largest_inverse_root(polynomial: Floats) -> float:
    """Of ``1 + a B + ...``; 0 where the polynomial is 1."""
    roots = np.roots(polynomial)
    return float(np.abs(roots).max()) if roots.size else 0.0


def _ljung_box(values: Floats, lags: int) -> float:
    centred = values - values.mean()
    n, total = centred.size, float(centred @ centred)
    return float(
        n * (n + 2) * sum((float(centred[k:] @ centred[:-k]) / total) ** 2 / (n - k) for k in range(1, lags + 1))
    )


def _arch_p(values: Floats, lags: int) -> float:
    """Engle's test: regress squares on the squares before them."""
    squares = values**2
    x = np.column_stack([np.ones(squares.size - lags), *(squares[lags - k : -k] for k in range(1, lags + 1))])
    target = squares[lags:]
    residual = target - x @ np.linalg.lstsq(x, target, rcond=None)[0]
    centred = target - target.mean()
    total = float(centred @ centred)
    share = 1 - float(residual @ residual) / total if total > 0 else 0.0
    return float(chi2.sf(target.size * max(share, 0.0), lags))


def _jarque_bera(values: Floats) -> float:
    standardised = (values - values.mean()) / values.std()
    skew, excess = float(np.mean(standardised**3)), float(np.mean(standardised**4)) - 3
    return values.size / 6 * (skew**2 + excess**2 / 4)
