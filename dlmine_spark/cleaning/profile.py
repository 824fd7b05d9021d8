"""A profile of a table: what its columns hold, what identifies a row, which columns determine others.

Everything is read as text, as bronze has it; types are guessed only where nothing would be lost by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark.cleaning.dependencies import Dependency, find_dependencies
from dlmine_spark.cleaning.notation import DATE_PATTERNS, MISSING_WORDS
from dlmine_spark.cleaning.parse import number, present, trimmed
from dlmine_spark.cleaning.patterns import DECIMALS, LOOSE, Format, formats_of, with_structural_blanks
from dlmine_spark.cleaning.quality import choose_columns
from dlmine_spark.cleaning.texts import (
    COLUMN,
    COPIES,
    VALUE,
    ColumnFacts,
    facts_of,
    may_repeat,
    texts_of,
    value_counts,
    with_counts,
)
from dlmine_spark.config import ColumnType, MinedRules

QUANTILES = (0.25, 0.5, 0.75)
TOP_VALUES = 10
FEW_VALUES = 20
"""A column of no more different values, each of them there several times, is a set of labels."""
MOST_PROFILED = 1_000
"""Columns of a table that are profiled one by one; further ones are listed only."""
_BATCH = 40
"""Columns an aggregation: each takes some forty expressions here."""
_WHOLE, _DECIMAL = r"^[+-]?(?:0|[1-9]\d{0,14})$", r"^[+-]?(?:0|[1-9]\d*)?\.\d+$"
_TRUTHS = ("0", "1", "true", "false", "yes", "no", "y", "n", "t", "f")


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """What one column holds."""

    name: str
    rows: int
    known: int
    distinct: int
    """Approximate, within some five percent."""
    type: ColumnType
    """Guessed: a type that every known cell has, else string."""
    almost: tuple[ColumnType, float] | None = None
    """A type that most cells have, and the share of those that have it."""
    formats: tuple[str, ...] = ()
    """Date patterns that cells are in, those of most cells first."""
    decimal: str = "."
    nulls: tuple[str, ...] = ()
    """Words for missing that are there."""
    blank: int = 0
    """Cells with nothing in them."""
    marked: int = 0
    """Cells with a word for missing."""
    longest: int = 0
    """Letters of the longest value."""
    low: str | None = None
    """The first value, as numbers are ordered where all are numbers, else as texts."""
    high: str | None = None
    quantiles: tuple[float, ...] = ()
    top: tuple[tuple[str, int], ...] = ()
    labels: tuple[str, ...] = ()
    """All values that return, where the column is a set of labels."""
    usual: tuple[str, ...] = ()
    """Usual ways of writing, where they dominate."""

    @property
    def missing(self) -> float:
        """Share of cells without a value."""
        return 1 - self.known / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """What one table holds."""

    rows: int
    columns: tuple[ColumnProfile, ...]
    keys: tuple[str, ...]
    """Columns without a blank whose values are all different: each may identify a row."""
    dependencies: tuple[Dependency, ...]
    left_out: tuple[str, ...] = ()
    """Columns beyond ``MOST_PROFILED``."""


def profile_table(rows: DataFrame, names: Sequence[str], null_tokens: Sequence[str], settings: MinedRules) -> Profile:
    """Profile the columns of a table.

    Runs an action per ``_BATCH`` columns, and those of mining rules; what is collected is bounded for each column.

    Args:
        rows: every cell a string, with the columns that give the order of rows.
        names: of the columns.
        null_tokens: words that mean missing.
        settings: of mined rules: how many columns are compared with each other, and how well.
    """
    profiled = list(names[:MOST_PROFILED])
    cells = rows.select("*").withColumns({name: trimmed(F.col(f"`{name}`")) for name in profiled})
    measured = _measured(cells, profiled, null_tokens)
    texts = texts_of(
        cells.withColumns({name: present(F.col(f"`{name}`"), null_tokens) for name in profiled}),
        dict.fromkeys(profiled, "string"),
    )
    compared = choose_columns(facts_of(texts, profiled), settings.max_columns)
    repeating = [facts for facts in compared if may_repeat(facts)]
    facts, dependencies, top = compared, [], {}
    if repeating:
        counts = value_counts(texts, repeating)
        counted = {one.place: one for one in with_counts(repeating, counts)}
        facts = [counted.get(one.place, one) for one in compared]
        dependencies = find_dependencies(texts, facts, settings)
        top = _top_values(counts, facts)
    formats = {one.name: one for one in with_structural_blanks(texts, formats_of(texts, facts))}
    by_name = {one.name: one for one in facts}
    columns = tuple(
        _column(name, measured[name], by_name.get(name), top.get(name, ()), formats.get(name)) for name in profiled
    )
    keys = tuple(one.name for one in columns if measured[one.name]["is_key"])
    total = columns[0].rows if columns else 0
    return Profile(total, columns, keys, tuple(dependencies), tuple(names[MOST_PROFILED:]))


def _measured(cells: DataFrame, names: Sequence[str], null_tokens: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The figures of every column: an action per ``_BATCH`` columns, a second for those that may be keys."""
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        made = [F.count(F.lit(1)).alias("rows")]
        for place, name in enumerate(batch):
            made += [column.alias(f"{what}_{place}") for what, column in _figures(name, null_tokens).items()]
        row = cells.agg(*made).collect()[0].asDict()
        for place, name in enumerate(batch):
            figures = {
                what.rpartition("_")[0]: value for what, value in row.items() if what.rpartition("_")[2] == str(place)
            }
            found[name] = {**figures, "rows": row["rows"], "is_key": False}
    maybe = [
        name
        for name, figures in found.items()
        if figures["known"] == figures["rows"] and figures["distinct"] > 0.9 * figures["rows"] > 0
    ][:_BATCH]
    if maybe:
        exact = cells.agg(*(F.count_distinct(F.col(f"`{name}`")) for name in maybe)).collect()[0]
        for name, distinct in zip(maybe, exact, strict=True):
            found[name]["is_key"] = distinct == found[name]["rows"]
    return found


def _figures(name: str, null_tokens: Sequence[str]) -> dict[str, Column]:
    cell = F.col(f"`{name}`")
    text = present(cell, null_tokens)
    words = [token for token in dict.fromkeys([*null_tokens, *MISSING_WORDS]) if token]
    lower = F.lower(cell)
    value = number(text, ".")
    is_grouped = text.rlike(r"^[+-]?\d{1,3}(?:\.\d{3})*,\d+$") & ~text.rlike(r"^[+-]?[1-9]\d{0,2},\d{3}$")
    looks_like_date = text.rlike(r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[ T]\d{1,2}:\d{2}.*)?$|^(?:19|20)\d{6}$")
    in_pattern = {
        f"date{place}": F.count_if(looks_like_date & F.try_to_timestamp(text, F.lit(pattern)).isNotNull())
        for place, pattern in enumerate(DATE_PATTERNS)
    }
    word = F.when(lower.isin(*{token.lower() for token in words}), cell)
    return {
        "known": F.count(text),
        "distinct": F.approx_count_distinct(text),
        "whole": F.count_if(text.rlike(_WHOLE)),
        "decimals": F.count_if(text.rlike(_DECIMAL)),
        "numeric": F.count(value),
        "codes": F.count_if(text.rlike(r"^[+-]?0\d|\d{16}")),
        "comma": F.count_if(is_grouped),
        "truth": F.count_if(F.lower(text).isin(*_TRUTHS)),
        "longest": F.max(F.length(text)),
        "low": F.substring(F.min(text), 1, 60),
        "high": F.substring(F.max(text), 1, 60),
        "least": F.min(value),
        "most": F.max(value),
        "quantiles": F.percentile_approx(value, list(QUANTILES), 1_000),
        "words": F.slice(F.array_sort(F.collect_set(F.substring(word, 1, 20))), 1, 20),
        "blank": F.count_if(cell == ""),
        "marked": F.count(word),
        **in_pattern,
    }


def _top_values(counts: DataFrame, facts: Sequence[ColumnFacts]) -> dict[str, tuple[tuple[str, int], ...]]:
    """The most frequent values of each column (one action, ``FEW_VALUES`` and one more a column)."""
    rank = F.row_number().over(Window.partitionBy(COLUMN).orderBy(F.desc(COPIES), VALUE))
    names = {one.place: one.name for one in facts}
    found: dict[str, list[tuple[str, int]]] = {}
    ranked = counts.withColumn("rank", rank).where(F.col("rank") <= FEW_VALUES + 1)
    for row in ranked.orderBy(COLUMN, "rank").collect():
        found.setdefault(names[row[COLUMN]], []).append((row[VALUE], row[COPIES]))
    return {name: tuple(values) for name, values in found.items()}


def _column(
    name: str,
    figures: dict[str, Any],
    facts: ColumnFacts | None,
    top: Sequence[tuple[str, int]],
    format_: Format | None,
) -> ColumnProfile:
    """The profile of one column, from its figures."""
    known = figures["known"]
    type_, almost, formats, decimal = _guess(figures, format_)
    is_number = type_ in ("integer", "double") and decimal == "."
    returning = [(value, copies) for value, copies in top if copies > 1]
    is_label_set = (
        type_ == "string"
        and facts is not None
        and 1 < len(returning) <= FEW_VALUES
        and sum(copies for _, copies in returning) >= 0.95 * known
    )
    return ColumnProfile(
        name=name,
        rows=figures["rows"],
        known=known,
        distinct=figures["distinct"] if facts is None or not facts.repeated else facts.distinct,
        type=type_,
        almost=almost,
        formats=formats,
        decimal=decimal,
        nulls=tuple(figures["words"] or ()),
        blank=figures["blank"],
        marked=figures["marked"],
        longest=figures["longest"] or 0,
        low=f"{figures['least']:.15g}" if is_number else figures["low"],
        high=f"{figures['most']:.15g}" if is_number else figures["high"],
        quantiles=tuple(figures["quantiles"] or ()) if is_number else (),
        top=tuple(top[:TOP_VALUES]),
        labels=tuple(value for value, _ in returning) if is_label_set else (),
        usual=tuple(format_.usual.get(LOOSE, ())) if format_ is not None else (),
    )


def _guess(
    figures: dict[str, Any], format_: Format | None
) -> tuple[ColumnType, tuple[ColumnType, float] | None, tuple[str, ...], str]:
    """Type, the type most cells have, date patterns, decimal sign.

    A type is only guessed where reading the cells as such loses nothing of them: 007 is no number, 1.1 among 1.10 and
    2.50 is written otherwise, and 3/4/2024 may be a day in March or in April.
    """
    known = figures["known"]
    if not known:
        return "string", None, (), "."
    seen = [(figures[f"date{place}"], place) for place in range(len(DATE_PATTERNS)) if figures[f"date{place}"]]
    formats = tuple(DATE_PATTERNS[place] for _, place in sorted(seen, key=lambda entry: (-entry[0], entry[1])))
    in_best = max((cells for cells, _ in seen), default=0)
    if in_best >= 0.5 * known:
        best = [DATE_PATTERNS[place] for cells, place in seen if cells == in_best]
        moment: ColumnType = "timestamp" if "H" in best[0] else "date"
        is_plain = in_best == known and len({_order(pattern) for pattern in best}) == 1
        if is_plain:
            return moment, None, (best[0],), "."
        return "string", (moment, in_best / known), formats, "."
    plain = figures["whole"] + figures["decimals"]
    is_uneven = format_ is not None and DECIMALS in format_.usual
    if plain == known and not figures["codes"] and not is_uneven:
        return "integer" if figures["whole"] == known else "double", None, (), "."
    if figures["comma"] and figures["comma"] + figures["whole"] == known and not figures["codes"]:
        return "double", None, (), ","
    if figures["numeric"] >= 0.5 * known and not figures["codes"]:
        return "string", ("double", figures["numeric"] / known), (), "."
    if figures["truth"] >= 0.9 * known:
        return "string", ("boolean", figures["truth"] / known), (), "."
    return "string", None, (), "."


def _order(pattern: str) -> str:
    """Which of day and month comes first."""
    return "".join(sign for sign in dict.fromkeys(pattern) if sign in "dMy")
