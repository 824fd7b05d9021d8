"""What every row of a silver table fulfils, as one SQL predicate that Delta holds every writer to."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

from dlmine_spark import schemas as s
from dlmine_spark.cleaning.plan import key_of, summed_columns
from dlmine_spark.config import ColumnConfig, SourceConfig

_MOST_ALLOWED = 1_000
"""A longer list would be evaluated, and shown in messages, with every row that anybody writes."""


def constraint_of(source: SourceConfig, columns: Mapping[str, ColumnConfig], there: Collection[str]) -> str | None:
    """The predicate that cleaning has made true of all rows of a source; None where it promises nothing.

    Rules that only warn promise nothing, nor does one that is only decided row by row in words of Spark SQL: a later
    version of the plan may have others, and a table must not keep what nobody asks for any more.

    Args:
        source: the declaration.
        columns: canonical name -> declaration with its type.
        there: columns of the silver table.
    """
    summed = summed_columns(source, key_of(source, columns)) if source.keep == "sum" else ()
    promises: list[str] = []
    for name, spec in columns.items():
        if name not in there:
            continue
        # The dates that a series lacks become rows of a panel without a value.
        if spec.required and not (source.kind == "panel" and name == s.Y):
            promises.append(f"`{name}` IS NOT NULL")
        # Ranges are those of single rows.
        if name not in summed:
            promises += _bounds(f"`{name}`", spec)
        promises += _closed_list(f"`{name}`", spec)
    return " AND ".join(promises) or None


def _bounds(name: str, spec: ColumnConfig) -> Iterator[str]:
    if spec.out_of_range != "warn":
        # NULL compares as unknown, which a CHECK constraint would refuse.
        bounds = [f"{name} >= {spec.minimum!r}"] if spec.minimum is not None else []
        bounds += [f"{name} <= {spec.maximum!r}"] if spec.maximum is not None else []
        if bounds and all(math.isfinite(bound) for bound in (spec.minimum, spec.maximum) if bound is not None):
            yield f"({name} IS NULL OR ({' AND '.join(bounds)}))"


def _closed_list(name: str, spec: ColumnConfig) -> Iterator[str]:
    if spec.allowed and spec.not_allowed != "warn" and len(spec.allowed) <= _MOST_ALLOWED:
        values = ", ".join(_literal(value) for value in spec.allowed)
        yield f"({name} IS NULL OR {name} IN ({values}))"


def _literal(text: str) -> str:
    """A text as a literal of Spark SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
