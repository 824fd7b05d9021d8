"""How the errors of a model go on after an origin: differencing and ARMA as one recursion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from dlmine_spark.arima.design import difference
from dlmine_spark.arima.orders import Arma
from dlmine_spark.arima.timeline import Floats, Steps


@dataclass(frozen=True, slots=True)
class Moves:
    """An ARMA process of what is left by ``d`` plain and ``seasonal_d`` seasonal differences at a lag."""

    arma: Arma
    d: int
    seasonal_d: int
    lag: int

    def carry(self, levels: Floats, at: Steps, horizon: int) -> Floats:
        """What the process expects after each origin, no value after it being used.

        Args:
            levels: steps x columns.
            at: steps of the origins.
            horizon: steps ahead.

        Returns:
            Origins x steps ahead x columns.
        """
        whole, ma = self._polynomials()
        shocks = np.zeros_like(levels)
        if ma.size > 1:
            lost = self.d + self.seasonal_d * self.lag
            w = difference(levels, self.d, self.seasonal_d, self.lag)[lost:]
            shocks[lost:] = lfilter(self.arma.polynomials(self.lag)[0], ma, w, axis=0)
        paths = np.zeros((at.size, horizon, levels.shape[1]))
        lags, shock_lags = np.flatnonzero(whole)[1:], np.flatnonzero(ma)[1:]
        for h in range(horizon):
            value = paths[:, h]
            for lag in lags:
                value -= whole[lag] * (paths[:, h - lag] if h >= lag else levels[np.maximum(at + 1 + h - lag, 0)])
            for lag in shock_lags[shock_lags > h]:
                value += ma[lag] * shocks[np.maximum(at + 1 + h - lag, 0)]
        return paths

    def variance(self, sigma2: float, horizon: int) -> Floats:
        """Variance of the expectations by steps ahead: the sum of the squared weights of future innovations."""
        whole, ma = self._polynomials()
        impulse = np.zeros(horizon)
        impulse[0] = 1.0
        return np.asarray(sigma2 * np.cumsum(lfilter(ma, whole, impulse) ** 2), dtype=np.float64)

    def _polynomials(self) -> tuple[Floats, Floats]:
        """AR with differencing, and MA, constant term first."""
        whole, ma = self.arma.polynomials(self.lag)
        for step in [self.lag] * self.seasonal_d + [1] * self.d:
            whole = np.convolve(whole, np.array([1.0, *[0.0] * (step - 1), -1.0]))
        return whole, ma
