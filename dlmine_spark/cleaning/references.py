"""References: columns of a source whose values have to be found in another one (foreign keys).

A row with a blank in one of the columns refers to nothing and passes, as SQL's ``MATCH SIMPLE`` has it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark.cleaning.parse import SHOWN_LETTERS
from dlmine_spark.cleaning.plan import REASONS, REPAIRS, WARNINGS, reason, repair
from dlmine_spark.config import Reference

RULE = "unknown_reference"


def referred_keys(others: DataFrame, to: Sequence[str]) -> DataFrame:
    """One row per value that can be referred to: the columns ``to``, all of them known.

    Args:
        others: good rows of the source that is referred to.
        to: its columns.
    """
    return others.select(*(F.col(f"`{name}`") for name in to)).dropna().distinct()


def treat_references(rows: DataFrame, references: Sequence[tuple[Reference, DataFrame]]) -> DataFrame:
    """Find the rows that refer to nothing, and do with them what the references say.

    All are asked of the rows as they are, so the order of the references decides nothing. Each is one join; which side
    is broadcast, if any, is left to Spark, which knows the sizes.

    Args:
        rows: good rows with ``REASONS``, ``REPAIRS`` and ``WARNINGS``.
        references: each with its ``referred_keys``, whose columns are in the order of ``Reference.columns``.

    Returns:
        The same rows: ``quarantine`` adds to ``REASONS``; ``null`` blanks the columns and adds to ``REPAIRS``; ``warn``
        adds to ``WARNINGS``.
    """
    asked = rows
    for place, (reference, keys) in enumerate(references):
        asked = _with_answer(asked, reference, keys, place)
    refused, repaired, doubted = [], [], []
    blanked: dict[str, list[Column]] = {}
    for place, (reference, keys) in enumerate(references):
        is_unknown = F.col(_answer(place))
        if reference.action == "quarantine":
            refused.append(F.when(is_unknown, _reason(reference, keys.columns)))
        elif reference.action == "warn":
            doubted.append(F.when(is_unknown, F.lit(f"{RULE}:{', '.join(reference.columns)}")))
        else:
            for name in reference.columns:
                blanked.setdefault(name, []).append(is_unknown)
    values = {}
    for name, conditions in blanked.items():
        is_blanked = reduce(operator.or_, conditions)
        cell, nothing = F.col(f"`{name}`"), F.lit(None).cast(dict(rows.dtypes)[name])
        repaired.append(F.when(is_blanked, repair(name, cell, nothing, RULE)))
        values[name] = F.when(~is_blanked, cell)
    said = {
        entries: F.concat(F.col(entries), F.array_compact(F.array(*more)))
        for entries, more in ((REASONS, refused), (REPAIRS, repaired), (WARNINGS, doubted))
        if more
    }
    return asked.withColumns({**said, **values}).select(*rows.columns)


def _answer(place: int) -> str:
    return f"__refers_to_nothing_{place}"


def _with_answer(rows: DataFrame, reference: Reference, keys: DataFrame, place: int) -> DataFrame:
    """Add whether all columns of a reference are known and nothing has their values."""
    names = {to: f"__to_{place}_{number}" for number, to in enumerate(keys.columns)}
    found, is_found = keys.withColumnsRenamed(names), f"__found_{place}"
    own = [F.col(f"`{name}`") for name in reference.columns]
    is_same = [cell == F.col(key) for cell, key in zip(own, names.values(), strict=True)]
    joined = rows.join(found.withColumn(is_found, F.lit(True)), on=is_same, how="left")
    is_whole = reduce(operator.and_, (cell.isNotNull() for cell in own))
    return joined.withColumn(_answer(place), is_whole & F.col(is_found).isNull()).drop(is_found, *names.values())


def _reason(reference: Reference, to: Sequence[str]) -> Column:
    """``is no unique_id of stores: S9``."""
    own = [F.substring(F.col(f"`{name}`").cast("string"), 1, SHOWN_LETTERS) for name in reference.columns]
    words = F.lit(f"is no {', '.join(to)} of {reference.source}: ")
    return reason(RULE, ", ".join(reference.columns), F.concat(words, F.concat_ws(", ", *own)))
