"""Sequences by the driver and by tasks against brute force and MLlib, and what is said of each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml.fpm import PrefixSpan
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark.config import MiningConfig
from dlmine_spark.errors import DlmineError
from dlmine_spark.mining.baskets import baskets_of_lines, customer_and_time
from dlmine_spark.mining.histories import Gap
from dlmine_spark.mining.sequence_table import count_by_length, described
from dlmine_spark.mining.sequences import (
    CustomerSummary,
    frequent_sequences,
    pieces_of,
    purchases_of,
    summarise_customers,
)
from tests.mining.purchases import Basket, Pattern, brute_force, contained

pytestmark = pytest.mark.spark

Engine = Callable[[DataFrame, CustomerSummary, MiningConfig], DataFrame]


def by_tasks(purchases: DataFrame, summary: CustomerSummary, config: MiningConfig) -> DataFrame:
    """As on data too large for the driver, an item a task if the configuration asks for so many."""
    return frequent_sequences(purchases, summary, config, small=0, least_codes=1)


every_engine = pytest.mark.parametrize("engine", [frequent_sequences, by_tasks], ids=["driver", "tasks"])

SHAVING: list[list[Basket]] = [
    [(1, ["razor"]), (3, ["foam", "soap"]), (9, ["razor"])],
    [(1, ["razor", "soap"]), (2, ["tea"]), (40, ["foam"])],
    [(5, ["foam"]), (6, ["razor"]), (7, ["foam", "soap"])],
    [(1, ["tea"])],
]
"""Four customers; days are counted from 2024-01-01."""


def baskets_of(spark: SparkSession, histories: Sequence[Sequence[Basket]]) -> DataFrame:
    """Baskets as lines give them, customers called c0, c1, ...; those of one day are at the same instant."""
    start = datetime(2024, 1, 1, 10, tzinfo=UTC)
    rows = [
        (f"b{customer}-{number}", list(items), f"c{customer}", start + timedelta(days=day))
        for customer, history in enumerate(histories)
        for number, (day, items) in enumerate(history)
        if items
    ]
    return spark.createDataFrame(rows, "basket_id string, items array<string>, customer_id string, ts timestamp")


def config(min_support: float, num_partitions: int = 3, **settings: object) -> MiningConfig:
    return MiningConfig.model_validate(
        {"num_partitions": num_partitions, "sequences": {"min_support": min_support, "max_gap": None, **settings}}
    )


def mine(engine: Engine, baskets: DataFrame, settings: MiningConfig) -> dict[Pattern, int]:
    purchases = purchases_of(baskets)
    rows = engine(purchases, summarise_customers(purchases, settings.sequences), settings).collect()
    found = {tuple(map(tuple, row["sequence"])): row["count"] for row in rows}
    assert len(found) == len(rows)
    for row in rows:
        assert row["elements"] == len(row["sequence"])
        assert row["length"] == sum(map(len, row["sequence"]))
        assert all(basket == sorted(basket) for basket in row["sequence"])
        without_last = tuple(map(tuple, row["sequence"][:-1]))
        assert row["prefix_count"] == found.get(without_last, 0)
    return found


@every_engine
def test_sequences_are_those_of_the_definition(engine: Engine, spark: SparkSession) -> None:
    assert mine(engine, baskets_of(spark, SHAVING), config(0.5)) == {
        (("foam",),): 3,
        (("razor",),): 3,
        (("soap",),): 3,
        (("tea",),): 2,
        (("foam",), ("razor",)): 2,
        (("razor",), ("foam",)): 3,
        (("razor",), ("soap",)): 2,
        (("foam", "soap"),): 2,
        (("razor",), ("foam", "soap")): 2,
    }


@every_engine
def test_a_gap_is_counted_in_visits_or_in_days(engine: Engine, spark: SparkSession) -> None:
    """In the second history the foam comes 39 days and two visits after the razor."""
    then_foam = (("razor",), ("foam",))
    baskets = baskets_of(spark, SHAVING)
    for gap, count in (
        ({"max_gap": 1}, 2),
        ({"max_gap": 2}, 3),
        ({"max_gap_days": 38}, 2),
        ({"max_gap_days": 39}, 3),
        ({"max_gap": 2, "max_gap_days": 1}, 1),
    ):
        assert mine(engine, baskets, config(0.25, **gap))[then_foam] == count, gap


@every_engine
@pytest.mark.usefixtures("compiled")
def test_results_do_not_depend_on_order_partitions_or_tasks(engine: Engine, spark: SparkSession) -> None:
    rng = np.random.default_rng(5)
    histories = [
        [
            (int(day), [item for item in "abcdefg" if rng.random() < 0.3] or ["h"])
            for day in rng.choice(30, rng.integers(1, 7), replace=False)
        ]
        for _ in range(40)
    ]
    expected = brute_force(histories, 6, Gap(2, 9), max_len=4, max_elements=3)
    assert any(len(pattern) == 3 for pattern in expected)
    baskets = baskets_of(spark, histories)
    for order, partitions, tasks in (("basket_id", 1, 1), (F.desc("ts"), 5, 3), ("ts", 2, 7)):
        shuffled = baskets.orderBy(order).repartition(partitions)
        settings = config(6 / 40, tasks, max_gap=2, max_gap_days=9, max_elements=3)
        assert mine(engine, shuffled, settings) == expected


def test_a_task_encodes_some_customers_at_a_time() -> None:
    visit = {"time": 1, "day": 1, "items": ["a", "b", "c"]}
    batch = pa.RecordBatch.from_pydict({"history": pa.array([[visit] * 2, [visit], [visit] * 3, [visit] * 2])})
    pieces = list(pieces_of(iter([batch.slice(1), batch.slice(4)]), piece_items=12))
    assert [piece.to_pylist() for piece in pieces] == [[[visit], [visit] * 3], [[visit] * 2]]


def test_without_gaps_they_are_those_of_mllib(spark: SparkSession) -> None:
    rng = np.random.default_rng(3)
    histories = [
        [(day, [item for item in "abcde" if rng.random() < 0.4] or ["f"]) for day in range(rng.integers(1, 6))]
        for _ in range(30)
    ]
    held = [([items for _, items in history],) for history in histories]
    theirs = PrefixSpan(minSupport=0.1, maxPatternLength=5).findFrequentSequentialPatterns(
        spark.createDataFrame(held, "sequence array<array<string>>")
    )

    ours = mine(by_tasks, baskets_of(spark, histories), config(0.1, max_len=5))

    assert len(ours) > 200
    assert ours == {tuple(tuple(sorted(basket)) for basket in row["sequence"]): row["freq"] for row in theirs.collect()}


@every_engine
def test_baskets_of_one_instant_are_one_and_days_are_those_of_the_calendar(engine: Engine, spark: SparkSession) -> None:
    """Nobody knows which of two receipts of one instant came first; from 23:00 to 1:00 it is a day."""
    instant, night = datetime(2024, 5, 1, 23), datetime(2024, 5, 2, 1)
    baskets = spark.createDataFrame(
        [("1", ["a"], "c", instant), ("2", ["b", "a"], "c", instant), ("3", ["z"], "c", night)],
        "basket_id string, items array<string>, customer_id string, ts timestamp",
    )
    expected = contained([(1, ["a", "b"]), (2, ["z"])], Gap(), 4, None)
    assert set(mine(engine, baskets, config(1.0, max_gap_days=1))) == expected
    assert (("a", "b"), ("z",)) in expected


def test_whose_a_basket_is_follows_from_its_lines(spark: SparkSession) -> None:
    """A line that names nobody is no contradiction, lines that name two people are."""
    early, late = datetime(2024, 5, 1, 9), datetime(2024, 5, 1, 10)
    lines = spark.createDataFrame(
        [
            ("1", "a", late, "c"),
            ("1", "b", early, None),
            ("2", "a", early, "c"),
            ("2", "b", early, "d"),
            ("3", "a", early, None),
            ("4", "a", None, "c"),
        ],
        "basket_id string, item string, ts timestamp, customer_id string",
    )
    baskets = baskets_of_lines(lines, *customer_and_time())
    rows = {row["basket_id"]: (row["customer_id"], row["ts"], sorted(row["items"])) for row in baskets.collect()}
    assert rows == {
        "1": ("c", early, ["a", "b"]),
        "2": (None, early, ["a", "b"]),
        "3": (None, early, ["a"]),
        "4": ("c", None, ["a"]),
    }
    assert purchases_of(baskets).count() == 1


@every_engine
def test_a_history_too_long_for_a_customer_counts_nowhere(engine: Engine, spark: SparkSession) -> None:
    unknown = [(day, ["razor"]) for day in range(50)]
    settings = config(0.5, max_history=49)
    baskets = baskets_of(spark, [*SHAVING, unknown])

    summary = summarise_customers(purchases_of(baskets), settings.sequences)

    assert summary == CustomerSummary(customers=4, baskets=10, items=13, left_out=1, longest=50, longest_id="c4")
    assert mine(engine, baskets, settings) == mine(engine, baskets_of(spark, SHAVING), settings)


@every_engine
def test_without_a_customer_or_a_frequent_item_there_is_no_sequence(engine: Engine, spark: SparkSession) -> None:
    assert mine(engine, baskets_of(spark, SHAVING).limit(0), config(0.5)) == {}
    assert mine(engine, baskets_of(spark, [[(1, ["a"])], [(1, ["b"])]]), config(0.9)) == {}


@every_engine
@pytest.mark.parametrize(("limit", "passed_by"), [(6, "1 item"), (7, r"\d items"), (100, r"\d items")])
def test_an_explosion_stops_with_what_to_change(
    engine: Engine, spark: SparkSession, limit: int, passed_by: str
) -> None:
    """Three times the same seven items are thousands of sequences of up to four."""
    purchases = purchases_of(baskets_of(spark, [[(day, list("abcdefg")) for day in range(3)]]))
    settings = config(1.0, max_sequences=limit)
    message = rf"max_sequences={limit} .* passed by sequences of {passed_by}: set .*min_support higher"
    with pytest.raises(DlmineError, match=message):
        count_by_length(
            engine(purchases, summarise_customers(purchases, settings.sequences), settings), settings.sequences
        )


@every_engine
def test_who_mines_stops_at_the_limit(engine: Engine, spark: SparkSession) -> None:
    """A row without a sequence says so; the other rows are not those of all the thousands."""
    purchases = purchases_of(baskets_of(spark, [[(day, list("abcdefg")) for day in range(3)]]))
    settings = config(1.0, num_partitions=1, max_sequences=100)
    rows = engine(purchases, summarise_customers(purchases, settings.sequences), settings).collect()
    assert [row["sequence"] for row in rows].count(None) == 1
    assert len(rows) <= 101


def test_a_limit_passed_by_all_tasks_together_names_the_length(spark: SparkSession) -> None:
    purchases = purchases_of(baskets_of(spark, [[(1, ["a"]), (2, ["b"]), (3, ["c"])]]))
    settings = config(1.0, max_sequences=5)
    mined = by_tasks(purchases, summarise_customers(purchases, settings.sequences), settings)
    with pytest.raises(DlmineError, match=r"by sequences of 2 items.*max_len below 2"):
        count_by_length(mined, settings.sequences)
    assert count_by_length(mined, config(1.0).sequences) == {1: 3, 2: 3, 3: 1}


@pytest.mark.parametrize("gap", [{"max_gap": None}, {"max_gap": 1}])
def test_what_is_said_of_a_sequence(spark: SparkSession, gap: dict[str, int | None]) -> None:
    settings = config(0.25, **gap)
    purchases = purchases_of(baskets_of(spark, SHAVING))
    mined = frequent_sequences(purchases, summarise_customers(purchases, settings.sequences), settings)

    rows = {tuple(map(tuple, row["sequence"])): row for row in described(mined, 4, settings.sequences).collect()}

    counts = brute_force(SHAVING, 1, Gap(settings.sequences.max_gap))
    assert {pattern: row["count"] for pattern, row in rows.items()} == counts
    for pattern, row in rows.items():
        above = [counts[other] for other in counts if other != pattern and _is_part(pattern, other, gap["max_gap"])]
        assert row["is_maximal"] == (not above), pattern
        assert row["is_closed"] == (row["count"] not in above), pattern
        assert (row["length"], row["elements"], row["support"]) == (
            sum(map(len, pattern)),
            len(pattern),
            row["count"] / 4,
        )
        if len(pattern) == 1:
            assert row["confidence"] is row["lift"] is None
        else:
            assert row["confidence"] == counts[pattern] / counts[pattern[:-1]]
            assert row["lift"] == pytest.approx(row["confidence"] / (counts[pattern[-1:]] / 4))


def _is_part(one: Pattern, other: Pattern, max_gap: int | None) -> bool:
    """Whether all baskets of one are parts of baskets of the other in their order; without a hole if gaps count."""
    days = list(enumerate(other))
    return one in contained(days, Gap(max_gap), sum(map(len, one)), len(one))
