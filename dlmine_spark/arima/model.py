"""A regression with ARMA errors: estimated on the steps up to a cutoff, then asked for forecasts from any origin.

The season and the covariates are regressors; what remains is differenced if it wanders and modelled as a
(seasonal) ARMA process. Regression coefficients come from least squares, then one generalised least squares pass with
the ARMA's filter; the ARMA's coefficients from Hannan-Rissanen, then exact maximum likelihood by statsmodels' state
space model.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from math import log

import numpy as np
from scipy.signal import lfilter
from statsmodels.stats.diagnostic import acorr_ljungbox
from statsmodels.tsa.statespace.sarimax import SARIMAX

from dlmine_spark.arima.design import (
    INTERCEPT,
    MAX_DUMMIES,
    Design,
    difference,
    independent_columns,
    make_design,
)
from dlmine_spark.arima.orders import (
    ArmaStart,
    best_stable,
    hannan_rissanen,
    needs_difference,
    start_of_orders,
)
from dlmine_spark.arima.timeline import Floats, Steps, Timeline
from dlmine_spark.config import ArimaConfig
from dlmine_spark.naive import QUANTILES, expected_open

LARGEST_EXPONENT = 600.0
"""Bounds on the log scale end here, so that they stay finite numbers."""
ML_ITERATIONS = 30
LONGEST_FIXED_SEASON = 7
"""A week keeps its shape: one level a weekday. Longer seasons change theirs over the years."""
ROUNDING = 1e-10
"""Errors smaller than this share of the largest value are rounding errors."""
RUNAWAY = 100.0
"""A forecast beyond this many times the largest known value is no forecast."""


class TimeIsUp(RuntimeError):
    """The series has used its share of time."""


class ModelProblem(ValueError):
    """A model could be estimated but its forecasts are of no use."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Estimated parameters and what is needed to forecast with them.

    The clock of the errors counts known values only: a shop that is closed on Sundays goes from Saturday to Monday in
    one step. The regressors keep calendar time.

    Attributes:
        arma: orders and coefficients of the errors.
        d, seasonal_d: how often the errors are differenced, plainly and at the season's length.
        season_length: steps in a season.
        lag: known values in a season, the lag of the seasonal terms.
        is_log: whether the model is about ``log1p(y)``.
        is_non_negative: whether no known value is negative, so that no forecast is.
        start: first step used.
        design: regressors for all steps, those in the model only.
        coefficients: of the regressors.
        uncertainty: covariance matrix of the coefficients.
        sigma2: variance of the one-step errors on the model's scale.
        aicc: of the exact likelihood, or of its conditional approximation where the ARMA has no parameters.
        diagnostics: named figures about the fit.
    """

    arma: ArmaStart
    d: int
    seasonal_d: int
    season_length: int
    lag: int
    is_log: bool
    is_non_negative: bool
    start: int
    design: Design
    coefficients: Floats
    uncertainty: Floats
    sigma2: float
    aicc: float
    diagnostics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Paths:
    """Forecasts from several origins: every array has one row per origin and one column per step ahead.

    ``sigma`` holds one value per origin: the standard deviation of the one-step error, in units of y.
    """

    y_hat: Floats
    lo_80: Floats
    hi_80: Floats
    lo_95: Floats
    hi_95: Floats
    sigma: Floats


@dataclass(frozen=True, slots=True)
class _Sample:
    """The known values a model is estimated from, without holes: their steps and values on the model's scale."""

    steps: Steps
    z: Floats
    season_length: int
    lag: int
    is_log: bool

    @property
    def has_holes(self) -> bool:
        """Whether steps are missing between the known values, so that a season has no fixed number of them."""
        return bool(self.steps[-1] - self.steps[0] + 1 > self.steps.size)

    def errors(self, w: Floats, x: Floats, coefficients: Floats) -> Floats:
        """What the regressors leave; nothing, where they leave rounding errors only (a constant series)."""
        rest = w - x @ coefficients
        is_noise = np.abs(rest).max(initial=0.0) <= ROUNDING * np.abs(self.z).max()
        return np.zeros_like(rest) if is_noise else rest


@dataclass(frozen=True, slots=True)
class _Frame:
    """One way to treat level and season, with the best ARMA for it by the fast criterion.

    ``w`` and ``x`` are the values and regressors after differencing, without the steps that differencing costs.
    """

    d: int
    seasonal_d: int
    design: Design
    w: Floats
    x: Floats
    arma: ArmaStart


def to_model_scale(y: Floats, is_log: bool) -> Floats:
    """``log1p`` where the model is logarithmic."""
    return np.log1p(y) if is_log else y


def fit_model(timeline: Timeline, cutoff: int, config: ArimaConfig, season_length: int, deadline: float) -> Fit:
    """Estimate a model on the known values of the last ``max_history`` steps up to a cutoff.

    Args:
        timeline: the series.
        cutoff: last step that may be used.
        config: limits of the search.
        season_length: steps in a season.
        deadline: on the monotonic clock; looked at between the steps of the work.

    Raises:
        TimeIsUp: the deadline has passed.
        numpy.linalg.LinAlgError, ValueError: the numbers admit no fit.
    """
    known = np.flatnonzero(np.isfinite(timeline.y[: cutoff + 1]))
    steps = known[known > cutoff - config.max_history]
    seasonal = make_design(timeline, cutoff, season_length=season_length, fourier=config.fourier, seasonal=True)
    y = timeline.y[steps]
    is_log = _choose_log(y, seasonal.values[steps], config.transform)
    share = steps.size / (steps[-1] - steps[0] + 1)
    sample = _Sample(steps, to_model_scale(y, is_log), season_length, max(1, round(season_length * share)), is_log)
    frames = [_frame(sample, seasonal, 0, config)]
    if LONGEST_FIXED_SEASON < season_length <= steps.size / 3 and not sample.has_holes and config.order is None:
        plain = make_design(timeline, cutoff, season_length=season_length, fourier=0, seasonal=False)
        moving = [_frame(sample, plain, seasonal_d, config) for seasonal_d in (0, 1)]
        frames = moving if season_length <= MAX_DUMMIES else [*frames, *moving]
    _check(deadline)
    return _estimate(sample, _best_frame(sample, frames), deadline)


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeIsUp("arima.timeout is used up")


def _choose_log(y: Floats, regressors: Floats, transform: str) -> bool:
    """Whether changes are steadier on the log scale: the Box-Cox profile likelihood of both scales compared.

    Source: Box and Cox (1964), An analysis of transformations; on first differences, so that a trend doesn't decide.
    """
    if transform != "auto" or y.min() < 0 or y.size < 8:
        return transform == "log1p" and bool(y.min() > -1)
    x = np.diff(regressors, axis=0)
    x = x[:, independent_columns(x)]
    sizes = []
    for change in (np.diff(y), np.diff(np.log1p(y))):
        residual = change - x @ _least_squares(x, change)
        sizes.append(float(residual @ residual) / change.size)
    if min(sizes) <= 0:
        return False
    # Twice the log-likelihoods: the log scale pays the Jacobian of the transformation.
    plain = -(y.size - 1) * log(sizes[0])
    logarithmic = -(y.size - 1) * log(sizes[1]) - 2 * float(np.log1p(y[1:]).sum())
    return logarithmic > plain


def _least_squares(x: Floats, target: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(x, target, rcond=None)[0], dtype=np.float64)


def _frame(sample: _Sample, design: Design, seasonal_d: int, config: ArimaConfig) -> _Frame:
    """Decide on differencing and orders for one treatment of the season."""
    if config.order is not None:
        d = config.order[1]
    else:
        _, w, x = _differenced(sample, design, 0, seasonal_d)
        d = int(needs_difference(sample.errors(w, x, _least_squares(x, w))))
    kept, w, x = _differenced(sample, design, d, seasonal_d)
    errors = sample.errors(w, x, _least_squares(x, w))
    if config.order is not None:
        arma = start_of_orders(errors, config.order[0], config.order[2])
    else:
        candidates = hannan_rissanen(
            errors,
            season_length=sample.lag,
            max_p=config.max_p,
            max_q=config.max_q,
            seasonal=1 < sample.lag <= MAX_DUMMIES and errors.size >= 4 * sample.lag,
            extra_parameters=len(kept.names),
        )
        arma = best_stable(candidates)
    return _Frame(d, seasonal_d, kept, w, x, arma)


def _differenced(sample: _Sample, design: Design, d: int, seasonal_d: int) -> tuple[Design, Floats, Floats]:
    """Values and regressors after differencing, with those regressors only that say something of their own."""
    lost = d + seasonal_d * sample.lag
    w = difference(sample.z, d, seasonal_d, sample.lag)[lost:]
    x = difference(design.values[sample.steps], d, seasonal_d, sample.lag)[lost:]
    used = independent_columns(x)
    redundant = [name for i, name in enumerate(design.names) if i not in used and name != INTERCEPT]
    kept = Design(tuple(design.names[i] for i in used), design.values[:, used], (*design.dropped, *redundant))
    return kept, w, x[:, used]


def _best_frame(sample: _Sample, frames: list[_Frame]) -> _Frame:
    """The treatment of the season with the likeliest one-step errors on the same last observations.

    Both are conditional likelihoods of the very same values given those before them (differencing has a Jacobian of
    one), so AICc compares them; likelihoods of differently differenced series would not be comparable.
    """
    if len(frames) == 1:
        return frames[0]
    tail = max(8, sample.z.size - max(f.d + f.seasonal_d * sample.lag for f in frames) - sample.lag)

    def score(frame: _Frame) -> float:
        ar, ma = frame.arma.polynomials(sample.lag)
        innovations = lfilter(ar, ma, frame.w - frame.x @ _least_squares(frame.x, frame.w))[-tail:]
        n = innovations.size
        parameters = len(frame.design.names) + len(frame.arma.parameters) + 1
        if n - parameters < 2:
            return float("inf")
        return _aicc(n * log(max(float(innovations @ innovations) / n, 1e-300)), parameters, n)

    return min(frames, key=score)


def _estimate(sample: _Sample, frame: _Frame, deadline: float) -> Fit:
    """Generalised least squares for the regressors, exact maximum likelihood for the ARMA errors."""
    design, x = frame.design, frame.x
    coefficients, covariance = _generalised(frame.w, x, frame.arma, sample.lag)
    errors = sample.errors(frame.w, x, coefficients)
    arma, sigma2, aicc, converged = _maximum_likelihood(errors, frame.arma, sample.lag, len(design.names))
    _check(deadline)
    n = errors.size
    diagnostics = {
        "observations": float(n),
        "converged": float(converged),
        "log1p": float(sample.is_log),
        "seasonal_lag": float(sample.lag),
        **_whiteness(errors, arma, sample.lag),
        **{f"dropped.{name}": 1.0 for name in design.dropped},
    }
    return Fit(
        arma=arma,
        d=frame.d,
        seasonal_d=frame.seasonal_d,
        season_length=sample.season_length,
        lag=sample.lag,
        is_log=sample.is_log,
        is_non_negative=bool(sample.z.min() >= 0),
        start=int(sample.steps[0]),
        design=design,
        coefficients=coefficients,
        uncertainty=covariance,
        sigma2=sigma2 * n / max(1, n - len(design.names) - len(arma.parameters)),
        aicc=aicc,
        diagnostics=diagnostics,
    )


def _generalised(w: Floats, x: Floats, arma: ArmaStart, lag: int) -> tuple[Floats, Floats]:
    """One pass of generalised least squares: regress what the ARMA filter makes of the series on what it makes of x.

    Returns:
        The coefficients and their covariance matrix.
    """
    if x.shape[1] == 0:
        return np.empty(0), np.empty((0, 0))
    ar, ma = arma.polynomials(lag)
    # The filter starts from zero: the steps it needs to settle are left out where there are enough others.
    settle = min(ar.size + ma.size - 2, w.size // 4)
    filtered = lfilter(ar, ma, np.column_stack([w, x]), axis=0)[settle:]
    target, regressors = filtered[:, 0], filtered[:, 1:]
    if independent_columns(regressors).size < x.shape[1]:
        target, regressors = w, x
    solution = _least_squares(regressors, target)
    residual = target - regressors @ solution
    variance = float(residual @ residual) / max(1, target.size - x.shape[1])
    return solution, variance * np.linalg.pinv(regressors.T @ regressors)


def _state_space(errors: Floats, arma: ArmaStart, lag: int) -> SARIMAX:
    seasonal = (len(arma.seasonal_ar), 0, len(arma.seasonal_ma))
    return SARIMAX(
        errors,
        order=(len(arma.ar), 0, len(arma.ma)),
        seasonal_order=(*seasonal, lag) if any(seasonal) else (0, 0, 0, 0),
        concentrate_scale=True,
    )


def _maximum_likelihood(
    errors: Floats, arma: ArmaStart, lag: int, regressors: int
) -> tuple[ArmaStart, float, float, bool]:
    """Exact maximum likelihood from a warm start: the ARMA, its innovations' variance, AICc, whether it converged."""
    n = errors.size
    parameters = len(arma.parameters) + 1 + regressors
    if not arma.parameters:
        variance = float(np.mean(errors**2)) if n else 0.0
        minus_twice = n * (log(2 * np.pi * max(variance, 1e-300)) + 1)
        return arma, variance, _aicc(minus_twice, parameters, n), True
    scale = float(np.std(errors)) or 1.0
    model = _state_space(errors / scale, arma, lag)
    with warnings.catch_warnings():
        # A search that stops early is noted as not converged; statsmodels would also write it to the worker's log.
        warnings.simplefilter("ignore")
        start = np.array(arma.parameters)
        found = np.asarray(
            model.fit(start_params=start, method="lbfgs", maxiter=ML_ITERATIONS, disp=0, return_params=True)
        )
        likelihood, at_start = model.loglike(found), model.loglike(start)
    converged = bool(np.isfinite(likelihood) and likelihood >= at_start and np.isfinite(found).all())
    if not converged:
        found, likelihood = start, at_start
    model.update(found)
    variance = float(model.ssm.filter().scale) * scale**2
    minus_twice = -2 * float(likelihood) + 2 * n * log(scale)
    return arma.with_parameters(found), variance, _aicc(minus_twice, parameters, n), converged


def _aicc(minus_twice_likelihood: float, parameters: int, n: int) -> float:
    return minus_twice_likelihood + 2 * parameters * (1 + (parameters + 1) / max(1, n - parameters - 1))


def _whiteness(errors: Floats, arma: ArmaStart, lag: int) -> dict[str, float]:
    """The Ljung-Box test of the innovations: a small p value says that structure is left in them."""
    ar, ma = arma.polynomials(lag)
    innovations = lfilter(ar, ma, errors)
    if innovations.size < 12 or not np.any(innovations):
        return {}
    lags = min(2 * lag if 1 < lag <= MAX_DUMMIES else 10, innovations.size // 5)
    test = acorr_ljungbox(innovations, lags=[lags], model_df=min(len(arma.parameters), lags - 1))
    return {"ljung_box_p": float(test["lb_pvalue"].iloc[0])}


def forecast(fit: Fit, timeline: Timeline, origins: list[int], horizon: int, *, open_is_known: bool) -> Paths:
    """Forecasts from every origin with the same parameters; no estimation, and no value after an origin is used.

    The median is forecast: on the log scale the back-transformed centre. Closed steps are 0. Intervals hold the
    uncertainty of the innovations and of the regression coefficients.

    Raises:
        ModelProblem: a forecast is no number or runs away.
    """
    first, last = min(origins), max(origins)
    known = fit.start + np.flatnonzero(np.isfinite(timeline.y[fit.start : last + 1]))
    at = np.searchsorted(known, origins, side="right") - 1
    ahead = np.array(origins)[:, None] + np.arange(1, horizon + 1)
    is_open = np.array(
        [expected_open(timeline.is_open, o, horizon, fit.season_length, is_known=open_is_known) for o in origins]
    )
    # Steps of the errors' clock: closed ones don't count.
    ticks = np.maximum(np.cumsum(is_open, axis=1) - 1, 0)
    errors = to_model_scale(timeline.y[known], fit.is_log) - fit.design.values[known] @ fit.coefficients
    delta = _difference_polynomial(fit.d, fit.seasonal_d, fit.lag)
    w = difference(errors, fit.d, fit.seasonal_d, fit.lag)
    u_paths = _extrapolate(errors, _arma_paths(w, fit.arma, fit.lag, at, horizon), at, delta)
    centre = fit.design.values[ahead] @ fit.coefficients + np.take_along_axis(u_paths, ticks, axis=1)
    spread = np.sqrt(
        _innovation_variance(fit, delta, horizon)[ticks] + _coefficient_variance(fit, known, at, ahead, ticks, delta)
    )
    if not np.isfinite(centre).all() or not np.isfinite(spread).all():
        raise ModelProblem("the forecast is no number")

    def to_y(values: Floats) -> Floats:
        y = np.expm1(np.minimum(values, LARGEST_EXPONENT)) if fit.is_log else values
        return np.where(is_open, np.maximum(y, 0.0) if fit.is_non_negative else y, 0.0)

    y_hat = to_y(centre)
    largest = np.nanmax(np.abs(timeline.y[fit.start : first + 1]))
    if np.abs(y_hat).max() > RUNAWAY * max(largest, 1.0):
        raise ModelProblem(f"a forecast of {np.abs(y_hat).max():.3g} where no value exceeds {largest:.3g}")
    slope = 1 + np.maximum(np.expm1(centre[:, 0]), 0.0) if fit.is_log else 1.0
    return Paths(
        y_hat=y_hat,
        lo_80=to_y(centre - QUANTILES[80] * spread),
        hi_80=to_y(centre + QUANTILES[80] * spread),
        lo_95=to_y(centre - QUANTILES[95] * spread),
        hi_95=to_y(centre + QUANTILES[95] * spread),
        sigma=spread[:, 0] * slope,
    )


def _difference_polynomial(d: int, seasonal_d: int, lag: int) -> Floats:
    """``(1-B)^d (1-B^m)^D``, constant term first."""
    polynomial = np.array([1.0])
    for step in [lag] * seasonal_d + [1] * d:
        factor = np.zeros(step + 1)
        factor[0], factor[step] = 1.0, -1.0
        polynomial = np.convolve(polynomial, factor)
    return polynomial


def _arma_paths(w: Floats, arma: ArmaStart, lag: int, at: Steps, horizon: int) -> Floats:
    """Forecasts of the ARMA errors from every origin: one row per origin, one column per step ahead."""
    if not arma.parameters:
        return np.zeros((at.size, horizon))
    model = _state_space(w, arma, lag)
    model.update(np.array(arma.parameters))
    states = model.ssm.filter().predicted_state[:, at + 1]
    transition, look = model.ssm["transition"], model.ssm["design"][0]
    paths = np.empty((at.size, horizon))
    for h in range(horizon):
        paths[:, h] = look @ states
        states = transition @ states
    return paths


def _extrapolate(levels: Floats, w_paths: Floats, at: Steps, delta: Floats) -> Floats:
    """Undo differencing along the paths from every origin; ``levels`` may have further axes after the first."""
    lags = np.flatnonzero(delta)[1:]
    paths = np.zeros(w_paths.shape + levels.shape[1:])
    for h in range(w_paths.shape[1]):
        value = w_paths[:, h].reshape((-1,) + (1,) * (levels.ndim - 1)) + np.zeros(levels.shape[1:])
        for lag in lags:
            before = paths[:, h - lag] if h >= lag else levels[np.maximum(at + 1 + h - lag, 0)]
            value = value - delta[lag] * before
        paths[:, h] = value
    return paths


def _innovation_variance(fit: Fit, delta: Floats, horizon: int) -> Floats:
    """Variance of the errors' forecasts by steps ahead: the sum of the squared weights of future innovations."""
    ar, ma = fit.arma.polynomials(fit.lag)
    impulse = np.zeros(horizon)
    impulse[0] = 1.0
    weights = lfilter(ma, np.convolve(ar, delta), impulse)
    return np.asarray(fit.sigma2 * np.cumsum(weights**2), dtype=np.float64)


def _coefficient_variance(fit: Fit, known: Steps, at: Steps, ahead: Steps, ticks: Steps, delta: Floats) -> Floats:
    """Variance of the forecasts that comes from the coefficients.

    What counts is the part of the regressors that differencing doesn't carry over from the values before the origin.
    """
    if fit.coefficients.size == 0:
        return np.zeros(ahead.shape)
    carried = _extrapolate(fit.design.values[known], np.zeros(ahead.shape), at, delta)
    new = fit.design.values[ahead] - np.take_along_axis(carried, ticks[:, :, None], axis=1)
    variance = np.einsum("ohi,ij,ohj->oh", new, fit.uncertainty, new)
    return np.asarray(np.maximum(variance, 0.0))
