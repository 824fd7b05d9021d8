"""The ablation on a panel with planted couplings: what helps is told from what does not, and nothing is done twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, load_config
from dlmine_spark.errors import ConfigError, TableContractError, TrainingError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import ablation
from dlmine_spark.runs import NotApplicable
from tests.pipelines.examples import BACKTEST, with_training_panel
from tests.training.panels import FINAL, SMALL, panel_rows

CUSTOMERS = [
    "sources.l={kind: lines, path: l, columns: {basket_id: b, item: i, ts: t, customer_id: c}}",
]
CONFIG = Config.model_validate(
    {
        "evaluation": {"horizon": 7},
        "cleaning": {"frequency": "D"},
        "training": SMALL.model_dump() | {"epochs": 6, "samples_per_epoch": 640},
        "ablation": {"seeds": 2},
    }
)
INPUTS = {s.TRAINING_PANEL.name: 0, s.PANEL.name: 0}


def planted() -> pa.Table:
    """Promotions raise sales by half, and only the mined pull of the promoted item tells of them; the segments say
    nothing, and there are no ARIMA paths.
    """
    rows = panel_rows(FINAL, series=8)
    names = [{"kf_promo": "kf_mined_rules_pull"}.get(name, name) for name in rows.column_names]
    rows = rows.rename_columns(names)
    nothing = pa.array(np.random.default_rng(5).integers(1, 3, rows.num_rows).astype(float))
    rows = rows.append_column("kf_mined_segments_x", nothing)
    return rows.set_column(names.index("arima_path"), "arima_path", pa.nulls(rows.num_rows, pa.list_(pa.float64())))


@pytest.fixture
def filled(lakehouse: Lakehouse, tmp_path: Path) -> Lakehouse:
    return with_training_panel(lakehouse, tmp_path, planted())


@pytest.mark.spark
def test_planted_couplings_are_told_from_what_adds_nothing_and_nothing_is_trained_twice(filled: Lakehouse) -> None:
    report = ablation.run(CONFIG, filled.for_run("ablation-1", INPUTS))

    assert isinstance(report, ablation.AblationReport)
    effects = {one.signal: one for one in report.effects}
    assert list(effects) == ["segments", "rules", "all"]
    # 2 seeds of the full network and of each of the 3 without.
    assert report.rows_in == 8
    for signal in ("rules", "all"):
        assert effects[signal].lo_95 is not None
        assert effects[signal].lo_95 > 0
        assert effects[signal].difference > 0.05
    assert effects["segments"].lo_95 is not None
    assert effects["segments"].hi_95 is not None
    assert effects["segments"].lo_95 < 0.01
    assert abs(effects["segments"].difference) < 0.02
    written = {row["signal"]: row["difference"] for row in filled.read(s.ABLATION.name).collect()}
    assert written == {signal: one.difference for signal, one in effects.items()}

    # Killed, and asked for again under the same id: what is there stays as it is, the rest comes out the same.
    folder = filled.folder("models") / "ablation-1"
    results = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    lost = folder / "rules" / "seed-3" / f"cutoff={BACKTEST}" / "result.json"
    lost.unlink()
    again = ablation.run(CONFIG, filled.for_run("ablation-1", INPUTS))

    assert isinstance(again, ablation.AblationReport)
    assert again.effects == report.effects
    now = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    assert {path for path in results if now[path] != results[path]} == {lost}


@pytest.mark.spark
def test_a_signal_that_is_asked_for_has_to_be_there(filled: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "launch_each", lambda *_: pytest.fail("work has started"))
    asked = CONFIG.model_copy(update={"ablation": CONFIG.ablation.model_copy(update={"signals": ("arima",)})})
    with pytest.raises(TableContractError, match=r"gold\.training_panel: .* signal arima that ablation\.signals names"):
        ablation.run(asked, filled)
    without = CONFIG.model_copy(update={"training": SMALL.model_copy(update={"mined": ("arima",)})})
    assert isinstance(ablation.run(without, filled), NotApplicable)


@pytest.mark.spark
def test_a_network_that_cannot_be_trained_is_named(filled: Lakehouse) -> None:
    asked = CONFIG.model_copy(update={"evaluation": CONFIG.evaluation.model_copy(update={"horizon": 9})})
    with pytest.raises(TrainingError, match=r"8 of 8 networks could not be trained.*full/seed-3: gold\.training_panel"):
        ablation.run(asked, filled.for_run("ablation-1", INPUTS))


@pytest.mark.spark
def test_without_a_panel_there_is_nothing_to_take_a_signal_from(lakehouse: Lakehouse) -> None:
    assert isinstance(ablation.run(CONFIG, lakehouse), NotApplicable)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["training.mined=[segments]", "ablation.signals=[rules]"],
            r"ablation\.signals: rules is not among training\.mined \(segments\)",
        ),
        (["ablation.signals=[rules]"], r"ablation\.signals: rules are mined from a source of kind lines, and none is"),
        (["training.mined=[rules, arima]"], r"training\.mined: rules are mined from a source of kind lines"),
        (
            ["sources.l={kind: lines, path: l, columns: {basket_id: b, item: i}}", "training.mined=[rules]"],
            r"training\.mined: rules say something of promotions only: set mining\.promoted_item",
        ),
        (["ablation.signals=[sequences]"], r"sequences is not among training\.mined \(segments, rules, arima\)"),
        (
            ["training.mined=[segments, sequences]"],
            r"training\.mined: sequences are those of customers' baskets: .* has to map customer_id and ts",
        ),
        (
            [*CUSTOMERS, "mining.sequences.enabled=false", "training.mined=[sequences]"],
            r"training\.mined: sequences .*: mining\.sequences\.enabled must not be false",
        ),
        (
            [*CUSTOMERS, "mining.sequences.max_gap=null", "training.mined=[segments, rules, arima, sequences]"],
            r"training\.mined: sequences .*: set mining\.sequences\.max_gap or max_gap_days",
        ),
        (
            ["sources.l={kind: lines, path: l, columns: {basket_id: b, item: i}}", "training.mined=[activations]"],
            r"training\.mined: activations are those of dated baskets: a source of kind lines has to map ts",
        ),
        (["ablation.seeds=0"], r"ablation\.seeds"),
    ],
)
def test_signals_that_cannot_be_there_are_refused_with_the_configuration(overrides: list[str], message: str) -> None:
    panel = "sources.panel={kind: panel, path: p, columns: {ds: d, y: y}}"
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=[panel, *overrides])
    assert load_config(overrides=[panel]).training.mined == ("segments", "rules", "arima")


@pytest.mark.spark
def test_sequences_are_removed_where_they_are_asked_for(lakehouse: Lakehouse) -> None:
    """They are no signal by default, so that what is removed by default stays the same."""
    columns = "kf_mined_rules_pull double, po_mined_sequences_due double, arima_path array<double>"
    panel = lakehouse.spark.createDataFrame([], columns)
    four = CONFIG.training.model_copy(update={"mined": ("segments", "rules", "arima", "sequences")})
    asked = CONFIG.model_copy(update={"training": four})

    assert ablation.signals_to_remove(CONFIG, panel) == ("rules",)
    assert ablation.signals_to_remove(asked, panel) == ("rules", "sequences")
    named = asked.model_copy(update={"ablation": CONFIG.ablation.model_copy(update={"signals": ("sequences",)})})
    with pytest.raises(TableContractError, match=r"signal sequences .* the stage fuse found none"):
        ablation.signals_to_remove(named, panel.drop("po_mined_sequences_due"))
