"""Failures: when the network's held-out forecasts are far off, mined like rules, into ``gold.error_patterns``."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.caching import kept
from dlmine_spark.config import Config
from dlmine_spark.evaluation.compare import part_of_horizon, scored_actuals
from dlmine_spark.evaluation.failures import as_facts, mining_config, with_large_errors
from dlmine_spark.frequency import Frequency, Moment, sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.alignment import read_panel, to_common_clock
from dlmine_spark.pipelines.backtest import segments_of_series
from dlmine_spark.pipelines.common import all_cutoffs, calendar_of, covariates, known_future
from dlmine_spark.pipelines.mine import rules_of_baskets
from dlmine_spark.pipelines.steps import panel_frequency
from dlmine_spark.pipelines.train import MODEL_NAME

_KEY = (s.UNIQUE_ID, s.CUTOFF, s.DS)
_NOT_TOLD = (*_KEY, s.H, s.Y, s.Y_HAT, "failure")
_SEGMENT, _WEEKDAY, _CLOSED_NEXT, _STEPS_AHEAD = "segment", "weekday", "closed next", "steps ahead"
_OWN = frozenset((*_NOT_TOLD, s.OPEN, _SEGMENT, _WEEKDAY, _CLOSED_NEXT, _STEPS_AHEAD))


def write_error_patterns(config: Config, lakehouse: Lakehouse) -> int:
    """Mine what the largest errors at the backtest cutoffs have in common; how many patterns there are.

    Days of one series are alike, and so are series on one day: patterns of few series or dates may be chance, whatever
    their q-value says.
    """
    panel = read_panel(lakehouse)
    frequency = panel_frequency(config, panel)
    cutoffs = all_cutoffs(config, panel, frequency).backtest
    forecasts = to_common_clock(lakehouse, lakehouse.read(s.FORECASTS.name).where(F.col(s.MODEL) == MODEL_NAME))
    scored = forecasts.select(*_KEY, s.H, s.Y_HAT).join(scored_actuals(panel), on=[s.UNIQUE_ID, s.DS], how="inner")
    known = reduce(
        lambda upper, lower: upper.unionByName(lower),
        [known_at(config, lakehouse, panel, frequency, cutoff) for cutoff in cutoffs],
    )
    scored = scored.withColumn(_STEPS_AHEAD, part_of_horizon(config.evaluation.horizon))
    with (
        kept(scored.join(known, on=list(_KEY), how="inner")) as compared,
        kept(with_large_errors(compared)) as rows,
    ):
        count = rows.count()
        if count == 0:
            return 0
        told = [name for name, type_ in rows.dtypes if name not in _NOT_TOLD and not type_.startswith(("date", "time"))]
        facts = as_facts(rows, told)
        baskets = rows.select(
            F.concat_ws("|", *_KEY).alias(s.BASKET_ID), F.array(*facts.values(), F.col("failure")).alias(s.ITEMS)
        )
        rules = rules_of_baskets(baskets, mining_config(count)).where("is_kept")
        patterns = rules.select(
            F.lit(lakehouse.run_id).alias(s.RUN_ID),
            F.lit(MODEL_NAME).alias(s.MODEL),
            F.col("antecedent").alias("conditions"),
            F.get("consequent", F.lit(0)).alias("failure"),
            F.round(F.col("antecedent_support") * count).alias("forecasts"),
            F.col("confidence").alias("share"),
            "lift",
            "q_value",
        )
        lakehouse.overwrite(s.ERROR_PATTERNS.name, patterns)
    return lakehouse.read(s.ERROR_PATTERNS.name).count()


def known_at(config: Config, lakehouse: Lakehouse, panel: DataFrame, frequency: Frequency, cutoff: Moment) -> DataFrame:
    """What was known at a cutoff of each series and date after it, under the names that the user's data has.

    Known-future covariates and attributes; the weekday; whether the next day is closed. Segments are those of all data,
    whose numbers people know: as of each cutoff they have others. What the user calls by one of our own names is left
    out.
    """
    calendar = calendar_of(lakehouse, config)
    roles = covariates(config, panel, calendar)
    rows = known_future(config, panel, calendar, frequency, cutoff)
    rows = rows.select(
        s.UNIQUE_ID, s.DS, s.OPEN, *(f"`{name}`" for name in roles.known_future if name.lower() not in _OWN)
    )
    in_time = Window.partitionBy(s.UNIQUE_ID).orderBy(s.DS)
    rows = rows.withColumn(_CLOSED_NEXT, 1 - F.lead(s.OPEN).over(in_time)).drop(s.OPEN)
    rows = rows.where(F.col(s.DS) > F.expr(sql_literal(cutoff)))
    if frequency.has_calendar and frequency.days == 1:
        rows = rows.withColumn(_WEEKDAY, F.date_format(s.DS, "EEEE"))
    segments = segments_of_series(lakehouse)
    if segments is not None:
        rows = rows.join(segments, on=s.UNIQUE_ID, how="left")
    if lakehouse.exists(s.STATICS.name):
        statics = lakehouse.read(s.STATICS.name)
        taken = _OWN | {name.lower() for name in rows.columns}
        told = [name for name in statics.columns if name.lower() not in taken and not name.endswith(s.IMPUTED_SUFFIX)]
        rows = rows.join(statics.select(s.UNIQUE_ID, *(f"`{name}`" for name in told)), on=s.UNIQUE_ID, how="left")
    return rows.withColumn(s.CUTOFF, F.expr(sql_literal(cutoff)))
