"""How people write numbers, truths, dates and nothing: what Spark's expressions and plain Python go by. No Spark here.

The regular expressions are written for Java and Python alike (ASCII digits).
"""

from __future__ import annotations

import re
from typing import Literal

TRUE = ("1", "true", "t", "yes", "y", "on", "ja", "wahr", "oui", "si", "sì", "sí")
FALSE = ("0", "false", "f", "no", "n", "off", "nein", "falsch", "non")

MISSING_WORDS = (
    "empty", "unknown", "unkown", "n/a", "na", "n.a.", "#n/a", "none", "null", "nil", "nan", "nat", "missing", "blank",
    "undefined", "unspecified", "not available", "not applicable", "not known", "not provided", "tbd", "tba",
    "no data", "unbekannt", "inconnu", "?", "??", "???", "-", "--", "---", ".", "..", "...", "*", "xxx", "void",
)  # fmt: skip
"""Words for a missing value, in lower case."""

# No more digits than a double can hold, so that nothing reads as infinity.
POINT_NUMBER = r"^[+-]?(?:\d{1,64}(?:\.\d{0,64})?|\.\d{1,64})(?:[eE][+-]?\d{1,2})?$"
COMMA_NUMBER = r"^[+-]?\d{1,64}(?:,\d{1,64})?$"
# Currencies, spaces beside no digit, spaces and apostrophes between groups of three digits.
DECORATION = (
    r"(?i)(?:us|a|c)?\$|[€£¥₹]|(?<![a-z])(?:eur|usd|gbp|chf|jpy|cny|inr|aud|cad|sek|nok|dkk|pln|czk)(?![a-z])"
    r"|(?<=\d)[ '’](?=\d{3}(?:\D|$))|(?<!\d) | (?!\d)"
)
# (12.50) and 12.50- are how accountants and SAP write what is owed.
NEGATIVE = r"^\((.*)\)$|^[−–](.*)$|^(.+)-$"
GROUPED = {
    ".": r"([+-]?[1-9]\d{0,2}),(?:(\d{2,3}),)?(?:(\d{2,3}),)?(?:(\d{2,3}),)?(\d{3})(?:\.(\d*))?([eE].*)?$",
    ",": r"([+-]?[1-9]\d{0,2})\.(?:(\d{3})\.)?(?:(\d{3})\.)?(?:(\d{3})\.)?(\d{3})(?:,(\d*))?([eE].*)?$",
}
"""Numbers with thousands separators, by decimal sign: 1,234.5 (also 1,00,000 as in India) and 1.234,5."""
UNGROUPED = "$1$2$3$4$5.$6$7"
# What is grouped the other way than declared must show it: by a decimal sign, or by two separators.
PLAINLY = {".": r"^(?=.*\.|.*,.*,)", ",": r"^(?=.*,|.*\..*\.)"}
DECIMAL_COMMA = r"^([+-]?\d*),(\d+(?:[eE].*)?)$"
AMBIGUOUS = r"^[+-]?[1-9]\d{0,2}[.,]\d{3}$"
"""One sign before exactly three digits: a thousand and more, or a little more than one."""

ISO = r"^\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?)?$"
ISO_PATTERNS = ("yyyy-MM-dd", "yyyy-MM-dd HH:mm:ss", "yyyy-MM-dd HH:mm", "yyyy-MM-dd'T'HH:mm:ss", "yyyy-MM-dd'T'HH:mm")
OTHER_PATTERNS = ("yyyy/MM/dd", "yyyyMMdd", "yyyy/MM/dd HH:mm:ss", "yyyy/MM/dd HH:mm")
"""Read wherever a date is wanted, beside ISO's."""
DATE_PATTERNS = (
    "yyyy-MM-dd",
    "yyyy-MM-dd HH:mm:ss",
    "yyyy-MM-dd HH:mm",
    "yyyy/MM/dd",
    "yyyyMMdd",
    "dd.MM.yyyy",
    "dd.MM.yyyy HH:mm",
    "d.M.yyyy",
    "dd/MM/yyyy",
    "MM/dd/yyyy",
    "M/d/yyyy",
    "d/M/yyyy",
    "M/d/yy",
    "d/M/yy",
    "dd-MM-yyyy",
    "MM-dd-yyyy",
    "dd/MM/yyyy HH:mm",
    "M/d/yyyy H:mm",
)
"""Date and time patterns that are tried, Spark's."""
FIRST_YEAR, LAST_YEAR = 1800, 2200
"""Years that no business has are typing errors or mean "never" (9999), and some readers of Parquet shift them."""


def number_of(text: str, decimal: Literal[".", ","]) -> float | None:
    """The number that ``parse.number`` reads from a trimmed cell; None where it reads none."""
    if decimal == "," and re.match(COMMA_NUMBER, text, re.ASCII):
        return float(text.replace(",", "."))
    if decimal == "." and re.match(POINT_NUMBER, text, re.ASCII):
        return float(text)
    other = "," if decimal == "." else "."
    ungrouped = _in_python(UNGROUPED)
    bare = re.sub(DECORATION, "", text, flags=re.ASCII)
    bare = re.sub(NEGATIVE, _in_python("-$1$2$3"), bare, flags=re.ASCII)
    bare = re.sub("%$", "e-2", bare)
    bare = re.sub(f"^{GROUPED[decimal]}", ungrouped, bare, flags=re.ASCII)
    bare = re.sub(DECIMAL_COMMA, _in_python("$1.$2"), bare, flags=re.ASCII)
    bare = re.sub(f"{PLAINLY[other]}{GROUPED[other]}", ungrouped, bare, flags=re.ASCII)
    return float(bare) if re.match(POINT_NUMBER, bare, re.ASCII) else None


def _in_python(replacement: str) -> str:
    """Java's ``$1`` as Python has it."""
    return re.sub(r"\$(\d)", r"\\g<\1>", replacement)
