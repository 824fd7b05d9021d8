"""The stage fuse on small tables: what was mined from all data, or happened later, stays out of a backtest cutoff."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig, load_config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import fuse
from tests.mining.examples import rule
from tests.pipelines.examples import PROMOTED

pytestmark = pytest.mark.spark

START, DAYS, HORIZON = date(2024, 1, 1), 42, 7
FINAL = START + timedelta(days=DAYS - 1)
CUTOFF = FINAL - timedelta(days=HORIZON)
CONFIG = load_config(
    overrides=[
        *PROMOTED,
        f"evaluation.horizon={HORIZON}",
        "mining={promoted_item: item, min_support: .1, min_confidence: .1}",
    ]
)


def fill(lakehouse: Lakehouse) -> None:
    """Tables of two series and their baskets, and what the stages before are said to have mined from all of it."""
    spark = lakehouse.spark
    days = [START + timedelta(days=day) for day in range(DAYS)]
    promoted = {day: "x" if day.day % 5 == 0 else None for day in days}
    panel = [
        (name, day, 100.0 + day.day, 1, False, float(promoted[day] is not None), promoted[day])
        for name in "ab"
        for day in days
    ]
    lakehouse.overwrite(
        s.PANEL.name,
        spark.createDataFrame(
            panel, "unique_id string, ds date, y double, open int, y_imputed boolean, promo double, item string"
        ),
    )
    lines = [(str(day), "x", datetime(day.year, day.month, day.day, 12)) for day in days]
    stamped = spark.createDataFrame(lines, "basket_id string, item string, ts timestamp")
    others = {name: type_ for name, type_ in s.LINES.columns.items() if name not in stamped.columns}
    lakehouse.overwrite(
        s.LINES.name, stamped.withColumns({name: F.lit(None).cast(type_) for name, type_ in others.items()})
    )
    lakehouse.overwrite(s.RULES.name, rules(spark, 0.9))
    lakehouse.overwrite(s.SEGMENTS.name, segments(spark, 1))


def rules(spark: SparkSession, confidence: float) -> DataFrame:
    """A rule from the promoted item, which says by its confidence who mined it."""
    promoted = rule("x", "y", consequent_support=0.2, confidence=confidence, lift=2.0)
    pruned = rule("x", "z", consequent_support=0.1, confidence=0.9, lift=9.0, is_kept=False)
    return spark.createDataFrame([promoted, pruned], s.RULES.ddl)


def segments(spark: SparkSession, segment: int) -> DataFrame:
    """Both series in one segment, whose number says who found it."""
    shares = [float(segment == number) for number in range(2)]
    return spark.createDataFrame([("store", name, segment, 0.1, shares, False) for name in "ab"], s.SEGMENTS.ddl)


def test_a_backtest_cutoff_is_mined_from_what_came_before(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the stages mined from all data serves the final cutoff, and no other."""
    newest: dict[str, object] = {}

    def mined_rules(lines: DataFrame, _: MiningConfig) -> DataFrame:
        newest["line"] = lines.agg(F.to_date(F.max(s.TS))).collect()[0][0]
        return rules(lakehouse.spark, 0.3)

    def found_segments(*given: Any) -> SimpleNamespace:
        newest["day"] = given[2].agg(F.max(s.DS)).collect()[0][0]
        return SimpleNamespace(assignments=segments(lakehouse.spark, 0))

    monkeypatch.setattr(fuse, "mine_rules", mined_rules)
    monkeypatch.setattr(fuse, "segment_series", found_segments)
    fill(lakehouse)

    report = fuse.run(CONFIG, lakehouse)

    assert newest == {"line": CUTOFF, "day": CUTOFF}
    signals = (
        lakehouse.read(s.TRAINING_PANEL.name)
        .groupBy(s.CUTOFF)
        .agg(
            F.max("kf_mined_rules_pull").alias("pull"),
            F.max("sc_mined_segments").alias("segment"),
            F.max(s.DS).alias("end"),
        )
    )
    by_cutoff = {row[s.CUTOFF]: (pytest.approx(row["pull"]), row["segment"], row["end"]) for row in signals.collect()}
    horizon = timedelta(days=HORIZON)
    assert by_cutoff == {
        CUTOFF: (0.3 - 0.2, 1.0, CUTOFF + horizon),
        FINAL: (0.9 - 0.2, 2.0, FINAL + horizon),
    }
    assert isinstance(report, fuse.FuseReport)
    assert (report.cutoffs, report.signals) == (2, ("segments", "rules"))
