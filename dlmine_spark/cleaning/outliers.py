"""Outliers: values outside fences that their own group sets, found with one aggregation per rule.

Fences are ``centre - threshold * spread`` and ``centre + threshold * spread``:

- ``iqr``: quartiles and their distance (Tukey 1977): ``[q1 - t*IQR, q3 + t*IQR]``
- ``zscore``: mean and standard deviation
- ``mad``: median and 1.4826 x median absolute deviation (Hampel 1974); robust where a tenth of the values is wrong
- ``quantile``: the ``t`` percent quantile and its mirror image (``t`` in percent)

Percentiles are exact: approximate ones depend on the order in which tasks finish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark.cleaning.plan import REASONS, REPAIRS, WARNINGS, reason, repair
from dlmine_spark.config import ColumnConfig, OutlierRule

FEWEST_VALUES = 8
"""A group with fewer values has no fences: nobody knows what is usual there."""
MAD_TO_SD = 1.4826


def treat_outliers(
    rows: DataFrame, columns: Mapping[str, ColumnConfig], fences: Mapping[str, DataFrame] | None = None
) -> DataFrame:
    """Find the outliers of numeric columns and do with them what their rules say.

    All fences come from the rows as they are, so the order of the rules decides nothing.

    Args:
        rows: good rows with ``REASONS``, ``REPAIRS`` and ``WARNINGS``.
        columns: declarations with types; those without ``outliers`` are left alone.
        fences: of each column with a rule, from ``fences_of``; default: those that these rows set.

    Returns:
        The same rows; ``flag`` adds to ``WARNINGS``, ``clip`` and ``null`` change the value and add to ``REPAIRS``,
        ``quarantine`` adds to ``REASONS``.
    """
    rules = {name: spec.outliers for name, spec in columns.items() if spec.outliers is not None}
    fenced = rows
    for place, (name, rule) in enumerate(rules.items()):
        of_column = fences_of(rows, name, rule) if fences is None else fences[name]
        fenced = _join_fences(fenced, of_column, rule.by, place)
    for place, (name, rule) in enumerate(rules.items()):
        fenced = _treat(fenced, name, rule, place, is_whole=columns[name].type == "integer")
    return fenced.select(*rows.columns)


def fences_of(rows: DataFrame, column: str, rule: OutlierRule) -> DataFrame:
    """One row per group: its key columns, ``low`` and ``high``; null where the group is small or does not vary."""
    value = F.col(f"`{column}`")
    known = rows.where(value.isNotNull()).select(*(F.col(f"`{name}`") for name in rule.by), value.alias("value"))
    by = [F.col(f"`{name}`") for name in rule.by]
    size = F.count(F.lit(1)).alias("size")
    if rule.method == "mad":
        medians = known.groupBy(*by).agg(F.median("value").alias("centre"))
        deviations = _joined(known, medians, rule.by).withColumn("distance", F.abs(F.col("value") - F.col("centre")))
        measured = deviations.groupBy(*by, "centre").agg(
            (F.median("distance") * MAD_TO_SD * rule.threshold).alias("reach"), size
        )
        low, high = F.col("centre") - F.col("reach"), F.col("centre") + F.col("reach")
    elif rule.method == "zscore":
        measured = known.groupBy(*by).agg(
            F.avg("value").alias("centre"), (F.stddev_samp("value") * rule.threshold).alias("reach"), size
        )
        low, high = F.col("centre") - F.col("reach"), F.col("centre") + F.col("reach")
    else:
        share = 0.25 if rule.method == "iqr" else min(rule.threshold / 100, 0.5)
        measured = known.groupBy(*by).agg(
            F.percentile("value", F.lit(share)).alias("lower"),
            F.percentile("value", F.lit(1 - share)).alias("upper"),
            size,
        )
        reach = (F.col("upper") - F.col("lower")) * (rule.threshold if rule.method == "iqr" else 0.0)
        low, high = F.col("lower") - reach, F.col("upper") + reach
    is_known = (F.col("size") >= FEWEST_VALUES) & (high > low)
    return measured.select(*by, F.when(is_known, low).alias("low"), F.when(is_known, high).alias("high"))


def _join_fences(rows: DataFrame, fences: DataFrame, by: Sequence[str], place: int) -> DataFrame:
    named = fences.withColumnsRenamed({"low": f"__low_{place}", "high": f"__high_{place}"})
    return _joined(rows, named, by)


def _joined(rows: DataFrame, groups: DataFrame, by: Sequence[str]) -> DataFrame:
    """The rows with what is known of their group; rows without a group name are a group too."""
    if not by:
        return rows.crossJoin(F.broadcast(groups))
    keys = {name: f"__by_{place}" for place, name in enumerate(by)}
    renamed = groups.withColumnsRenamed(keys)
    same_group = [F.col(f"`{name}`").eqNullSafe(F.col(key)) for name, key in keys.items()]
    return rows.join(renamed, on=same_group, how="left").drop(*keys.values())


def _treat(rows: DataFrame, column: str, rule: OutlierRule, place: int, *, is_whole: bool) -> DataFrame:
    """Apply one rule; whole numbers are clipped to whole ones inside the fences."""
    value, low, high = F.col(f"`{column}`"), F.col(f"__low_{place}"), F.col(f"__high_{place}")
    is_outlier = F.coalesce((value < low) | (value > high), F.lit(False))
    name = f"outlier_{rule.method}"

    def added(entries: str, entry: Column) -> Column:
        return F.when(is_outlier, F.concat(F.col(entries), F.array(entry))).otherwise(F.col(entries))

    if rule.action == "flag":
        return rows.withColumn(WARNINGS, added(WARNINGS, F.lit(f"{name}:{column}")))
    if rule.action == "quarantine":
        message = F.concat(F.lit("is unusual here: "), value.cast("string"))
        return rows.withColumn(REASONS, added(REASONS, reason(name, column, message)))
    new = F.lit(None).cast("double")
    if rule.action == "clip":
        floor, ceiling = (F.ceil(low), F.floor(high)) if is_whole else (low, high)
        new = F.when(value < low, floor).otherwise(ceiling).cast("double")
    return rows.withColumns(
        {
            REPAIRS: added(REPAIRS, repair(column, value, new, name)),
            column: F.when(is_outlier, new).otherwise(value),
        }
    )
