"""Leaks that were planted are found and named, by the record or by trying; and the future as noise changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import ALL_SIGNALS, Config, LakehouseConfig, LightGBMConfig, load_config
from dlmine_spark.errors import TableContractError
from dlmine_spark.evaluation.leakage import changed_columns, with_noise
from dlmine_spark.frequency import Frequency, Moment
from dlmine_spark.fusion import panel as fusion_panel
from dlmine_spark.fusion.panel import PanelInputs, training_panel
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import arima, audit, blend, fuse, train
from dlmine_spark.pipelines.audit import write_with_noise
from tests.pipelines.examples import PROMOTED
from tests.training.panels import SMALL

pytestmark = pytest.mark.spark

START, DAYS, HORIZON = date(2024, 1, 1), 70, 7
FINAL = START + timedelta(days=DAYS - 1)
CUTOFF = FINAL - timedelta(days=HORIZON)
CONFIG = load_config(
    overrides=[
        *PROMOTED,
        "sources.lines.columns={basket_id: b, item: i, ts: t, customer_id: c, store_id: s}",
        f"evaluation.horizon={HORIZON}",
        "cleaning.frequency=D",
        "mining={promoted_item: item, min_support: .1, min_confidence: .1, max_q: 1}",
        "segmentation={k: 2, restarts: 1}",
        "arima={order: [1, 0, 0], feature_origins: 2}",
    ]
).model_copy(update={"training": SMALL.model_copy(update={"epochs": 1, "samples_per_epoch": 64})})
WITH_ALL = CONFIG.model_copy(update={"training": CONFIG.training.model_copy(update={"mined": ALL_SIGNALS})})


def fill(lakehouse: Lakehouse) -> None:
    """Four series of two kinds of weeks, with visitors, promotions and baskets of what is promoted.

    Customers come once a week, for gin, then limes, then bread, and begin again.
    """
    spark, rng = lakehouse.spark, np.random.default_rng(4)
    days = [START + timedelta(days=day) for day in range(DAYS)]
    item = {day: "gin" if day.day % 5 == 0 else "tea" if day.day % 7 == 0 else None for day in days}
    panel = []
    for number, name in enumerate("abcd"):
        for day in days:
            week = 1.5 if (day.weekday() >= 5) == (number % 2 == 0) else 1.0
            y = 100.0 * week * (1.4 if item[day] else 1.0) * float(np.exp(0.1 * rng.standard_normal()))
            panel.append(
                (name, day, y, 1, False, y / 10 + rng.standard_normal(), float(item[day] is not None), item[day])
            )
    columns = "y_imputed boolean, visitors double, promo double, item string"
    lakehouse.overwrite(
        s.PANEL.name, spark.createDataFrame(panel, f"unique_id string, ds date, y double, open int, {columns}")
    )
    lines = [
        (f"{day} {basket}", datetime(day.year, day.month, day.day, 12), one, 1.0, 2.0, None, "a")
        for day in days
        for basket in range(4)
        for one in (("gin", "tonic") if basket % 2 else ("tea", "tonic") if basket == 2 else ("gin", "tea"))
    ]
    lines += [
        (
            f"{day} c{customer}",
            datetime(day.year, day.month, day.day, 9),
            one,
            1.0,
            2.0,
            f"c{customer}",
            "abcd"[customer % 4],
        )
        for customer in range(12)
        for week, day in enumerate(days[customer % 7 :: 7])
        for one in [("gin", "lime", "bread")[(week + customer) % 3]]
    ]
    lakehouse.overwrite(s.LINES.name, spark.createDataFrame(lines, s.LINES.ddl))
    origins = [
        (name, origin, origin, [120.0] * HORIZON, 10.0)
        for name in "abcd"
        for origin in (CUTOFF - timedelta(days=7), CUTOFF)
    ]
    lakehouse.overwrite(s.ARIMA_ORIGINS.name, spark.createDataFrame(origins, s.ARIMA_ORIGINS.ddl))


def leaks_of(lakehouse: Lakehouse, config: Config = CONFIG) -> str:
    """What the audit says of the training panels that the stage fuse makes now."""
    fuse.run(config, lakehouse)
    with pytest.raises(TableContractError, match="from after the cutoff") as found:
        audit.run(config, lakehouse)
    return str(found.value)


def test_honest_panels_pass_and_say_what_they_were_made_from(lakehouse: Lakehouse) -> None:
    fill(lakehouse)
    fuse.run(WITH_ALL, lakehouse)

    assert "none was made from what came later, and none changes with it" in audit.run(WITH_ALL, lakehouse)

    rows = lakehouse.read(s.LINEAGE.name).where(F.col(s.CUTOFF) == CUTOFF).collect()
    assert {(row["column"], row["source"], row["source_version"], row["newest"]) for row in rows} == {
        ("y", "silver.panel", 0, CUTOFF),
        ("po_visitors", "silver.panel", 0, CUTOFF),
        ("arima_path", "gold.arima_origins", 0, CUTOFF),
        ("kf_mined_rules_pull", "silver.lines", 0, CUTOFF),
        ("sc_mined_segments", "silver.panel", 0, CUTOFF),
        ("sn_mined_segments_*", "silver.panel", 0, CUTOFF),
        ("kf_mined_sequences_pull", "silver.lines", 0, CUTOFF),
        ("po_mined_sequences_due", "silver.lines", 0, CUTOFF),
        ("po_mined_activations_*", "silver.lines", 0, CUTOFF),
    }
    panel = lakehouse.read(s.TRAINING_PANEL.name).where(F.col(s.CUTOFF) == CUTOFF)
    varies = [F.stddev(name) for name in panel.columns if name.startswith("po_mined_activations_")]
    assert any(panel.agg(*varies).collect()[0])
    assert not list(Path(lakehouse.config.root).parent.glob(".lakehouse-audit-*"))


def test_what_is_mined_of_later_data_is_on_record(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is gone: all that the panel has is segmented, sequences and activations are those of all baskets."""
    fill(lakehouse)
    segments, lines = fuse._segments_as_of, fuse._lines_as_of
    monkeypatch.setattr(fuse, "_segments_as_of", lambda given, cutoff, number: segments(given, FINAL, number))
    monkeypatch.setattr(fuse, "_lines_as_of", lambda given, cutoff: lines(given, FINAL))
    monkeypatch.setattr(audit, "NAMED_LEAKS", 100)

    told = leaks_of(lakehouse, WITH_ALL)

    assert f"column sc_mined_segments, cutoff {CUTOFF}: it was made from silver.panel (version 0) up to {FINAL}" in told
    assert f"column sn_mined_segments_0, cutoff {CUTOFF}: it changes with what comes later" in told
    for column in ("kf_mined_sequences_pull", "po_mined_sequences_due", "po_mined_activations_*"):
        assert f"column {column}, cutoff {CUTOFF}: it was made from silver.lines (version 0) up to {FINAL}" in told


def test_a_rolling_mean_that_reaches_into_the_horizon_changes(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lakehouse)

    def peeking(inputs: PanelInputs, cutoff: Moment, frequency: Frequency) -> DataFrame:
        ahead = Window.partitionBy(s.UNIQUE_ID).orderBy(s.DS).rowsBetween(0, HORIZON)
        rolling = inputs.panel.select(s.UNIQUE_ID, s.DS, F.avg(s.Y).over(ahead).alias("kf_mean_of_week"))
        return training_panel(inputs, cutoff, frequency).join(rolling, on=[s.UNIQUE_ID, s.DS], how="left")

    monkeypatch.setattr(fuse, "training_panel", peeking)

    told = leaks_of(lakehouse)

    assert told.startswith("1 leak from")
    assert f"gold.training_panel: column kf_mean_of_week, cutoff {CUTOFF}: it changes with what comes later" in told


def test_an_arima_path_fitted_after_its_origin_is_on_record(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lakehouse)
    origin = CUTOFF - timedelta(days=7)
    rows = [("a", origin, CUTOFF, [120.0] * HORIZON, 10.0), ("b", CUTOFF, CUTOFF, [120.0] * HORIZON, 10.0)]
    lakehouse.overwrite(s.ARIMA_ORIGINS.name, lakehouse.spark.createDataFrame(rows, s.ARIMA_ORIGINS.ddl))

    def careless(rows: DataFrame, origins: DataFrame, cutoff: Moment) -> DataFrame:
        paths = origins.select(s.UNIQUE_ID, F.col("origin").alias(s.DS), F.col("path").alias("arima_path"))
        return rows.join(paths, on=[s.UNIQUE_ID, s.DS], how="left")

    monkeypatch.setattr(fusion_panel, "_with_arima_paths", careless)

    told = leaks_of(lakehouse)

    assert f"column arima_path, cutoff {CUTOFF}: the forecast of series a from {origin} has parameters fitted" in told
    assert f"up to {CUTOFF}" in told


def test_with_noise_after_the_cutoff_every_forecast_is_the_same(lakehouse: Lakehouse, tmp_path: Path) -> None:
    """The canary: values, visitors and baskets after the cutoff are noise, what was planned stays."""
    fill(lakehouse)
    noisy = Lakehouse(lakehouse.spark, LakehouseConfig(root=str(tmp_path / "noisy")))
    write_with_noise(CONFIG, lakehouse, noisy, CUTOFF)
    later = F.col(s.DS) > CUTOFF
    assert noisy.read(s.PANEL.name).where(later).agg(F.max(s.Y)).collect()[0][0] > 500

    boosted = {"lightgbm"} if find_spec("lightgbm") else set()
    config = CONFIG.model_copy(update={"lightgbm": LightGBMConfig(enabled=bool(boosted), trees=10, min_rows_a_leaf=5)})
    one, other = forecasts(lakehouse, config), forecasts(noisy, config)

    simple = {"seasonal_naive", "year_ago_growth", "profile_median"}
    assert set(one[s.MODEL]) == {"lstm", "arima", "blend"} | simple | boosted
    assert len(one) == (6 + len(boosted)) * 4 * HORIZON
    # The blend is a sum of Spark's, which adds in any order.
    is_sum = one[s.MODEL] == "blend"
    pd.testing.assert_frame_equal(one[~is_sum], other[~is_sum], check_exact=True)
    pd.testing.assert_frame_equal(one[is_sum], other[is_sum], rtol=1e-12, atol=0)


def forecasts(lakehouse: Lakehouse, config: Config) -> pd.DataFrame:
    """Of every model, at the backtest cutoff."""
    for stage in (arima, fuse, train, blend):
        run: Callable[[Config, Lakehouse], object] = stage.run
        run(config, lakehouse)
    rows = lakehouse.read(s.FORECASTS.name).where(F.col(s.CUTOFF) == CUTOFF).drop(s.RUN_ID).toPandas()
    return rows.sort_values([s.MODEL, s.UNIQUE_ID, s.H], ignore_index=True)


def test_noise_is_where_values_were_and_the_same_each_time(lakehouse: Lakehouse) -> None:
    rows = [("a", day, value, name) for day, value, name in ((1, 5.0, "x"), (2, 5.0, "x"), (3, None, None))]
    frame = lakehouse.spark.createDataFrame(rows, "unique_id string, ds int, y double, name string")

    noisy = with_noise(frame, ["y", "name"], F.col("ds") > 1, ["unique_id", "ds"]).orderBy("ds")

    first, second, third = noisy.collect()
    assert tuple(first) == ("a", 1, 5.0, "x")
    assert second["y"] != 5.0
    assert second["name"].startswith("noise ")
    assert tuple(third) == ("a", 3, None, None)
    assert noisy.collect()[1] == second


def test_changed_columns_are_told_from_rounding(lakehouse: Lakehouse) -> None:
    columns = "cutoff int, unique_id string, ds int, y double, mask int, kf_a double, arima_path array<double>"

    def panel(y: float | None, mask: int, a: float, path: list[float] | None) -> DataFrame:
        return lakehouse.spark.createDataFrame([(9, "a", 1, y, mask, a, path)], columns)

    one = panel(1.0, 1, 100.0, [1.0])
    assert changed_columns(one, panel(1.0 + 1e-12, 1, 100.0, [1.0])) == []
    assert changed_columns(one, panel(None, 0, 100.1, None)) == ["y", "mask", "kf_a", "arima_path"]
    # An indicator of another cutoff only is 0 here.
    assert changed_columns(one.withColumn("kf_b", F.lit(0.0)), one) == []
    assert changed_columns(one, one.withColumn("kf_b", F.lit(1.0))) == ["kf_b"]
    assert "y" in changed_columns(one, one.withColumn("ds", F.lit(2)))
