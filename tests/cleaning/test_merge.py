"""New files are added to what earlier ones brought: exactly once, by key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark import sources
from dlmine_spark.config import Config, LakehouseConfig
from dlmine_spark.errors import SourceError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import batches
from tests.cleaning.deliveries import (
    HEADER,
    MONDAY,
    RECEIPTS,
    TUESDAY,
    batches_in_bronze,
    contents,
    deliver,
    other,
    quantities,
    receipts,
    run,
)

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where files come in, day after day: the tests of the story below run in order."""
    return tmp_path_factory.mktemp("story")


@pytest.fixture(scope="module")
def shop(spark: SparkSession, folder: Path) -> Lakehouse:
    return Lakehouse(spark, LakehouseConfig(root=str(folder / "lakehouse")))


def test_new_files_give_the_same_tables_as_all_files_at_once(shop: Lakehouse, folder: Path) -> None:
    deliver(folder, "1.csv", MONDAY)
    first = run(receipts(folder), shop)
    deliver(folder, "2.csv", TUESDAY)
    second = run(receipts(folder), shop)
    at_once = other(shop, folder, "at_once")
    run(receipts(folder, load="replace"), at_once)

    assert (first.rows_in, first.rows_rejected) == (3, 1)
    assert (second.rows_in, second.rows_out) == (3, 3)
    assert contents(shop) == contents(at_once)
    assert quantities(shop) == {("1", "tea"): 2.0, ("1", "milk"): 4.0, ("3", "tea"): 1.0, ("3", "milk"): None}


def test_what_came_before_changes_nothing(shop: Lakehouse, folder: Path) -> None:
    before, version = contents(shop), shop.version("silver.lines")

    nothing_new = run(receipts(folder), shop)
    assert (nothing_new.rows_in, shop.version("silver.lines")) == (0, version)

    # Monday once more, under another name and after it was corrected: it must not undo that.
    deliver(folder, "3.csv", MONDAY)
    again = run(receipts(folder), shop)

    assert contents(shop) == before
    assert (again.rows_in, again.sources[0].duplicates, again.rows_out) == (3, 3, 0)
    # And once more beside something new.
    deliver(folder, "a new 100%25 [day]+#é.csv", MONDAY)
    deliver(folder, "b.csv", ["8,2024-03-04,tea,1,1"])
    beside = run(receipts(folder), shop)

    assert (beside.rows_in, beside.sources[0].duplicates, beside.rows_out) == (4, 3, 1)
    assert quantities(shop)["1", "milk"] == 4.0


def test_a_value_that_moved_to_the_next_column_is_no_copy(shop: Lakehouse, folder: Path) -> None:
    deliver(folder, "c.csv", ["8,2024-03-04,tea,,5"])
    run(receipts(folder), shop)
    deliver(folder, "d.csv", ["8,2024-03-04,tea,5,"])
    run(receipts(folder), shop)

    assert quantities(shop)["8", "tea"] == 5.0
    (folder / "in" / "d.csv").unlink()


def test_a_file_written_anew_is_a_new_one_and_late_rows_update_their_day(shop: Lakehouse, folder: Path) -> None:
    def fingerprint() -> str:
        return batches.fingerprint(shop, "receipts", receipts(folder).sources["receipts"])

    before = fingerprint()
    deliver(folder, "3.csv", ["9,2024-03-04,tea,10,1"])
    with_news = fingerprint()
    run(receipts(folder), shop)

    panel = {str(row[s.DS]): row[s.Y] for row in shop.read("silver.panel").collect()}
    # The line of receipt 8 has no price, and counts for nothing.
    assert panel["2024-03-04"] == pytest.approx(2 * 1.5 + 4 * 0.9 + 10)
    # Files may go when they were taken in: nothing is new then.
    (folder / "in" / "1.csv").unlink()
    assert before != with_news == fingerprint()


def test_refused_files_are_withdrawn(shop: Lakehouse, folder: Path) -> None:
    before = contents(shop)
    deliver(folder, "4.csv", ["4,2024-03-05,tea,-1,1", "5,2024-03-05,tea,-1,1"])

    with pytest.raises(SourceError, match="2 of 2 rows would be quarantined"):
        run(receipts(folder), shop)

    assert contents(shop) == before
    assert batches_in_bronze(shop) == {1: 3, 2: 3, 3: 3, 4: 4, 5: 1, 6: 1, 7: 1}
    # Moved away and back, the file is looked at again.
    assert shop.read("ops.files").where("batch = 8").isEmpty()


def test_a_day_without_rows_is_taken_in(shop: Lakehouse, folder: Path) -> None:
    deliver(folder, "4.csv", [])

    assert run(receipts(folder), shop).rows_in == 0
    assert shop.read("ops.files").where("batch = 8").select("rows").collect() == [(0,)]


def test_new_columns_are_refused_or_added(shop: Lakehouse, folder: Path) -> None:
    deliver(folder, "5.csv", ["6,2024-03-06,tea,-2,1,7"], f"{HEADER},till")

    with pytest.raises(SourceError, match=r"5\.csv .*other columns than earlier files \(\+till\)"):
        run(receipts(folder, new_columns="refuse"), shop)
    assert 9 not in batches_in_bronze(shop)

    # Another plan: all rows of bronze are judged anew, also those whose files are gone.
    quantity = {"from": "pieces", "min": -5, "fill": "constant", "fill_value": 7}
    columns = {**RECEIPTS["columns"], "quantity": quantity}
    report = run(receipts(folder, other_columns="keep", columns=columns), shop)

    assert report.rows_in == 17
    found = {(row["basket_id"], row["item"]): row for row in shop.read("silver.lines").collect()}
    assert (found["6", "tea"]["till"], found["1", "tea"]["till"]) == (7.0, None)
    assert (found["2", "tea"]["quantity"], found["2", "tea"]["quantity_imputed"]) == (-3.0, False)
    assert (found["3", "milk"]["quantity"], found["3", "milk"]["quantity_imputed"]) == (7.0, True)
    assert found["1", "milk"]["quantity"] == 4.0
    assert shop.read("silver.quarantine").isEmpty()


def test_without_bronze_nothing_is_taken_in(shop: Lakehouse, folder: Path) -> None:
    bronze = Path(shop.address("bronze.receipts"))
    bronze.rename(folder / "elsewhere")

    with pytest.raises(TableContractError, match=r"bronze.receipts: is gone, and with it the rows of 9 batches"):
        run(receipts(folder), shop)

    (folder / "elsewhere").rename(bronze)


def test_a_source_can_be_loaded_as_a_whole_again(shop: Lakehouse, folder: Path) -> None:
    for file in (folder / "in").iterdir():
        if file.name != "2.csv":
            file.unlink()
    with pytest.raises(SourceError, match=r"replace would overwrite bronze.receipts .*the rows of 9 merged batches"):
        run(receipts(folder, load="replace"), shop)
    shutil.rmtree(shop.address("bronze.receipts"))
    run(receipts(folder, load="replace"), shop)
    assert len(quantities(shop)) == 3

    # What was merged before is void: the file that is there is taken in as the first.
    assert run(receipts(folder), shop).rows_in == 3
    assert (len(quantities(shop)), shop.read("silver.quarantine").count()) == (3, 0)
    batches.judge_anew(shop, ["receipts"])
    assert run(receipts(folder), shop).rows_in == 3


def test_rows_that_no_file_of_the_batch_answers_for_are_told(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path, "1.csv", MONDAY)
    spelled = sources.path_of
    monkeypatch.setattr(sources, "path_of", lambda file: F.concat(spelled(file), F.lit("?")))

    with pytest.raises(TableContractError, match=r"batch 1 has 3 rows, but 0 in files named like .*1\.csv"):
        run(receipts(tmp_path), lakehouse)


def test_of_a_key_the_first_row_can_stay(lakehouse: Lakehouse, tmp_path: Path) -> None:
    config = receipts(tmp_path, keep="first", columns={"basket_id": "no", "item": "article", "quantity": "pieces"})
    deliver(tmp_path, "1.csv", ["1,monday,tea,1,1"])
    run(config, lakehouse)
    deliver(tmp_path, "2.csv", ["1,tuesday,tea,2,1", "2,tuesday,tea,2,1"])
    report = run(config, lakehouse)

    assert report.sources[0].superseded == 1
    assert quantities(lakehouse) == {("1", "tea"): 1.0, ("2", "tea"): 2.0}


def test_a_panel_is_filled_anew(lakehouse: Lakehouse, tmp_path: Path) -> None:
    sales = {
        "kind": "panel",
        "load": "merge",
        "path": str(tmp_path / "in"),
        "columns": {s.UNIQUE_ID: "store", s.DS: "date", s.Y: {"from": "sales", "fill": "linear"}},
    }
    config = Config.model_validate({"sources": {"sales": sales}})
    deliver(tmp_path, "1.csv", ["S,2024-03-01,1", "S,2024-03-02,2", "S,2024-03-05,8"], "store,date,sales")
    run(config, lakehouse)

    def panel() -> list[tuple[str, float, bool]]:
        rows = lakehouse.read("silver.panel").orderBy(s.DS).collect()
        return [(str(row[s.DS]), row[s.Y], row[s.Y_IMPUTED]) for row in rows]

    assert panel()[2:] == [("2024-03-03", 4.0, True), ("2024-03-04", 6.0, True), ("2024-03-05", 8.0, False)]
    # A late row takes the place of its fill, in the record too, and changes the fill beside it.
    deliver(tmp_path, "2.csv", ["S,2024-03-02,2.5", "S,2024-03-03,3", "S,2024-03-04,"], "store,date,sales")
    run(config, lakehouse)

    assert panel()[1:4] == [("2024-03-02", 2.5, False), ("2024-03-03", 3.0, False), ("2024-03-04", 5.5, True)]
    assert [row["key"] for row in lakehouse.read("silver.repairs").collect()] == ["S|2024-03-04"]


REFUSED = {
    "no key": ({"key": []}, "load: merge needs a key"),
    "a key that may be missing": (
        {"columns": {**RECEIPTS["columns"], "item": {"from": "article", "required": False}}},
        "of which item may be missing",
    ),
    "a key that is not mapped": ({"key": ["basket_id", "itm"]}, "of which itm is not mapped, did you mean item?"),
    "sums": ({"keep": "sum"}, "keep: sum needs all rows of a key"),
    "mined rules": ({"mined": {}}, "mined: rules are mined from all rows"),
    "neighbours": (
        {"columns": {**RECEIPTS["columns"], "price": {"outliers": {"method": "hampel", "by": ["item"]}}}},
        "hampel looks at neighbours",
    ),
    "a policy without batches": ({"load": "replace", "new_columns": "refuse"}, "new_columns: refuse needs load: merge"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_all_rows_is_refused(tmp_path: Path, case: str) -> None:
    settings, message = REFUSED[case]

    with pytest.raises(ValueError, match=message):
        receipts(tmp_path, **settings)


def test_a_baskets_source_goes_by_its_basket(spark: SparkSession, lakehouse: Lakehouse, tmp_path: Path) -> None:
    declared = {"kind": "baskets", "load": "merge", "path": str(tmp_path / "in"), "separator": r"\s+"}
    config = Config.model_validate({"sources": {"b": {**declared, "columns": {"basket_id": "no", "items": None}}}})
    deliver(tmp_path, "1.csv", ["1,tea milk", "2,tea"], "no,items")
    run(config, lakehouse)
    deliver(tmp_path, "2.csv", ["2,tea bread", "3,milk"], "no,items")
    run(config, lakehouse)

    found = {row["basket_id"]: sorted(row["items"]) for row in lakehouse.read("silver.baskets").collect()}
    assert found == {"1": ["milk", "tea"], "2": ["bread", "tea"], "3": ["milk"]}


def test_new_rows_may_refer_to_what_came_earlier(lakehouse: Lakehouse, tmp_path: Path) -> None:
    """And are filled from it: the shops came once, the receipts day by day."""
    shops = {"kind": "table", "load": "merge", "key": ["shop"], "columns": {"shop": None, "town": None}}
    sales = {
        "kind": "table",
        "load": "merge",
        "key": ["id"],
        "references": [{"columns": ["shop"], "source": "shops"}],
        "columns": {
            "id": None,
            "shop": None,
            "town": {"fill": "lookup", "fill_from": {"source": "shops", "on": ["shop"]}},
        },
    }
    declared = {"shops": {**shops, "path": str(tmp_path / "shops")}, "sales": {**sales, "path": str(tmp_path / "in")}}
    config = Config.model_validate({"sources": declared})
    (tmp_path / "shops").mkdir()
    (tmp_path / "shops" / "1.csv").write_text("shop,town\nA,Bonn\nB,Kiel\n", encoding="utf-8")
    deliver(tmp_path, "1.csv", ["1,A,"], "id,shop,town")
    run(config, lakehouse)
    deliver(tmp_path, "2.csv", ["2,B,", "3,A,Ulm", "4,X,"], "id,shop,town")
    run(config, lakehouse)

    found = {row["id"]: (row["town"], row["town_imputed"]) for row in lakehouse.read("silver.sales").collect()}
    assert found == {"1": ("Bonn", True), "2": ("Kiel", True), "3": ("Ulm", False)}
    assert [row["reasons"][0]["rule"] for row in lakehouse.read("silver.quarantine").collect()] == ["unknown_reference"]


def test_the_ledger_tells_the_state_of_every_source(lakehouse: Lakehouse) -> None:
    """Attempts at the next batch, oldest first; a void batch ends what came before it."""

    def note(days_ago: int, source: str, batch: int, status: str, plan: str | None, base: int | None = None) -> None:
        row = lakehouse.spark.createDataFrame(
            [(source, batch, status, plan, base)],
            "source string, batch bigint, status string, plan string, base_version bigint",
        )
        others = {name: type_ for name, type_ in s.BATCHES.columns.items() if name not in (*row.columns, "noted_at")}
        row = row.withColumns({name: F.lit(None).cast(type_) for name, type_ in others.items()})
        lakehouse.append(
            s.BATCHES.name, row.withColumn("noted_at", F.expr(f"current_timestamp() - interval {days_ago} days"))
        )

    note(9, "a", 1, "begun", "p", 1)
    note(8, "a", 1, "done", "p", 1)
    note(3, "a", 2, "begun", "p", 5)
    note(7, "a", 2, "begun", "q", 4)
    note(5, "b", 4, "void", None)
    note(1, "c", 1, "begun", "p")

    states = batches._states_of(lakehouse)

    assert set(states) == {"a", "b", "c"}
    assert (states["a"].number, states["a"].since, states["a"].plan) == (1, 0, "p")
    assert states["a"].begun == (("q", 4), ("p", 5))
    assert states["a"].begun_days_ago == pytest.approx(7, abs=0.1)
    assert states["b"] == batches.State(4, 4, None, ())
    assert states["c"].begun == (("p", None),)
    assert states["c"].number == 0
    assert batches._states_of(lakehouse, ["b", "d"]).keys() == {"b"}
    assert batches._states_of(lakehouse, []) == {}
