"""Covariates of any type as numbers without nulls, by statistics of the time up to a cutoff only.

Numbers are standardised (0/1 columns are left as they are), text known in advance becomes one indicator per frequent
value, text attributes become codes. A null is the mean, no indicator, or code 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s

MAX_INDICATORS = 12
"""Values of a text covariate that get an indicator of their own; the rarer ones share ``other``."""
MAX_CODES = 256
"""Values of a text attribute that get a code of their own; the rarer ones are code 0, like unknown ones."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Mean and standard deviation of a numeric column; (0, 1) leaves it as it is."""

    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class Encoding:
    """What was learned about columns up to a cutoff."""

    numeric: Mapping[str, Scaling]
    values: Mapping[str, tuple[str, ...]]
    """Frequent values of a text column, most frequent first."""


def dates_as_days(frame: DataFrame, columns: Iterable[str]) -> DataFrame:
    """The frame with those of its columns that are dates or times as days since 1970, which are numbers."""
    types = dict(frame.dtypes)
    days = {}
    for name in columns:
        if types[name] == "date":
            days[name] = F.unix_date(F.col(f"`{name}`")).cast("double")
        elif types[name].startswith("timestamp"):
            days[name] = F.unix_seconds(F.col(f"`{name}`").cast("timestamp")) / 86_400.0
    return frame.withColumns(days) if days else frame


def learn_encoding(frame: DataFrame, columns: Sequence[str], *, max_values: int) -> Encoding:
    """Statistics of some columns of a frame that ends at the cutoff.

    Runs one aggregation for all numeric columns and one top-``max_values`` count per text column; both are small.
    """
    types = dict(frame.dtypes)
    text = [name for name in columns if types[name] == "string"]
    numeric = [name for name in columns if name not in text]
    return Encoding(_scalings(frame, numeric), {name: _frequent_values(frame, name, max_values) for name in text})


def _scalings(frame: DataFrame, names: Sequence[str]) -> dict[str, Scaling]:
    if not names:
        return {}
    statistics = []
    for name in names:
        value = F.col(f"`{name}`").cast("double")
        value = F.when(~F.isnan(value), value)
        statistics += [
            F.avg(value).alias(f"mean:{name}"),
            F.stddev_pop(value).alias(f"sd:{name}"),
            F.min(value).alias(f"min:{name}"),
            F.max(value).alias(f"max:{name}"),
        ]
    row = frame.agg(*statistics).collect()[0].asDict()

    def scaling(name: str) -> Scaling:
        mean, sd = row[f"mean:{name}"], row[f"sd:{name}"]
        low, high = row[f"min:{name}"], row[f"max:{name}"]
        if mean is None or (low >= 0 and high <= 1):
            return Scaling(0.0, 1.0)
        return Scaling(float(mean), float(sd) if sd else 1.0)

    return {name: scaling(name) for name in names}


def _frequent_values(frame: DataFrame, name: str, limit: int) -> tuple[str, ...]:
    column = F.col(f"`{name}`")
    rows = (
        frame.where(column.isNotNull() & (column != ""))
        .groupBy(column.alias("value"))
        .count()
        .orderBy(F.desc("count"), "value")
        .limit(limit)
        .collect()
    )
    return tuple(row["value"] for row in rows)


def encoded(names: Iterable[str], encoding: Encoding, prefix: str) -> dict[str, Column]:
    """Columns of doubles without nulls by name: ``<prefix><name>`` or ``<prefix><name>_<value>``."""
    columns: dict[str, Column] = {}
    for name in names:
        source = F.col(f"`{name}`")
        if name in encoding.numeric:
            columns[f"{prefix}{slug(name)}"] = standardised(source, encoding.numeric[name])
            continue
        values = encoding.values[name]
        for value in values:
            columns[_unused(f"{prefix}{slug(name)}_{slug(value)}", columns)] = _indicator(source == value)
        is_other = source.isNotNull() & (source != "") & ~source.isin(*values)
        columns[_unused(f"{prefix}{slug(name)}_other", columns)] = _indicator(is_other)
    return columns


def codes(names: Iterable[str], encoding: Encoding) -> dict[str, Column]:
    """Whole-numbered codes of text attributes, 1 for the most frequent value, 0 for null, rare and unseen ones."""
    return {
        f"{s.CATEGORY_PREFIX}{slug(name)}": F.coalesce(
            F.array_position(F.array(*(F.lit(value) for value in encoding.values[name])), F.col(f"`{name}`")),
            F.lit(0),
        ).cast("double")
        if encoding.values[name]
        else F.lit(0.0)
        for name in names
    }


def standardised(column: Column, scaling: Scaling) -> Column:
    """``(column - mean) / sd``, with nulls and NaN at the mean."""
    value = column.cast("double")
    return F.when(value.isNull() | F.isnan(value), F.lit(0.0)).otherwise(
        (value - F.lit(scaling.mean)) / F.lit(scaling.sd)
    )


def _indicator(condition: Column) -> Column:
    return F.coalesce(condition, F.lit(False)).cast("double")


def slug(text: str) -> str:
    """A column name that Delta and people accept."""
    return re.sub(r"\W+", "_", text.strip().lower())[:40].strip("_") or "value"


def _unused(name: str, taken: Mapping[str, Column]) -> str:
    """The name, numbered if two values differ only by signs that names cannot have."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate
