"""The building blocks of the page, and tables made of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pandas as pd

from dlmine_spark.report import text as t
from dlmine_spark.report.charts import Figure


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
class Row:
    """Cells, and the segment and the series that they are about: what the reader's filter goes by."""

    cells: Sequence[Cell]
    segment: str | None = None
    series: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table; sortable ones have buttons in their headings."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    sortable: bool = False
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure (see ``charts``) with a sentence on how to read it and the numbers behind it."""

    kind: ClassVar[str] = "chart"
    id: str
    title: str
    figure: Figure
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
    segment: str | None = None
    series: str | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """A list of series of which the reader draws one; ``packed`` (see ``series``) holds their values."""

    kind: ClassVar[str] = "lookup"
    note: str
    reading: str
    table: Table
    packed: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Code:
    """Text to copy, folded away."""

    kind: ClassVar[str] = "code"
    summary: str
    text: str


Block = Table | Chart | Note | Heading | Facts | Tabs | Lookup | Code


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
    segment: str | None = None,
    series: str | None = None,
) -> Table:
    """The rows of a frame as a table of texts.

    Args:
        frame: the rows.
        caption: says what they are.
        columns: those that are shown; those that the frame lacks are left out.
        sortable: by the reader.
        folded: shown when the reader asks for it.
        segment: column with the segment a row is about, where the reader may filter by it.
        series: the same of its series.
    """
    present = [column for column in columns if column.name in frame.columns]
    cells = [
        [_cell(column, value) for column, value in zip(present, values, strict=True)]
        for values in frame[[column.name for column in present]].itertuples(index=False, name=None)
    ]
    segments, names = (_tags(frame, name) for name in (segment, series))
    rows = [Row(*parts) for parts in zip(cells, segments, names, strict=True)]
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


def _tags(frame: pd.DataFrame, column: str | None) -> list[str | None]:
    """The column's values as texts, None where there are none."""
    if column is None or column not in frame:
        return [None] * len(frame)
    return [None if t.is_missing(value) else str(value) for value in frame[column]]


def _cell(column: Column, value: Any) -> Cell:
    shown = column.shown(value)
    if column.numeric:
        return Cell(shown, "" if t.is_missing(value) else repr(float(value)))
    return Cell(shown, shown)
