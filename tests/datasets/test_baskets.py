"""Baskets hold what was planted, and nothing else that a miner could take for a rule."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dlmine_spark.datasets.baskets import CUSTOMER_KINDS, block_lines, make_customers
from dlmine_spark.datasets.catalogue import INDEX, ITEMS, RULES, SEQUENCES, rule_measures
from dlmine_spark.datasets.world import World, make_world

BLOCKS = 6


@pytest.fixture(scope="module")
def world() -> World:
    return make_world("small", 7, True)


@pytest.fixture(scope="module")
def lines(world: World) -> pd.DataFrame:
    customers = make_customers(world)
    blocks = [block_lines(world, customers, block).assign(block=block) for block in range(BLOCKS)]
    return pd.concat(blocks, ignore_index=True)


@pytest.fixture(scope="module")
def holds(lines: pd.DataFrame) -> NDArray[np.bool_]:
    """Which basket holds which item; one row per basket, in the order of customer and time."""
    baskets = lines.groupby(["customer", "day", "block", "receipt"], sort=True).ngroup().to_numpy()
    matrix = np.zeros((baskets.max() + 1, len(ITEMS)), dtype=bool)
    matrix[baskets, lines["item"]] = True
    return matrix


def test_every_rule_has_its_confidence_and_support(world: World, holds: NDArray[np.bool_]) -> None:
    for rule in RULES:
        antecedent = holds[:, [INDEX[item] for item in rule.antecedent]].all(axis=1)
        confidence = holds[antecedent, INDEX[rule.consequent]].mean()
        error = np.sqrt(rule.confidence * (1 - rule.confidence) / antecedent.sum())

        assert confidence == pytest.approx(rule.confidence, abs=4 * error), rule
        assert antecedent.mean() >= 0.95 * rule_measures(rule, world.popularity)["antecedent_support"]


def test_items_without_a_rule_between_them_are_independent(holds: NDArray[np.bool_]) -> None:
    """Whatever kinds of customers and promotions there are: else a miner would find rules that were not planted."""
    joined = {frozenset(pair) for rule in RULES for pair in combinations((*rule.antecedent, rule.consequent), 2)}
    shared = {frozenset((one.consequent, other.consequent)) for one in RULES for other in RULES
              if one.antecedent == other.antecedent and one != other}  # fmt: skip
    together = holds.T.astype(np.float64) @ holds
    expected = np.outer(holds.sum(axis=0), holds.sum(axis=0)) / len(holds)
    scores = (together - expected) / np.sqrt(expected)
    unplanted = [
        scores[one, other]
        for one, other in combinations(range(len(ITEMS)), 2)
        if frozenset((ITEMS[one], ITEMS[other])) not in joined | shared
    ]

    assert len(unplanted) == len(ITEMS) * (len(ITEMS) - 1) // 2 - len(joined | shared)
    assert np.std(unplanted) == pytest.approx(1, abs=0.1)
    assert np.mean(unplanted) == pytest.approx(0, abs=0.1)
    assert np.max(np.abs(unplanted)) < 5


def test_sequences_go_on_in_the_next_basket(lines: pd.DataFrame, holds: NDArray[np.bool_]) -> None:
    baskets = lines[["customer", "day", "block", "receipt"]].drop_duplicates().sort_values(["customer", "day"])
    customer = baskets["customer"].to_numpy()
    has_next = np.append(customer[1:] == customer[:-1], False)
    for sequence in SEQUENCES:
        first, second = (INDEX[item] for item in sequence.items[:2])
        started = np.flatnonzero(has_next & holds[:, first])
        # A basket that stayed empty has no receipt, so now and then the next one is the one after.
        assert holds[started + 1, second].mean() == pytest.approx(sequence.probability, abs=0.06)
        assert holds[:, second].mean() < 0.06


def test_kinds_of_customers_shop_as_they_are_described(world: World, lines: pd.DataFrame) -> None:
    customers = make_customers(world)
    visits = lines.drop_duplicates(["block", "receipt"]).assign(
        kind=lambda v: customers["kind"].to_numpy()[v["customer"]],
        on_promotion=lambda v: world.promoted[v["store"], v["day"]] >= 0,
    )
    names = [kind.name for kind in CUSTOMER_KINDS]
    by_kind = visits.groupby("kind").agg(last=("day", "max"), on_promotion=("on_promotion", "mean"))
    by_kind.index = pd.Index([names[kind] for kind in by_kind.index])
    per_customer = visits.groupby("customer").size().groupby(lambda c: names[customers["kind"][c]]).mean()

    assert per_customer["frequent small"] > 3 * per_customer["occasional"]
    assert by_kind.loc["bargain hunter", "on_promotion"] > 0.8 > 0.6 > by_kind.loc["occasional", "on_promotion"]
    assert by_kind.loc["lapsed", "last"] < 2 * world.size.days / 3
    assert lines["quantity"].min() == 1


def test_baskets_are_bought_where_and_when_the_store_is_open(world: World, lines: pd.DataFrame) -> None:
    assert world.is_open[lines["store"], lines["day"]].all()
    assert not lines.duplicated(["block", "receipt", "item"]).any()
    assert not lines.drop_duplicates(["block", "receipt"]).duplicated(["customer", "day"]).any()
