"""Rules about whole data sets as a part of ``clean``: how old a source is, and how far it differs from the run before.

They are asked once all rows have their verdict, and before the first silver table is changed. What the next run is
compared with (``ops.profiles``) is kept last of all: a run that failed is nobody's measure.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.drift import changes
from dlmine_spark.cleaning.statistics import Statistic, age_in_days, measure, newest_of, profile_of, statistics_of
from dlmine_spark.config import Config, Freshness, SourceConfig
from dlmine_spark.errors import SourceError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.parallel import in_parallel
from dlmine_spark.pipelines.subjects import Judged

log = logging.getLogger(__name__)

_PROFILED_AT = "profiled_at"


@dataclass(frozen=True, slots=True)
class Finding:
    """A source that is too old, or differs too much from the run before; ``stops``: whether the run has to end."""

    source: str
    rule: str
    column: str
    message: str
    stops: bool


@dataclass(frozen=True, slots=True)
class DataSets:
    """What was found of the sources as a whole.

    Attributes:
        findings: those that only warn.
        statistics: by source, to be kept once the run has changed the silver tables.
        at: when.
    """

    findings: tuple[Finding, ...]
    statistics: Mapping[str, Sequence[Statistic]]
    at: datetime


def check_data_sets(
    config: Config, lakehouse: Lakehouse, judged: Mapping[str, Judged], good: Mapping[str, DataFrame], now: datetime
) -> DataSets:
    """Hold every source against its ``freshness`` and ``drift``; those without either are not even read.

    A source that new files are added to is measured as a whole, with its earlier rows.

    Runs one aggregation per source, and two small queries for its earlier statistics.

    Raises:
        SourceError: of every rule whose action is ``error`` and that is broken.
    """
    asked = {
        name: source
        for name, source in config.sources.items()
        if (source.freshness or source.drift) and judged[name].scope != "none"
    }
    statistics = in_parallel(
        lakehouse.spark, {name: partial(_measure, config.sources[name], judged[name], good[name]) for name in asked}
    )
    findings: list[Finding] = []
    for name, source in asked.items():
        findings += _stale(name, source, statistics[name], now)
        findings += _drifted(lakehouse, name, source, statistics[name])
    unchanged = [name for name in config.sources if judged[name].scope == "none"]
    findings += _still_stale(config, lakehouse, unchanged, now)
    return DataSets(_heeded(findings), statistics, now)


def check_still_fresh(config: Config, lakehouse: Lakehouse, now: datetime) -> None:
    """Ask ``freshness`` again of sources that did not change since they were cleaned: nothing new is how data gets old.

    Raises:
        SourceError: as ``check_data_sets`` does.
    """
    _heeded(list(_still_stale(config, lakehouse, config.sources, now)))


def _still_stale(config: Config, lakehouse: Lakehouse, names: Iterable[str], now: datetime) -> Iterator[Finding]:
    for name in names:
        source = config.sources[name]
        if source.freshness is not None and (kept := _kept(lakehouse, name, "newest")):
            yield from _stale(name, source, kept, now)


def keep_statistics(lakehouse: Lakehouse, found: DataSets) -> None:
    """Add the statistics of this run to ``ops.profiles``, which the next one is compared with."""
    rows = [(lakehouse.run_id, name, *one) for name, statistics in found.statistics.items() for one in statistics]
    if not rows:
        return
    types = f"{s.RUN_ID} string, source string, column string, statistic string, bucket string, value double"
    kept = lakehouse.spark.createDataFrame(rows, types)
    # A number instead of a time: Python's would pass through the zone of this machine.
    at = F.timestamp_micros(F.lit(round(found.at.timestamp() * 1_000_000)))
    lakehouse.append(s.PROFILES.name, kept.withColumn(_PROFILED_AT, at))


def _heeded(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Stop for what has to stop the run, and warn of the rest."""
    stopping = [finding.message for finding in findings if finding.stops]
    if stopping:
        raise SourceError(f"{'; '.join(stopping)}; no silver table was changed")
    for finding in findings:
        log.warning("%s", finding.message)
    return tuple(findings)


def _measure(source: SourceConfig, judged: Judged, good: DataFrame) -> list[Statistic]:
    compared: list[str] = []
    if source.drift is not None and source.kind != "baskets":
        compared = list(source.drift.columns) or [name for name in judged.columns if name in good.columns]
    newest = _column_of(source, source.freshness) if source.freshness is not None else None
    return statistics_of(measure(good, compared, newest).collect()[0], compared, newest)


def _column_of(source: SourceConfig, freshness: Freshness) -> str:
    return freshness.column or str(source.time)


def _stale(name: str, source: SourceConfig, statistics: Sequence[Statistic], now: datetime) -> Iterator[Finding]:
    rule = source.freshness
    if rule is None:
        return
    column, newest = _column_of(source, rule), newest_of(statistics)
    is_date = source.column_type(column) == "date"
    age = age_in_days(newest[0], now, is_date=is_date) if newest is not None else None
    if age is not None and age <= rule.max_age_days:
        return
    found = f"holds no value in any row, so nobody knows how old it is; sources.{name}.freshness allows"
    if newest is not None and age is not None:
        found = f"ends at {newest[1]}, {age:.4g} days ago; sources.{name}.freshness.max_age_days is"
    message = f"{source.path} (source {name}): column {source.columns[column].source or column} ({column}) {found}"
    yield Finding(name, "freshness", column, f"{message} {rule.max_age_days:g}", rule.action == "error")


def _drifted(
    lakehouse: Lakehouse, name: str, source: SourceConfig, statistics: Sequence[Statistic]
) -> Iterator[Finding]:
    if source.drift is None:
        return
    before, now = profile_of(_kept(lakehouse, name, "rows")), profile_of(statistics)
    if before is None or now is None:
        log.debug("source %s: there is no earlier run to compare with", name)
        return
    stops = source.drift.action == "error"
    for change in changes(before, now, source.drift):
        hint = f"; if that is right, run once with --set sources.{name}.drift.action=warn" if stops else ""
        message = f"{source.path} (source {name}): {change.message}{hint}"
        yield Finding(name, change.rule, change.column, message, stops)


def _kept(lakehouse: Lakehouse, name: str, statistic: str) -> list[Statistic]:
    """The newest statistics of a source of a run that had this one; none at first (two small queries)."""
    if not lakehouse.exists(s.PROFILES.name):
        return []
    of_source = lakehouse.read(s.PROFILES.name).where(F.col("source") == name)
    with_it = of_source.where(F.col("statistic") == statistic)
    newest = with_it.agg(F.max(F.unix_micros(_PROFILED_AT)).alias("at")).collect()[0]["at"]
    of_run = of_source.where(F.unix_micros(_PROFILED_AT) == F.lit(newest))
    return [Statistic(*row) for row in of_run.select(*Statistic._fields).collect()]
