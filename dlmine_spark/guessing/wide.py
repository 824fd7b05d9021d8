"""Wide files, with a column for each series or date, as long ones, with a row for each series and date."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TextIO

import pandas as pd

from dlmine_spark import schemas as s
from dlmine_spark.errors import SourceError
from dlmine_spark.guessing.tables import TableFacts, time_of, wide_columns
from dlmine_spark.sources.headers import opened

_CELLS = 2_000_000
"""Cells of a wide file that are held at a time."""


def write_long(table: TableFacts, target: TextIO) -> str:
    """Write a wide CSV file as a long one: ``unique_id``, ``ds``, ``y``, and what the file has beside.

    The file is read part by part, whole, and cells are copied as they are.

    Args:
        table: a sample of the file.
        target: to write CSV to.

    Returns:
        What was written, in a line.

    Raises:
        SourceError: it is no wide CSV file, or cannot be read.
    """
    sample, names = table.sample, wide_columns(table)
    if not names or sample.format != "csv" or sample.files != 1:
        raise SourceError(
            f"{sample.path}: --long takes one CSV file with a column for each series or date; this has {table.saw()}"
        )
    time = time_of(table)
    is_by_series = time is not None and time.name not in names
    kept = [name for name in table.columns if name not in names]
    # Of a file with dates as columns, the first of the others names the series.
    ours = {time.name: s.DS} if is_by_series and time is not None else dict.fromkeys(kept[:1], s.UNIQUE_ID)
    variable = s.UNIQUE_ID if is_by_series else s.DS
    rows = 0
    try:
        with opened(Path(sample.path)) as stream:
            parts = pd.read_csv(
                stream,
                sep=sample.delimiter,
                encoding=sample.encoding,
                dtype=str,
                keep_default_na=False,
                chunksize=max(1, _CELLS // len(table.columns)),
            )
            for place, part in enumerate(parts):
                long = part.rename(columns=str.strip).melt(kept, names, variable, s.Y).rename(columns=ours)
                long.to_csv(target, index=False, header=place == 0)
                rows += len(long)
    except (pd.errors.ParserError, UnicodeDecodeError, EOFError, zlib.error) as error:
        raise SourceError(f"{sample.path}: cannot be read as a whole: {error}") from error
    return f"{rows:,} rows, one for each {'date and series' if is_by_series else 'series and date'}"
