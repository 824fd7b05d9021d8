"""Measures against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from dlmine_spark.evaluation.metrics import SUMS, error_terms, long_measures, measures


def rows(**columns: list[float]) -> pd.DataFrame:
    n = len(columns["y"])
    defaults = {name: [math.nan] * n for name in ("lo_80", "hi_80", "lo_95", "hi_95", "scale", "squared_scale")}
    return pd.DataFrame({**defaults, **columns})


def measured(frame: pd.DataFrame) -> pd.Series:
    return measures(error_terms(frame).sum().to_frame().T).iloc[0]


def test_measures_by_hand() -> None:
    result = measured(
        rows(
            y=[10.0, 20.0, 0.0, 40.0],
            y_hat=[12.0, 15.0, 0.0, 41.0],
            lo_80=[9.0, 16.0, 0.0, 42.0],
            hi_80=[13.0, 25.0, 0.0, 50.0],
            lo_95=[5.0, 10.0, 0.0, 30.0],
            hi_95=[15.0, 30.0, 0.0, 60.0],
            scale=[2.0, 2.0, 4.0, 4.0],
            squared_scale=[4.0, 4.0, 16.0, 16.0],
        )
    )
    assert result["mae"] == pytest.approx((2 + 5 + 0 + 1) / 4)
    assert result["rmse"] == pytest.approx(math.sqrt((4 + 25 + 0 + 1) / 4))
    assert result["rmspe"] == pytest.approx(math.sqrt((0.2**2 + 0.25**2 + 0.025**2) / 3))
    assert result["wape"] == pytest.approx(8 / 70)
    assert result["smape"] == pytest.approx((4 / 22 + 10 / 35 + 0 + 2 / 81) / 4)
    assert result["mase"] == pytest.approx((1 + 2.5 + 0 + 0.25) / 4)
    assert result["rmsse"] == pytest.approx(math.sqrt((1 + 6.25 + 0 + 1 / 16) / 4))
    assert result["bias"] == pytest.approx((2 - 5 + 0 + 1) / 70)
    assert result["coverage_80"] == pytest.approx(3 / 4)
    assert result["coverage_95"] == pytest.approx(1.0)
    assert result["forecasts"] == 4


def test_what_is_not_defined_is_left_out_of_its_measure_only() -> None:
    result = measured(rows(y=[0.0, 4.0], y_hat=[1.0, 4.0], lo_80=[math.nan, 3.0], hi_80=[math.nan, 5.0]))
    assert result["rmspe"] == 0.0
    assert result["coverage_80"] == 1.0
    assert math.isnan(result["mase"])
    assert math.isnan(result["coverage_95"])


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    rng = np.random.default_rng(3)
    frame = rows(
        y=list(rng.normal(10, 3, 50)), y_hat=list(rng.normal(10, 3, 50)), scale=[1.5] * 50, squared_scale=[3.0] * 50
    )
    parts = error_terms(frame.iloc[:20]).sum() + error_terms(frame.iloc[20:]).sum()
    whole = measures(parts.to_frame().T).iloc[0]
    pd.testing.assert_series_equal(whole, measured(frame))


def test_the_long_form_holds_defined_measures_only() -> None:
    sums = error_terms(rows(y=[2.0], y_hat=[3.0])).sum().to_frame().T[list(SUMS)]
    groups = sums.assign(model="arima", scope="overall", scope_id="all")
    long = long_measures(groups)
    assert list(long.columns) == ["model", "scope", "scope_id", "metric", "value"]
    assert set(long["metric"]) == {"mae", "rmse", "rmspe", "wape", "smape", "bias", "forecasts"}
    assert long.set_index("metric")["value"]["wape"] == pytest.approx(0.5)
