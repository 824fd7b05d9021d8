"""Customers, when they come, and what is in their baskets: the clean lines of one block of loyalty cards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dlmine_spark.datasets.catalogue import (
    CATEGORY_OF,
    CATEGORY_PRICE,
    INDEX,
    ITEMS,
    RULES,
    SEQUENCES,
    pull_probability,
)
from dlmine_spark.datasets.sizes import CARDS_PER_FILE, Stream, random_numbers
from dlmine_spark.datasets.world import World, weekday

PROMOTED_FACTOR = 2.5
"""A promoted item is in so many times as many baskets."""
PROMOTION_DISCOUNT = 0.8
INFLATION = 0.03
PRICE_RANGE = (0.89, 17.99)
"""So narrow that a price a hundred times too high is higher than any right one."""
MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class CustomerKind:
    """How customers of a kind shop; what they buy does not differ, only when and how much.

    Attributes:
        share: of all customers.
        days_between: visits, while the customer is one.
        extra_units: mean units of an item beyond the first.
        promotion_taste: how many times likelier a visit on a day with a promotion is.
        habit: how many times likelier a visit on the customer's own weekday is.
        leaves: whether the customer stays away for good some time into the second third of the history.
    """

    name: str
    share: float
    days_between: float
    extra_units: float
    promotion_taste: float = 1.0
    habit: float = 1.0
    leaves: bool = False


CUSTOMER_KINDS: tuple[CustomerKind, ...] = (
    CustomerKind("frequent small", 0.15, 5, 0.1),
    CustomerKind("weekly big", 0.20, 7.5, 2.2, habit=25),
    CustomerKind("occasional", 0.35, 30, 0.5),
    CustomerKind("bargain hunter", 0.15, 15, 0.8, promotion_taste=12),
    CustomerKind("lapsed", 0.15, 7, 0.6, leaves=True),
)


def make_customers(world: World) -> pd.DataFrame:
    """One row per customer: customer, kind (position in ``CUSTOMER_KINDS``), store (position), weekday, last_day."""
    rng = random_numbers(world.seed, Stream.CUSTOMERS)
    count, days = world.size.customers, world.size.days
    kinds = rng.choice(len(CUSTOMER_KINDS), size=count, p=[kind.share for kind in CUSTOMER_KINDS])
    leaves = np.array([kind.leaves for kind in CUSTOMER_KINDS])[kinds]
    return pd.DataFrame(
        {
            "customer": [f"C{number:05d}" for number in range(1, count + 1)],
            "kind": kinds,
            "store": rng.integers(0, world.size.stores, count),
            "weekday": rng.integers(0, 6, count),
            "last_day": np.where(leaves, rng.integers(days // 3, 2 * days // 3, count), days - 1),
        }
    )


def block_lines(world: World, customers: pd.DataFrame, block: int) -> pd.DataFrame:
    """The receipts of one block of customers, in the order of their time.

    Returns:
        One row per receipt and item: receipt (number), day and store (positions), minute, customer (position), item
        (position), quantity, cents (the price of one).
    """
    own = customers.iloc[block * CARDS_PER_FILE : (block + 1) * CARDS_PER_FILE]
    visits = _visits(world, own, random_numbers(world.seed, Stream.VISITS, block))
    rng = random_numbers(world.seed, Stream.BASKETS, block)
    holds = _contents(world, visits, rng)
    by_time = np.lexsort((visits["customer"], visits["minute"], visits["day"]))
    receipts, items = np.nonzero(holds[by_time])
    # Items lie in a basket in no order.
    in_basket = np.lexsort((rng.random(len(items)), receipts))
    items = items[in_basket]
    of_receipt = visits.iloc[by_time].reset_index(drop=True).iloc[receipts]
    return pd.DataFrame(
        {
            # Baskets that stayed empty have no receipt.
            "receipt": np.unique(receipts, return_inverse=True)[1],
            "day": of_receipt["day"].to_numpy(),
            "minute": of_receipt["minute"].to_numpy(),
            "store": of_receipt["store"].to_numpy(),
            "customer": of_receipt["customer"].to_numpy(),
            "item": items,
            "quantity": 1 + rng.poisson(of_receipt["extra_units"].to_numpy()),
            "cents": _cents(world, of_receipt, items),
        }
    )


def _visits(world: World, own: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Days on which the customers come, at most one visit a day; ordered by customer and day."""
    days = world.size.days
    kinds = [CUSTOMER_KINDS[kind] for kind in own["kind"]]
    stores = own["store"].to_numpy()
    taste = np.array([kind.promotion_taste for kind in kinds])[:, None]
    habit = np.array([kind.habit for kind in kinds])[:, None]
    level = world.stores["level"].to_numpy()[stores][:, None]
    weight = world.expected[stores, :days] / level
    weight = weight * np.where(world.promoted[stores, :days] >= 0, taste, 1.0)
    weight = weight * np.where(weekday(world.days[:days]) == own["weekday"].to_numpy()[:, None], habit, 1.0)
    weight[np.arange(days)[None, :] > own["last_day"].to_numpy()[:, None]] = 0.0
    wanted = rng.poisson((own["last_day"].to_numpy() + 1) / np.array([kind.days_between for kind in kinds]))
    wanted = np.minimum(wanted, (weight > 0).sum(axis=1))
    # Sampling without replacement by weight: the largest of log weight + Gumbel noise (Efraimidis & Spirakis 2006).
    with np.errstate(divide="ignore"):
        rank = np.argsort(np.argsort(-(np.log(weight) + rng.gumbel(size=weight.shape)), axis=1), axis=1)
    rows, visit_days = np.nonzero(rank < wanted[:, None])
    return pd.DataFrame(
        {
            "customer": own.index.to_numpy()[rows],
            "day": visit_days,
            "minute": (rng.triangular(8, 17.5, 20, len(rows)) * 60).astype(np.int64),
            "store": stores[rows],
            "extra_units": np.array([kind.extra_units for kind in kinds])[rows],
        }
    )


def _contents(world: World, visits: pd.DataFrame, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which basket (row) holds which item (column): by chance, then sequences, then associations."""
    count = len(visits)
    chance = rng.random((count, len(ITEMS)), dtype=np.float32)
    holds = chance < world.popularity.astype(np.float32)[None, :]
    promoted = world.promoted[visits["store"].to_numpy(), visits["day"].to_numpy()]
    on_promotion = np.flatnonzero(promoted >= 0)
    item = promoted[on_promotion]
    holds[on_promotion, item] = chance[on_promotion, item] < PROMOTED_FACTOR * world.popularity[item]

    customer = visits["customer"].to_numpy()
    is_next = np.zeros(count, dtype=bool)
    is_next[1:] = customer[1:] == customer[:-1]
    for sequence in SEQUENCES:
        for first, second in zip(sequence.items, sequence.items[1:], strict=False):
            bought_before = np.zeros(count, dtype=bool)
            bought_before[1:] = holds[:-1, INDEX[first]]
            holds[:, INDEX[second]] |= is_next & bought_before & (rng.random(count) < sequence.probability)
    for rule in RULES:
        has_antecedent = holds[:, [INDEX[name] for name in rule.antecedent]].all(axis=1)
        is_pulled = rng.random(count) < pull_probability(rule, world.popularity)
        holds[:, INDEX[rule.consequent]] |= has_antecedent & is_pulled
    return holds


def _cents(world: World, of_receipt: pd.DataFrame, items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Prices of one unit: of the item, the store and the year; a promoted item is cheaper."""
    rng = random_numbers(world.seed, Stream.PRICES)
    usual = np.array([CATEGORY_PRICE[category] for category in CATEGORY_OF])
    base = np.clip(usual * np.exp(rng.normal(0, 0.35, len(ITEMS))), *PRICE_RANGE)
    store_index = rng.uniform(0.96, 1.05, world.size.stores)
    day, store = of_receipt["day"].to_numpy(), of_receipt["store"].to_numpy()
    is_promoted = world.promoted[store, day] == items
    price = base[items] * store_index[store] * (1 + INFLATION * day / 365.25)
    paid = price * np.where(is_promoted, PROMOTION_DISCOUNT, 1.0)
    cents: NDArray[np.int64] = np.round(100 * paid).astype(np.int64)
    return cents
