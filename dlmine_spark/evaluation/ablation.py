"""What a part of a model's inputs is worth: its errors without that part, against those with everything.

Chance comes in from two sides. The series and dates that are compared are some of many: the variance of that is
clustered by both, as in ``dominance``. And a network depends on the seed of its training: how far the difference goes
from seed to seed adds a variance of its own. Their sum has the degrees of freedom of Satterthwaite (1946, "An
approximate distribution of estimates of variance components"), which few seeds keep low where seeds matter most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.stats import t as student

from dlmine_spark import schemas as s
from dlmine_spark.errors import TableContractError
from dlmine_spark.evaluation.dominance import Comparison, compare_models, two_sided_p

FULL, ALL = "full", "all"
"""The variant that has every signal, and what the one lacks that has none."""
SEED = "seed"
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Effect:
    """What a signal is worth: held-out errors as shares of all values (WAPE), means over the seeds.

    Attributes:
        signal: what was removed.
        wape_with: error of the networks that have all signals.
        wape_without: error of those without this one.
        difference: without less with; above 0 the signal helps.
        standard_error: of the difference, by series, dates and seeds.
        lo_95, hi_95: the interval of 95 %.
        p_value: two-sided, that both err equally.
        seed_spread: standard deviation of the difference from seed to seed; None with a single seed.
        seeds: networks of either kind, by cutoff.
        origins: cutoffs.
        forecasts: how many are compared, by network.

    Standard error, interval and p-value are None where a single series or date is compared.
    """

    signal: str
    wape_with: float
    wape_without: float
    difference: float
    standard_error: float | None
    lo_95: float | None
    hi_95: float | None
    p_value: float | None
    seed_spread: float | None
    seeds: int
    origins: int
    forecasts: int


def measure_effects(forecasts: DataFrame, variants: Sequence[str]) -> list[Effect]:
    """What each signal is worth (five aggregations, of which a row per pair of variants, or variant and seed, is
    collected).

    Args:
        forecasts: one row per variant, seed, series, cutoff and date, the same for all variants and seeds: ``model``
            (the variant), ``seed``, ``unique_id``, ``cutoff``, ``ds``, ``y``, ``y_hat``; read five times.
        variants: those beside ``FULL``, named after the signal that they lack.

    Raises:
        TableContractError: no value that is compared differs from 0, so errors are no share of anything.
    """
    origins = forecasts.select(s.CUTOFF).distinct().count()
    sums = forecasts.groupBy(s.MODEL, SEED).agg(
        F.sum(F.abs(F.col(s.Y_HAT) - F.col(s.Y))).alias("error"),
        F.sum(F.abs(s.Y)).alias("actual"),
        F.count(F.lit(1)).alias("forecasts"),
    )
    rows = sums.orderBy(s.MODEL, SEED).collect()
    if not rows or rows[0]["actual"] == 0:
        raise TableContractError(
            "silver.panel: no value after a backtest cutoff is known, open, not imputed and other than 0; there is "
            "nothing that forecasts with and without a signal could be compared on"
        )
    wape: dict[str, list[float]] = {}
    for row in rows:
        wape.setdefault(row[s.MODEL], []).append(row["error"] / row["actual"])
    mean_value = rows[0]["actual"] / rows[0]["forecasts"]
    compared = [one for one in compare_models(forecasts, [*variants, FULL]) if one.other == FULL]
    return [effect(one, wape[FULL], wape[one.model], mean_value, origins) for one in compared]


def effect(
    comparison: Comparison, wape_with: Sequence[float], wape_without: Sequence[float], mean_value: float, origins: int
) -> Effect:
    """An effect from the comparison of mean errors and the errors of each seed.

    Args:
        comparison: of the networks without the signal and those with it, in units of y.
        wape_with: of each seed, with all signals.
        wape_without: of the same seeds, without this one.
        mean_value: mean absolute value of what was forecast.
        origins: cutoffs.
    """
    of_seeds = [without - has for without, has in zip(wape_without, wape_with, strict=True)]
    difference, seeds = fmean(of_seeds), len(of_seeds)
    spread = stdev(of_seeds) if seeds > 1 else None
    error = low = high = p_value = None
    if comparison.standard_error is not None:
        parts = [(comparison.standard_error / mean_value, comparison.clusters - 1)]
        if spread is not None:
            parts.append((spread / sqrt(seeds), seeds - 1))
        error, freedom = _added(parts)
        half = float(student.ppf((1 + LEVEL) / 2, freedom)) * error
        low, high = difference - half, difference + half
        p_value = two_sided_p(difference, error, freedom)
    return Effect(
        signal=comparison.model,
        wape_with=fmean(wape_with),
        wape_without=fmean(wape_without),
        difference=difference,
        standard_error=error,
        lo_95=low,
        hi_95=high,
        p_value=p_value,
        seed_spread=spread,
        seeds=seeds,
        origins=origins,
        forecasts=comparison.forecasts,
    )


def _added(parts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """The standard error of a sum of independent parts, each with its own, and its degrees of freedom."""
    variance = sum(error**2 for error, _ in parts)
    if variance == 0:
        return 0.0, float(min(freedom for _, freedom in parts))
    return sqrt(variance), variance**2 / sum(error**4 / freedom for error, freedom in parts)
