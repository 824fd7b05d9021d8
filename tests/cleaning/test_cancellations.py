"""Cancelled sales: which line takes back which, and what becomes of both."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.cancellations import match_cancellations
from dlmine_spark.cleaning.plan import REASONS, WARNINGS
from dlmine_spark.config import Cancellations
from tests.cleaning.examples import good, values

pytestmark = pytest.mark.spark

RULE = {"marker": "basket_id like 'C%'", "match": ["customer_id", "item"]}
START = datetime(2024, 3, 1)


def lines(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    """Lines of (basket, customer, quantity, minutes after the start), all of one item."""
    placed = [
        (basket, customer, "tea", None if quantity is None else float(quantity), minute, "f", 0, place)
        for place, (basket, customer, quantity, minute) in enumerate(rows)
    ]
    timed = [(*row[:4], None if row[4] is None else START + timedelta(minutes=row[4]), *row[5:]) for row in placed]
    columns = "basket_id string, customer_id string, item string, quantity double, ts timestamp"
    return good(spark, f"{columns}, {s.SOURCE_FILE} string, {s.SOURCE_BLOCK} bigint, {s.SOURCE_ROW} bigint", *timed)


def pairs(frame: DataFrame, time: str | None = s.TS, **rule: Any) -> dict[str, str]:
    """Basket -> what its reason says, of those that have one."""
    matched = match_cancellations(frame.repartition(3), Cancellations.model_validate({**RULE, **rule}), time)
    assert matched.columns == frame.columns
    assert matched.count() == frame.count()
    return {
        basket: reasons[0][2].split(" at ")[0] for basket, reasons in values(matched, "basket_id", REASONS) if reasons
    }


def test_a_cancellation_takes_back_the_latest_earlier_sale_of_its_kind(spark: SparkSession) -> None:
    frame = lines(
        spark,
        ("1", "ann", 3, 0),
        ("2", "ann", 3, 1),
        ("3", "ann", 4, 2),
        ("C1", "ann", -3, 3),
        ("4", "ann", 3, 4),
        ("C2", "ann", -3, 5),
        ("C3", "ann", -3, 6),
        # No sale is left; a later one is not taken back.
        ("C4", "ann", -3, 7),
        ("5", "ann", 3, 8),
        ("6", "bob", 3, 0),
        ("C5", "bob", -2, 1),
    )

    assert pairs(frame) == {
        "2": "is cancelled by C1",
        "C1": "cancels 2",
        "4": "is cancelled by C2",
        "C2": "cancels 4",
        "1": "is cancelled by C3",
        "C3": "cancels 1",
    }


def test_what_is_not_known_is_matched_with_nothing(spark: SparkSession) -> None:
    frame = lines(
        spark,
        ("1", None, 3, 0),
        ("C1", None, -3, 1),
        ("2", "ann", 3, None),
        ("C2", "ann", -3, 1),
        ("3", "bob", None, 0),
        ("C3", "bob", None, 1),
        # No cancellation by its sign, no sale by its marker, a return without the mark.
        ("C4", "cem", 3, 0),
        ("4", "cem", -3, 1),
        ("5", "dan", 3, 0),
        ("6", "dan", -3, 1),
    )

    assert pairs(frame) == {}


def test_at_equal_times_the_sale_comes_first_and_without_times_the_order_of_arrival_counts(
    spark: SparkSession,
) -> None:
    frame = lines(spark, ("C1", "ann", -3, 5), ("1", "ann", 3, 5))

    assert pairs(frame) == {"1": "is cancelled by C1", "C1": "cancels 1"}
    assert pairs(frame, time=None) == {}
    assert pairs(lines(spark, ("1", "ann", 3, 9), ("C1", "ann", -3, 5)), time=None) == {
        "1": "is cancelled by C1",
        "C1": "cancels 1",
    }


def test_reasons_name_basket_and_time_and_flags_warn_of_both(spark: SparkSession) -> None:
    frame = lines(spark, ("1", "ann", 3, 0), ("C1", "ann", -3, 5), ("2", "bob", 3, 0))

    dropped = match_cancellations(frame, Cancellations.model_validate(RULE), s.TS).orderBy(s.SOURCE_ROW)
    flagged = match_cancellations(frame, Cancellations.model_validate({**RULE, "action": "flag"}), s.TS)

    assert [[tuple(reason) for reason in found] for found in values(dropped, REASONS)] == [
        [("cancelled", "", "is cancelled by C1 at 2024-03-01 00:05:00")],
        [("cancels", "", "cancels 1 at 2024-03-01 00:00:00")],
        [],
    ]
    assert values(flagged, WARNINGS, REASONS) == [(["cancelled"], []), (["cancels"], []), ([], [])]


def test_windows_find_the_pairs_that_a_stack_finds(spark: SparkSession) -> None:
    rng = random.Random(7)
    rows = []
    for minute in range(120):
        is_sale = rng.random() < 0.5
        customer, size = rng.choice("ab"), rng.choice([1, 2])
        rows.append((f"{'' if is_sale else 'C'}{minute}", customer, size if is_sale else -size, minute))
    stacks: dict[tuple[str, int], list[str]] = {}
    expected = {}
    for basket, customer, quantity, _ in rows:
        stack = stacks.setdefault((customer, abs(quantity)), [])
        if quantity > 0:
            stack.append(basket)
        elif stack:
            sale = stack.pop()
            expected |= {sale: f"is cancelled by {basket}", basket: f"cancels {sale}"}

    assert pairs(lines(spark, *rows)) == expected
    assert len(expected) > 40
