"""The report of small tables: what is read, what is chosen, and that the page is put in place whole."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, LakehouseConfig
from dlmine_spark.errors import DlmineError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.report import PageReport, collect_report, in_feature_order, run, write_atomically
from dlmine_spark.runs import Ledger, NotApplicable, StageReport
from tests.mining.examples import rule

pytestmark = pytest.mark.spark

LAST = date(2024, 3, 31)
CUTOFF = LAST - timedelta(days=2)


@pytest.fixture(scope="module")
def filled(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """A lakehouse as a run on two series and a few baskets leaves it."""
    house = Lakehouse(spark, LakehouseConfig(root=str(tmp_path_factory.mktemp("house"))))

    def put(table: s.Table, rows: list[tuple[object, ...]]) -> None:
        house.overwrite(table.name, spark.createDataFrame(rows, table.ddl))

    put(
        s.PANEL,
        [(name, LAST - timedelta(days=back), level + back, 1, False) for name, level in (("a", 10.0), ("b", 90.0))
         for back in range(70)],
    )  # fmt: skip
    fates = {"rows_in": 4, "accepted": 1, "quarantined": 1, "duplicates": 1, "superseded": 1, "warned": 0}
    before = [("r0", datetime(2024, 1, 1), "sales", "rows_in", "", "", 3)]
    put(
        s.QUALITY,
        before
        + [("r", datetime(2024, 1, 2), "sales", fate, "", "", count) for fate, count in fates.items()]
        + [
            ("r", datetime(2024, 1, 2), "sales", outcome, "out_of_range", "y", 1)
            for outcome in ("quarantine", "repair")
        ]
        + [("r", datetime(2024, 1, 2), "sales", "repair", "format", "y", 2)],
    )
    put(
        s.REPAIRS,
        [
            ("sales", "a|2024-01-02", "y", "1,5", "1.5", "format", "r"),
            ("sales", "b|2024-01-02", "y", None, "2", "fill_linear", "r"),
            ("sales", "b|2024-01-01", "y", "1,0", "1.0", "format", "r"),
        ],
    )
    put(
        s.QUARANTINE,
        [("sales", "{}", [("out_of_range", "y", "found -1"), ("missing", "ds", "is required")], "r", None)],
    )
    put(s.SET_ASIDE, [("c", 9, date(2024, 1, 1), date(2024, 9, 1), "a row each month")])
    put(s.SEGMENTS, [("store", "a", 0, 0.1, [1.0, 0.0], False), ("store", "b", 1, 0.2, [0.0, 1.0], False)])
    put(
        s.SEGMENT_MODELS,
        [("store", ["mean level"], [], [[0.0, 0.0], [4.0, 0.0]], [1.0, 1.0], "r", datetime(2024, 1, 2))],
    )
    put(
        s.SEGMENT_PROFILES,
        [
            ("store", 0, 1, "mean level", 10.0, -1.0, "small stores"),
            ("store", 1, 1, "mean level", 90.0, 1.0, "large stores"),
        ],
    )
    put(
        s.ITEMSETS,
        [(["x"], 1, 3, 0.6, True, False), (["y"], 1, 2, 0.4, False, False), (["x", "y"], 2, 2, 0.4, True, True)],
    )
    put(
        s.RULES,
        [
            rule("x", "y", support=0.4, confidence=0.67, lift=1.67),
            rule("y", "x", support=0.4, confidence=1.0, lift=1.7),
            rule("y", "z", support=0.4, confidence=1.0, lift=9.0, is_kept=False),
        ],
    )
    put(
        s.FORECASTS,
        [
            ("r", model, name, cutoff, cutoff + timedelta(days=h), h, 50.0, 40.0, 60.0, 30.0, 70.0)
            for model in ("arima", "lstm")
            for name in ("a", "b")
            for cutoff in (CUTOFF - timedelta(days=2), CUTOFF, LAST)
            for h in (1, 2)
        ],
    )
    put(
        s.METRICS,
        [
            ("r", model, scope, scope_id, "wape", value + bonus)
            for model, bonus in (("lstm", 0.0), ("arima", 0.05))
            for scope, scope_id, value in [
                ("overall", "all", 0.1), ("series", "a", 0.2), ("series", "b", 0.1), ("horizon", "1", 0.1),
                ("horizon", "2", 0.12), ("segment", "0", 0.2), ("segment", "1", 0.1),
            ]
        ]
        + [
            ("r", "lstm", "segment_steps", steps, metric, value)
            for steps, value in (("0: 10-12", 0.8), ("0: 2-9", 0.7))
            for metric, value in (("coverage_80", value), ("coverage_95", value + 0.1), ("wape", value))
        ],
    )  # fmt: skip
    put(
        s.EXPLANATIONS,
        [("r", "permutation", "promo", "known_future", 0.03), ("r", "permutation", "history", "target", 0.1)],
    )
    put(
        s.ABLATION,
        [
            ("r", signal, 0.1, 0.1 + change, change, 0.01, change - 0.02, change + 0.02, 0.1, 0.001, 3, 1, 4)
            for signal, change in (("all", 0.02), ("rules", 0.0), ("arima", 0.01))
        ],
    )
    put(
        s.TRIALS,
        [
            ("r", 1, "pruned", {"hidden": 8.0}, 0.3, [0.3], 1, 1.0, None),
            ("r", 0, "complete", {"hidden": 64.0}, 0.1, [0.2, 0.1], 3, 2.0, None),
        ],
    )
    put(s.TUNED, [("r", "dropout", 0.1, 0.1, None), ("r", "hidden", 64.0, 64.0, 1.0)])
    put(s.TUNING_EFFECT, [])
    ledger = Ledger(house)
    done = StageReport(rows_in=4, rows_out=1, rows_rejected=1, message="4 rows in")
    ledger.finish(ledger.begin("clean", "hash", {}), done, {"silver.panel": 0, "ops.quality": 0})
    ledger.finish(ledger.begin("mine", "hash", {}), replace(done, message="3 itemsets by apriori"), {"gold.rules": 0})
    return house


def config_for(house: Lakehouse, **report: object) -> Config:
    source = {"kind": "panel", "path": "sales.csv", "columns": {"ds": "date", "y": "sales"}}
    return Config.model_validate(
        {
            "lakehouse": {"root": house.config.root},
            "sources": {"sales": source},
            "evaluation": {"horizon": 2},
            "spark": {"conf": {"spark.hadoop.fs.s3a.secret.key": "hush"}},
            "report": {"title": "Two shops", **report},
        }
    )


def test_what_the_tables_hold_reaches_the_page(filled: Lakehouse) -> None:
    report = collect_report(config_for(filled), filled)

    assert report.extent.series == 2
    assert (report.extent.last, report.extent.steps, report.extent.step) == (LAST, 70, "day")
    assert report.extent.baskets is None
    assert report.sources.to_dict("records") == [
        {"source": "sales", "rows_in": 4, "accepted": 1, "quarantined": 1, "duplicates": 1, "superseded": 1}
    ]
    assert report.quality_runs[["source", "rows_in", "repaired"]].to_numpy().tolist() == [
        ["sales", 4, 3],
        ["sales", 3, 0],
    ]
    assert report.repairs[["rule", "count"]].to_numpy().tolist() == [["format", 2], ["fill_linear", 1]]
    assert report.repair_examples.iloc[0]["key"] == "a|2024-01-02" or report.repair_examples.iloc[0]["rule"] == "format"
    assert set(report.rejections["rule"]) == {"out_of_range", "missing"}
    assert report.set_aside[["unique_id", "reason"]].to_numpy().tolist() == [["c", "a row each month"]]
    assert report.rules["lift"].tolist() == [1.7, 1.67]
    assert report.rules_total == 2
    assert report.itemsets.to_numpy().tolist() == [[1, 2], [2, 1]]
    assert report.mining_note == "3 itemsets by apriori"
    assert [(one.unique_id, one.segment, one.wape["lstm"]) for one in report.chosen] == [("b", 1, 0.1), ("a", 0, 0.2)]
    assert report.listed == report.chosen
    assert sorted(report.map_entities[["entity_id", "segment", "x", "y"]].to_numpy().tolist()) == [
        ["a", 0, -2.0, 0.1],
        ["b", 1, 2.0, 0.2],
    ]
    assert report.map_centres[["segment", "x", "y"]].to_numpy().tolist() == [[0, -2, 0], [1, 2, 0]]
    assert sorted(set(report.forecasts["cutoff"])) == [CUTOFF, LAST]
    assert report.history.groupby("unique_id").size().tolist() == [58, 58]
    assert report.wape_by_step.groupby("model")["h"].agg(list).tolist() == [[1, 2], [1, 2]]
    assert report.wape_by_part.to_numpy().tolist() == [["lstm", "0", "2-9", 0.7], ["lstm", "0", "10-12", 0.8]]
    assert report.coverage.to_numpy().tolist() == [
        ["lstm", "0", "2-9", 0.7, pytest.approx(0.8)],
        ["lstm", "0", "10-12", 0.8, pytest.approx(0.9)],
    ]
    assert report.importance["feature"].tolist() == ["history", "promo"]
    assert report.effects["signal"].tolist() == ["arima", "rules", "all"]
    assert report.trials[["number", "settings"]].to_numpy().tolist() == [[0, "hidden 64"], [1, "hidden 8"]]
    assert report.tuned["parameter"].tolist() == ["hidden", "dropout"]
    assert report.tuning_effect.empty
    assert report.runs["stage"].tolist() == ["clean", "mine"]
    assert report.tables["table"].tolist() == ["ops.quality", "silver.panel", "gold.rules"]
    assert "hush" not in report.config_yaml


def test_named_series_are_the_ones_drawn(filled: Lakehouse) -> None:
    report = collect_report(config_for(filled, series=["a"]), filled)
    assert [one.unique_id for one in report.chosen] == ["a"]
    assert [(one.unique_id, one.segment) for one in report.listed] == [("a", 0), ("b", 1)], (
        "the others can be looked up"
    )
    assert set(report.history["unique_id"]) == {"a", "b"}

    report = collect_report(config_for(filled, series=["a"], max_listed=0), filled)
    assert [one.unique_id for one in report.listed] == ["a"]
    assert set(report.history["unique_id"]) == {"a"}


def test_the_page_is_written_where_it_was_asked_for(filled: Lakehouse, tmp_path: Path) -> None:
    path = tmp_path / "pages" / "shops.html"
    report = run(config_for(filled, path=str(path)), filled)
    assert isinstance(report, PageReport)
    assert report.path == path
    assert path.stat().st_size == report.bytes
    text = path.read_text(encoding="utf-8")
    assert "The LSTM forecast best: WAPE 10.0 %, against 15.0 % for ARIMA." in text
    assert [found.name for found in path.parent.iterdir()] == ["shops.html"]


def test_an_empty_lakehouse_has_a_page_too(lakehouse: Lakehouse) -> None:
    report = run(config_for(lakehouse), lakehouse)
    assert report.path == Path(lakehouse.config.root) / "report" / "index.html"
    assert "No rules were mined." in report.path.read_text(encoding="utf-8")


def test_what_a_stage_left_before_it_had_nothing_to_do_is_not_shown(lakehouse: Lakehouse) -> None:
    rules = [rule("x", "y", support=0.4, confidence=0.67, lift=1.67)]
    lakehouse.overwrite(s.RULES.name, lakehouse.spark.createDataFrame(rules, s.RULES.ddl))
    lakehouse.overwrite(s.ITEMSETS.name, lakehouse.spark.createDataFrame([], s.ITEMSETS.ddl))
    ledger = Ledger(lakehouse)
    ledger.finish(ledger.begin("mine", "hash", {}), NotApplicable("no baskets: no source of kind lines"), {})
    report = collect_report(config_for(lakehouse), lakehouse)
    assert report.rules.empty
    assert report.absent["rules"] == "Empty, since stage mine had nothing to do: no baskets: no source of kind lines."


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DlmineError, match=r"report\.path .*cannot be written"):
        write_atomically(tmp_path / "file" / "index.html", b"new")
    write_atomically(tmp_path / "index.html", b"old")
    write_atomically(tmp_path / "index.html", b"new")
    assert (tmp_path / "index.html").read_bytes() == b"new"

    def full(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DlmineError, match="No space left on device"):
        write_atomically(tmp_path / "index.html", b"newer")
    assert (tmp_path / "index.html").read_bytes() == b"new"


def test_features_keep_their_declared_order() -> None:
    names = ["April level", "January level", "Monday share", "novel", "Friday share"]
    profiles = pd.DataFrame({"entity": "store", "segment": 0, "feature": names, "z": 0.0})

    ordered = in_feature_order(profiles)["feature"].tolist()

    assert ordered == ["Monday share", "Friday share", "January level", "April level", "novel"]


def test_the_best_sequences_of_several_baskets_are_shown(filled: Lakehouse) -> None:
    rows = [
        ([["a"]], 1, 1, 9, 0.9, None, None, True, False),
        ([["a"], ["b"]], 2, 2, 5, 0.5, 0.6, 1.1, True, False),
        ([["b"], ["a"]], 2, 2, 4, 0.4, 0.6, 1.2, True, True),
        ([["c"], ["a"]], 2, 2, 4, 0.4, 0.6, 1.3, False, False),
    ]
    filled.overwrite(s.SEQUENCES.name, filled.spark.createDataFrame(rows, s.SEQUENCES.ddl))
    report = collect_report(config_for(filled), filled)
    assert report.sequences["lift"].tolist() == [1.2, 1.1]
