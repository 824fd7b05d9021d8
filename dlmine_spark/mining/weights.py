"""Weights: what share of the value of all baskets a rule is about, beside its share of the baskets themselves.

A rule in few but dear baskets is worth more than its support says. Baskets are weighed, not items, as in transaction
weights of the R package arules; counts, tests and what is frequent stay as they are.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.mining.contrast import SIDES, sets_of
from dlmine_spark.mining.rules import WEIGHTED
from dlmine_spark.mining.sets import GROUP, WEIGHT, totals


def weighted(rules: DataFrame, baskets: DataFrame) -> DataFrame:
    """Rules with their weighted measures; those of rules that are not kept are null.

    One pass over the baskets. The driver and each task hold the kept rules.

    Args:
        rules: the rows of ``gold.rules``; read twice, so cached.
        baskets: ``items``, ``weight``; one without weight, or with one below 0, weighs nothing.
    """
    kept = rules.where("is_kept").select(*SIDES).toArrow()
    if not len(kept):
        return rules
    weight = F.greatest(F.coalesce(F.col(WEIGHT).cast("double"), F.lit(0.0)), F.lit(0.0))
    weighed = baskets.select(s.ITEMS, F.lit(0).alias(GROUP), weight.alias(WEIGHT))
    wanted = sets_of(kept)
    found = totals(weighed, wanted, groups=1).weights
    total = weighed.agg(F.sum(WEIGHT)).collect()[0][0]
    if found is None or not total:
        return rules
    joint, left, right = (found[numbers, 0] for numbers in wanted.numbers)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = dict(zip(WEIGHTED, (joint / total, joint / left, joint * total / (left * right)), strict=True))
    columns = {name: pa.array(value, pa.float64(), from_pandas=True) for name, value in values.items()}
    known = rules.sparkSession.createDataFrame(pa.table({**{side: kept.column(side) for side in SIDES}, **columns}))
    return rules.drop(*WEIGHTED).join(known, on=list(SIDES), how="left").select(*s.RULES.names)
