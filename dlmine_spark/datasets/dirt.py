"""Errors as real exports have them, injected on purpose and written down one by one.

A row gets at most one error, and none is ambiguous: formats are told apart by their separators, a typing error is
nearer to its own word than to any other, an absurd value lies beyond anything that was sold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Texts = Mapping[str, NDArray[np.object_]]
"""A file's columns by header name, every cell a text."""
Spoil = Callable[[str, np.random.Generator], str]
Eligible = Callable[[Texts], NDArray[np.bool_]]

ERROR_COLUMNS = ("file", "line", "key", "column", "kind", "clean", "dirty")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Blemish:
    """One kind of wrong cell.

    Attributes:
        kind: its name in ``truth/errors.csv``.
        column: where it occurs.
        share: of the file's rows (at least one row gets it, if any can).
        spoil: clean text to dirty text.
        eligible: the rows that can get it; default: those whose cell is not blank.
    """

    kind: str
    column: str
    share: float
    spoil: Spoil
    eligible: Eligible | None = None


@dataclass(frozen=True, slots=True)
class Dirt:
    """Everything that goes wrong in a file.

    Attributes:
        cells: wrong cells.
        late: a wrong cell whose row comes again at the end of the file, with the right value.
        duplicated: share of rows that come twice.
        truncated: share of lines that break off before their last cell.
    """

    cells: tuple[Blemish, ...]
    late: Blemish | None = None
    duplicated: float = 0.0
    truncated: float = 0.0


@dataclass(frozen=True, eq=False)
class Spoiled:
    """The lines of a dirty file (without its header), and one row of ``ERROR_COLUMNS`` per error."""

    lines: list[str]
    errors: pd.DataFrame


def as_lines(columns: Texts, delimiter: str) -> list[str]:
    """The rows as lines of text."""
    cells = [pa.array(cells, pa.string()) for cells in columns.values()]
    lines: list[str] = pc.binary_join_element_wise(*cells, delimiter).to_pylist()
    return lines


def spoil_file(
    file: str, columns: Texts, key: tuple[str, ...], dirt: Dirt, rng: np.random.Generator, delimiter: str
) -> Spoiled:
    """Inject errors into the rows of one file.

    Args:
        file: its name, for the record.
        columns: the clean rows.
        key: columns that name a row.
        dirt: what goes wrong.
        rng: chooses rows and errors.
        delimiter: between cells.
    """
    rows = len(next(iter(columns.values())))
    keys = as_lines({name: columns[name] for name in key}, "|")
    dirty = {name: cells.copy() for name, cells in columns.items()}
    free = np.ones(rows, dtype=bool)
    found: list[tuple[int, str, str, str, str]] = []
    for blemish in (*dirt.cells, *([dirt.late] if dirt.late else [])):
        chosen = _choose(blemish.share, free & _eligible(blemish, columns), rng)
        free[chosen] = False
        for row in chosen:
            clean = columns[blemish.column][row]
            dirty[blemish.column][row] = blemish.spoil(clean, rng)
            found.append((row, blemish.column, blemish.kind, clean, dirty[blemish.column][row]))
        if blemish is dirt.late:
            corrected = chosen
    duplicated = _choose(dirt.duplicated, free, rng)
    free[duplicated] = False
    truncated = _choose(dirt.truncated, free, rng)

    lines = as_lines(dirty, delimiter)
    clean_lines = {row: lines[row] for row in truncated}
    for row in truncated:
        lines[row] = _broken_off(lines[row], delimiter, rng)
        found.append((row, "", "truncated", clean_lines[row], lines[row]))
    order = np.sort(np.concatenate([np.arange(rows), duplicated]))
    # Line 1 is the header; a duplicate stands right after its row.
    line_of = np.searchsorted(order, np.arange(rows)) + 2
    written = [lines[row] for row in order]
    if dirt.late:
        written += as_lines({name: cells[np.sort(corrected)] for name, cells in columns.items()}, delimiter)
    errors = [(file, line_of[row], keys[row], *rest) for row, *rest in found]
    errors += [(file, line_of[row] + 1, keys[row], "", "duplicate", "", lines[row]) for row in duplicated]
    table = pd.DataFrame(errors, columns=list(ERROR_COLUMNS)).sort_values(["line", "column"], ignore_index=True)
    return Spoiled(written, table)


def _eligible(blemish: Blemish, columns: Texts) -> NDArray[np.bool_]:
    if blemish.eligible is not None:
        return blemish.eligible(columns)
    is_known: NDArray[np.bool_] = columns[blemish.column] != ""
    return is_known


def _choose(share: float, free: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows without an error so far, as many as the share of all rows asks for."""
    candidates = np.flatnonzero(free)
    wanted = max(1, round(share * len(free))) if share > 0 else 0
    return rng.choice(candidates, size=min(wanted, len(candidates)), replace=False)


def _broken_off(line: str, delimiter: str, rng: np.random.Generator) -> str:
    """The line up to somewhere inside one of its cells but the last two."""
    cells = line.split(delimiter)
    whole = int(rng.integers(1, len(cells) - 1))
    part = cells[whole][: int(rng.integers(0, len(cells[whole]) + 1))]
    return delimiter.join([*cells[:whole], part])


# What happens to a cell. Dates are ISO's, with or without a time; numbers are plain, with a decimal point.


def other_date(text: str, rng: np.random.Generator) -> str:
    """``2024-03-05`` as ``05.03.2024``, ``03/05/2024`` or ``05-Mar-2024``: the separator tells which."""
    day, _, time = text.partition(" ")
    year, month, number = day.split("-")
    written = (f"{number}.{month}.{year}", f"{month}/{number}/{year}", f"{number}-{MONTHS[int(month) - 1]}-{year}")
    return f"{written[rng.integers(len(written))]} {time}".strip()


def decimal_comma(text: str, rng: np.random.Generator) -> str:
    """``12345.67`` as ``12.345,67``."""
    return f"{float(text):,.2f}".translate(str.maketrans(",.", ".,"))


def thousands(text: str, rng: np.random.Generator) -> str:
    """``12345.67`` as ``12,345.67``, ``12 345.67`` or ``12'345.67``."""
    digits = len(text.partition(".")[2])
    return f"{float(text):,.{digits}f}".replace(",", (",", " ", "'")[rng.integers(3)])


def currency(text: str, rng: np.random.Generator) -> str:
    """``12.50`` as ``€12.50``, ``€ 12.50`` or ``12.50 EUR``."""
    return (f"€{text}", f"€ {text}", f"{text} EUR")[rng.integers(3)]


def missing(text: str, rng: np.random.Generator) -> str:
    """A blank, or a word for one."""
    return ("", "", "N/A", "null", "-", "NaN")[rng.integers(6)]


def negative(text: str, rng: np.random.Generator) -> str:
    """A sign too many."""
    return f"-{text}"


def hundredfold(text: str, rng: np.random.Generator) -> str:
    """The decimal point forgotten: ``12.50`` as ``1250.00``."""
    return f"{float(text) * 100:.2f}"


def remark(text: str, rng: np.random.Generator) -> str:
    """A word where a number should be."""
    return ("see note", "#REF!", "tbd", "open till")[rng.integers(4)]


def with_unit(text: str, rng: np.random.Generator) -> str:
    """``2`` as ``2 pcs`` or ``2 x``."""
    return f"{text} {('pcs', 'x')[rng.integers(2)]}"


def square_metres(text: str, rng: np.random.Generator) -> str:
    """``950`` as ``950 m2``."""
    return f"{text} m2"


def other_count(text: str, rng: np.random.Generator) -> str:
    """Another number of pieces."""
    return str(int(text) + int(rng.integers(1, 4)))


def half_day(text: str, rng: np.random.Generator) -> str:
    """Sales as reported before the tills were closed."""
    return f"{float(text) * rng.uniform(0.5, 0.9):.2f}"


def spaces(text: str, rng: np.random.Generator) -> str:
    """Spaces around the text, one of them no ordinary one."""
    return (f" {text}", f"{text}  ", f" {text} ", f"{text}\u00a0")[rng.integers(4)]


def upper(text: str, rng: np.random.Generator) -> str:
    """Capitals."""
    return text.upper()


def typo(text: str, rng: np.random.Generator) -> str:
    """One letter wrong, missing or twice."""
    place = int(rng.integers(1, len(text)))
    other = LETTERS[rng.integers(len(LETTERS))]
    # A letter that is not there yet always makes a difference.
    while other in text.lower():
        other = LETTERS[rng.integers(len(LETTERS))]
    return (
        text[:place] + other + text[place + 1 :],
        text[:place] + text[place + 1 :] if text[place] != text[place - 1] else text[:place] + other + text[place:],
        text[:place] + other + text[place:],
    )[rng.integers(3)]


def in_words(text: str, rng: np.random.Generator) -> str:
    """``1`` and ``0`` as yes and no, in more than one language."""
    return {"1": ("yes", "TRUE", "ja"), "0": ("no", "FALSE", "nein")}[text][rng.integers(3)]
