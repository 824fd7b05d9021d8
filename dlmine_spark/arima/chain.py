"""From the model that suits a series to the one that always works: the first that gives a usable forecast is taken.

ARIMA, or a Croston-type model where demand is intermittent; then an ARIMA(0, 1, 1) without regressors, exponential
smoothing, the seasonal naive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from dlmine_spark.arima.budget import TimeIsUp
from dlmine_spark.arima.forecast import Arima
from dlmine_spark.arima.intermittent import fit_intermittent, is_intermittent
from dlmine_spark.arima.model import fit_model
from dlmine_spark.arima.other_engine import fit_auto_arima
from dlmine_spark.arima.paths import (
    ARIMA,
    ARIMA_NAIVE,
    ARIMA_SIMPLE,
    STANDARD_LEVELS,
    Forecaster,
    Paths,
    Wanted,
    future_open,
)
from dlmine_spark.arima.smoothing import fit_smoothing
from dlmine_spark.arima.stored import NotTheSame, p_of_newer_errors, restored
from dlmine_spark.arima.timeline import ForecastPlan, Timeline
from dlmine_spark.config import ArimaConfig
from dlmine_spark.frequency import Moment
from dlmine_spark.naive import naive_interval, naive_sigma, seasonal_naive

SIMPLE_ORDER = (0, 1, 1)
DRIFTED = 0.01
"""A stored model whose newer errors are less likely than this is not used any more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of one series at one cutoff.

    Attributes:
        timeline: the series.
        cutoff: last step that may be learned from.
        origins: steps to forecast from, at or after the cutoff.
        config: limits of the search.
        season_length: steps in a season.
        plan: horizon and what is known of the future.
        deadline: on the monotonic clock.
    """

    timeline: Timeline
    cutoff: int
    origins: list[int]
    config: ArimaConfig
    season_length: int
    plan: ForecastPlan
    deadline: float

    @property
    def wanted(self) -> Wanted:
        """The forecasts."""
        levels = tuple(dict.fromkeys((*STANDARD_LEVELS, *self.config.levels)))
        return Wanted(self.origins, self.plan.horizon, self.plan.open_is_known, levels)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What made the forecasts of one series at one cutoff, and why it was not an ARIMA.

    ``error`` is that of the first model that was tried; ``paths`` is None where no value is known.
    """

    made_by: Forecaster | None
    paths: Paths | None
    status: str
    error: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Naive:
    """The seasonal naive forecast, which needs a single known value."""

    season_length: int

    name = ARIMA_NAIVE

    def paths(self, timeline: Timeline, wanted: Wanted) -> Paths:
        """The last known season from every origin."""
        m = self.season_length
        opens = future_open(timeline, wanted, m)
        seen = [timeline.y[: origin + 1] for origin in wanted.origins]
        y_hat = np.array([seasonal_naive(y, future, m) for y, future in zip(seen, opens, strict=True)])
        rows = list(zip(seen, y_hat, opens, strict=True))
        bounds = {}
        for level in wanted.levels:
            lower, upper = zip(*(naive_interval(y, made, future, m, level) for y, made, future in rows), strict=True)
            bounds[level] = np.array(lower), np.array(upper)
        return Paths(y_hat, bounds, sigma=np.array([naive_sigma(y, m) for y in seen]))

    def columns(self) -> Mapping[str, object]:
        """It has no parameters."""
        return {}


def _suitable(asked: Asked) -> Forecaster:
    first = int(asked.timeline.steps_used(asked.cutoff, asked.config)[0])
    y = asked.timeline.y[first : asked.cutoff + 1]
    if asked.config.order is None and is_intermittent(y, asked.season_length):
        return fit_intermittent(y, asked.season_length)
    if asked.config.engine == "statsforecast":
        return fit_auto_arima(asked.timeline, asked.cutoff, asked.config, asked.season_length)
    fit = fit_model(asked.timeline, asked.cutoff, asked.config, asked.season_length, asked.deadline)
    return Arima(fit, ARIMA)


def _simple(asked: Asked) -> Forecaster:
    bare = replace(asked.timeline, covariates=pd.DataFrame(index=asked.timeline.covariates.index))
    config = asked.config.model_copy(
        update={"order": SIMPLE_ORDER, "fourier": 0, "season_lengths": (), "transform": "none"}
    )
    return Arima(fit_model(bare, asked.cutoff, config, asked.season_length, asked.deadline), ARIMA_SIMPLE)


def _smoothing(asked: Asked) -> Forecaster:
    return fit_smoothing(asked.timeline, asked.cutoff, asked.season_length, asked.config.max_history)


def _naive(asked: Asked) -> Forecaster:
    return Naive(asked.season_length)


Maker = Callable[[Asked], Forecaster]
LAST_RESORT: tuple[Maker, ...] = (_naive,)
SHORT_CHAIN: tuple[Maker, ...] = (_smoothing, *LAST_RESORT)
WHOLE_CHAIN: tuple[Maker, ...] = (_suitable, _simple, *SHORT_CHAIN)


def make_paths(asked: Asked) -> Outcome:
    """The forecasts of the first model of the chain that gives usable ones.

    A model that fails, whatever its reason, must not end the job of all other series: what it raised is the error of
    the outcome.
    """
    started = time.monotonic()
    status, errors = "ok", list[str]()
    config = asked.config
    known = asked.timeline.steps_used(asked.cutoff, config).size
    chain = WHOLE_CHAIN
    if known < config.min_history:
        status = "too_short"
        errors.append(
            f"{known} known values in the last {config.max_history} steps up to the cutoff, arima.min_history is "
            f"{config.min_history}"
        )
        chain = SHORT_CHAIN
    elif started > asked.deadline:
        status, chain = "timeout", LAST_RESORT
        errors.append(f"arima.timeout of {config.timeout:g} s was used up by earlier cutoffs")
    for make in chain:
        if status == "timeout" and make is not _naive:
            continue
        try:
            model = make(asked)
            paths = model.paths(asked.timeline, asked.wanted)
        except TimeIsUp:
            status = "timeout"
            errors.append(f"more than arima.timeout of {config.timeout:g} s")
            continue
        except Exception as problem:
            status = "fallback" if status == "ok" else status
            errors.append(_in_one_line(problem))
            continue
        if paths.is_usable:
            return Outcome(model, paths, status, next(iter(errors), None), time.monotonic() - started)
        status = "fallback" if status == "ok" else status
        errors.append(f"a forecast of {model.name} is no number")
    # Without a single known value even the naive forecast is none.
    return Outcome(None, None, "failed", next(iter(errors), None), time.monotonic() - started)


def _in_one_line(problem: Exception) -> str:
    return " ".join(f"{type(problem).__name__}: {problem}".split())


def apply_stored(asked: Asked, stored: Mapping[str, Any], fit_cutoff: Moment) -> tuple[Outcome | None, str | None]:
    """Forecasts with parameters that are there already.

    Args:
        asked: as for ``make_paths``.
        stored: row of ``gold.arima_models``, of an ARIMA.
        fit_cutoff: that of the row.

    Returns:
        None, and why a model has to be fitted instead: the series is not as it was, its errors since the fit are larger
        than the model foretold, or the forecast is no number.
    """
    started = time.monotonic()
    timeline, cutoff = asked.timeline, asked.cutoff
    fitted = timeline.index(fit_cutoff)
    if fitted is None:
        return None, "the series begins after the fit"
    try:
        fit = restored(stored, timeline, cutoff, asked.config)
        if p_of_newer_errors(fit, timeline, fitted, cutoff) < DRIFTED:
            return None, "its errors since the fit are larger than the model foretold"
        model = Arima(fit, ARIMA)
        paths = model.paths(timeline, asked.wanted)
    except NotTheSame as problem:
        return None, str(problem)
    except Exception as problem:
        # As in ``make_paths``: whatever it is, the other series go on, and this one is fitted anew.
        return None, _in_one_line(problem)
    if not paths.is_usable:
        return None, "the forecast is no number"
    return Outcome(model, paths, "ok", None, time.monotonic() - started), None
