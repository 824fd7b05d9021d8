"""The stage: silver tables in, itemsets and rules out, or a word about why not."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark.config import Config, MiningConfig
from dlmine_spark.errors import ConfigError, DlmineError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.baskets import BasketSummary
from dlmine_spark.pipelines import mine
from dlmine_spark.runs import NotApplicable
from tests.mining.examples import BREAKFAST, basket_frame, brute_force, found

pytestmark = pytest.mark.spark

LINES = {"kind": "lines", "path": "lines.csv", "columns": {"basket_id": None, "item": None}}
BASKETS = {"kind": "baskets", "path": "baskets.txt", "format": "text"}


def config(*sources: dict[str, object], **mining: object) -> Config:
    settings = {"min_support": 0.4, "min_confidence": 0.6, **mining}
    return Config.model_validate({"sources": {str(source["kind"]): source for source in sources}, "mining": settings})


def lines_of(lakehouse: Lakehouse, baskets: list[list[str]]) -> DataFrame:
    """Basket lines; every item is on two lines, as a second piece scanned later is."""
    rows = [(f"r{n}", item) for n, basket in enumerate(baskets) for item in basket * 2]
    lines = lakehouse.spark.createDataFrame(rows, "basket_id string, item string")
    empty = {"ts": "timestamp", "quantity": "double", "price": "double", "customer_id": "string", "store_id": "string"}
    return lines.withColumns({name: F.lit(None).cast(type_) for name, type_ in empty.items()})


@pytest.mark.parametrize("algorithm", ["auto", "fpgrowth"])
def test_lines_are_mined_as_baskets(lakehouse: Lakehouse, algorithm: str) -> None:
    lakehouse.overwrite("silver.lines", lines_of(lakehouse, BREAKFAST))

    report = mine.run(config(LINES, algorithm=algorithm, verify=True), lakehouse)

    assert isinstance(report, mine.MineReport)
    itemsets = lakehouse.read("gold.itemsets")
    assert found(itemsets) == brute_force(BREAKFAST, 2)
    assert {row["support"] for row in itemsets.collect() if row["items"] == ["jam"]} == {0.6}
    assert lakehouse.read("gold.rules").count() == 5
    used, other = ("apriori", "fpgrowth") if algorithm == "auto" else ("fpgrowth", "apriori")
    assert report.message == (
        f"9 itemsets and 5 rules from 5 baskets by {used} (verified against {other}); "
        "2 redundant and 3 insignificant ones marked, 0 kept"
    )
    assert report.rules == mine.RuleCounts(found=5, redundant=2, insignificant=3, kept=0)
    assert (report.rows_in, report.rows_out) == (5, 14)
    assert report.itemsets_by_size == {1: 4, 2: 4, 3: 1}


def test_baskets_and_lines_are_mined_together(lakehouse: Lakehouse) -> None:
    lakehouse.overwrite("silver.lines", lines_of(lakehouse, BREAKFAST[:2]))
    lakehouse.overwrite("silver.baskets", basket_frame(lakehouse.spark, BREAKFAST[2:]))
    mine.run(config(LINES, BASKETS), lakehouse)
    assert found(lakehouse.read("gold.itemsets")) == brute_force(BREAKFAST, 2)


def test_without_baskets_there_is_nothing_to_mine(lakehouse: Lakehouse) -> None:
    panel = {"kind": "panel", "path": "panel.csv", "columns": {"ds": None, "y": None}}
    assert mine.run(config(panel), lakehouse) == NotApplicable(
        "no source of kind lines or baskets, and no mining.attributes: there is nothing that is bought together"
    )
    lakehouse.overwrite("silver.baskets", basket_frame(lakehouse.spark, [[], []]))
    assert mine.run(config(BASKETS), lakehouse) == NotApplicable("no basket holds an item")
    assert not lakehouse.exists("gold.itemsets")


def test_nothing_frequent_gives_empty_tables_and_a_warning(
    lakehouse: Lakehouse, caplog: pytest.LogCaptureFixture
) -> None:
    lakehouse.overwrite("silver.baskets", basket_frame(lakehouse.spark, [["a"], ["b"], ["c"]]))
    mine.run(config(BASKETS), lakehouse)
    assert lakehouse.read("gold.itemsets").count() == lakehouse.read("gold.rules").count() == 0
    assert "no item is in 2 of 3 baskets" in caplog.text


def test_limits_leave_the_tables_as_they_were(lakehouse: Lakehouse) -> None:
    lakehouse.overwrite("silver.baskets", basket_frame(lakehouse.spark, BREAKFAST))
    mine.run(config(BASKETS), lakehouse)
    with pytest.raises(DlmineError, match=r"more than mining\.max_itemsets=5"):
        mine.run(config(BASKETS, max_itemsets=5), lakehouse)
    with pytest.raises(TableContractError, match=r"basket 'b4' has 4 different items, mining\.max_basket is 3"):
        mine.run(config(BASKETS, max_basket=3), lakehouse)
    assert lakehouse.version("gold.itemsets") == lakehouse.version("gold.rules") == 0


def test_engines_that_differ_fail_the_stage(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    def miscounting(baskets: DataFrame, summary: BasketSummary, config: MiningConfig) -> DataFrame:
        right = fpgrowth(baskets, summary, config)
        return right.withColumn("count", F.col("count") + F.when(F.col("size") == 3, 1).otherwise(0))

    fpgrowth = mine.ENGINES["fpgrowth"]
    monkeypatch.setitem(mine.ENGINES, "fpgrowth", miscounting)
    lakehouse.overwrite("silver.baskets", basket_frame(lakehouse.spark, BREAKFAST))

    with pytest.raises(TableContractError, match=r"\{bread, butter, jam\} is in 2 baskets by apriori and in 3 by fpg"):
        mine.run(config(BASKETS, verify=True), lakehouse)
    assert not lakehouse.exists("gold.itemsets")


def test_rules_as_of_a_cutoff_are_those_of_the_stage_and_computed_once(lakehouse: Lakehouse) -> None:
    lines = lines_of(lakehouse, BREAKFAST)
    lakehouse.overwrite("silver.lines", lines)
    mine.run(config(LINES), lakehouse)

    rules = mine.mine_rules(lines, config(LINES).mining)

    assert sorted(rules.collect()) == sorted(lakehouse.read("gold.rules").collect())
    # What reads it finds finished rows, not the plan that made them.
    assert rules.columns == lakehouse.read("gold.rules").columns
    assert "Join" not in rules._jdf.queryExecution().executedPlan().toString()
    assert mine.mine_rules(lines.limit(0), config(LINES).mining).collect() == []


STRONG = [["beer", "crisps"]] * 20 + [["beer", "crisps", "tea"]] * 3 + [["tea"]] * 30 + [["tea", "jam"]] * 20
"""Beer and crisps go together, and tea with neither of them."""


def test_rules_are_marked_and_only_readers_pass_them_by(lakehouse: Lakehouse) -> None:
    """What is redundant or insignificant stays in the table, and counts as kept where nothing is pruned."""
    lakehouse.overwrite("silver.baskets", basket_frame(lakehouse.spark, STRONG))

    report = mine.run(config(BASKETS, min_support=0.04, min_confidence=0.5, min_lift=0), lakehouse)

    assert isinstance(report, mine.MineReport)
    rules = lakehouse.read("gold.rules")
    kept = {tuple(row["antecedent"]) + tuple(row["consequent"]) for row in rules.where("is_kept").collect()}
    assert kept == {("beer", "crisps"), ("crisps", "beer"), ("jam", "tea")}
    redundant = rules.where("is_redundant").select("antecedent", "consequent").collect()
    assert (["beer", "tea"], ["crisps"]) in [tuple(row) for row in redundant]
    assert report.rules.found == rules.count() == 5
    assert report.message.endswith("; 2 redundant ones marked, 3 kept")

    unpruned = mine.run(config(BASKETS, min_support=0.04, min_confidence=0.5, min_lift=0, prune=False), lakehouse)

    assert isinstance(unpruned, mine.MineReport)
    assert unpruned.message.endswith("; 2 redundant ones marked, 5 kept")
    without_mark = rules.drop("is_kept")
    assert sorted(lakehouse.read("gold.rules").drop("is_kept").collect()) == sorted(without_mark.collect())


def test_a_template_with_an_unknown_item_is_told(lakehouse: Lakehouse, caplog: pytest.LogCaptureFixture) -> None:
    lakehouse.overwrite("silver.baskets", basket_frame(lakehouse.spark, BREAKFAST))
    mine.run(config(BASKETS, antecedent={"forbid": ["Buter", "tea"]}), lakehouse)
    assert "mining.antecedent.forbid: 'Buter' is not among the frequent items (did you mean 'butter'?)" in caplog.text
    assert "mining.antecedent.forbid: 'tea' is not among the frequent items: it makes no difference" in caplog.text

    with pytest.raises(ConfigError, match=r"consequent\.require: 'jan' is not among .* \(did you mean 'jam'\?\)"):
        mine.run(config(BASKETS, consequent={"require": "jan"}), lakehouse)
    assert lakehouse.version("gold.itemsets") == lakehouse.version("gold.rules") == 0


def test_one_basket_and_equal_baskets_prove_nothing(lakehouse: Lakehouse) -> None:
    """Whatever is always so is no association: p = 1, no conviction, and nothing is kept."""
    for baskets in ([["x", "y,z"]], [["x", "y,z"]] * 50):
        lakehouse.overwrite("silver.baskets", basket_frame(lakehouse.spark, baskets))
        mine.run(config(BASKETS), lakehouse)
        rows = lakehouse.read("gold.rules").collect()
        assert sorted((row["antecedent"], row["consequent"]) for row in rows) == [(["x"], ["y,z"]), (["y,z"], ["x"])]
        for row in rows:
            assert (row["support"], row["confidence"], row["lift"], row["conviction"]) == (1.0, 1.0, 1.0, None)
            assert (row["zhangs_metric"], row["certainty"], row["chi_squared"]) == (0.0, 0.0, None)
            assert (row["p_value"], row["p_improvement"], row["q_value"], row["improvement"]) == (1.0, 1.0, 1.0, 0.0)
            assert (row["is_redundant"], row["is_significant"], row["is_kept"]) == (True, False, False)


VISITS: dict[str, object] = {
    "kind": "lines",
    "path": "lines.csv",
    "columns": {"basket_id": None, "item": None, "customer_id": None, "ts": None},
}


def visits_of(lakehouse: Lakehouse, customers: dict[str, list[list[str]]]) -> DataFrame:
    """Lines of customers who come once a week with some items each time."""
    start = datetime(2024, 1, 1, 12)
    rows = [
        (f"{customer}-{week}", item, customer, start + timedelta(weeks=week))
        for customer, visits in customers.items()
        for week, items in enumerate(visits)
        for item in items
    ]
    lines = lakehouse.spark.createDataFrame(rows, "basket_id string, item string, customer_id string, ts timestamp")
    empty = {"quantity": "double", "price": "double", "store_id": "string"}
    return lines.withColumns({name: F.lit(None).cast(type_) for name, type_ in empty.items()})


SHAVERS = {"ann": [["razor"], ["foam", "tea"]], "bob": [["razor", "tea"], ["foam"]], "cid": [["tea"]]}


def test_lines_with_customers_and_times_give_sequences_too(lakehouse: Lakehouse) -> None:
    lakehouse.overwrite("silver.lines", visits_of(lakehouse, SHAVERS))
    lakehouse.overwrite("silver.baskets", basket_frame(lakehouse.spark, BREAKFAST))

    report = mine.run(config(VISITS, BASKETS, sequences={"min_support": 0.6}), lakehouse)

    assert isinstance(report, mine.MineReport)
    assert report.message.endswith("; 4 sequences of 3 customers")
    assert report.sequences_by_length == {1: 3, 2: 1}
    assert report.rows_out == sum(report.itemsets_by_size.values()) + report.rules.found + 4
    rows = lakehouse.read("gold.sequences").where("elements = 2").collect()
    assert [row.asDict() for row in rows] == [
        {
            "sequence": [["razor"], ["foam"]],
            "length": 2,
            "elements": 2,
            "count": 2,
            "support": 2 / 3,
            "confidence": 1.0,
            "lift": 1.5,
            "is_closed": True,
            "is_maximal": True,
        }
    ]


def test_without_customers_or_unless_wanted_there_are_no_sequences(
    lakehouse: Lakehouse, caplog: pytest.LogCaptureFixture
) -> None:
    lakehouse.overwrite("silver.lines", visits_of(lakehouse, SHAVERS))
    for settings in (config(LINES), config(VISITS, sequences={"enabled": False})):
        report = mine.run(settings, lakehouse)
        assert isinstance(report, mine.MineReport)
        assert "sequences" not in report.message
        assert report.sequences_by_length is None
    assert not lakehouse.exists("gold.sequences")
    with pytest.raises(
        ConfigError, match=r"sequences\.enabled is true, but no source of kind lines maps customer_id and"
    ):
        mine.run(config(LINES, sequences={"enabled": True}), lakehouse)
    lakehouse.overwrite("silver.lines", lines_of(lakehouse, BREAKFAST))
    report = mine.run(config(VISITS, sequences={"enabled": True}), lakehouse)
    assert isinstance(report, mine.MineReport)
    assert report.sequences_by_length is None
    assert "no basket has a customer and a time" in caplog.text


def test_too_many_sequences_stop_the_stage_only_where_they_are_asked_for(
    lakehouse: Lakehouse, caplog: pytest.LogCaptureFixture
) -> None:
    lakehouse.overwrite("silver.lines", visits_of(lakehouse, SHAVERS))
    mine.run(config(VISITS), lakehouse)
    with pytest.raises(
        DlmineError, match=r"max_sequences=3 .* passed by sequences of 2 items: .*; no table was changed"
    ):
        mine.run(config(VISITS, sequences={"enabled": True, "max_sequences": 3, "min_support": 0.1}), lakehouse)
    assert {lakehouse.version(f"gold.{name}") for name in ("itemsets", "rules", "sequences")} == {0}

    report = mine.run(config(VISITS, sequences={"max_sequences": 3, "min_support": 0.1}), lakehouse)

    assert isinstance(report, mine.MineReport)
    assert report.sequences_by_length is None
    assert "gold.sequences is not written" in caplog.text
    assert (lakehouse.version("gold.rules"), lakehouse.version("gold.sequences")) == (1, 0)


def test_a_customer_who_is_none_is_named_and_left_out(lakehouse: Lakehouse, caplog: pytest.LogCaptureFixture) -> None:
    lakehouse.overwrite("silver.lines", visits_of(lakehouse, SHAVERS | {"guest": [["razor"]] * 9}))

    report = mine.run(config(VISITS, sequences={"max_history": 8}), lakehouse)

    assert isinstance(report, mine.MineReport)
    assert report.message.endswith(" sequences of 3 customers (1 with too many baskets left out)")
    assert "customer 'guest' has 9 baskets, mining.sequences.max_history is 8" in caplog.text
    assert lakehouse.read("gold.sequences").agg(F.max("count")).collect()[0][0] == 3
