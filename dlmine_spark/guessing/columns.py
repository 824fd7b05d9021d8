"""What each column of a sample holds: its type, how its dates and numbers are written, its values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from dlmine_spark.cleaning.notation import AMBIGUOUS, FALSE, MISSING_WORDS, TRUE, number_of
from dlmine_spark.config import ColumnType, SourceConfig
from dlmine_spark.guessing.dates import NUMBER_PATTERNS, Formats, formats_of, has_offset, reader
from dlmine_spark.guessing.words import TIME, likeness

MOST = 0.9
"""Share of the known cells that have to read as a type; the others are dirt, which cleaning takes care of."""
_LOOKED_AT = 800
"""Different texts of a column whose way of writing is looked at."""
_DATE_LIKE = re.compile(
    r"\d{1,4}[-/. ]\d{1,2}([-/.]\d{1,4})?([ T]\d{1,2}:\d{2}.*)?|\d{8}|\d{12}"
    r"|(\d{1,2}[- ])?[A-Za-z]{3,9}[- .]*(\d{1,2},?[- ])?\d{2,4}( \d{1,2}:\d{2})?",
    re.ASCII,
)
_NUMBER_LIKE = re.compile(r"\d{4}|\d{6}", re.ASCII)
_CODE = re.compile(r"[+-]?0\d+|\d{16,}", re.ASCII)
"""007 is a name, and so is what is too long to be counted with."""
_DEFAULT_NULLS = SourceConfig.model_fields["null_tokens"].default

Decimal = Literal[".", ","]


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What one column of a sample holds.

    Attributes:
        name: in the file.
        type: a type that ``MOST`` known cells have, else string.
        known: cells with a value.
        values: one a row: moments (``datetime64``), numbers, or texts as the type has them; NaT, NaN and None where
            there is nothing of it.
        distinct: different texts.
        examples: the most frequent texts.
        formats: of dates.
        decimal: sign that its numbers are written with.
        is_flag: no more than two values, which mean yes and no.
        nulls: words for missing beside those that a source has by default.
    """

    name: str
    type: ColumnType
    known: int
    values: pd.Series = field(compare=False, repr=False)
    distinct: int = 0
    examples: tuple[str, ...] = ()
    formats: Formats | None = None
    decimal: Decimal = "."
    is_flag: bool = False
    nulls: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        """Whether it could be summed."""
        return self.type in ("integer", "double")

    @property
    def is_moment(self) -> bool:
        """Whether it tells a date or time."""
        return self.type in ("date", "timestamp")

    @property
    def has_offset(self) -> bool:
        """Whether its times tell how far their clock is from UTC."""
        return self.is_moment and any(has_offset(text) for text in self.examples)

    @property
    def least(self) -> float:
        """The smallest number; NaN where there is none."""
        return float(self.values.min()) if self.is_number and self.known else float("nan")


def look_at_columns(
    cells: pd.DataFrame, types: Mapping[str, ColumnType] | None = None, *, delimiter: str = ","
) -> list[ColumnFacts]:
    """The facts of every column of a sample.

    Args:
        cells: every cell a trimmed text, None where there is nothing.
        types: those that the file itself declares (Parquet, Delta); what it says is not guessed again.
        delimiter: between the cells of a line: where it is a semicolon, numbers tend to have a decimal comma and dates
            their day first.
    """
    texts = {name: cells[name] for name in cells.columns}
    counted = {name: Counter(column.dropna()) for name, column in texts.items()}
    decimal = _decimal_of_file(counted.values(), delimiter)
    day_first = decimal == "," or delimiter == ";"
    declared = types or {}
    return [
        _column(name, column, counted[name], declared.get(name), decimal, day_first=day_first)
        for name, column in texts.items()
    ]


def _column(
    name: str,
    cells: pd.Series,
    counts: Counter[str],
    declared: ColumnType | None,
    usual_decimal: Decimal,
    *,
    day_first: bool,
) -> ColumnFacts:
    words = {text for text in counts if text in _DEFAULT_NULLS}
    texts = Counter({text: copies for text, copies in counts.items() if text not in words})
    known = sum(texts.values())
    looked_at = _evenly(texts, _LOOKED_AT)

    def facts(type_: ColumnType, values: pd.Series, **further: object) -> ColumnFacts:
        examples = tuple(text for text, _ in texts.most_common(3))
        return ColumnFacts(name, type_, known, values, len(texts), examples, **further)  # type: ignore[arg-type]

    plain = cells.where(~cells.isin(words), None) if words else cells
    if not known:
        return facts("string", plain)
    if declared in (None, "date", "timestamp"):
        formats = _formats(name, looked_at, day_first=day_first)
        if formats is not None:
            moments = _moments(plain, texts, formats)
            has_times = bool((moments.dropna() != moments.dropna().dt.normalize()).any())
            return facts("timestamp" if has_times else "date", moments, formats=formats)
    if declared == "string":
        return facts("string", plain)
    nulls = tuple(sorted(text for text in texts if text.lower() in MISSING_WORDS))
    wanted = Counter({text: copies for text, copies in texts.items() if text not in nulls})
    decimal = _decimal(wanted, usual_decimal)
    numbers = {text: number_of(text, decimal) for text in wanted}
    read = sum(copies for text, copies in wanted.items() if numbers[text] is not None)
    truths = {text: float(text.lower() in TRUE) for text in wanted if text.lower() in (*TRUE, *FALSE)}
    told = sum(wanted[text] for text in truths)
    is_flag = _are_most(told, sum(wanted.values())) and all(one in (None, 0, 1) for one in numbers.values())
    codes = sum(copies for text, copies in wanted.items() if _CODE.fullmatch(text))
    if wanted and not codes and _are_most(read, sum(wanted.values())):
        values = cells.map(numbers).astype(float)
        is_whole = bool((values.dropna() % 1 == 0).all()) and not any(re.search(r"[.,]\d", text) for text in wanted)
        type_: ColumnType = "integer" if is_whole and declared != "double" else "double"
        return facts(type_, values, decimal=decimal, is_flag=is_flag, nulls=nulls)
    if is_flag:
        return facts("boolean", cells.map(truths).astype(float), is_flag=True, nulls=nulls)
    return facts("string", plain)


def _are_most(read: int, known: int) -> bool:
    """Whether all but dirt reads as a type; of a few rows, one or two may be dirt."""
    return read >= MOST * known or (known - read <= 2 and read >= 0.75 * known)


def _evenly(texts: Counter[str], most: int) -> dict[str, int]:
    """Texts from the whole of a column, not only its first ones."""
    names = list(texts)
    every = max(1, len(names) // most)
    return {name: texts[name] for name in names[::every]}


def _formats(name: str, texts: Mapping[str, int], *, day_first: bool) -> Formats | None:
    """How a column of dates is written, None where it is none."""
    total = sum(texts.values())
    is_time = likeness(name, TIME) > 0
    if is_time and sum(copies for text, copies in texts.items() if _NUMBER_LIKE.fullmatch(text)) >= MOST * total:
        for pattern in NUMBER_PATTERNS:
            if sum(copies for text, copies in texts.items() if reader(pattern)(text)) >= MOST * total:
                return Formats((pattern,), 1.0)
    if sum(copies for text, copies in texts.items() if _DATE_LIKE.match(text)) < MOST * total:
        return None
    found = formats_of(texts, day_first=day_first)
    # 12.5 is no month of the year 5, nor 20.2024 a date of its own right: mere months need a name that speaks of time.
    is_bare_month = bool(found.patterns) and "d" not in found.patterns[0] and found.patterns[0] != "ISO"
    if found.share < MOST or (is_bare_month and not is_time and "MMM" not in found.patterns[0]):
        return None
    return found


def _moments(cells: pd.Series, texts: Counter[str], formats: Formats) -> pd.Series:
    readers = [reader(pattern) for pattern in formats.patterns]
    read = {text: next((moment for one in readers if (moment := one(text)) is not None), None) for text in texts}
    return pd.to_datetime(cells.map(read), errors="coerce")


def _votes(texts: Mapping[str, int]) -> tuple[int, int]:
    """Cells that can only have a decimal comma, and such with a decimal point."""
    comma = sum(n for text, n in texts.items() if re.fullmatch(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+.{0,4}", text))
    point = sum(n for text, n in texts.items() if re.fullmatch(r"\D{0,4}(\d+|\d{1,3}(,\d{3})+)\.\d+", text))
    unsure = sum(n for text, n in texts.items() if re.fullmatch(AMBIGUOUS, text, re.ASCII))
    return (max(0, comma - unsure), point) if comma >= point else (comma, max(0, point - unsure))


def _decimal(texts: Mapping[str, int], usual: Decimal) -> Decimal:
    comma, point = _votes(texts)
    return usual if comma == point else "," if comma > point else "."


def _decimal_of_file(columns: Iterable[Counter[str]], delimiter: str) -> Decimal:
    """The sign that most numbers of a file have, which decides where a column's own cells do not."""
    votes = [_votes(_evenly(texts, _LOOKED_AT)) for texts in columns]
    comma, point = sum(one for one, _ in votes), sum(other for _, other in votes)
    return "," if comma > point or (comma == point and delimiter == ";") else "."
