"""The whole stage: files of every kind in, silver tables, quarantine and repairs out, and nothing half done."""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError, SourceError, TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean, judging
from dlmine_spark.pipelines.judging import SourceCounts
from tests.cleaning.examples import values

pytestmark = pytest.mark.spark

PANEL = {"unique_id": "store", "ds": "date", "y": "sales"}


def config(**declared: dict[str, Any]) -> Config:
    """A configuration of these sources; ``cleaning`` is the section of that name."""
    sections = {"cleaning": declared.pop("cleaning", {})}
    return Config.model_validate({"sources": declared, **sections})


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def rows(lakehouse: Lakehouse, table: str, *names: str, order: tuple[str, ...] = ()) -> list[Any]:
    return values(lakehouse.read(table).orderBy(*(order or names)), *names)


def test_every_kind_of_source_in_one_run(lakehouse: Lakehouse, tmp_path: Path) -> None:
    receipts = write(
        tmp_path / "r" / "1.csv.gz",
        "no;at;article;pieces;price;shop\n"
        "1;2024-03-01 10:00;tea;2;1,50;A\n"
        "1;2024-03-01 10:00;milk;;1,00;A\n"
        "1;2024-03-01 10:00;tea;2;1,50;A\n"
        "2;03.03.2024 09:00;Tea ;1;€ 2,00;B\n",
    )
    # The second file has its columns in another order, a copy of a line of the first, and a line cut off.
    write(
        tmp_path / "r" / "2.csv",
        "shop;no;at;article;pieces;price\n"
        "A;1;2024-03-01 10:00;tea;2;1,50\n"
        "B;3;2024-03-03 11:00;milk;-4;1,00\n"
        "B;3;2024-03-03 11:0\n",
    )
    sales = write(
        tmp_path / "sales.json",
        '{"store":"A","date":"2024-03-01","sales":10}\n{"store":"A","date":"2024-03-04","sales":"40"}\n'
        '{"store":"B","date":"2024-03-02","sales":null}\n{"store":"B","date":"2024-03-03","sales":7}\n',
    )
    calendar = write(tmp_path / "c.csv", "day,trading\n2024-03-02,no\n2024-03-03,1\n2024-03-09,1\n")
    baskets = write(tmp_path / "b.txt", 'tea milk tea\n\n"green tea" milk\n')
    lakehouse.spark.sql(
        "select 'A' as shop, 'Nord' as region, 120.0D as size union all select 'B', 'Sued', null"
    ).write.parquet(str(tmp_path / "shops.parquet"))
    lakehouse.spark.sql("select 7 as id, array('x') as tags").write.format("delta").save(str(tmp_path / "extra"))
    whole = config(
        receipts={
            "kind": "lines",
            "path": str(Path(receipts).parent),
            "delimiter": ";",
            "columns": {
                "basket_id": "no",
                "ts": {"from": "at", "formats": ["yyyy-MM-dd HH:mm", "dd.MM.yyyy HH:mm"]},
                "item": {"from": "article", "case": "lower"},
                "quantity": {"from": "pieces", "min": 0, "fill": "constant", "fill_value": 1},
                "price": {"from": "price", "decimal": ","},
                "store_id": "shop",
            },
        },
        sales={
            "kind": "panel",
            "path": sales,
            "format": "json",
            "columns": {**PANEL, "y": {"from": "sales", "fill": "linear"}},
        },
        days={
            "kind": "calendar",
            "path": calendar,
            "columns": {"ds": "day", "open": {"from": "trading", "type": "boolean"}},
        },
        orders={"kind": "baskets", "path": baskets, "format": "text"},
        shops={
            "kind": "statics",
            "path": str(tmp_path / "shops.parquet"),
            "format": "parquet",
            "columns": {
                "unique_id": "shop",
                "region": {"allowed": ["Nord", "Süd"], "similarity": 0.5},
                "size": {"type": "double", "fill": "median"},
            },
        },
        extra={
            "kind": "table",
            "path": str(tmp_path / "extra"),
            "format": "delta",
            "columns": {"id": {"type": "integer"}, "tags": None},
        },
    )

    report = clean.run(whole, lakehouse)

    assert {
        counts.source: (counts.rows_in, counts.accepted, counts.quarantined, counts.duplicates)
        for counts in report.sources
    } == {
        "receipts": (7, 3, 2, 2),
        "sales": (4, 4, 0, 0),
        "days": (3, 3, 0, 0),
        "orders": (3, 2, 1, 0),
        "shops": (2, 2, 0, 0),
        "extra": (1, 1, 0, 0),
    }
    assert (report.rows_in, report.rows_out, report.rows_rejected) == (20, 15, 3)
    assert rows(
        lakehouse,
        "silver.lines",
        "basket_id",
        "item",
        "ts",
        "quantity",
        "price",
        "customer_id",
        "store_id",
        "quantity_imputed",
    ) == [
        ("1", "milk", datetime(2024, 3, 1, 10), 1.0, 1.0, None, "A", True),
        ("1", "tea", datetime(2024, 3, 1, 10), 2.0, 1.5, None, "A", False),
        ("2", "tea", datetime(2024, 3, 3, 9), 1.0, 2.0, None, "B", False),
    ]
    # The second was closed, so it is not missing; the third is; what lies after the last value is nobody's to fill.
    assert rows(lakehouse, "silver.panel", "unique_id", "ds", "y", "open", "y_imputed") == [
        ("A", date(2024, 3, 1), 10.0, 1, False),
        ("A", date(2024, 3, 2), None, 0, False),
        ("A", date(2024, 3, 3), 30.0, 1, True),
        ("A", date(2024, 3, 4), 40.0, 1, False),
        ("B", date(2024, 3, 2), None, 0, False),
        ("B", date(2024, 3, 3), 7.0, 1, False),
    ]
    assert rows(lakehouse, "silver.calendar", "unique_id", "ds", "open")[:3] == [
        ("A", date(2024, 3, 2), 0.0),
        ("A", date(2024, 3, 3), 1.0),
        ("A", date(2024, 3, 9), 1.0),
    ]
    assert lakehouse.read("silver.calendar").count() == 6
    assert rows(lakehouse, "silver.statics", "unique_id", "region", "size", "size_imputed") == [
        ("A", "Nord", 120.0, False),
        ("B", "Süd", 120.0, True),
    ]
    assert rows(lakehouse, "silver.baskets", "basket_id", "items") == [
        ("b.txt:1", ["milk", "tea"]),
        ("b.txt:3", ["green tea", "milk"]),
    ]
    assert rows(lakehouse, "silver.extra", "id", "tags") == [(7.0, '["x"]')]
    assert [
        (source, json.loads(row), [reason["rule"] for reason in reasons], run_id)
        for source, row, reasons, run_id in rows(
            lakehouse, "silver.quarantine", "source", "row", "reasons", "run_id", order=("source", "row")
        )
    ] == [
        ("orders", {"value": ""}, ["empty_basket"], "adhoc"),
        ("receipts", {"_raw": "B;3;2024-03-03 11:0"}, ["malformed_line"], "adhoc"),
        (
            "receipts",
            {"shop": "B", "no": "3", "at": "2024-03-03 11:00", "article": "milk", "pieces": "-4", "price": "1,00"},
            ["out_of_range"],
            "adhoc",
        ),
    ]
    assert rows(lakehouse, "silver.repairs", "source", "key", "column", "old_value", "new_value", "rule") == [
        ("days", "2024-03-02", "open", "no", "0.0", "format"),
        ("receipts", "1|milk", "quantity", None, "1.0", "fill_constant"),
        ("receipts", "2|tea", "item", "Tea ", "tea", "spaces"),
        ("receipts", "2|tea", "price", "€ 2,00", "2.0", "format"),
        ("receipts", "2|tea", "ts", "03.03.2024 09:00", "2024-03-03 09:00:00", "format"),
        ("sales", "A|2024-03-03", "y", None, "30.0", "fill_linear"),
        ("shops", "B", "region", "Sued", "Süd", "allowed"),
        ("shops", "B", "size", None, "120.0", "fill_median"),
    ]
    assert report.repairs == 8
    bronze = lakehouse.read("bronze.receipts")
    assert values(bronze.where("_raw is null").orderBy("_source_file", "_source_row"), "pieces", "price")[3] == (
        "1",
        "€ 2,00",
    )


@pytest.mark.slow
def test_lines_alone_give_a_panel_and_a_calendar_for_their_stores(
    lakehouse: Lakehouse, elsewhere: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = write(
        tmp_path / "l.csv", "no,at,article,shop\n1,2024-03-01 23:30,tea,A\n2,2024-03-01 00:15,tea,\n3,,tea,A\n"
    )
    days = write(tmp_path / "d.csv", "ds,promo\n2024-03-01,1\n")
    settings = config(
        lines={
            "kind": "lines",
            "path": lines,
            "columns": {"basket_id": "no", "item": "article", "ts": "at", "store_id": "shop"},
        },
        days={"kind": "calendar", "path": days, "columns": {"ds": None, "promo": {"type": "boolean"}}},
    )

    clean.run(settings, lakehouse)

    # No quantity: a line counts once. No price: units are summed, and the log says so.
    assert rows(lakehouse, "silver.panel", "unique_id", "ds", "y") == [
        ("A", date(2024, 3, 1), 1.0),
        ("unknown", date(2024, 3, 1), 1.0),
    ]
    assert "no price" in caplog.text
    assert rows(lakehouse, "silver.calendar", "unique_id", "promo") == [("A", 1.0), ("unknown", 1.0)]
    # Neither dates nor times move with the session's time zone.
    times = lakehouse.read("silver.lines").selectExpr("basket_id", "date_format(ts, 'yyyy-MM-dd HH:mm') as at")
    assert values(times.orderBy("basket_id"), "at") == ["2024-03-01 23:30", "2024-03-01 00:15", None]


@pytest.fixture
def elsewhere(spark: SparkSession) -> Iterator[None]:
    """A session whose time zone is not the tests'."""
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "America/Los_Angeles")
    yield
    spark.conf.set("spark.sql.session.timeZone", before)


def test_undated_lines_give_no_panel(lakehouse: Lakehouse, tmp_path: Path) -> None:
    lines = write(tmp_path / "l.csv", "no,at,article\n1,,tea\n")

    clean.run(
        config(lines={"kind": "lines", "path": lines, "columns": {"basket_id": "no", "item": "article", "ts": "at"}}),
        lakehouse,
    )

    assert lakehouse.read("silver.lines").count() == 1
    assert not lakehouse.exists("silver.panel")


def sales(tmp_path: Path, *lines: str, name: str = "s.csv", header: str = "store,date,sales") -> str:
    return write(tmp_path / name, "\n".join([header, *lines]) + "\n")


def panel(path: str, **settings: Any) -> dict[str, Any]:
    return {"kind": "panel", "path": path, "columns": PANEL, **settings}


def test_kept_columns_become_covariates_by_their_content(
    lakehouse: Lakehouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = sales(
        tmp_path,
        "A,2024-03-01,1,20.5,01,sunny,9",
        "A,2024-03-02,2,N/A,02,,9",
        header="store,date,sales,degrees,zone,sky,Y",
    )

    clean.run(config(sales=panel(path, other_columns="keep")), lakehouse)

    assert lakehouse.read("silver.panel").columns == [
        "unique_id",
        "ds",
        "y",
        "open",
        "y_imputed",
        "degrees",
        "zone",
        "sky",
    ]
    assert rows(lakehouse, "silver.panel", "ds", "degrees", "zone", "sky") == [
        (date(2024, 3, 1), 20.5, "01", "sunny"),
        (date(2024, 3, 2), None, "02", None),
    ]
    assert "column Y is not kept" in caplog.text


def test_outliers_are_judged_after_copies_and_before_fills(lakehouse: Lakehouse, tmp_path: Path) -> None:
    usual = [f"A,2024-03-{day:02d},{10 + day % 3}" for day in range(1, 11)]
    path = sales(tmp_path, *usual, "A,2024-03-11,9999", "A,2024-03-12,11")
    y = {"from": "sales", "outliers": {"by": ["unique_id"]}, "fill": "forward"}
    readings = write(tmp_path / "r.csv", "id,reading\n" + "".join(f"{n},{10 + n % 3}\n" for n in range(9)) + "9,9999\n")
    reading = {"type": "double", "outliers": {"action": "quarantine"}}

    report = clean.run(
        config(
            sales=panel(path, columns={**PANEL, "y": y}),
            readings={"kind": "table", "path": readings, "columns": {"id": None, "reading": reading}},
        ),
        lakehouse,
    )

    assert rows(lakehouse, "silver.panel", "ds", "y", "y_imputed")[-2:] == [
        (date(2024, 3, 11), 11.0, True),
        (date(2024, 3, 12), 11.0, False),
    ]
    assert rows(lakehouse, "silver.repairs", "column", "old_value", "new_value", "rule", order=("rule",)) == [
        ("y", None, "11.0", "fill_forward"),
        ("y", "9999.0", None, "outlier_iqr"),
    ]
    assert report.sources[0] == SourceCounts("sales", 12, 12, 0, 0, 0, 0)
    assert (report.sources[1].accepted, report.rows_rejected) == (9, 1)
    # What is refused is kept as it came.
    assert [json.loads(row) for row in rows(lakehouse, "silver.quarantine", "row")] == [{"id": "9", "reading": "9999"}]


def test_cancelled_sales_are_taken_out_and_missing_amounts_computed(lakehouse: Lakehouse, tmp_path: Path) -> None:
    text = (
        "no,at,customer,item,n,price,amount\n"
        "1,2024-03-01 10:00,ann,tea,3,2,\n"
        "2,2024-03-01 11:00,ann,tea,3,2,6\n"
        "C3,2024-03-02 10:00,ann,tea,-3,2,\n"
        "4,2024-03-02 11:00,bob,milk,,2,8\n"
    )
    columns = {
        "basket_id": "no",
        "ts": "at",
        "customer_id": "customer",
        "item": "item",
        "quantity": "n",
        "price": "price",
        "amount": {"type": "double"},
    }
    receipts = {
        "kind": "lines",
        "path": write(tmp_path / "r.csv", text),
        "columns": columns,
        "equations": [{"name": "amount", "product": ["quantity", "price"], "equals": "amount"}],
        "cancellations": {"marker": "basket_id like 'C%'", "match": ["customer_id", "item", "price"]},
    }

    (counts,) = clean.run(config(receipts=receipts), lakehouse).sources

    assert (counts.rows_in, counts.accepted, counts.quarantined) == (4, 2, 2)
    assert rows(lakehouse, "silver.lines", "basket_id", "quantity", "amount") == [("1", 3.0, 6.0), ("4", 4.0, 8.0)]
    quarantine = lakehouse.read("silver.quarantine").selectExpr(
        "get_json_object(row, '$.no') as no", "reasons[0].message as message"
    )
    assert values(quarantine.orderBy("no"), "no", "message") == [
        ("2", "is cancelled by C3 at 2024-03-02 10:00:00"),
        ("C3", "cancels 2 at 2024-03-01 11:00:00"),
    ]
    assert rows(lakehouse, "silver.repairs", "key", "column", "new_value", "rule") == [
        ("1|tea", "amount", "6.0", "equation:amount"),
        ("4|milk", "quantity", "4.0", "equation:amount"),
    ]


def test_the_cutoff_of_the_configuration_reaches_fills_and_fences(lakehouse: Lakehouse, tmp_path: Path) -> None:
    days = [f"A,2024-03-{day:02},{day if day < 10 else 90}" for day in range(1, 15) if day != 4]
    sales = {
        "kind": "panel",
        "path": write(tmp_path / "s.csv", "store,date,sales\n" + "\n".join(days) + "\n"),
        "columns": {**PANEL, "y": {"from": "sales", "fill": "mean", "outliers": {"action": "clip"}}},
    }

    clean.run(config(sales=sales, cleaning={"cutoff": "2024-03-09"}), lakehouse)

    found = dict(rows(lakehouse, "silver.panel", "ds", "y"))
    # Quartiles 2.75 and 7.25 of the eight values up to the cutoff; their mean.
    assert found[date(2024, 3, 10)] == 20.75
    assert found[date(2024, 3, 4)] == 41 / 8


def test_warnings_keep_the_row_and_are_told(
    lakehouse: Lakehouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = [{"name": "round", "expr": "y % 10 <> 0", "action": "warn"}]

    with caplog.at_level(logging.WARNING):
        report = clean.run(
            config(sales=panel(sales(tmp_path, "A,2024-03-01,10", "A,2024-03-02,11"), rules=rules)), lakehouse
        )

    assert report.sources[0].warned == 1
    assert "source sales: 1 rows are kept in spite of round (1)" in caplog.text
    assert lakehouse.read("silver.panel").count() == 2


def test_the_same_rows_in_other_files_and_tasks_give_the_same_tables(
    lakehouse: Lakehouse, spark: SparkSession, tmp_path: Path
) -> None:
    lines = [f"{'AB'[n % 2]},2024-03-{1 + n % 6:02d},{n % 5}" for n in range(120)]
    whole = sales(tmp_path, *lines, name="whole.csv")
    for part in range(2):
        sales(tmp_path / "parts", *lines[part * 60 : part * 60 + 60], name=f"{part}.csv")
    baskets = write(tmp_path / "b.txt", "".join(f"item{n} other\n" for n in range(200)))
    tables: list[list[Any]] = []
    before = spark.conf.get("spark.sql.files.maxPartitionBytes")
    try:
        for path, bytes_ in ((str(tmp_path / "parts"), "128m"), (whole, "1000b")):
            spark.conf.set("spark.sql.files.maxPartitionBytes", bytes_)
            house = Lakehouse(spark, lakehouse.config)
            clean.run(config(sales=panel(path), orders={"kind": "baskets", "path": baskets}), house)
            tables.append(
                rows(house, "silver.panel", "unique_id", "ds", "y")
                + rows(house, "silver.baskets", "basket_id", "items")
            )
        # This one was read in many pieces.
        assert house.read("bronze.orders").select("_source_block").distinct().count() > 1
    finally:
        spark.conf.set("spark.sql.files.maxPartitionBytes", before)

    assert tables[0] == tables[1]
    assert ("b.txt:200", ["item199", "other"]) in tables[0]


# What is refused, with the silver tables as they were


GOOD = [f"A,2024-03-{day:02d},{day}" for day in range(1, 6)]

REFUSED: list[tuple[list[str], dict[str, Any], type[Exception], str]] = [
    (["A,soon,1"] * 3, {}, SourceError, r"1 of 1 rows would be quarantined \(100%.*unparseable ds.*is no date: soon"),
    (["A,2024-03-01"], {}, SourceError, r"malformed_line \(1 rows, e.g. the line does not have"),
    (["A,2024-03-01,n.k.", "B,2024-03-01,x"], {}, SourceError, r"no cell of column sales \(y\) is a double, e.g. 'n.k"),
    (["A,2024-03-01,", "A,2024-03-02,N/A"], {}, SourceError, r"s\.csv.*column sales \(y\) holds no value in any row"),
    (["A,1924-03-01,1", *GOOD], {}, SourceError, r"series A has no row between 1924-03-01 and 2024-03-01"),
    (["A,2024-03-01,1", "A,2024-03-15,1"], {}, TableContractError, r"usually 14 days apart.*set cleaning.frequency"),
    (GOOD, {"rules": [{"name": "r", "expr": "1 / (y - 3) > 0"}]}, ConfigError, r"sources.sales.rules.r: .*try_divide"),
    (
        GOOD,
        {"rules": [{"name": "r", "expr": "y > 100", "action": "repair", "set": {"y": "1 / (y - 3)"}}]},
        ConfigError,
        r"sources.sales.rules.r: '1 / .*try_divide",
    ),
    (GOOD, {"rules": [{"name": "r", "expr": "sum(y) > 0"}], "key": ["shop"]}, ConfigError, r"sales.key: .*; .*rules.r"),
    (GOOD, {"columns": {**PANEL, "ds": {"from": "date", "formats": ["d/m"]}}}, ConfigError, r"ds.formats: .d/m. has"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "settings", "error", "message"), REFUSED)
def test_an_unusable_source_leaves_the_silver_tables_alone(
    lakehouse: Lakehouse,
    tmp_path: Path,
    lines: list[str],
    settings: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    path = sales(tmp_path, *lines)

    with pytest.raises(error, match=message) as raised:
        clean.run(config(sales=panel(path, **settings)), lakehouse)

    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "lakehouse").glob("silver/*"))


def test_one_unusable_source_stops_all(lakehouse: Lakehouse, tmp_path: Path) -> None:
    extra = write(tmp_path / "t.csv", "id\n1\n")
    table = {"kind": "table", "path": extra, "columns": {"id": None}}
    clean.run(config(extra=table, sales=panel(sales(tmp_path, *GOOD))), lakehouse)
    before = {name: lakehouse.version(f"silver.{name}") for name in ("extra", "panel", "quarantine", "repairs")}
    write(tmp_path / "t.csv", "id\n1\n2\n")
    sales(tmp_path, "A,soon,1")

    with pytest.raises(SourceError, match="source sales"):
        clean.run(config(extra=table, sales=panel(str(tmp_path / "s.csv"))), lakehouse)

    assert {name: lakehouse.version(f"silver.{name}") for name in before} == before


def test_a_file_that_changes_while_it_is_read_is_refused(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sales(tmp_path, *GOOD)
    overwrite = Lakehouse.overwrite

    def write_slowly(self: Lakehouse, table: str, *arguments: Any, **options: Any) -> int:
        if table == "bronze.sales":
            os.utime(path, ns=(1, 1))
        return overwrite(self, table, *arguments, **options)

    monkeypatch.setattr(Lakehouse, "overwrite", write_slowly)

    with pytest.raises(SourceError, match="changed while it was read"):
        clean.run(config(sales=panel(path)), lakehouse)
    assert not lakehouse.exists("silver.panel")


def test_a_file_that_vanishes_is_named(lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sales(tmp_path, *GOOD)
    monkeypatch.setattr(clean, "_refuse_wrong_rules", lambda config, files: Path(path).unlink())

    with pytest.raises(SourceError, match=r"s\.csv"):
        clean.run(config(sales=panel(path)), lakehouse)


@pytest.mark.parametrize("step", ["_judged", "treat_outliers"])
@pytest.mark.parametrize("two_lanes_from", [0, 1 << 40])
def test_a_row_that_gets_lost_is_noticed(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, two_lanes_from: int
) -> None:
    whole = getattr(judging, step)
    monkeypatch.setattr(judging, step, lambda *arguments: whole(*arguments).where("y <> 3"))
    monkeypatch.setattr(judging, "TWO_LANES_FROM_BYTES", two_lanes_from)
    columns = {**PANEL, "y": {"from": "sales", "outliers": {"action": "flag"}}}
    # A space before the number, so that with two lanes this row is a judged one, too.
    lines = [*GOOD[:2], "A,2024-03-03, 3", *GOOD[3:]]

    with pytest.raises(TableContractError, match=r"bronze.sales: 5 rows in, but 4 accounted for"):
        clean.run(config(sales=panel(sales(tmp_path, *lines), columns=columns)), lakehouse)


def test_too_many_columns_to_keep_are_too_many(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_MOST_KEPT", 1)
    path = sales(tmp_path, "A,2024-03-01,1,2,3", header="store,date,sales,a,b")

    with pytest.raises(SourceError, match=r"2 columns would be kept.*sources.sales.other_columns=drop"):
        clean.run(config(sales=panel(path, other_columns="keep")), lakehouse)
