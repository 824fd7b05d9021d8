"""Counted steps have no common clock: step 700 of one series is not when step 700 of another one was.

So forecasts begin where each series ends, as in forecasting competitions. Between reading and writing, series are moved
to end together, on the last step of the longest one; cutoffs are told on that clock, ``ds`` in ``gold.forecasts`` on
each series' own. Panels with dates are left as they are: a series that ends early has ended.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.lakehouse import Lakehouse

_LAG = "__lag"


def read_panel(lakehouse: Lakehouse) -> DataFrame:
    """``silver.panel`` on the common clock."""
    return to_common_clock(lakehouse, lakehouse.read(s.PANEL.name))


def to_common_clock(lakehouse: Lakehouse, rows: DataFrame) -> DataFrame:
    """Rows about series (``unique_id``, ``ds``) moved to where the series end together."""
    return _moved(lakehouse, rows, F.col(s.DS) + F.col(_LAG))


def to_own_clocks(lakehouse: Lakehouse, rows: DataFrame) -> DataFrame:
    """Rows on the common clock moved back to the steps that the series themselves have."""
    return _moved(lakehouse, rows, F.col(s.DS) - F.col(_LAG))


def _moved(lakehouse: Lakehouse, rows: DataFrame, moment: Column) -> DataFrame:
    if dict(rows.dtypes)[s.DS] != "int":
        return rows
    known = lakehouse.read(s.PANEL.name).where(F.col(s.Y).isNotNull())
    ends = known.groupBy(s.UNIQUE_ID).agg(F.max(s.DS).alias("__end"))
    last = known.agg(F.max(s.DS).alias("__last"))
    lags = ends.crossJoin(F.broadcast(last)).select(s.UNIQUE_ID, (F.col("__last") - F.col("__end")).alias(_LAG))
    # A series without any value has no end: it is nobody's business where it stands.
    lagged = rows.join(lags, on=s.UNIQUE_ID, how="left").withColumn(_LAG, F.coalesce(_LAG, F.lit(0)))
    return lagged.withColumn(s.DS, moment).select(*rows.columns)
