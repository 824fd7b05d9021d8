"""Weights: what share of the value of all baskets a rule is about, beside its share of the baskets themselves.

A rule in few but dear baskets is worth more than its support says. Baskets are weighed, not items, as in transaction
weights of the R package arules; counts, tests and what is frequent stay as they are.
"""

from __future__ import annotations

import logging
from typing import cast

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.mining.contrast import sets_of
from dlmine_spark.mining.rules import SIDES, WEIGHTED
from dlmine_spark.mining.sets import GROUP, WEIGHT, totals
from dlmine_spark.mining.significance import Doubles

log = logging.getLogger(__name__)

MOST = 500_000
"""Rules that are weighed: the driver and each task hold their sets."""


def weighted(rules: DataFrame, baskets: DataFrame) -> DataFrame:
    """Rules with their weighted measures; those of rules that are not kept are null.

    Two passes over the baskets. Of more than ``MOST`` kept rules the most frequent ones are weighed.

    Args:
        rules: the rows of ``gold.rules``; read three times, so cached.
        baskets: ``items``, ``weight``; one without weight, or with one below 0, weighs nothing.
    """
    candidates = rules.where("is_kept").orderBy(F.desc("support"), *SIDES)
    kept = candidates.limit(MOST + 1).select(*SIDES, F.array_sort(F.concat(*SIDES)).alias(s.ITEMS)).toArrow()
    if len(kept) > MOST:
        log.warning("more than %s rules are kept: those of the largest support are weighed", f"{MOST:,}")
        kept = kept.slice(0, MOST)
    weighed = baskets.select(
        s.ITEMS, F.lit(0).alias(GROUP), F.greatest(F.col(WEIGHT).cast("double"), F.lit(0.0)).alias(WEIGHT)
    )
    total = weighed.agg(F.sum(WEIGHT)).collect()[0][0]
    if not total:
        log.warning("mining.weight: no basket has a weight above 0, so no rule has weighted measures")
    if not len(kept) or not total:
        return rules
    wanted = sets_of(kept)
    found = cast(Doubles, totals(weighed, wanted, groups=1).weights)
    joint, left, right = (found[numbers, 0] for numbers in wanted.numbers)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = dict(zip(WEIGHTED, (joint / total, joint / left, joint * total / (left * right)), strict=True))
    columns = {name: pa.array(value, pa.float64(), from_pandas=True) for name, value in values.items()}
    known = rules.sparkSession.createDataFrame(pa.table({**{side: kept.column(side) for side in SIDES}, **columns}))
    return rules.drop(*WEIGHTED).join(known, on=list(SIDES), how="left").select(*s.RULES.names)
