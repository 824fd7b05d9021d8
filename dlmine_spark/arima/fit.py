"""Everything that is asked of one series: its fits, its forecasts, and a row that says so when there are none.

Plain pandas: this runs inside Spark's Python workers, and in tests without a JVM.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd

from dlmine_spark import schemas as s
from dlmine_spark.arima.forecast import Paths, forecast
from dlmine_spark.arima.model import Fit, TimeIsUp, fit_model
from dlmine_spark.arima.timeline import (
    ForecastPlan,
    Timeline,
    UnusableSeries,
    feature_origins,
    read_timeline,
)
from dlmine_spark.config import ArimaConfig
from dlmine_spark.naive import expected_open, naive_interval, naive_sigma, seasonal_naive

ARIMA, ARIMA_FALLBACK = "arima", "arima_fallback"
"""Names in ``gold.forecasts``: made by an ARIMA; made by the seasonal naive that stands in where no ARIMA could."""

ORIGIN, FIT_CUTOFF, PATH, SIGMA = "origin", "fit_cutoff", "path", "sigma"
BOUNDS = (s.LO_80, s.HI_80, s.LO_95, s.HI_95)
FIT_COLUMNS: dict[str, str] = {
    name: type_ for name, type_ in s.ARIMA_MODELS.columns.items() if name not in (s.UNIQUE_ID, s.CUTOFF)
}
RESULT_COLUMNS: dict[str, str] = {
    s.UNIQUE_ID: "string",
    ORIGIN: "date",
    FIT_CUTOFF: "date",
    s.MODEL: "string",
    PATH: "array<double>",
    **dict.fromkeys(BOUNDS, "array<double>"),
    SIGMA: "double",
    **FIT_COLUMNS,
}
"""One row per series and origin. The columns of ``gold.arima_models`` are filled where the origin is the cutoff of a
fit; ``path`` and its bounds are null only where the series has no known value at all by then."""

_INTEGERS = [name for name, type_ in FIT_COLUMNS.items() if type_ == "int"]
FEWEST_SHARE = 1 / 3
"""An origin made for the network only must see this share of the values known at the first cutoff."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A fit at one cutoff, or why there is none."""

    cutoff: date
    fit: Fit | None
    status: str
    error: str | None
    seconds: float


def fit_series(series: pd.DataFrame, config: ArimaConfig, plan: ForecastPlan) -> pd.DataFrame:
    """Fit one series at the earliest origin, at each backtest cutoff and at the end, and forecast from every origin.

    An origin uses the newest fit at or before it. Nothing is lost: a series too short, broken or too slow gets the
    seasonal naive forecast under its own name and a status that says why.

    Args:
        series: rows of one series as ``read_timeline`` wants them.
        config: limits of the search.
        plan: horizon and cutoffs.

    Returns:
        ``RESULT_COLUMNS``: one row per origin, every cutoff among them.
    """
    unique_id = str(series[s.UNIQUE_ID].iloc[0]) if len(series) and s.UNIQUE_ID in series else ""
    try:
        timeline = read_timeline(series, plan)
    except UnusableSeries as problem:
        outcomes = [_Outcome(cutoff, None, "failed", str(problem), 0.0) for cutoff in plan.cutoffs]
        return _frame([_row(unique_id, outcome.cutoff, outcome, None, 0) for outcome in outcomes])
    season_length = plan.frequency.season_length if config.season_length == "auto" else config.season_length
    deadline = time.monotonic() + config.timeout
    origins = _usable_origins(timeline, config, plan)
    fit_cutoffs = sorted({origins[0], *plan.cutoffs})
    rows: list[dict[str, object]] = []
    for cutoff, following in pairwise([*fit_cutoffs, date.max]):
        outcome = _fit_at(timeline, cutoff, config, season_length, deadline)
        served = [origin for origin in origins if cutoff <= origin < following]
        rows.extend(_forecast_from(unique_id, timeline, outcome, served, season_length, plan))
    return _frame(rows)


def _usable_origins(timeline: Timeline, config: ArimaConfig, plan: ForecastPlan) -> list[date]:
    """Every cutoff, and those origins for the network that see enough of the series for a fit worth having."""
    first_cutoff = timeline.index(plan.cutoffs[0])
    known = timeline.known_until(first_cutoff) if first_cutoff is not None else 0
    enough = max(config.min_history, FEWEST_SHARE * known)

    def is_usable(origin: date) -> bool:
        index = timeline.index(origin)
        return index is not None and timeline.known_until(index) >= enough

    return [origin for origin in feature_origins(plan, config) if origin in plan.cutoffs or is_usable(origin)]


def _fit_at(timeline: Timeline, cutoff: date, config: ArimaConfig, season_length: int, deadline: float) -> _Outcome:
    started = time.monotonic()
    index = timeline.index(cutoff)
    known = timeline.known_until(index) if index is not None else 0
    fit: Fit | None = None
    error: str | None = None
    if index is None or known < config.min_history:
        status = "too_short" if known else "failed"
        error = f"{known} known values up to {cutoff}, arima.min_history is {config.min_history}"
    elif started > deadline:
        status, error = "timeout", f"arima.timeout of {config.timeout:g} s was used up by earlier cutoffs"
    else:
        try:
            fit = fit_model(timeline, index, config, season_length, deadline)
            status = "ok"
        except TimeIsUp:
            status, error = "timeout", f"more than arima.timeout of {config.timeout:g} s"
        except Exception as problem:
            # Whatever the numbers of one series provoke in numpy, scipy or statsmodels must not end the job of all.
            status, error = "fallback", f"{type(problem).__name__}: {problem}"
    return _Outcome(cutoff, fit, status, error, time.monotonic() - started)


def _forecast_from(
    unique_id: str,
    timeline: Timeline,
    outcome: _Outcome,
    origins: list[date],
    season_length: int,
    plan: ForecastPlan,
) -> list[dict[str, object]]:
    """Rows of the origins that one fit serves."""
    indices = [index for index in map(timeline.index, origins) if index is not None]
    paths: Paths | None = None
    if outcome.fit is not None:
        try:
            paths = forecast(outcome.fit, timeline, indices, plan.horizon, open_is_known=plan.open_is_known)
        except (ArithmeticError, ValueError, np.linalg.LinAlgError) as problem:
            outcome = _Outcome(outcome.cutoff, None, "fallback", str(problem), outcome.seconds)
    if paths is None:
        paths = _naive_paths(timeline, indices, season_length, plan)
    if len(indices) < len(origins):
        # The series starts after these origins, so nothing can be said about it there.
        return [_row(unique_id, origin, outcome, None, 0) for origin in origins]
    return [_row(unique_id, origin, outcome, paths, at) for at, origin in enumerate(origins)]


def _naive_paths(timeline: Timeline, origins: list[int], season_length: int, plan: ForecastPlan) -> Paths:
    """Seasonal naive forecasts, for what no ARIMA could be fitted to."""
    parts = []
    for origin in origins:
        known = timeline.y[: origin + 1]
        future = expected_open(timeline.is_open, origin, plan.horizon, season_length, is_known=plan.open_is_known)
        y_hat = seasonal_naive(known, future, season_length)
        interval_80, interval_95 = (naive_interval(known, y_hat, future, season_length, level) for level in (80, 95))
        parts.append((y_hat, *interval_80, *interval_95, naive_sigma(known, season_length)))
    columns = list(zip(*parts, strict=True)) or [()] * 6
    return Paths(*(np.array(column, dtype=np.float64) for column in columns))


def _row(unique_id: str, origin: date, outcome: _Outcome, paths: Paths | None, at: int) -> dict[str, object]:
    """One row of the result; without paths, or with a path that is no number, the path is null."""
    row: dict[str, object] = dict.fromkeys(RESULT_COLUMNS)
    row |= {s.UNIQUE_ID: unique_id, ORIGIN: origin, FIT_CUTOFF: outcome.cutoff}
    if paths is not None and np.isfinite(paths.y_hat[at]).all():
        row |= {s.MODEL: ARIMA if outcome.fit is not None else ARIMA_FALLBACK, PATH: paths.y_hat[at].tolist()}
        row |= {bound: getattr(paths, bound)[at].tolist() for bound in BOUNDS}
        row[SIGMA] = float(paths.sigma[at])
    if origin == outcome.cutoff:
        row |= {"status": outcome.status, "error": outcome.error, "seconds": outcome.seconds}
        row |= _fit_columns(outcome.fit)
    return row


def _fit_columns(fit: Fit | None) -> dict[str, object]:
    """The parameters of a fit as columns of ``gold.arima_models``."""
    if fit is None:
        return {}
    named = {
        **{f"ar.{lag}": value for lag, value in enumerate(fit.arma.ar, start=1)},
        **{f"ma.{lag}": value for lag, value in enumerate(fit.arma.ma, start=1)},
        **{f"seasonal_ar.{lag}": value for lag, value in enumerate(fit.arma.seasonal_ar, start=1)},
        **{f"seasonal_ma.{lag}": value for lag, value in enumerate(fit.arma.seasonal_ma, start=1)},
        **{f"x.{name}": float(value) for name, value in zip(fit.design.names, fit.coefficients, strict=True)},
    }
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
        "params": named,
        "diagnostics": fit.diagnostics,
    }


def _frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS)).astype(dict.fromkeys(_INTEGERS, "Int32"))
