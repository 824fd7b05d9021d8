"""Outliers: values outside fences that their own group sets, found with one aggregation and one join per grouping.

Fences are ``centre - threshold * spread`` and ``centre + threshold * spread``:

- ``iqr``: quartiles and their distance (Tukey 1977): ``[q1 - t*IQR, q3 + t*IQR]``
- ``zscore``: mean and standard deviation
- ``mad``: median and 1.4826 x median absolute deviation (Hampel 1974); robust where a tenth of the values is wrong
  (a second aggregation)
- ``quantile``: the ``t`` percent quantile and its mirror image (``t`` in percent)
- ``hampel``: as ``mad``, of the ``window`` rows around each one in time (Davies and Gather 1993); windows instead of an
  aggregation

Percentiles are exact: approximate ones depend on the order in which tasks finish.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.groups import join_groups
from dlmine_spark.cleaning.plan import ORDER, REASONS, REPAIRS, WARNINGS, reason, repair
from dlmine_spark.config import ColumnConfig, OutlierRule

FEWEST_VALUES = 8
"""A group with fewer values has no fences: nobody knows what is usual there. Windows of ``hampel`` may have fewer."""
MAD_TO_SD = 1.4826


Fences = Mapping[tuple[str, ...], DataFrame]
"""Of each grouping: one row per group, with the fences of the columns that have rules for these groups."""


def measure_fences(
    rows: DataFrame, columns: Mapping[str, ColumnConfig], time: str | None = None, cutoff: date | None = None
) -> Fences:
    """The fences that good rows set, one aggregation for each grouping; ``hampel`` has none of that kind.

    Args:
        rows: good rows.
        columns: declarations with types.
        time: the column that orders the rows.
        cutoff: fences come from the rows up to this date, where there is a time.
    """
    groupings: dict[tuple[str, ...], dict[str, OutlierRule]] = {}
    for name, spec in columns.items():
        if spec.outliers is not None and spec.outliers.method != "hampel":
            groupings.setdefault(spec.outliers.by, {})[name] = spec.outliers
    until = cutoff if time is not None else None
    learned = rows if until is None else rows.where(F.to_date(F.col(str(time))) <= F.lit(until))
    return {by: fences_of(learned, alike) for by, alike in groupings.items()}


def treat_outliers(
    rows: DataFrame,
    columns: Mapping[str, ColumnConfig],
    time: str | None = None,
    cutoff: date | None = None,
    fences: Fences | None = None,
) -> DataFrame:
    """Find the outliers of numeric columns and do with them what their rules say.

    All fences come from the rows as they are, so the order of the rules decides nothing.

    Args:
        rows: good rows with ``REASONS``, ``REPAIRS`` and ``WARNINGS``.
        columns: declarations with types; those without ``outliers`` are left alone.
        time: the column that orders the rows, which ``hampel`` needs.
        cutoff: fences come from the rows up to this date, where there is a time; later rows are held against them too.
        fences: from ``measure_fences``; default: those that these rows set.

    Returns:
        The same rows; ``flag`` adds to ``WARNINGS``, ``clip`` and ``null`` change the value and add to ``REPAIRS``,
        ``quarantine`` adds to ``REASONS``.
    """
    rules = {name: spec.outliers for name, spec in columns.items() if spec.outliers is not None}
    fenced = rows
    for by, of_groups in (measure_fences(rows, columns, time, cutoff) if fences is None else fences).items():
        fenced = join_groups(fenced, of_groups, by)
    for name, rule in rules.items():
        if rule.method == "hampel" and time is not None:
            fenced = with_moving_fences(fenced, name, rule, time, cutoff)
    for name, rule in rules.items():
        fenced = _treat(fenced, name, rule, is_whole=columns[name].type == "integer")
    return fenced.select(*rows.columns)


def fences_of(rows: DataFrame, rules: Mapping[str, OutlierRule]) -> DataFrame:
    """One row per group: its key columns, ``__low_<column>`` and ``__high_<column>`` of each rule.

    They are null where the group is small or does not vary. All rules have the same ``by``.
    """
    by = [F.col(f"`{name}`") for name in next(iter(rules.values())).by]
    measured = rows.groupBy(*by).agg(*(made for name, rule in rules.items() for made in _measures(name, rule)))
    deviations = {
        name: F.median(F.abs(F.col(f"`{name}`") - F.col(f"__centre_{name}")))
        for name, rule in rules.items()
        if rule.method == "mad"
    }
    if deviations:
        names = [name for name in measured.columns if name.startswith("__")]
        known = rows.select(*by, *(F.col(f"`{name}`") for name in deviations if name not in rules[name].by))
        beside = join_groups(known, measured, next(iter(rules.values())).by)
        # What was measured of a group first is the same in all of its rows.
        measured = beside.groupBy(*by, *(F.col(f"`{name}`") for name in names)).agg(
            *(deviation.alias(f"__spread_{name}") for name, deviation in deviations.items())
        )
    return measured.select(*by, *(fence for name, rule in rules.items() for fence in _fences(name, rule)))


def with_moving_fences(
    rows: DataFrame, column: str, rule: OutlierRule, time: str, cutoff: date | None = None
) -> DataFrame:
    """Add ``__low_<column>`` and ``__high_<column>`` of ``hampel``: each row has its own, from the window around it.

    The window has ``window`` rows with the row itself in the middle, at the ends of a series those that there are;
    blanks in it count for nothing. A row at or before the cutoff sees nothing after it. Where more than half of a
    window's values are equal its spread is 0, and there is no fence.
    """
    by = rule.by or ((s.UNIQUE_ID,) if s.UNIQUE_ID in rows.columns else ())
    half = rule.window // 2
    ties = [F.col(name) for name in ORDER if name in rows.columns]
    in_time = Window.partitionBy(*(F.col(f"`{name}`") for name in by)).orderBy(F.col(time), *ties)
    around, centre, spread = f"__around_{column}", f"__centre_{column}", f"__spread_{column}"
    value = F.when(F.col(time).isNotNull(), F.col(f"`{column}`"))
    if cutoff is None:
        near = F.collect_list(value).over(in_time.rowsBetween(-half, half))
    else:
        is_after = F.to_date(F.col(time)) > F.lit(cutoff)
        up_to_here = F.collect_list(value).over(in_time.rowsBetween(-half, 0))
        seen = F.collect_list(F.when(~is_after, value)).over(in_time.rowsBetween(1, half))
        later = F.collect_list(value).over(in_time.rowsBetween(1, half))
        near = F.concat(up_to_here, F.when(is_after, later).otherwise(seen))
    windows = rows.withColumn(around, F.array_sort(near))
    centred = windows.withColumn(centre, _middle(F.col(around)))
    distances = F.array_sort(F.transform(around, lambda other: F.abs(other - F.col(centre))))
    measured = centred.withColumn(spread, distances).withColumn(spread, _middle(F.col(spread)))
    reach = F.col(spread) * MAD_TO_SD * rule.threshold
    is_known = (reach > 0) & F.col(time).isNotNull()
    return measured.withColumns(
        {
            f"__low_{column}": F.when(is_known, F.col(centre) - reach),
            f"__high_{column}": F.when(is_known, F.col(centre) + reach),
        }
    ).drop(around, centre, spread)


def _measures(column: str, rule: OutlierRule) -> list[Column]:
    """What a rule needs to know of a group; of ``mad`` the first half."""
    value = F.col(f"`{column}`")
    measures = {"size": F.count(value)}
    if rule.method == "mad":
        measures["centre"] = F.median(value)
    elif rule.method == "zscore":
        measures |= {"centre": F.avg(value), "spread": F.stddev_samp(value)}
    else:
        share = 0.25 if rule.method == "iqr" else min(rule.threshold / 100, 0.5)
        measures["lower"] = F.percentile(value, F.lit(share))
        measures["upper"] = F.percentile(value, F.lit(1 - share))
    return [measure.alias(f"__{name}_{column}") for name, measure in measures.items()]


def _fences(column: str, rule: OutlierRule) -> list[Column]:
    def measured(name: str) -> Column:
        return F.col(f"`__{name}_{column}`")

    if rule.method in ("mad", "zscore"):
        reach = measured("spread") * (MAD_TO_SD if rule.method == "mad" else 1.0) * rule.threshold
        low, high = measured("centre") - reach, measured("centre") + reach
    else:
        reach = (measured("upper") - measured("lower")) * (rule.threshold if rule.method == "iqr" else 0.0)
        low, high = measured("lower") - reach, measured("upper") + reach
    is_known = (measured("size") >= FEWEST_VALUES) & (high > low)
    return [F.when(is_known, low).alias(f"__low_{column}"), F.when(is_known, high).alias(f"__high_{column}")]


def _middle(numbers: Column) -> Column:
    """The median of a sorted array; null of an empty one."""
    size = F.size(numbers)
    lower, upper = F.get(numbers, F.floor((size - 1) / 2).cast("int")), F.get(numbers, F.floor(size / 2).cast("int"))
    return (lower + upper) / 2


def _treat(rows: DataFrame, column: str, rule: OutlierRule, *, is_whole: bool) -> DataFrame:
    """Apply one rule; whole numbers are clipped to whole ones inside the fences."""
    value, low, high = F.col(f"`{column}`"), F.col(f"`__low_{column}`"), F.col(f"`__high_{column}`")
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
