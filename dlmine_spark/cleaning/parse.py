"""Reading cells: text to typed values, as Spark expressions (no Python runs per row).

Spark computes an expression as often as it is mentioned, so these mention their argument as seldom as they can, and
``plan`` makes columns of the results in between.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

from dlmine_spark.cleaning.notation import (
    COMMA_NUMBER,
    DECIMAL_COMMA,
    DECORATION,
    FALSE,
    FIRST_YEAR,
    GROUPED,
    ISO,
    ISO_PATTERNS,
    LAST_YEAR,
    NEGATIVE,
    OTHER_PATTERNS,
    PLAINLY,
    POINT_NUMBER,
    TRUE,
    UNGROUPED,
)
from dlmine_spark.config import ColumnConfig, ColumnType

SHOWN_LETTERS = 100
"""Of a cell in a message: a field of ten megabytes must not be there twice."""
_FIRST_UNSURE = float(1 << 53)
NUMERIC: tuple[ColumnType, ...] = ("double", "integer")
MOMENTS: tuple[ColumnType, ...] = ("date", "timestamp")

_ZERO_WIDTH = "[\\u0000\\u200b-\\u200d\\u2060\\ufeff]"
_SPACES = "[\\s\\p{Z}]+"

_MARK = "\\p{M}"

_ISO_ZONE = r":.*(?:Z|[+-]\d{2}:?\d{2})$"
_ZONE_LETTERS = "[VzOXxZ]"
_ISO_BEFORE_ZONE = r"(:.*?) ?(?:Z|[+-]\d{2}:?\d{2})$"
_ZONE_OF_TEXT = r" ?(?:Z|[A-Za-z]+(?:/[A-Za-z_]+)*|(?:GMT|UTC)?[+-]\d{1,2}(?::?\d{2}){0,2})$"


@dataclass(frozen=True)
class Breach:
    """A rule of a column, when a value breaks it, what is said then and what is done."""

    rule: str
    condition: Column
    message: Column
    action: str


def trimmed(cell: Column) -> Column:
    """The cell without outer spaces, of whatever kind; runs of spaces inside become one, signs of no width nothing."""
    # Most cells are plain ASCII without two spaces in a row: a regular expression costs ten times as much as this look.
    is_plain = (
        ~is_foreign(cell)
        & ~F.contains(cell, F.lit("  "))
        & ~F.contains(cell, F.lit("\t"))
        & ~F.contains(cell, F.lit("\n"))
        & ~F.contains(cell, F.lit("\r"))
        & ~F.contains(cell, F.lit("\0"))
    )
    tidied = F.regexp_replace(F.regexp_replace(cell, _ZERO_WIDTH, ""), _SPACES, " ")
    return F.trim(F.when(is_plain, cell).otherwise(tidied))


def is_foreign(cell: Column) -> Column:
    """Whether a cell holds anything but ASCII."""
    return F.octet_length(cell) != F.char_length(cell)


def with_composed(cells: Sequence[Column]) -> Column:
    """The cells of a row with ``composed`` letters, as an array; null where no cell holds an accent of its own.

    One expression for all the cells: one for each would take Spark seconds to plan where there are hundreds.
    """
    return F.when(F.concat_ws("", *cells).rlike(_MARK), F.transform(F.array(*cells), composed))


def composed(text: Column) -> Column:
    """A text whose letters are one character with the accents that follow them, where Unicode has that character.

    This is NFC (Unicode Standard Annex 15) of letters with marks after them, whatever the order of the marks. Of what
    NFC changes beside that, nothing is: an accent behind another one that has no place on its letter, signs that
    Unicode has twice (the Kelvin sign), Hangul written in parts.
    """
    pairs = F.str_to_map(F.lit(_compositions()), F.lit("\n"), F.lit("\t"))
    nothing = F.struct(F.lit("").alias("done"), F.lit("").alias("last"))

    def add(state: Column, character: Column) -> Column:
        whole_character = F.try_element_at(pairs, F.concat(state["last"], character))
        return F.when(
            whole_character.isNull(),
            F.struct(F.concat(state["done"], state["last"]).alias("done"), character.alias("last")),
        ).otherwise(F.struct(state["done"].alias("done"), whole_character.alias("last")))

    characters = F.regexp_extract_all(text, F.lit("(?s)."), F.lit(0))
    return F.aggregate(characters, nothing, add, lambda state: F.concat(state["done"], state["last"]))


def present(text: Column, null_tokens: Sequence[str]) -> Column:
    """A trimmed cell, null where it is one of the words that mean missing."""
    return F.when(~text.isin(*null_tokens), text) if null_tokens else text


def number(text: Column, decimal: str) -> Column:
    """A number written plainly, or with currency signs, thousands separators, a decimal comma, a percent sign.

    Where both separators occur, or one occurs twice, their order tells which is which. A single one before exactly
    three digits is ambiguous (1,234): then ``decimal`` decides. What is no number, or too long for one, is null.
    """
    is_plain, plain = text.rlike(_normal_number(decimal)), text
    if decimal == ",":
        plain = F.replace(text, F.lit(","), F.lit("."))
    other = "," if decimal == "." else "."
    bare = F.regexp_replace(F.regexp_replace(text, DECORATION, ""), NEGATIVE, "-$1$2$3")
    bare = F.regexp_replace(bare, "%$", "e-2")
    bare = F.regexp_replace(bare, f"^{GROUPED[decimal]}", UNGROUPED)
    bare = F.regexp_replace(bare, DECIMAL_COMMA, "$1.$2")
    bare = F.regexp_replace(bare, f"{PLAINLY[other]}{GROUPED[other]}", UNGROUPED)
    read = F.regexp_extract(bare, POINT_NUMBER, 0)
    return F.when(is_plain, plain).otherwise(read).try_cast("double")


def whole(value: Column) -> Column:
    """The number if it has no decimals, and none of its digits is lost: from 2^53 on, two numbers are one."""
    return F.when((value % 1 == 0) & (F.abs(value) < _FIRST_UNSURE), value)


def truth(text: Column) -> Column:
    """1 or 0 from a word for yes or no, in one of five languages."""
    word = F.lower(text)
    return F.when(word.isin(*TRUE), F.lit(1.0)).when(word.isin(*FALSE), F.lit(0.0))


def moments(
    text: Column, formats: Sequence[str], time_zone: str | None = None, *, as_written: bool = False
) -> list[Column]:
    """The timestamp in each of the accepted formats, null where the text is not in it: declared ones, ISO, others.

    The first that is not null counts. A time without a zone is the declared zone's, else the session's. Where clocks
    go forward, a time that they skip is as much later as they skip; where they go back, a time that comes twice is the
    first of the two (``java.time``).

    Args:
        text: a trimmed cell.
        formats: declared ones.
        time_zone: declared one, of texts without a zone.
        as_written: leave away the offset or zone that a text ends with, so that its day and hour stay as they are
            written, wherever that was. With it, no zone is declared.
    """
    iso_text = text
    if as_written:
        iso_text = F.when(F.contains(text, F.lit(":")), F.regexp_replace(text, _ISO_BEFORE_ZONE, "$1")).otherwise(text)
    iso = F.when(text.rlike(ISO), in_zone(iso_text, time_zone).try_cast("timestamp"))
    in_format = _as_written if as_written else functools.partial(_in_format, time_zone=time_zone)
    declared = [in_format(text, pattern) for pattern in formats if pattern not in ISO_PATTERNS]
    others = [_in_format(text, pattern, time_zone) for pattern in OTHER_PATTERNS if pattern not in formats]
    is_iso_first = not formats or formats[0] in ISO_PATTERNS
    return [iso, *declared, *others] if is_iso_first else [*declared, iso, *others]


def tells_zone(text: Column) -> Column:
    """Whether a time in ISO ends with a zone or an offset."""
    return text.rlike(_ISO_ZONE)


def on_clocks_of(moment: Column, time_zone: str) -> Column:
    """The moment with day and hour that clocks of a zone showed, of an instant as the session tells it."""
    told = moment.cast("timestamp_ntz")
    return F.convert_timezone(F.current_timezone(), F.lit(time_zone), told).cast("timestamp")


def in_zone(text: Column, time_zone: str | None) -> Column:
    """A date or time in ISO with the zone behind it, where it has none; Spark wants seconds before a zone."""
    if time_zone is None:
        return text

    def with_zone(rest: str) -> Column:
        return F.concat(text, F.lit(f"{rest} {time_zone}"))

    return (
        F.when(F.char_length(text) == len("2024-01-31"), with_zone(" 00:00:00"))
        .when(F.char_length(text) == len("2024-01-31 12:00"), with_zone(":00"))
        .when(text.rlike(_ISO_ZONE), text)
        .otherwise(with_zone(""))
    )


def _in_format(text: Column, pattern: str, time_zone: str | None) -> Column:
    if time_zone is None or re.search(_ZONE_LETTERS, re.sub("'[^']*'", "", pattern)):
        return F.try_to_timestamp(text, F.lit(pattern))
    # The zone goes with the text: a time moved afterwards would be a wrong one where the session's own clocks change.
    return F.try_to_timestamp(F.concat(text, F.lit(f" {time_zone}")), F.lit(f"{pattern} VV"))


def _as_written(text: Column, pattern: str) -> Column:
    """The moment without the zone that pattern and text end with."""
    without = re.sub(f" ?{_ZONE_LETTERS}+$", "", pattern)
    return _in_format(text if without == pattern else F.regexp_replace(text, _ZONE_OF_TEXT, ""), without, None)


def plausible(moment: Column) -> Column:
    """The moment, if it lies in a year between ``FIRST_YEAR`` and ``LAST_YEAR``."""
    return F.when(F.year(moment).between(FIRST_YEAR, LAST_YEAR), moment)


def cased(text: Column, spec: ColumnConfig) -> Column:
    """The text in the declared case."""
    return {"keep": text, "upper": F.upper(text), "lower": F.lower(text)}[spec.case]


def text_rules(spec: ColumnConfig) -> dict[str, str]:
    """The rules about the form of a text that a column has, with the words for a text that breaks them."""
    rules = {}
    if spec.pattern is not None:
        rules["not_matching"] = f"does not match {spec.pattern}"
    shortest, longest = spec.min_length, spec.max_length
    if shortest is not None or longest is not None:
        bounds = (f"at least {shortest}" if shortest else "", f"at most {longest}" if longest else "")
        rules["wrong_length"] = f"is not {' and '.join(bound for bound in bounds if bound)} characters long"
    return rules


def text_checks(text: Column, spec: ColumnConfig) -> dict[str, Column]:
    """Whether a text meets each of ``text_rules``."""
    checks = {}
    if spec.pattern is not None:
        checks["not_matching"] = text.rlike(whole_text(spec.pattern))
    if spec.min_length is not None or spec.max_length is not None:
        longest = F.lit(sys.maxsize) if spec.max_length is None else F.lit(spec.max_length)
        checks["wrong_length"] = F.char_length(text).between(F.lit(spec.min_length or 0), longest)
    return checks


def breaches(value: Column, spec: ColumnConfig) -> list[Breach]:
    """What the rules of a column would say of a typed value, with what is to be done then."""
    shown = F.substring(value.cast("string"), 1, SHOWN_LETTERS)
    found = []
    if spec.required:
        found.append(Breach("missing", value.isNull(), F.lit("is required and has no value"), "quarantine"))
    if spec.minimum is not None or spec.maximum is not None:
        message = F.concat(F.lit(f"is not {legal_range(spec)}: "), shown)
        found.append(Breach("out_of_range", is_outside(value, spec), message, spec.out_of_range))
    if spec.allowed:
        message = F.concat(F.lit("is no allowed value: "), shown)
        found.append(Breach("not_allowed", ~value.isin(*spec.allowed), message, spec.not_allowed))
    for rule, is_met in text_checks(value, spec).items():
        message = F.concat(F.lit(f"{text_rules(spec)[rule]}: "), shown)
        found.append(Breach(rule, ~is_met, message, spec.not_matching))
    return found


def is_outside(value: Column, spec: ColumnConfig) -> Column:
    """Whether a number is below the least or above the largest legal one; never null."""
    below = value < spec.minimum if spec.minimum is not None else F.lit(False)
    above = value > spec.maximum if spec.maximum is not None else F.lit(False)
    return F.coalesce(below | above, F.lit(False))


def legal_range(spec: ColumnConfig) -> str:
    """The range of a column in words."""
    low = "" if spec.minimum is None else f"at least {spec.minimum:g}"
    high = "" if spec.maximum is None else f"at most {spec.maximum:g}"
    return " and ".join(part for part in (low, high) if part)


def whole_text(pattern: str) -> str:
    """The pattern of whole texts that match; a $ would also stand before a line break at the end."""
    return f"\\A(?:{pattern})\\z"


def is_normal(cell: Column, type_: ColumnType, spec: ColumnConfig) -> Column:
    """Whether a cell is written just as declared, so that reading it repaired nothing (moments: see ``moments``)."""
    if type_ == "boolean":
        return cell.isin("0", "1", "true", "false")
    return cell.rlike(_normal_number(spec.decimal))


def nearest_allowed(text: Column, spec: ColumnConfig) -> Column:
    """The allowed value that is nearest to a text, null where none is near enough.

    Similarity is 1 - edit distance / length of the longer text, without regard to case. A tie goes to neither: a
    correction that could be another one is no correction.
    """
    lower = F.lower(text)
    scored = F.array_sort(
        F.array(
            *(
                F.struct(
                    (
                        F.levenshtein(lower, F.lit(value.lower()))
                        / F.greatest(F.char_length(text), F.lit(len(value)), F.lit(1))
                    ).alias("distance"),
                    F.lit(value).alias("value"),
                )
                for value in spec.allowed
            )
        )
    )
    best, second = F.get(scored, F.lit(0)), F.get(scored, F.lit(1))
    # Similarities are ratios of small whole numbers; 1 - 0.8 is not quite 0.2.
    is_near = best["distance"] <= F.lit(1 - spec.similarity + 1e-9)
    is_alone = second.isNull() | (second["distance"] > best["distance"])
    return F.when(is_near & is_alone, best["value"])


def _normal_number(decimal: str) -> str:
    return POINT_NUMBER if decimal == "." else COMMA_NUMBER


@functools.cache
def _compositions() -> str:
    """Each character before a mark that the two are one character with, a tab, and that one: a line for each pair."""
    decompositions = ((chr(code), unicodedata.decomposition(chr(code))) for code in range(sys.maxunicode + 1))
    # A decomposition with a word in front (<compat>) is one that NFC leaves alone.
    letters = {one for one, parts in decompositions if " " in parts and not parts.startswith("<")}
    parts = {sign for one in letters for sign in unicodedata.normalize("NFD", one)}
    marks = sorted(sign for sign in parts if unicodedata.category(sign).startswith("M"))
    before = sorted(letters | parts)
    made = ((letter + mark, unicodedata.normalize("NFC", letter + mark)) for letter in before for mark in marks)
    return "\n".join(f"{pair}\t{one}" for pair, one in made if len(one) == 1)
