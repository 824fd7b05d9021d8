"""Weights of models told by their errors, and forecasts that are their weighted means: tables of any size.

What ``blend`` works out of a few numbers is summed up here for every series in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.evaluation.blend import best_weights, drawn_together, relative_widths
from dlmine_spark.evaluation.compare import BOUNDS
from dlmine_spark.frequency import Moment, sql_literal

BLEND = "blend"
"""The name of the weighted means in ``gold.forecasts``."""
WHOLE = 0.999
"""Weights that sum to less are those of some of the models."""


def tell_weights(errors: DataFrame, cutoffs: Sequence[Moment], strength: float, otherwise: Sequence[str]) -> DataFrame:
    """The weights of models by series, and of all series together.

    Args:
        errors: one row per cutoff, series and forecast; the columns beside ``cutoff`` and ``unique_id`` are models,
            their values forecasts minus actuals.
        cutoffs: those that need weights.
        strength: how many errors of its own weigh as much as those of all.
        otherwise: models that share equally at a cutoff without any errors before it.

    Returns:
        Rows of ``gold.blend_weights``, without the run.
    """
    models = [name for name in errors.columns if name not in (s.CUTOFF, s.UNIQUE_ID)]
    pairs = list(combinations_with_replacement(range(len(models)), 2))
    products = F.array(*(F.avg(F.col(models[one]) * F.col(models[other])) for one, other in pairs))
    of_series = errors.groupBy(s.CUTOFF, s.UNIQUE_ID).agg(F.count(F.lit(1)).alias("errors"), products.alias("products"))
    together = _together(of_series, len(models))
    moment = dict(errors.dtypes)[s.CUTOFF]
    ddl = f"{s.CUTOFF} {moment}, {s.UNIQUE_ID} string, errors bigint, weights array<double>, widths array<double>"

    def weigh(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            matrices = _matrices(batch["products"].tolist(), len(models))
            relative = np.stack([together[cutoff][1] for cutoff in batch[s.CUTOFF]])
            counts = batch["errors"].to_numpy(np.float64)
            drawn = drawn_together(matrices, counts, relative, strength)
            weights = best_weights(drawn)
            widths = relative_widths(drawn, weights)
            yield batch[[s.CUTOFF, s.UNIQUE_ID, "errors"]].assign(weights=list(weights), widths=list(widths))

    spark = errors.sparkSession
    known = [cutoff for cutoff in cutoffs if cutoff in together]
    of_all = []
    for cutoff in known:
        errors_of_all, products_of_all = together[cutoff]
        weights_of_all = best_weights(products_of_all[None])
        widths_of_all = relative_widths(products_of_all[None], weights_of_all)
        of_all.append((cutoff, None, errors_of_all, weights_of_all[0].tolist(), widths_of_all[0].tolist()))
    unknown = [cutoff for cutoff in cutoffs if cutoff not in together]
    equal = [(cutoff, None, model, 1 / len(otherwise), 1.0, 0) for cutoff in unknown for model in otherwise]
    of_known = of_series.where(F.col(s.CUTOFF).isin([F.expr(sql_literal(cutoff)) for cutoff in known]))
    told = of_known.mapInPandas(weigh, schema=ddl).unionByName(spark.createDataFrame(of_all, ddl))
    names = F.array(*map(F.lit, models))
    of_models = F.arrays_zip(names.alias(s.MODEL), F.col("weights").alias("weight"), F.col("widths").alias("width"))
    long = told.select(s.CUTOFF, s.UNIQUE_ID, F.explode(of_models).alias("of"), "errors")
    columns = f"{s.CUTOFF} {moment}, {s.UNIQUE_ID} string, {s.MODEL} string, weight double, width double, errors bigint"
    return long.select(s.CUTOFF, s.UNIQUE_ID, "of.*", "errors").unionByName(spark.createDataFrame(equal, columns))


def _together(of_series: DataFrame, models: int) -> Mapping[Moment, tuple[int, NDArray[np.float64]]]:
    """Of each cutoff: how many errors there are, and the mean of the series' products, each relative to its size.

    Series count alike, however large their errors are; those without any error, or with errors that are no numbers,
    say nothing.
    """
    pairs = list(combinations_with_replacement(range(models), 2))
    diagonal = [at for at, (one, other) in enumerate(pairs) if one == other]
    size = sum((F.col("products")[at] for at in diagonal), F.lit(0.0)) / models
    sized = of_series.withColumn("size", size).where((F.col("size") > 0) & (F.col("size") < float("inf")))
    means = F.array(*(F.avg(F.col("products")[at] / F.col("size")) for at in range(len(pairs))))
    rows = sized.groupBy(s.CUTOFF).agg(F.sum("errors").alias("errors"), means.alias("products")).collect()
    return {row[s.CUTOFF]: (int(row["errors"]), _matrices([row["products"]], models)[0]) for row in rows}


def _matrices(products: Sequence[Sequence[float]], models: int) -> NDArray[np.float64]:
    """Symmetric matrices of their upper triangles, row by row; groups x models x models."""
    matrices = np.empty((len(products), models, models))
    one, other = np.triu_indices(models)
    values = np.array(products, dtype=np.float64)
    matrices[:, one, other] = values
    matrices[:, other, one] = values
    return matrices


def blended(forecasts: DataFrame, weights: DataFrame) -> DataFrame:
    """The weighted means of some forecasts; of models that are missing for a series, the others take the weight.

    Bounds are as far from the mean as those of the models with intervals are from theirs, on average, by how much
    smaller the error of the mean is; where a model is missing, nobody knows how much that is.

    Args:
        forecasts: rows of ``gold.forecasts``, under the names of models that have weights.
        weights: rows of ``gold.blend_weights`` of the same cutoffs.

    Returns:
        One row per series, cutoff and step that any model with weight forecast, in the columns of ``gold.forecasts``
        but run and model.
    """
    told = F.struct("weight", "width")
    own = weights.where(F.col(s.UNIQUE_ID).isNotNull()).select(s.CUTOFF, s.UNIQUE_ID, s.MODEL, told.alias("__own"))
    of_all = weights.where(F.col(s.UNIQUE_ID).isNull()).select(s.CUTOFF, s.MODEL, told.alias("__of_all"))
    made = forecasts.where(F.col(s.Y_HAT).isNotNull() & ~F.isnan(s.Y_HAT))
    weighed = (
        made.withColumns({bound: F.nanvl(F.col(bound), F.lit(None).cast("double")) for bound in BOUNDS})
        .join(F.broadcast(of_all), on=[s.CUTOFF, s.MODEL], how="inner")
        .join(own, on=[s.CUTOFF, s.UNIQUE_ID, s.MODEL], how="left")
        .withColumn("__told", F.coalesce("__own", "__of_all"))
        # Not 0: where all models with weight are missing, the others still tell something.
        .withColumn("__weight", F.greatest("__told.weight", F.lit(1e-9)))
    )

    def mean(value: Column) -> Column:
        weight = F.when(value.isNotNull(), F.col("__weight"))
        return F.sum(value * weight) / F.sum(weight)

    def offset(bound: str) -> Column:
        distance = F.col(bound) - F.col(s.Y_HAT)
        is_whole = F.sum("__weight") > WHOLE
        return F.when(is_whole, mean(distance * F.col("__told.width"))).otherwise(mean(distance))

    means = weighed.groupBy(s.UNIQUE_ID, s.CUTOFF, s.DS, s.H).agg(
        mean(F.col(s.Y_HAT)).alias(s.Y_HAT),
        *(offset(bound).alias(bound) for bound in BOUNDS),
        *(F.min(bound).alias(f"__least_{bound}") for bound in BOUNDS),
    )
    # Below 0 only where a model's own bound is.
    bounds = {bound: F.col(s.Y_HAT) + F.col(bound) for bound in BOUNDS}
    floors = {bound: F.least(F.col(f"__least_{bound}"), F.lit(0.0)) for bound in BOUNDS}
    return means.withColumns(
        {bound: F.when(value.isNotNull(), F.greatest(value, floors[bound])) for bound, value in bounds.items()}
    ).drop(*(f"__least_{bound}" for bound in BOUNDS))
