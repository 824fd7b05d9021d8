"""Widths that were learned are used: at the cutoff they were learned for, by segment and part of the horizon."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.evaluation.conformal import widened
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import train
from dlmine_spark.pipelines.calibration import recalibrated, segments_as_of
from tests.training.panels import FINAL, SMALL, panel_rows

pytestmark = pytest.mark.spark

CUTOFF = date(2024, 5, 1)
RARE = tuple(f"s{number}" for number in range(10))
"""Series of the second segment."""


def test_bounds_move_by_their_factor_and_keep_their_order(lakehouse: Lakehouse) -> None:
    spark = lakehouse.spark
    rows = [
        ("r", "lstm", name, CUTOFF, CUTOFF + timedelta(days=h), h, 100.0, 90.0, 120.0, 80.0, 130.0)
        for name, h in (("a", 1), ("a", 2), ("b", 1), ("c", 1))
    ]
    forecasts = spark.createDataFrame(rows, s.FORECASTS.ddl)
    factors = [
        ("r", CUTOFF, 0, 1, 1, 2.0, 1.5, 200),
        ("r", CUTOFF, 0, 2, 2, 3.0, 0.5, 200),
        ("r", CUTOFF, 1, 1, 2, None, None, 0),
        ("r", CUTOFF, None, 1, 2, 0.5, 6.0, 200),
    ]
    segments = spark.createDataFrame([("a", 0), ("b", 1)], "unique_id string, segment int")

    found = recalibrated(forecasts, spark.createDataFrame(factors, s.CALIBRATION.ddl), segments)

    assert found.columns == forecasts.columns
    bounds = {
        (row["unique_id"], row["h"]): (row["y_hat"], row["lo_80"], row["hi_80"], row["lo_95"], row["hi_95"])
        for row in found.collect()
    }
    assert bounds == {
        ("a", 1): (100.0, 80.0, 140.0, 70.0, 145.0),
        # That of 95 % would lie within that of 80 %.
        ("a", 2): (100.0, 70.0, 160.0, 70.0, 160.0),
        ("b", 1): (100.0, 90.0, 120.0, 80.0, 130.0),
        # Without a segment; nothing falls below 0 that did not.
        ("c", 1): (100.0, 95.0, 110.0, 0.0, 280.0),
    }
    # A model that forecasts away from the tables does the same.
    elsewhere = widened(forecasts.toPandas(), pd.DataFrame(factors, columns=s.CALIBRATION.names), {"a": 0, "b": 1})
    assert {(row[2], row[5]): row[6:] for row in elsewhere.itertuples(index=False, name=None)} == bounds


def test_training_leaves_the_factors_and_forecasts_that_follow_them(lakehouse: Lakehouse, tmp_path: Path) -> None:
    backtest = FINAL - timedelta(days=7)
    panels = [
        rows.append_column(
            "sc_mined_segments", pa.array([1.0 + (name in RARE) for name in rows["unique_id"].to_pylist()])
        )
        for rows in (panel_rows(backtest, series=60), panel_rows(FINAL, series=60))
    ]
    pq.write_table(pa.concat_tables(panels), tmp_path / "panel.parquet")
    lakehouse.overwrite(s.TRAINING_PANEL.name, lakehouse.spark.read.parquet(str(tmp_path / "panel.parquet")))
    training = SMALL.model_dump() | {"epochs": 1, "samples_per_epoch": 64}
    config = Config.model_validate({"evaluation": {"horizon": 7}, "cleaning": {"frequency": "D"}, "training": training})

    report = train.run(config, lakehouse.for_run("train-1", {s.TRAINING_PANEL.name: 0}))

    assert isinstance(report, train.TrainReport)
    factors = lakehouse.read(s.CALIBRATION.name).orderBy("first_h", "segment").collect()
    # 50 series of 2 origins are enough for two days, 10 series are not.
    assert [(row["first_h"], row["last_h"], row["segment"]) for row in factors[:3]] == [
        (1, 1, None),
        (1, 1, 0),
        (1, 1, 1),
    ]
    assert {row[s.CUTOFF] for row in factors} == {backtest}
    of_last = {row["segment"]: row["factor_80"] for row in factors if row["first_h"] == 6}
    assert of_last[0] != of_last[1] == of_last[None]
    raw = lakehouse.spark.read.parquet(f"file://{report.folder}/cutoff={backtest}/forecasts.parquet")
    both = raw.alias("raw").join(lakehouse.read(s.FORECASTS.name).alias("gold"), on=["unique_id", "h"], how="inner")
    width = (F.col("gold.hi_80") - F.col("gold.y_hat")) / (F.col("raw.hi_80") - F.col("raw.y_hat"))
    found = both.where("h = 7 AND raw.hi_80 > raw.y_hat").select("unique_id", width.alias("width")).collect()
    assert len(found) >= 20
    for row in found:
        assert row["width"] == pytest.approx(of_last[int(row["unique_id"] in RARE)], rel=1e-6)
    assert segments_as_of(lakehouse.read(s.TRAINING_PANEL.name), backtest).count() == 60
