"""Surrogate: a few short rules that say nearly what the network forecasts, and how nearly.

A shallow regression tree (MLlib's, after Breiman et al. 1984) learns the network's forecasts, not the values: what it
says is about the network. Forecasts are told as a multiple of what was usual for their series at the same place of the
season (on that weekday, say), since rules cannot say how large a store is, or list the week of each. How well they
imitate the network is measured on series whose forecasts they were not made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.ml.functions import array_to_vector
from pyspark.ml.regression import DecisionTreeRegressor
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.caching import kept
from dlmine_spark.config import Config
from dlmine_spark.errors import TableContractError
from dlmine_spark.evaluation.compare import scored_actuals
from dlmine_spark.explain.rules import Feature, Rule, in_words, rules_of
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
LEAST_SHARE, LEAST_COUNT = 0.01, 10
"""A rule is about such a share of the forecasts at least, and so many of them."""
HELD_OUT = 0.3
"""Share of the series that is kept from the tree."""
FEWEST_SERIES = 10
"""Of fewer, dates are kept from the tree instead of series."""
MOST_VALUES = 12
"""Values of a text that the tree may ask for."""
BINS = 64
NEARLY = 0.1
RATIO, RULE, IS_HELD_OUT = "__ratio", "__rule", "__is_held_out"
_KEY = (s.UNIQUE_ID, s.CUTOFF, s.DS)
_USUAL = "__usual"
_STEPS_AHEAD, _MONTH, _LEVEL, _RECENT = "steps ahead", "month", "level of the series", "last season to level"
_NOT_ASKED = frozenset((*_KEY, RATIO, IS_HELD_OUT))


@dataclass(frozen=True, slots=True)
class Measured:
    """A rule on forecasts that it was not made from.

    Attributes:
        conditions: in words.
        ratio: what it says: forecasts as a multiple of what was usual.
        count: of these forecasts that meet it.
        coverage: their share of all these.
        mean: of what the network forecast there.
        error: mean absolute difference between the rule and the network there; None where there is none.
    """

    conditions: tuple[str, ...]
    ratio: float
    count: int
    coverage: float
    mean: float | None
    error: float | None


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
        marked = _with_held_out(forecasts, by)
        asked = askable(marked)
        with kept(_as_numbers(marked, asked)) as rows:
            rules = _fit(rows, count, config.explain.surrogate_depth)
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


def _with_held_out(forecasts: DataFrame, by: Sequence[str]) -> DataFrame:
    """``forecasts`` with the share of groups held out that come first by their hash: never none of few."""
    groups = forecasts.select(*by).distinct()
    in_order = Window.orderBy(F.xxhash64(*by), *by)
    share = (F.row_number().over(in_order) - 1) / F.count(F.lit(1)).over(Window.partitionBy())
    marked = groups.withColumn(IS_HELD_OUT, share < HELD_OUT)
    return forecasts.join(marked, on=list(by), how="inner")


def _forecasts(config: Config, lakehouse: Lakehouse, panel: DataFrame, frequency: Frequency) -> DataFrame:
    """The network's forecasts of open steps at the backtest cutoffs, as a multiple of what was usual, with what was
    known of them (one aggregation).
    """
    made = lakehouse.read(s.FORECASTS.name).where(F.col(s.MODEL) == MODEL_NAME)
    made = to_common_clock(lakehouse, made.select(*_KEY, s.H, s.Y_HAT))
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
    rows = scored.join(known, on=list(_KEY), how="inner").withColumn(RATIO, F.col(s.Y_HAT) / F.col(_USUAL)).drop(_USUAL)
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


def askable(rows: DataFrame) -> list[tuple[Feature, Column]]:
    """What a tree may ask of forecasts, each with the number that tells it (two aggregations).

    Numbers and truth values as they are, blanks as the median; texts and segments by their most frequent values.
    """
    types = {name: type_ for name, type_ in rows.dtypes if name not in _NOT_ASKED}
    texts = [name for name, type_ in types.items() if type_ == "string" or name == "segment"]
    numbers = [name for name, type_ in types.items() if name not in texts and not type_.startswith(("date", "time"))]
    found = [
        (Feature(name, value), F.coalesce((F.col(f"`{name}`").cast("string") == value).cast("double"), F.lit(0.0)))
        for name, values in _frequent(rows, texts).items()
        for value in values
    ]
    columns = {name: F.col(f"`{name}`").cast("double") for name in numbers}
    statistics = rows.agg(
        *(
            F.struct(
                F.min(value).alias("low"),
                F.max(value).alias("high"),
                F.percentile_approx(value, 0.5).alias("median"),
                F.min((value == F.floor(value)).cast("int")).alias("is_whole"),
            ).alias(name)
            for name, value in columns.items()
        )
    ).collect()[0]
    for name, value in columns.items():
        told = statistics[name]
        # What is the same everywhere, or nowhere known, says nothing.
        if told["low"] is not None and told["low"] < told["high"]:
            feature = Feature(name, None, told["low"], told["high"], bool(told["is_whole"]))
            found.append((feature, F.coalesce(value, F.lit(told["median"]))))
    return found


def _frequent(rows: DataFrame, texts: Sequence[str]) -> Mapping[str, list[str]]:
    """The most frequent values of each text that has more than one, most frequent first."""
    if not texts:
        return {}
    cells = F.explode(
        F.array(
            *(F.struct(F.lit(name).alias("name"), F.col(f"`{name}`").cast("string").alias("value")) for name in texts)
        )
    )
    counts = rows.select(cells.alias("cell")).groupBy("cell.name", "cell.value").count()
    rank = F.row_number().over(Window.partitionBy("name").orderBy(F.desc("count"), "value"))
    ranked = counts.where(F.col("value").isNotNull()).withColumn("rank", rank).where(F.col("rank") <= MOST_VALUES)
    found: dict[str, list[str]] = {}
    for row in ranked.orderBy("name", "rank").collect():
        found.setdefault(row["name"], []).append(row["value"])
    return found


def _as_numbers(rows: DataFrame, asked: Sequence[tuple[Feature, Column]]) -> DataFrame:
    """``RATIO``, ``IS_HELD_OUT`` and ``f0``, ``f1``, ...; in the order of keys, so that trees come out the same."""
    numbers = [value.cast("double").alias(f"f{at}") for at, (_, value) in enumerate(asked)]
    return rows.orderBy(*_KEY).select(RATIO, IS_HELD_OUT, *numbers)


def _fit(rows: DataFrame, count: int, depth: int) -> list[Rule]:
    """The rules of a tree that has learned the forecasts that are not held out (a job a level)."""
    names = [name for name in rows.columns if name not in _NOT_ASKED]
    learnt = rows.where(~F.col(IS_HELD_OUT)).select(RATIO, array_to_vector(F.array(*names)).alias("features"))
    tree = DecisionTreeRegressor(
        featuresCol="features",
        labelCol=RATIO,
        maxDepth=depth,
        maxBins=BINS,
        minInstancesPerNode=max(LEAST_COUNT, round(LEAST_SHARE * count)),
        seed=0,
    )
    return rules_of(tree.fit(learnt).toDebugString)


def measure(
    rows: DataFrame, rules: Sequence[Rule], features: Sequence[Feature]
) -> tuple[list[Measured], dict[str, float | None]]:
    """Rules beside the forecasts that were held out (one aggregation).

    Args:
        rows: ``RATIO``, ``IS_HELD_OUT`` and a column ``f0``, ``f1``, ... a feature.
        rules: every row meets exactly one.
        features: that they ask for.

    Returns:
        The rules, those of most forecasts first, and by measure: ``r2`` (None where all forecasts are alike),
        ``within_a_tenth``, ``held_out``, ``fitted`` and ``rules``.
    """
    number, told = F.lit(None).cast("int"), F.lit(None).cast("double")
    for at, rule in enumerate(rules):
        number = F.when(_meets(rule), F.lit(at)).otherwise(number)
        told = F.when(_meets(rule), F.lit(rule.told)).otherwise(told)
    difference = F.col(RATIO) - F.col("told")
    of_rules = (
        rows.withColumns({RULE: number, "told": told})
        .groupBy(RULE, IS_HELD_OUT)
        .agg(
            F.count(F.lit(1)).alias("count"),
            F.sum(RATIO).alias("sum"),
            F.sum(F.col(RATIO) ** 2).alias("squares"),
            F.sum(difference**2).alias("lost"),
            F.sum(F.abs(difference)).alias("error"),
            F.count_if(F.abs(difference) <= NEARLY * F.abs(F.col(RATIO))).alias("nearly"),
        )
        .collect()
    )
    held_out = {row[RULE]: row for row in of_rules if row[IS_HELD_OUT]}
    total = sum(row["count"] for row in held_out.values())
    spread = sum(row["squares"] for row in held_out.values())
    spread -= sum(row["sum"] for row in held_out.values()) ** 2 / max(1, total)
    scores: dict[str, float | None] = {
        "r2": 1 - sum(row["lost"] for row in held_out.values()) / spread if spread > 1e-12 else None,
        "within_a_tenth": sum(row["nearly"] for row in held_out.values()) / total if total else None,
        "held_out": float(total),
        "fitted": float(sum(row["count"] for row in of_rules if not row[IS_HELD_OUT])),
        "rules": float(len(rules)),
    }
    measured = []
    for at, rule in enumerate(rules):
        row = held_out.get(at)
        count = int(row["count"]) if row else 0
        mean, error = (row["sum"] / count, row["error"] / count) if row else (None, None)
        measured.append(Measured(in_words(rule, features), rule.told, count, count / max(1, total), mean, error))
    return sorted(measured, key=lambda one: (-one.count, one.conditions)), scores


def _meets(rule: Rule) -> Column:
    bounds = [
        F.col(f"f{bound.feature}") > bound.threshold
        if bound.is_above
        else F.col(f"f{bound.feature}") <= bound.threshold
        for bound in rule.bounds
    ]
    return reduce(Column.__and__, bounds, F.lit(True))


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
