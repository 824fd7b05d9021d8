"""Lookups: a blank takes what another source says of the same thing."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark.cleaning.columns import declared_columns
from dlmine_spark.cleaning.impute import fill_blanks
from dlmine_spark.cleaning.lookup import lookup_table
from dlmine_spark.config import Config, Lookup, load_config
from dlmine_spark.errors import ConfigError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import clean, judging
from tests.cleaning.examples import source, values


def lookup(**settings: Any) -> Lookup:
    return Lookup.model_validate({"source": "products", **settings})


def filled(rows: DataFrame, table: DataFrame, **price: Any) -> list[Any]:
    columns = {"item": None, "store": None, "price": {"type": "double", "fill": "lookup", **price}}
    declared = declared_columns(source(columns))
    return values(fill_blanks(rows, declared, lookups={"price": table}), "price", "price_imputed")


@pytest.mark.spark
def test_a_blank_takes_the_value_of_the_matching_row(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [
            (1, "tea", "A", None),
            (2, "tea", "A", 9.0),
            (3, "milk", "A", None),
            (4, "salt", "A", None),
            (5, None, "A", None),
        ],
        "_source_row int, item string, store string, price double",
    )
    # Under another name, and in another case; salt has no price, and nothing is nobody's name.
    products = spark.createDataFrame(
        [("tea", 2.0), ("milk", 3.0), ("salt", None), (None, 7.0)], "Item string, list_price double"
    )
    from_products = lookup(on={"item": "Item"}, column="list_price")

    found = filled(rows, lookup_table(products, from_products, "price"), fill_from=from_products)

    assert found == [(2.0, True), (9.0, False), (3.0, True), (None, False), (None, False)]


@pytest.mark.spark
def test_what_the_columns_own_rules_refuse_is_not_filled_in(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [(1, "tea", "A", None), (2, "milk", "A", None)], "_source_row int, item string, store string, price double"
    )
    products = spark.createDataFrame([("tea", -2.0), ("milk", 3.0)], "item string, price double")
    table = lookup_table(products, lookup(on="item"), "price")
    from_products = lookup(on="item")

    assert filled(rows, table, fill_from=from_products, min=0) == [(None, False), (3.0, True)]
    assert filled(rows, table, fill_from=from_products, min=0, out_of_range="warn")[0] == (-2.0, True)


PRICES = [
    ("tea", date(2024, 3, 2), 2.0, "b.csv", 0, 1),
    ("tea", date(2024, 3, 5), 5.0, "a.csv", 0, 1),
    ("tea", date(2024, 3, 9), None, "b.csv", 0, 2),
    ("milk", date(2024, 3, 2), 3.0, "a.csv", 0, 2),
    ("milk", date(2024, 3, 2), 4.0, "b.csv", 0, 3),
]
PRICE_TYPES = "item string, ds date, price double, _source_file string, _source_block bigint, _source_row bigint"


@pytest.mark.spark
@pytest.mark.parametrize(
    ("time", "cutoff", "expected"),
    [
        ("ds", None, [("milk", 4.0), ("tea", 5.0)]),
        (None, None, [("milk", 4.0), ("tea", 2.0)]),
        ("ds", date(2024, 3, 4), [("milk", 4.0), ("tea", 2.0)]),
        # Without a time nobody knows what was known when.
        (None, date(2024, 3, 1), [("milk", 4.0), ("tea", 2.0)]),
    ],
)
def test_of_several_rows_the_last_with_a_value_counts(
    spark: SparkSession, time: str | None, cutoff: date | None, expected: list[Any]
) -> None:
    prices = spark.createDataFrame(PRICES, PRICE_TYPES)

    table = lookup_table(prices.repartition(3), lookup(on="item"), "price", time, cutoff)

    assert sorted(tuple(row) for row in table.collect()) == expected


@pytest.mark.spark
def test_what_is_matched_by_its_time_is_known_at_that_time(spark: SparkSession) -> None:
    prices = spark.createDataFrame(PRICES, PRICE_TYPES)

    table = lookup_table(prices, lookup(on=["item", "ds"]), "price", "ds", date(2024, 3, 4))

    assert ("tea", date(2024, 3, 5), 5.0) in [tuple(row) for row in table.collect()]


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.spark
@pytest.mark.parametrize("two_lanes_from", [0, 1 << 40])
def test_sources_may_fill_each_other(
    lakehouse: Lakehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_lanes_from: int
) -> None:
    monkeypatch.setattr(judging, "TWO_LANES_FROM_BYTES", two_lanes_from)
    lines = write(tmp_path / "l.csv", "no,item,price,brand\n1,tea,,\n2,milk,4,Cow\n3,milk,,\n4,odd,,\n")
    products = write(tmp_path / "p.csv", "item,price,brand\ntea,2.0,Leaf\nmilk,3,\nodd,soon,\n")
    declared = {
        "lines": {
            "kind": "lines",
            "path": lines,
            "columns": {
                "basket_id": "no",
                "item": None,
                "price": {"fill": "lookup", "fill_from": {"source": "products", "on": ["item"]}},
                "brand": {"fill": "lookup", "fill_from": {"source": "products", "on": ["item"]}},
            },
        },
        "products": {
            "kind": "table",
            "path": products,
            "columns": {
                "item": None,
                "price": {"type": "double", "required": True},
                "brand": {"fill": "lookup", "fill_from": {"source": "lines", "on": ["item"]}},
            },
        },
    }

    clean.run(Config.model_validate({"sources": declared}), lakehouse)

    # The odd product was refused, so nothing is known of it. Fills come from the rows as they are before any fill:
    # the milk of the third line has no brand, though silver.products knows it from the second.
    silver = lakehouse.read("silver.lines").orderBy("basket_id")
    assert values(silver, "price", "brand", "price_imputed", "brand_imputed") == [
        (2.0, "Leaf", True, True),
        (4.0, "Cow", False, False),
        (3.0, None, True, False),
        (None, None, False, False),
    ]
    assert values(lakehouse.read("silver.products").orderBy("item"), "item", "brand") == [
        ("milk", "Cow"),
        ("tea", "Leaf"),
    ]
    repairs = lakehouse.read("silver.repairs").where("rule = 'fill_lookup'").orderBy("source", "key", "column")
    assert values(repairs, "source", "key", "column", "old_value", "new_value") == [
        ("lines", "1|tea", "brand", None, "Leaf"),
        ("lines", "1|tea", "price", None, "2.0"),
        ("lines", "3|milk", "price", None, "3.0"),
        ("products", None, "brand", None, "Cow"),
    ]


@pytest.mark.parametrize(
    ("price", "messages"),
    [
        ("{type: double, fill: lookup}", ["fill: lookup and fill_from go together"]),
        ("{type: double, fill_from: {source: products, on: item}}", ["fill: lookup and fill_from go together"]),
        ("{type: double, fill: lookup, fill_from: {source: products, on: []}}", ["fill_from.on: "]),
        (
            "{type: double, fill: lookup, fill_from: {source: product, on: item}}",
            ["sources.sales.columns.price.fill_from.source: there is no source product, did you mean products?"],
        ),
        (
            "{type: double, fill: lookup, fill_from: {source: products, column: Prise, on: [ITEM, price, day]}}",
            [
                "price.fill_from.on: no column ITEM is mapped, did you mean item?",
                "price.fill_from.on: price is the column to be filled",
                "price.fill_from.on: day of source products is of type string, day is of type date",
                "price.fill_from.column: source products has no column Prise, did you mean price?",
            ],
        ),
        (
            "{type: integer, fill: lookup, fill_from: {source: products, on: {item: itm}}}",
            [
                "price.fill_from.on: source products has no column itm, did you mean item?",
                "price.fill_from.column: price of source products is of type double, price is of type integer",
            ],
        ),
    ],
)
def test_a_lookup_that_can_find_nothing_is_refused(price: str, messages: list[str]) -> None:
    products = "sources.products={kind: table, path: f, columns: {item: null, price: {type: double}, day: null}}"
    columns = f"{{item: null, day: {{type: date}}, price: {price}}}"

    with pytest.raises(ConfigError) as caught:
        load_config((), [products, f"sources.sales={{kind: table, path: f, columns: {columns}}}"])

    for message in messages:
        assert message in str(caught.value)
