"""Which task fits which series: so that tasks take about equally long, however many series there are.

Series are dealt out like cards, the longest first: so no task gets more long ones than another, a million short ones
make no more tasks than the cores can use, and the series of a task come and go one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s

VALUES, TASK, WAVE = "values", "task", "wave"

TASKS_A_CORE = 4
"""Tasks of a wave for each core: the last ones to end leave few cores idle."""
_OVERHEAD = 200
"""A series takes as long as one with so many values more: what does not depend on its length."""
_CLASSES_A_DOUBLING = 2


@dataclass(frozen=True, slots=True)
class Packing:
    """Series dealt out to waves, and within a wave to tasks.

    Attributes:
        series: one row per series: ``unique_id``, ``wave``, ``task`` (from 0).
        waves: how many there are; what a wave gave is kept before the next one begins.
        tasks: of each wave.
    """

    series: DataFrame
    waves: int
    tasks: int


def pack(lengths: DataFrame, fits: int, cores: int, wave_values: int) -> Packing:
    """Deal series out, by nothing but their lengths and names (one aggregation, a row per class of lengths).

    Args:
        lengths: one row per series: ``unique_id``, ``values``; read twice, so cached.
        fits: models fitted to each.
        cores: tasks that run at the same time.
        wave_values: values that a core fits in a wave, ``arima.wave_values``.
    """
    cost = F.col(VALUES) + F.lit(_OVERHEAD)
    classed = lengths.withColumn("class", F.floor(F.log2(cost.cast("double")) * _CLASSES_A_DOUBLING).cast("int"))
    found = classed.groupBy("class").agg(F.count(F.lit(1)).alias("series"), F.sum(cost).alias("cost")).collect()
    rows = sorted(found, key=lambda row: -row["class"])
    series, total = sum(row["series"] for row in rows), fits * sum(row["cost"] for row in rows)
    waves = max(1, min(series, round(total / (wave_values * cores))))
    tasks = max(1, min(-(-series // waves), TASKS_A_CORE * cores))
    before = accumulate((row["series"] for row in rows), initial=0)
    firsts = {row["class"]: first for row, first in zip(rows, before, strict=False)}
    in_class = F.row_number().over(Window.partitionBy("class").orderBy(s.UNIQUE_ID)) - 1
    card = _of(firsts, F.col("class")) + in_class
    dealt = classed.select(
        s.UNIQUE_ID,
        (card % waves).cast("int").alias(WAVE),
        (F.floor(card / waves) % tasks).cast("int").alias(TASK),
    )
    return Packing(dealt, waves, tasks)


def _of(values: dict[int, int], key: Column) -> Column:
    """The value of a key, which is among them."""
    if not values:
        return F.lit(0)
    return F.create_map(*(F.lit(part) for pair in values.items() for part in pair))[key]
