"""Measures of forecasts against raw actuals. Plain pandas, no Spark.

Every measure comes from sums over forecasts, so a group's measures follow from its members' sums, however the rows are
spread over tasks: ``error_terms`` gives what a forecast adds to the sums, ``measures`` makes measures of the sums.

Shares, not percent: WAPE, sMAPE and coverage of .1 are 10 %. Sources: Hyndman and Koehler (2006) for MASE; Makridakis
et al. (2022), The M5 competition, for RMSSE.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dlmine_spark import schemas as s

SCALE, SQUARED_SCALE = "scale", "squared_scale"
"""Mean absolute and mean squared error of the in-sample seasonal naive forecast up to the cutoff; null if unknown."""

SUMS = (
    "forecasts",
    "error",
    "absolute_error",
    "squared_error",
    "absolute_actual",
    "relative_forecasts",
    "squared_relative_error",
    "symmetric_error",
    "scaled_forecasts",
    "scaled_error",
    "squared_scaled_error",
    "intervals_80",
    "inside_80",
    "intervals_95",
    "inside_95",
)
MEASURES = (
    "mae",
    "rmse",
    "rmspe",
    "wape",
    "smape",
    "mase",
    "rmsse",
    "bias",
    "coverage_80",
    "coverage_95",
    "forecasts",
)
"""In the order they are shown; ``forecasts`` is how many were compared."""


def error_terms(rows: pd.DataFrame) -> pd.DataFrame:
    """What each forecast adds to the sums.

    Args:
        rows: one row per forecast: ``y``, ``y_hat``, the four bounds (may be null), ``scale``, ``squared_scale``.

    Returns:
        One row per forecast, same index, columns ``SUMS``, no nulls: a forecast without interval, with an actual of
        zero (for relative errors) or without a scale adds nothing to the sums it has no part in.
    """
    y, y_hat = _floats(rows, s.Y), _floats(rows, s.Y_HAT)
    scale, squared_scale = _floats(rows, SCALE), _floats(rows, SQUARED_SCALE)
    error = y_hat - y
    absolute, squared = np.abs(error), error**2
    is_relative = y != 0
    is_scaled = np.isfinite(scale) & (scale > 0) & np.isfinite(squared_scale)
    size = np.abs(y) + np.abs(y_hat)
    terms: dict[str, object] = {
        "forecasts": 1.0,
        "error": error,
        "absolute_error": absolute,
        "squared_error": squared,
        "absolute_actual": np.abs(y),
        "relative_forecasts": is_relative,
        "squared_relative_error": np.divide(squared, y**2, out=np.zeros_like(y), where=is_relative),
        # A forecast of zero for an actual of zero is right.
        "symmetric_error": np.divide(2 * absolute, size, out=np.zeros_like(y), where=size > 0),
        "scaled_forecasts": is_scaled,
        "scaled_error": np.divide(absolute, scale, out=np.zeros_like(y), where=is_scaled),
        "squared_scaled_error": np.divide(squared, squared_scale, out=np.zeros_like(y), where=is_scaled),
    }
    for level, low, high in ((80, s.LO_80, s.HI_80), (95, s.LO_95, s.HI_95)):
        lower, upper = _floats(rows, low), _floats(rows, high)
        terms[f"intervals_{level}"] = np.isfinite(lower) & np.isfinite(upper)
        terms[f"inside_{level}"] = (y >= lower) & (y <= upper)
    return pd.DataFrame(terms, index=rows.index, columns=list(SUMS)).astype("float64")


def measures(sums: pd.DataFrame) -> pd.DataFrame:
    """The measures of groups from their sums.

    Returns:
        One row per group, same index, columns ``MEASURES``; NaN where a measure is not defined for the group. RMSSE
        pools the scaled squared errors of its group before the root.
    """
    forecasts = sums["forecasts"]
    return pd.DataFrame(
        {
            "mae": _ratio(sums["absolute_error"], forecasts),
            "rmse": np.sqrt(_ratio(sums["squared_error"], forecasts)),
            "rmspe": np.sqrt(_ratio(sums["squared_relative_error"], sums["relative_forecasts"])),
            "wape": _ratio(sums["absolute_error"], sums["absolute_actual"]),
            "smape": _ratio(sums["symmetric_error"], forecasts),
            "mase": _ratio(sums["scaled_error"], sums["scaled_forecasts"]),
            "rmsse": np.sqrt(_ratio(sums["squared_scaled_error"], sums["scaled_forecasts"])),
            "bias": _ratio(sums["error"], sums["absolute_actual"]),
            "coverage_80": _ratio(sums["inside_80"], sums["intervals_80"]),
            "coverage_95": _ratio(sums["inside_95"], sums["intervals_95"]),
            "forecasts": forecasts,
        },
        index=sums.index,
        columns=list(MEASURES),
    ).astype("float64")


def long_measures(groups: pd.DataFrame) -> pd.DataFrame:
    """One row per group and defined measure.

    Args:
        groups: ``model``, ``scope``, ``scope_id`` and ``SUMS``, one row per group.

    Returns:
        ``model``, ``scope``, ``scope_id``, ``metric``, ``value``.
    """
    keys = [s.MODEL, "scope", "scope_id"]
    wide = measures(groups[list(SUMS)].astype("float64")).assign(**{key: groups[key] for key in keys})
    return wide.melt(id_vars=keys, var_name="metric", value_name="value").dropna(subset=["value"])


def _floats(rows: pd.DataFrame, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return rows[name].to_numpy(dtype=np.float64, na_value=np.nan)


def _ratio(total: pd.Series[float], count: pd.Series[float]) -> pd.Series[float]:
    return total / count.where(count > 0)
