"""Cells of text to typed values, as native Spark expressions: no Python runs per row, nothing raises.

A cell that cannot be read is null here; whether that is a repair or a reason to refuse the row is decided in ``plan``.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from dlmine_spark.config import ColumnConfig, ColumnType, SourceConfig

ISO_DATE = ("yyyy-MM-dd", "yyyy/MM/dd", "yyyyMMdd")
ISO_TIMESTAMP = (
    "yyyy-MM-dd HH:mm:ss",
    "yyyy-MM-dd'T'HH:mm:ss",
    "yyyy-MM-dd HH:mm",
    "yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]",
    "yyyy-MM-dd",
)
_TRUE = ("1", "true", "t", "yes", "y", "on", "ja", "wahr", "oui", "si", "sì", "sí")
_FALSE = ("0", "false", "f", "no", "n", "off", "nein", "falsch", "non")
_SPACES = "[\\s\\u00a0\\u2000-\\u200b\\u202f\\u3000\\ufeff]+"
_CURRENCY = "(?i)^(-?)(?:[$€£¥₹]|eur|usd|gbp|chf)|(?:[$€£¥₹]|eur|usd|gbp|chf)$"
_PLAIN_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def trimmed(cell: Column) -> Column:
    """The cell without outer spaces, of whatever kind; runs of spaces inside become one."""
    return F.trim(F.regexp_replace(F.regexp_replace(cell, "\\u0000", ""), _SPACES, " "))


def present(cell: Column, source: SourceConfig) -> Column:
    """The trimmed cell, null where it is one of the words that mean missing."""
    text = trimmed(cell)
    return F.when(~text.isin(*source.null_tokens), text) if source.null_tokens else text


def parsed(text: Column, type_: ColumnType, spec: ColumnConfig) -> Column:
    """The typed value of a trimmed cell, null where it cannot be read."""
    if type_ in ("double", "integer"):
        return number(text, spec.decimal, type_)
    if type_ == "boolean":
        word = F.lower(text)
        return F.when(word.isin(*_TRUE), F.lit(1.0)).when(word.isin(*_FALSE), F.lit(0.0))
    if type_ in ("date", "timestamp"):
        return moment(text, spec.formats, type_)
    return {"keep": text, "upper": F.upper(text), "lower": F.lower(text)}[spec.case]


def number(text: Column, decimal: str, type_: ColumnType) -> Column:
    """A number written plainly, or with currency signs, thousands separators, a decimal comma, a percent sign.

    Where both signs occur the later one is the decimal sign (1.234,56 and 1,234.56). Where one sign occurs once before
    exactly three digits it is ambiguous (1,234): then ``decimal`` decides.
    """
    bare = F.regexp_replace(F.regexp_replace(text, _CURRENCY, "$1"), "[ '_]", "")
    bare = F.regexp_replace(bare, _CURRENCY, "$1")
    is_percent = bare.endswith("%")
    bare = F.regexp_replace(bare, "%$", "")
    # (1.234,50) is how accountants write a negative amount.
    bare = F.regexp_replace(bare, r"^\((.*)\)$", "-$1")
    comma, point = F.instr(F.reverse(bare), ","), F.instr(F.reverse(bare), ".")
    commas = F.length(bare) - F.length(F.replace(bare, F.lit(","), F.lit("")))
    points = F.length(bare) - F.length(F.replace(bare, F.lit("."), F.lit("")))
    without_points = F.replace(F.replace(bare, F.lit("."), F.lit("")), F.lit(","), F.lit("."))
    without_commas = F.replace(bare, F.lit(","), F.lit(""))
    grouped_comma = bare.rlike(r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$")
    grouped_point = bare.rlike(r"^[+-]?\d{1,3}(\.\d{3})+(,\d*)?$")
    plain = (
        F.when((commas == 0) & (points <= 1), _ambiguous_point(bare, grouped_point, decimal))
        .when((commas > 0) & (points > 0), F.when(comma < point, without_points).otherwise(without_commas))
        .when(commas > 1, without_commas)
        .when(points > 1, without_points)
        .otherwise(
            F.when(grouped_comma, without_commas if decimal == "." else without_points).otherwise(without_points)
        )
    )
    value = F.when(plain.rlike(_PLAIN_NUMBER), plain.try_cast("double"))
    value = F.when(is_percent, value / 100).otherwise(value)
    # Numbers beyond a double's range read as infinity; they are no values of anything.
    value = F.when(F.abs(value) < F.lit(1e300), value)
    return F.round(value).cast("double") if type_ == "integer" else value


def _ambiguous_point(bare: Column, grouped: Column, decimal: str) -> Column:
    """``1.234`` is a thousand only where the decimal sign is a comma."""
    return F.when(grouped, F.replace(bare, F.lit("."), F.lit(""))).otherwise(bare) if decimal == "," else bare


def is_plain(text: Column, type_: ColumnType, spec: ColumnConfig) -> Column:
    """Whether a readable cell was already written in its normal form, so that reading it repaired nothing."""
    if type_ in ("double", "integer"):
        return text.rlike(_PLAIN_NUMBER)
    if type_ in ("date", "timestamp"):
        first = (*spec.formats, *(ISO_DATE if type_ == "date" else ISO_TIMESTAMP))[0]
        return F.try_to_timestamp(text, F.lit(first)).isNotNull()
    return F.lit(True)


def moment(text: Column, formats: tuple[str, ...], type_: ColumnType) -> Column:
    """A date or timestamp in the first of the formats that reads it: the declared ones, then ISO's."""
    candidates = (*formats, *(ISO_DATE + ISO_TIMESTAMP if type_ == "date" else ISO_TIMESTAMP + ISO_DATE))
    attempts = [F.try_to_timestamp(text, F.lit(pattern)) for pattern in dict.fromkeys(candidates)]
    value = reduce(lambda first, second: F.coalesce(first, second), attempts)
    # Years that no business has are typing errors, and some readers of Parquet shift them.
    plausible = F.when(F.year(value).between(1800, 2200), value)
    return plausible.cast("date") if type_ == "date" else plausible


def corrected(text: Column, spec: ColumnConfig) -> Column:
    """The allowed value that is nearest to a cell, null where none is near enough.

    Similarity is 1 - edit distance / length of the longer text, without regard to case. A tie goes to neither: a
    correction that could be another one is no correction.
    """
    distances = [
        (F.levenshtein(F.lower(text), F.lit(value.lower())), value, F.greatest(F.length(text), F.lit(len(value))))
        for value in spec.allowed
    ]
    scored = F.array_sort(
        F.array(
            *(
                F.struct((distance / length).alias("distance"), F.lit(value).alias("value"))
                for distance, value, length in distances
            )
        )
    )
    best, second = F.get(scored, F.lit(0)), F.get(scored, F.lit(1))
    is_near = best["distance"] <= F.lit(1 - spec.similarity)
    is_alone = second.isNull() | (second["distance"] > best["distance"])
    return F.when(is_near & is_alone, best["value"])
