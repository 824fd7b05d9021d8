"""Plain rows go their own way, and nobody can tell from the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dlmine_spark.cleaning.columns import declared_columns
from dlmine_spark.cleaning.plain import plain_pattern
from dlmine_spark.config import Config, SourceConfig
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean, judging

pytestmark = pytest.mark.spark

HEADER = "no;at;article;kind;pieces;price;paid;note"
COLUMNS: dict[str, Any] = {
    "basket_id": "no",
    "ts": {"from": "at", "formats": ["yyyy-MM-dd HH:mm", "dd.MM.yyyy HH:mm"]},
    "item": {"from": "article", "case": "lower"},
    "category": {"from": "kind", "allowed": ["dry goods", "dairy"]},
    "quantity": {"from": "pieces", "type": "integer", "min": 0, "max": 500, "fill": "median", "fill_by": ["item"]},
    "price": {"decimal": ",", "outliers": {"method": "iqr", "threshold": 3, "by": ["item"], "action": "clip"}},
    "paid": {"type": "boolean"},
}
PLAIN = "{no};2024-03-01 10:00;tea;dry goods;2;1,5{no};1;a note"


def source(path: str = "r.csv", **settings: Any) -> SourceConfig:
    declared = {"kind": "lines", "path": path, "delimiter": ";", "columns": COLUMNS, **settings}
    return SourceConfig.model_validate(declared)


LINES = {
    "plain": ("7;2024-03-01 10:00;green tea;dry goods;2;1,50;1;a note", True),
    "blanks where they may be": ("7;;tea;;;;;", True),
    "other alphabets": ("7;2024-03-01;thé vert;dairy;2;1;0;ñ", True),
    "a day that month has": ("7;2024-01-31T23:59:59;tea;dairy;2;-1,5;true;", True),
    "no basket": (";2024-03-01;tea;dairy;2;1;0;", False),
    "a word for missing": ("7;2024-03-01;n/a;dairy;2;1;0;", False),
    "a word that begins like one": ("7;2024-03-01;nab;dairy;2;1;0;", True),
    "outer space": ("7;2024-03-01; tea;dairy;2;1;0;", False),
    "two spaces": ("7;2024-03-01;green  tea;dairy;2;1;0;", False),
    "another space": ("7;2024-03-01;green\u00a0tea;dairy;2;1;0;", False),
    "wrong case": ("7;2024-03-01;Tea;dairy;2;1;0;", False),
    "letters with loose accents": ("7;2024-03-01;the\u0301;dairy;2;1;0;", False),
    "not allowed": ("7;2024-03-01;tea;dairies;2;1;0;", False),
    "other format": ("7;01.03.2024 10:00;tea;dairy;2;1;0;", False),
    "no such day": ("7;2024-02-30;tea;dairy;2;1;0;", False),
    "never": ("7;9999-12-31;tea;dairy;2;1;0;", False),
    "decimals of a whole number": ("7;2024-03-01;tea;dairy;2,0;1;0;", False),
    "thousands": ("7;2024-03-01;tea;dairy;2;1.234,5;0;", False),
    "too many digits": ("7;2024-03-01;tea;dairy;1234567890123456;1;0;", False),
    "a word for yes": ("7;2024-03-01;tea;dairy;2;1;yes;", False),
    "quotes": ('7;2024-03-01;"tea";dairy;2;1;0;', False),
    "a quote in an unmapped cell": ('7;2024-03-01;tea;dairy;2;1;0;6" ruler', False),
    "too few cells": ("7;2024-03-01;tea;dairy;2;1;0", False),
    "too many cells": ("7;2024-03-01;tea;dairy;2;1;0;;", False),
    "bytes that are no letters": ("7;2024-03-01;tea;dairy;2;1;0;\ufffd", False),
}


def test_a_line_is_plain_when_nothing_is_left_to_clean(spark: SparkSession) -> None:
    declaration = source()
    pattern = plain_pattern(HEADER.split(";"), declaration, declared_columns(declaration))
    lines = spark.createDataFrame([(name, line) for name, (line, _) in LINES.items()], "name string, line string")

    told = {
        row["name"]: row["plain"]
        for row in lines.select("name", F.rlike("line", F.lit(pattern)).alias("plain")).collect()
    }

    assert told == {name: is_plain for name, (_, is_plain) in LINES.items()}


@pytest.mark.parametrize(
    "settings",
    [
        {"columns": {**COLUMNS, "ts": {"from": "at", "formats": ["dd.MM.yyyy"]}}},
        {"columns": {**COLUMNS, "note": {"allowed": [str(n) for n in range(1000)]}}},
        {"columns": {**COLUMNS, "brand": {"from": "article"}}},
    ],
)
def test_what_a_pattern_cannot_tell_is_not_asked_of_it(settings: dict[str, Any]) -> None:
    declaration = source(**settings)

    assert plain_pattern(HEADER.split(";"), declaration, declared_columns(declaration)) is None


@pytest.mark.parametrize(
    ("action", "settings"),
    [
        ("clip", {}),
        pytest.param("quarantine", {"key": ["basket_id", "item"], "keep": "first"}, marks=pytest.mark.slow),
        pytest.param(
            "flag",
            {
                # Without a key, the record names rows by their place in the file.
                "kind": "table",
                "rules": [
                    {"name": "worth", "expr": "quantity * price < 300"},
                    {"name": "few", "expr": "quantity > 1", "action": "warn"},
                ],
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_both_lanes_give_the_same_tables(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, settings: dict[str, Any]
) -> None:
    plain = [PLAIN.format(no=no) for no in range(10, 20)]
    odd = [line for line, _ in LINES.values()]
    versions = [
        plain[0],  # a copy of a plain row
        "7;2024-03-01;tea;dairy;2;1;0;",  # a plain row whose copies have quotes, here and in the other file
        '7;2024-03-01;"tea";dairy;2;1;0;',  # and of another one
        "11;2024-03-01 10:00;Tea;dry goods;9;1,6;1;the same key, once it is cleaned",
        ";2024-03-01;tea;dairy;2;1;0;",
        "31;2024-03-01 10:00;tea;dairy;3;99;1;far too dear",
        "32;2024-03-01 10:00;tea;dairy;501;1,5;1;out of range",
        "33;2024-03-01 10:00;tea;dairy;400;1,5;1;too much together",
        "34;2024-03-01 10:00;milk;dairy;;1,5;1;no other milk has a number",
        "35;2024-02-29 10:00;tea;dairy;;1,5;1;a leap day",
        HEADER,
    ]
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "1.csv").write_text("\n".join([HEADER, *plain, *odd]), encoding="utf-8")
    # The same columns in another order.
    moved = [f"{last};{first}" for first, _, last in (line.rpartition(";") for line in [HEADER, *versions])]
    (tmp_path / "r" / "2.csv").write_text("\n".join(moved), encoding="utf-8")
    (tmp_path / "r" / "3.csv").write_bytes(f"{HEADER}\n{plain[1]}\n7;;thé à ñu;;;;;\n".encode() + b"7;;tea\xff;;;;;\n")
    outliers = {**COLUMNS["price"]["outliers"], "action": action}
    columns = {**COLUMNS, "price": {**COLUMNS["price"], "outliers": outliers}}
    receipts = source(str(tmp_path / "r"), **{"columns": columns, **settings})
    config = Config.model_validate({"sources": {"receipts": receipts}})
    table = "silver.lines" if receipts.kind == "lines" else "silver.receipts"
    tables: list[dict[str, list[Any]]] = []
    reports = []

    for size in (1 << 40, 0):
        monkeypatch.setattr(judging, "TWO_LANES_FROM_BYTES", size)
        house = lakehouse.for_run("r", {})
        reports.append(clean.run(config, house))
        tables.append(
            {
                name: sorted(map(repr, house.read(name).collect()))
                for name in (table, "silver.quarantine", "silver.repairs")
            }
        )

    one_lane, two_lanes = tables
    assert two_lanes == one_lane
    assert reports[0] == reports[1]
    # And there were two.
    plain_rows = house.read("bronze.receipts").where("_plain").count()
    judged_rows = house.read("staging.receipts").count()
    assert plain_rows > 8
    assert judged_rows < reports[1].rows_in
