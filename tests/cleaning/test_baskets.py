"""One basket a line: how lines are split, named and refused."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.baskets import number_lines, split_baskets
from dlmine_spark.cleaning.plan import REASONS
from dlmine_spark.config import SourceConfig
from tests.cleaning.examples import bronze, entries, values

pytestmark = pytest.mark.spark


def baskets(**settings: Any) -> SourceConfig:
    return SourceConfig.model_validate({"kind": "baskets", "path": "b.txt", "format": "text", **settings})


def split(spark: SparkSession, *lines: str | None, **settings: Any) -> DataFrame:
    rows = bronze(spark, ["value"], *[(line,) for line in lines])
    return split_baskets(rows, "value", baskets(**settings))


def test_items_are_split_trimmed_sorted_and_counted_once(spark: SparkSession) -> None:
    lines = ["milk bread  milk", "10, 9,10 ", "?", "\ufefftea"]

    assert values(split(spark, *lines, null_tokens=[""]), "items") == [["bread", "milk"], ["10", "9"], ["?"], ["tea"]]


def test_a_line_without_an_item_is_refused(spark: SparkSession) -> None:
    rows = split(spark, "tea", " ", "N/A,?", None)

    assert [[reason[0] for reason in found] for found in entries(rows, REASONS)] == [
        [],
        ["empty_basket"],
        ["empty_basket"],
        ["empty_basket"],
    ]


@pytest.mark.parametrize(
    ("separator", "line", "expected"),
    [
        (",", 'whole milk,"bread, sliced",tea', ["bread, sliced", "tea", "whole milk"]),
        (",", '"6"" nails","tea"', ['6" nails', "tea"]),
        # A quote inside a word opens nothing, and one that is never closed belongs to its item.
        (",", '6" nails,tea', ['6" nails', "tea"]),
        (",", '"tea,milk', ['"tea', "milk"]),
        (",", ',"tea",,milk,', ["milk", "tea"]),
        (r"\s*[|]\s*", 'tea | "a|b" |milk', ["a|b", "milk", "tea"]),
        ("ab", '1ab"2ab3"ab4', ["1", "2ab3", "4"]),
        (r"[\s,]+", ' "green tea", milk', ["green tea", "milk"]),
    ],
)
def test_quoted_items_keep_separators(spark: SparkSession, separator: str, line: str, expected: list[str]) -> None:
    assert values(split(spark, line, separator=separator), "items") == [expected]


def test_equal_lines_are_baskets_of_their_own_named_by_file_and_line(spark: SparkSession) -> None:
    assert values(split(spark, "tea", "tea"), "basket_id") == ["sales.csv:1", "sales.csv:2"]


def test_lists_and_mapped_columns(spark: SparkSession) -> None:
    rows = bronze(
        spark,
        ["order", "goods"],
        ("17", '["tea","milk, fresh","tea"]'),
        (None, '["tea"]'),
        ("18", "[]"),
        ("19", "[tea] milk"),
    )
    declaration = baskets(format="json", columns={"basket_id": "order", "items": "goods"})

    judged = split_baskets(rows, "value", declaration)

    assert values(judged, "basket_id", "items") == [
        ("17", ["milk, fresh", "tea"]),
        (None, ["tea"]),
        ("18", []),
        ("19", ["[tea]", "milk"]),
    ]
    assert [[reason[0] for reason in found] for found in entries(judged, REASONS)] == [
        [],
        ["missing"],
        ["empty_basket"],
        [],
    ]


def test_rules_can_ask_about_baskets(spark: SparkSession) -> None:
    rules = [{"name": "single", "expr": "size(items) > 1"}]

    assert [len(found) for found in values(split(spark, "tea", "tea milk", rules=rules), REASONS)] == [1, 0]


def test_lines_are_numbered_per_file_however_the_file_was_cut(spark: SparkSession) -> None:
    lines = 6

    def read(cuts: list[int]) -> list[tuple[Any, ...]]:
        """The file as tasks would read it that each took one block: ids begin anew, blocks far apart."""
        rows = []
        for block, (start, end) in enumerate(zip([0, *cuts], [*cuts, lines], strict=True)):
            rows += [
                (f"line {line}", "file:/d/a%20b.txt", start * 10, (block << 33) + line) for line in range(start, end)
            ]
        rows += [("other", "file:/d/x/c.txt", 0, 7), ("same name", "file:/d/y/c.txt", 0, 9)]
        types = f"value string, {s.SOURCE_FILE} string, {s.SOURCE_BLOCK} bigint, {s.SOURCE_ROW} bigint"
        bronze = spark.createDataFrame(rows, types).repartition(4)
        # The first line is numbered, too, where nobody asks for it.
        numbered = number_lines(bronze.where("value <> 'line 0'"), bronze)
        return sorted(values(numbered, "value", s.SOURCE_FILE, s.SOURCE_ROW))

    whole = read([])

    assert whole[:2] == [("line 1", "a b.txt", 2), ("line 2", "a b.txt", 3)]
    assert whole[-2:] == [("other", "file:/d/x/c.txt", 1), ("same name", "file:/d/y/c.txt", 1)]
    assert read([2, 5]) == whole
