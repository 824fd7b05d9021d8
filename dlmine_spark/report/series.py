"""Values of many series small enough for a page: two bytes a value, packed as text.

A page of a thousand series with a chart each would be tens of megabytes. Here a series is one array: its history, then
each model's forecast from each cutoff and the bounds of one model's, all of known lengths. A value says how far it
lies between the series' lowest and highest, in 65,534 steps. The page's script draws whichever series is asked for.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dlmine_spark import schemas as s
from dlmine_spark.report import charts
from dlmine_spark.report import text as t
from dlmine_spark.report.data import ARIMA, LSTM, ChosenSeries

Floats = NDArray[np.float64]

MOST_BYTES = 4_000_000
"""Of packed values on a page: half of the 8 MB that it may have. Series beyond that are told to be missing."""
MISSING = 65_535
BOUNDS = (s.LO_95, s.HI_95, s.LO_80, s.HI_80)


@dataclass(frozen=True, slots=True)
class Packed:
    """What the page's script reads, and which series are in it, in their order."""

    content: Mapping[str, Any]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Block:
    """A stretch of values that every series has: what it is, and the dates from ``start`` on."""

    key: Mapping[str, Any]
    start: int
    values: Floats


def packed_bytes(history_steps: int, horizon: int, models: int = 3) -> int:
    """About how many characters a series takes on the page: of its history and of forecasts from two cutoffs."""
    values = history_steps + horizon + 2 * horizon * (models + len(BOUNDS))
    return 60 + values * 8 // 3


def pack(
    listed: Sequence[ChosenSeries], history: pd.DataFrame, forecasts: pd.DataFrame, most_bytes: int = MOST_BYTES
) -> Packed:
    """As many of the series as fit, in their order.

    Args:
        listed: series that may be looked up; those without any row are left out.
        history: unique_id, ds, y, y_imputed; values that were imputed are left blank.
        forecasts: model, unique_id, cutoff, ds, y_hat and bounds.
        most_bytes: of all packed values together.
    """
    known = set(history[s.UNIQUE_ID]) & set(forecasts[s.UNIQUE_ID])
    names = [one.unique_id for one in listed if one.unique_id in known]
    dates = pd.Index(sorted(set(history[s.DS]) | set(forecasts[s.DS])))
    if not names or dates.empty:
        return Packed({"dates": [], "cutoffs": [], "parts": [], "series": []}, ())
    blocks = [_history(history, names, dates), *_forecasts(forecasts, names, dates)]
    values = np.concatenate([block.values for block in blocks], axis=1)
    most = max(1, most_bytes // (60 + values.shape[1] * 8 // 3))
    names, values = names[:most], values[:most]
    by_name = {one.unique_id: one for one in listed}
    stand_ins = _stand_ins(forecasts)
    series = []
    for name, row in zip(names, values, strict=True):
        low, high, text = encode(row)
        one: dict[str, Any] = {"id": name, "lo": low, "hi": high, "v": text}
        if by_name[name].segment is not None:
            one["segment"] = str(by_name[name].segment)
        if name in stand_ins:
            one["arima"] = stand_ins[name]
        series.append(one)
    content = {
        "dates": [t.iso(moment) for moment in dates],
        "cutoffs": [t.iso(moment) for moment in sorted(set(forecasts[s.CUTOFF]))],
        "parts": [{**block.key, "start": block.start, "length": block.values.shape[1]} for block in blocks],
        "series": series,
    }
    return Packed(content, tuple(names))


def encode(values: Floats) -> tuple[float, float, str]:
    """Lowest and highest value, and all of them as base64 of little-endian 16-bit steps between these."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    span = high - low
    with np.errstate(invalid="ignore"):
        steps = (values - low) / span * (MISSING - 1) if span > 0 else values * 0.0
    whole = np.where(np.isfinite(steps), np.rint(steps), MISSING).astype("<u2")
    return low, high, base64.b64encode(whole.tobytes()).decode()


def _history(history: pd.DataFrame, names: Sequence[str], dates: pd.Index) -> _Block:
    known = history[history[s.Y_IMPUTED].ne(True)] if s.Y_IMPUTED in history else history
    known = known[known[s.UNIQUE_ID].isin(set(names))]
    length = int(dates.get_indexer(pd.Index([history[s.DS].max()]))[0]) + 1
    return _Block({"what": "y"}, 0, _grid(known, s.Y, names, dates[:length]))


def _forecasts(forecasts: pd.DataFrame, names: Sequence[str], dates: pd.Index) -> list[_Block]:
    """A block per model and cutoff, and one per bound of the banded model. ARIMA's stand-ins count as ARIMA."""
    rows = forecasts[forecasts[s.UNIQUE_ID].isin(set(names))]
    rows = rows.assign(**{s.MODEL: rows[s.MODEL].map(_shown_model)})
    models = charts.in_order(rows[s.MODEL].unique())
    banded = LSTM if LSTM in models else next(iter(models), "")
    blocks = []
    for model in models:
        for place, (_, part) in enumerate(rows[rows[s.MODEL] == model].groupby(s.CUTOFF, sort=True)):
            first, last = dates.get_indexer(pd.Index([part[s.DS].min(), part[s.DS].max()]))
            ahead = dates[first : last + 1]
            key = {
                "model": t.model_name(model),
                "c": charts.model_colour(model),
                "dash": charts.model_dash(model),
                "at": place,
            }
            blocks.append(_Block({"what": "model", **key}, int(first), _grid(part, s.Y_HAT, names, ahead)))
            if model == banded:
                blocks += [
                    _Block({"what": bound, **key}, int(first), _grid(part, bound, names, ahead))
                    for bound in BOUNDS
                    if part[bound].notna().any()
                ]
    return blocks


def _shown_model(model: str) -> str:
    return ARIMA if model.startswith(f"{ARIMA}_") else model


def _stand_ins(forecasts: pd.DataFrame) -> dict[str, str]:
    """What stood in for ARIMA, by series."""
    rows = forecasts[forecasts[s.MODEL].str.startswith(f"{ARIMA}_")].drop_duplicates(s.UNIQUE_ID, keep="last")
    return {str(name): t.model_name(model) for name, model in zip(rows[s.UNIQUE_ID], rows[s.MODEL], strict=True)}


def _grid(rows: pd.DataFrame, column: str, names: Sequence[str], dates: pd.Index) -> Floats:
    """A row per series, a column per date; NaN where nothing is known."""
    grid = np.full((len(names), len(dates)), np.nan)
    across = pd.Index(names).get_indexer(pd.Index(rows[s.UNIQUE_ID]))
    along = dates.get_indexer(pd.Index(rows[s.DS]))
    there = (across >= 0) & (along >= 0)
    grid[across[there], along[there]] = rows[column].astype(float).to_numpy()[there]
    return grid
