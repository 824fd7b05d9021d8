"""How large a simulated world is, and where its randomness comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from dlmine_spark.errors import ConfigError

CARDS_PER_FILE = 50
"""Customers whose receipts lie in one file; the unit of work, locally and in a Spark task."""


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of stores, of days with sales, and of customers with a loyalty card."""

    stores: int
    days: int
    customers: int

    @property
    def blocks(self) -> int:
        """Files of receipts."""
        return -(-self.customers // CARDS_PER_FILE)


SIZES: Mapping[str, Size] = {
    "tiny": Size(stores=8, days=240, customers=150),
    "small": Size(stores=40, days=900, customers=760),
    "medium": Size(stores=100, days=1_100, customers=4_000),
    "large": Size(stores=300, days=1_100, customers=16_000),
}


def size_of(name: str) -> Size:
    """The size of that name.

    Raises:
        ConfigError: there is none; the message names those there are.
    """
    if name not in SIZES:
        raise ConfigError(f"--size {name}: no such size; expected {', '.join(SIZES)}")
    return SIZES[name]


class Stream(IntEnum):
    """What random numbers are for: each use has its own, so that a change of one leaves the others as they are."""

    POPULARITY = 1
    STORES = 2
    PROMOTIONS = 3
    NOISE = 4
    CUSTOMERS = 5
    VISITS = 6
    BASKETS = 7
    PRICES = 8
    DIRT = 9


def random_numbers(seed: int, stream: Stream, block: int = 0) -> np.random.Generator:
    """A counter-based generator (Philox) that depends on its three arguments only.

    So a block of customers is the same whoever makes it, in whatever order and process.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, block])))
