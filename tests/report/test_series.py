from __future__ import annotations

import base64
from datetime import date

import numpy as np
import pandas as pd
import pytest

from dlmine_spark.report.data import ChosenSeries
from dlmine_spark.report.series import MISSING, encode, pack, packed_bytes

D1, D2, D3, D4 = (date(2024, 5, day) for day in (1, 2, 3, 4))
HISTORY = pd.DataFrame(
    [("a", D1, 10.0, False), ("a", D2, 20.0, True), ("b", D1, 1.0, False), ("b", D2, 3.0, False)],
    columns=["unique_id", "ds", "y", "y_imputed"],
)
FORECASTS = pd.DataFrame(
    [
        ("lstm", "a", D2, D3, 1, 11.0, 9.0, 13.0, None, None),
        ("lstm", "a", D2, D4, 2, 12.0, 9.0, 14.0, None, None),
        ("arima_naive", "a", D2, D3, 1, 10.0, None, None, None, None),
        ("arima", "b", D2, D3, 1, 2.0, None, None, None, None),
        ("lstm", "b", D2, D3, 1, 2.5, 1.0, 4.0, None, None),
    ],
    columns=["model", "unique_id", "cutoff", "ds", "h", "y_hat", "lo_80", "hi_80", "lo_95", "hi_95"],
)
LISTED = (ChosenSeries(unique_id="b", why="", segment=2), ChosenSeries(unique_id="a", why=""))


def decoded(one: dict[str, object]) -> list[float | None]:
    words = np.frombuffer(base64.b64decode(str(one["v"])), dtype="<u2")
    low, high = float(str(one["lo"])), float(str(one["hi"]))
    return [None if word == MISSING else low + (high - low) * word / (MISSING - 1) for word in words]


def test_a_series_is_its_history_and_then_what_each_model_said() -> None:
    packed = pack(LISTED, HISTORY, FORECASTS)

    assert packed.names == ("b", "a")
    assert packed.content["dates"] == ["2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04"]
    assert packed.content["cutoffs"] == ["2024-05-02"]
    assert [(part["what"], part.get("model"), part["start"], part["length"]) for part in packed.content["parts"]] == [
        ("y", None, 0, 2),
        ("model", "LSTM", 2, 2),
        ("lo_80", "LSTM", 2, 2),
        ("hi_80", "LSTM", 2, 2),
        ("model", "ARIMA", 2, 1),
    ]
    b, a = packed.content["series"]
    assert decoded(b) == pytest.approx([1, 3, 2.5, None, 1, None, 4, None, 2.0], abs=1e-3)
    # What was imputed did not happen.
    assert decoded(a) == pytest.approx([10, None, 11, 12, 9, 9, 13, 14, 10], abs=1e-3)
    assert (b["segment"], "segment" in a) == ("2", False)
    assert (a["arima"], "arima" in b) == ("ARIMA's fallback: seasonal naive", False)


def test_values_are_told_to_a_65534th_of_their_range() -> None:
    values = np.array([-5.0, np.nan, 1_000_000.0, 123.456, np.inf])
    low, high, text = encode(values)
    assert (low, high) == (-5.0, 1_000_000.0)
    shown = decoded({"lo": low, "hi": high, "v": text})
    assert shown == pytest.approx([-5.0, None, 1_000_000.0, 123.456, None], abs=8)
    assert decoded(dict(zip(("lo", "hi", "v"), encode(np.array([3.0, 3.0])), strict=True))) == [3.0, 3.0]
    assert encode(np.array([np.nan]))[:2] == (0.0, 0.0)


def test_no_more_series_than_fit_and_never_none() -> None:
    assert pack(LISTED, HISTORY, FORECASTS, most_bytes=100).names == ("b",)
    assert pack(LISTED, HISTORY.head(0), FORECASTS).names == ()


def test_a_thousand_daily_series_fit() -> None:
    assert 1_000 * packed_bytes(history_steps=56 + 28, horizon=28) < 2_000_000
