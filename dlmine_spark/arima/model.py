"""A regression with ARMA errors, estimated on the steps of one series up to a cutoff.

The season and the covariates are regressors; what remains is differenced if it wanders and modelled as a (seasonal)
ARMA process. Several treatments of level and season are tried with a fast criterion; the best one is estimated by
generalised least squares for the regressors and maximum likelihood for the ARMA, one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from math import log

import numpy as np

from dlmine_spark.arima.budget import check
from dlmine_spark.arima.design import (
    INTERCEPT,
    MAX_DUMMIES,
    OPTIONAL,
    SEASON,
    Design,
    difference,
    independent_columns,
    make_design,
)
from dlmine_spark.arima.diagnostics import diagnose
from dlmine_spark.arima.likelihood import LONGEST_EXACT_LAG, Estimate, maximise, whiten
from dlmine_spark.arima.orders import (
    MOST_DIFFERENCES,
    Arma,
    aicc,
    hannan_rissanen,
    needs_difference,
    start_of_orders,
)
from dlmine_spark.arima.scales import log_jacobian, to_scale
from dlmine_spark.arima.timeline import Floats, Steps, Timeline
from dlmine_spark.config import ArimaConfig

SEARCH_ITERATIONS, FINAL_ITERATIONS = 8, 30
SHORT = 150
"""Up to so many values, orders are compared by the exact likelihood: there the first season weighs much."""
REFINED = 3
"""So many of the orders that Hannan and Rissanen's regressions like best are estimated before one is chosen."""
WEEK, DAY_OF_HOURS = 7, 24
"""Steps in a season: see ``_treatments``."""
POWERS = (1.0, 0.5, 0.0)
"""Scales that are tried."""
RECENT_SEASONS, FEWEST_RECENT = 3, 36
"""Seasons, but at least so many innovations, over which their weight in the variance falls to a half."""
DEGREES = "sigma2_degrees"
"""In ``diagnostics``: degrees of freedom that the variance has."""
OF_A_SEASONAL_DIFFERENCE = 2
"""Parameters that a seasonal difference counts as where treatments are compared: it was chosen by the data, too, and
carries one year's accidents into all to come. By trial on short and long histories (docs/benchmarks.md)."""
ROUNDING = 1e-10
"""Errors smaller than this share of the largest value are rounding errors."""


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
        power: of the scale the model works on: 1 for y itself, 0 for ``log1p(y)``.
        is_non_negative: whether no known value is negative, so that no forecast is.
        start: first step used.
        design: regressors for all steps, those in the model only.
        coefficients: of the regressors.
        uncertainty: covariance matrix of the coefficients.
        sigma2: variance of the one-step errors on the model's scale.
        aicc: of the likelihood; comparable within one differencing and one method only.
        diagnostics: named figures about the fit.
    """

    arma: Arma
    d: int
    seasonal_d: int
    season_length: int
    lag: int
    power: float
    is_non_negative: bool
    start: int
    design: Design
    coefficients: Floats
    uncertainty: Floats
    sigma2: float
    aicc: float
    diagnostics: dict[str, float]

    @property
    def is_exact(self) -> bool:
        """Whether one-step errors are those of the exact likelihood."""
        return is_exact(self.lag, self.arma)


@dataclass(frozen=True, slots=True)
class _Sample:
    """The known values a model is estimated from, without holes: their steps and values on the model's scale."""

    steps: Steps
    y: Floats
    z: Floats
    season_length: int
    lag: int
    power: float

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
    arma: Arma
    sample: _Sample


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
    steps = timeline.steps_used(cutoff, config)
    if not steps.size:
        raise ValueError(f"no value is known in the last {config.max_history} steps (arima.max_history)")
    treatments = _treatments(timeline, cutoff, steps, config, season_length)
    frames = [_frame(sample, design, seasonal_d, config, deadline) for sample, design, seasonal_d in treatments]
    return _estimate(_best_frame(frames), deadline)


def _treatments(
    timeline: Timeline, cutoff: int, steps: Steps, config: ArimaConfig, season_length: int
) -> list[tuple[_Sample, Design, int]]:
    """What may be tried: the scale of the values, the regressors, seasonal differences.

    A week keeps its shape, and a long season shows too few times to tell how it changes: regressors. The months of a
    year change theirs over the decades: seasonal ARMA terms, with and without a seasonal difference. A day of hours may
    be either. What moves is modelled on the values' own scale: on another one a trend goes on as a curve, an
    exponential on the log scale.
    """
    y = timeline.y[steps]
    seasonal = make_design(timeline, cutoff, season_length=season_length, config=config, seasonal=True)
    lag = max(1, round(season_length * steps.size / (steps[-1] - steps[0] + 1)))

    def sample(powers: tuple[float, ...]) -> _Sample:
        power = _choose_power(y, seasonal.values[steps], config.transform, powers)
        return _Sample(steps, y, to_scale(y, power), season_length, lag, power)

    fixed = sample(POWERS)
    may_move = WEEK < season_length <= min(MAX_DUMMIES, steps.size // 3) and not fixed.has_holes
    if not may_move or config.order is not None:
        return [(fixed, seasonal, 0)]
    plain = make_design(timeline, cutoff, season_length=season_length, config=config, seasonal=False)
    moving = sample((1.0,) if config.transform == "auto" else POWERS)
    tried = [(moving, plain, 0), (moving, plain, 1)]
    return [(fixed, seasonal, 0), *tried] if season_length >= DAY_OF_HOURS else tried


def _choose_power(y: Floats, regressors: Floats, transform: str, powers: tuple[float, ...]) -> float:
    """The scale on which changes are steadiest, by the profile likelihood of a few powers.

    Source: Box and Cox (1964); on first differences, so that a trend doesn't decide.
    """
    if transform != "auto" or y.min() < 0 or y.size < 8:
        return 0.0 if transform == "log1p" and y.min() > -1 else 1.0
    x = np.diff(regressors, axis=0)
    x = x[:, independent_columns(x)]

    def minus_twice(power: float) -> float:
        change = np.diff(to_scale(y, power))
        residual = change - x @ _least_squares(x, change)
        size = float(residual @ residual) / change.size
        return change.size * log(size) - 2 * log_jacobian(y[1:], power) if size > 0 else float("inf")

    return min(powers, key=minus_twice)


def _least_squares(x: Floats, target: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(x, target, rcond=None)[0], dtype=np.float64)


def _frame(sample: _Sample, design: Design, seasonal_d: int, config: ArimaConfig, deadline: float) -> _Frame:
    """Decide on differencing, orders and optional regressors for one treatment of the season."""
    check(deadline)
    d = _differences(sample, design, seasonal_d) if config.order is None else config.order[1]
    if d + seasonal_d != 1 or sample.power == 0:
        # A trend is a drift of what is differenced once; elsewhere it would be a fixed line, a parabola, or explode.
        design = design.without(*OPTIONAL)
    kept, w, x = _differenced(sample, design, d, seasonal_d)
    arma = _choose_orders(sample, w, x, config, deadline)
    frame = _Frame(d, seasonal_d, kept, w, x, arma, sample)
    smaller = _without_idle_regressors(frame, sample.lag, deadline)
    if len(smaller.design.names) == len(kept.names):
        return frame
    return replace(smaller, arma=_choose_orders(sample, smaller.w, smaller.x, config, deadline))


def _differences(sample: _Sample, design: Design, seasonal_d: int) -> int:
    """How often to difference until the level wanders no more; on the log scale once at most, as a drift would."""
    level = design.without(*OPTIONAL)
    most = MOST_DIFFERENCES - seasonal_d if sample.power > 0 else 1
    for d in range(most):
        _, w, x = _differenced(sample, level, d, seasonal_d)
        if not needs_difference(sample.errors(w, x, _least_squares(x, w)), d):
            return d
    return most


def _choose_orders(sample: _Sample, w: Floats, x: Floats, config: ArimaConfig, deadline: float) -> Arma:
    """Orders by Hannan and Rissanen, the best few estimated by likelihood and compared by AICc."""
    if config.order is not None and w.size < x.shape[1] + config.order[0] + config.order[2] + 2:
        raise ValueError(
            f"arima.order {list(config.order)} and {x.shape[1]} regressors are too much for {sample.y.size} values"
        )
    errors = sample.errors(w, x, _least_squares(x, w))
    if config.order is not None:
        return start_of_orders(errors, config.order[0], config.order[2])
    candidates = hannan_rissanen(
        errors,
        season_length=sample.lag,
        max_p=config.max_p,
        max_q=config.max_q,
        seasonal=1 < sample.lag <= MAX_DUMMIES and errors.size >= 4 * sample.lag,
        extra_parameters=x.shape[1],
        deadline=deadline,
    )
    stable = list(islice((found for found in candidates if found.is_stable()), REFINED)) or [Arma()]
    exact = errors.size <= SHORT and is_exact(sample.lag, stable[0])
    refined = [
        maximise(errors, start, sample.lag, exact=exact, iterations=SEARCH_ITERATIONS, deadline=deadline)
        for start in stable
    ]
    return min(refined, key=lambda found: _aicc_of(found, errors.size, x.shape[1])).arma


def _aicc_of(found: Estimate, n: int, regressors: int) -> float:
    return aicc(found.minus_twice, len(found.arma.parameters) + 1 + regressors, n)


def _without_idle_regressors(frame: _Frame, lag: int, deadline: float) -> _Frame:
    """Leave out optional regressors that the data do not ask for, by generalised least squares with the frame's ARMA.

    Waves are taken from the slowest to the fastest up to some number of pairs; season levels and the trend are all or
    nothing.
    """
    names = list(frame.design.names)
    blocks = frame.design.optional_blocks()
    if not blocks:
        return frame
    whitened = whiten(np.column_stack([frame.w, frame.x]), frame.arma, lag, exact=False)
    target, regressors = whitened[:, 0], whitened[:, 1:]
    n, others = target.size, len(frame.arma.parameters) + 1

    def score(columns: list[int]) -> float:
        check(deadline)
        x = regressors[:, columns]
        residual = target - x @ _least_squares(x, target)
        if n - len(columns) - others < 2:
            return float("inf")
        return aicc(n * log(max(float(residual @ residual) / n, 1e-300)), len(columns) + others, n)

    kept = list(range(len(names)))
    for block in blocks:
        choices = []
        for prefix in range(len(block) + 1):
            gone = {name for group in block[prefix:] for name in group}
            choices.append([column for column in kept if names[column] not in gone])
        scores = [score(columns) for columns in choices]
        if not block[0][0].startswith(SEASON):
            # A drift carries far, and of many numbers of waves one looks good by chance: both have to be significant,
            # so each column is judged as by the Bayesian criterion.
            scores = [found + (log(n) - 2) * len(columns) for found, columns in zip(scores, choices, strict=True)]
        kept = choices[int(np.argmin(scores))]
    if len(kept) == len(names):
        return frame
    return replace(frame, design=frame.design.only([names[column] for column in kept]), x=frame.x[:, kept])


def _differenced(sample: _Sample, design: Design, d: int, seasonal_d: int) -> tuple[Design, Floats, Floats]:
    """Values and regressors after differencing, with those regressors only that say something of their own."""
    lost = d + seasonal_d * sample.lag
    w = difference(sample.z, d, seasonal_d, sample.lag)[lost:]
    x = difference(design.values[sample.steps], d, seasonal_d, sample.lag)[lost:]
    used = independent_columns(x)
    redundant = [name for i, name in enumerate(design.names) if i not in used and name not in (INTERCEPT, *OPTIONAL)]
    kept = Design(tuple(design.names[i] for i in used), design.values[:, used], (*design.dropped, *redundant))
    return kept, w, x[:, used]


def _best_frame(frames: list[_Frame]) -> _Frame:
    """The treatment with the likeliest one-step errors on the same last observations, on the scale of y.

    All are conditional likelihoods of the very same values given those before them (differencing has a Jacobian of
    one, a power that of its slope), so AICc compares them; likelihoods of differently differenced series would not be
    comparable.
    """
    if len(frames) == 1:
        return frames[0]
    sample = frames[0].sample
    tail = max(8, sample.z.size - max(f.d + f.seasonal_d * sample.lag for f in frames) - sample.lag)

    def score(frame: _Frame) -> float:
        whitened = whiten(np.column_stack([frame.w, frame.x]), frame.arma, sample.lag, exact=False)
        coefficients = _least_squares(whitened[:, 1:], whitened[:, 0])
        innovations = (whitened[:, 0] - whitened[:, 1:] @ coefficients)[-tail:]
        n = innovations.size
        parameters = len(frame.design.names) + len(frame.arma.parameters) + 1
        parameters += OF_A_SEASONAL_DIFFERENCE * frame.seasonal_d
        if n - parameters < 2:
            return float("inf")
        jacobian = log_jacobian(sample.y[-n:], frame.sample.power)
        return aicc(n * log(max(float(innovations @ innovations) / n, 1e-300)) - 2 * jacobian, parameters, n)

    return min(frames, key=score)


def is_exact(lag: int, arma: Arma) -> bool:
    """Whether one-step errors of a process are those of the exact likelihood: of long seasons that takes too long."""
    return lag <= LONGEST_EXACT_LAG or not (arma.seasonal_ar or arma.seasonal_ma)


def _estimate(frame: _Frame, deadline: float) -> Fit:
    """Generalised least squares for the regressors, maximum likelihood for the ARMA errors, then the former again."""
    sample, design, x = frame.sample, frame.design, frame.x
    exact = is_exact(sample.lag, frame.arma)
    coefficients, _ = generalised(frame.w, x, frame.arma, sample.lag, exact=exact)
    errors = sample.errors(frame.w, x, coefficients)
    found = maximise(errors, frame.arma, sample.lag, exact=exact, iterations=FINAL_ITERATIONS, deadline=deadline)
    coefficients, covariance = generalised(frame.w, x, found.arma, sample.lag, exact=exact)
    errors = sample.errors(frame.w, x, coefficients)
    innovations = whiten(errors, found.arma, sample.lag, exact=exact) if errors.any() else errors
    n = errors.size
    parameters = len(design.names) + len(found.arma.parameters)
    sigma2, degrees = _variance_at_the_end(innovations, sample.lag, parameters)
    diagnostics = {
        "observations": float(n),
        DEGREES: degrees,
        "converged": float(found.converged),
        "exact": float(exact),
        "power": sample.power,
        "seasonal_lag": float(sample.lag),
        **diagnose(innovations, found.arma, sample.lag),
        **{f"dropped.{name}": 1.0 for name in design.dropped},
    }
    return Fit(
        arma=found.arma,
        d=frame.d,
        seasonal_d=frame.seasonal_d,
        season_length=sample.season_length,
        lag=sample.lag,
        power=sample.power,
        is_non_negative=bool(sample.y.min() >= 0),
        start=int(sample.steps[0]),
        design=design,
        coefficients=coefficients,
        uncertainty=covariance,
        sigma2=sigma2,
        aicc=_aicc_of(found, n, len(design.names)),
        diagnostics=diagnostics,
    )


def _variance_at_the_end(innovations: Floats, lag: int, parameters: int) -> tuple[float, float]:
    """Variance of the innovations to come: the last ones count most, half as much three seasons before.

    Sizes of sales grow with their level, and so do their errors; a variance over decades would belong to neither end.

    Source: J. P. Morgan (1996), RiskMetrics technical document, section 5.2, for the weights.

    Returns:
        The variance, and how many innovations of equal weight would tell it as surely.
    """
    n = innovations.size
    half_life = max(RECENT_SEASONS * lag, FEWEST_RECENT)
    weights = 0.5 ** (np.arange(n)[::-1] / half_life)
    unbiased = n / max(1, n - parameters)
    variance = float(weights @ innovations**2) / float(weights.sum()) * unbiased
    return variance, max(1.0, float(weights.sum()) ** 2 / float(weights @ weights) / unbiased)


def generalised(w: Floats, x: Floats, arma: Arma, lag: int, *, exact: bool) -> tuple[Floats, Floats]:
    """Generalised least squares: regress what whitening makes of the series on what it makes of the regressors.

    Returns:
        The coefficients and their covariance matrix.
    """
    if x.shape[1] == 0:
        return np.empty(0), np.empty((0, 0))
    together = np.column_stack([w, x])
    whitened = whiten(together, arma, lag, exact=exact) if arma.parameters else together
    target, regressors = whitened[:, 0], whitened[:, 1:]
    if independent_columns(regressors).size < x.shape[1]:
        target, regressors = w, x
    solution = _least_squares(regressors, target)
    residual = target - regressors @ solution
    variance = float(residual @ residual) / max(1, target.size - x.shape[1])
    return solution, variance * np.linalg.pinv(regressors.T @ regressors)
