"""Tables of plain text for terminals. No Spark here."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], *, widest: int = 32, free: int | None = None) -> list[str]:
    """Lines of a table whose columns stand under each other, two spaces apart.

    Args:
        rows: cells of the heading and of each row.
        widest: letters that are shown of a cell.
        free: a column that is shown whole, or None; best the last one.
    """
    shown = [
        [one_line(cell) if place == free else one_line(cell, widest) for place, cell in enumerate(row)] for row in rows
    ]
    widths = [max(map(len, cells)) for cells in zip(*shown, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]


def one_line(text: str, most: int | None = None) -> str:
    """A text as a line can hold it: without line breaks and the like, cut to ``most`` letters."""
    line = text if text.isprintable() else "".join(sign if sign.isprintable() else " " for sign in text)
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"
