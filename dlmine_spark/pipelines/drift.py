"""Drift: the rules of the last mining beside those of an earlier one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.caching import kept
from dlmine_spark.config import Config
from dlmine_spark.errors import TableContractError
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining import drift
from dlmine_spark.mining.drift import Mining
from dlmine_spark.pipelines.common import number
from dlmine_spark.runs import DONE, Run

log = logging.getLogger(__name__)

SHOWN = 20
"""Rules in the printed table."""
_GONE = ("FILE_NOT_EXIST", "FileNotFoundException", "DELTA_FILE_NOT_FOUND", "No such file")


@dataclass(frozen=True, slots=True)
class MinedVersion:
    """A version of ``gold.rules`` that a finished run wrote.

    Attributes:
        rules, itemsets: versions of both tables.
        baskets: how many were mined.
        config_hash: of the settings of mining.
    """

    rules: int
    itemsets: int
    baskets: int
    config_hash: str


def run(config: Config, lakehouse: Lakehouse, mined: Run, since: int | None) -> tuple[str, str]:
    """Compare the rules of a run with an earlier version of ``gold.rules``, and write ``gold.rule_drift``.

    Args:
        config: the whole configuration.
        lakehouse: the tables, not bound to a run.
        mined: the last run of mine.
        since: version of ``gold.rules`` to compare with; default: the last one with other rules.

    Returns:
        What differs, in one line, and a table of the rules that differ most (empty where none does).

    Raises:
        TableContractError: no finished run wrote that version, or it was vacuumed.
    """
    versions = _versions(lakehouse)
    last = versions[mined.output_versions[s.RULES.name]]
    earlier = {version: one for version, one in versions.items() if version < last.rules}
    if since is not None and since not in earlier:
        raise TableContractError(
            f"{s.RULES.name}: there is no version {since} before the last one, {last.rules}, that a finished run of "
            f"mine wrote; there are: {', '.join(map(str, earlier)) or 'none'}"
        )
    before = _last_other(lakehouse, earlier, last) if since is None else earlier[since]
    if before is None:
        return f"{s.RULES.name} has no earlier version with other rules than version {last.rules}", ""
    if before.config_hash != last.config_hash:
        log.warning(
            "the settings of mining were others at version %d: rules may have come or gone for that", before.rules
        )
    with _readable(lakehouse, before, earlier):
        sides = _mining(lakehouse, before), _mining(lakehouse, last)
        hypotheses = drift.count_hypotheses(sides[0].itemsets, sides[1].itemsets, config.mining.max_consequent)
        with kept(drift.with_p_values(*sides)) as tested:
            found = drift.drifted(tested, hypotheses, config.mining.max_q)
            numbers = {"version_before": F.lit(before.rules), "version_after": F.lit(last.rules)}
            lakehouse.overwrite(s.RULE_DRIFT.name, found.withColumns(numbers))
    drifted = lakehouse.read(s.RULE_DRIFT.name)
    return _told(drifted, before, last, config.mining.max_q), _shown(drifted)


def _versions(lakehouse: Lakehouse) -> dict[int, MinedVersion]:
    """Versions of ``gold.rules`` that finished runs wrote, ascending; one a run is collected."""
    runs = lakehouse.read(s.RUNS.name).where((F.col("stage") == "mine") & (F.col("status") == DONE))
    rows = runs.select("output_versions", "rows_in", "config_hash").collect()
    found = {
        row["output_versions"][s.RULES.name]: MinedVersion(
            row["output_versions"][s.RULES.name],
            row["output_versions"][s.ITEMSETS.name],
            row["rows_in"],
            row["config_hash"],
        )
        for row in rows
        if s.RULES.name in row["output_versions"]
    }
    return dict(sorted(found.items()))


def _last_other(lakehouse: Lakehouse, earlier: Mapping[int, MinedVersion], last: MinedVersion) -> MinedVersion | None:
    """The newest of the earlier versions whose rules are not those of the last; looks at one after the other."""
    own = _digest(lakehouse, last)
    for version in reversed(list(earlier.values())):
        with _readable(lakehouse, version, earlier):
            if _digest(lakehouse, version) != own:
                return version
    return None


def _digest(lakehouse: Lakehouse, version: MinedVersion) -> tuple[int, int, int | None]:
    """What tells the rules of one version from those of another."""
    names = (*s.RULES.names[:2], "support", "confidence", "lift", "is_kept")
    row = (
        lakehouse.read(s.RULES.name, version.rules)
        .agg(F.count(F.lit(1)).alias("rules"), F.bit_xor(F.xxhash64(*names)).alias("digest"))
        .collect()[0]
    )
    return version.baskets, row["rules"], row["digest"]


def _mining(lakehouse: Lakehouse, version: MinedVersion) -> Mining:
    return Mining(
        lakehouse.read(s.RULES.name, version.rules),
        lakehouse.read(s.ITEMSETS.name, version.itemsets),
        version.baskets,
    )


@contextmanager
def _readable(lakehouse: Lakehouse, wanted: MinedVersion, earlier: Mapping[int, MinedVersion]) -> Iterator[None]:
    """Say of a version that cannot be read any more which others can."""
    try:
        yield
    except (PySparkException, Py4JJavaError, TableContractError) as error:
        gone = [name for name in _tables(wanted) if not _can_read(lakehouse, name, _tables(wanted)[name])]
        if not gone:
            raise
        there = [
            version
            for version, one in earlier.items()
            if all(_can_read(lakehouse, name, number) for name, number in _tables(one).items())
        ]
        raise TableContractError(
            f"{gone[0]}: version {_tables(wanted)[gone[0]]} (of {s.RULES.name} version {wanted.rules}) was vacuumed; "
            f"versions of {s.RULES.name} to compare with: {', '.join(map(str, there)) or 'none'} (--since VERSION)"
        ) from error


def _tables(version: MinedVersion) -> dict[str, int]:
    return {s.RULES.name: version.rules, s.ITEMSETS.name: version.itemsets}


def _can_read(lakehouse: Lakehouse, table: str, version: int) -> bool:
    """Whether every file of a version is still there."""
    try:
        # Columns have to be read: a count alone is answered from the log.
        frame = lakehouse.read(table, version)
        frame.agg(F.max(F.hash(*frame.columns))).collect()
    except (PySparkException, Py4JJavaError, TableContractError) as error:
        if isinstance(error, TableContractError) or any(word in str(error) for word in _GONE):
            return False
        raise
    return True


def _told(drifted: DataFrame, before: MinedVersion, last: MinedVersion, max_q: float) -> str:
    counts = {
        row["status"]: (row["rules"], row["significant"])
        for row in drifted.groupBy("status")
        .agg(F.count(F.lit(1)).alias("rules"), F.count_if(F.col("q_value") <= max_q).alias("significant"))
        .collect()
    }
    parts = []
    for status in drift.STATUSES:
        rules, significant = counts.get(status, (0, 0))
        beyond = f" ({significant:,} beyond chance)" if status in (drift.APPEARED, drift.VANISHED) and rules else ""
        parts.append(f"{rules:,} {status}{beyond}")
    return (
        f"{s.RULES.name} version {before.rules} ({before.baskets:,} baskets) to {last.rules} ({last.baskets:,}): "
        f"rules {', '.join(parts)}"
    )


def _shown(drifted: DataFrame) -> str:
    """The rules that were or are kept and differ most, for the terminal."""
    change = F.abs(F.col("confidence_after") - F.col("confidence_before"))
    rows = (
        drifted.where((F.col("kept_before") | F.col("kept_after")) & (F.col("status") != drift.SAME))
        .orderBy(F.asc_nulls_last("q_value"), F.desc_nulls_last(change), "antecedent", "consequent")
        .limit(SHOWN)
        .toPandas()
    )
    if rows.empty:
        return ""
    table = pd.DataFrame(
        {
            "rule": [
                f"{', '.join(left)} => {', '.join(right)}"
                for left, right in zip(rows["antecedent"], rows["consequent"], strict=True)
            ],
            "status": rows["status"],
            **{
                name: [
                    f"{number(old)} > {number(new)}"
                    for old, new in zip(rows[f"{name}_before"], rows[f"{name}_after"], strict=True)
                ]
                for name in ("support", "confidence", "lift")
            },
            "q": [number(q) for q in rows["q_value"]],
        }
    )
    return str(table.to_string(index=False))
