"""Statistics of a source's rows as a whole, measured in one aggregation whose result is small."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from dlmine_spark.cleaning.drift import ColumnProfile, Profile

STEPS = 50
"""Quantiles lie 2 % apart: a difference between shares is known as exactly."""
_ACCURACY = 1_000
"""A quantile's place among the sorted values is right to one part in as many."""
_MOST_FREQUENT, _TRACKED = 50, 2_000
_LETTERS = 100
"""Texts that begin with the same letters count as one: a field of ten megabytes must not be kept."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Statistic(NamedTuple):
    """A row of ``ops.profiles`` without its run: what a number is about, and the number."""

    column: str
    statistic: str
    bucket: str
    value: float


def measure(rows: DataFrame, compared: Sequence[str], newest: str | None) -> DataFrame:
    """One row of statistics, for ``statistics_of``; lazily, one aggregation without a shuffle of the rows.

    Quantiles and frequent texts are approximate, from sketches of a fixed size (Greenwald and Khanna 2001; Misra and
    Gries 1982): exact ones would hold every value of a column on one executor. On a few thousand values they are exact.

    Args:
        rows: good rows.
        compared: columns with statistics of their own; dates and times only count their blanks.
        newest: the date or timestamp whose largest value is wanted.
    """
    types = dict(rows.dtypes)
    wanted = [F.count(F.lit(1)).alias("rows")]
    for place, name in enumerate(compared):
        cell = F.col(f"`{name}`")
        wanted.append(F.count(cell).alias(f"known_{place}"))
        if types[name] == "double":
            levels = [step / STEPS for step in range(STEPS + 1)]
            wanted.append(F.approx_percentile(cell, levels, _ACCURACY).alias(f"quantiles_{place}"))
        elif types[name] == "string":
            top = f"approx_top_k(substring(`{name}`, 1, {_LETTERS}), {_MOST_FREQUENT}, {_TRACKED})"
            wanted.append(F.expr(top).alias(f"frequent_{place}"))
    if newest is not None:
        last = F.max(F.col(f"`{newest}`"))
        is_date = types[newest] == "date"
        since_epoch = F.unix_date(last) * 86_400.0 if is_date else F.unix_micros(last) / 1e6
        wanted += [since_epoch.alias("newest"), last.cast("string").alias("newest_text")]
    return rows.agg(*wanted)


def statistics_of(measured: Row, compared: Sequence[str], newest: str | None) -> list[Statistic]:
    """The statistics that ``measure`` has put into one row, with the same arguments.

    ``rows``: how many; ``blanks``: share of them without a value; ``quantile``: at the level ``bucket``; ``share``: of
    the text ``bucket`` among the known values; ``newest``: in seconds since 1970, and as ``bucket`` in words.
    """
    cells: dict[str, Any] = measured.asDict()
    rows = cells["rows"]
    found = [Statistic("", "rows", "", float(rows))]
    for place, name in enumerate(compared):
        known = cells[f"known_{place}"]
        if rows:
            found.append(Statistic(name, "blanks", "", 1 - known / rows))
        quantiles = cells.get(f"quantiles_{place}") or []
        found += [Statistic(name, "quantile", f"{step / STEPS:.2f}", value) for step, value in enumerate(quantiles)]
        frequent = [entry for entry in cells.get(f"frequent_{place}") or [] if entry["item"] is not None]
        found += [Statistic(name, "share", entry["item"], entry["count"] / known) for entry in frequent]
    if newest is not None and cells["newest"] is not None:
        found.append(Statistic(newest, "newest", cells["newest_text"], cells["newest"]))
    return found


def profile_of(statistics: Iterable[Statistic]) -> Profile | None:
    """The profile that statistics make up; None where they do not say how many rows there were."""
    rows: int | None = None
    blanks: dict[str, float] = {}
    quantiles: dict[str, list[tuple[str, float]]] = {}
    shares: dict[str, dict[str, float]] = {}
    for column, statistic, bucket, value in statistics:
        if statistic == "rows":
            rows = int(value)
        elif statistic == "blanks":
            blanks[column] = value
        elif statistic == "quantile":
            quantiles.setdefault(column, []).append((bucket, value))
        elif statistic == "share":
            shares.setdefault(column, {})[bucket] = value
    if rows is None:
        return None
    columns = {
        name: ColumnProfile(share, tuple(value for _, value in sorted(quantiles.get(name, []))), shares.get(name, {}))
        for name, share in blanks.items()
    }
    return Profile(rows, columns)


def newest_of(statistics: Iterable[Statistic]) -> tuple[datetime, str] | None:
    """The newest value and how it is written; a date as its midnight in UTC. None where no row has one."""
    for _, statistic, bucket, value in statistics:
        if statistic == "newest":
            return _EPOCH + timedelta(seconds=value), bucket
    return None


def age_in_days(newest: datetime, now: datetime, *, is_date: bool) -> float:
    """How old a value is; a date in whole days of the calendar (UTC), whatever the hour."""
    if is_date:
        return float((now.astimezone(UTC).date() - newest.date()).days)
    return (now - newest) / timedelta(days=1)
