"""Rules between single values: where one column says A, another one says B, or one of B and C.

They hold where no dependency between the columns as a whole does: relationship does not determine sex, but husbands
are male; type A of a shop is found in two of thirty towns. Such rules are association rules with one item on either
side, of high confidence (Chiang and Miller 2008, "Discovering data quality rules"), or constant patterns of conditional
functional dependencies (Bohannon et al. 2007); here the right side may be a few values.

A usual value is said by everything, so a rule must explain most of what chance leaves open (as kappa does of a
dependency), and be no work of chance among as many as were looked at (Chernoff's bound of the binomial tail,
Bonferroni's correction). All pairs of columns are counted on the driver, in a sample of bounded size.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark.cleaning.dependencies import FEWEST_ROWS, Dependency, is_below, least_agreement
from dlmine_spark.cleaning.texts import ROW_ID, ColumnFacts
from dlmine_spark.config import MinedRules

log = logging.getLogger(__name__)

MOST_USUAL = 3
"""Values a right side may have; more of them say little of a cell, and nothing of its repair."""
MOST_LABELS = 50
"""Values of a column that are frequent, for it to be one of types; identifiers and measures agree by their scale."""
LABELS_COVER = 0.9
"""Share of a column's cells that has such values."""
STRICTER = 0.3
"""Share of the rows that may break a rule, of those that may break a dependency: what is only usual is no rule."""
MOST_RULES = 200
"""Rules in use, the surest first: each is compared with every row."""
FALSE_RULES = 0.05
"""Probability that any rule found is the work of chance."""


@dataclass(frozen=True, slots=True)
class _Coded:
    """A column of the sample: a number for each row's value (-1 for none), the values, and how often each is there."""

    codes: np.ndarray
    values: pd.Index
    counts: np.ndarray

    @property
    def is_of_labels(self) -> bool:
        """Whether nearly all cells have one of a few values."""
        frequent = self.counts[self.counts >= FEWEST_ROWS]
        return len(frequent) <= MOST_LABELS and frequent.sum() >= LABELS_COVER * self.counts.sum()


@dataclass(frozen=True, slots=True)
class _Found:
    rule: Dependency
    evidence: float
    """Logarithm of how unlikely it is by chance."""


def sample_of(texts: DataFrame, columns: Sequence[ColumnFacts], most: int) -> pd.DataFrame:
    """Up to about ``most`` rows of the columns that have categories, the same ones however the rows are partitioned.

    Collects them.
    """
    names = [facts.name for facts in columns if facts.is_category]
    share = most / max(1, columns[0].rows) if columns else 1.0
    rows = texts
    if share < 1:
        rows = texts.where(is_below(F.col(ROW_ID), share))
    found: pd.DataFrame = rows.select(*(F.col(f"`{name}`") for name in names)).toPandas()
    return found


def value_rules(sample: pd.DataFrame, dependencies: Sequence[Dependency], settings: MinedRules) -> list[Dependency]:
    """The rules between single values that a table's rows follow, the surest first.

    Args:
        sample: one row per row and one column per column of texts; None where a cell is blank.
        dependencies: between columns as a whole; these say already what single values of theirs would.
        settings: thresholds.

    Returns:
        At most ``MOST_RULES``, each a dependency of one ``value``; with ``usual`` where the right side has several.
    """
    all_coded = {str(name): _coded(sample[name]) for name in sample.columns}
    coded = {name: one for name, one in all_coded.items() if one.is_of_labels}
    known = {frozenset((one.determinant[0], one.dependent)) for one in dependencies if len(one.determinant) == 1}
    pairs = [(one, two) for one, two in permutations(coded, 2) if frozenset((one, two)) not in known]
    tests = sum(int((coded[left].counts >= FEWEST_ROWS).sum()) for left, _ in pairs) * MOST_USUAL
    found = [
        rule
        for left, right in pairs
        for rule in _rules_of(left, right, coded, settings)
        if rule.evidence >= np.log(tests / FALSE_RULES)
    ]
    found.sort(key=lambda one: (-round(one.evidence, 6), str(one.rule)))
    if len(found) > MOST_RULES:
        log.info("%d rules between single values are left out, the least sure", len(found) - MOST_RULES)
    return [one.rule for one in found[:MOST_RULES]]


def _coded(cells: pd.Series) -> _Coded:
    codes, values = pd.factorize(cells, sort=True)
    return _Coded(codes, values, np.bincount(codes[codes >= 0], minlength=len(values)))


def _rules_of(left: str, right: str, coded: dict[str, _Coded], settings: MinedRules) -> Iterator[_Found]:
    """The rules from the values of one column to those of another."""
    one, two = coded[left], coded[right]
    is_known = (one.codes >= 0) & (two.codes >= 0)
    looked_at = is_known & (one.counts >= FEWEST_ROWS)[one.codes]
    if not looked_at.any():
        return
    # Blanks may have reasons of their own: chance is what it is where there are none.
    shares = np.bincount(two.codes[is_known], minlength=len(two.values)) / is_known.sum()
    pairs, copies = np.unique(
        one.codes[looked_at].astype(np.int64) * len(two.values) + two.codes[looked_at], return_counts=True
    )
    # Of each value on the left, the values on the right, the most frequent first.
    lefts, rights = np.divmod(pairs, len(two.values))
    order = np.lexsort((rights, -copies, lefts))
    lefts, rights, copies = lefts[order], rights[order], copies[order]
    starts = np.flatnonzero(np.diff(lefts, prepend=-1))
    sizes = np.add.reduceat(copies, starts)
    least = 1 - STRICTER * (1 - settings.min_confidence)
    for start, end, size in zip(starts, [*starts[1:], len(lefts)], sizes, strict=True):
        if size < FEWEST_ROWS:
            continue
        agreeing, chance = 0, 0.0
        for place in range(start, min(end, start + MOST_USUAL)):
            agreeing, chance = agreeing + int(copies[place]), chance + float(shares[rights[place]])
            if agreeing < least * size:
                continue
            agreement = (agreeing / size - chance) / max(1 - chance, 1e-9)
            if agreement >= least_agreement(settings):
                usual = tuple(str(two.values[rights[shown]]) for shown in range(start, place + 1))
                rule = Dependency(
                    determinant=(left,),
                    dependent=right,
                    error=float(1 - agreeing / size),
                    agreement=float(agreement),
                    groups=1,
                    rows=int(size),
                    value=str(one.values[lefts[start]]),
                    usual=usual if len(usual) > 1 else (),
                )
                yield _Found(rule, float(size * _divergence(agreeing / size, chance)))
            # With more values it would say less.
            break


def _divergence(share: float, chance: float) -> float:
    """Kullback and Leibler's, of two coins; times the rows, it bounds the logarithm of the tail's probability."""
    missing = (1 - share) * np.log((1 - share) / (1 - chance)) if share < 1 else 0.0
    return float(share * np.log(share / chance) + missing)
