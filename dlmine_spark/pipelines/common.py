"""What several pipelines ask of the panel (its end, cutoffs and covariates) and of cleaning's record."""

from __future__ import annotations

import difflib
import logging
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.arima.paths import ARIMA, OTHERS
from dlmine_spark.config import Config
from dlmine_spark.errors import ConfigError, TableContractError
from dlmine_spark.frequency import Frequency, Moment, backtest_cutoffs, sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.alignment import to_common_clock

log = logging.getLogger(__name__)

PROMOTION_NAMES = frozenset({"promo", "promotion", "on_promotion", "onpromotion", "display", "disp"})
"""Names under which a covariate is taken for the promotion, whatever their case."""
_PLANNED = "__planned:"
"""Before the name of a covariate: whether the calendar has a value of it."""


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """Last dates that forecasts may see: rolling origins with actuals after them, and the end of the data.

    Of a series that has no row on one of them, the last row before it is meant.
    """

    backtest: tuple[Moment, ...]
    final: Moment

    @property
    def all(self) -> tuple[Moment, ...]:
        """Every cutoff, oldest first."""
        return (*self.backtest, self.final)


def missing_series(series: DataFrame, asked: Sequence[str]) -> str | None:
    """What is said of the first of these ids that no row has, with ids like it; None where all are there."""
    wanted = sorted(set(asked))
    there = series.where(F.col(s.UNIQUE_ID).isin(wanted)).select(s.UNIQUE_ID).distinct() if wanted else None
    missing = sorted(set(wanted) - {row[s.UNIQUE_ID] for row in there.collect()}) if there is not None else []
    if not missing:
        return None
    # Some thousand, to find one like a misspelt one among.
    some = [row[s.UNIQUE_ID] for row in series.select(s.UNIQUE_ID).distinct().limit(5_000).collect()]
    near = difflib.get_close_matches(missing[0], some, n=3)
    return f"there is no series {missing[0]!r}" + (f"; did you mean {', '.join(near)}?" if near else "")


def check_series(lakehouse: Lakehouse, unique_id: str) -> None:
    """Refuse to begin for a series that what was cleaned does not have.

    Raises:
        ConfigError: naming ids like it.
    """
    problem = missing_series(lakehouse.read(s.PANEL.name), [unique_id]) if lakehouse.exists(s.PANEL.name) else None
    if problem is not None:
        raise ConfigError(f"--series: {problem}")


def panel_end(panel: DataFrame) -> Moment:
    """The last date with a known value.

    Raises:
        TableContractError: no value is known at all.
    """
    end = panel.where(F.col(s.Y).isNotNull()).agg(F.max(s.DS).alias(s.DS)).first()
    if end is None or end[s.DS] is None:
        raise TableContractError(
            "silver.panel: no row has a value in y; see silver.quarantine and silver.repairs for why"
        )
    last: Moment = end[s.DS]
    return last


def all_cutoffs(config: Config, panel: DataFrame, frequency: Frequency) -> Cutoffs:
    """The cutoffs of the backtest and of the production forecast.

    Raises:
        TableContractError: the history is too short for the horizon and the number of cutoffs.
    """
    evaluation = config.evaluation
    final = panel_end(panel)
    backtest = tuple(backtest_cutoffs(final, frequency, evaluation.horizon, evaluation.cutoffs, evaluation.step))
    first = panel.where(F.col(s.Y).isNotNull()).agg(F.min(s.DS).alias(s.DS)).first()
    start: Moment = first[s.DS] if first is not None else final
    needed = frequency.shift(start, evaluation.horizon)
    if backtest[0] < needed:
        known = frequency.steps(start, final) + 1
        between = (evaluation.cutoffs - 1) * (evaluation.step or 0)
        shares = 2 if evaluation.step else 1 + evaluation.cutoffs
        longest = max(0, known - 1 - between) // shares
        raise TableContractError(
            f"evaluation.horizon is {evaluation.horizon} with {evaluation.cutoffs} cutoff(s), but silver.panel has "
            f"only {known} step{'' if known == 1 else 's'} ({start} to {final}): the first cutoff {backtest[0]} must "
            "leave at least a horizon of history; "
            + (f"set evaluation.horizon to at most {longest}" if longest else "give it a longer history")
        )
    return Cutoffs(backtest, final)


@dataclass(frozen=True, slots=True)
class Covariates:
    """Names of the covariates of a panel by role; what the user did not declare is past-only, which cannot leak."""

    known_future: tuple[str, ...]
    past_only: tuple[str, ...]
    open_is_known: bool
    """Whether closures are declared by the data, or only seen afterwards in a panel made from lines."""


def covariates(config: Config, panel: DataFrame, calendar: DataFrame | None) -> Covariates:
    """The covariates of ``silver.panel`` and ``silver.calendar`` with their declared roles."""
    flags = {name for name in panel.columns if name.endswith(s.IMPUTED_SUFFIX)}
    in_panel = [name for name in panel.columns if name not in s.PANEL.columns and name not in flags]
    in_calendar = [
        name
        for name in (calendar.columns if calendar is not None else [])
        if name not in (s.UNIQUE_ID, s.DS, s.OPEN) and not name.endswith(s.IMPUTED_SUFFIX)
    ]
    panel_source = config.source_of_kind("panel")
    calendar_source = config.source_of_kind("calendar")

    def role(name: str) -> str:
        if name in in_calendar and calendar_source is not None:
            declared = {key.lower() for key in calendar_source[1].roles}
            return calendar_source[1].role(name) if name.lower() in declared else "known_future"
        return panel_source[1].role(name) if panel_source is not None else "past_only"

    names = list(dict.fromkeys([*in_panel, *in_calendar]))
    open_is_known = (calendar is not None and s.OPEN in calendar.columns) or (
        panel_source is not None and s.OPEN in {name.lower() for name in panel_source[1].columns}
    )
    if panel_source is not None and panel_source[1].role(s.OPEN) == "known_future":
        open_is_known = True
    return Covariates(
        tuple(name for name in names if role(name) == "known_future"),
        tuple(name for name in in_panel if role(name) == "past_only" and name not in in_calendar),
        open_is_known,
    )


def promotion_of(panel: DataFrame, calendar: DataFrame | None, roles: Covariates) -> str | None:
    """The known-future covariate that says whether, or how deeply, a series is promoted; None without one."""
    types = dict([*panel.dtypes, *(calendar.dtypes if calendar is not None else [])])
    return next(
        (name for name in roles.known_future if name.lower() in PROMOTION_NAMES and types[name] != "string"),
        None,
    )


def known_future(
    config: Config,
    panel: DataFrame,
    calendar: DataFrame | None,
    frequency: Frequency,
    cutoff: Moment,
) -> DataFrame:
    """What was known at a cutoff about the dates up to ``horizon`` after it.

    Runs one aggregation, to tell which covariates end too early.

    Returns:
        One row per series and date, from the series' first date to ``horizon`` steps after the cutoff: ``unique_id``,
        ``ds``, ``open`` and the known-future covariates. Where those end before the horizon, the last known season
        is repeated and a warning says so; of a list of events, which is blank on most dates, nothing is repeated.

    Raises:
        TableContractError: they end before the horizon and ``evaluation.unknown_future`` is ``refuse``.
    """
    roles = covariates(config, panel, calendar)
    end = frequency.shift(cutoff, config.evaluation.horizon)
    spine = (
        panel.where(F.col(s.DS) <= F.expr(sql_literal(cutoff)))
        .groupBy(s.UNIQUE_ID)
        .agg(F.min(s.DS).alias("start"))
        .select(s.UNIQUE_ID, F.explode(F.expr(frequency.sql_moments("start", sql_literal(end)))).alias(s.DS))
    )
    names = [s.OPEN, *roles.known_future]
    known = spine.join(_values(panel, names, "panel", cutoff, roles), on=[s.UNIQUE_ID, s.DS], how="left")
    if calendar is not None:
        known = known.join(_values(calendar, names, "calendar", cutoff, roles), on=[s.UNIQUE_ID, s.DS], how="left")
    sides = [side for side in ("calendar", "panel") if side == "panel" or calendar is not None]
    merged = known.select(
        s.UNIQUE_ID,
        s.DS,
        *(
            F.coalesce(*(F.col(f"`{side}:{name}`") for side in sides if f"{side}:{name}" in known.columns)).alias(name)
            for name in names
        ),
        *(
            (F.col(f"`calendar:{name}`").isNotNull() if f"calendar:{name}" in known.columns else F.lit(False)).alias(
                f"{_PLANNED}{name}"
            )
            for name in names
        ),
    )
    _tell_unknown(config, merged, roles, frequency, cutoff)
    return _repeat_last_season(merged, names, frequency, cutoff, open_is_known=roles.open_is_known)


def _values(frame: DataFrame, names: list[str], side: str, cutoff: Moment, roles: Covariates) -> DataFrame:
    """The covariates of one table under names that say their side; closures seen only afterwards end at the cutoff."""
    columns = []
    for name in names:
        if name not in frame.columns:
            continue
        value = F.col(f"`{name}`")
        if name == s.OPEN and not roles.open_is_known:
            value = F.when(F.col(s.DS) <= F.expr(sql_literal(cutoff)), value)
        columns.append(value.alias(f"{side}:{name}"))
    return frame.select(s.UNIQUE_ID, s.DS, *columns)


def _tell_unknown(config: Config, known: DataFrame, roles: Covariates, frequency: Frequency, cutoff: Moment) -> None:
    """Warn of, or refuse, covariates that no row knows on some date of the horizon (one aggregation).

    Where only some series lack them there, nothing is refused: a closed shop has no plan any more.
    """
    names = [*roles.known_future, *([s.OPEN] if roles.open_is_known else [])]
    if not names:
        return
    end = frequency.shift(cutoff, config.evaluation.horizon)
    # A covariate whose blanks mean "none" (the name of a promotion) ends where the table itself ends.
    is_known = reduce(operator.or_, (F.col(f"`{name}`").isNotNull() for name in names))
    types = dict(known.dtypes)
    numbers = [name for name in roles.known_future if types[name] not in ("string", "boolean")]
    is_blank = reduce(operator.or_, (F.col(f"`{name}`").isNull() for name in numbers), F.lit(False))
    by_series = (
        known.where(F.col(s.DS) > F.expr(sql_literal(cutoff)))
        .groupBy(s.UNIQUE_ID)
        .agg(
            F.max(F.when(is_known, F.col(s.DS))).alias("latest"),
            F.max(s.DS).alias("last"),
            F.count_if(is_known & is_blank).alias("blanks"),
        )
    )
    is_behind = F.col("latest").isNull() | (F.col("latest") < F.col("last"))
    told = by_series.agg(
        F.max("latest").alias("latest"),
        F.count(F.lit(1)).alias("series"),
        F.count_if(is_behind).alias("behind"),
        F.min(F.when(is_behind, F.col(s.UNIQUE_ID))).alias("example"),
        F.count_if(F.col("blanks") > 0).alias("blank"),
        F.min(F.when(F.col("blanks") > 0, F.col(s.UNIQUE_ID))).alias("blank_example"),
    ).collect()[0]
    latest = cutoff if told["latest"] is None else told["latest"]
    if told["blank"]:
        log.warning(
            "a known-future covariate among %s is blank on dates of the horizon in %d of %d series, e.g. %s "
            "(cutoff %s): models take what is usual",
            ", ".join(numbers),
            told["blank"],
            told["series"],
            told["blank_example"],
            cutoff,
        )
    if frequency.shift(latest, 1) > end:
        if told["behind"]:
            log.warning(
                "known-future covariates of %d of %d series, e.g. %s, end before the horizon's end %s (cutoff %s); the "
                "last known season of each is repeated, of what is known on most dates",
                told["behind"],
                told["series"],
                told["example"],
                end,
                cutoff,
            )
        return
    problem = (
        f"known-future covariates {', '.join(names)} end at {latest}, before the horizon's end {end} "
        f"(cutoff {cutoff}): give a source of kind calendar that covers it"
    )
    if config.evaluation.unknown_future == "refuse":
        raise TableContractError(f"silver.calendar: {problem}, or set evaluation.unknown_future=repeat")
    log.warning("%s; the last known season is repeated, of what is known on most dates", problem)


def _repeat_last_season(
    known: DataFrame, names: list[str], frequency: Frequency, cutoff: Moment, *, open_is_known: bool
) -> DataFrame:
    """Fill dates after the last one that any covariate knows with the values one or more whole seasons before.

    Closures that are only seen afterwards end at the cutoff, however far the covariates reach. What is blank on most of
    the last dates is a list of events: a holiday does not come again each week.
    """
    of_series = Window.partitionBy(s.UNIQUE_ID)
    step = F.row_number().over(Window.partitionBy(s.UNIQUE_ID).orderBy(s.DS))
    end = F.expr(sql_literal(cutoff))
    is_known = reduce(operator.or_, (F.col(f"`{name}`").isNotNull() for name in names))
    is_planned = reduce(operator.or_, (F.col(f"`{_PLANNED}{name}`") for name in names))
    phased = (
        known.withColumn("step", step)
        .withColumn("phase", F.col("step") % F.lit(frequency.season_length))
        .withColumn("planned_until", F.max(F.when(is_planned, F.col(s.DS))).over(of_series))
        .withColumn("known_until", F.greatest(F.max(F.when(is_known, F.col(s.DS))).over(of_series), end))
    )
    is_past = F.col(s.DS) <= F.col("known_until")
    last_step = F.max(F.when(is_past, F.col("step"))).over(of_series)
    phased = phased.withColumn("is_recent", is_past & (F.col("step") > last_step - _recent_steps(frequency)))

    def is_usual(name: str) -> Column:
        """Whether most of the last dates know it, by the calendar where that reaches beyond the cutoff."""
        by_calendar = F.coalesce(F.col("planned_until") > end, F.lit(False))
        there = F.when(by_calendar, F.col(f"`{_PLANNED}{name}`")).otherwise(F.col(f"`{name}`").isNotNull())
        known_steps = F.count_if(F.col("is_recent") & there).over(of_series)
        return 2 * known_steps > F.count_if(F.col("is_recent")).over(of_series)

    row = F.struct(*(F.col(f"`{name}`").alias(name) for name in names))
    earlier = (
        Window.partitionBy(s.UNIQUE_ID, "phase").orderBy(s.DS).rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    last_season = F.last(F.when(is_past, row), ignorenulls=True).over(earlier)
    values = {name: F.when(is_past | is_usual(name), F.col(f"values.`{name}`")) for name in names}
    if not open_is_known:
        seen = F.when(F.col(s.DS) <= end, F.struct(s.OPEN))
        values[s.OPEN] = F.last(seen, ignorenulls=True).over(earlier).getField(s.OPEN)
    return (
        phased.withColumn("values", last_season)
        .select(s.UNIQUE_ID, s.DS, *(column.alias(name) for name, column in values.items()))
        .withColumn(s.OPEN, F.coalesce(F.col(s.OPEN), F.lit(1)).cast("int"))
    )


def _recent_steps(frequency: Frequency) -> int:
    """So many of the last dates tell whether a covariate is known on most dates."""
    return max(frequency.season_length, 7)


def calendar_of(lakehouse: Lakehouse, config: Config) -> DataFrame | None:
    """``silver.calendar`` on the common clock, where there is a source of that kind."""
    if config.source_of_kind("calendar") is None:
        return None
    calendar = lakehouse.read(s.CALENDAR.name)
    return to_common_clock(lakehouse, calendar) if lakehouse.exists(s.PANEL.name) else calendar


def as_stages(forecasts: DataFrame) -> DataFrame:
    """Forecasts under the name of the stage that made them: ARIMA's with what stood in for it, told by a column."""
    is_fallback = F.col(s.MODEL).isin(*OTHERS)
    return forecasts.withColumns(
        {s.MODEL: F.when(is_fallback, F.lit(ARIMA)).otherwise(F.col(s.MODEL)), "is_fallback": is_fallback}
    )


def repairs_by_rule(repairs: DataFrame, most: int) -> pd.DataFrame:
    """Of ``silver.repairs``: count and one example of each source, rule and column; the ``most`` frequent ones."""
    example = F.min_by(F.struct("key", "old_value", "new_value"), F.struct("key", "old_value"))
    return (
        repairs.groupBy("source", "rule", "column")
        .agg(F.count(F.lit(1)).alias("count"), example.alias("example"))
        .select("source", "rule", "column", "count", "example.key", "example.old_value", "example.new_value")
        .orderBy(F.desc("count"), "source", "rule", "column")
        .limit(most)
        .toPandas()
    )


def reasons_by_rule(quarantine: DataFrame, most: int) -> pd.DataFrame:
    """Of ``silver.quarantine``: count and one message of each source, rule and column; the ``most`` frequent ones."""
    return (
        quarantine.select("source", F.explode("reasons").alias("reason"))
        .groupBy("source", "reason.rule", "reason.column")
        .agg(F.count(F.lit(1)).alias("count"), F.min("reason.message").alias("message"))
        .orderBy(F.desc("count"), "source", "rule", "column")
        .limit(most)
        .toPandas()
    )


def number(value: float) -> str:
    """Three digits for the terminal; a question mark where it is not known."""
    return "?" if pd.isna(value) else f"{value:.3g}"
