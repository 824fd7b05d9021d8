"""The backtest on tiny tables: who is compared on what, and what is left out."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dlmine_spark.config import Config
from dlmine_spark.errors import TableContractError
from dlmine_spark.evaluation.naive import PROFILE, SEASONAL_NAIVE, YEAR_AGO
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import backtest, blend
from dlmine_spark.runs import NotApplicable
from dlmine_spark.schemas import FORECASTS, PANEL, SEGMENTS
from tests.evaluation.test_naive import START

pytestmark = pytest.mark.spark

CONFIG = Config.model_validate({"evaluation": {"horizon": 2}, "cleaning": {"frequency": "D"}})
KNOWN, CUTOFF = 16, START + timedelta(days=13)


def write_panel(lakehouse: Lakehouse, *, closed_at: int | None = None) -> None:
    """Series a counts days, series b is always 50."""
    rows = [
        (name, START + timedelta(days=day), float(day) if name == "a" else 50.0, int(day != closed_at), False)
        for name in ("a", "b")
        for day in range(KNOWN)
    ]
    lakehouse.overwrite("silver.panel", lakehouse.spark.createDataFrame(rows, PANEL.ddl))


def write_forecasts(lakehouse: Lakehouse, model: str, values: dict[str, list[float]]) -> None:
    rows = [
        ("test", model, name, CUTOFF, CUTOFF + timedelta(days=h), h, value, value - 1, value + 1, value - 2, value + 2)
        for name, path in values.items()
        for h, value in enumerate(path, start=1)
    ]
    frame = lakehouse.spark.createDataFrame(rows, FORECASTS.ddl)
    lakehouse.overwrite("gold.forecasts", frame, replace_where=f"model = '{model}'")


def value(lakehouse: Lakehouse, model: str, metric: str, scope: str = "overall", scope_id: str = "all") -> float:
    rows = lakehouse.read("gold.metrics").where(
        f"model = '{model}' and metric = '{metric}' and scope = '{scope}' and scope_id = '{scope_id}'"
    )
    return float(rows.collect()[0]["value"])


def test_the_naive_model_alone_is_measured_overall_and_by_series_horizon_and_segment(lakehouse: Lakehouse) -> None:
    write_panel(lakehouse)
    rows = [("store", "a", 0, 0.1, [1.0], False), ("store", "b", 1, 0.1, [1.0], False)]
    lakehouse.overwrite("gold.segments", lakehouse.spark.createDataFrame(rows, SEGMENTS.ddl))
    # Of a run that asked for it; this one does not.
    write_forecasts(lakehouse, "lightgbm", {"a": [1.0, 2.0]})
    blend.run(CONFIG, lakehouse)
    report = backtest.run(CONFIG, lakehouse)
    # a: forecasts 7 and 8 for 14 and 15; b: exact.
    # A year ago is not known, so that is the seasonal naive; the median of b's steps is exact, too, that of a is not.
    assert report.wape == {
        SEASONAL_NAIVE: pytest.approx(14 / 129),
        YEAR_AGO: pytest.approx(14 / 129),
        PROFILE: pytest.approx(21 / 129),
    }
    assert value(lakehouse, SEASONAL_NAIVE, "mase", "series", "a") == pytest.approx(1.0)
    assert value(lakehouse, SEASONAL_NAIVE, "mae", "horizon", "2") == pytest.approx(3.5)
    assert value(lakehouse, SEASONAL_NAIVE, "mae", "segment", "0") == pytest.approx(7.0)
    assert value(lakehouse, SEASONAL_NAIVE, "mae", "segment", "1") == 0.0
    assert value(lakehouse, SEASONAL_NAIVE, "mae", "segment_steps", "0: 2-2") == pytest.approx(7.0)
    assert value(lakehouse, SEASONAL_NAIVE, "coverage_80", "segment_steps", "1: 1-1") == 1.0
    assert report.rows_rejected == 0


def test_only_what_every_model_forecast_is_compared(lakehouse: Lakehouse) -> None:
    write_panel(lakehouse)
    write_forecasts(lakehouse, "arima", {"a": [14.0, 16.0]})
    write_forecasts(lakehouse, "arima_naive", {"b": [60.0]})
    write_forecasts(lakehouse, "lstm", {"a": [13.0, 15.0], "b": [50.0, 50.0]})
    blend.run(CONFIG, lakehouse)
    report = backtest.run(CONFIG, lakehouse)
    assert report.wape == {
        "arima": pytest.approx((0 + 1 + 10) / 79),
        "lstm": pytest.approx(1 / 79),
        SEASONAL_NAIVE: pytest.approx(14 / 79),
        YEAR_AGO: pytest.approx(14 / 79),
        PROFILE: pytest.approx(21 / 79),
    }
    assert "1 left out" in report.message
    assert (report.rows_in, report.rows_out, report.rows_rejected) == (19, 15, 4)
    assert value(lakehouse, "arima", "fallback_share") == pytest.approx(1 / 3)
    assert value(lakehouse, "arima", "coverage_80") == pytest.approx(2 / 3)
    pairs = {(row["model"], row["other"]): row for row in lakehouse.read("gold.comparisons").collect()}
    assert len(pairs) == 10
    # ARIMA errs by 0, 1 and 10, the LSTM by 1, 0 and 0.
    assert pairs["arima", "lstm"]["difference"] == pytest.approx(10 / 3)
    assert pairs["arima", "lstm"]["forecasts"] == 3
    assert 0 < pairs["arima", "lstm"]["p_value"] < 1


def test_without_a_panel_there_is_nothing_to_compare(lakehouse: Lakehouse) -> None:
    assert backtest.run(CONFIG, lakehouse) == NotApplicable("no panel: there are no forecasts to compare")


def test_closed_days_do_not_count(lakehouse: Lakehouse) -> None:
    write_panel(lakehouse, closed_at=14)
    blend.run(CONFIG, lakehouse)
    backtest.run(CONFIG, lakehouse)
    assert value(lakehouse, SEASONAL_NAIVE, "forecasts") == 2


def test_models_without_a_date_in_common_are_an_error(lakehouse: Lakehouse) -> None:
    write_panel(lakehouse)
    write_forecasts(lakehouse, "arima", {"a": [14.0]})
    write_forecasts(lakehouse, "lstm", {"b": [50.0, 50.0]})
    blend.run(CONFIG, lakehouse)
    with pytest.raises(TableContractError, match="forecast by all of arima, lstm, profile_median, seasonal_naive"):
        backtest.run(CONFIG, lakehouse)
