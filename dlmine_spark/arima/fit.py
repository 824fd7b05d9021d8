"""Everything that is asked of one series: its fits, its forecasts, and a row that says so when there are none.

Plain pandas: this runs inside Spark's Python workers, and in tests without a JVM.
"""

from __future__ import annotations

import time
from itertools import zip_longest

import numpy as np
import pandas as pd

from dlmine_spark import schemas as s
from dlmine_spark.arima.chain import Asked, Outcome, apply_stored, make_paths
from dlmine_spark.arima.decompose import Parts, decompose
from dlmine_spark.arima.design import blanks_ahead
from dlmine_spark.arima.forecast import Arima
from dlmine_spark.arima.paths import ARIMA
from dlmine_spark.arima.stored import BEGINS, begins
from dlmine_spark.arima.timeline import (
    ForecastPlan,
    Timeline,
    UnusableSeries,
    feature_origins,
    read_timeline,
)
from dlmine_spark.config import ArimaConfig
from dlmine_spark.frequency import Moment
from dlmine_spark.moments import moments_of

ORIGIN, FIT_CUTOFF, PATH, SIGMA = "origin", "fit_cutoff", "path", "sigma"
REFITTED = "refitted"
OWN_ORIGIN, OWN_FIT_CUTOFF, AHEAD = "own_origin", "own_fit_cutoff", "ahead"
"""The series' own moments: its last ones up to the two above, and those of the steps after a cutoff."""
BOUNDS = {s.LO_80: (80.0, 0), s.HI_80: (80.0, 1), s.LO_95: (95.0, 0), s.HI_95: (95.0, 1)}
"""Level and end of each column of bounds."""
LOWER, UPPER = "lower", "upper"
"""Bounds of the further levels asked for, in their order; one array of steps ahead for each."""
KNOWN, PARTS = "known", "parts"
"""Of the fit at the final cutoff, if asked for: moments of the known values, and for each ``PART_NAMES``."""
PART_NAMES = (s.Y, "fitted", *Parts._fields)
FIT_COLUMNS: dict[str, str] = {
    name: type_ for name, type_ in s.ARIMA_MODELS.columns.items() if name not in (s.UNIQUE_ID, s.CUTOFF)
}
RESULT_COLUMNS: dict[str, str] = {
    s.UNIQUE_ID: "string",
    ORIGIN: "date",
    FIT_CUTOFF: "date",
    OWN_ORIGIN: "date",
    OWN_FIT_CUTOFF: "date",
    AHEAD: "array<date>",
    s.MODEL: "string",
    PATH: "array<double>",
    **dict.fromkeys(BOUNDS, "array<double>"),
    LOWER: "array<array<double>>",
    UPPER: "array<array<double>>",
    SIGMA: "double",
    KNOWN: "array<date>",
    PARTS: "array<array<double>>",
    **FIT_COLUMNS,
}
"""One row per series and origin, of a panel of dates (else see ``result_types``). The columns of ``gold.arima_models``
are filled where the origin is the cutoff of a fit; ``path`` and its bounds are null only where the series has no known
value at all by then."""

_INTEGERS = [name for name, type_ in FIT_COLUMNS.items() if type_ == "int"]
FEWEST_SHARE = 1 / 3
"""An origin made for the network only must see this share of the values known at the first cutoff."""


def fit_series(series: pd.DataFrame, config: ArimaConfig, plan: ForecastPlan) -> pd.DataFrame:
    """Fit one series at the earliest origin, at each backtest cutoff and at the end, and forecast from every origin.

    An origin uses the newest fit at or before it. Nothing is lost: a series too short, broken or too slow gets the
    forecast of a simpler model under that one's name, and a status that says why.

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
        broken = Outcome(None, None, "failed", str(problem), 0.0)
        return _frame([_row(unique_id, cutoff, cutoff, broken, 0, ()) for cutoff in plan.cutoffs])
    season_length = plan.season_length(config)
    deadline = time.monotonic() + config.timeout
    origins = _usable_origins(timeline, config, plan)
    fit_cutoffs = sorted({origins[0], *plan.cutoffs})
    rows: list[dict[str, object]] = []
    for cutoff, following in zip_longest(fit_cutoffs, fit_cutoffs[1:]):
        served = [origin for origin in origins if cutoff <= origin and (following is None or origin < following)]
        indices = [index for index in map(timeline.index, served) if index is not None]
        cutoff_index = timeline.index(cutoff)
        if cutoff_index is None or len(indices) < len(served):
            outcome = Outcome(None, None, "failed", f"the series starts after {cutoff}", 0.0)
        else:
            outcome = make_paths(Asked(timeline, cutoff_index, indices, config, season_length, plan, deadline))
        for at, origin in enumerate(served):
            row = _row(unique_id, origin, cutoff, outcome, at, config.levels)
            if cutoff_index is not None:
                row = _with_more_told(row, timeline, cutoff_index, plan)
            own = _own_moments(timeline, origin, cutoff, plan) if outcome.paths is not None else {}
            rows.append(row | own)
            if config.fitted and origin == cutoff == plan.final:
                rows[-1] |= _taken_apart(outcome, timeline, cutoff_index)
    return _frame(rows)


def predict_series(series: pd.DataFrame, models: pd.DataFrame, config: ArimaConfig, plan: ForecastPlan) -> pd.DataFrame:
    """Forecast one series from the end of its data with parameters that are there; fit it anew only where it has to be.

    Args:
        series: rows of one series as ``read_timeline`` wants them; empty where the panel has it no more.
        models: its newest row of ``gold.arima_models`` with orders; empty where it has none.
        config: limits of the search, if there has to be one.
        plan: horizon and final cutoff; the others are not asked for.

    Returns:
        ``RESULT_COLUMNS`` and ``refitted``: one row, none for an empty series. The latter says why a model was fitted,
        and is null where none was; without it the columns of ``gold.arima_models`` are null, unless no value came
        since the fit.
    """
    if series.empty:
        return _frame([]).assign(**{REFITTED: pd.Series(dtype=object)})
    unique_id = str(series[s.UNIQUE_ID].iloc[0])
    try:
        timeline = read_timeline(series, plan)
        index = timeline.index(plan.final)
        if index is None:
            raise UnusableSeries(f"the series starts after {plan.final}")
    except UnusableSeries as problem:
        broken = Outcome(None, None, "failed", str(problem), 0.0)
        return _frame([_row(unique_id, plan.final, plan.final, broken, 0, ())]).assign(**{REFITTED: str(problem)})
    season_length = plan.season_length(config)
    asked = Asked(timeline, index, [index], config, season_length, plan, time.monotonic() + config.timeout)
    outcome: Outcome | None = None
    reason: str | None = "there is no model of it yet"
    cutoff = plan.final
    for stored, fit_cutoff in zip(models.to_dict("records"), moments_of(models[s.CUTOFF]), strict=True):
        outcome, reason = apply_stored(asked, {str(name): value for name, value in stored.items()}, fit_cutoff)
        if outcome is not None:
            cutoff = fit_cutoff
    if outcome is None:
        outcome = make_paths(asked)
    row = _row(unique_id, plan.final, cutoff, outcome, 0, config.levels)
    own = _own_moments(timeline, plan.final, cutoff, plan) if outcome.paths is not None else {}
    return _frame([_with_more_told(row, timeline, index, plan) | own]).assign(**{REFITTED: reason})


def _usable_origins(timeline: Timeline, config: ArimaConfig, plan: ForecastPlan) -> list[Moment]:
    """Every cutoff, and those origins for the network that see enough of the series for a fit worth having."""
    first_cutoff = timeline.index(plan.cutoffs[0])
    known = timeline.known_until(first_cutoff) if first_cutoff is not None else 0
    enough = max(config.min_history, FEWEST_SHARE * known)

    def is_usable(origin: Moment) -> bool:
        index = timeline.index(origin)
        return index is not None and timeline.known_until(index) >= enough

    return [origin for origin in feature_origins(plan, config) if origin in plan.cutoffs or is_usable(origin)]


def _own_moments(timeline: Timeline, origin: Moment, fit_cutoff: Moment, plan: ForecastPlan) -> dict[str, object]:
    """An origin and the fit it uses in the series' own moments; of a cutoff, those of its forecast too."""
    index, fitted = timeline.index(origin), timeline.index(fit_cutoff)
    if index is None or fitted is None:
        return {}
    ahead = list(timeline.dates[index + 1 : index + 1 + plan.horizon]) if origin in plan.cutoffs else None
    return {OWN_ORIGIN: timeline.dates[index], OWN_FIT_CUTOFF: timeline.dates[fitted], AHEAD: ahead}


def _row(
    unique_id: str, origin: Moment, cutoff: Moment, outcome: Outcome, at: int, levels: tuple[float, ...]
) -> dict[str, object]:
    """One row of the result; without a usable forecast the path is null."""
    row: dict[str, object] = dict.fromkeys(RESULT_COLUMNS)
    row |= {s.UNIQUE_ID: unique_id, ORIGIN: origin, FIT_CUTOFF: cutoff}
    if outcome.paths is not None and outcome.made_by is not None:
        row |= {s.MODEL: outcome.made_by.name, PATH: outcome.paths.y_hat[at].tolist()}
        bounds = outcome.paths.bounds
        row |= {name: bounds[level][end][at].tolist() for name, (level, end) in BOUNDS.items()}
        row |= {name: [bounds[level][end][at].tolist() for level in levels] for end, name in enumerate((LOWER, UPPER))}
        row[SIGMA] = float(outcome.paths.sigma[at])
    if origin == cutoff:
        row |= {} if outcome.made_by is None else outcome.made_by.columns()
        row |= {"status": outcome.status, "error": outcome.error, "seconds": outcome.seconds}
    return row


def _taken_apart(outcome: Outcome, timeline: Timeline, cutoff: int | None) -> dict[str, object]:
    """What an ARIMA makes of the values it was fitted on; nothing of another model."""
    if cutoff is None or not isinstance(outcome.made_by, Arima):
        return {}
    made = decompose(outcome.made_by.fit, timeline, cutoff)
    values = np.column_stack([made.y, made.fitted, *made.parts])
    return {KNOWN: [timeline.dates[step] for step in made.steps], PARTS: values.tolist()}


def _with_more_told(row: dict[str, object], timeline: Timeline, cutoff: int, plan: ForecastPlan) -> dict[str, object]:
    """A row that says of its model, if it tells of one, which day the series began on and what it had to guess."""
    told = row["diagnostics"]
    if not isinstance(told, dict):
        return row
    blanks = blanks_ahead(timeline, cutoff, plan.horizon) if row[s.MODEL] == ARIMA else {}
    guessed = {f"blank.{name}": float(count) for name, count in blanks.items()}
    return row | {"diagnostics": {**told, BEGINS: begins(timeline), **guessed}}


def result_types(moment_type: str) -> dict[str, str]:
    """``RESULT_COLUMNS`` of a panel whose moments have that type."""
    moments = dict.fromkeys((ORIGIN, FIT_CUTOFF, OWN_ORIGIN, OWN_FIT_CUTOFF), moment_type)
    return RESULT_COLUMNS | moments | dict.fromkeys((AHEAD, KNOWN), f"array<{moment_type}>")


def _frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(RESULT_COLUMNS))
    # Column by column: one astype of them all would copy every other column, too, which takes longer than a fit.
    for name in _INTEGERS:
        frame[name] = frame[name].astype("Int32")
    return frame
