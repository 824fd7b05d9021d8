"""A shallow tree that imitates a network, and how well it does: frames of forecasts in, rules out.

Source: Breiman, Friedman, Olshen and Stone (1984), Classification and regression trees; MLlib fits it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.ml.functions import array_to_vector
from pyspark.ml.regression import DecisionTreeRegressor
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.explain.rules import Feature, Rule, in_words, rules_of

LEAST_SHARE, LEAST_COUNT = 0.01, 10
"""A rule is about such a share of the forecasts at least, and so many of them."""
HELD_OUT = 0.3
"""Share of the series that is kept from the tree."""
MOST_VALUES = 12
"""Values of a text that the tree may ask for."""
BINS = 64
NEARLY = 0.1
KEY = (s.UNIQUE_ID, s.CUTOFF, s.DS)
RATIO, IS_HELD_OUT = "__ratio", "__is_held_out"
_RULE = "__rule"
_NOT_ASKED = frozenset((*KEY, RATIO, IS_HELD_OUT))


@dataclass(frozen=True, slots=True)
class Measured:
    """A rule on forecasts that it was not made from.

    Attributes:
        conditions: in words.
        ratio: what it says: forecasts as a multiple of what was usual.
        count: of these forecasts that meet it.
        coverage: their share of all these.
        mean: of what the network forecast there.
        error: mean absolute difference between the rule and the network there; None where there is none.
    """

    conditions: tuple[str, ...]
    ratio: float
    count: int
    coverage: float
    mean: float | None
    error: float | None


def with_held_out(forecasts: DataFrame, by: Sequence[str]) -> DataFrame:
    """``forecasts`` with the share of groups held out that come first by their hash: never none of few."""
    groups = forecasts.select(*by).distinct()
    in_order = Window.orderBy(F.xxhash64(*by), *by)
    share = (F.row_number().over(in_order) - 1) / F.count(F.lit(1)).over(Window.partitionBy())
    marked = groups.withColumn(IS_HELD_OUT, share < HELD_OUT)
    return forecasts.join(marked, on=list(by), how="inner")


def askable(rows: DataFrame) -> list[tuple[Feature, Column]]:
    """What a tree may ask of forecasts, each with the number that tells it (two aggregations).

    Numbers and truth values as they are, blanks as the median; texts and segments by their most frequent values.
    """
    types = {name: type_ for name, type_ in rows.dtypes if name not in _NOT_ASKED}
    texts = [name for name, type_ in types.items() if type_ == "string" or name == "segment"]
    numbers = [name for name, type_ in types.items() if name not in texts and not type_.startswith(("date", "time"))]
    found = [
        (Feature(name, value), F.coalesce((F.col(f"`{name}`").cast("string") == value).cast("double"), F.lit(0.0)))
        for name, values in _frequent(rows, texts).items()
        for value in values
    ]
    columns = {name: F.col(f"`{name}`").cast("double") for name in numbers}
    statistics = rows.agg(
        *(
            F.struct(
                F.min(value).alias("low"),
                F.max(value).alias("high"),
                F.percentile_approx(value, 0.5).alias("median"),
                F.min((value == F.floor(value)).cast("int")).alias("is_whole"),
            ).alias(name)
            for name, value in columns.items()
        )
    ).collect()[0]
    for name, value in columns.items():
        told = statistics[name]
        # What is the same everywhere, or nowhere known, says nothing.
        if told["low"] is not None and told["low"] < told["high"]:
            feature = Feature(name, None, told["low"], told["high"], bool(told["is_whole"]))
            found.append((feature, F.coalesce(value, F.lit(told["median"]))))
    return found


def _frequent(rows: DataFrame, texts: Sequence[str]) -> Mapping[str, list[str]]:
    """The most frequent values of each text that has more than one, most frequent first."""
    if not texts:
        return {}
    cells = F.explode(
        F.array(
            *(F.struct(F.lit(name).alias("name"), F.col(f"`{name}`").cast("string").alias("value")) for name in texts)
        )
    )
    counts = rows.select(cells.alias("cell")).groupBy("cell.name", "cell.value").count()
    rank = F.row_number().over(Window.partitionBy("name").orderBy(F.desc("count"), "value"))
    ranked = counts.where(F.col("value").isNotNull()).withColumn("rank", rank).where(F.col("rank") <= MOST_VALUES)
    found: dict[str, list[str]] = {}
    for row in ranked.orderBy("name", "rank").collect():
        found.setdefault(row["name"], []).append(row["value"])
    return found


def as_numbers(rows: DataFrame, asked: Sequence[tuple[Feature, Column]]) -> DataFrame:
    """``RATIO``, ``IS_HELD_OUT`` and ``f0``, ``f1``, ...; in the order of keys, so that trees come out the same."""
    numbers = [value.cast("double").alias(f"f{at}") for at, (_, value) in enumerate(asked)]
    return rows.orderBy(*KEY).select(RATIO, IS_HELD_OUT, *numbers)


def fit_rules(rows: DataFrame, count: int, depth: int) -> list[Rule]:
    """The rules of a tree that has learned the forecasts that are not held out (a job a level)."""
    names = [name for name in rows.columns if name not in _NOT_ASKED]
    learnt = rows.where(~F.col(IS_HELD_OUT)).select(RATIO, array_to_vector(F.array(*names)).alias("features"))
    tree = DecisionTreeRegressor(
        featuresCol="features",
        labelCol=RATIO,
        maxDepth=depth,
        maxBins=BINS,
        minInstancesPerNode=max(LEAST_COUNT, round(LEAST_SHARE * count)),
        seed=0,
    )
    return rules_of(tree.fit(learnt).toDebugString)


def measure(
    rows: DataFrame, rules: Sequence[Rule], features: Sequence[Feature]
) -> tuple[list[Measured], dict[str, float | None]]:
    """Rules beside the forecasts that were held out (one aggregation).

    Args:
        rows: ``RATIO``, ``IS_HELD_OUT`` and a column ``f0``, ``f1``, ... a feature.
        rules: every row meets exactly one.
        features: that they ask for.

    Returns:
        The rules, those of most forecasts first, and by measure: ``r2`` (None where all forecasts are alike),
        ``within_a_tenth``, ``held_out``, ``fitted`` and ``rules``.
    """
    number, told = F.lit(None).cast("int"), F.lit(None).cast("double")
    for at, rule in enumerate(rules):
        number = F.when(_meets(rule), F.lit(at)).otherwise(number)
        told = F.when(_meets(rule), F.lit(rule.told)).otherwise(told)
    difference = F.col(RATIO) - F.col("told")
    of_rules = (
        rows.withColumns({_RULE: number, "told": told})
        .groupBy(_RULE, IS_HELD_OUT)
        .agg(
            F.count(F.lit(1)).alias("count"),
            F.sum(RATIO).alias("sum"),
            F.sum(F.col(RATIO) ** 2).alias("squares"),
            F.sum(difference**2).alias("lost"),
            F.sum(F.abs(difference)).alias("error"),
            F.count_if(F.abs(difference) <= NEARLY * F.abs(F.col(RATIO))).alias("nearly"),
        )
        .collect()
    )
    held_out = {row[_RULE]: row for row in of_rules if row[IS_HELD_OUT]}
    total = sum(row["count"] for row in held_out.values())
    spread = sum(row["squares"] for row in held_out.values())
    spread -= sum(row["sum"] for row in held_out.values()) ** 2 / max(1, total)
    scores: dict[str, float | None] = {
        "r2": 1 - sum(row["lost"] for row in held_out.values()) / spread if spread > 1e-12 else None,
        "within_a_tenth": sum(row["nearly"] for row in held_out.values()) / total if total else None,
        "held_out": float(total),
        "fitted": float(sum(row["count"] for row in of_rules if not row[IS_HELD_OUT])),
        "rules": float(len(rules)),
    }
    measured = []
    for at, rule in enumerate(rules):
        row = held_out.get(at)
        count = int(row["count"]) if row else 0
        mean, error = (row["sum"] / count, row["error"] / count) if row else (None, None)
        measured.append(Measured(in_words(rule, features), rule.told, count, count / max(1, total), mean, error))
    return sorted(measured, key=lambda one: (-one.count, one.conditions)), scores


def _meets(rule: Rule) -> Column:
    bounds = [
        F.col(f"f{bound.feature}") > bound.threshold
        if bound.is_above
        else F.col(f"f{bound.feature}") <= bound.threshold
        for bound in rule.bounds
    ]
    return reduce(Column.__and__, bounds, F.lit(True))
