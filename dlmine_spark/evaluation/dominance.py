"""Whether one model is better than another beyond chance, on a panel of series.

Diebold and Mariano (1995, "Comparing predictive accuracy") test the mean of the differences of two models' losses,
whose variance has to mind that they depend on each other. In a panel they do so in two ways: errors of one series go on
for a while, and a day that surprises one series surprises others too. So the variance is clustered by series and by
date at the same time (Cameron, Gelbach and Miller 2011, "Robust inference with multiway clustering"): the sum of both
clustered variances, less the one without clusters, which both hold. Shocks to all series that last for several dates
are not covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from scipy.stats import t as student

from dlmine_spark import schemas as s

_PAIR, _LOSS = "pair", "loss"
_CLUSTERS = {"series": s.UNIQUE_ID, "dates": s.DS}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same forecasts.

    Attributes:
        model, other: names.
        difference: mean absolute error of ``model`` less that of ``other``, in units of y.
        standard_error: of the difference.
        p_value: two-sided, that both err equally.
        forecasts: how many are compared.
        clusters: series or dates, whichever are fewer.

    Standard error and p-value are None where there is no second series or no second date to tell chance by.
    """

    model: str
    other: str
    difference: float
    standard_error: float | None
    p_value: float | None
    forecasts: int
    clusters: int


@dataclass(frozen=True, slots=True)
class Clusters:
    """Sums over clusters, each with a sum ``S`` of ``n`` differences: how many clusters, and the sums of S², Sn, n²."""

    number: int
    squares: float
    products: float
    sizes: float

    def variance(self, mean: float, forecasts: int) -> float:
        """Of the mean of all differences, if those of different clusters are independent."""
        around = self.squares - 2 * mean * self.products + mean**2 * self.sizes
        return around / forecasts**2 * self.number / (self.number - 1)


def compare_models(paired: DataFrame, models: Sequence[str]) -> list[Comparison]:
    """Every pair of models, by absolute errors (three aggregations, a row per pair is collected from each).

    Args:
        paired: one row per model, series, cutoff and date, the same for all models: ``model``, ``unique_id``,
            ``cutoff``, ``ds``, ``y``, ``y_hat``; read three times. Where a model has several rows, say of networks with
            different seeds, the mean of their errors counts.
        models: those that are compared.
    """
    pairs = list(combinations(models, 2))
    if not pairs:
        return []
    losses = (
        paired.groupBy(s.UNIQUE_ID, s.CUTOFF, s.DS)
        .pivot(s.MODEL, list(models))
        .agg(F.avg(F.abs(F.col(s.Y_HAT) - F.col(s.Y))))
    )
    of_pairs = F.array(*(F.col(f"`{one}`") - F.col(f"`{other}`") for one, other in pairs))
    differences = losses.select(s.UNIQUE_ID, s.DS, F.posexplode(of_pairs).alias(_PAIR, _LOSS))
    overall = {
        row[_PAIR]: row
        for row in differences.groupBy(_PAIR)
        .agg(F.sum(_LOSS).alias("sum"), F.sum(F.col(_LOSS) ** 2).alias("squares"), F.count(_LOSS).alias("n"))
        .collect()
    }
    by_series, by_date = (_clusters(differences, column) for column in (s.UNIQUE_ID, s.DS))
    return [
        _comparison(one, other, overall[at], by_series[at], by_date[at])
        for at, (one, other) in enumerate(pairs)
        if at in overall
    ]


def _clusters(differences: DataFrame, column: str) -> dict[int, Clusters]:
    """The clusters that a column makes, by pair of models."""
    sums = differences.groupBy(_PAIR, column).agg(F.sum(_LOSS).alias("sum"), F.count(_LOSS).cast("double").alias("n"))
    rows = (
        sums.groupBy(_PAIR)
        .agg(
            F.count(F.lit(1)).alias("number"),
            F.sum(F.col("sum") ** 2).alias("squares"),
            F.sum(F.col("sum") * F.col("n")).alias("products"),
            F.sum(F.col("n") ** 2).alias("sizes"),
        )
        .collect()
    )
    return {row[_PAIR]: Clusters(row["number"], row["squares"], row["products"], row["sizes"]) for row in rows}


def _comparison(model: str, other: str, overall: Row, by_series: Clusters, by_date: Clusters) -> Comparison:
    n = overall["n"]
    mean = overall["sum"] / n
    fewest = min(by_series.number, by_date.number)
    if fewest < 2:
        return Comparison(model, other, mean, None, None, n, fewest)
    alone = (overall["squares"] - n * mean**2) / n**2 * n / (n - 1)
    own = (by_series.variance(mean, n), by_date.variance(mean, n))
    # With few clusters the sum may fall below either part, even below 0: then the larger part is the careful one.
    error = sqrt(max(sum(own) - alone, *own, 0.0))
    return Comparison(model, other, mean, error, two_sided_p(mean, error, fewest - 1), n, fewest)


def two_sided_p(difference: float, standard_error: float, freedom: float) -> float:
    """That a difference is one by chance, by Student's t; without any spread it is none, or certain."""
    if difference == 0:
        return 1.0
    return float(2 * student.sf(abs(difference) / standard_error, freedom)) if standard_error > 0 else 0.0
