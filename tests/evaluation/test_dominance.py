"""Two models on a panel: the difference of their errors, and how sure it is."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from pyspark.sql import SparkSession
from scipy.stats import t as student

from dlmine_spark.evaluation.dominance import Comparison, compare_models

pytestmark = pytest.mark.spark

START = date(2024, 3, 1)
COLUMNS = "model string, unique_id string, cutoff date, ds date, y double, y_hat double"


def rows(losses: dict[str, np.ndarray]) -> list[tuple[object, ...]]:
    """Forecasts of 10 by each model that err by so much: an array of series by dates."""
    return [
        (model, f"s{series}", START, START + timedelta(days=step + 1), 10.0, 10.0 + float(loss) * (-1) ** step)
        for model, own in losses.items()
        for (series, step), loss in np.ndenumerate(own)
    ]


def two_way(differences: np.ndarray) -> tuple[float, float]:
    """Mean and standard error by the formula's own words."""
    mean = differences.mean()
    around = differences - mean
    n, (series, dates) = differences.size, differences.shape
    by_series = (around.sum(axis=1) ** 2).sum() / n**2 * series / (series - 1)
    by_date = (around.sum(axis=0) ** 2).sum() / n**2 * dates / (dates - 1)
    alone = (around**2).sum() / n**2 * n / (n - 1)
    return mean, float(np.sqrt(max(by_series + by_date - alone, by_series, by_date)))


def test_difference_with_its_error_clustered_both_ways(spark: SparkSession) -> None:
    rng = np.random.default_rng(8)
    shared = rng.random(20) + 0.5 * rng.random((30, 1))
    losses = {"a": 1.0 + shared, "b": 1.1 + rng.random((30, 20)), "c": 2.0 + 0.1 * rng.random((30, 20))}

    found = compare_models(spark.createDataFrame(rows(losses), COLUMNS), list(losses))

    assert [(one.model, one.other) for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    for one in found:
        mean, error = two_way(losses[one.model] - losses[one.other])
        assert (one.difference, one.standard_error) == (pytest.approx(mean), pytest.approx(error))
        assert one.p_value == pytest.approx(2 * student.sf(abs(mean) / error, 19))
        assert (one.forecasts, one.clusters) == (600, 20)


def test_what_repeats_in_a_series_is_no_further_evidence(spark: SparkSession) -> None:
    """Two series that differ, over 200 dates: a plain test would be sure; there are only two series."""
    level = np.array([[0.0], [0.3]])
    losses = {"a": np.ones((2, 200)) + level, "b": np.ones((2, 200))}
    found = compare_models(spark.createDataFrame(rows(losses), COLUMNS), ["a", "b"])[0]
    assert found.difference == pytest.approx(0.15)
    assert found.p_value is not None
    assert found.p_value > 0.3


def test_what_cannot_be_told(spark: SparkSession) -> None:
    one_series = {"a": np.array([[1.0, 2.0]]), "b": np.array([[1.0, 1.0]])}
    frame = spark.createDataFrame(rows(one_series), COLUMNS)
    assert compare_models(frame, ["a", "b"]) == [Comparison("a", "b", 0.5, None, None, 2, 1)]
    assert compare_models(frame, ["a"]) == []
    same = {"a": np.ones((3, 4)), "b": np.ones((3, 4))}
    assert compare_models(spark.createDataFrame(rows(same), COLUMNS), ["a", "b"])[0].p_value == 1.0
    always = {"a": np.full((3, 4), 2.0), "b": np.ones((3, 4))}
    assert compare_models(spark.createDataFrame(rows(always), COLUMNS), ["a", "b"])[0].p_value == 0.0
