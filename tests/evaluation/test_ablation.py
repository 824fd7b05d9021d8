"""What a signal is worth: the difference, and how chance of series, dates and seeds goes into its interval."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from scipy.stats import t as student

from dlmine_spark.errors import TableContractError
from dlmine_spark.evaluation.ablation import effect, measure_effects
from dlmine_spark.evaluation.dominance import Comparison
from tests.evaluation.test_dominance import COLUMNS, START


def compared(difference: float, error: float | None, clusters: int = 11) -> Comparison:
    """A comparison in units of y, where the mean value is 50."""
    return Comparison("rules", "full", difference, error, None, 600, clusters)


def test_the_interval_covers_series_dates_and_seeds() -> None:
    # Seeds: differences of 1, 2 and 3 pp, so a mean of 2 and a standard error of 1 / sqrt(3) pp; data: 0.5 pp.
    found = effect(compared(1.0, 0.25), [0.10, 0.10, 0.10], [0.11, 0.12, 0.13], 50.0, origins=2)

    by_seeds, by_data = 0.01 / 3**0.5, 0.005
    error = (by_seeds**2 + by_data**2) ** 0.5
    freedom = error**4 / (by_seeds**4 / 2 + by_data**4 / 10)
    half = student.ppf(0.975, freedom) * error
    assert (found.wape_with, found.wape_without) == (pytest.approx(0.10), pytest.approx(0.12))
    assert (found.difference, found.standard_error) == (pytest.approx(0.02), pytest.approx(error))
    assert (found.lo_95, found.hi_95) == (pytest.approx(0.02 - half), pytest.approx(0.02 + half))
    assert found.p_value == pytest.approx(2 * student.sf(0.02 / error, freedom))
    assert found.seed_spread == pytest.approx(0.01)
    assert (found.seeds, found.origins, found.forecasts) == (3, 2, 600)


def test_a_single_seed_leaves_the_chance_of_series_and_dates() -> None:
    found = effect(compared(-1.0, 0.25), [0.12], [0.10], 50.0, origins=1)

    assert (found.difference, found.seed_spread) == (pytest.approx(-0.02), None)
    assert found.standard_error == pytest.approx(0.005)
    assert found.hi_95 == pytest.approx(-0.02 + student.ppf(0.975, 10) * 0.005)


def test_a_single_series_has_no_interval() -> None:
    found = effect(compared(1.0, None, clusters=1), [0.10, 0.10], [0.12, 0.12], 50.0, origins=1)
    assert (found.standard_error, found.lo_95, found.hi_95, found.p_value) == (None, None, None, None)


def test_a_signal_that_changes_nothing() -> None:
    found = effect(compared(0.0, 0.0), [0.1, 0.1], [0.1, 0.1], 50.0, origins=1)
    assert (found.difference, found.lo_95, found.hi_95, found.p_value) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.spark
def test_errors_of_the_seeds_are_averaged_before_they_are_compared(spark: SparkSession) -> None:
    """Values of 10; without the signal, seeds err by 2 and 4, with it by 1 and 1."""
    errors = {("full", 1): 1.0, ("full", 2): 1.0, ("rules", 1): 2.0, ("rules", 2): 4.0}
    rows = [
        (variant, seed, name, START, START.replace(day=day), 10.0, 10.0 + error * (1 if day % 2 else -1))
        for (variant, seed), error in errors.items()
        for name in "ab"
        for day in (2, 3, 4)
    ]
    frame = spark.createDataFrame(rows, COLUMNS.replace("model string", "model string, seed int"))

    (found,) = measure_effects(frame, ["rules"])

    assert (found.signal, found.wape_with, found.wape_without) == ("rules", pytest.approx(0.1), pytest.approx(0.3))
    assert found.seed_spread == pytest.approx(0.2 / 2**0.5)
    # The same everywhere: seeds are all that varies.
    assert found.standard_error == pytest.approx(0.1)
    assert (found.seeds, found.origins, found.forecasts) == (2, 1, 6)


@pytest.mark.spark
def test_values_that_are_all_zero_have_no_share_of_errors(spark: SparkSession) -> None:
    rows = [(variant, 1, "a", START, START, 0.0, 1.0) for variant in ("full", "rules")]
    frame = spark.createDataFrame(rows, COLUMNS.replace("model string", "model string, seed int"))
    with pytest.raises(TableContractError, match=r"silver\.panel: no value after a backtest cutoff"):
        measure_effects(frame, ["rules"])
