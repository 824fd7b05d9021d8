"""Rules and equations about whole rows: what they repair, what they refuse, and who is asked afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from dlmine_spark.cleaning.plan import REASONS, REPAIRS, WARNINGS
from tests.cleaning.examples import bronze, entries, marked, source, values

pytestmark = pytest.mark.spark

NUMBERS: dict[str, Any] = {
    "quantity": {"type": "integer"},
    "price": {"type": "double"},
    "amount": {"type": "double"},
}


def test_a_rule_repairs_the_rows_that_break_it_and_leaves_the_rest(spark: SparkSession) -> None:
    declaration = source(
        {**NUMBERS, "kind": None},
        rules=[
            {
                "name": "sign",
                "expr": "quantity >= 0",
                "action": "repair",
                "set": {"quantity": "-quantity", "kind": "'return'"},
            },
            # Sees what the rule before it set.
            {"name": "free", "expr": "kind <> 'return'", "action": "repair", "set": {"price": 0, "kind": "kind"}},
        ],
    )
    rows = bronze(
        spark,
        ["quantity", "price", "amount", "kind"],
        ("-2", "3", None, "sale"),
        ("2", "3", None, "sale"),
        (None, "3", None, None),
        (None, None, None, None),
        raw=[None, None, None, "-2,"],
    )

    judged = marked(rows, declaration)

    assert values(judged, "quantity", "price", "kind") == [
        (2.0, 0.0, "return"),
        (2.0, 3.0, "sale"),
        (None, 3.0, None),
        (None, None, None),
    ]
    assert entries(judged, REPAIRS) == [
        [
            ("quantity", "-2.0", "2.0", "sign"),
            ("kind", "sale", "return", "sign"),
            ("price", "3.0", "0.0", "free"),
        ],
        [],
        [],
        [],
    ]
    assert [[reason[0] for reason in found] for found in entries(judged, REASONS)] == [[], [], [], ["malformed_line"]]


def test_a_repaired_cell_is_judged_by_its_new_value(spark: SparkSession) -> None:
    columns = {
        "quantity": {"type": "double", "min": 0, "max": 10, "required": True},
        "price": {"type": "double", "max": 10, "out_of_range": "null"},
        "amount": {"type": "double", "max": 10, "out_of_range": "warn"},
        "code": {"allowed": ["a", "b"]},
    }
    rule = {
        "name": "twice",
        "expr": "code = 'b'",
        "action": "repair",
        "set": {"quantity": "-2 * coalesce(quantity, 0)", "price": "2 * price", "amount": "2 * amount", "code": "'c'"},
    }
    rows = bronze(
        spark,
        ["quantity", "price", "amount", "code"],
        ("-4", "4", "40", "a"),
        ("-6", "6", "6", "a"),
        ("6", "1", "1", "a"),
        (None, "1", "1", "a"),
        ("-6", "6", "20", "b"),
    )

    judged = marked(rows, source(columns, rules=[rule, {"name": "last", "expr": "quantity < 11"}]))

    assert values(judged, "quantity", "price", "amount") == [
        (8.0, 8.0, 80.0),
        (12.0, None, 12.0),
        (-12.0, 2.0, 2.0),
        (0.0, 2.0, 2.0),
        (-6.0, 6.0, 20.0),
    ]
    unknown = ("not_allowed", "code", "is no allowed value: c")
    assert entries(judged, REASONS) == [
        [unknown],
        [
            ("out_of_range", "quantity", "is not at least 0 and at most 10: 12.0"),
            unknown,
            ("last", "", "quantity < 11"),
        ],
        [("out_of_range", "quantity", "is not at least 0 and at most 10: -12.0"), unknown],
        [unknown],
        [("out_of_range", "quantity", "is not at least 0 and at most 10: -6")],
    ]
    assert values(judged, WARNINGS) == [["out_of_range:amount"]] * 2 + [[], [], ["out_of_range:amount"]]


@pytest.mark.parametrize(
    ("declared", "row", "expected"),
    [
        ({}, ("3", "2.5", None), (3.0, 2.5, 7.5)),
        ({}, ("3", None, "7.5"), (3.0, 2.5, 7.5)),
        ({}, (None, "2.5", "7.5"), (3.0, 2.5, 7.5)),
        # Two are missing: nothing is known.
        ({}, (None, None, "7.5"), (None, None, 7.5)),
        ({}, ("0", None, "7.5"), (0.0, None, 7.5)),
        # No whole number of pieces.
        ({}, (None, "2.5", "8.5"), (None, 2.5, 8.5)),
        ({}, (None, "3", "10"), (None, 3.0, 10.0)),
        ({}, (None, "3", "9.01"), (3.0, 3.0, 9.01)),
        ({"product": (), "sum": ("quantity", "price")}, ("3", None, "7.5"), (3.0, 4.5, 7.5)),
        ({"product": (), "sum": ("quantity", "price")}, ("3", "4.5", None), (3.0, 4.5, 7.5)),
    ],
)
def test_the_one_that_is_missing_is_computed(
    spark: SparkSession, declared: dict[str, Any], row: tuple[Any, ...], expected: tuple[Any, ...]
) -> None:
    equation = {"name": "sum", "product": ["quantity", "price"], "equals": "amount", **declared}

    judged = marked(bronze(spark, list(NUMBERS), row), source(NUMBERS, equations=[equation]))

    assert values(judged, *NUMBERS) == [expected]
    changed = [
        (name, None, str(new), "equation:sum")
        for name, old, new in zip(NUMBERS, row, expected, strict=True)
        if old is None and new is not None
    ]
    assert entries(judged, REPAIRS) == [changed]
    assert entries(judged, REASONS) == [[]]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("error", (7.7, ["equation:sum"], [], [])),
        ("warn", (7.7, [], ["equation:sum"], [])),
        ("repair", (7.5, [], [], [("amount", "7.7", "7.5", "equation:sum")])),
    ],
)
def test_an_equation_that_does_not_hold_is_refused_flagged_or_repaired(
    spark: SparkSession, action: str, expected: tuple[Any, ...]
) -> None:
    equation = {"name": "sum", "product": ["quantity", "price"], "equals": "amount", "action": action}
    rows = bronze(spark, list(NUMBERS), ("3", "2.5", "7.7"), ("3", "2.5", "7.51"), ("3", "0.1", "0.3"))

    judged = marked(rows, source(NUMBERS, equations=[equation]))

    found = [
        (amount, [reason[0] for reason in reasons], warnings, [tuple(entry) for entry in repairs])
        for amount, reasons, warnings, repairs in values(judged, "amount", REASONS, WARNINGS, REPAIRS)
    ]
    assert found == [expected, (7.51, [], [], []), (0.3, [], [], [])]
    if action == "error":
        message = "quantity * price = amount: 3.0 * 2.5 is not 7.7"
        assert entries(judged, REASONS)[0] == [("equation:sum", "", message)]


def test_a_computed_cell_must_be_in_its_range_and_takes_back_that_it_was_missing(spark: SparkSession) -> None:
    columns = {**NUMBERS, "amount": {"type": "double", "min": 0, "max": 10, "required": True}}
    equation = {"name": "sum", "product": ["quantity", "price"], "equals": "amount"}
    rows = bronze(spark, list(NUMBERS), ("3", "2.5", "?"), ("3", "5", None), ("3", None, None))

    judged = marked(rows, source(columns, equations=[equation]))

    assert values(judged, "amount") == [7.5, 15.0, None]
    assert entries(judged, REASONS) == [
        [],
        [("out_of_range", "amount", "is not at least 0 and at most 10: 15.0")],
        [("missing", "amount", "is required and has no value")],
    ]
