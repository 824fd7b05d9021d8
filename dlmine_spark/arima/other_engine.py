"""statsforecast's AutoARIMA behind the same seam as our own search: ``arima.engine=statsforecast``.

Optional and slower; for those who have to stay with it, or want to compare. Season by seasonal ARIMA terms, the
known-future covariates as regressors, no transformation.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlmine_spark.arima.design import covariate_terms, independent_columns
from dlmine_spark.arima.paths import ARIMA, Paths, Wanted, future_open
from dlmine_spark.arima.timeline import Bools, Floats, Steps, Timeline
from dlmine_spark.config import ArimaConfig
from dlmine_spark.errors import EnvironmentProblem


def require_statsforecast(config: ArimaConfig) -> None:
    """Refuse an engine that is not there before any series is read.

    Raises:
        EnvironmentProblem: ``arima.engine`` is statsforecast, which is not installed.
    """
    if config.engine == "statsforecast" and importlib.util.find_spec("statsforecast") is None:
        raise EnvironmentProblem(
            "arima.engine is statsforecast, which is not installed: pip install statsforecast (on the workers too), "
            "or set arima.engine=statsmodels"
        )


@dataclass(frozen=True, slots=True)
class AutoArima:
    """A fitted AutoARIMA with its regressors for all steps."""

    model: Any
    regressors: Floats
    start: int
    season_length: int
    is_non_negative: bool
    dropped: tuple[str, ...]

    name = ARIMA

    def paths(self, timeline: Timeline, wanted: Wanted) -> Paths:
        """The fitted coefficients applied to the known values up to each origin."""
        is_open = future_open(timeline, wanted, self.season_length)
        ends = [f"{side}-{level:g}" for level in wanted.levels for side in ("lo", "hi")]
        rows = []
        for origin, opens in zip(wanted.origins, is_open, strict=True):
            known = self.start + np.flatnonzero(np.isfinite(timeline.y[self.start : origin + 1]))
            steps = origin + 1 + np.flatnonzero(opens)
            made = self._forecast(timeline.y[known], known, steps, wanted.levels) if steps.size else {}
            rows.append([_spread(made.get(name), opens) for name in ("mean", *ends)])
        floor = 0.0 if self.is_non_negative else -np.inf
        y_hat, *bounds = np.maximum(np.array(rows), floor).transpose(1, 0, 2)
        pairs = zip(bounds[::2], bounds[1::2], strict=True)
        sigma = np.full(len(wanted.origins), float(np.sqrt(self.model.model_["sigma2"])))
        return Paths(y_hat, dict(zip(wanted.levels, pairs, strict=True)), sigma)

    def _forecast(self, y: Floats, known: Steps, steps: Steps, levels: tuple[float, ...]) -> Mapping[str, Floats]:
        has_regressors = self.regressors.shape[1] > 0
        made: Mapping[str, Floats] = self.model.forward(
            y=y,
            h=steps.size,
            X=self.regressors[known] if has_regressors else None,
            X_future=self.regressors[steps] if has_regressors else None,
            # As whole numbers where they are: the library names its columns by them.
            level=[int(level) if level == int(level) else level for level in levels],
        )
        return made

    def columns(self) -> Mapping[str, object]:
        """Orders and coefficients, by statsforecast's names."""
        p, q, seasonal_p, seasonal_q, _, d, seasonal_d = (int(order) for order in self.model.model_["arma"])
        return {
            "p": p,
            "d": d,
            "q": q,
            "seasonal_p": seasonal_p,
            "seasonal_d": seasonal_d,
            "seasonal_q": seasonal_q,
            "m": self.season_length,
            "aicc": float(self.model.model_["aicc"]),
            "sigma2": float(self.model.model_["sigma2"]),
            "params": {str(name): float(value) for name, value in self.model.model_["coef"].items()},
            "diagnostics": {f"dropped.{name}": 1.0 for name in self.dropped},
        }


def fit_auto_arima(timeline: Timeline, cutoff: int, config: ArimaConfig, season_length: int) -> AutoArima:
    """AutoARIMA on the known values of the last ``max_history`` steps up to a cutoff; nothing can end it early."""
    from statsforecast.models import AutoARIMA

    known = timeline.steps_used(cutoff, config)
    design = covariate_terms(timeline.covariates, known)
    values = design.values
    # A constant or collinear regressor has no coefficient; the intercept counts among the others.
    used = independent_columns(np.column_stack([np.ones(known.size), values[known]]))[1:] - 1
    model = AutoARIMA(season_length=season_length)
    y = timeline.y[known]
    model.fit(y=y, X=values[known][:, used] if used.size else None)
    dropped = tuple(name for column, name in enumerate(design.names) if column not in used)
    return AutoArima(model, values[:, used], int(known[0]), season_length, bool(y.min() >= 0), dropped)


def _spread(values: Floats | None, is_open: Bools) -> Floats:
    """Values of the open steps at their places, 0 at the closed ones."""
    spread = np.zeros(is_open.size)
    if values is not None:
        spread[is_open] = values
    return spread
