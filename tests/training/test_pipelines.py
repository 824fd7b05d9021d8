"""The pipelines train and forecast, from a training panel in the lakehouse to rows of gold.forecasts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import functions as F

from dlmine_spark.config import Config
from dlmine_spark.errors import TrainingError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import forecast, train
from dlmine_spark.runs import NotApplicable
from tests.training.panels import FINAL, SMALL, panel_rows

BACKTEST = FINAL - timedelta(days=7)
CONFIG = Config.model_validate(
    {
        "evaluation": {"horizon": 7},
        "cleaning": {"frequency": "D"},
        "training": SMALL.model_dump(),
        "spark": {"conf": {"spark.hadoop.fs.s3a.secret.key": "hush"}},
    }
)


@pytest.fixture
def with_panel(lakehouse: Lakehouse, tmp_path: Path) -> Lakehouse:
    pq.write_table(pa.concat_tables([panel_rows(BACKTEST), panel_rows(FINAL)]), tmp_path / "panel.parquet")
    lakehouse.overwrite("gold.training_panel", lakehouse.spark.read.parquet(str(tmp_path / "panel.parquet")))
    return lakehouse


INPUTS = {"gold.training_panel": 0}
TRAINED = INPUTS | {"gold.calibration": 0}


@pytest.mark.spark
def test_training_then_forecasting_fills_gold_forecasts(with_panel: Lakehouse) -> None:
    report = train.run(CONFIG, with_panel.for_run("train-1", INPUTS))

    assert isinstance(report, train.TrainReport)
    assert report.cutoffs == (BACKTEST, FINAL)
    assert report.rows_out == 4 * 7
    assert report.best_validation_wape is not None
    assert {"config.yaml", "manifest.json", "metrics.json"} <= {path.name for path in report.folder.iterdir()}
    assert train.trained_models(with_panel) == report.folder
    beside = yaml.safe_load((report.folder / "config.yaml").read_text(encoding="utf-8"))
    assert beside["training"]["seed"] == SMALL.seed
    assert beside["spark"]["conf"] == {"spark.hadoop.fs.s3a.secret.key": "***"}

    done = forecast.run(CONFIG, with_panel.for_run("forecast-1", TRAINED))

    assert isinstance(done, forecast.ForecastReport)
    assert (done.cutoff, done.series, done.rows_out) == (FINAL, 4, 28)
    rows = with_panel.read("gold.forecasts")
    by_cutoff = {
        (row["model"], row["cutoff"], row["run_id"]): (row["rows"], row["first"], row["nulls"])
        for row in rows.groupBy("model", "cutoff", "run_id")
        .agg(
            F.count("*").alias("rows"),
            F.min("ds").alias("first"),
            F.sum(F.col("lo_95").isNull().cast("int")).alias("nulls"),
        )
        .collect()
    }
    assert by_cutoff == {
        ("lstm", BACKTEST, "train-1"): (28, BACKTEST + timedelta(days=1), 0),
        ("lstm", FINAL, "forecast-1"): (28, FINAL + timedelta(days=1), 0),
    }

    # Forecasting again replaces its own rows only.
    forecast.run(CONFIG, with_panel.for_run("forecast-2", TRAINED))
    assert with_panel.read("gold.forecasts").count() == 56


@pytest.mark.spark
def test_without_a_panel_there_is_nothing_to_train(lakehouse: Lakehouse) -> None:
    assert isinstance(train.run(CONFIG, lakehouse), NotApplicable)
    assert isinstance(forecast.run(CONFIG, lakehouse), NotApplicable)


@pytest.mark.spark
def test_forecasting_before_training_says_what_to_run(with_panel: Lakehouse) -> None:
    with pytest.raises(TrainingError, match="run the stage train"):
        forecast.run(CONFIG, with_panel)
