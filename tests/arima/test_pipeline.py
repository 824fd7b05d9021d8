"""The stage on three small series: every table, in one pass, with no series lost."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark.config import Config, LakehouseConfig
from dlmine_spark.errors import TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import arima, predict
from dlmine_spark.runs import NotApplicable
from tests.arima.examples import START, arma
from tests.copies import copy_of

pytestmark = pytest.mark.spark

KNOWN, HORIZON = 120, 7


def config(**evaluation: object) -> Config:
    return Config.model_validate(
        {
            "sources": {
                "panel": {
                    "kind": "panel",
                    "path": "panel.csv",
                    "columns": {"unique_id": None, "ds": None, "y": None, "promo": {"type": "double"}},
                    "roles": {"promo": "known_future"},
                }
            },
            "arima": {"feature_origins": 3},
            "evaluation": {"horizon": HORIZON, **evaluation},
        }
    )


def write_panel(lakehouse: Lakehouse, known: int = KNOWN) -> None:
    """Two stores, and one that only has three values."""
    rows = []
    for name, level, values in (("a", 30.0, known), ("b", 90.0, known), ("short", 5.0, 3)):
        noise = arma(known, ar=0.5, seed=int(level))
        for step in range(known - values, known):
            rows.append((name, START + timedelta(days=step), level + float(noise[step]), 1, False, float(step % 2)))
    schema = "unique_id string, ds date, y double, open int, y_imputed boolean, promo double"
    lakehouse.overwrite("silver.panel", lakehouse.spark.createDataFrame(rows, schema))


@pytest.fixture(scope="module")
def fitted_once(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lakehouse, arima.ArimaReport]:
    """What the stage leaves of the panel, and what it says."""
    house = Lakehouse(spark, LakehouseConfig(root=str(tmp_path_factory.mktemp("fitted") / "lakehouse")))
    write_panel(house)
    report = arima.run(config(), house)
    assert isinstance(report, arima.ArimaReport)
    return house, report


@pytest.fixture
def fitted(fitted_once: tuple[Lakehouse, arima.ArimaReport], tmp_path: Path) -> Lakehouse:
    """A lakehouse with models and forecasts of the panel."""
    return copy_of(fitted_once[0], tmp_path / "fitted")


def test_every_series_has_models_forecasts_and_origins_however_often_it_runs(
    fitted_once: tuple[Lakehouse, arima.ArimaReport], fitted: Lakehouse, caplog: pytest.LogCaptureFixture
) -> None:
    lakehouse, report = fitted, fitted_once[1]

    assert report.fits_by_status == {"ok": 6, "too_short": 1, "failed": 1}
    assert "3 series, 2 cutoffs, horizon 7" in report.message
    forecasts = lakehouse.read("gold.forecasts")
    counts = {
        (row["model"], row["unique_id"]): row["count"]
        for row in forecasts.groupBy("model", "unique_id").count().collect()
    }
    assert counts == {("arima", "a"): 14, ("arima", "b"): 14, ("arima_naive", "short"): 7}
    assert report.rows_out == 35
    first = forecasts.where("unique_id = 'a'").orderBy("cutoff", "h").first()
    assert first is not None
    assert (first["cutoff"], first["ds"], first["h"]) == (
        START + timedelta(days=KNOWN - HORIZON - 1),
        START + timedelta(days=KNOWN - HORIZON),
        1,
    )
    assert first["lo_95"] < first["lo_80"] < first["y_hat"] < first["hi_80"] < first["hi_95"]
    origins = lakehouse.read("gold.arima_origins").where("unique_id = 'a'")
    assert origins.count() == 5
    assert origins.where(F.size("path") != HORIZON).count() == 0
    assert origins.where("fit_cutoff > origin").count() == 0

    # Once more: what the stage wrote is replaced, and nothing of another model.
    lakehouse.append("gold.forecasts", forecasts.limit(4).withColumn("model", F.lit("lstm")))
    again = arima.run(config(), Lakehouse(lakehouse.spark, lakehouse.config))
    assert "promo" in caplog.text
    assert again.rows_out == report.rows_out
    rows = Lakehouse(lakehouse.spark, lakehouse.config).read("gold.forecasts")
    assert rows.where("model = 'lstm'").count() == 4
    assert rows.count() == 39


def test_further_intervals_and_the_parts_of_known_values_are_tables_if_asked_for(lakehouse: Lakehouse) -> None:
    write_panel(lakehouse)
    asked = config(cutoffs=1)
    levels = asked.arima.model_copy(update={"levels": (50.0, 99.0), "fitted": True, "feature_origins": 0})
    arima.run(asked.model_copy(update={"arima": levels}), lakehouse)

    key = ["model", "unique_id", "cutoff", "ds", "h"]
    both = lakehouse.read("gold.arima_intervals").join(lakehouse.read("gold.forecasts"), key, "inner")
    assert both.count() == 2 * lakehouse.read("gold.forecasts").count() > 0
    assert both.where("level = 50 and not (lo_80 < lo and lo < y_hat and y_hat < hi and hi < hi_80)").count() == 0
    assert both.where("level = 99 and not (lo < lo_95 and hi_95 < hi)").count() == 0

    known = lakehouse.read("silver.panel").where("unique_id <> 'short'")
    fitted = lakehouse.read("gold.arima_fitted")
    assert fitted.join(known, ["unique_id", "ds", "y"], "inner").count() == fitted.count() == 2 * KNOWN
    assert {row["cutoff"] for row in fitted.collect()} == {START + timedelta(days=KNOWN - 1)}
    powers = lakehouse.read("gold.arima_models").select(
        "unique_id", "cutoff", F.col("diagnostics.power").alias("power")
    )
    plain = fitted.join(powers, ["unique_id", "cutoff"], "inner").where("power = 1 and memory is not null")
    assert plain.where("abs(level + season + covariates + memory + remainder - y) > 1e-6").count() == 0
    assert plain.where("abs(fitted + remainder - y) > 1e-6").count() == 0
    assert plain.count() > 0


def test_a_series_that_begins_after_the_last_value_has_a_row_that_says_so(lakehouse: Lakehouse) -> None:
    write_panel(lakehouse)
    panel = lakehouse.read("silver.panel")
    opening = START + timedelta(days=KNOWN + 2)
    planned = lakehouse.spark.createDataFrame([("new", opening, None, 1, False, 1.0)], panel.schema)
    lakehouse.overwrite("silver.panel", lakehouse.spark.createDataFrame(panel.union(planned).collect(), panel.schema))

    report = arima.run(config(), lakehouse)
    assert report.fits_by_status == {"ok": 6, "too_short": 1, "failed": 3}
    told = lakehouse.read("gold.arima_models").where("unique_id = 'new'").select("error").distinct().collect()
    assert [row["error"] for row in told] == [
        f"no row up to {START + timedelta(days=KNOWN - 1)}: the series begins on {opening}"
    ]

    assert predict.run(config(), lakehouse, "cleaned").endswith("2 with parameters that were there, 2 fitted anew")


def test_without_a_panel_there_is_nothing_to_fit(lakehouse: Lakehouse) -> None:
    assert arima.run(config(), lakehouse) == NotApplicable("no panel: there are no series to forecast")


def test_all_series_too_short_is_an_error_that_says_so(lakehouse: Lakehouse) -> None:
    write_panel(lakehouse, known=15)
    with pytest.raises(TableContractError, match=r"longest series has 15 known values, arima.min_history"):
        arima.run(config(horizon=2), lakehouse)


def test_unknown_covariates_of_the_future_may_be_refused(lakehouse: Lakehouse) -> None:
    write_panel(lakehouse)
    with pytest.raises(TableContractError, match=r"promo end at .*unknown_future=repeat"):
        arima.run(config(unknown_future="refuse"), lakehouse)


def test_paths_do_not_depend_on_partitions(lakehouse: Lakehouse) -> None:
    write_panel(lakehouse)
    plan = arima.plan_forecasts(config(), lakehouse, lakehouse.read("silver.panel"))
    series = arima.series_to_forecast(config(), lakehouse, lakehouse.read("silver.panel"), plan)
    results = []
    for tasks in (1, 3):
        dealt = series.withColumn("task", F.pmod(F.hash("unique_id"), F.lit(tasks)))
        rows = arima.fit_all(dealt, config().arima, plan, tasks).collect()
        results.append({(row["unique_id"], row["origin"]): row["path"] for row in rows})
    assert results[0].keys() == results[1].keys()
    for key, path in results[0].items():
        if path is not None:
            assert np.array_equal(path, results[1][key])


def test_a_run_that_ended_between_two_waves_goes_on_and_ends_with_the_same_tables(
    fitted: Lakehouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lakehouse = fitted
    tables = ("gold.arima_models", "gold.arima_origins", "gold.forecasts")

    def waves(**evaluation: object) -> Config:
        whole = config(**evaluation)
        return whole.model_copy(update={"arima": whole.arima.model_copy(update={"wave_values": 300})})

    def rows() -> list[list[tuple[object, ...]]]:
        found = []
        for name in tables:
            frame = lakehouse.read(name).drop("seconds", "run_id", "params", "diagnostics")
            found.append(sorted((tuple(row) for row in frame.collect()), key=str))
        return found

    undisturbed = rows()
    assert lakehouse.read("staging.arima").count() == 0

    append = Lakehouse.append

    def dies(self: Lakehouse, table: str, frame: DataFrame) -> int:
        if table == "staging.arima":
            raise KeyboardInterrupt
        return append(self, table, frame)

    def run_and_die() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Lakehouse, "append", dies)
            arima.run(waves(), lakehouse)

    with pytest.raises(KeyboardInterrupt):
        run_and_die()
    first = lakehouse.read("staging.arima").select("unique_id").distinct().count()
    assert 0 < first < 3
    kept = lakehouse.read("staging.arima").drop("fit_key").select("unique_id", "seconds").collect()

    caplog.clear()
    with caplog.at_level(logging.INFO):
        arima.run(waves(), lakehouse)
    assert f"{first} series are fitted already" in caplog.text
    assert rows() == undisturbed
    again = {(row["unique_id"], row["seconds"]) for row in lakehouse.read("gold.arima_models").collect()}
    assert {(row["unique_id"], row["seconds"]) for row in kept if row["seconds"] is not None} <= again

    # Of another configuration nothing is taken.
    with pytest.raises(KeyboardInterrupt):
        run_and_die()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        arima.run(waves(horizon=6), lakehouse)
    assert "fitted already" not in caplog.text
    assert lakehouse.read("gold.forecasts").agg(F.max("h")).collect()[0][0] == 6


def test_without_models_there_are_no_parameters_to_forecast_with(lakehouse: Lakehouse) -> None:
    write_panel(lakehouse)
    with pytest.raises(TableContractError, match=r"gold\.arima_models: there is no such table"):
        predict.run(config(), lakehouse, "cleaned")


def test_newer_data_are_forecast_with_the_parameters_that_are_there(
    fitted: Lakehouse, caplog: pytest.LogCaptureFixture
) -> None:
    lakehouse = fitted
    models = lakehouse.read("gold.arima_models").count()
    forecasts = lakehouse.read("gold.forecasts").count()

    write_panel(lakehouse, known=KNOWN + 5)
    with caplog.at_level(logging.INFO):
        told = predict.run(config(), lakehouse, "cleaned")

    # The short series begins five days later now, and never had a model.
    assert (
        told == f"3 series from {START + timedelta(days=KNOWN + 4)}, horizon 7: 2 with parameters that were there, "
        "1 fitted anew"
    )
    assert "1 series fitted anew: there is no model of it yet" in caplog.text
    rows = lakehouse.read("gold.forecasts").where(F.col("run_id") == "cleaned")
    newest = {(row["model"], row["unique_id"], row["cutoff"]) for row in rows.collect()}
    last = START + timedelta(days=KNOWN + 4)
    assert newest == {("arima", "a", last), ("arima", "b", last), ("arima_naive", "short", last)}
    assert rows.agg(F.min("ds")).collect()[0][0] == last + timedelta(days=1)
    assert rows.where("y_hat is null or lo_95 > y_hat or hi_95 < y_hat").count() == 0
    # What was there stays, and only the new model is added.
    assert lakehouse.read("gold.forecasts").count() == forecasts + 21
    assert lakehouse.read("gold.arima_models").count() == models + 1

    predict.run(config(), lakehouse, "cleaned")
    assert lakehouse.read("gold.forecasts").count() == forecasts + 21
    assert lakehouse.read("gold.arima_models").count() == models + 1


def test_a_model_fitted_anew_at_the_same_end_takes_the_place_of_the_old_one(fitted: Lakehouse) -> None:
    lakehouse = fitted
    panel = lakehouse.read("silver.panel")
    # The first days are gone: seasons count from another day, so parameters do not belong to the series any more.
    shorter = panel.where(F.col("ds") >= START + timedelta(days=3)).collect()
    lakehouse.overwrite("silver.panel", lakehouse.spark.createDataFrame(shorter, panel.schema))

    told = predict.run(config(), lakehouse, "cleaned")
    assert told.endswith("0 with parameters that were there, 3 fitted anew")
    begun = lakehouse.read("gold.arima_models").where("status = 'ok'").groupBy("cutoff")
    days = {row["cutoff"]: row["first"] for row in begun.agg(F.min("diagnostics.begins").alias("first")).collect()}
    assert days[START + timedelta(days=KNOWN - 1)] == START.toordinal() + 3
    assert days[START + timedelta(days=KNOWN - 1 - HORIZON)] == START.toordinal()

    assert "2 with parameters that were there, 1 fitted anew" in predict.run(config(), lakehouse, "cleaned")
