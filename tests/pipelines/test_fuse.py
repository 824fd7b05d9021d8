"""The stage fuse on small tables: what was mined from all data, or happened later, stays out of a backtest cutoff."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig, load_config
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import activations, follow_ups, fuse
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


WITH_SEQUENCES = load_config(
    overrides=[
        *PROMOTED,
        "sources.lines.columns={basket_id: b, item: i, ts: t, customer_id: c, store_id: s}",
        "training.mined=[segments, rules, arima, sequences]",
        f"evaluation.horizon={HORIZON}",
        "mining={promoted_item: item, sequences: {min_support: .5}}",
    ]
)


def purchases(lakehouse: Lakehouse, later: Sequence[str]) -> None:
    """Lines of twelve customers of two stores: tea, x, four days later y, tea; and what they buy after the cutoff."""
    rows = [
        (f"{customer} {day}", item, datetime(2024, 1, 1, 12) + timedelta(days=day), f"c{customer}", "ab"[customer % 2])
        for customer in range(12)
        for day, item in (
            (0, "tea"),
            (2 + customer % 3, "x"),
            (6 + customer % 3, "y"),
            (28, "tea"),
            *((DAYS - HORIZON + number, item) for number, item in enumerate(later)),
        )
    ]
    columns = "basket_id string, item string, ts timestamp, customer_id string, store_id string"
    lakehouse.overwrite(
        s.LINES.name,
        lakehouse.spark.createDataFrame(rows, columns).select(
            *(
                F.col(name) if name in columns else F.lit(None).cast(type_).alias(name)
                for name, type_ in s.LINES.columns.items()
            )
        ),
    )


def test_sequences_and_what_is_due_are_those_of_the_baskets_before_the_cutoff(lakehouse: Lakehouse) -> None:
    fill(lakehouse)
    found, rows = [], []
    for later in ("", ["x", "y", "tea"]):
        purchases(lakehouse, later)
        mined = fuse._sequences_as_of(fuse.panel_material(WITH_SEQUENCES, lakehouse), CUTOFF, "0")
        assert mined is not None
        assert mined.newest == START + timedelta(days=28)
        assert mined.found.due is not None
        found.append(mined.found.found)
        rows.append([tuple(row) for row in mined.found.due.orderBy(s.UNIQUE_ID, s.DS).collect()])

    assert [(one.first, one.second) for one in found[0]] == [("tea", "x"), ("x", "y"), ("y", "tea")]
    assert found[0] == found[1]
    assert rows[0] == rows[1]
    # On the second day all six customers of a store still wait for x, each since a basket.
    assert rows[0][1] == ("a", START + timedelta(days=1), 100.0)
    assert {ds for _, ds, _ in rows[0]} == {START + timedelta(days=day) for day in range(DAYS - HORIZON)}


def test_without_customers_the_forecast_is_told_nothing_of_sequences(
    lakehouse: Lakehouse, caplog: pytest.LogCaptureFixture
) -> None:
    fill(lakehouse)

    assert fuse._sequences_as_of(fuse.panel_material(WITH_SEQUENCES, lakehouse), CUTOFF, "0") is None

    assert (
        "the forecast is told nothing of sequences: no basket up to the cutoff has a customer and a time" in caplog.text
    )
    assert not lakehouse.exists(f"{follow_ups.DUE_AS_OF}_0")


WITH_ACTIVATIONS = load_config(
    overrides=[
        "sources.panel={kind: panel, path: p, columns: {ds: d, y: y, unique_id: u}}",
        "sources.lines={kind: lines, path: l, columns: {basket_id: b, item: i, ts: t, store_id: s}}",
        "training.mined=[segments, activations]",
        f"evaluation.horizon={HORIZON}",
        "mining={min_support: .1, min_confidence: .1}",
    ]
)


def test_activations_are_those_of_rules_and_baskets_before_the_cutoff(lakehouse: Lakehouse) -> None:
    """No promotion is needed; what is bought after the cutoff changes neither the rules nor the shares."""
    fill(lakehouse)
    rows = []
    for later in ("lime", "bread"):
        baskets = [
            (f"{name} {day} {basket}", item, datetime(2024, 1, 1, 12) + timedelta(days=day), name)
            for name in "ab"
            for day in range(DAYS)
            for basket in range(4)
            for item in (
                ("bread", later)
                if day >= DAYS - HORIZON
                else ("gin", "lime")
                if basket < (3 if name == "a" else 1)
                else ("tea",)
            )
        ]
        columns = "basket_id string, item string, ts timestamp, store_id string"
        lines = lakehouse.spark.createDataFrame(baskets, columns)
        others = {name: type_ for name, type_ in s.LINES.columns.items() if name not in lines.columns}
        lakehouse.overwrite(
            s.LINES.name, lines.withColumns({name: F.lit(None).cast(type_) for name, type_ in others.items()})
        )
        given = fuse.panel_material(WITH_ACTIVATIONS, lakehouse)
        mined = fuse._activations_as_of(given, CUTOFF, fuse._rules_as_of(given, CUTOFF), "0")
        assert mined is not None
        assert mined.newest == CUTOFF
        assert set(mined.found.antecedents.values()) == {("gin",), ("lime",)}
        rows.append([tuple(row) for row in mined.found.rows.orderBy(s.UNIQUE_ID, s.DS).collect()])

    assert rows[0] == rows[1]
    assert {row[0]: row[2:] for row in rows[0]} == {"a": (75.0, 75.0), "b": (25.0, 25.0)}
    assert max(row[1] for row in rows[0]) == CUTOFF

    report = fuse.run(WITH_ACTIVATIONS, lakehouse)
    assert isinstance(report, fuse.FuseReport)
    assert "activations" in report.signals
    assert "rules" not in report.signals
    of_lines = lakehouse.read(s.LINEAGE.name).where(F.col("source") == s.LINES.name)
    assert {row["column"] for row in of_lines.collect()} == {"po_mined_activations_*"}


def test_without_rules_the_forecast_is_told_nothing_of_activations(
    lakehouse: Lakehouse, caplog: pytest.LogCaptureFixture
) -> None:
    fill(lakehouse)
    given = fuse.panel_material(WITH_ACTIVATIONS, lakehouse)

    assert fuse._activations_as_of(given, CUTOFF, fuse._rules_as_of(given, CUTOFF), "0") is None

    told = "the forecast is told nothing of activations"
    assert f"{told}: no rule up to the cutoff says more than chance" in caplog.text
    others = fuse.Mined(rules(lakehouse.spark, 0.5), None)
    assert fuse._activations_as_of(given, CUTOFF, others, "0") is None
    assert f"{told}: no basket is of a series of silver.panel" in caplog.text
    assert not lakehouse.exists(f"{activations.ACTIVATIONS_AS_OF}_0")


def test_rules_are_of_lines_at_all_cutoffs_where_other_things_are_mined_as_well(lakehouse: Lakehouse) -> None:
    """Attributes of stores are in no basket: the last network would be told of activations that never are."""
    fill(lakehouse)
    mining = WITH_ACTIVATIONS.mining.model_copy(update={"attributes": object()})
    given = fuse.panel_material(WITH_ACTIVATIONS.model_copy(update={"mining": mining}), lakehouse)

    mined = fuse._mined_rules(given, FINAL)

    assert mined is not None
    # All baskets hold x and nothing else, and what fill() says was mined is not asked.
    assert mined.found.count() == 0
    assert fuse._mined_rules(fuse.panel_material(WITH_ACTIVATIONS, lakehouse), FINAL).found.count() == 2


def test_where_no_rule_pulls_the_name_of_the_promoted_item_stays_an_input(lakehouse: Lakehouse) -> None:
    fill(lakehouse)
    given = fuse.panel_material(CONFIG, lakehouse)
    with_pull = fuse.panel_as_of(given, FINAL, "0", is_final=True).rows.columns
    lakehouse.overwrite(s.RULES.name, rules(lakehouse.spark, 0.9).where(~F.col("is_kept")))

    made = fuse.panel_as_of(given, FINAL, "0", is_final=True)

    assert "kf_mined_rules_pull" in with_pull
    assert "kf_item_x" not in with_pull
    assert "kf_mined_rules_pull" not in made.rows.columns
    assert "kf_item_x" in made.rows.columns
    assert "kf_mined_rules_pull" not in {source.column for source in made.mined_from}
