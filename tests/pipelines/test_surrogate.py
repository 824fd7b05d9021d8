"""What a network forecasts, said in rules: they are found, and judged by forecasts that they were not made from."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.errors import TableContractError
from dlmine_spark.explain.rules import Bound, Feature, Rule
from dlmine_spark.explain.surrogate import IS_HELD_OUT, RATIO, Measured, measure
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import surrogate
from tests.pipelines.test_failures import CONFIG, HORIZON, SERIES, fill

pytestmark = pytest.mark.spark


def test_a_planted_habit_of_the_network_is_said_in_a_rule(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lakehouse)

    line, table = surrogate.run(CONFIG, lakehouse)

    rules = lakehouse.read(s.SURROGATES.name).orderBy("rule").collect()
    scores = {row["measure"]: row["value"] for row in lakehouse.read(s.SURROGATE_SCORES.name).collect()}
    assert scores["held_out"] + scores["fitted"] == SERIES * HORIZON
    # Whole series are held out, three of ten.
    assert scores["held_out"] == SERIES * 3 // 10 * HORIZON
    # Noise of 5 % is an eighth of what they vary by, and rules find some of it.
    assert scores["r2"] > 0.7
    assert scores["rules"] == len(rules)
    # Promotions of the second segment are expected to sell half as much again; nothing else is.
    expected = [row for row in rules if {"promo = 1", "segment = 1"} <= set(row["conditions"])]
    assert expected
    assert all(1.4 < row["ratio"] < 1.6 for row in expected)
    others = [row for row in rules if row not in expected]
    assert all(0.9 < row["ratio"] < 1.1 for row in others)
    assert sum(row["held_out"] for row in rules) == scores["held_out"]
    assert line.startswith(f"surrogate: {len(rules)} rules say what the network forecasts")
    assert "promo = 1 and segment = 1" in table or "segment = 1 and promo = 1" in table

    monkeypatch.setattr(surrogate, "FEWEST_FORECASTS", 10_000)
    with pytest.raises(TableContractError, match=r"560 forecasts .* rules need at least 10000"):
        surrogate.run(CONFIG, lakehouse)


def test_fidelity_is_that_of_held_out_forecasts_alone(spark: SparkSession) -> None:
    low, high = Rule((Bound(0, 0.5, False),), 1.0), Rule((Bound(0, 0.5, True),), 2.0)
    # Of those held out: two are met exactly, one nearly, one is far off. Those fitted are nonsense.
    held_out = [(1.0, 0.0), (2.0, 1.0), (2.1, 1.0), (1.5, 0.0)]
    rows = [(ratio, True, x) for ratio, x in held_out] + [(9.0, False, 0.0), (7.0, False, 1.0)]

    measured, scores = measure(
        spark.createDataFrame(rows, f"{RATIO} double, {IS_HELD_OUT} boolean, f0 double"),
        [low, high],
        [Feature("promo")],
    )

    lost, spread = 0.1**2 + 0.5**2, sum(ratio**2 for ratio, _ in held_out) - 6.6**2 / 4
    assert scores == {
        "r2": pytest.approx(1 - lost / spread),
        "within_a_tenth": 0.75,
        "held_out": 4.0,
        "fitted": 2.0,
        "rules": 2.0,
    }
    assert measured == [
        Measured(("promo = 0",), 1.0, 2, 0.5, 1.25, 0.25),
        Measured(("promo = 1",), 2.0, 2, 0.5, pytest.approx(2.05), pytest.approx(0.05)),
    ]
