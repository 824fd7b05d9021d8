"""New series from the tables of a finished forecast."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.errors import TableContractError
from dlmine_spark.fusion.signals import SEGMENT_CODE
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import cold_start

pytestmark = pytest.mark.spark

BACKTEST, FINAL = date(2024, 3, 1), date(2024, 3, 5)
STORES = 24
NEW = ("N1", "N2")


def forecast_lakehouse(lakehouse: Lakehouse) -> Lakehouse:
    """Stores of two sizes and types, forecast four days ahead from two cutoffs; two more have attributes only."""
    spark = lakehouse.spark
    ids = [f"S{number:02}" for number in range(STORES)]
    statics = [(one, float(1 + number % 3), "city" if number % 2 else "mall") for number, one in enumerate(ids)]
    statics += [(NEW[0], 3.0, "city"), (NEW[1], 1.0, None)]
    lakehouse.overwrite(s.STATICS.name, spark.createDataFrame(statics, "unique_id string, size double, type string"))

    def value(number: int, h: int) -> float:
        return 100.0 * (1 + number % 3) * ((0.5 if h % 2 else 1.5) if number % 2 else 1.0)

    forecasts = [
        (model, one, cutoff, cutoff + timedelta(days=h), h, factor * value(number, h))
        for model, factor in (("arima", 9.0), ("blend", 1.0))
        for cutoff in (BACKTEST, FINAL)
        for number, one in enumerate(ids)
        for h in range(1, 5)
    ]
    frame = spark.createDataFrame([("run", *row, None, None, None, None) for row in forecasts], s.FORECASTS.ddl)
    lakehouse.overwrite(s.FORECASTS.name, frame, partition_by=s.FORECASTS.partition_by)
    panel = [
        (one, BACKTEST + timedelta(days=h), value(number, h), True, False)
        for number, one in enumerate(ids)
        for h in range(1, 5)
    ]
    lakehouse.overwrite(
        s.PANEL.name,
        spark.createDataFrame(panel, "unique_id string, ds date, y double, open boolean, y_imputed boolean"),
    )
    codes = [(one, cutoff, number % 2 + 1) for cutoff in (BACKTEST, FINAL) for number, one in enumerate(ids)]
    known = spark.createDataFrame(codes, f"unique_id string, cutoff date, {SEGMENT_CODE} int")
    others = {
        name: F.lit(None).cast(type_) for name, type_ in s.TRAINING_PANEL.columns.items() if name not in known.columns
    }
    lakehouse.overwrite(s.TRAINING_PANEL.name, known.withColumns(others | {"shard": F.lit(0)}))
    return lakehouse


def test_new_series_are_forecast_by_their_attributes(lakehouse: Lakehouse) -> None:
    line, fared = cold_start.run(forecast_lakehouse(lakehouse))

    rows = lakehouse.read(s.COLD_START.name).orderBy("unique_id", "h").collect()
    assert [(row["unique_id"], row["ds"], row["h"], row["segment"]) for row in rows[:5]] == [
        *(("N1", FINAL + timedelta(days=h), h, 1) for h in range(1, 5)),
        ("N2", date(2024, 3, 6), 1, 0),
    ]
    assert [row["y_hat"] for row in rows] == pytest.approx([150, 450, 150, 450, 100, 100, 100, 100], rel=0.1)
    assert all(row["lo_95"] <= row["lo_80"] <= row["hi_80"] <= row["hi_95"] for row in rows)
    assert line == "new series: 2 without history forecast from 24 with one, by their attributes and segments"
    assert fared.startswith("  24 series left out in turn: WAPE ")
    assert fared.endswith("donors' forecasts are those of blend")
    scores = {row["model"]: row for row in lakehouse.read(s.COLD_START_SCORES.name).collect()}
    assert scores["cold_start"]["wape"] < 0.1 < 0.3 < scores["overall_mean"]["wape"]
    assert {row["cutoff"] for row in scores.values()} == {BACKTEST}


def test_a_series_of_other_steps_is_none_without_history(lakehouse: Lakehouse) -> None:
    forecast_lakehouse(lakehouse)
    aside = [("N2", 9, date(2024, 1, 1), date(2024, 3, 1), "a row each week")]
    lakehouse.overwrite(s.SET_ASIDE.name, lakehouse.spark.createDataFrame(aside, s.SET_ASIDE.ddl))
    line, _ = cold_start.run(lakehouse)
    assert line.startswith("new series: 1 without history")
    assert {row["unique_id"] for row in lakehouse.read(s.COLD_START.name).collect()} == {"N1"}


def test_without_a_new_series_it_is_only_measured(lakehouse: Lakehouse) -> None:
    forecast_lakehouse(lakehouse)
    lakehouse.overwrite(s.STATICS.name, lakehouse.read(s.STATICS.name).where("unique_id LIKE 'S%'"))
    line, _ = cold_start.run(lakehouse)
    assert line == "new series: silver.statics has none without history"
    assert lakehouse.read(s.COLD_START.name).isEmpty()
    assert lakehouse.read(s.COLD_START_SCORES.name).count() == 2


def test_what_is_missing_is_told(lakehouse: Lakehouse) -> None:
    with pytest.raises(TableContractError, match=r"silver\.statics: is not there, .* source of kind statics"):
        cold_start.run(lakehouse)
    forecast_lakehouse(lakehouse)
    lakehouse.overwrite(s.STATICS.name, lakehouse.read(s.STATICS.name).where("unique_id < 'S03'"))
    with pytest.raises(
        TableContractError, match=r"3 series with attributes have a forecast from 2024-03-01, at least 5"
    ):
        cold_start.run(lakehouse)
