"""New files are added to what earlier ones brought: exactly once, by key, whatever happens in between."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.config import Config, LakehouseConfig
from dlmine_spark.errors import ConfigError, SourceError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import batches, clean, judging, stream
from dlmine_spark.pipelines.clean import CleanReport

pytestmark = pytest.mark.spark

RECEIPTS: dict[str, Any] = {
    "kind": "lines",
    "load": "merge",
    "key": ["basket_id", "item"],
    "columns": {
        "basket_id": "no",
        "ts": "at",
        "item": {"from": "article", "case": "lower"},
        "quantity": {"from": "pieces", "min": 0},
        "price": None,
    },
}
HEADER = "no,at,article,pieces,price"
MONDAY = ("1,2024-03-04,Tea,2,1.5", "1,2024-03-04,milk,1,0.9", "2,2024-03-04,tea,-3,1.5")
TUESDAY = ("3,2024-03-05,tea,1,1.5", "3,2024-03-05,milk,x,0.9", "1,2024-03-04,milk,4,0.9")
TABLES = ("silver.lines", "silver.panel", "silver.quarantine", "silver.repairs")
OF_A_RUN = (s.RUN_ID,)


def receipts(tmp_path: Path, **settings: Any) -> Config:
    declared = {**RECEIPTS, "path": str(tmp_path / "in"), **settings}
    return Config.model_validate({"sources": {"receipts": declared}})


def deliver(tmp_path: Path, name: str, rows: Sequence[str], header: str = HEADER) -> Path:
    """Put a file into the folder where new ones come in."""
    file = tmp_path / "in" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in (header, *rows)), encoding="utf-8")
    return file


def run(config: Config, lakehouse: Lakehouse, run_id: str = "run") -> CleanReport:
    """Clean as a stage does: its own earlier tables are none of its inputs."""
    return clean.run(config, lakehouse.for_run(run_id, {}))


def rows_of(lakehouse: Lakehouse, table: str) -> list[tuple[Any, ...]]:
    """The rows of a table in a fixed order, without what says by which run they were made."""
    frame = lakehouse.read(table).drop(*OF_A_RUN)
    return sorted((tuple(row) for row in frame.collect()), key=repr)


def contents(lakehouse: Lakehouse, tables: Sequence[str] = TABLES) -> Mapping[str, list[tuple[Any, ...]]]:
    return {table: rows_of(lakehouse, table) for table in tables}


def other(lakehouse: Lakehouse, tmp_path: Path, name: str) -> Lakehouse:
    """Another lakehouse, to compare with."""
    return Lakehouse(lakehouse.spark, lakehouse.config.model_copy(update={"root": str(tmp_path / name)}))


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


def quantities(lakehouse: Lakehouse) -> dict[tuple[str, str], float | None]:
    rows = lakehouse.read("silver.lines").collect()
    return {(row["basket_id"], row["item"]): row["quantity"] for row in rows}


def batches_in_bronze(lakehouse: Lakehouse) -> dict[int, int]:
    """Rows of each batch."""
    return dict(lakehouse.read("bronze.receipts").groupBy(s.BATCH).count().collect())


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


def test_a_job_killed_between_its_writes_goes_on(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "TWO_LANES_FROM_BYTES", 0)
    price = {"fill": "median", "outliers": {"method": "iqr", "threshold": 3, "action": "clip"}}
    config = receipts(tmp_path, columns={**RECEIPTS["columns"], "price": price})
    many = [f"{no},2024-03-03,tea,1,{1 + no / 10}" for no in range(10, 20)]
    deliver(tmp_path, "1.csv", [*MONDAY, *many])
    run(config, lakehouse)
    undisturbed = other(lakehouse, tmp_path, "undisturbed")
    shutil.copytree(lakehouse.config.root, undisturbed.config.root)
    deliver(tmp_path, "2.csv", [*TUESDAY, "7,2024-03-05,tea,1,", "8,2024-03-05,tea,1,50"])
    run(config, undisturbed, "second")

    for table in ("bronze.receipts", "silver.lines", s.QUALITY.name):
        with monkeypatch.context() as patched:
            kill_after_writing(table, patched)
            with pytest.raises(Killed):
                run(config, lakehouse, "second")
    deliver(tmp_path, "3.csv", ["9,2024-03-05,tea,1,2"])
    assert run(config, lakehouse, "second").is_behind
    run(config, lakehouse, "third")
    run(config, undisturbed, "third")

    # What came after the kill is a batch of its own, and taken in by a run of its own.
    assert contents(lakehouse) == contents(undisturbed)
    assert told(lakehouse, "second") == told(undisturbed, "second")
    assert told(lakehouse, "third") == told(undisturbed, "third")
    prices = {row["basket_id"]: row["price"] for row in lakehouse.read("silver.lines").collect()}
    # What new rows are filled with and clipped to is learned from earlier ones too.
    assert 2 < prices["7"] < 3
    assert 3 < prices["8"] < 6


def told(lakehouse: Lakehouse, run_id: str) -> list[tuple[Any, ...]]:
    """What the metrics say of a run."""
    return sorted(
        (row["source"], row["outcome"], row["rule"], row["column"], row["count"])
        for row in lakehouse.read(s.QUALITY.name).where(f"{s.RUN_ID} = '{run_id}'").collect()
    )


def test_a_killed_attempt_that_is_a_week_old_is_repeated_from_bronze(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path, "1.csv", MONDAY)
    run(receipts(tmp_path), lakehouse)
    deliver(tmp_path, "2.csv", TUESDAY)
    with monkeypatch.context() as patched:
        kill_after_writing("silver.lines", patched)
        with pytest.raises(Killed):
            run(receipts(tmp_path), lakehouse, "second")
    # Versions of tables are only kept for so long.
    monkeypatch.setattr(batches, "_KEPT_DAYS", 0)
    report = run(receipts(tmp_path), lakehouse, "second")

    assert report.rows_in == 6
    assert quantities(lakehouse) == {("1", "tea"): 2.0, ("1", "milk"): 4.0, ("3", "tea"): 1.0, ("3", "milk"): None}


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def kill_after_writing(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def remember(lakehouse: Lakehouse, written: str, kept: Any = Lakehouse._remember) -> int:
        version = kept(lakehouse, written)
        if written == table:
            raise Killed(table)
        return int(version)

    monkeypatch.setattr(Lakehouse, "_remember", remember)


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


def test_a_stream_takes_in_what_comes(lakehouse: Lakehouse, tmp_path: Path) -> None:
    config = receipts(tmp_path, columns={"basket_id": "no", "item": "article", "quantity": "pieces"})
    config = config.model_copy(update={"lakehouse": lakehouse.config})
    taken: list[int] = []

    def take_in() -> None:
        taken.append(run(config, lakehouse).rows_in)

    deliver(tmp_path, "1.csv", MONDAY)
    stream.run(config, lakehouse.spark, take_in)
    # The first look is the job's own, the second the query's; both go by the same ledger.
    assert taken == [3, 0]

    deliver(tmp_path, "2.csv", TUESDAY)
    with pytest.raises(SourceError, match="said take_in"):
        stream.run(config, lakehouse.spark, failing(on_call=2))
    # The stream did not count as done what failed.
    stream.run(config, lakehouse.spark, take_in)
    assert taken == [3, 0, 3, 0]


def failing(*, on_call: int) -> Callable[[], None]:
    calls = 0

    def take_in() -> None:
        nonlocal calls
        calls += 1
        if calls == on_call:
            raise SourceError("said take_in")

    return take_in


def test_a_stream_needs_a_source_that_files_are_added_to(lakehouse: Lakehouse, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no source has load: merge"):
        stream.run(receipts(tmp_path, load="replace"), lakehouse.spark, lambda: None)


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
