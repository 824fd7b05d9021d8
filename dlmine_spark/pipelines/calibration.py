"""Calibration: the network's intervals, as wide as they should have been on the last horizon before a cutoff."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.evaluation.conformal import BOUNDS, width_factors
from dlmine_spark.frequency import Moment, sql_literal
from dlmine_spark.fusion.signals import SEGMENT_CODE
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.training.job import LaunchRequest
from dlmine_spark.training.predict import VALIDATION_FILE, cutoff_folder, predict_rehearsal, write_validation


def write_factors(lakehouse: Lakehouse, request: LaunchRequest, training_panel: DataFrame) -> None:
    """Write ``gold.calibration``: factors of every backtest cutoff, from the networks that were trained for it.

    What they are told by is left in ``VALIDATION_FILE`` of each cutoff's folder.

    What they forecast ends at their cutoff, so nothing of what is tested is seen.
    """
    rows: list[tuple[object, ...]] = []
    for cutoff in request.backtest:
        folder = cutoff_folder(request.folder, cutoff)
        # As a file, which Spark reads by itself.
        validation = folder / VALIDATION_FILE
        write_validation(predict_rehearsal(folder, request.source, cutoff), validation, cutoff)
        factors = _factors(validation, segments_as_of(training_panel, cutoff), request.horizon)
        rows += [(lakehouse.run_id, cutoff, *row) for row in factors]
    moment = dict(training_panel.dtypes)[s.CUTOFF]
    ddl = ", ".join(f"`{name}` {type_}" for name, type_ in s.CALIBRATION.typed(moment).items())
    lakehouse.overwrite(s.CALIBRATION.name, lakehouse.spark.createDataFrame(rows, ddl))


def _factors(validation: Path, of_series: DataFrame, horizon: int) -> list[tuple[object, ...]]:
    """The factors of a cutoff as rows of ``gold.calibration``, without run and cutoff."""
    segments = of_series.toPandas()
    needed = [s.UNIQUE_ID, s.H, s.Y, s.Y_HAT, *(bound for bounds in BOUNDS.values() for bound in bounds)]
    known = pd.read_parquet(validation, columns=needed).merge(segments, on=s.UNIQUE_ID, how="left")
    factors = width_factors(known, sorted(set(segments["segment"].tolist())), horizon).astype(object)
    return list(factors.where(factors.notna(), None).itertuples(index=False, name=None))


def factors_of(spark: SparkSession, validation: Path, of_series: DataFrame, horizon: int) -> DataFrame:
    """The factors told by a file of ``write_validation``, in columns of ``gold.calibration`` but run and cutoff.

    Args:
        spark: the session.
        validation: the file, on the driver.
        of_series: of ``segments_as_of`` its cutoff.
        horizon: steps.
    """
    columns = {name: type_ for name, type_ in s.CALIBRATION.columns.items() if name not in (s.RUN_ID, s.CUTOFF)}
    ddl = ", ".join(f"`{name}` {type_}" for name, type_ in columns.items())
    return spark.createDataFrame(_factors(validation, of_series, horizon), ddl)


def segments_as_of(training_panel: DataFrame, cutoff: Moment) -> DataFrame:
    """``unique_id``, ``segment``: the segments that the series had at a cutoff; no row for those of none."""
    rows = training_panel.where(F.col(s.CUTOFF) == F.expr(sql_literal(cutoff)))
    if SEGMENT_CODE not in rows.columns:
        return rows.select(s.UNIQUE_ID, F.lit(0).alias("segment")).limit(0)
    # Code 0 is that of series without a segment.
    return (
        rows.where(F.col(SEGMENT_CODE) > 0)
        .select(s.UNIQUE_ID, (F.col(SEGMENT_CODE) - 1).cast("int").alias("segment"))
        .distinct()
    )


def recalibrated(forecasts: DataFrame, factors: DataFrame, segments: DataFrame) -> DataFrame:
    """Forecasts of one cutoff with corrected intervals; the medians stay.

    Args:
        forecasts: rows of ``gold.forecasts``.
        factors: rows of ``gold.calibration`` of one cutoff.
        segments: of ``segments_as_of`` the same cutoff: segments of another one have other numbers.
    """
    own = factors.select(
        F.col("segment").alias("__segment"), "first_h", "last_h", *(f"factor_{level}" for level in BOUNDS)
    )
    is_own = F.col("segment").eqNullSafe(F.col("__segment")) & F.col(s.H).between(F.col("first_h"), F.col("last_h"))
    joined = forecasts.join(segments, on=s.UNIQUE_ID, how="left").join(F.broadcast(own), on=is_own, how="left")
    # Bounds further out must not come to lie further in, since every level has a factor of its own.
    corrected: dict[str, Column] = {}
    low, high = F.col(s.Y_HAT), F.col(s.Y_HAT)
    for level, (lower, upper) in BOUNDS.items():
        factor = F.coalesce(F.col(f"factor_{level}"), F.lit(1.0))
        low = F.least(low, _moved(lower, factor))
        high = F.greatest(high, _moved(upper, factor))
        corrected |= {lower: low, upper: high}
    return joined.withColumns(corrected).select(*forecasts.columns)


def _moved(bound: str, factor: Column) -> Column:
    """A bound at so many times its distance from the median, and below 0 only where it was."""
    moved = F.col(s.Y_HAT) + factor * (F.col(bound) - F.col(s.Y_HAT))
    return F.greatest(moved, F.least(F.col(bound), F.lit(0.0)))
