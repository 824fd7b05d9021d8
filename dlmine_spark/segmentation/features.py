"""What is known of a store and of a customer: names a shop manager reads, and how much each weighs in the distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dlmine_spark.config import RowsConfig

STORE, CUSTOMER = "store", "customer"
"""Entities of ``gold.segments``; a store is a series of the panel."""

ENTITY_ID = "entity_id"
VALUES = "values"
"""Column of a feature table: the features of an entity in the order of its catalogue, null or NaN where unknown."""

WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


@dataclass(frozen=True, slots=True)
class Block:
    """Features in one unit that describe one thing, scaled together.

    Attributes:
        features: names, as shown in profiles.
        weight: standard deviation of the whole block in the distance, whatever the number of its features.
        least: spread of the whole block that is worth telling apart, in the unit it is compared in; where entities
            differ by less, the block weighs less, or chance would be inflated to the size of a real difference.
        skewed: compared on a (signed) logarithmic scale.
    """

    features: tuple[str, ...]
    weight: float = 1.0
    least: float = 0.0
    skewed: bool = False


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The features of a kind of entity."""

    entity: str
    blocks: tuple[Block, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every feature, in the order of the feature table."""
        return tuple(name for block in self.blocks for name in block.features)


LEVEL = "average level"
GROWTH = "growth per year"
PROMOTION = "promotion uplift"
VOLATILITY = "volatility"
CLOSED = "closed share"
EMPTY = "share of zeros"
WEEKDAY_SHARES = tuple(f"{day} share" for day in WEEKDAYS)
MONTH_LEVELS = tuple(f"{month} level" for month in MONTHS)

STORES = Catalogue(
    STORE,
    (
        # A large and a small store of the same kind belong together: the level is shown and hardly decides.
        Block((LEVEL,), weight=0.1, skewed=True),
        Block(WEEKDAY_SHARES, least=0.02),
        Block(MONTH_LEVELS, least=0.15),
        Block((PROMOTION,), least=0.05),
        # One number each, which stores of one kind differ in too: a new road or a refurbishment moves them.
        Block((GROWTH,), weight=0.25, least=0.05),
        Block((VOLATILITY,), weight=0.25, least=0.02, skewed=True),
        Block((CLOSED,), weight=0.25, least=0.02),
        Block((EMPTY,), weight=0.25, least=0.02),
    ),
)
"""Features of a series, see ``shape.describe_series``."""

RECENCY = "days since last visit"
FREQUENCY = "baskets"
MONETARY = "total spend"
SPEND_PER_BASKET = "spend per basket"
ITEMS_PER_BASKET = "items per basket"
WEEKEND = "weekend share"

CUSTOMERS = Catalogue(
    CUSTOMER,
    (
        Block((RECENCY,), skewed=True),
        Block((FREQUENCY,), skewed=True),
        Block((MONETARY,), skewed=True),
        Block((SPEND_PER_BASKET,), skewed=True),
        # Of few baskets, mostly chance.
        Block((ITEMS_PER_BASKET,), weight=0.25, least=0.2, skewed=True),
        Block((WEEKEND,), weight=0.25, least=0.2),
    ),
)
"""Features of a customer, see ``customers.customer_features``."""


def catalogue_of(rows: RowsConfig) -> Catalogue:
    """The columns by which rows of a table are segmented, each as telling as the others."""
    return Catalogue(rows.entity, tuple(Block((name,), skewed=name in rows.skewed) for name in rows.columns))
