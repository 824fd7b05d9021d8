"""The contract of every engine, on tiny baskets, against brute force."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark.config import MiningConfig
from dlmine_spark.errors import DlmineError, TableContractError
from dlmine_spark.mining import apriori, fpgrowth
from dlmine_spark.mining.baskets import BasketSummary, baskets_of_lines, check_longest, summarise, with_items
from dlmine_spark.mining.itemsets import check_equal, count_by_size
from tests.mining.examples import BREAKFAST, basket_frame, brute_force, found

pytestmark = pytest.mark.spark


def by_tasks(baskets: DataFrame, summary: BasketSummary, config: MiningConfig) -> DataFrame:
    """Apriori as on data too large for the driver."""
    return apriori.frequent_itemsets(baskets, summary, config, small=0)


def in_many_groups(baskets: DataFrame, summary: BasketSummary, config: MiningConfig) -> DataFrame:
    """Apriori as on data too large for the groups wanted: here a group may expect one code a basket."""
    return apriori.frequent_itemsets(baskets, summary, config, small=0, least_codes=1, most_codes=summary.baskets)


Engine = Callable[[DataFrame, BasketSummary, MiningConfig], DataFrame]
ENGINES = [apriori.frequent_itemsets, by_tasks, in_many_groups, fpgrowth.frequent_itemsets]
every_engine = pytest.mark.parametrize("engine", ENGINES, ids=["apriori", "by_tasks", "in_many_groups", "fpgrowth"])


def mine(
    engine: Engine, spark: SparkSession, baskets: Sequence[Sequence[str | None] | None], **settings: object
) -> dict[tuple[str, ...], int]:
    frame = with_items(basket_frame(spark, baskets))
    return found(engine(frame, summarise(frame), MiningConfig.model_validate(settings)))


@every_engine
def test_itemsets_are_those_of_the_definition(engine: Engine, spark: SparkSession) -> None:
    assert mine(engine, spark, BREAKFAST, min_support=0.4) == {
        ("bread",): 4,
        ("butter",): 4,
        ("jam",): 3,
        ("milk",): 2,
        ("bread", "butter"): 3,
        ("bread", "jam"): 3,
        ("butter", "jam"): 2,
        ("butter", "milk"): 2,
        ("bread", "butter", "jam"): 2,
    }


@every_engine
def test_dirty_baskets_count_what_they_hold_once(engine: Engine, spark: SparkSession) -> None:
    """Null and empty baskets are no baskets; nulls are no items; names are compared as they are."""
    dirty = [None, [], [None], ["a", "a", None, "b"], ["a,b", "a"], ["A", "a"], ["a ", "b"]]

    assert mine(engine, spark, dirty, min_support=0.25) == brute_force(
        [["a", "b"], ["a,b", "a"], ["A", "a"], ["a ", "b"]], min_count=1
    )


@every_engine
def test_one_basket_and_equal_baskets(engine: Engine, spark: SparkSession) -> None:
    assert mine(engine, spark, [["x", "y", "z"]], min_support=1.0) == brute_force([["x", "y", "z"]], 1)
    assert mine(engine, spark, [["x", "y", "z"]] * 70, min_support=0.5) == brute_force([["x", "y", "z"]] * 70, 70)


@every_engine
def test_nothing_is_frequent(engine: Engine, spark: SparkSession) -> None:
    assert mine(engine, spark, [["a"], ["b"], ["c"]], min_support=0.5) == {}


@every_engine
def test_support_is_a_count_rounded_up_but_for_the_rounding_of_binary_fractions(
    engine: Engine, spark: SparkSession
) -> None:
    """.28 of 25 baskets is 7, though the product is 7.000000000000001; .29 of them is 8."""
    baskets = [["seven"]] * 7 + [["eight"]] * 8 + [[f"once {number}"] for number in range(10)]

    assert mine(engine, spark, baskets, min_support=0.28) == {("seven",): 7, ("eight",): 8}
    assert mine(engine, spark, baskets, min_support=0.29) == {("eight",): 8}


@every_engine
@pytest.mark.parametrize("max_len", [1, 2])
def test_itemsets_may_be_limited_in_length(engine: Engine, spark: SparkSession, max_len: int) -> None:
    assert mine(engine, spark, BREAKFAST, min_support=0.4, max_len=max_len) == brute_force(BREAKFAST, 2, max_len)


@every_engine
@pytest.mark.usefixtures("compiled")
def test_results_do_not_depend_on_order_partitions_or_tasks(engine: Engine, spark: SparkSession) -> None:
    rng = np.random.default_rng(11)
    baskets = [[f"i{i}" for i in range(12) if rng.random() < 0.9 - 0.06 * i] for _ in range(300)]
    expected = brute_force(baskets, 30)
    for order, partitions, tasks in ((1, 1, 1), (-1, 5, 3)):
        frame = with_items(basket_frame(spark, baskets[::order]).repartition(partitions))
        config = MiningConfig(min_support=0.1, num_partitions=tasks)
        assert found(engine(frame, summarise(frame), config)) == expected


def test_a_basket_of_many_frequent_items_does_not_end_the_jvm(spark: SparkSession) -> None:
    """MLlib sends a tree as deep as the basket through Java's serializer, which recurses."""
    items = [f"i{number:04d}" for number in range(2_500)]
    frame = with_items(basket_frame(spark, [items, *([item] for item in items)]))

    itemsets = fpgrowth.frequent_itemsets(
        frame, summarise(frame), MiningConfig(min_support=2 / (len(items) + 1), max_basket=len(items))
    )

    assert itemsets.count() == len(items)


def test_lines_become_baskets_of_distinct_items(spark: SparkSession) -> None:
    lines = spark.createDataFrame(
        [("1", "a"), ("1", "b"), ("1", "a"), ("2", None), (None, "a"), ("3", "c")], "basket_id string, item string"
    )
    rows = baskets_of_lines(lines).collect()
    assert {row["basket_id"]: sorted(row["items"]) for row in rows} == {"1": ["a", "b"], "3": ["c"]}


def test_a_basket_that_is_too_long_is_refused_by_name(spark: SparkSession) -> None:
    frame = with_items(basket_frame(spark, [["a"], [f"item {number}" for number in range(50_000)]]))
    summary = summarise(frame)
    with pytest.raises(TableContractError, match=r"basket 'b1' has 50,000 different items, mining.max_basket is 10,00"):
        check_longest(summary, MiningConfig())
    check_longest(summary, MiningConfig(max_basket=50_000))
    # Its single items are rare, so allowing it costs nothing.
    assert found(apriori.frequent_itemsets(frame, summary, MiningConfig(min_support=0.9))) == {}


@pytest.mark.parametrize(("limit", "passed_by"), [(13, "1 item"), (14, r"\d+ items")])
def test_an_explosion_stops_with_what_to_change(spark: SparkSession, limit: int, passed_by: str) -> None:
    """One basket of 14 items is 16,383 itemsets; the task that mines it stops at the limit."""
    frame = with_items(basket_frame(spark, [[f"i{number:02}" for number in range(14)]]))
    config = MiningConfig(max_itemsets=limit)

    with pytest.raises(DlmineError, match=rf"max_itemsets={limit} .* passed by itemsets of {passed_by}: raise mining"):
        count_by_size(apriori.frequent_itemsets(frame, summarise(frame), config), config)


def test_a_limit_passed_by_all_tasks_together_names_the_size_that_passed_it(spark: SparkSession) -> None:
    """Five items give 5, 10, 10, 5 and 1 itemsets; no engine but the sum over tasks can know."""
    frame = with_items(basket_frame(spark, [list("abcde")]))
    mined = fpgrowth.frequent_itemsets(frame, summarise(frame), MiningConfig())
    with pytest.raises(DlmineError, match=r"by itemsets of 3 items.*set mining\.max_len below 3"):
        count_by_size(mined, MiningConfig(max_itemsets=20))
    assert count_by_size(mined, MiningConfig()) == {1: 5, 2: 10, 3: 10, 4: 5, 5: 1}


def test_engines_that_differ_are_told_with_an_example(spark: SparkSession) -> None:
    frame = with_items(basket_frame(spark, BREAKFAST))
    mined = apriori.frequent_itemsets(frame, summarise(frame), MiningConfig(min_support=0.4))
    check_equal(mined, mined, ("one", "other"))
    with pytest.raises(TableContractError, match=r"\{bread, jam\} is in 3 baskets by one and in 0 by other"):
        check_equal(mined, mined.where("size = 1 or items[0] != 'bread' or items[1] != 'jam'"), ("one", "other"))
