"""Regressors of one series: level, season, yearly waves and the covariates that are known ahead.

Everything that is learned (levels of a category, medians, which columns are redundant) is learned on steps up to the
cutoff.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from dlmine_spark.arima.timeline import Floats, Steps, Timeline
from dlmine_spark.config import ArimaConfig
from dlmine_spark.frequency import Moment, calendar_days

INTERCEPT = "(intercept)"
"""As the trend's, no name that a covariate has."""
MAX_DUMMIES = 24
"""Longer seasons than this have waves instead of one level a step."""
MAX_LEVELS = 10
"""Most frequent values of a text covariate that get an indicator."""
DAYS_A_YEAR, A_WEEK = 365.25, 7
OBSERVATIONS_A_REGRESSOR = 4
TREND = "(trend)"
SEASON, WAVE = "season.", "wave."
STEPS_A_DAY = (24, 48, 96)
"""Season lengths that are a day of hours, half hours or quarters of an hour."""
MAX_PAIRS = 20
"""Pairs of waves of a further season at most."""
OPTIONAL = (TREND,)
"""Regressors that need not be told as dropped: nobody asked for them."""


@dataclass(frozen=True, slots=True)
class Design:
    """Regressors by step (rows) with their names (columns), and the covariates that were left out."""

    names: tuple[str, ...]
    values: Floats
    dropped: tuple[str, ...] = ()

    def only(self, names: Collection[str]) -> Design:
        """The regressors of these names."""
        columns = [column for column, name in enumerate(self.names) if name in names]
        return Design(tuple(self.names[column] for column in columns), self.values[:, columns], self.dropped)

    def without(self, *names: str) -> Design:
        """All but the regressors of these names."""
        return self.only([name for name in self.names if name not in names])

    def optional_blocks(self) -> list[list[tuple[str, ...]]]:
        """Regressors that the data may do without: lists of groups, of which some first ones may be kept."""
        waves: dict[str, dict[int, list[str]]] = {}
        for name in self.names:
            if name.startswith(WAVE):
                _, period, _, k = name.split(".")
                waves.setdefault(period, {}).setdefault(int(k), []).append(name)
        blocks = [[tuple(pairs[k]) for k in sorted(pairs)] for pairs in waves.values()]
        if TREND in self.names:
            blocks.append([(TREND,)])
        season = tuple(name for name in self.names if name.startswith(SEASON))
        return [*blocks, [season]] if season else blocks


def season_terms(length: int, season_length: int) -> Design:
    """An indicator for every step of a season but the first; steps are counted from the start of the series."""
    phases = np.arange(length) % season_length
    return Design(
        tuple(f"season.{phase}" for phase in range(1, season_length)),
        (phases[:, None] == np.arange(1, season_length)).astype(np.float64),
    )


def yearly_terms(dates: tuple[Moment, ...], pairs: int) -> Design:
    """Sine and cosine waves of the day of the year."""
    days = np.array(calendar_days(dates), dtype=np.float64)
    return _waves("year", days / DAYS_A_YEAR, range(1, pairs + 1))


def wave_terms(length: int, period: int, multiples: Sequence[int]) -> Design:
    """Sine and cosine waves of a season too long for one level a step.

    Args:
        length: steps of the series.
        period: steps in the season.
        multiples: how often each pair of waves swings in a season.
    """
    return _waves(str(period), np.arange(length) / period, multiples)


def _waves(period: str, seasons: Floats, multiples: Sequence[int]) -> Design:
    angles = 2 * np.pi * seasons[:, None] * np.array(multiples, dtype=np.float64)
    return Design(
        tuple(f"{WAVE}{period}.{wave}.{k}" for wave in ("sin", "cos") for k in multiples),
        np.hstack([np.sin(angles), np.cos(angles)]),
    )


def covariate_terms(covariates: pd.DataFrame, seen: Steps) -> Design:
    """Numbers as they are (a blank is their median), text as indicators of its most frequent values.

    Args:
        covariates: one row per step.
        seen: steps that may be learned from.
    """
    names: list[str] = []
    columns: list[Floats] = []
    for name in sorted(covariates.columns):
        column = covariates[name]
        if pd.api.types.is_numeric_dtype(column):
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
            finite = np.isfinite(values)
            typical = np.median(values[seen][finite[seen]]) if finite[seen].any() else 0.0
            names.append(name)
            columns.append(np.where(finite, values, typical))
            continue
        counts = column.iloc[seen].value_counts()
        frequent = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:MAX_LEVELS]
        for level, _ in frequent:
            names.append(f"{name}={level}")
            columns.append((column == level).to_numpy().astype(np.float64))
    values = np.column_stack(columns) if columns else np.empty((len(covariates), 0))
    return Design(tuple(names), values)


def blanks_ahead(timeline: Timeline, cutoff: int, horizon: int) -> dict[str, int]:
    """At how many of the steps after a cutoff a number among the covariates is not known, by name; zeros left out."""
    ahead = timeline.covariates.iloc[cutoff + 1 : cutoff + 1 + horizon]
    numbers = ahead.select_dtypes("number").to_numpy(dtype=np.float64, na_value=np.nan)
    counts = np.count_nonzero(~np.isfinite(numbers), axis=0)
    names = ahead.select_dtypes("number").columns
    return {str(name): int(count) for name, count in zip(names, counts, strict=True) if count}


def make_design(timeline: Timeline, cutoff: int, *, season_length: int, config: ArimaConfig, seasonal: bool) -> Design:
    """The regressors of a series for all its steps, in the order in which they are kept when few values are known.

    Args:
        timeline: the series.
        cutoff: last step that may be learned from.
        season_length: steps in a season.
        config: pairs of yearly waves, further seasons, and how many steps are used.
        seasonal: whether the season is modelled by regressors at all (not where it is differenced away).
    """
    length = len(timeline.dates)
    known = timeline.steps_used(cutoff, config)
    span = int(known[-1] - known[0] + 1) if known.size else 0
    limit = max(2, known.size // OBSERVATIONS_A_REGRESSOR)
    days_a_step = _days_a_step(timeline.dates)
    parts = [Design((INTERCEPT,), np.ones((length, 1)))]
    if seasonal and 1 < season_length <= MAX_DUMMIES and span >= 2 * season_length:
        parts.append(season_terms(length, season_length))
    # The waves of a year follow the calendar, see below; other long seasons are known by their number of steps only.
    is_year = abs(season_length * days_a_step - DAYS_A_YEAR) < A_WEEK
    if seasonal and season_length > MAX_DUMMIES and not is_year and span >= 2 * season_length:
        pairs = min(MAX_PAIRS, (season_length - 1) // 2, max(1, limit // 4))
        parts.append(wave_terms(length, season_length, range(1, pairs + 1)))
    parts.append(covariate_terms(timeline.covariates, known))
    parts.append(Design((TREND,), np.arange(length, dtype=np.float64)[:, None]))
    days = calendar_days([timeline.dates[step] for step in known[[0, -1]]]) if known.size else [0.0, 0.0]
    days_known = days[1] - days[0]
    # Monthly indicators already span every yearly wave; the collinear ones would only be dropped again.
    is_yearly_season = 2 < season_length <= MAX_DUMMIES and days_a_step > 8
    if seasonal and config.fourier > 0 and days_known >= 2 * DAYS_A_YEAR - 8 and not is_yearly_season:
        parts.append(yearly_terms(timeline.dates, config.fourier))
    for period in further_seasons(season_length, config):
        if span >= 2 * period:
            # A multiple of the shorter season's frequency is in its levels already.
            multiples = [k for k in range(1, period // 2) if (k * season_length) % period]
            parts.append(wave_terms(length, period, multiples[:MAX_PAIRS]))
    kept: list[Design] = []
    dropped: list[str] = []
    for part in parts:
        if sum(len(block.names) for block in kept) + len(part.names) <= limit:
            kept.append(part)
        else:
            dropped.extend(part.names)
    return Design(
        tuple(name for part in kept for name in part.names),
        np.hstack([part.values for part in kept]),
        tuple(dropped),
    )


def further_seasons(season_length: int, config: ArimaConfig) -> tuple[int, ...]:
    """Seasons beside the main one, in steps; a day's steps imply a week's."""
    if config.season_lengths != "auto":
        return tuple(period for period in config.season_lengths if period > season_length)
    return (7 * season_length,) if season_length in STEPS_A_DAY else ()


def _days_a_step(dates: tuple[Moment, ...]) -> float:
    steps = [later - earlier for earlier, later in pairwise(calendar_days(dates[:13]))]
    return float(np.median(steps)) if steps else 1.0


def difference(values: Floats, d: int, seasonal_d: int, season_length: int) -> Floats:
    """``(1-B)^d (1-B^m)^D`` along the first axis; the steps lost at the start are NaN, so that indices stay."""
    result = values.astype(np.float64, copy=True)
    for lag in [season_length] * seasonal_d + [1] * d:
        lagged = np.full_like(result, np.nan)
        lagged[lag:] = result[:-lag]
        result = result - lagged
    return result


def independent_columns(values: Floats) -> Steps:
    """Indices of the columns that neither vanish nor follow from the columns before them."""
    sizes = np.linalg.norm(values, axis=0)
    scaled = values / np.where(sizes > 0, sizes, 1.0)
    kept: list[int] = []
    basis = np.empty((values.shape[0], 0))
    for column in np.flatnonzero(sizes > 1e-9):
        if basis.shape[1] >= values.shape[0]:
            break
        rest = scaled[:, column] - basis @ (basis.T @ scaled[:, column])
        rest -= basis @ (basis.T @ rest)
        size = np.linalg.norm(rest)
        if size > 1e-6:
            basis = np.column_stack([basis, rest / size])
            kept.append(int(column))
    return np.array(kept, dtype=np.intp)
