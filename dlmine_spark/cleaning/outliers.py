"""Outliers: values outside fences that their own group sets, found with one aggregation per rule.

Fences are ``centre - threshold * spread`` and ``centre + threshold * spread``:

- ``iqr``: quartiles and their distance (Tukey 1977): ``[q1 - t*IQR, q3 + t*IQR]``
- ``zscore``: mean and standard deviation
- ``mad``: median and 1.4826 x median absolute deviation (Hampel 1974); robust where a tenth of the values is wrong
- ``quantile``: the ``t`` percent quantile and its mirror image (``t`` in percent)
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark.cleaning.plan import REASONS, REPAIRS, WARNINGS
from dlmine_spark.config import OutlierRule

ACCURACY = 10_000
"""Of the approximate percentiles: the rank error is at most one in so many."""
FEWEST_VALUES = 8
"""A group with fewer values has no fences: nobody knows what is usual there."""
MAD_TO_SD = 1.4826


def treat_outliers(rows: DataFrame, column: str, rule: OutlierRule) -> DataFrame:
    """Find the outliers of a numeric column and do with them what the rule says.

    Args:
        rows: good rows with ``REASONS``, ``REPAIRS`` and ``WARNINGS``.
        column: its name.
        rule: test, groups and action.

    Returns:
        The same rows; ``flag`` adds to ``WARNINGS``, ``clip`` and ``null`` change the value and add to ``REPAIRS``,
        ``quarantine`` adds to ``REASONS``.
    """
    value = F.col(f"`{column}`")
    fences = _fences(rows, column, rule)
    joined = (
        rows.join(
            F.broadcast(fences), on=[rows[name].eqNullSafe(fences[f"__by_{name}"]) for name in rule.by], how="left"
        )
        if rule.by
        else rows.crossJoin(F.broadcast(fences))
    )
    is_outlier = F.coalesce((value < F.col("__low")) | (value > F.col("__high")), F.lit(False))
    name = f"outlier_{rule.method}"
    treated = joined
    if rule.action == "flag":
        flagged = F.concat(F.col(WARNINGS), F.array(F.lit(f"{name}:{column}")))
        treated = joined.withColumn(WARNINGS, F.when(is_outlier, flagged).otherwise(F.col(WARNINGS)))
    elif rule.action == "quarantine":
        reason = F.struct(
            F.lit(name).alias("rule"),
            F.lit(column).alias("column"),
            F.concat(F.lit("unusual value "), value.cast("string")).alias("message"),
        )
        added = F.concat(F.col(REASONS), F.array(reason))
        treated = joined.withColumn(REASONS, F.when(is_outlier, added).otherwise(F.col(REASONS)))
    else:
        bounded = F.greatest(F.least(value, F.col("__high")), F.col("__low"))
        new = F.lit(None).cast("double") if rule.action == "null" else bounded
        treated = joined.withColumn(
            REPAIRS,
            F.when(is_outlier, F.concat(F.col(REPAIRS), F.array(repair_entry(column, value, new, name)))).otherwise(
                F.col(REPAIRS)
            ),
        ).withColumn(column, F.when(is_outlier, new).otherwise(value))
    return treated.drop("__low", "__high", *(f"__by_{name}" for name in rule.by))


def _fences(rows: DataFrame, column: str, rule: OutlierRule) -> DataFrame:
    """One row per group: its key columns under ``__by_`` names, ``__low`` and ``__high``."""
    value = F.col(f"`{column}`")
    known = rows.where(value.isNotNull())
    keys = [F.col(f"`{name}`").alias(f"__by_{name}") for name in rule.by]
    key_names = [f"__by_{name}" for name in rule.by]
    threshold = F.lit(rule.threshold)
    if rule.method == "mad":
        medians = known.groupBy(*keys).agg(F.percentile_approx(value, 0.5, ACCURACY).alias("__centre"))
        deviations = known.select(*keys, value.alias("__value"))
        paired = deviations.join(F.broadcast(medians), on=key_names) if keys else deviations.crossJoin(medians)
        spread = (
            paired.groupBy(*key_names, "__centre")
            .agg(
                F.percentile_approx(F.abs(F.col("__value") - F.col("__centre")), 0.5, ACCURACY).alias("__mad"),
                F.count(F.lit(1)).alias("__n"),
            )
            .withColumn("__spread", F.col("__mad") * MAD_TO_SD * threshold)
        )
        low, high = F.col("__centre") - F.col("__spread"), F.col("__centre") + F.col("__spread")
        return _bounded(spread, key_names, low, high)
    grouped = known.groupBy(*keys)
    if rule.method == "zscore":
        made = grouped.agg(
            F.avg(value).alias("__centre"), F.stddev_samp(value).alias("__sd"), F.count(F.lit(1)).alias("__n")
        )
        low = F.col("__centre") - threshold * F.col("__sd")
        high = F.col("__centre") + threshold * F.col("__sd")
        return _bounded(made, key_names, low, high)
    share = 0.25 if rule.method == "iqr" else min(rule.threshold / 100, 0.5)
    made = grouped.agg(
        F.percentile_approx(value, [share, 1 - share], ACCURACY).alias("__q"), F.count(F.lit(1)).alias("__n")
    )
    lower, upper = F.col("__q")[0], F.col("__q")[1]
    if rule.method == "quantile":
        return _bounded(made, key_names, lower, upper)
    reach = threshold * (upper - lower)
    return _bounded(made, key_names, lower - reach, upper + reach)


def _bounded(made: DataFrame, keys: list[str], low: Column, high: Column) -> DataFrame:
    """Fences, for groups that are large enough and vary at all."""
    is_known = (F.col("__n") >= FEWEST_VALUES) & (high > low)
    return made.select(*keys, F.when(is_known, low).alias("__low"), F.when(is_known, high).alias("__high"))


def repair_entry(column: str, old: Column, new: Column, rule: str) -> Column:
    """One entry of ``REPAIRS``."""
    return F.struct(
        F.lit(column).alias("column"),
        old.cast("string").alias("old_value"),
        new.cast("string").alias("new_value"),
        F.lit(rule).alias("rule"),
    )
