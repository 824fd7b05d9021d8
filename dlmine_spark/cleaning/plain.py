"""Plain rows: those whose every cell is already written as its column declares, so that nothing is left to clean.

In most files nearly every row is one. Telling so takes one regular expression a row, and reading it one cast a cell,
which together cost a tenth of what ``plan.mark_rows`` does for each row. Whatever this does not recognise is not
wrong: it is judged by ``mark_rows``, which is what decides, and a plain row would get the same values from it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from dlmine_spark.cleaning import parse
from dlmine_spark.cleaning.names import bronze_name
from dlmine_spark.cleaning.notation import ISO_PATTERNS
from dlmine_spark.cleaning.plan import SQL_TYPES
from dlmine_spark.config import ColumnConfig, SourceConfig

# No more digits than are surely kept: what has more goes the long way.
_WHOLE = r"-?[0-9]{1,15}"
_DATE = (
    r"(?:1[89]|2[01])[0-9]{2}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    r"|(?:0[13578]|1[02])-31)"
)
"""Days of the years 1800 to 2199 in ISO; of leap days, only the reading tells whether they exist."""
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?"
_ISO = f"{_DATE}(?:[ T]{_TIME})?"
_NOTHING = "(?!)"
_MOST_ALLOWED = 100
"""Of a longer list of allowed values, each would be tried in turn."""


def can_be_plain(source: SourceConfig) -> bool:
    """Whether a source asks of a row nothing that only its verdict, or the rows beside it, could tell."""
    moves = any(spec.outliers is not None and spec.outliers.method == "hampel" for spec in source.columns.values())
    asks_others = moves or bool(source.cancellations or source.mining or source.references)
    return source.kind != "baskets" and not source.equations and not asks_others


def plain_pattern(names: Sequence[str], source: SourceConfig, columns: Mapping[str, ColumnConfig]) -> str | None:
    """The regular expression of Java's that matches a whole plain row: its cells with the delimiter between them.

    Args:
        names: columns of the file in their order, as bronze has them.
        source: the declaration.
        columns: canonical name -> declaration with its type.

    Returns:
        The pattern, or None where the declaration asks for more than it could tell.
    """
    if " " in source.delimiter:
        return None
    by_cell: dict[str, list[ColumnConfig]] = {}
    for spec in columns.values():
        if not _is_supported(spec):
            return None
        by_cell.setdefault(bronze_name(spec.source or "").lower(), []).append(spec)
    cells = []
    for name in names:
        specs = by_cell.get(name.lower(), [])
        if len(specs) > 1:
            # One cell under two names has to be plain in two ways.
            return None
        cells.append(_plain_cell(specs[0], source) if specs else f"{_any_of(source, further=' ')}*+")
    return rf"\A{re.escape(source.delimiter).join(cells)}\z"


def plain_values(columns: Mapping[str, ColumnConfig]) -> dict[str, Column]:
    """The values of a plain row, from its cells in bronze."""
    return {name: _value(spec).cast(SQL_TYPES[spec.type or "string"]) for name, spec in columns.items()}


def within_rules(columns: Mapping[str, ColumnConfig]) -> Column | None:
    """Whether the values of a plain row lie in their ranges and have their form; None where no column has rules."""
    bounds = [(_value(spec), spec.minimum, spec.maximum) for spec in columns.values()]
    conditions = [value >= low for value, low, _ in bounds if low is not None]
    conditions += [value <= high for value, _, high in bounds if high is not None]
    for spec in columns.values():
        conditions += parse.text_checks(_value(spec), spec).values()
    # What is blank breaks no rule.
    return reduce(operator.and_, (F.coalesce(met, F.lit(True)) for met in conditions)) if conditions else None


def _is_supported(spec: ColumnConfig) -> bool:
    if len(spec.allowed) > _MOST_ALLOWED:
        return False
    is_iso = not spec.formats or spec.formats[0] in ISO_PATTERNS
    return spec.type not in parse.MOMENTS or (is_iso and spec.time_zone is None)


def _plain_cell(spec: ColumnConfig, source: SourceConfig) -> str:
    type_ = spec.type or "string"
    if type_ == "string" and spec.allowed:
        values = [re.escape(value) for value in spec.allowed if _is_tidy(value, spec, source)]
        cell = f"(?:{'|'.join(values)})" if values else _NOTHING
    elif type_ == "string":
        signs = _any_of(source, spec.case)
        cell = f"{_no_null_token(source)}{signs}++(?: {signs}++)*+"
    elif type_ == "boolean":
        cell = "(?:0|1|true|false)"
    elif type_ in parse.MOMENTS:
        cell = _ISO
    elif type_ == "integer":
        cell = _WHOLE
    else:
        cell = rf"{_WHOLE}(?:{re.escape(spec.decimal)}[0-9]{{1,15}})?"
    can_be_blank = not spec.required and "" in source.null_tokens
    return f"(?:{cell})?" if can_be_blank else cell


def _any_of(source: SourceConfig, case: str = "keep", further: str = "") -> str:
    """The class of the signs of a plain text: letters, digits and signs of ASCII, letters of other alphabets.

    Sign by sign, since Java looks such a class up in a table, where it would try ranges one after the other.
    """
    taken = {'"', *source.delimiter}
    signs = [*further, *(chr(code) for code in range(0x21, 0x7F) if chr(code) not in taken)]
    if case == "lower":
        signs = [sign for sign in signs if not sign.isupper()]
    elif case == "upper":
        signs = [sign for sign in signs if not sign.islower()]
    others = {"keep": r"\p{L}", "lower": r"\p{Ll}\p{Lo}", "upper": r"\p{Lu}\p{Lo}"}[case]
    return f"[{''.join(_literal(sign) for sign in signs)}{others}]"


def _no_null_token(source: SourceConfig) -> str:
    """A look ahead that refuses the words that mean missing; by their first sign, which most texts do not share."""
    words = [token for token in source.null_tokens if token]
    if not words:
        return ""
    firsts = "".join(sorted({_literal(word[0]) for word in words}))
    end = re.escape(source.delimiter)
    return rf"(?!(?=[{firsts}])(?:{'|'.join(re.escape(word) for word in words)})(?:{end}|\z))"


def _literal(sign: str) -> str:
    """A sign inside a class of signs, where most but letters and digits mean something else."""
    return sign if sign.isalnum() else f"\\{sign}"


def _is_tidy(value: str, spec: ColumnConfig, source: SourceConfig) -> bool:
    """Whether an allowed value would be read as it stands in the declaration."""
    is_plain = re.fullmatch(r"[!-~]+(?: [!-~]+)*", value) is not None
    is_whole = not any(sign in value for sign in ('"', source.delimiter)) and value not in source.null_tokens
    is_cased = value == {"keep": value, "lower": value.lower(), "upper": value.upper()}[spec.case]
    return is_plain and is_whole and is_cased


def _value(spec: ColumnConfig) -> Column:
    cell = F.col(f"`{bronze_name(spec.source or '')}`")
    if spec.type in parse.NUMERIC:
        point = F.replace(cell, F.lit(","), F.lit(".")) if spec.decimal == "," else cell
        return point.try_cast("double")
    if spec.type in parse.MOMENTS:
        return cell.try_cast("timestamp")
    if spec.type == "boolean":
        return F.when(cell.isin("1", "true"), F.lit(1.0)).when(cell != "", F.lit(0.0))
    return F.when(cell != "", cell)
