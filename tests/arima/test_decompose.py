"""Known values taken apart: parts that add up, and expectations that are the model's one-step forecasts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlmine_spark.arima.decompose import decompose
from dlmine_spark.arima.forecast import forecast
from dlmine_spark.arima.model import fit_model
from dlmine_spark.arima.paths import Wanted
from dlmine_spark.arima.scales import to_scale
from dlmine_spark.arima.timeline import read_timeline
from dlmine_spark.config import ArimaConfig
from dlmine_spark.frequency import DAILY, MONTHLY, Frequency
from tests.arima.examples import FAR, arma, months, plan, series, shop


def walk(known: int, horizon: int) -> pd.DataFrame:
    """A level that wanders, with promotions."""
    promo = (np.arange(known + horizon) // 5 % 2).astype(float)
    return series(300 + np.cumsum(arma(known, sd=3.0)) + 40 * promo[:known], horizon, promo=promo)


@pytest.mark.parametrize(
    ("rows", "frequency", "known"),
    [(shop(400, 7), DAILY, 400), (months(180, 7), MONTHLY, 180), (walk(200, 7), DAILY, 200)],
    ids=["closed on Sundays", "a season that moves", "a level that wanders"],
)
def test_parts_add_up_and_expectations_are_forecasts_one_step_ahead(
    rows: pd.DataFrame, frequency: Frequency, known: int
) -> None:
    timeline = read_timeline(rows, plan(known, 7, frequency=frequency))
    fit = fit_model(timeline, known - 1, ArimaConfig(), frequency.season_length, FAR)

    made = decompose(fit, timeline, known - 1)

    lost = fit.d + fit.seasonal_d * fit.lag
    assert np.isnan(made.fitted[:lost]).all()
    assert sum(made.parts)[lost:] == pytest.approx(to_scale(made.y, fit.power)[lost:])
    assert made.parts.season.mean() == pytest.approx(0, abs=1e-9)
    assert np.array_equal(made.y, timeline.y[made.steps])
    # Each was forecast from the step before, with the same parameters.
    for at in range(lost + 60, made.steps.size, 17):
        ahead = forecast(fit, timeline, Wanted([int(made.steps[at]) - 1], 1)).y_hat[0, 0]
        assert made.fitted[at] == pytest.approx(ahead, rel=1e-6)


def test_a_promotion_and_a_season_are_found_where_they_are() -> None:
    rows = shop(400, 7)
    timeline = read_timeline(rows, plan(400, 7))
    fit = fit_model(timeline, 399, ArimaConfig(transform="none"), 7, FAR)
    made = decompose(fit, timeline, 399)
    promo = rows["promo"].to_numpy()[made.steps]
    assert made.parts.covariates[promo == 1] == pytest.approx(30, abs=3)
    assert not made.parts.covariates[promo == 0].any()
    saturday, monday = (made.parts.season[made.steps % 7 == day].mean() for day in (5, 0))
    assert saturday - monday == pytest.approx(20, abs=3)
