"""The miner, the codes and the spreading over groups, without Spark, against brute force."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlmine_spark.mining import miner
from dlmine_spark.mining.encode import Dictionary, decode, dictionary_of, encode
from dlmine_spark.mining.groups import plan_groups, project
from dlmine_spark.mining.miner import Baskets, ItemClass, mine_classes
from tests.mining.examples import BREAKFAST, brute_force

ITEMS = "abcdefgh"
some_baskets = st.lists(st.lists(st.sampled_from(ITEMS), max_size=8), min_size=1, max_size=30)


def dictionary(baskets: list[list[str]], min_count: int) -> Dictionary:
    counts = Counter(item for basket in baskets for item in set(basket))
    names = sorted(counts)
    return dictionary_of(
        pa.array(names, pa.string()), np.array([counts[n] for n in names], dtype=np.int64), len(baskets), min_count
    )


def names(found: list[miner.Found], codes: Dictionary) -> dict[tuple[str, ...], int]:
    """Itemsets by name; an itemset may come only once."""
    pairs = [
        (tuple(items), count)
        for block in found
        for items, count in zip(decode(block.codes, codes).to_pylist(), block.counts.tolist(), strict=True)
    ]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def larger(baskets: list[list[str]], min_count: int, max_len: int | None = None) -> dict[tuple[str, ...], int]:
    return {items: count for items, count in brute_force(baskets, min_count, max_len).items() if len(items) > 1}


@settings(max_examples=150, deadline=None)
@given(some_baskets, st.integers(1, 5), st.sampled_from([None, 1, 2, 3]), st.integers(1, 3))
def test_all_classes_together_give_every_itemset_once(
    baskets: list[list[str]], min_count: int, max_len: int | None, parts: int
) -> None:
    codes = dictionary(baskets, min_count)
    classes = [ItemClass(item, part, parts) for item in range(len(codes)) for part in range(parts)]

    found = list(mine_classes(encode(pa.array(baskets, pa.list_(pa.string())), codes), classes, min_count, max_len))

    assert names(found, codes) == larger(baskets, min_count, max_len)


@settings(max_examples=150, deadline=None)
@given(some_baskets, st.integers(1, 4), st.integers(1, 7), st.sampled_from([5, 1_000_000]))
def test_groups_mine_from_what_they_are_sent_alone(
    baskets: list[list[str]], min_count: int, tasks: int, most_codes: int
) -> None:
    codes = dictionary(baskets, min_count)
    if len(codes) < 2:
        return
    plan = plan_groups(codes.counts, codes.baskets, tasks, 1, most_codes)
    sent = project(encode(pa.array(baskets, pa.list_(pa.string())), codes), plan)

    found = [block for group, cut in sent for block in mine_classes(cut, plan.classes[group], min_count)]

    assert names(found, codes) == larger(baskets, min_count)


@pytest.mark.parametrize(("block", "chunk"), [(8, 8), (64, 16), (1 << 20, 1 << 20)])
def test_itemsets_do_not_depend_on_how_much_memory_a_level_gets(
    monkeypatch: pytest.MonkeyPatch, block: int, chunk: int
) -> None:
    monkeypatch.setattr(miner, "BLOCK_BYTES", block)
    monkeypatch.setattr(miner, "CHUNK_BYTES", chunk)
    rng = np.random.default_rng(3)
    # 200 baskets are more than three words of bits.
    baskets = [[item for item in ITEMS if rng.random() < 0.7] for _ in range(200)]
    codes = dictionary(baskets, 20)

    found = list(mine_classes(encode(pa.array(baskets), codes), [ItemClass(i) for i in range(len(codes))], 20))

    assert names(found, codes) == larger(baskets, 20)


def test_codes_are_places_by_frequency_then_name() -> None:
    codes = dictionary([["b", "c"], ["a", "b"], ["c", "a"], ["b", "rare"]], min_count=2)

    assert codes.items.to_pylist() == ["b", "a", "c"]
    assert codes.counts.tolist() == [3, 2, 2]


def test_encoding_minds_slices_nulls_and_repeats() -> None:
    codes = dictionary(BREAKFAST, min_count=2)
    lists = pa.array([["milk"], ["jam", "bread", None, "jam"], None, [], ["tea", "bread", "milk", "butter"], ["jam"]])

    encoded = encode(lists.slice(1), codes)

    assert encoded.codes.tolist() == [0, 2, 0, 1, 3]
    assert encoded.lengths.tolist() == [2, 3]


def test_a_group_is_sent_a_basket_once_and_cut_after_the_last_item_it_mines() -> None:
    baskets = Baskets.of_lengths(np.array([0, 1, 2, 3, 0, 1], dtype=np.int32), np.array([4, 2]))
    plan = plan_groups(np.array([2, 2, 1, 1]), 2, tasks=2, least_codes=1)
    sent = {group: (cut.codes.tolist(), cut.lengths.tolist()) for group, cut in project(baskets, plan)}

    for group, classes in enumerate(plan.classes):
        last = max(item_class.item for item_class in classes)
        cut = [[c for c in basket if c <= last] for basket in ([0, 1, 2, 3], [0, 1])]
        own = {item_class.item for item_class in classes}
        expected = [basket[: max(i for i, c in enumerate(basket) if c in own) + 1] for basket in cut if own & {*basket}]
        expected = [basket for basket in expected if len(basket) > 1]
        assert sent[group] == ([code for basket in expected for code in basket], [len(basket) for basket in expected])


def test_a_class_that_would_hold_up_the_others_is_split_over_groups() -> None:
    # Dense: every item is in every basket, so the rarest classes are most of the work.
    plan = plan_groups(np.full(6, 1000), 1000, tasks=8, least_codes=1)

    groups_of_last = {g for g, classes in enumerate(plan.classes) for c in classes if c.item == 5}
    assert len(groups_of_last) > 1
    assert {c.item for classes in plan.classes for c in classes} == set(range(6))


def test_the_number_of_groups_follows_memory_and_the_cost_of_a_task() -> None:
    """200,000 baskets hold 5 of the 100 items each, so classes are expected to read 3.5 million codes."""
    counts = np.full(100, 10_000)
    assert len(plan_groups(counts, 200_000, tasks=4, least_codes=1_000, most_codes=10**9)) == 4
    assert len(plan_groups(counts, 200_000, tasks=4, least_codes=1_000, most_codes=100_000)) > 30
    assert len(plan_groups(counts, 200_000, tasks=4, least_codes=2_000_000, most_codes=10**9)) == 2
