"""Templates: which itemsets a rule may have on either side."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import MiningConfig, SideTemplate

_NEAR = 3
"""A name is near another if it takes one edit in so many characters at most."""


def may_become(side: Column, template: SideTemplate) -> Column:
    """Whether a set of items holds nothing that the template excludes; then its parts don't either."""
    conditions = [F.lit(True)]
    if template.forbid:
        conditions.append(~F.arrays_overlap(side, _names(template.forbid)))
    if template.only:
        conditions.append(F.size(F.array_except(side, _names(template.only))) == 0)
    return reduce(Column.__and__, conditions)


def has_required(side: Column, template: SideTemplate) -> Column:
    """Whether a set of items holds all that the template requires."""
    return F.size(F.array_except(_names(template.require), side)) == 0 if template.require else F.lit(True)


def fits(side: Column, template: SideTemplate) -> Column:
    """Whether a set of items is as the template wants it."""
    return may_become(side, template) & has_required(side, template)


def unknown_items(itemsets: DataFrame, config: MiningConfig) -> dict[str, str]:
    """Items of the templates that are not frequent, each with where it stands and what may be meant.

    Runs an action if there are templates, and one for each unknown item; collects as many rows as templates name items.

    Returns:
        By setting and item (``mining.consequent.require: 'beeer'``), a hint; empty where all are known.
    """
    named = {
        (f"mining.{side}.{setting}", item): ""
        for side in ("antecedent", "consequent")
        for setting in ("require", "forbid", "only")
        for item in getattr(getattr(config, side), setting)
    }
    if not named:
        return {}
    frequent = itemsets.where(F.col("size") == 1).select(F.get(F.col(s.ITEMS), F.lit(0)).alias(s.ITEM))
    known = {row[s.ITEM] for row in frequent.where(F.col(s.ITEM).isin([item for _, item in named])).collect()}
    return {f"{setting}: {item!r}": _near(frequent, item) for setting, item in named if item not in known}


def _near(frequent: DataFrame, item: str) -> str:
    """`` (did you mean 'beer'?)``, or nothing where no frequent item is written much like it."""
    distance = F.levenshtein(F.lower(F.trim(s.ITEM)), F.lit(item.strip().lower()))
    nearest = frequent.select(s.ITEM, distance.alias("edits")).orderBy("edits", s.ITEM).limit(1).collect()
    if not nearest or nearest[0]["edits"] * _NEAR > len(item):
        return ""
    return f" (did you mean {nearest[0][s.ITEM]!r}?)"


def _names(items: tuple[str, ...]) -> Column:
    return F.array(*(F.lit(item) for item in items))
