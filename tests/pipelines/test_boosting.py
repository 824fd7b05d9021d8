"""LightGBM in the stage blend: beside the other models, part of the blend, asked again, and missed before any work."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, LightGBMConfig, load_config
from dlmine_spark.errors import EnvironmentProblem, TrainingError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import blend, train
from dlmine_spark.pipelines.boosting import LIGHTGBM, boost_once_more
from dlmine_spark.pipelines.graph import check_engine
from tests.pipelines.examples import BACKTEST, with_training_panel
from tests.training.panels import FINAL, SMALL, panel_rows

CONFIG = Config.model_validate(
    {
        "evaluation": {"horizon": 7},
        "cleaning": {"frequency": "D"},
        "training": SMALL.model_dump() | {"epochs": 1, "samples_per_epoch": 64},
        "lightgbm": {"enabled": True, "trees": 40, "learning_rate": 0.2, "leaves": 15, "min_rows_a_leaf": 10},
    }
)
INPUTS = {s.TRAINING_PANEL.name: 0, s.PANEL.name: 0}
TRAINED = {s.VALIDATION_FORECASTS.name: 0}
PLAIN = CONFIG.model_copy(update={"lightgbm": LightGBMConfig()})


def models(lakehouse: Lakehouse) -> dict[tuple[str, object], int]:
    counts = lakehouse.read(s.FORECASTS.name).groupBy(s.MODEL, s.CUTOFF).count().collect()
    return {(row[s.MODEL], row[s.CUTOFF]): row["count"] for row in counts}


@pytest.mark.spark
def test_it_forecasts_has_a_weight_in_the_blend_and_can_be_asked_again(lakehouse: Lakehouse, tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    rows = panel_rows(FINAL)
    with_training_panel(lakehouse, tmp_path, rows)
    train.run(CONFIG, lakehouse.for_run("train-1", INPUTS))
    with pytest.raises(TrainingError, match=r"LightGBM has no trees yet"):
        boost_once_more(CONFIG, lakehouse, s.TRAINING_PANEL.name, FINAL, BACKTEST, "scenario.parquet")

    report = blend.run(CONFIG, lakehouse.for_run("blend-1", INPUTS | TRAINED))

    assert isinstance(report, blend.BlendReport)
    # The network had one epoch; promotions, which LightGBM has found, are nothing that the simple models know of.
    assert max(report.weights, key=lambda model: report.weights[model]) == LIGHTGBM
    made = models(lakehouse)
    assert made[LIGHTGBM, BACKTEST] == made[LIGHTGBM, FINAL] == made["lstm", BACKTEST] == 28
    assert made["blend", BACKTEST] == 28
    own = lakehouse.read(s.FORECASTS.name).where(F.col(s.MODEL) == LIGHTGBM)
    assert own.where("lo_95 <= lo_80 AND lo_80 <= y_hat AND y_hat <= hi_80 AND hi_80 <= hi_95").count() == 56

    # Asked again with a promotion on every day: more than before, and never less.
    panel = lakehouse.read(s.TRAINING_PANEL.name).where(F.col(s.CUTOFF) == FINAL)
    promoted = panel.withColumn("kf_promo", F.when(F.col(s.DS) > FINAL, 1.0).otherwise(F.col("kf_promo")))
    lakehouse.overwrite("staging.scenario_panel", promoted)
    again = boost_once_more(CONFIG, lakehouse, "staging.scenario_panel", FINAL, BACKTEST, "scenario.parquet")
    before = own.where(F.col(s.CUTOFF) == FINAL).select(s.UNIQUE_ID, s.DS, F.col(s.Y_HAT).alias("before"))
    changes = again.join(before, on=[s.UNIQUE_ID, s.DS], how="inner").toPandas()
    assert len(changes) == 28
    assert changes[s.DS].max() == FINAL + timedelta(days=7)
    more = changes[s.Y_HAT] / changes["before"]
    assert (more[changes["before"] > 0] > 0.95).all()
    assert changes[s.Y_HAT].sum() > 1.2 * changes["before"].sum()


def test_what_is_asked_for_and_not_installed_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(EnvironmentProblem, match=r"lightgbm\.enabled needs .*pip install 'dlmine-spark\[lightgbm\]'"):
        check_engine(CONFIG, ["backtest"])
    # Not asked for, or not needed.
    check_engine(PLAIN, ["backtest"])
    check_engine(CONFIG, ["mine"])


def test_threads_are_no_part_of_the_result() -> None:
    def digest(*overrides: str) -> str:
        return load_config(overrides=[f"lightgbm.{setting}" for setting in overrides]).digest("lightgbm")

    assert digest("enabled=true", "threads=1") == digest("enabled=true", "threads=2")
    assert digest("enabled=true") != digest("enabled=true", "leaves=31")
    # Nobody is asked to run again for what is switched off.
    assert digest() == digest("leaves=31") != digest("enabled=true")
