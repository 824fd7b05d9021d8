"""The raw files: what they would hold if they were clean, and what goes wrong in each of them.

Receipts and sales are separated by semicolons, calendar and stores by commas; in every file dates are ISO's and numbers
plain, except where an error says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dlmine_spark.datasets import dirt as d
from dlmine_spark.datasets.baskets import MINUTES
from dlmine_spark.datasets.catalogue import CATEGORY_OF, ITEMS
from dlmine_spark.datasets.dirt import Blemish, Dirt, Texts
from dlmine_spark.datasets.world import World


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How a file is written, what names its rows, and what goes wrong in it."""

    delimiter: str
    key: tuple[str, ...]
    dirt: Dirt


def _is_positive(column: str, least: float = 0.01) -> d.Eligible:
    return lambda columns: columns[column].astype(np.float64) >= least


RECEIPTS = FileFormat(
    ";",
    ("receipt", "item"),
    Dirt(
        cells=(
            Blemish("date_format", "time", 0.003, d.other_date),
            Blemish("decimal_comma", "price", 0.003, d.decimal_comma),
            Blemish("currency", "price", 0.002, d.currency),
            Blemish("absurd", "price", 0.001, d.hundredfold),
            Blemish("negative", "quantity", 0.001, d.negative),
            Blemish("mixed_type", "quantity", 0.001, d.with_unit),
            Blemish("spaces", "item", 0.002, d.spaces),
            Blemish("capitals", "item", 0.001, d.upper),
            Blemish("typo", "category", 0.003, d.typo),
            Blemish("missing", "customer", 0.002, d.missing),
        ),
        late=Blemish("superseded", "quantity", 0.002, d.other_count),
        duplicated=0.004,
        truncated=0.0005,
    ),
)
SALES = FileFormat(
    ";",
    ("store", "date"),
    Dirt(
        cells=(
            Blemish("date_format", "date", 0.003, d.other_date),
            Blemish("decimal_comma", "sales", 0.003, d.decimal_comma, _is_positive("sales")),
            Blemish("thousands", "sales", 0.002, d.thousands, _is_positive("sales", 1_000)),
            Blemish("currency", "sales", 0.002, d.currency, _is_positive("sales")),
            Blemish("missing", "sales", 0.003, d.missing, _is_positive("sales")),
            Blemish("negative", "sales", 0.001, d.negative, _is_positive("sales")),
            Blemish("absurd", "sales", 0.001, d.hundredfold, _is_positive("sales")),
            Blemish("mixed_type", "sales", 0.001, d.remark, _is_positive("sales")),
            Blemish("spaces", "store", 0.001, d.spaces),
            Blemish("missing", "visitors", 0.001, d.missing, _is_positive("visitors")),
        ),
        late=Blemish("superseded", "sales", 0.002, d.half_day, _is_positive("sales", 1.0)),
        duplicated=0.003,
        truncated=0.0005,
    ),
)
CALENDAR = FileFormat(
    ",",
    ("store", "date"),
    Dirt(
        cells=(
            Blemish("date_format", "date", 0.003, d.other_date),
            Blemish("mixed_type", "promo", 0.003, d.in_words),
            Blemish("typo", "holiday", 0.001, d.typo),
            Blemish("spaces", "promoted_item", 0.002, d.spaces),
            Blemish("capitals", "promoted_item", 0.001, d.upper),
        ),
        duplicated=0.003,
        truncated=0.0005,
    ),
)
STORES = FileFormat(
    ",",
    ("store",),
    Dirt(
        cells=(
            Blemish("typo", "region", 0.02, d.typo),
            Blemish("spaces", "store", 0.02, d.spaces),
            Blemish("mixed_type", "size_m2", 0.02, d.square_metres),
        ),
        duplicated=0.02,
    ),
)


def receipt_texts(world: World, customers: pd.DataFrame, lines: pd.DataFrame, block: int) -> Texts:
    """The cells of a file of receipts, from the rows of ``baskets.block_lines``."""
    numbers = _texts(f"R{block:04d}{number:05d}" for number in range(int(lines["receipt"].max()) + 1))
    dates = np.datetime_as_string(world.days[: world.size.days]).astype(object)
    clock = _texts(f" {minute // 60:02d}:{minute % 60:02d}" for minute in range(MINUTES))
    counts = _texts(str(number) for number in range(int(lines["quantity"].max()) + 1))
    prices = _texts(f"{cents / 100:.2f}" for cents in range(int(lines["cents"].max()) + 1))
    return {
        "receipt": numbers[lines["receipt"]],
        "time": dates[lines["day"]] + clock[lines["minute"]],
        "store": world.stores["store"].to_numpy(object)[lines["store"]],
        "customer": customers["customer"].to_numpy(object)[lines["customer"]],
        "item": np.array(ITEMS, dtype=object)[lines["item"]],
        "category": np.array(CATEGORY_OF, dtype=object)[lines["item"]],
        "quantity": counts[lines["quantity"]],
        "price": prices[lines["cents"]],
    }


def sales_texts(world: World) -> Texts:
    """The cells of the file of sales: one row per store and day."""
    days = world.size.days
    return {
        **_store_days(world, days),
        "sales": _texts(f"{value:.2f}" for value in world.sales[:, :days].ravel()),
        "visitors": world.visitors[:, :days].ravel().astype(str).astype(object),
    }


def calendar_texts(world: World) -> Texts:
    """The cells of the calendar: one row per store and day, the days ahead included."""
    stores, days = world.expected.shape
    names = np.array([*ITEMS, ""], dtype=object)
    return {
        **_store_days(world, days),
        "open": _as_bits(world.is_open.ravel()),
        "promo": _as_bits((world.promoted >= 0).ravel()),
        "promoted_item": names[world.promoted.ravel()],
        "holiday": np.tile(world.holiday, stores),
        "school_holiday": _as_bits(np.tile(world.is_school_holiday, stores)),
    }


def store_texts(world: World) -> Texts:
    """The cells of the file of stores: what a retailer knows about them, which is not their type."""
    return {name: world.stores[name].astype(str).to_numpy(object) for name in ("store", "region", "size_m2", "opened")}


def _store_days(world: World, days: int) -> Texts:
    stores = world.stores["store"].to_numpy(object)
    dates = np.datetime_as_string(world.days[:days]).astype(object)
    return {"store": np.repeat(stores, days), "date": np.tile(dates, len(stores))}


def _as_bits(flags: NDArray[np.bool_]) -> NDArray[np.object_]:
    return np.array(["0", "1"], dtype=object)[flags.astype(np.int64)]


def _texts(values: Iterable[str]) -> NDArray[np.object_]:
    return np.array(list(values), dtype=object)
