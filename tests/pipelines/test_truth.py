"""A lakehouse of a few rows beside a truth folder of a few rows: what is compared with what."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.report import collect_report
from dlmine_spark.pipelines.report import run as run_report
from dlmine_spark.pipelines.truth import compare, summary
from dlmine_spark.report.data import Truth
from tests.mining.examples import rule

pytestmark = pytest.mark.spark

LAST = date(2024, 3, 31)
CUTOFF = LAST - timedelta(days=2)


def config_for(truth: Path | None) -> Config:
    source = {"kind": "panel", "path": "sales.csv", "columns": {"ds": "date", "y": "sales"}}
    return Config.model_validate(
        {
            "sources": {"sales": source},
            "evaluation": {"horizon": 2},
            "report": {"truth": None if truth is None else str(truth)},
        }
    )


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Expected sales 100 on every day; four planted rules; types of four stores."""
    folder = tmp_path / "truth"
    folder.mkdir()
    days = [LAST - timedelta(days=back) for back in range(40)]
    expected = "".join(f"{store},{day},1,100.0\n" for store in ("a", "b") for day in days)
    (folder / "expected_sales.csv").write_text(f"store,date,open,expected\n{expected}", encoding="utf-8")
    rules = "gin,limes,.5\nflour,sugar,.5\ntomatoes|mozzarella,basil,.5\nrice,beans,.5\n"
    (folder / "rules.csv").write_text(f"antecedent,consequent,confidence\n{rules}", encoding="utf-8")
    (folder / "stores.csv").write_text("store,type\na,resort\nb,resort\nc,weekend\nd,weekend\n", encoding="utf-8")
    return folder


def put(house: Lakehouse, table: s.Table, rows: list[tuple[object, ...]]) -> None:
    house.overwrite(table.name, house.spark.createDataFrame(rows, table.ddl))


def forecast(model: str, store: str, cutoff: date, step: int) -> tuple[object, ...]:
    return ("r", model, store, cutoff, cutoff + timedelta(days=step), step, 1.0, 0.0, 2.0, 0.0, 2.0)


def test_the_irreducible_error_is_measured_where_all_models_were_compared(lakehouse: Lakehouse, truth: Path) -> None:
    history = [(store, LAST - timedelta(days=back), 100.0, 1, False) for store in ("a", "b") for back in range(2, 40)]
    put(
        lakehouse,
        s.PANEL,
        [
            *history,
            ("a", CUTOFF + timedelta(days=1), 110.0, 1, False),  # 10 off
            ("a", LAST, 120.0, 1, False),  # the network has no forecast for it
            ("b", CUTOFF + timedelta(days=1), 70.0, 1, False),  # 30 off
            ("b", LAST, 500.0, 1, True),  # imputed: no actual
        ],
    )
    put(
        lakehouse,
        s.FORECASTS,
        [
            *(forecast("seasonal_naive", store, CUTOFF, step) for store in ("a", "b") for step in (1, 2)),
            *(forecast("arima", "a", CUTOFF, step) for step in (1, 2)),
            *(forecast("arima_naive", "b", CUTOFF, step) for step in (1, 2)),
            forecast("lstm", "a", CUTOFF, 1),
            *(forecast("lstm", "b", CUTOFF, step) for step in (1, 2)),
            *(forecast("lstm", "a", LAST, step) for step in (1, 2)),  # the production forecast
        ],
    )

    found = compare(config_for(truth), lakehouse)

    assert found.irreducible_wape == pytest.approx((10 + 30) / (110 + 70))
    assert (found.rules_found, found.store_types_ari) == (None, None)


def test_the_truth_of_another_simulation_is_refused(lakehouse: Lakehouse, truth: Path) -> None:
    days = [LAST - timedelta(days=back) for back in range(40)]
    put(lakehouse, s.PANEL, [("elsewhere", day, 1.0, 1, False) for day in days])
    put(lakehouse, s.FORECASTS, [forecast("lstm", "elsewhere", CUTOFF, step) for step in (1, 2)])

    with pytest.raises(ConfigError, match=r"does not know 2 of 2 series and dates of the backtest; is it the truth of"):
        compare(config_for(truth), lakehouse)


def test_a_planted_rule_counts_as_found_with_the_same_sides(lakehouse: Lakehouse, truth: Path) -> None:
    put(
        lakehouse,
        s.RULES,
        [
            rule(["gin"], ["limes"]),
            rule(["mozzarella", "tomatoes"], ["basil"]),
            rule(["sugar"], ["flour"]),  # the other way round
            rule(["rice"], ["beans", "salsa"]),  # more than was planted
            rule(["rice"], ["beans"], is_kept=False),
        ],
    )

    found = compare(config_for(truth), lakehouse)

    assert (found.rules_found, found.rules_planted) == (2, 4)


def test_a_planted_sequence_counts_as_found_with_the_same_baskets(lakehouse: Lakehouse, truth: Path) -> None:
    (truth / "sequences.csv").write_text("items,chance\nrazors|foam,.5\nsoap|tea,.5\na|b|c,.5\n", encoding="utf-8")
    mined = [[["razors"], ["foam"]], [["soap", "tea"]], [["tea"], ["soap"]], [["a"], ["b"]], [["a"], ["b"], ["c"]]]
    put(lakehouse, s.SEQUENCES, [(one, 2, 2, 5, 0.5, 0.5, 1.0, True, True) for one in mined])

    found = compare(config_for(truth), lakehouse)

    assert (found.sequences_found, found.sequences_planted) == (2, 3)
    assert summary(found) == "planted sequences found 2 of 3"


def test_segments_are_compared_with_the_types_of_stores(lakehouse: Lakehouse, truth: Path) -> None:
    segments = [("a", 3), ("b", 3), ("c", 0), ("d", 1)]
    stores = [("store", store, segment, 0.1, [1.0], False) for store, segment in segments]
    customer_of_the_same_name = ("customer", "a", 0, 0.1, [1.0], False)
    put(lakehouse, s.SEGMENTS, [*stores, customer_of_the_same_name])

    found = compare(config_for(truth), lakehouse)

    assert found.store_types_ari == pytest.approx(4 / 7)


def test_the_report_says_and_shows_what_was_found(lakehouse: Lakehouse, truth: Path) -> None:
    put(lakehouse, s.RULES, [rule(["gin"], ["limes"])])
    config = config_for(truth).model_copy(update={"lakehouse": lakehouse.config})

    report = run_report(config, lakehouse)

    assert report.message.endswith(" MB); planted rules found 1 of 4")
    assert collect_report(config, lakehouse).truth == Truth(rules_found=1, rules_planted=4)


def test_without_tables_or_without_truth_there_is_nothing_to_say(lakehouse: Lakehouse, truth: Path) -> None:
    assert compare(config_for(truth), lakehouse) == Truth()
    assert compare(config_for(None), lakehouse) == Truth()
    assert summary(Truth()) == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing", None, r"report\.truth .*missing: is no truth of a simulation \(no file rules\.csv\)"),
        ("wrong", "a,b\n1,2\n", r"report\.truth .*wrong: is no truth of a simulation \(.*antecedent"),
        ("empty", "", r"report\.truth .*empty: is no truth of a simulation \(No columns"),
    ],
)
def test_an_unusable_truth_folder_names_the_key(
    lakehouse: Lakehouse, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "rules.csv").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        compare(config_for(tmp_path / name), lakehouse)


def test_the_figures_in_one_line() -> None:
    truth = Truth(irreducible_wape=0.0653, rules_planted=14, rules_found=13, store_types_ari=0.97)

    assert summary(truth) == "irreducible WAPE 6.5%, planted rules found 13 of 14, store types ARI 0.97"
    assert summary(Truth(store_types_ari=1.0)) == "store types ARI 1.00"
