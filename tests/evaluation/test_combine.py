"""Weights told by errors, and forecasts that are weighted means: by series, and where something is missing."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.evaluation.combine import blended, tell_weights

pytestmark = pytest.mark.spark

CUTOFF, OTHER = date(2024, 5, 1), date(2024, 6, 1)
Values = tuple[float, float | None, float | None]
"""A forecast with its bounds of 80 %."""


def errors(spark: SparkSession) -> DataFrame:
    """Two models that err independently: of series a the first errs little, of series b the second; c never varied."""
    rng = np.random.default_rng(7)
    rows = [
        (CUTOFF, name, float(one), float(other))
        for name, sizes in (("a", (1, 10)), ("b", (1000, 100)), ("c", (0, 0)))
        for one, other in rng.normal(0, 1, (200, 2)) * sizes
    ]
    return spark.createDataFrame(rows, "cutoff date, unique_id string, lstm double, arima double")


def test_series_have_weights_of_their_own_that_a_few_errors_do_not_settle(spark: SparkSession) -> None:
    def told(strength: float) -> dict[tuple[str | None, str], float]:
        rows = tell_weights(errors(spark), [CUTOFF, OTHER], strength, otherwise=("lstm", "arima")).collect()
        assert {row["errors"] for row in rows if row[s.CUTOFF] == OTHER} == {0}
        assert {row["errors"] for row in rows if row[s.CUTOFF] == CUTOFF and row[s.UNIQUE_ID] is None} == {400}
        assert [row["weight"] for row in rows if row[s.CUTOFF] == OTHER] == [0.5, 0.5]
        return {(row[s.UNIQUE_ID], row[s.MODEL]): row["weight"] for row in rows if row[s.CUTOFF] == CUTOFF}

    own, together = told(1.0), told(1e9)
    assert own["a", "lstm"] > 0.85
    assert own["b", "lstm"] < 0.15
    # Of all together the models are alike, however large the errors of one series are.
    for name in ("a", "b", "c", None):
        assert together[name, "lstm"] == pytest.approx(0.5, abs=0.05)
    assert own["c", "lstm"] == pytest.approx(own[None, "lstm"])
    for name in ("a", "b", "c", None):
        assert own[name, "lstm"] + own[name, "arima"] == pytest.approx(1.0)


def test_errors_that_are_no_numbers_tell_nothing(spark: SparkSession) -> None:
    huge = spark.createDataFrame([(CUTOFF, "d", 1e300, 1.0)] * 3, errors(spark).schema)
    rows = tell_weights(errors(spark).unionByName(huge), [CUTOFF], 10.0, otherwise=("lstm",)).collect()
    weights = {(row[s.UNIQUE_ID], row[s.MODEL]): row["weight"] for row in rows}
    assert weights["d", "lstm"] == pytest.approx(weights[None, "lstm"])
    assert weights["d", "lstm"] == pytest.approx(0.5, abs=0.05)


def forecasts(spark: SparkSession, values: dict[tuple[str, str], Values]) -> DataFrame:
    """Of one step, by series and model."""
    rows = [
        ("r", model, name, CUTOFF, CUTOFF + timedelta(days=1), 1, y_hat, low, high, low, high)
        for (name, model), (y_hat, low, high) in values.items()
    ]
    return spark.createDataFrame(rows, s.FORECASTS.ddl)


def test_the_blend_is_the_mean_of_what_is_there(spark: SparkSession) -> None:
    weights = spark.createDataFrame(
        [
            ("r", CUTOFF, None, "lstm", 0.5, 0.5, 9),
            ("r", CUTOFF, None, "arima", 0.25, 0.5, 9),
            ("r", CUTOFF, None, "naive", 0.25, 0.5, 9),
            ("r", CUTOFF, "a", "lstm", 0.8, 0.9, 9),
            ("r", CUTOFF, "a", "arima", 0.2, 0.6, 9),
            ("r", CUTOFF, "a", "naive", 0.0, 0.1, 9),
        ],
        s.BLEND_WEIGHTS.ddl,
    )
    made = forecasts(
        spark,
        {
            ("a", "lstm"): (10.0, 8.0, 14.0),
            ("a", "arima"): (20.0, 14.0, 26.0),
            ("a", "naive"): (99.0, None, None),
            ("b", "arima"): (20.0, 10.0, 30.0),
            ("b", "naive"): (4.0, None, None),
            ("c", "lstm"): (float("nan"), None, None),
            ("c", "naive"): (7.0, None, None),
            ("d", "other"): (5.0, None, None),
        },
    )

    rows = {row[s.UNIQUE_ID]: row for row in blended(made, weights).collect()}

    assert set(rows) == {"a", "b", "c"}
    assert rows["a"][s.Y_HAT] == pytest.approx(12.0)
    # The bounds of the two with intervals lie 2 and 6 below, 4 and 6 above.
    assert rows["a"][s.LO_80] == pytest.approx(12.0 - (0.8 * 0.9 * 2 + 0.2 * 0.6 * 6))
    assert rows["a"][s.HI_95] == pytest.approx(12.0 + (0.8 * 0.9 * 4 + 0.2 * 0.6 * 6))
    # A model is missing: bounds as they are.
    assert rows["b"][s.Y_HAT] == pytest.approx(12.0)
    assert rows["b"][s.LO_80] == pytest.approx(2.0)
    assert rows["c"][s.Y_HAT] == pytest.approx(7.0)
    assert rows["c"][s.LO_80] is None


def test_no_bound_falls_below_zero_that_was_above(spark: SparkSession) -> None:
    weights = spark.createDataFrame(
        [("r", CUTOFF, None, model, 0.5, 1.0, 9) for model in ("arima", "naive")], s.BLEND_WEIGHTS.ddl
    )
    made = forecasts(spark, {("a", "arima"): (20.0, 5.0, 30.0), ("a", "naive"): (2.0, None, None)})
    assert [row[s.LO_80] for row in blended(made, weights).collect()] == [0.0]
