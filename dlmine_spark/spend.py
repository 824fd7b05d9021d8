"""What a line of a basket costs."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from dlmine_spark import schemas as s


def spend() -> Column:
    """Quantity times price of a row of ``silver.lines``: without quantity it counts once, without price it is null."""
    return F.coalesce(F.col(s.QUANTITY), F.lit(1.0)) * F.col(s.PRICE)
