"""Surrogate: a few short rules that say nearly what the network forecasts, and how nearly.

A shallow regression tree (MLlib's, after Breiman et al. 1984) learns the network's forecasts, not the values: what it
says is about the network. Forecasts are told as a multiple of what was usual for their series at the same place of the
season (on that weekday, say), since rules cannot say how large a store is, or list the week of each. How well they
imitate the network is measured on series whose forecasts they were not made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.caching import kept
from dlmine_spark.config import Config
from dlmine_spark.errors import TableContractError
from dlmine_spark.evaluation.compare import scored_actuals
from dlmine_spark.explain.surrogate import (
    KEY,
    RATIO,
    Measured,
    as_numbers,
    askable,
    fit_rules,
    measure,
    with_held_out,
)
from dlmine_spark.frequency import Frequency, Moment, sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.alignment import read_panel, to_common_clock
from dlmine_spark.pipelines.common import all_cutoffs
from dlmine_spark.pipelines.failures import known_at
from dlmine_spark.pipelines.steps import panel_frequency
from dlmine_spark.pipelines.train import MODEL_NAME

MOST_FORECASTS = 300_000
"""More than these are sampled, whole series by the hash of their ids: rules this short need no more."""
FEWEST_FORECASTS = 100
FEWEST_SERIES = 10
"""Of fewer, dates are kept from the tree instead of series."""
_USUAL = "__usual"
_STEPS_AHEAD, _MONTH, _LEVEL, _RECENT = "steps ahead", "month", "level of the series", "last season to level"


def run(config: Config, lakehouse: Lakehouse) -> tuple[str, str]:
    """Write ``gold.surrogates`` and ``gold.surrogate_scores``.

    Args:
        config: the whole configuration.
        lakehouse: the tables as the last run of explain saw them.

    Returns:
        One line on how well the rules imitate the network, and the rules as text.

    Raises:
        TableContractError: there are too few forecasts.
    """
    panel = read_panel(lakehouse)
    frequency = panel_frequency(config, panel)
    with kept(_forecasts(config, lakehouse, panel, frequency)) as forecasts:
        series, count = forecasts.agg(F.countDistinct(s.UNIQUE_ID), F.count(F.lit(1))).collect()[0]
        if count < FEWEST_FORECASTS:
            raise TableContractError(
                f"gold.forecasts: {count} forecasts of the network have a known value at the backtest cutoffs, rules "
                f"need at least {FEWEST_FORECASTS}"
            )
        by = [s.UNIQUE_ID] if series >= FEWEST_SERIES else [s.UNIQUE_ID, s.DS]
        marked = with_held_out(forecasts, by)
        asked = askable(marked)
        with kept(as_numbers(marked, asked)) as rows:
            rules = fit_rules(rows, count, config.explain.surrogate_depth)
            measured, scores = measure(rows, rules, [feature for feature, _ in asked])
    rows_of_rules = [
        (
            lakehouse.run_id,
            MODEL_NAME,
            number,
            list(one.conditions),
            one.ratio,
            one.count,
            one.coverage,
            one.mean,
            one.error,
        )
        for number, one in enumerate(measured, start=1)
    ]
    spark = lakehouse.spark
    lakehouse.overwrite(s.SURROGATES.name, spark.createDataFrame(rows_of_rules, s.SURROGATES.ddl))
    of_measures = [(lakehouse.run_id, measure_, value) for measure_, value in scores.items()]
    lakehouse.overwrite(s.SURROGATE_SCORES.name, spark.createDataFrame(of_measures, s.SURROGATE_SCORES.ddl))
    return _in_words(scores, "series" if len(by) == 1 else "days"), _as_table(measured)


def _forecasts(config: Config, lakehouse: Lakehouse, panel: DataFrame, frequency: Frequency) -> DataFrame:
    """The network's forecasts of open steps at the backtest cutoffs, as a multiple of what was usual, with what was
    known of them (one aggregation).
    """
    made = lakehouse.read(s.FORECASTS.name).where(F.col(s.MODEL) == MODEL_NAME)
    made = to_common_clock(lakehouse, made.select(*KEY, s.H, s.Y_HAT))
    cutoffs = all_cutoffs(config, panel, frequency).backtest
    actuals = scored_actuals(panel)
    share = MOST_FORECASTS / max(1, made.count())
    if share < 1:
        made = made.where(F.pmod(F.xxhash64(s.UNIQUE_ID, F.lit(1)), F.lit(10_000)) < round(10_000 * share))
    # Closed steps are forecast as 0, which no rule has to say.
    scored = made.join(actuals.select(s.UNIQUE_ID, s.DS), on=[s.UNIQUE_ID, s.DS], how="inner")
    history = max(config.training.history, frequency.season_length)
    known = reduce(
        DataFrame.unionByName,
        [
            _with_usual(known_at(config, lakehouse, panel, frequency, cutoff), actuals, frequency, cutoff, history)
            for cutoff in cutoffs
        ],
    )
    rows = scored.join(known, on=list(KEY), how="inner").withColumn(RATIO, F.col(s.Y_HAT) / F.col(_USUAL)).drop(_USUAL)
    rows = rows.withColumnsRenamed({s.H: _STEPS_AHEAD}).drop(s.Y_HAT)
    taken = {name.lower() for name in rows.columns}
    if frequency.has_calendar and not frequency.is_within_day and _MONTH not in taken:
        rows = rows.withColumn(_MONTH, F.date_format(s.DS, "MMMM"))
    return rows.where(F.col(RATIO).isNotNull() & ~F.isnan(RATIO))


def _with_usual(known: DataFrame, actuals: DataFrame, frequency: Frequency, cutoff: Moment, history: int) -> DataFrame:
    """What was known of steps after a cutoff with what was usual there, as far back as the network sees.

    That is the mean of the series' steps at the same place of the season, of all its steps where there is none; and
    beside it the level of the series and how its last season compares with it. Series that sold nothing are left out.
    """

    def since(steps: int) -> Column:
        return F.col(s.DS) > F.expr(sql_literal(frequency.shift(cutoff, -steps)))

    place = F.expr(frequency.sql_position(s.DS)).alias("__place")
    past = actuals.where((F.col(s.DS) <= F.expr(sql_literal(cutoff))) & since(history)).select("*", place)
    recent = F.avg(F.when(since(frequency.season_length), F.col(s.Y)))
    levels = past.groupBy(s.UNIQUE_ID).agg(F.avg(s.Y).alias(_LEVEL), recent.alias("__recent"))
    places = past.groupBy(s.UNIQUE_ID, "__place").agg(F.avg(s.Y).alias("__at_place"))
    rows = known.select("*", place).join(levels.where(F.col(_LEVEL) > 0), on=s.UNIQUE_ID, how="inner")
    rows = rows.join(places, on=[s.UNIQUE_ID, "__place"], how="left")
    usual = F.coalesce(F.when(F.col("__at_place") > 0, F.col("__at_place")), F.col(_LEVEL))
    return rows.withColumns({_USUAL: usual, _RECENT: F.coalesce("__recent", F.lit(0.0)) / F.col(_LEVEL)}).drop(
        "__place", "__at_place", "__recent"
    )


def _in_words(scores: Mapping[str, float | None], kept_apart: str) -> str:
    r2, nearly = scores["r2"], scores["within_a_tenth"]
    fidelity = "unknown, all forecasts are alike" if r2 is None else f"{r2:.2f}"
    return (
        f"surrogate: {scores['rules']:.0f} rules say what the network forecasts, as a multiple of what was usual at "
        f"that place of the season; fidelity (R2) {fidelity}, {100 * (nearly or 0):.0f} % within a tenth, on "
        f"{scores['held_out']:,.0f} forecasts of {kept_apart} that they were not made from"
    )


def _as_table(measured: Sequence[Measured]) -> str:
    lines = [f"  {'forecasts':>9}  {'usual x':>7}  {'network':>7}  when"]
    for one in measured:
        mean = "-" if one.mean is None else f"{one.mean:.2f}"
        when = " and ".join(one.conditions) or "always"
        lines.append(f"  {100 * one.coverage:>7.1f} %  {one.ratio:>7.2f}  {mean:>7}  {when}")
    return "\n".join(lines)
