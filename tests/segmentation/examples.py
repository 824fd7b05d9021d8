"""Small panels and partitions for the tests of the segmentation stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from itertools import combinations

import numpy as np
from pyspark.sql import DataFrame, SparkSession

START = date(2024, 1, 1)  # a Monday
PANEL = "unique_id string, ds date, y double, open int, y_imputed boolean"

Row = tuple[str, date, float | None, int, bool]


def rows_of(name: str, days: int, value: Callable[[int], float | None], step: int = 1) -> list[Row]:
    """One series that is always open, its value by the number of the row."""
    return [(name, START + timedelta(days=step * day), value(day), 1, False) for day in range(days)]


def panel(spark: SparkSession, rows: Sequence[Row]) -> DataFrame:
    return spark.createDataFrame(list(rows), PANEL)


def stores_of_two_kinds() -> tuple[list[Row], dict[str, str]]:
    """Four stores that live from the weekend and three that live from the week, of very different sizes."""
    rng = np.random.default_rng(3)
    rows, kinds = [], {}
    for number, kind in enumerate(["weekend", "week", "weekend", "week", "weekend", "week", "weekend"]):
        name, level = f"s{number}", 10.0 ** (1 + number % 4)
        kinds[name] = kind
        noise = np.exp(rng.normal(0, 0.05, 42))

        def value(day: int, level: float = level, kind: str = kind, noise: np.ndarray = noise) -> float:
            is_weekend = day % 7 >= 5
            return float(level * noise[day] * (3.0 if is_weekend == (kind == "weekend") else 1.0))

        rows += rows_of(name, 42, value)
    return rows, kinds


def adjusted_rand(first: Sequence[object], second: Sequence[object]) -> float:
    """By its definition, over all pairs."""
    pairs = list(combinations(range(len(first)), 2))
    same = Counter((first[a] == first[b], second[a] == second[b]) for a, b in pairs)
    in_first, in_second = same[True, True] + same[True, False], same[True, True] + same[False, True]
    expected = in_first * in_second / len(pairs)
    highest = (in_first + in_second) / 2
    return 1.0 if highest == expected else (same[True, True] - expected) / (highest - expected)
