"""Forecasts of a fitted model from any origin, with intervals; no estimation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dlmine_spark.arima.model import DEGREES, Fit, ModelProblem
from dlmine_spark.arima.moves import Moves
from dlmine_spark.arima.paths import Paths, Wanted, bounds_around, future_open
from dlmine_spark.arima.scales import from_scale, slope_of_scale, to_scale
from dlmine_spark.arima.timeline import Floats, Timeline

RUNAWAY = 100.0
"""A forecast beyond this many times the largest known value is no forecast."""


@dataclass(frozen=True, slots=True)
class Arima:
    """A fitted ARIMA, and under which name its forecasts go."""

    fit: Fit
    name: str

    def paths(self, timeline: Timeline, wanted: Wanted) -> Paths:
        """See ``forecast``."""
        return forecast(self.fit, timeline, wanted)

    def columns(self) -> Mapping[str, object]:
        """Orders and parameters."""
        fit = self.fit
        arma = {
            f"{kind}.{lag}": value
            for kind, part in zip(("ar", "ma", "seasonal_ar", "seasonal_ma"), fit.arma.factors, strict=True)
            for lag, value in enumerate(part, start=1)
        }
        of_regressors = zip(fit.design.names, fit.coefficients, strict=True)
        return {
            "p": len(fit.arma.ar),
            "d": fit.d,
            "q": len(fit.arma.ma),
            "seasonal_p": len(fit.arma.seasonal_ar),
            "seasonal_d": fit.seasonal_d,
            "seasonal_q": len(fit.arma.seasonal_ma),
            "m": fit.season_length,
            "aicc": fit.aicc,
            "sigma2": fit.sigma2,
            "params": {**arma, **{f"x.{name}": float(value) for name, value in of_regressors}},
            "diagnostics": fit.diagnostics,
        }


def forecast(fit: Fit, timeline: Timeline, wanted: Wanted) -> Paths:
    """Forecasts from every origin with the same parameters; no estimation, and no value after an origin is used.

    The median is forecast: on the log scale the back-transformed centre. Closed steps are 0. Intervals hold the
    uncertainty of the innovations and of the regression coefficients.

    Raises:
        ModelProblem: a forecast is no number or runs away.
    """
    origins, horizon = wanted.origins, wanted.horizon
    first, last = min(origins), max(origins)
    known = fit.start + np.flatnonzero(np.isfinite(timeline.y[fit.start : last + 1]))
    at = np.searchsorted(known, origins, side="right") - 1
    ahead = np.array(origins)[:, None] + np.arange(1, horizon + 1)
    is_open = future_open(timeline, wanted, fit.season_length)
    # Steps of the errors' clock: closed ones don't count.
    ticks = np.maximum(np.cumsum(is_open, axis=1) - 1, 0)
    errors = to_scale(timeline.y[known], fit.power) - fit.design.values[known] @ fit.coefficients
    moves = Moves(fit.arma, fit.d, fit.seasonal_d, fit.lag)
    regressors = fit.design.values[known]
    carried_errors = moves.carry(errors[:, None], at, horizon)[:, :, 0]
    carried = np.take_along_axis(moves.carry(regressors, at, horizon), ticks[:, :, None], axis=1)
    centre = fit.design.values[ahead] @ fit.coefficients + np.take_along_axis(carried_errors, ticks, axis=1)
    # What the coefficients' uncertainty moves is the part of the regressors that the errors don't carry over.
    new = fit.design.values[ahead] - carried
    from_coefficients = np.einsum("ohi,ij,ohj->oh", new, fit.uncertainty, new)
    spread = np.sqrt(moves.variance(fit.sigma2, horizon)[ticks] + np.maximum(from_coefficients, 0.0))
    if not np.isfinite(centre).all() or not np.isfinite(spread).all():
        raise ModelProblem("the forecast is no number")

    def to_y(values: Floats) -> Floats:
        y = from_scale(values, fit.power)
        return np.where(is_open, np.maximum(y, 0.0) if fit.is_non_negative else y, 0.0)

    y_hat = to_y(centre)
    largest = np.nanmax(np.abs(timeline.y[fit.start : first + 1]))
    if np.abs(y_hat).max() > RUNAWAY * (largest or 1.0):
        raise ModelProblem(f"a forecast of {np.abs(y_hat).max():.3g} where no value exceeds {largest:.3g}")
    return Paths(
        y_hat=y_hat,
        bounds=bounds_around(centre, spread, wanted.levels, to_y, fit.diagnostics[DEGREES]),
        sigma=spread[:, 0] * slope_of_scale(from_scale(centre[:, 0], fit.power), fit.power),
    )
