"""How cells are written: the pattern of a column, and the cells that are written otherwise.

A pattern has 9 for digits, a and A for letters and every other sign as it is (Potter's Wheel, Raman and Hellerstein
2001, has finer ones). Three are looked at: ``loose`` with runs of digits, letters and words as one, ``decimals`` with
the digits after a point, ``width`` with every digit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark.cleaning.notation import MISSING_WORDS
from dlmine_spark.cleaning.texts import COLUMN, ROW_ID, VALUE, ColumnFacts

LOOSE, DECIMALS, WIDTH = "loose", "decimals", "width"
USUAL = 0.05
"""Share of a column's cells from which a way of writing is a usual one."""
MOST_USUAL = 4
"""Usual ways of writing; a column with more is free."""
DOMINATES = {LOOSE: 0.94, DECIMALS: 0.97, WIDTH: 0.97}
"""Share of a column's cells that usual ways of writing have to have together, for the others to be deviations."""
ONE_CASE = 0.95
"""Share of the cells with letters that are in one case, for the others to be deviations."""
FEWEST_CELLS = 20
SAMPLE = 1_000_000
"""Rows that patterns are counted on."""
MOST_MISSING = 0.2
"""Share of a column's cells above which such a word is a category of its own."""
FEW_BLANKS = 0.03
"""Share of blank cells up to which a column counts as always filled."""
_NUMBER = r"^[+-]?\d+(\.\d+)?$"
_NUMBER_PATTERN = re.compile(r"^9(\.9)?$")
_HASH_RANGE = 1 << 30
_UNIT = r"^(?:[$€£¥] ?)?([+-]?\d+(?:\.\d+)?)(?: ?%|\s+\p{L}{1,12}\.?| ?\p{Ll}{1,5}\.?)?$"
"""A bare number, or one with a currency, a percent sign or a unit."""
CONVENTION = 0.005
"""Share of a column's cells from which a single value, or code letters before or after a number, are no slip."""
FEWEST_OF_CONVENTION, ENOUGH_OF_CONVENTION = 5, 30
"""Cells that are too few for a convention in a small table, and enough for one in a large table."""
LITERALS = 50
"""Most frequent values of a column among which conventions are looked for."""
_CELLS, _ZERO, _WORD, _CASE, _AFFIX, _LITERAL = "cells", "zero", "word", "case", "affix", "literal"


@dataclass(frozen=True, slots=True)
class Format:
    """The usual ways of writing of one column."""

    name: str
    usual: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kind of pattern -> the usual ones, where they dominate."""
    coverage: Mapping[str, float] = field(default_factory=dict)
    """Kind of pattern -> share of cells in usual ones."""
    words: tuple[str, ...] = ()
    """Words for missing that are rare here."""
    conventions: tuple[str, ...] = ()
    """Values that are frequent, however they are written, and code letters with 9 for the number (C9)."""
    has_blanks: bool = False
    """Whether some cells are blank, and so few that each is suspicious."""
    case: str | None = None
    """``upper``, ``lower`` or ``title``, where nearly all cells with letters are."""
    leading_zeros: bool = False


@dataclass(frozen=True, slots=True)
class Deviation:
    """What is odd about a cell, as expressions: whether, the repair (null for none) and two figures."""

    rule: str
    condition: Column
    proposed: Column
    confidence: float
    suspicion: float


def loose(text: Column) -> Column:
    """Runs of digits, of letters and of like words as one sign; a sign before a number is part of it."""
    runs = F.regexp_replace(text, r"^[+-](?=\d)", "")
    for run, sign in ((r"\p{Ll}+", "a"), (r"\p{Lu}+", "A"), (r"\d+", "9")):
        runs = F.regexp_replace(runs, run, sign)
    return F.substring(F.regexp_replace(runs, r"(\S+)(?: \1)+", "$1"), 1, 40)


def decimals(text: Column) -> Column:
    """Of a number, the digits after the point; null for anything else."""
    bare = F.regexp_replace(F.regexp_replace(text, r"^[+-]?\d+", "9"), r"\d", "9")
    return F.when(text.rlike(_NUMBER), bare)


def affix(text: Column) -> Column:
    """Code letters before or after a number (C539574, 85123A) with 9 for the number; null for anything else."""
    return F.when(
        text.rlike(r"^(?:\p{Lu}{1,4}[- ]?\d+(?:\.\d+)?|\d+\p{Lu}{1,2})$"), F.regexp_replace(text, r"[\d.]+", "9")
    )


def width(text: Column) -> Column:
    """Every digit by itself; null where there are fewer than four, which numbers of any size have."""
    digits = F.regexp_replace(text, r"\d", "9")
    runs = F.regexp_replace(F.regexp_replace(digits, r"\p{Ll}+", "a"), r"\p{Lu}+", "A")
    return F.when(text.rlike(r"^[^.,]*\d[^.,]*$"), F.substring(runs, 1, 40))


def pattern_counts(texts: DataFrame, columns: Sequence[ColumnFacts]) -> DataFrame:
    """One row per column (its place), kind and pattern, with its cells; counted on ``SAMPLE`` rows at most."""
    share = SAMPLE / max(1, columns[0].rows)
    if share < 1:
        is_sampled = F.pmod(F.xxhash64(F.lit("pattern"), ROW_ID), F.lit(_HASH_RANGE)) < int(share * _HASH_RANGE)
        texts = texts.where(is_sampled)
    cells = F.array(
        *(F.struct(F.lit(facts.place).alias(COLUMN), F.col(f"`{facts.name}`").alias(VALUE)) for facts in columns)
    )
    value = F.col(VALUE)
    has_lower, has_upper = value.rlike(r"\p{Ll}"), value.rlike(r"\p{Lu}")
    made = {
        _CELLS: F.lit(""),
        LOOSE: loose(value),
        DECIMALS: decimals(value),
        WIDTH: width(value),
        _ZERO: F.when(value.rlike(r"^0\d"), ""),
        _WORD: F.when(F.lower(value).isin(*MISSING_WORDS), F.lower(value)),
        _CASE: F.when(has_lower & has_upper, F.when(value == F.initcap(value), "title").otherwise("both"))
        .when(has_lower, "lower")
        .when(has_upper, "upper"),
        _AFFIX: affix(value),
        _LITERAL: F.when(F.col(COLUMN).isin(*(one.place for one in columns if one.is_category)), value),
    }
    patterns = F.array(*(F.struct(F.lit(kind).alias("kind"), text.alias("pattern")) for kind, text in made.items()))
    return (
        texts.select(F.explode(cells).alias("cell"))
        .select("cell.*")
        .where(value.isNotNull())
        .select(COLUMN, F.explode(patterns).alias("made"))
        .select(COLUMN, "made.*")
        .where(F.col("pattern").isNotNull())
        .groupBy(COLUMN, "kind", "pattern")
        .agg(F.count(F.lit(1)).alias("cells"))
    )


def formats_of(texts: DataFrame, columns: Sequence[ColumnFacts]) -> list[Format]:
    """The usual ways of writing of every column (one action; some hundred rows a column are collected at most)."""
    if not columns:
        return []
    rank = F.row_number().over(Window.partitionBy(COLUMN, "kind").orderBy(F.desc("cells"), "pattern"))
    frequent = pattern_counts(texts, columns).withColumn("rank", rank).where(F.col("rank") <= LITERALS)
    told: dict[int, dict[str, dict[str, int]]] = {}
    for row in frequent.collect():
        told.setdefault(row[COLUMN], {}).setdefault(row["kind"], {})[row["pattern"]] = row["cells"]
    return [_format(facts, told.get(facts.place, {})) for facts in columns]


def _format(facts: ColumnFacts, told: Mapping[str, Mapping[str, int]]) -> Format:
    known = told.get(_CELLS, {}).get("", 0)
    if known < FEWEST_CELLS:
        return Format(facts.name)
    usual: dict[str, tuple[str, ...]] = {}
    coverage: dict[str, float] = {}
    for kind in (LOOSE, DECIMALS, WIDTH):
        patterns = {pattern: cells for pattern, cells in told.get(kind, {}).items() if cells >= USUAL * known}
        share = sum(patterns.values()) / known
        # One width, one number of decimals; but several looks.
        most = MOST_USUAL if kind == LOOSE else 1
        if patterns and len(patterns) <= most and DOMINATES[kind] <= share < 1:
            usual[kind], coverage[kind] = tuple(sorted(patterns)), share
    letters = told.get(_CASE, {})
    with_letters = sum(letters.values())
    case = next(
        (
            case
            for case in ("upper", "lower", "title")
            if with_letters >= known / 2 and ONE_CASE * with_letters <= letters.get(case, 0) < with_letters
        ),
        None,
    )
    return Format(
        name=facts.name,
        usual=usual,
        coverage=coverage,
        conventions=tuple(
            sorted(
                text
                for kind in (_AFFIX, _LITERAL)
                for text, cells in told.get(kind, {}).items()
                if cells >= max(FEWEST_OF_CONVENTION, min(ENOUGH_OF_CONVENTION, CONVENTION * known))
            )
        ),
        words=tuple(sorted(word for word, cells in told.get(_WORD, {}).items() if cells <= MOST_MISSING * known)),
        has_blanks=0 < 1 - facts.known / facts.rows <= FEW_BLANKS,
        case=case,
        leading_zeros=bool(told.get(_ZERO)),
    )


def with_structural_blanks(texts: DataFrame, formats: Sequence[Format]) -> list[Format]:
    """Columns that are blank together say nothing by it: there is no such thing in these rows (one action at most)."""
    blank = [one.name for one in formats if one.has_blanks]
    if len(blank) < 2:
        return list(formats)
    blanks = sum((F.col(f"`{name}`").isNull().cast("int") for name in blank), F.lit(0))
    counted = texts.withColumn("__blanks", blanks).agg(
        *(F.count_if(F.col(f"`{name}`").isNull()).alias(f"all_{place}") for place, name in enumerate(blank)),
        *(
            F.count_if(F.col(f"`{name}`").isNull() & (F.col("__blanks") > 1)).alias(f"together_{place}")
            for place, name in enumerate(blank)
        ),
    )
    row = counted.collect()[0]
    structural = {name for place, name in enumerate(blank) if row[f"together_{place}"] > 0.5 * row[f"all_{place}"]}
    return [replace(one, has_blanks=False) if one.name in structural else one for one in formats]


def deviations(format_: Format, *, is_text: bool = True) -> list[Deviation]:
    """What may be odd about a cell of a column; the first condition that is met says what is."""
    value, nothing = F.col(f"`{format_.name}`"), F.lit(None).cast("string")
    found = []
    if format_.has_blanks:
        found.append(Deviation("missing", value.isNull(), nothing, 0.0, 0.5))
    if not is_text:
        return found
    if format_.words:
        found.append(Deviation("missing", F.lower(value).isin(*format_.words), nothing, 0.0, 0.7))
    usual = format_.usual
    if LOOSE in usual:
        is_odd = ~loose(value).isin(*usual[LOOSE])
        if format_.conventions:
            is_odd = (
                is_odd
                & ~value.isin(*format_.conventions)
                & ~F.coalesce(affix(value).isin(*format_.conventions), F.lit(False))
            )
        if all(_NUMBER_PATTERN.match(pattern) for pattern in usual[LOOSE]):
            is_worded = ~value.rlike(_NUMBER)
            found.append(Deviation("unit", is_worded & value.rlike(_UNIT), _bare(value, format_), 0.85, 0.85))
            found.append(Deviation("pattern", is_worded & is_odd, nothing, 0.0, 0.8))
        elif any("9" in pattern for pattern in usual[LOOSE]):
            found.append(Deviation("pattern", is_odd, nothing, 0.0, 0.6))
        elif _is_words(usual[LOOSE]):
            # Names have many looks; but a sign that hardly any other has is a slip.
            is_odd = is_odd & value.rlike(r"[^\p{L}\s.,'’&()/-]")
            found.append(Deviation("pattern", is_odd, nothing, 0.0, 0.5))
    if DECIMALS in usual:
        pattern = usual[DECIMALS][0]
        places = len(pattern.partition(".")[2])
        is_number = value.rlike(_NUMBER) & (decimals(value) != pattern)
        if places:
            new = F.format_string(f"%.{places}f", value.try_cast("double"))
            is_shorter = F.length(decimals(value)) < len(pattern)
            found.append(Deviation("decimals", is_number & is_shorter, new, 0.8, 0.6))
        else:
            is_whole = value.rlike(r"^[+-]?\d+\.0+$")
            found.append(Deviation("decimals", is_whole, F.regexp_replace(value, r"\.0+$", ""), 0.9, 0.7))
    if WIDTH in usual:
        pattern = usual[WIDTH][0]
        is_digits = set(pattern) == {"9"}
        if (not is_digits and pattern.count("9") >= 2) or (is_digits and len(pattern) >= 4 and _is_code(format_)):
            is_odd = width(value).isNotNull() & (width(value) != pattern)
            if format_.conventions:
                is_odd = is_odd & ~F.coalesce(affix(value).isin(*format_.conventions), F.lit(False))
            new = nothing
            if is_digits and format_.leading_zeros:
                is_short = value.rlike(r"^\d+$") & (F.length(value) < len(pattern))
                new = F.when(is_short, F.lpad(value, len(pattern), "0"))
            found.append(Deviation("width", is_odd, new, 0.85, 0.6))
    if format_.case is not None:
        recased = {"upper": F.upper(value), "lower": F.lower(value), "title": F.initcap(value)}[format_.case]
        is_odd = value != recased
        if format_.case == "title":
            # Two cases in one word, as in McCoy or iPad, are a spelling of its own.
            is_odd = is_odd & (value == F.upper(value)) | (value == F.lower(value))
        if format_.conventions:
            is_odd = is_odd & ~value.isin(*format_.conventions)
        found.append(Deviation("case", is_odd & value.rlike(r"\p{L}{2}"), recased, 0.85, 0.6))
    return found


def _is_words(patterns: Sequence[str]) -> bool:
    return all(re.fullmatch(r"[aA\s.,'’&()/-]+", pattern) for pattern in patterns)


def _is_code(format_: Format) -> bool:
    return format_.leading_zeros or format_.coverage[WIDTH] >= 0.98


def _bare(value: Column, format_: Format) -> Column:
    """The number beside a unit, written as the column's numbers are."""
    number = F.regexp_extract(value, _UNIT, 1)
    if all("." not in pattern for pattern in format_.usual[LOOSE]):
        number = F.regexp_replace(number, r"\.0+$", "")
    return number
