"""Approximate functional dependencies: which columns' values say what another column's value is.

The error of ``X -> Y`` is g3 (Kivinen and Mannila 1995; Huhtala et al., TANE, 1999): the least share of rows to remove
for the dependency to hold, here of the rows in groups of two or more, since a group of one proves nothing. A column of
one usual value would be determined by everything, so two rows of a group must also agree much more often than two rows
drawn by chance (Cohen's kappa with the pairwise agreement of a leave-one-out vote).

Pairs of columns are looked at many at a time: one aggregation takes some hundred of them, over a bounded sample of the
left side's values, which keeps groups whole. What is collected is one row per pair of columns.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark.cleaning.texts import ROW_ID, ColumnFacts
from dlmine_spark.config import MinedRules

log = logging.getLogger(__name__)

PAIRS_AT_ONCE = 400
"""Pairs of columns an aggregation: each turns a row into one entry."""
MOST_COMBINATIONS = 400
"""Left sides of two columns that are tried, the most promising first."""
MOST_DETERMINANTS = 6
"""Dependencies kept for a column: further ones repeat what these say."""
FEWEST_ROWS = 20
"""Rows in groups of two or more, without which nothing is found."""
FEWEST_GROUPED = 0.05
"""Share of a table's rows in such groups; a left side with less is an identifier with a few copies."""
MOST_CARDINALITY = 0.5
"""A left side with fewer values than this share of the right side's cannot determine it."""
WELL_MIXED = 1_000
"""Groups in a sample, and rows in a group, that are enough."""
_HASH_RANGE = 1 << 30
_PAIR, _LEFT, _RIGHT, _COPIES = "pair", "left", "right", "copies"


@dataclass(frozen=True, slots=True)
class Dependency:
    """``determinant -> dependent``, and how well it holds."""

    determinant: tuple[str, ...]
    dependent: str
    error: float
    """g3: share of ``rows`` to remove for it to hold."""
    agreement: float
    """Kappa of two rows of a group: 1 for always, 0 for no more than by chance."""
    groups: int
    """Groups of two rows or more."""
    rows: int
    """Rows in them."""
    variety: float = 0.0
    """Share of the rows to remove whose value returns in its group: slips are all different, variants are not."""
    value: str | None = None
    """Of the determinant, if the dependency is one of rows with this value only (``associations``)."""
    usual: tuple[str, ...] = ()
    """The values that the dependent has then, where they are several."""

    def __str__(self) -> str:
        value = "" if self.value is None else f"={self.value}"
        return f"{'+'.join(self.determinant)}{value}->{self.dependent}"


@dataclass(frozen=True, slots=True)
class _Candidate:
    left: tuple[ColumnFacts, ...]
    right: ColumnFacts


def find_dependencies(texts: DataFrame, columns: Sequence[ColumnFacts], settings: MinedRules) -> list[Dependency]:
    """Mine ``X -> Y`` between columns, then ``X1, X2 -> Y`` for those that no single column determines.

    Runs an action per ``PAIRS_AT_ONCE`` candidates and collects a row for each.

    Args:
        texts: the columns as text, with ``ROW_ID``.
        columns: what is known of them, from ``with_counts``.
        settings: thresholds, and the dependencies declared, which are measured like the others.

    Returns:
        The declared ones that any two rows speak of, then the best ``MOST_DETERMINANTS`` of each column.
    """
    categories = [facts for facts in columns if facts.is_category]
    single = [
        _Candidate((left,), right)
        for left in categories
        for right in categories
        if left.name != right.name and left.repeated >= MOST_CARDINALITY * right.repeated
    ]
    measured = measure(texts, single, settings)
    found = [dependency for dependency in measured if _holds(dependency, columns, settings)]
    found += [
        dependency
        for dependency in measure(texts, _combinations(categories, measured, found), settings)
        if _holds(dependency, columns, settings) and dependency.rows >= 0.3 * columns[0].rows
    ]
    by_name = {facts.name: facts for facts in columns}
    declared = [
        _Candidate(tuple(by_name[name] for name in rule.determinant), by_name[rule.dependent])
        for rule in settings.dependencies
        if {*rule.determinant, rule.dependent} <= by_name.keys()
    ]
    return _best(measure(texts, declared, settings), found)


def measure(texts: DataFrame, candidates: Sequence[_Candidate], settings: MinedRules) -> list[Dependency]:
    """How well each candidate holds, in the order given (an action per ``PAIRS_AT_ONCE``); those without groups out."""
    by_left: dict[tuple[ColumnFacts, ...], list[_Candidate]] = {}
    for candidate in candidates:
        by_left.setdefault(candidate.left, []).append(candidate)
    found = []
    for batch in _batches(list(by_left.values())):
        numbered = [candidate for group in batch for candidate in group]
        for row in _statistics(texts, batch, settings).collect():
            candidate = numbered[row[_PAIR]]
            chance = min(candidate.right.chance, 1 - 1e-9)
            found.append(
                Dependency(
                    determinant=tuple(facts.name for facts in candidate.left),
                    dependent=candidate.right.name,
                    error=row["wrong"] / row["rows"],
                    agreement=(row["agreeing"] / row["rows"] - chance) / (1 - chance),
                    groups=row["groups"],
                    rows=row["rows"],
                    variety=row["returning"] / max(1, row["wrong"]),
                )
            )
    return sorted(found, key=lambda dependency: (dependency.dependent, dependency.determinant))


def _batches(groups: Sequence[list[_Candidate]]) -> Iterator[list[list[_Candidate]]]:
    """Candidates with one left side stay together: its values are hashed once."""
    batch: list[list[_Candidate]] = []
    for group in groups:
        if batch and sum(map(len, batch)) + len(group) > PAIRS_AT_ONCE:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _statistics(texts: DataFrame, batch: Sequence[list[_Candidate]], settings: MinedRules) -> DataFrame:
    """One row per candidate: groups and rows of two or more, rows to remove, rows that agree with another one."""
    lefts, place = [], 0
    for group in batch:
        rights = F.array_compact(
            F.array(*(_entry(place + number, candidate.right) for number, candidate in enumerate(group)))
        )
        place += len(group)
        value = left_value(tuple(facts.name for facts in group[0].left))
        is_sampled = value.isNotNull() & _in_sample(value, group[0].left, settings.sample_rows)
        lefts.append(F.when(is_sampled, F.struct(value.alias(_LEFT), rights.alias("rights"))))
    entries = (
        texts.select(F.explode(F.array_compact(F.array(*lefts))).alias("entry"))
        .select(F.col(f"entry.{_LEFT}"), F.explode("entry.rights").alias("entry"))
        .select(_LEFT, "entry.*")
    )
    copies = F.col(_COPIES)
    values = entries.groupBy(_PAIR, _LEFT, _RIGHT).agg(F.count(F.lit(1)).alias(_COPIES))
    groups = values.groupBy(_PAIR, _LEFT).agg(
        F.sum(copies).alias("size"),
        F.max(copies).alias("largest"),
        F.sum(copies * (copies - 1.0)).alias("same"),
        F.sum(F.when(copies > 1, copies).otherwise(0)).alias("returning"),
    )
    return (
        groups.where(F.col("size") > 1)
        .groupBy(_PAIR)
        .agg(
            F.count(F.lit(1)).alias("groups"),
            F.sum("size").alias("rows"),
            F.sum(F.col("size") - F.col("largest")).alias("wrong"),
            F.sum(F.when(F.col("largest") > 1, F.col("returning") - F.col("largest")).otherwise(0)).alias("returning"),
            F.sum(F.col("same") / (F.col("size") - 1)).alias("agreeing"),
        )
    )


def _entry(number: int, right: ColumnFacts) -> Column:
    value = F.col(f"`{right.name}`")
    return F.when(value.isNotNull(), F.struct(F.lit(number).alias(_PAIR), F.xxhash64(value).alias(_RIGHT)))


def left_value(names: Sequence[str]) -> Column:
    """A number for the values of one or two columns together; null where any of them is."""
    values = [F.col(f"`{name}`") for name in names]
    is_known = values[0].isNotNull()
    for value in values[1:]:
        is_known = is_known & value.isNotNull()
    return F.when(is_known, F.xxhash64(*values))


def _in_sample(value: Column, left: Sequence[ColumnFacts], most: int) -> Column:
    """Whether a row is looked at: whole groups are taken by a hash, and of very large groups a part of the rows."""
    share = most / max(1, left[0].rows)
    if share >= 1:
        return F.lit(True)
    groups = max(facts.distinct for facts in left)
    by_group = max(share, min(1.0, WELL_MIXED / groups))
    by_row = share / by_group
    return is_below(value, by_group) & is_below(F.col(ROW_ID), by_row)


def is_below(number: Column, share: float) -> Column:
    """Whether a number, hashed, is among the lowest ``share`` of all hashes: a sample that no partitioning changes."""
    # Hashed once more: the number is a hash that other groups are made of.
    return F.pmod(F.xxhash64(F.lit("sample"), number), F.lit(_HASH_RANGE)) < F.lit(int(share * _HASH_RANGE))


def _holds(dependency: Dependency, columns: Sequence[ColumnFacts], settings: MinedRules) -> bool:
    rows = min(columns[0].rows, settings.sample_rows)
    return (
        dependency.groups >= settings.min_groups
        and dependency.rows >= max(FEWEST_ROWS, FEWEST_GROUPED * rows)
        and 1 - dependency.error >= settings.min_confidence
        and dependency.agreement >= least_agreement(settings)
    )


def least_agreement(settings: MinedRules) -> float:
    """Kappa from which a dependency is no work of a usual value."""
    return 1 - 2.5 * (1 - settings.min_confidence)


def _combinations(
    categories: Sequence[ColumnFacts], measured: Sequence[Dependency], found: Sequence[Dependency]
) -> list[_Candidate]:
    """Left sides of two columns for columns that no single one determines, those that say most alone first."""
    determined = {dependency.dependent for dependency in found}
    implied = {(dependency.determinant[0], dependency.dependent) for dependency in found}
    alone = {(dependency.determinant[0], dependency.dependent): dependency.agreement for dependency in measured}
    scored = []
    for right in categories:
        if right.name in determined:
            continue
        others = [facts for facts in categories if facts.name != right.name]
        for one, two in combinations(others, 2):
            # Where one says the other, both say no more than one.
            if {(one.name, two.name), (two.name, one.name)} & implied:
                continue
            promise = max(alone.get((one.name, right.name), 0.0), alone.get((two.name, right.name), 0.0))
            if promise >= 0.3:
                scored.append((-promise, one.name, two.name, right.name, _Candidate((one, two), right)))
    if len(scored) > MOST_COMBINATIONS:
        log.info("%d left sides of two columns are left out, the least promising", len(scored) - MOST_COMBINATIONS)
    return [entry[-1] for entry in sorted(scored, key=lambda entry: entry[:-1])[:MOST_COMBINATIONS]]


def _best(declared: Sequence[Dependency], found: Sequence[Dependency]) -> list[Dependency]:
    named = {(dependency.determinant, dependency.dependent) for dependency in declared}
    kept = list(declared)
    by_dependent: dict[str, list[Dependency]] = {}
    for dependency in found:
        if (dependency.determinant, dependency.dependent) not in named:
            by_dependent.setdefault(dependency.dependent, []).append(dependency)
    for _, choices in sorted(by_dependent.items()):
        choices.sort(key=lambda one: (len(one.determinant), round(one.error, 2), -one.rows, one.determinant))
        kept += choices[:MOST_DETERMINANTS]
    return kept
