"""One series in a few readable numbers: level, growth, week, year, promotions, volatility, closures. No Spark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlmine_spark.segmentation.features import (
    CLOSED,
    EMPTY,
    GROWTH,
    LEVEL,
    MONTH_LEVELS,
    PROMOTION,
    STORES,
    VOLATILITY,
    WEEKDAY_SHARES,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Days = NDArray[np.int64]

YEAR = 365.25
LEAST_WEEKS = 2
"""A week's shape is described from so many weeks on."""
LEAST_FOR_GROWTH, LEAST_FOR_BOTH = 0.5, 1.5
"""Years needed for a growth rate, and for telling growth from the time of year."""
LEAST_PROMOTED = 3
"""Dates with, and as many without a promotion."""
MOST_ZEROS = 0.5
"""A series with a larger share of zeros has no typical week or year: its few sales would be taken for a pattern."""
SPARE = 5
"""Values beyond the number of coefficients before a spread is told."""
UNIT = 10.0
"""Values are compared on log1p(UNIT * y / typical y), so that neither zeros nor the unit of y matter much."""
CLIP, ROUNDS = 2.5, 3
"""Residuals beyond so many standard deviations are moved there, so many times."""


@dataclass(frozen=True, slots=True)
class _Fit:
    """Effects on the compressed scale; a block that was not fitted is empty."""

    base: float
    weekdays: Floats
    months: Floats
    growth: float
    promotion: float
    spread: float


def describe_series(days: Days, y: Floats, is_open: Bools, promoted: Bools | None) -> dict[str, float]:
    """The features of one series, each in its natural unit; NaN where the series is too short or too sparse to tell.

    Week, year, growth and promotion are estimated together by least squares with winsorised residuals (Huber 1981,
    section 7.8), so that a promotion that always falls on Saturdays, or a year that began well, is not counted twice
    and a holiday does not decide.

    Args:
        days: days since 1970-01-01, in any order.
        y: values; NaN where unknown, imputed or closed.
        is_open: whether the series could have a value.
        promoted: whether there was a promotion; None where nothing is known of promotions.

    Returns:
        ``average level``: mean value. ``<weekday> share``: part of a typical week without promotions (daily data; a
        weekday that is never open has 0). ``<month> level``: that month's typical value beside the year's average (1).
        ``promotion uplift``: .2 is a fifth more on promoted dates. ``growth per year``: .1 is a tenth more each year.
        ``volatility``: a usual deviation from all of this, .1 is a tenth of the value. ``closed share``, ``share of
        zeros``: parts of all dates, and of known values.
    """
    features = dict.fromkeys(STORES.names, np.nan)
    order = np.argsort(days, kind="stable")
    days, y, is_open = days[order], y[order], is_open[order]
    promoted = None if promoted is None else promoted[order]
    if days.size:
        features[CLOSED] = float(np.mean(~is_open))
    known = np.isfinite(y) & is_open
    if not known.any():
        return features
    features[LEVEL] = float(np.mean(y[known]))
    features[EMPTY] = float(np.mean(y[known] == 0))
    if features[EMPTY] > MOST_ZEROS:
        return features

    is_daily = days.size > 1 and float(np.median(np.diff(days))) == 1
    typical = float(np.median(np.abs(y[known & (y != 0)])))
    fit = _fit(
        days[known],
        _compress(y[known] / typical),
        None if promoted is None else promoted[known],
        is_daily=is_daily,
    )
    if fit.weekdays.size:
        features.update(zip(WEEKDAY_SHARES, _shares(_expand(fit.base + fit.weekdays)), strict=True))
    if fit.months.size:
        months = np.maximum(_expand(fit.base + fit.months), 0.0)
        mean = float(months.mean())
        features.update(zip(MONTH_LEVELS, months / mean if mean > 0 else np.full(12, np.nan), strict=True))
    usual = float(_expand(fit.base))
    if usual > 0:
        changes = {PROMOTION: fit.promotion, GROWTH: fit.growth, VOLATILITY: fit.spread}
        for name, effect in changes.items():
            features[name] = float(np.maximum(_expand(fit.base + effect), 0.0)) / usual - 1
    return features


def _compress(ratio: Floats) -> Floats:
    return np.asarray(np.sign(ratio) * np.log1p(UNIT * np.abs(ratio)))


def _expand(value: Floats | float) -> Floats:
    return np.asarray(np.sign(value) * np.expm1(np.abs(value)) / UNIT)


def _shares(typical: Floats) -> Floats:
    """Parts of a week; NaN in, for a weekday that is never open, gives 0."""
    sold = np.maximum(np.nan_to_num(typical), 0.0)
    total = float(sold.sum())
    return sold / total if total > 0 else np.full(7, np.nan)


def _fit(days: Days, values: Floats, promoted: Bools | None, *, is_daily: bool) -> _Fit:
    """Effects of weekday, month, time and promotion, as far as the known values can tell them apart."""
    weekday = (days + 3) % 7  # 1970-01-01 was a Thursday
    month = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
    years = float(days.max() - days.min()) / YEAR
    has_week = is_daily and days.size >= 7 * LEAST_WEEKS
    has_year = np.unique(month).size == 12 and days.size >= 12 + SPARE
    has_growth = years >= (LEAST_FOR_BOTH if has_year else LEAST_FOR_GROWTH)
    has_promotion = promoted is not None and LEAST_PROMOTED <= int(promoted.sum()) <= days.size - LEAST_PROMOTED

    blocks: list[Floats] = [
        np.eye(7)[weekday] if has_week else np.ones((days.size, 1)),
        np.eye(12)[month] if has_year else np.empty((days.size, 0)),
        ((days - days.mean()) / YEAR)[:, None] if has_growth else np.empty((days.size, 0)),
        promoted[:, None].astype(np.float64) if has_promotion and promoted is not None else np.empty((days.size, 0)),
    ]
    coefficients, residuals = _least_squares(np.hstack(blocks), values)
    week, year, growth, promotion = np.split(coefficients, np.cumsum([block.shape[1] for block in blocks])[:-1])
    seen = np.isin(np.arange(7), weekday) if has_week else np.ones(1, dtype=np.bool_)
    base = float(week[seen].mean()) + (float(year.mean()) if has_year else 0.0)
    return _Fit(
        base=base,
        weekdays=np.where(seen, week - week[seen].mean(), np.nan) if has_week else np.empty(0),
        months=year - year.mean() if has_year else year,
        growth=float(growth[0]) if has_growth else np.nan,
        promotion=float(promotion[0]) if has_promotion else np.nan,
        spread=_spread(residuals) if days.size >= coefficients.size + SPARE else np.nan,
    )


def _least_squares(design: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Coefficients (of least norm, since weekdays and months each sum to one) and residuals, outliers winsorised."""
    gram = design.T @ design
    solve = np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ design.T
    coefficients: Floats = solve @ values
    for _ in range(ROUNDS):
        fitted = design @ coefficients
        bound = CLIP * _spread(values - fitted)
        if bound == 0:
            break
        coefficients = solve @ (fitted + np.clip(values - fitted, -bound, bound))
    return coefficients, values - design @ coefficients


def _spread(residuals: Floats) -> float:
    """The standard deviation of normal residuals, told from their median size."""
    return float(1.4826 * np.median(np.abs(residuals)))


def in_order(features: dict[str, float], names: Sequence[str]) -> list[float]:
    """The features as a row of the feature table."""
    return [features[name] for name in names]
