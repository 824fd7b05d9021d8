"""A fit made again from its row in ``gold.arima_models``, on newer data and without estimation; and whether it holds.

Orders and coefficients are taken as they were. What follows from them and the data is computed anew: the regressors'
values, the uncertainty of their coefficients, and the one-step errors since the fit, whose size says whether the model
still holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import f as f_distribution

from dlmine_spark.arima.design import difference, make_design
from dlmine_spark.arima.likelihood import whiten
from dlmine_spark.arima.model import DEGREES, Fit, generalised, is_exact
from dlmine_spark.arima.orders import Arma
from dlmine_spark.arima.scales import to_scale
from dlmine_spark.arima.timeline import Floats, Timeline
from dlmine_spark.config import ArimaConfig
from dlmine_spark.frequency import calendar_days

BEGINS = "begins"
"""In ``diagnostics``: the day that the series begins on; regressors count seasons from there."""
_REGRESSOR = "x."
_NEEDED = {"seasonal_lag", "power", DEGREES}
"""In ``diagnostics``: what a fit is made again with."""


class NotTheSame(ValueError):
    """The series is not as it was when the model was fitted, so the parameters do not belong to it any more."""


def begins(timeline: Timeline) -> float:
    """The day, since the beginning of our era, that a series begins on."""
    return float(calendar_days(timeline.dates[:1])[0])


def restored(row: Mapping[str, Any], timeline: Timeline, cutoff: int, config: ArimaConfig) -> Fit:
    """The fit that a row tells of, for forecasts from a later cutoff.

    Args:
        row: of ``gold.arima_models``, of a model with orders.
        timeline: the series, with the values that came since.
        cutoff: last step that is known now.
        config: what the model was fitted with.

    Raises:
        NotTheSame: the series begins elsewhere, a regressor is gone, or the model is none of ours.
    """
    params, told = dict(row["params"]), dict(row["diagnostics"])
    if not told.keys() >= _NEEDED:
        raise NotTheSame("another engine, or an earlier version, fitted the model")
    if told.get(BEGINS) != begins(timeline):
        raise NotTheSame("the series begins on another day than it did")
    ar, ma, seasonal_ar, seasonal_ma = (_part(params, kind) for kind in ("ar", "ma", "seasonal_ar", "seasonal_ma"))
    arma = Arma(ar, ma, seasonal_ar, seasonal_ma)
    names = [name.removeprefix(_REGRESSOR) for name in params if name.startswith(_REGRESSOR)]
    every = make_design(timeline, cutoff, season_length=row["m"], config=config, seasonal=True)
    gone = sorted(set(names) - set(every.names))
    if gone:
        raise NotTheSame(f"regressor {gone[0]} is gone")
    design = every.only(names)
    steps = timeline.steps_used(cutoff, config)
    if not steps.size:
        raise NotTheSame("no value is known")
    lag, power = int(told["seasonal_lag"]), float(told["power"])
    w, x = _differenced(timeline.y[steps], design.values[steps], _Differencing(row["d"], row["seasonal_d"], lag, power))
    exact = is_exact(lag, arma)
    _, uncertainty = generalised(w, x, arma, lag, exact=exact)
    return Fit(
        arma=arma,
        d=row["d"],
        seasonal_d=row["seasonal_d"],
        season_length=row["m"],
        lag=lag,
        power=power,
        is_non_negative=bool(timeline.y[steps].min() >= 0),
        start=int(steps[0]),
        design=design,
        coefficients=np.array([params[f"{_REGRESSOR}{name}"] for name in design.names]),
        uncertainty=uncertainty,
        sigma2=row["sigma2"],
        aicc=row["aicc"],
        diagnostics=told,
    )


def _part(params: Mapping[str, float], kind: str) -> tuple[float, ...]:
    """The coefficients of one factor, by lag."""
    found = {int(name.rpartition(".")[2]): value for name, value in params.items() if name.rpartition(".")[0] == kind}
    return tuple(found[lag] for lag in sorted(found))


class _Differencing(NamedTuple):
    """How a model looks at values: plain and seasonal differences at a lag, on the scale of a power."""

    d: int
    seasonal_d: int
    lag: int
    power: float


def _differenced(y: Floats, regressors: Floats, how: _Differencing) -> tuple[Floats, Floats]:
    """Values on the model's scale and regressors after differencing, without the steps that this costs."""
    d, seasonal_d, lag, power = how
    lost = d + seasonal_d * lag
    w = difference(to_scale(y, power), d, seasonal_d, lag)[lost:]
    return w, difference(regressors, d, seasonal_d, lag)[lost:]


def p_of_newer_errors(fit: Fit, timeline: Timeline, fitted: int, cutoff: int) -> float:
    """How likely errors as large as those since the fit are, if the model still holds; 1 without newer values.

    Their mean square beside the variance they were to have, which is an estimate, too: Fisher's F.

    Args:
        fit: of ``restored``.
        timeline: the series.
        fitted: last step that the model was fitted on.
        cutoff: last step that is known now.
    """
    known = fit.start + np.flatnonzero(np.isfinite(timeline.y[fit.start : cutoff + 1]))
    steps = _Differencing(fit.d, fit.seasonal_d, fit.lag, fit.power)
    w, x = _differenced(timeline.y[known], fit.design.values[known], steps)
    errors = whiten(w - x @ fit.coefficients, fit.arma, fit.lag, exact=fit.is_exact)
    newer = errors[known[known.size - errors.size :] > fitted]
    if newer.size == 0 or fit.sigma2 <= 0:
        return 1.0 if not np.any(newer) else 0.0
    ratio = float(newer @ newer) / newer.size / fit.sigma2
    return float(f_distribution.sf(ratio, newer.size, fit.diagnostics[DEGREES]))
