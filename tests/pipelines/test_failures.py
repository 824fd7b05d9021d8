"""Errors that have a cause are found by it: a kind of store whose promotions are mislabelled."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from pyspark.sql import SparkSession

from dlmine_spark import schemas as s
from dlmine_spark.config import load_config
from dlmine_spark.evaluation.failures import TOO_HIGH, TOO_LOW, as_facts, with_large_errors
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.failures import write_error_patterns

pytestmark = pytest.mark.spark

START, HORIZON, SERIES = date(2024, 1, 1), 28, 20
HISTORY = 30
CUTOFF = START + timedelta(days=HISTORY - 1)
CONFIG = load_config(
    overrides=[
        "sources.panel={kind: panel, path: p, columns: {unique_id: u, ds: d, y: y}, other_columns: keep, "
        "roles: {promo: known_future}}",
        f"evaluation.horizon={HORIZON}",
        "cleaning.frequency=D",
    ]
)


def fill(lakehouse: Lakehouse) -> None:
    """Forecasts are 5 % off, and expect promotions that the stores of the second segment never had."""
    spark, rng = lakehouse.spark, np.random.default_rng(2)
    panel, forecasts, segments, statics = [], [], [], []
    for number in range(SERIES):
        name, segment = f"s{number}", number % 4
        segments.append(("store", name, segment, 0.1, [1.0], False))
        statics.append((name, "theirs", 100.0 * number))
        for day in range(HISTORY + HORIZON):
            ds = START + timedelta(days=day)
            promo = float((day + number) % 3 == 0)
            panel.append((name, ds, 100.0 * (number + 1), 1, False, promo))
            if ds > CUTOFF:
                y_hat = 100.0 * (number + 1) * (1 + 0.05 * rng.standard_normal() + 0.5 * promo * (segment == 1))
                forecasts.append(
                    ("r", "lstm", name, CUTOFF, ds, (ds - CUTOFF).days, float(y_hat), None, None, None, None)
                )

    columns = "unique_id string, ds date, y double, open int, y_imputed boolean, promo double"
    lakehouse.overwrite(s.PANEL.name, spark.createDataFrame(panel, columns))
    lakehouse.overwrite(s.FORECASTS.name, spark.createDataFrame(forecasts, s.FORECASTS.ddl))
    lakehouse.overwrite(s.STATICS.name, spark.createDataFrame(statics, "unique_id string, Segment string, size double"))
    lakehouse.overwrite(s.SEGMENTS.name, spark.createDataFrame(segments, s.SEGMENTS.ddl))


def test_a_planted_defect_is_the_most_telling_pattern(lakehouse: Lakehouse) -> None:
    fill(lakehouse)

    count = write_error_patterns(CONFIG, lakehouse)

    rows = lakehouse.read(s.ERROR_PATTERNS.name).collect()
    assert len(rows) == count
    best = max(rows, key=lambda row: (row["lift"], row["forecasts"]))
    assert (sorted(best["conditions"]), best["failure"]) == (["promo = 1", "segment = 1"], TOO_HIGH)
    affected = sum(
        1 for number in range(1, SERIES, 4) for day in range(HISTORY, HISTORY + HORIZON) if (day + number) % 3 == 0
    )
    assert (best["forecasts"], best["share"]) == (affected, 1.0)
    assert best["lift"] > 5
    assert all(row["lift"] >= 1.5 for row in rows)
    # Each says more than what has fewer conditions: no longer one repeats the defect.
    assert not [row for row in rows if set(best["conditions"]) < set(row["conditions"])]


def test_the_largest_tenth_is_told_relative_to_the_series(spark: SparkSession) -> None:
    errors = {"large": 1000.0, "small": 1.0}
    rows = [
        (name, 100 * scale, 100 * scale + scale * (step if step % 2 else -step))
        for name, scale in errors.items()
        for step in range(1, 21)
    ]
    found = with_large_errors(spark.createDataFrame(rows, "unique_id string, y double, y_hat double")).collect()

    failed = {(row["unique_id"], row["failure"]) for row in found if row["failure"] is not None}
    assert failed == {(name, failure) for name in errors for failure in (TOO_HIGH, TOO_LOW)}
    assert sum(row["failure"] is not None for row in found) == 4


def test_numbers_of_many_values_are_told_by_thirds(spark: SparkSession) -> None:
    rows = [(float(number % 2), float(number), None if number == 0 else "x", number % 3 == 0) for number in range(9)]
    frame = spark.createDataFrame(rows, "promo double, size double, item string, holiday boolean")

    facts = as_facts(frame, frame.columns)

    told = [tuple(row) for row in frame.select(*facts.values()).collect()]
    assert told[0] == ("promo = 0", "size is low", None, "holiday = true")
    assert told[4] == ("promo = 0", "size is middle", "item = x", "holiday = false")
    assert told[8] == ("promo = 0", "size is high", "item = x", "holiday = false")
