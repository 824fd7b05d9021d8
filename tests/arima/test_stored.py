"""Fits made again from their rows: the same forecasts without estimation, until the series is another one."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from dlmine_spark.arima.fit import REFITTED, predict_series
from dlmine_spark.arima.forecast import Arima, forecast
from dlmine_spark.arima.model import fit_model
from dlmine_spark.arima.paths import Wanted
from dlmine_spark.arima.stored import BEGINS, begins, p_of_newer_errors, restored
from dlmine_spark.arima.timeline import read_timeline
from dlmine_spark.config import ArimaConfig
from dlmine_spark.frequency import DAILY, MONTHLY, Frequency
from tests.arima.examples import FAR, START, months, plan, series, shop

CONFIG = ArimaConfig()


@pytest.mark.parametrize(
    ("rows", "frequency", "fitted", "known", "horizon"),
    [(shop(400, 14), DAILY, 350, 400, 14), (months(180, 12), MONTHLY, 150, 180, 12)],
    ids=["days", "months"],
)
def test_a_restored_fit_forecasts_as_the_fit_did(
    rows: pd.DataFrame, frequency: Frequency, fitted: int, known: int, horizon: int
) -> None:
    timeline = read_timeline(rows, plan(known, horizon, frequency=frequency))
    fit = fit_model(timeline, fitted - 1, CONFIG, frequency.season_length, FAR)
    columns = Arima(fit, "arima").columns()
    row = {**columns, "diagnostics": {**fit.diagnostics, BEGINS: begins(timeline)}}

    again = restored(row, timeline, known - 1, CONFIG)

    paths = [forecast(one, timeline, Wanted([known - 1], horizon)) for one in (fit, again)]
    assert paths[1].y_hat == pytest.approx(paths[0].y_hat, rel=1e-9)
    # Only the uncertainty of the coefficients is another one: more values are known.
    assert paths[1].bounds[95][1] == pytest.approx(paths[0].bounds[95][1], rel=0.02)
    assert p_of_newer_errors(again, timeline, fitted - 1, known - 1) > 0.01
    assert p_of_newer_errors(again, timeline, known - 1, known - 1) == 1.0


def stored_of(rows: pd.DataFrame, fitted: int, known: int, horizon: int) -> pd.DataFrame:
    """The row of ``gold.arima_models`` of a fit on the first values."""
    timeline = read_timeline(rows, plan(known, horizon))
    fit = fit_model(timeline, fitted - 1, CONFIG, 7, FAR)
    told = {**fit.diagnostics, BEGINS: begins(timeline)}
    columns = {**Arima(fit, "arima").columns(), "diagnostics": told, "cutoff": START + timedelta(days=fitted - 1)}
    return pd.DataFrame([{"unique_id": "a", "status": "ok", **columns}])


def test_parameters_are_used_until_errors_are_larger_than_foretold() -> None:
    rows = shop(400, 14)
    models = stored_of(rows, 350, 400, 14)

    applied = predict_series(rows, models, CONFIG, plan(400, 14)).iloc[0]
    assert applied[REFITTED] is None
    assert (applied["model"], applied["status"], len(applied["path"])) == ("arima", None, 14)
    assert applied["fit_cutoff"] == START + timedelta(days=349)

    restless = rows.copy()
    late = (rows.index >= 370) & (rows.index < 400)
    restless.loc[late, "y"] += np.where(np.arange(late.sum()) % 2, 60.0, -60.0)
    refitted = predict_series(restless, models, CONFIG, plan(400, 14)).iloc[0]
    assert refitted[REFITTED] == "its errors since the fit are larger than the model foretold"
    assert refitted["status"] == "ok"
    assert refitted["fit_cutoff"] == START + timedelta(days=399)
    assert refitted["diagnostics"][BEGINS] == START.toordinal()


def test_many_errors_somewhat_too_large_are_as_telling_as_few_huge_ones() -> None:
    rows = shop(400, 14)
    models = stored_of(rows, 350, 400, 14)
    late = (rows.index >= 360) & (rows.index < 400)
    rows.loc[late, "y"] += np.where(np.arange(late.sum()) % 2, 6.0, -6.0)
    assert predict_series(rows, models, CONFIG, plan(400, 14)).iloc[0][REFITTED] is not None


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (shop(400, 14).iloc[3:], "the series begins on another day than it did"),
        (shop(400, 14).drop(columns="promo"), "regressor promo is gone"),
    ],
)
def test_parameters_of_another_series_are_not_used(rows: pd.DataFrame, reason: str) -> None:
    found = predict_series(rows, stored_of(shop(400, 14), 350, 400, 14), CONFIG, plan(400, 14)).iloc[0]
    assert (found[REFITTED], found["status"], found["model"]) == (reason, "ok", "arima")


def test_a_row_that_was_damaged_is_no_end_of_the_job() -> None:
    models = stored_of(shop(400, 14), 350, 400, 14).assign(sigma2=None)
    found = predict_series(shop(400, 14), models, CONFIG, plan(400, 14)).iloc[0]
    assert found[REFITTED].startswith("TypeError: ")
    assert (found["status"], found["model"]) == ("ok", "arima")


def test_a_model_of_another_engine_is_not_used() -> None:
    rows = shop(400, 14)
    models = stored_of(rows, 350, 400, 14)
    # As ``AutoArima`` tells of itself.
    models["params"], models["diagnostics"] = [{"ar1": 0.5}], [{BEGINS: float(START.toordinal())}]
    found = predict_series(rows, models, CONFIG, plan(400, 14)).iloc[0]
    assert found[REFITTED] == "another engine, or an earlier version, fitted the model"
    assert (found["status"], found["model"]) == ("ok", "arima")


def test_a_series_without_a_model_gets_one() -> None:
    nothing = stored_of(shop(400, 14), 350, 400, 14).head(0)
    found = predict_series(shop(400, 14), nothing, CONFIG, plan(400, 14)).iloc[0]
    assert (found[REFITTED], found["status"]) == ("there is no model of it yet", "ok")
    short = predict_series(series(np.array([5.0, 6.0]), 7), nothing, CONFIG, plan(2, 7)).iloc[0]
    assert (short["status"], short["model"]) == ("too_short", "arima_naive")
    assert predict_series(shop(400, 14).head(0), stored_of(shop(400, 14), 350, 400, 14), CONFIG, plan(400, 14)).empty
    broken = shop(400, 14).drop(index=5)
    assert predict_series(broken, nothing, CONFIG, plan(400, 14)).iloc[0]["status"] == "failed"
