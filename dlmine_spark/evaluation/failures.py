"""What forecasts that failed have in common: each forecast as a basket of facts, for the miner of rules.

An error is large if it is among the largest tenth, relative to what its series usually sells; the facts are what was
known of the series and the date when the forecast was made.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig, SideTemplate

TOO_HIGH, TOO_LOW = "forecast much too high", "forecast much too low"
LARGE = 0.1
"""Share of the forecasts whose errors are called large."""
MOST_VALUES = 8
"""A number with more values than this is told as low, middle or high."""
LEAST_FORECASTS, LEAST_SUPPORT = 20, 0.005
"""A pattern is about so many forecasts at least, and such a share of them."""
MOST_CONDITIONS = 3
LEAST_LIFT = 1.5
_ERROR = "__error"


def with_large_errors(forecasts: DataFrame) -> DataFrame:
    """Forecasts with ``failure``: one of the two consequents, or null (two aggregations).

    Args:
        forecasts: one row per series, cutoff and date: ``unique_id``, ``y``, ``y_hat`` and further columns; read twice.
    """
    usual = forecasts.groupBy(s.UNIQUE_ID).agg(F.avg(F.abs(s.Y)).alias("__usual"))
    relative = (F.col(s.Y_HAT) - F.col(s.Y)) / F.col("__usual")
    rows = forecasts.join(usual, on=s.UNIQUE_ID, how="inner").where(F.col("__usual") > 0).withColumn(_ERROR, relative)
    bound = rows.agg(F.percentile_approx(F.abs(_ERROR), 1 - LARGE)).collect()[0][0]
    is_large = F.abs(_ERROR) > F.lit(bound)
    failure = F.when(is_large, F.when(F.col(_ERROR) > 0, F.lit(TOO_HIGH)).otherwise(F.lit(TOO_LOW)))
    return rows.withColumn("failure", failure).drop("__usual", _ERROR)


def as_facts(rows: DataFrame, names: Sequence[str]) -> dict[str, Column]:
    """Columns as facts: ``promo = 1``, ``size_m2 is high``; null where the value is (one aggregation).

    Texts, truth values and numbers of few values are told as they are, other numbers by thirds.
    """
    types = dict(rows.dtypes)
    numbers = [name for name in names if types[name] in ("double", "float", "bigint", "int")]
    statistics = [
        statistic
        for name in numbers
        for statistic in (
            F.approx_count_distinct(F.col(f"`{name}`")).alias(f"values:{name}"),
            F.percentile_approx(F.col(f"`{name}`"), [1 / 3, 2 / 3]).alias(f"thirds:{name}"),
        )
    ]
    found = rows.agg(*statistics).collect()[0].asDict() if statistics else {}

    def fact(name: str) -> Column:
        value = F.col(f"`{name}`")
        if name in numbers and found[f"values:{name}"] > MOST_VALUES:
            lower, upper = found[f"thirds:{name}"]
            third = F.when(value <= lower, "low").when(value <= upper, "middle").when(value.isNotNull(), "high")
            return F.concat(F.lit(f"{name} is "), third)
        # 1.0 is 1 to people.
        return F.concat(F.lit(f"{name} = "), F.regexp_replace(value.cast("string"), r"\.0$", ""))

    return {name: fact(name) for name in names}


def mining_config(forecasts: int) -> MiningConfig:
    """Rules from up to three facts to a failure, of which those are kept that no shorter one explains."""
    sides = (TOO_HIGH, TOO_LOW)
    return MiningConfig(
        min_support=min(1.0, max(LEAST_SUPPORT, LEAST_FORECASTS / forecasts)),
        min_confidence=0.0,
        min_lift=LEAST_LIFT,
        max_len=MOST_CONDITIONS + 1,
        antecedent=SideTemplate(forbid=sides),
        consequent=SideTemplate(only=sides),
    )
