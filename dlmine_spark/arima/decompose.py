"""What a fitted model makes of each value it knows: its parts, and the value that it expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dlmine_spark.arima.design import INTERCEPT, SEASON, TREND, WAVE, difference
from dlmine_spark.arima.likelihood import whiten
from dlmine_spark.arima.model import Fit
from dlmine_spark.arima.scales import from_scale, to_scale
from dlmine_spark.arima.timeline import Floats, Steps, Timeline


class Parts(NamedTuple):
    """Parts of each known value, on the model's scale; their sum is the value there.

    ``memory`` is what the values before make expected beyond the regressors (of a differenced model the level, too),
    ``remainder`` the one-step error. Both are NaN for the first steps of a differenced model, which have none before.
    """

    level: Floats
    season: Floats
    covariates: Floats
    memory: Floats
    remainder: Floats


@dataclass(frozen=True, slots=True)
class Decomposition:
    """Known values of a series up to a cutoff, by step, with what was expected of them one step before.

    Attributes:
        steps: of the timeline.
        y: the values.
        fitted: the expected ones, on the scale of y; NaN where ``parts.memory`` is.
        parts: of the values.
    """

    steps: Steps
    y: Floats
    fitted: Floats
    parts: Parts


def decompose(fit: Fit, timeline: Timeline, cutoff: int) -> Decomposition:
    """Take the values up to a cutoff apart, with nothing estimated.

    Seasons are counted from their mean, which belongs to the level. Errors are the conditional ones: before the first
    value there was nothing.
    """
    steps = fit.start + np.flatnonzero(np.isfinite(timeline.y[fit.start : cutoff + 1]))
    y = timeline.y[steps]
    columns = fit.design.values[steps] * fit.coefficients
    is_level = np.array([name in (INTERCEPT, TREND) for name in fit.design.names], dtype=np.bool_)
    is_season = np.array([name.startswith((SEASON, WAVE)) for name in fit.design.names], dtype=np.bool_)
    season = columns[:, is_season].sum(axis=1)
    level = columns[:, is_level].sum(axis=1) + season.mean()
    covariates = columns[:, ~(is_level | is_season)].sum(axis=1)
    z = to_scale(y, fit.power)
    errors = z - columns.sum(axis=1)
    remainder = _one_step_errors(fit, errors)
    parts = Parts(level, season - season.mean(), covariates, errors - remainder, remainder)
    return Decomposition(steps, y, from_scale(z - remainder, fit.power), parts)


def _one_step_errors(fit: Fit, errors: Floats) -> Floats:
    """Of the errors, differenced and whitened; NaN for the steps that differencing costs."""
    lost = fit.d + fit.seasonal_d * fit.lag
    found = np.full(errors.size, np.nan)
    differenced = difference(errors, fit.d, fit.seasonal_d, fit.lag)[lost:]
    found[lost:] = whiten(differenced, fit.arma, fit.lag, exact=False)
    return found
