"""Rules that Spark would refuse are all found before any row is read, each with its key."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.cleaning.checks import wrong_rules
from dlmine_spark.config import SourceConfig
from tests.cleaning.examples import source

pytestmark = pytest.mark.spark

COLUMNS: dict[str, Any] = {"item": None, "quantity": {"type": "double"}, "day": {"type": "date"}}


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("quantty > 0", ["quantty", "quantity"]),
        ("quantity > > 0", ["Syntax error"]),
        ("count(*) > 1", ["count(1)"]),
        ("row_number() over (order by item) = 1", ["window"]),
        ("day", ["DATE", "BOOLEAN"]),
        ("quantity + 1", ["no condition", "double"]),
        ("quantity", ["no condition", "double"]),
        ("'a'", ["no condition", "string"]),
        ("nosuch(item)", ["nosuch"]),
        ("", ["Syntax error"]),
    ],
)
def test_an_expression_must_be_a_condition_on_one_row(spark: SparkSession, expression: str, words: list[str]) -> None:
    (problem,) = wrong_rules(spark, "sales", source(COLUMNS, rules=[{"name": "odd", "expr": expression}]), [])

    assert problem.startswith("sources.sales.rules.odd: ")
    assert "\n" not in problem
    for word in words:
        assert word in problem


def test_a_column_of_booleans_is_a_condition(spark: SparkSession) -> None:
    declaration = source({"is_open": {"type": "boolean"}}, rules=[{"name": "open", "expr": "is_open"}])

    assert wrong_rules(spark, "sales", declaration, []) == []


def test_a_table_of_no_columns_is_refused(spark: SparkSession) -> None:
    assert wrong_rules(spark, "shops", source({}, other_columns="keep"), ["town"]) == []
    (problem,) = wrong_rules(spark, "shops", source({}), [])
    assert problem.startswith("sources.shops.columns: none is mapped")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("item", "quantity", ["of type double", "of type string"]),
        ("quantity", "item", ["of type string", "of type double"]),
        ("day", "1", ["of type int", "of type date"]),
        ("quantity", "sum(quantity)", ["no value of a row"]),
        ("quantity", "quantty", ["quantty", "quantity"]),
        ("quantity", "explode(array(1))", ["no value of a row"]),
        ("quantity", "quantity +", ["Syntax error"]),
    ],
)
def test_a_repair_must_give_a_value_of_the_columns_type(
    spark: SparkSession, name: str, text: str, words: list[str]
) -> None:
    rule = {"name": "odd", "expr": "item <> 'x'", "action": "repair", "set": {name: text}}

    (problem,) = wrong_rules(spark, "sales", source(COLUMNS, rules=[rule]), [])

    assert problem.startswith(f"sources.sales.rules.odd.set.{name}: ")
    for word in words:
        assert word in problem


def test_repairs_of_every_type_and_blanks_are_right(spark: SparkSession) -> None:
    set_ = {"item": "upper(item)", "quantity": "cast(abs(quantity) as int)", "day": "date_add(day, 1)"}
    rules = [
        {"name": "some", "expr": "item <> 'x'", "action": "repair", "set": set_},
        {"name": "none", "expr": "item <> 'y'", "action": "repair", "set": dict.fromkeys(COLUMNS, "null")},
    ]

    assert wrong_rules(spark, "sales", source(COLUMNS, rules=rules), []) == []


def test_problems_of_a_source_are_told_together(spark: SparkSession) -> None:
    columns = {"basket_id": None, "item": {"pattern": "["}, "quantity": {"outliers": {"by": ["shop"]}}}
    declaration = SourceConfig.model_validate(
        {
            "kind": "lines",
            "path": "f",
            "columns": columns,
            "rules": [{"name": "odd", "expr": "quantty > 0"}],
            "cancellations": {"marker": "basket like 'C%'", "match": ["itm"]},
        }
    )

    problems = wrong_rules(spark, "sales", declaration, [])

    assert [problem.split(": ")[0].removeprefix("sources.sales.") for problem in problems] == [
        "columns.quantity.outliers.by",
        "cancellations.match",
        "columns.item.pattern",
        "rules.odd",
        "cancellations.marker",
    ]


@pytest.mark.parametrize(
    ("pattern", "word"), [("foo bar", "foo bar"), ("YYYY-ww", "YYYY-ww"), ("dd/MM", "has no year"), ("", "has no year")]
)
def test_a_date_pattern_must_be_one(spark: SparkSession, pattern: str, word: str) -> None:
    declaration = source({"day": {"type": "date", "formats": ["dd.MM.yyyy", pattern]}})

    (problem,) = wrong_rules(spark, "sales", declaration, [])

    assert problem.startswith("sources.sales.columns.day.formats: ")
    assert word in problem


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"pattern": "["}, ["s.pattern: '['", "no regular expression"]),
        # Right only between the brackets that cleaning puts around it.
        ({"pattern": "a)(?:b"}, ["s.pattern: 'a)(?:b'", "no regular expression"]),
        ({"pattern": "(?x)a # b"}, ["s.pattern: '(?x)a # b'", "no regular expression"]),
        ({"pattern": "[a-z]+", "allowed": ["ok", "Not"]}, ["s: 'Not'", "does not match pattern '[a-z]+'"]),
        ({"pattern": "a", "fill": "constant", "fill_value": "ab"}, ["s: 'ab'", "does not match"]),
        ({"type": "timestamp", "time_zone": "Europe/Berlen"}, ["s.time_zone: ", "did you mean Europe/Berlin?"]),
        ({"type": "timestamp", "time_zone": "noon"}, ["s.time_zone: 'noon' is no time zone, e.g. Europe/Berlin"]),
        ({"type": "timestamp", "time_zone": ""}, ["s.time_zone: '' is no time zone"]),
    ],
)
def test_patterns_and_time_zones_must_be_such(spark: SparkSession, spec: dict[str, Any], words: list[str]) -> None:
    (problem,) = wrong_rules(spark, "sales", source({"s": spec}), [])

    assert problem.startswith("sources.sales.columns.")
    for word in words:
        assert word in problem


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC", "+05:30"])
def test_zones_are_those_of_java(spark: SparkSession, zone: str) -> None:
    assert wrong_rules(spark, "sales", source({"at": {"type": "timestamp", "time_zone": zone}}), []) == []


@pytest.mark.parametrize(("separator", "word"), [("(", "regular expression"), ("|", "nothing"), (r"\s*", "nothing")])
def test_a_separator_must_be_an_expression_that_matches_something(
    spark: SparkSession, separator: str, word: str
) -> None:
    declaration = SourceConfig.model_validate({"kind": "baskets", "path": "b.txt", "separator": separator})

    (problem,) = wrong_rules(spark, "orders", declaration, [])

    assert problem.startswith("sources.orders.separator: ")
    assert word in problem


def test_columns_that_are_not_there_are_named_with_the_nearest_and_all_at_once(spark: SparkSession) -> None:
    columns = {
        "item": None,
        "y": {"type": "double", "fill": "median", "fill_by": ["itm"], "outliers": {"by": ["shop"]}},
    }

    problems = wrong_rules(spark, "sales", source(columns, key=["items"]), ["note"])

    assert [problem.partition(":")[0] for problem in problems] == [
        "sources.sales.key",
        "sources.sales.columns.y.fill_by",
        "sources.sales.columns.y.outliers.by",
    ]
    assert "did you mean item?" in problems[0]


def test_right_rules_are_right_also_about_kept_columns(spark: SparkSession) -> None:
    declaration = source(
        {**COLUMNS, "day": {"type": "date", "formats": ["d.M.yy", "dd-MMM-yyyy"]}},
        other_columns="keep",
        key=["item", "note"],
        rules=[{"name": "some", "expr": "quantity > 0 and note <> 'x' and day >= '2020-01-01'"}],
    )

    assert wrong_rules(spark, "sales", declaration, ["note"]) == []
