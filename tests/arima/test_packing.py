"""Series dealt out to waves and tasks, and put together again from batches."""

from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from dlmine_spark.arima.packing import pack
from dlmine_spark.arima.per_series import whole_series


@pytest.mark.spark
def test_long_and_short_series_are_dealt_out_evenly(spark: SparkSession) -> None:
    lengths = [(f"long{number}", 100_000) for number in range(8)] + [(f"short{number}", 10) for number in range(800)]
    frame = spark.createDataFrame(lengths, "unique_id string, values int")

    packing = pack(frame, fits=2, cores=2, wave_values=200_000)

    rows = packing.series.collect()
    assert (len(rows), len({row["unique_id"] for row in rows})) == (808, 808)
    # 2 fits of 8 x 100,200 + 800 x 210 values, by 2 cores with 200,000 each a wave.
    assert (packing.waves, packing.tasks) == (5, 8)
    places = Counter((row["wave"], row["task"]) for row in rows)
    assert set(places) == {(wave, task) for wave in range(5) for task in range(8)}
    assert max(places.values()) - min(places.values()) <= 1
    heavy = Counter((row["wave"], row["task"]) for row in rows if row["unique_id"].startswith("long"))
    assert max(heavy.values()) == 1


@pytest.mark.spark
@pytest.mark.parametrize(("series", "expected"), [(0, (1, 1)), (1, (1, 1)), (3, (1, 3))])
def test_few_series_make_few_tasks(spark: SparkSession, series: int, expected: tuple[int, int]) -> None:
    frame = spark.createDataFrame([(f"s{number}", 50) for number in range(series)], "unique_id string, values int")
    packing = pack(frame, fits=1, cores=4, wave_values=1_000_000)
    assert (packing.waves, packing.tasks) == expected
    assert packing.series.count() == series


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_series_come_whole_wherever_batches_end(size: int) -> None:
    rows = pd.DataFrame({"unique_id": list("aabbbbbcd"), "y": range(9)})
    batches = [rows.iloc[start : start + size] for start in range(0, len(rows), size)]
    found = [
        (one["unique_id"].unique().tolist(), one["y"].tolist()) for one in whole_series(iter([rows.head(0), *batches]))
    ]
    assert found == [(["a"], [0, 1]), (["b"], [2, 3, 4, 5, 6]), (["c"], [7]), (["d"], [8])]
