"""The building blocks of the page, and tables made of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pandas as pd

from dlmine_spark.report import text as t


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: the text shown, and what it is sorted by."""

    text: str
    sort: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a frame as a column of a table."""

    name: str
    title: str
    shown: Callable[[Any], str] = t.plain
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; sortable ones have buttons in their headings."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A plotly figure with a sentence on how to read it and the numbers behind it."""

    kind: ClassVar[str] = "chart"
    id: str
    title: str
    figure: Any
    reading: str
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph; ``tone`` is what it is about: plain, good news, or something to look into."""

    kind: ClassVar[str] = "note"
    text: str
    tone: Literal["plain", "good", "warn"] = "plain"


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading within a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A key figure: its label, the figure, and what stands behind it in small letters."""

    label: str
    value: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Key figures beside each other."""

    kind: ClassVar[str] = "facts"
    facts: Sequence[Fact]


@dataclass(frozen=True, slots=True)
class Tabs:
    """Alternatives of which one is shown at a time; on paper all are."""

    kind: ClassVar[str] = "tabs"
    label: str
    panes: Sequence[Pane]


@dataclass(frozen=True, slots=True)
class Pane:
    """One alternative."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Code:
    """Text to copy, folded away."""

    kind: ClassVar[str] = "code"
    summary: str
    text: str


Block = Table | Chart | Note | Heading | Facts | Tabs | Code


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page that the navigation leads to."""

    id: str
    title: str
    lead: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def table(
    frame: pd.DataFrame,
    caption: str,
    columns: Sequence[Column],
    *,
    sortable: bool = False,
    folded: bool = False,
) -> Table:
    """The rows of a frame as a table of texts."""
    present = [column for column in columns if column.name in frame.columns]
    rows = [
        [_cell(column, value) for column, value in zip(present, values, strict=True)]
        for values in frame[[column.name for column in present]].itertuples(index=False, name=None)
    ]
    return Table(caption, present, rows, sortable=sortable, folded=folded)


def charts_of(blocks: Iterable[Block]) -> list[Chart]:
    """Every chart among blocks, those within tabs too."""
    found: list[Chart] = []
    for block in blocks:
        if isinstance(block, Chart):
            found.append(block)
        elif isinstance(block, Tabs):
            for pane in block.panes:
                found.extend(charts_of(pane.blocks))
    return found


def _cell(column: Column, value: Any) -> Cell:
    shown = column.shown(value)
    if column.numeric:
        return Cell(shown, "" if t.is_missing(value) else repr(float(value)))
    return Cell(shown, shown)
