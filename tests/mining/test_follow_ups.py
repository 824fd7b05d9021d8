"""What is still to come of sequences: counted by visits, against what came before, known on the day and not earlier."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark.config import SequencesConfig
from dlmine_spark.frequency import DAILY, HOURLY
from dlmine_spark.mining.follow_ups import FollowUp, follow_ups, pairs_of, visits_of, waiting

pytestmark = pytest.mark.spark

START = datetime(2024, 1, 1, 10, tzinfo=UTC)
FIRST = 19723.0
"""2024-01-01 in days since 1970."""
NEXT_VISIT = SequencesConfig()


def visits(
    spark: SparkSession, histories: dict[str, list[tuple[float, str]]], config: SequencesConfig = NEXT_VISIT
) -> DataFrame:
    """Baskets of one letter an item; days are counted from the first of 2024."""
    rows = [
        (f"{customer}{day:g}", list(items), customer, START + timedelta(days=day), "s")
        for customer, history in histories.items()
        for day, items in history
    ]
    columns = "basket_id string, items array<string>, customer_id string, ts timestamp, store_id string"
    return visits_of(spark.createDataFrame(rows, columns), config, DAILY)


def pairs(spark: SparkSession, *two: str) -> DataFrame:
    return spark.createDataFrame([tuple(one) for one in two], "first string, second string")


RAZORS = {f"c{number:02}": [(0.0, "t"), (1.0, "r"), (4.0 + number % 3, "f"), (20.0, "t")] for number in range(12)}
"""Twelve customers: tea, a razor, foam three to five days later, tea."""


def test_pairs_are_sequences_of_one_item_and_another(spark: SparkSession) -> None:
    mined = [[["a"], ["b"]], [["b"], ["b"]], [["a", "b"]], [["a"], ["b", "c"]], [["a"], ["b"], ["c"]], [["c"], ["a"]]]
    frame = spark.createDataFrame([(one,) for one in mined], "sequence array<array<string>>")

    assert sorted(map(tuple, pairs_of(frame).collect())) == [("a", "b"), ("c", "a")]


def test_what_comes_after_something_and_not_before_it_is_found(spark: SparkSession) -> None:
    """Tea comes before a razor as surely as foam after it, and in the other order neither is ever seen."""
    found = follow_ups(visits(spark, RAZORS), pairs(spark, "rf", "fr", "tr", "ft", "rt"), max_q=0.05)

    assert found == [
        FollowUp("f", "t", 12, 12, 0.0, gap=15.0, usual=16.0),
        FollowUp("r", "f", 12, 12, 0.0, gap=4.0, usual=5.0),
        FollowUp("t", "r", 12, 12, 0.0, gap=1.0, usual=1.0),
    ]
    assert found[1].pull == 1.0


def test_of_what_goes_together_in_any_order_nothing_is_found(spark: SparkSession) -> None:
    both = {f"c{number}": [(day, "ab"[day % 2]) for day in range(number % 2, 20)] for number in range(9)}

    assert follow_ups(visits(spark, both), pairs(spark, "ab", "ba"), max_q=0.05) == []


def test_only_the_pairs_that_most_comes_of_are_used(spark: SparkSession) -> None:
    more = RAZORS | {f"d{number}": [(0.0, "r"), (3.0, "f")] for number in range(9)}

    found = follow_ups(visits(spark, more), pairs(spark, "rf", "tr"), max_q=0.05, top=1)

    assert [(one.first, one.second, one.cases) for one in found] == [("r", "f", 21)]


def test_a_gap_in_days_reaches_over_visits_and_no_further(spark: SparkSession) -> None:
    config = SequencesConfig(max_gap=None, max_gap_days=3)
    history = {"c": [(0, "r"), (0.01, "x"), (2, "t"), (3, "f"), (4, "t")]}

    rows = visits(spark, history, config).orderBy("day", "visit").collect()

    around = [([one["items"] for one in row["earlier"]], [one["items"] for one in row["later"]]) for row in rows]
    assert around == [
        ([], [["x"], ["t"], ["f"]]),
        ([["r"]], [["t"], ["f"]]),
        ([["r"], ["x"]], [["f"], ["t"]]),
        ([["r"], ["x"], ["t"]], [["t"]]),
        ([["t"], ["f"]], []),
    ]


def test_who_is_no_customer_is_left_out_and_baskets_of_an_instant_are_one_visit(spark: SparkSession) -> None:
    history = {"none": [(float(day), "x") for day in range(5)], "c": [(0.0, "r"), (1.0, "f"), (1.0, "g"), (2.0, "t")]}

    rows = visits(spark, history, SequencesConfig(max_history=4)).collect()
    later = {row["items"][0]: sorted(one["items"][0] for one in row["later"]) for row in rows}

    assert later == {"r": ["f", "g"], "f": ["t"], "g": ["t"], "t": []}


def test_a_basket_waits_until_the_item_comes_the_visit_is_over_or_the_usual_wait_is(spark: SparkSession) -> None:
    foam, soap = FollowUp("r", "f", 4, 3, 0.25, gap=4, usual=6), FollowUp("x", "f", 4, 4, 0.25, gap=4, usual=9)
    histories: dict[str, list[tuple[float, str]]] = {
        "came": [(0, "r"), (3, "f")],
        "other": [(0, "r"), (2, "t"), (3, "f")],
        "alone": [(0, "r")],
        "both": [(0, "rx")],
        "same-day": [(0, "r"), (0.1, "f")],
        "nothing": [(0, "t")],
    }

    rows = waiting(visits(spark, histories), [foam, soap], NEXT_VISIT).collect()

    spans = sorted((row["until"] - FIRST, row["pull"], row["second"], row["store_id"]) for row in rows)
    assert {row["day"] for row in rows} == {FIRST}
    assert spans == [
        (2.0, 0.5, "f", "s"),  # other: the next visit was without it
        (3.0, 0.5, "f", "s"),  # came
        (6.0, 0.5, "f", "s"),  # alone
        (9.0, 0.75, "f", "s"),  # both: the surer of the two, once
    ]


def test_hours_are_fractions_of_a_day(spark: SparkSession) -> None:
    rows = spark.createDataFrame(
        [("b", ["r"], "c", START, "s")],
        "basket_id string, items array<string>, customer_id string, ts timestamp, store_id string",
    )
    day = visits_of(rows, NEXT_VISIT, HOURLY).collect()[0]["day"]

    clock = rows.selectExpr("hour(ts) AS hour").collect()[0]["hour"]
    assert day == pytest.approx(FIRST + clock / 24)
