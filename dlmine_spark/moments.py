"""Moments of a column that pandas got from Spark. Plain pandas, no Spark."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dlmine_spark.frequency import Moment


def moments_of(column: pd.Series[Any]) -> tuple[Moment, ...]:
    """Dates and whole numbers as Python's own, times as ``datetime``."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return tuple(stamp.to_pydatetime() for stamp in column)
    return tuple(column.tolist())
