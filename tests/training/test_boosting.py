"""LightGBM on windows: what a row holds, that nothing of it lies ahead, what trees find, and what is kept of them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from dlmine_spark.config import LightGBMConfig
from dlmine_spark.errors import TrainingError
from dlmine_spark.training import boosting, trees
from dlmine_spark.training.boosting import TREES_FILE, Layout, boost_cutoffs, predict_boosted, step_rows
from dlmine_spark.training.predict import FORECAST_FILE, VALIDATION_FILE, cutoff_folder
from dlmine_spark.training.shards import read_panel
from dlmine_spark.training.windows import SeasonalLag, WindowShape, gather
from tests.pipelines.examples import BACKTEST, as_of
from tests.training.panels import FINAL, panel_rows, request_for_folder, small_request, write_panel
from tests.training.test_windows import SHAPE, tiny_arrays

pytest.importorskip("lightgbm")

CONFIG = LightGBMConfig(enabled=True, trees=120, learning_rate=0.1, leaves=15, min_rows_a_leaf=10)
MINED = ("segments", "rules", "arima")


def test_a_row_is_a_window_and_a_step_relative_to_the_level_of_the_window() -> None:
    arrays = tiny_arrays(path_at=3)
    layout = Layout(SHAPE, year_length=4, log_scale=False, least_spread=0.1, categories=(0,))
    rows = step_rows(arrays, gather(arrays, np.array([3]), SHAPE), np.array([[1, 2]]), layout)

    # Of the values 2, 3 and 4 seen; 5 and 6 are to be forecast.
    assert rows.level.tolist() == [3.0, 3.0]
    deviation = float(np.sqrt(2 / 3))
    assert rows.spread.tolist() == pytest.approx([deviation, deviation])
    assert (rows.target * deviation).tolist() == pytest.approx([2.0, 3.0])
    assert rows.is_known.tolist() == [True, True]
    first, second = rows.inputs
    # How far ahead, open, ARIMA's path, the mean of the lags, a year (4 steps) ago and the mean around it.
    assert (first[:2].tolist(), second[:2].tolist()) == ([1.0, 1.0], [2.0, 1.0])
    assert first[2] == pytest.approx((100 - 3) / deviation)
    assert second[3] == pytest.approx((4 + 2 - 6) / 2 / deviation)
    # What the window of a year ago was like is not known: nothing can be told relative to it.
    assert np.isnan(first[4:6]).all()
    # What is known of the step in advance, its lags, and at the end the code of the attribute.
    assert (first[6], second[6]) == (14.0, 15.0)
    assert (first[7:9] * deviation).tolist() == pytest.approx([0.0, -2.0])
    assert (first[-1], second[-1]) == (1.0, 1.0)


def test_a_window_that_does_not_vary_is_scaled_by_what_others_vary_by() -> None:
    """The mean of three times .1 is not .1 exactly: whatever that comes to must not be what values are divided by."""
    arrays = tiny_arrays()
    dynamic = arrays.dynamic.copy()
    dynamic[:, 0] = 0.1
    constant = replace(arrays, dynamic=dynamic)
    layout = Layout(SHAPE, year_length=4, log_scale=False, least_spread=0.02, categories=())
    rows = step_rows(constant, gather(constant, np.array([3]), SHAPE), np.array([[1]]), layout)
    assert rows.spread.tolist() == pytest.approx([0.02])
    assert rows.target.tolist() == pytest.approx([0.0], abs=1e-5)


def test_a_single_row_is_something_to_learn_from() -> None:
    one = trees.Examples(np.zeros((1, 2), dtype=np.float32), np.ones(1, dtype=np.float32))
    booster = trees.fit(one, (), 0.5, 5, CONFIG, 1)
    assert trees.predict(booster, one.inputs, 1).tolist() == pytest.approx([1.0])
    nothing = trees.Examples(one.inputs[:0], one.target[:0])
    with pytest.raises(TrainingError, match="LightGBM cannot learn from 0 rows"):
        trees.fit(nothing, (), 0.5, 5, CONFIG, 1)


def test_trees_are_the_same_with_any_number_of_threads() -> None:
    generator = np.random.default_rng(1)
    inputs = generator.normal(size=(400, 6)).astype(np.float32)
    rows = trees.Examples(inputs, (inputs[:, 0] * inputs[:, 1]).astype(np.float32))
    one, two = (trees.to_text(trees.fit(rows, (), 0.5, 20, CONFIG, threads)) for threads in (1, 2))
    # The settings at the end say how many threads there were.
    assert one.partition("parameters:")[0] == two.partition("parameters:")[0]


@pytest.mark.parametrize("year_length", [28, 9])
def test_what_comes_after_the_origin_changes_no_input(tmp_path: Path, year_length: int) -> None:
    """But what is known in advance: a promotion that was planned. Days around one nine days ago lie ahead, too."""
    request = small_request(tmp_path, days=60)
    arrays = read_panel(request.source, FINAL, 7)
    window = WindowShape(21, 7, (SeasonalLag(7), SeasonalLag(7, 7), SeasonalLag(28)))
    layout = Layout(window, year_length, log_scale=True, least_spread=0.01, categories=())
    origin = arrays.starts[:-1] + 40
    steps = np.tile(np.arange(1, 8), (len(origin), 1))
    before = step_rows(arrays, gather(arrays, origin, window), steps, layout)

    dynamic = arrays.dynamic.copy()
    later = np.zeros(len(dynamic), dtype=bool)
    for first, end in zip(origin, arrays.starts[1:], strict=True):
        later[first + 1 : end] = True
    past_only = 3 + len(arrays.features.known_future)
    dynamic[later, 0] = 1e6
    dynamic[later, past_only:] = -1e6
    noisy = replace(arrays, dynamic=dynamic)
    after = step_rows(noisy, gather(noisy, origin, window), steps, layout)

    np.testing.assert_array_equal(before.inputs, after.inputs)
    np.testing.assert_array_equal(before.level, after.level)
    assert not np.array_equal(before.target, after.target)
    # Everything is there to be compared: only Sundays that are closed, and paths too old, are unknown.
    assert np.isfinite(before.inputs).mean() > 0.85

    dynamic[later, 3 + arrays.features.known_future.index("kf_promo")] = 9.0
    assert not np.array_equal(before.inputs, step_rows(noisy, gather(noisy, origin, window), steps, layout).inputs)


def test_planted_promotions_and_weeks_are_found_and_nothing_is_fitted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = panel_rows(FINAL)
    write_panel(tmp_path / "panel", as_of(rows), rows)
    request = request_for_folder(tmp_path)
    boost_cutoffs(request, CONFIG)

    folder = cutoff_folder(request.folder, BACKTEST)
    made = pd.read_parquet(folder / FORECAST_FILE)
    both = made.merge(rows.select(["unique_id", "ds", "y"]).to_pandas(), on=["unique_id", "ds"])
    assert len(both) == 4 * 7
    # Noise is 5 %; a promotion is worth 50 %, and half the series are closed on Sundays.
    assert (both["y_hat"] - both["y"]).abs().sum() / both["y"].sum() < 0.08
    assert (both["y"] == 0).sum() == 2
    assert (both.loc[both["y"] == 0, "y_hat"] == 0).all()
    ends = ["lo_95", "lo_80", "y_hat", "hi_80", "hi_95"]
    assert (np.diff(made[ends].to_numpy(), axis=1) >= 0).all()

    # The rehearsal forecasts the last horizon before the cutoff, as far as its values are known.
    rehearsed = pd.read_parquet(folder / VALIDATION_FILE)
    assert (rehearsed["origin"].min(), rehearsed["ds"].max()) == (BACKTEST - timedelta(days=7), BACKTEST)
    assert (rehearsed["y"] > 0).all()
    assert len(rehearsed) == 4 * 7 - 2

    # The trees that were kept forecast the same.
    again = pd.concat(predict_boosted(folder, request.source, BACKTEST, MINED, threads=2))
    pd.testing.assert_frame_equal(again.reset_index(drop=True), made, check_dtype=False)

    # Killed between cutoffs, the run goes on with the one that is not finished.
    final = cutoff_folder(request.folder, FINAL)
    (final / FORECAST_FILE).rename(final / "kept.parquet")
    fitted: list[object] = []
    monkeypatch.setattr(boosting, "_boost_cutoff", lambda *arguments: fitted.append(arguments[2]))
    boost_cutoffs(request, CONFIG)
    assert fitted == [FINAL]


def test_the_rehearsal_has_not_seen_the_horizon_that_it_forecasts(tmp_path: Path) -> None:
    one_tree = CONFIG.model_copy(update={"trees": 1})
    rows = as_of(panel_rows(FINAL))
    is_last = pc.greater(rows["ds"], pa.scalar(BACKTEST - timedelta(days=7)))
    at = rows.column_names.index("y")
    tripled = rows.set_column(at, "y", pc.if_else(is_last, pc.multiply(rows["y"], 3.0), rows["y"]))
    told = []
    for name, panel in (("one", rows), ("other", tripled)):
        source = write_panel(tmp_path / name / "panel", panel)
        request = replace(request_for_folder(tmp_path / name), source=source, final=BACKTEST, backtest=(BACKTEST,))
        boosting._boost_cutoff(request, one_tree, BACKTEST)
        folder = cutoff_folder(request.folder, BACKTEST)
        told.append([pd.read_parquet(folder / file) for file in (VALIDATION_FILE, FORECAST_FILE)])
    (rehearsed, made), (rehearsed_other, made_other) = told
    pd.testing.assert_frame_equal(rehearsed.drop(columns="y"), rehearsed_other.drop(columns="y"), check_exact=True)
    assert not made["y_hat"].equals(made_other["y_hat"])


def test_rows_are_bounded_and_the_log_tells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    request = small_request(tmp_path)
    caplog.set_level(logging.INFO)
    few = CONFIG.model_copy(update={"max_rows": 1_000, "trees": 5})
    boost_cutoffs(replace(request, backtest=(BACKTEST,)), few)

    told = [record.message for record in caplog.records if "LightGBM learns from" in record.message]
    # Of each cutoff, and of the rehearsal.
    assert len(told) == 3
    for line in told:
        learnt = int(line.split(" learns from ")[1].split()[0].replace(",", ""))
        assert 700 < learnt <= 1_000
        assert "a sample of" in line
        assert "(lightgbm.max_rows)" in line


def test_a_series_too_short_to_validate_on_still_gets_a_forecast(tmp_path: Path) -> None:
    request = small_request(tmp_path, days=24, series=2)
    boost_cutoffs(request, CONFIG.model_copy(update={"trees": 5, "min_rows_a_leaf": 1}))
    folder = cutoff_folder(request.folder, BACKTEST)
    assert len(pd.read_parquet(folder / VALIDATION_FILE)) == 0
    assert np.isfinite(pd.read_parquet(folder / FORECAST_FILE)["y_hat"]).all()


def test_trees_that_are_missing_damaged_or_of_another_panel_are_refused(tmp_path: Path) -> None:
    request = small_request(tmp_path)
    folder = cutoff_folder(request.folder, FINAL)
    with pytest.raises(TrainingError, match=r"lightgbm\.json: LightGBM has no trees yet; run the stage blend"):
        list(predict_boosted(folder, request.source, FINAL, MINED, 1))
    boost_cutoffs(replace(request, backtest=(BACKTEST,)), CONFIG.model_copy(update={"trees": 2}))
    kept = json.loads((folder / TREES_FILE).read_text())
    kept["features"]["known_future"].append("kf_price")
    (folder / TREES_FILE).write_text(json.dumps(kept))
    with pytest.raises(TrainingError, match=r"its trees know other covariates \(kf_price\)"):
        list(predict_boosted(folder, request.source, FINAL, MINED, 1))
    (folder / TREES_FILE).write_text("{}")
    with pytest.raises(TrainingError, match=r"is not understood"):
        list(predict_boosted(folder, request.source, FINAL, MINED, 1))
