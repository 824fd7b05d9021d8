"""Suspicious cells of good rows: found by rules mined from the same rows, then flagged, repaired or refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark.cleaning.associations import sample_of, value_rules
from dlmine_spark.cleaning.dependencies import Dependency, find_dependencies
from dlmine_spark.cleaning.patterns import Format, formats_of, with_structural_blanks
from dlmine_spark.cleaning.plan import REASONS, REPAIRS, SQL_TYPES, SUSPICIONS, WARNINGS, reason, repair
from dlmine_spark.cleaning.suspicion import (
    CANDIDATE,
    CONFIDENCE,
    PROPOSED,
    RULE,
    SUSPICION,
    dependency_candidates,
    format_candidates,
    spelling_candidates,
    weigh,
)
from dlmine_spark.cleaning.texts import (
    COLUMN,
    ROW_ID,
    ColumnFacts,
    as_text,
    facts_of,
    may_repeat,
    row_id,
    texts_of,
    value_counts,
    with_counts,
)
from dlmine_spark.config import ColumnConfig, MinedRules

log = logging.getLogger(__name__)

_BY_COLUMN = "__by_column"
_ENTRY = (
    "struct<column: string, value: string, proposed: string, rule: string, confidence: double, suspicion: double, "
    "applied: boolean>"
)


@dataclass(frozen=True)
class Quality:
    """What was mined from a table."""

    columns: tuple[ColumnFacts, ...]
    """The columns looked at; their places are those that suspicions name."""
    dependencies: tuple[Dependency, ...]
    formats: tuple[Format, ...]


def mine_quality(
    rows: DataFrame, columns: Mapping[str, ColumnConfig], settings: MinedRules
) -> tuple[Quality, DataFrame]:
    """Find the rules of a table, and lazily the cells that break them.

    Runs a number of actions that depends on the number of columns only (counts of values, of patterns, and of pairs of
    columns a few hundred at a time) and collects some rows for each.

    Args:
        rows: good rows with their ``ORDER`` columns, cheap to read several times.
        columns: declarations with types.
        settings: which columns, dependencies and thresholds.

    Returns:
        The rules, and the suspicious cells as ``CANDIDATE``, one row per cell.
    """
    wanted = [name for name in columns if name in rows.columns and (not settings.columns or name in settings.columns)]
    wanted += [name for name in settings.columns if name in rows.columns and name not in wanted]
    texts = texts_of(rows, {name: dict(rows.dtypes)[name] for name in wanted})
    chosen = choose_columns(facts_of(texts, wanted), settings.max_columns)
    repeating = [facts for facts in chosen if may_repeat(facts)]
    if not chosen:
        return Quality((), (), ()), _nothing(rows)
    counts = value_counts(texts, repeating) if repeating else None
    facts = chosen
    if counts is not None:
        counted = {one.place: one for one in with_counts(repeating, counts)}
        facts = [counted.get(one.place, one) for one in chosen]
    dependencies = find_dependencies(texts, facts, settings) if counts is not None else []
    if counts is not None:
        dependencies += value_rules(sample_of(texts, facts, settings.sample_rows), dependencies, settings)
    formats = with_structural_blanks(texts, formats_of(texts, facts))
    strings = [name for name, type_ in rows.dtypes if type_ == "string"]
    found: list[DataFrame] = []
    if counts is not None and dependencies:
        found.append(dependency_candidates(texts, facts, dependencies, counts))
    spelled = [one for one in facts if one.is_category and one.name in strings]
    if counts is not None and spelled:
        found.append(spelling_candidates(texts, spelled, counts))
    written = format_candidates(texts, facts, formats, strings)
    if written is not None:
        found.append(written)
    candidates = found[0].select(*CANDIDATE) if found else _nothing(rows)
    for one in found[1:]:
        candidates = candidates.unionByName(one.select(*CANDIDATE))
    suspicious = weigh(candidates).where(F.col(SUSPICION) >= settings.min_suspicion)
    return Quality(tuple(facts), tuple(dependencies), tuple(formats)), suspicious


def choose_columns(facts: Sequence[ColumnFacts], most: int) -> list[ColumnFacts]:
    """The columns worth looking at, renumbered; those whose values return first, and constants not at all."""
    varied = [one for one in facts if one.known > 0 and (one.distinct > 1 or one.known < one.rows)]
    if len(varied) > most:
        ordered = sorted(varied, key=lambda one: (not may_repeat(one), one.place))
        left_out = ", ".join(one.name for one in ordered[most:][:20])
        log.warning(
            "mined rules: %d of %d columns are looked at (mined.max_columns); left out: %s%s",
            most,
            len(varied),
            left_out,
            " ..." if len(varied) > most + 20 else "",
        )
        varied = sorted(ordered[:most], key=lambda one: one.place)
    return [replace(one, place=place) for place, one in enumerate(varied)]


def treat_suspicious(
    rows: DataFrame,
    suspicious: DataFrame,
    quality: Quality,
    columns: Mapping[str, ColumnConfig],
    settings: MinedRules,
    key: Sequence[str] = (),
) -> DataFrame:
    """Do with suspicious cells what the settings say.

    Args:
        rows: good rows with ``REASONS``, ``REPAIRS``, ``WARNINGS`` and their ``ORDER`` columns.
        suspicious: of these rows, one row per cell.
        quality: whose columns ``suspicious`` names by place.
        columns: declarations with types.
        settings: from which confidence a repair is applied, and from which suspicion a row is refused.
        key: columns that identify a row; these are never repaired, or rows would become each other's versions.

    Returns:
        The same rows with ``SUSPICIONS``. A repair that is applied changes the value and adds to ``REPAIRS``; a cell
        that is only flagged adds to ``WARNINGS``, or to ``REASONS`` where its suspicion is high enough for that.
    """
    entry = F.struct(PROPOSED, RULE, CONFIDENCE, SUSPICION)
    by_row = suspicious.groupBy(ROW_ID).agg(
        F.map_from_entries(F.collect_list(F.struct(F.col(COLUMN), entry.alias("cell")))).alias(_BY_COLUMN)
    )
    joined = rows.withColumn(ROW_ID, row_id()).join(by_row, on=ROW_ID, how="left")
    is_suspicious = F.col(_BY_COLUMN).isNotNull()
    values: dict[str, Column] = {}
    found, repairs, warnings, reasons = [], [], [], []
    types = dict(rows.dtypes)
    for facts in quality.columns:
        name, value = facts.name, F.col(f"`{facts.name}`")
        cell = F.col(_BY_COLUMN)[F.lit(facts.place)]
        type_ = SQL_TYPES[columns[name].type or "string"] if name in columns else types[name]
        new = cell[PROPOSED].try_cast(type_)
        is_applied = F.lit(False)
        may_change = name in (settings.repair_columns or types) and name not in key
        if settings.apply_above is not None and may_change:
            is_applied = F.coalesce(new.isNotNull() & (cell[CONFIDENCE] >= settings.apply_above), F.lit(False))
        is_refused = F.lit(False)
        if settings.quarantine_above is not None:
            is_refused = ~is_applied & F.coalesce(cell[SUSPICION] >= settings.quarantine_above, F.lit(False))
        text = as_text(name, types[name])
        found.append(
            F.when(
                cell.isNotNull(),
                F.struct(
                    F.lit(name).alias("column"),
                    text.alias("value"),
                    cell[PROPOSED].alias("proposed"),
                    cell[RULE].alias("rule"),
                    F.when(cell[PROPOSED].isNotNull(), cell[CONFIDENCE]).alias("confidence"),
                    cell[SUSPICION].alias("suspicion"),
                    is_applied.alias("applied"),
                ).cast(_ENTRY),
            )
        )
        repairs.append(F.when(is_applied, _repair(name, text, new, cell[RULE])))
        warnings.append(F.when(cell.isNotNull() & ~is_applied & ~is_refused, F.lit(f"suspicious:{name}")))
        message = F.concat(
            F.lit("breaks what the data says of it ("), cell[RULE], F.lit("): "), F.coalesce(text, F.lit(""))
        )
        reasons.append(F.when(is_refused, reason("suspicious", name, message)))
        if settings.apply_above is not None and may_change:
            values[name] = F.when(is_suspicious & is_applied, new).otherwise(value)

    def added(entries: str, more: list[Column]) -> Column:
        # Most rows have no suspicious cell: asking first spares them the making of an array.
        compact = F.array_compact(F.array(*more))
        return F.when(is_suspicious, F.concat(F.col(entries), compact)).otherwise(F.col(entries))

    if not quality.columns:
        return rows.withColumn(SUSPICIONS, F.array().cast(f"array<{_ENTRY}>"))
    made = joined.withColumns(
        {
            SUSPICIONS: F.when(is_suspicious, F.array_compact(F.array(*found))),
            REPAIRS: added(REPAIRS, repairs),
            WARNINGS: added(WARNINGS, warnings),
            REASONS: added(REASONS, reasons),
            **values,
        }
    )
    return made.select(*rows.columns, SUSPICIONS)


def _repair(name: str, old: Column, new: Column, rule: Column) -> Column:
    """An entry of ``REPAIRS`` whose rule depends on the row."""
    return repair(name, old, new, "mined").withField("rule", rule)


def _nothing(rows: DataFrame) -> DataFrame:
    types = {
        ROW_ID: "bigint",
        COLUMN: "int",
        PROPOSED: "string",
        RULE: "string",
        CONFIDENCE: "double",
        SUSPICION: "double",
    }
    return rows.sparkSession.createDataFrame([], ", ".join(f"{name} {type_}" for name, type_ in types.items()))
