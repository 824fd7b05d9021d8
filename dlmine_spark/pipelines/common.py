"""What several pipelines ask of the panel: its step, its end, the cutoffs that follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import TableContractError
from dlmine_spark.frequency import BY_ALIAS, Frequency, backtest_cutoffs, from_step


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """Last dates that forecasts may see: rolling origins with actuals after them, and the end of the data."""

    backtest: tuple[date, ...]
    final: date

    @property
    def all(self) -> tuple[date, ...]:
        """Every cutoff, oldest first."""
        return (*self.backtest, self.final)


def panel_frequency(config: Config, panel: DataFrame) -> Frequency:
    """The declared step of the panel, else the usual distance between neighbouring dates (one aggregation)."""
    declared = config.cleaning.frequency
    if declared != "auto":
        return BY_ALIAS[declared]
    in_order = Window.partitionBy(s.UNIQUE_ID).orderBy(s.DS)
    distances = panel.select(F.date_diff(F.col(s.DS), F.lag(s.DS).over(in_order)).alias("days"))
    usual = distances.agg(F.median("days").alias("days")).first()
    if usual is None or usual["days"] is None:
        return BY_ALIAS["D"]
    return from_step(float(usual["days"]))


def panel_end(panel: DataFrame) -> date:
    """The last date with a known value.

    Raises:
        TableContractError: no value is known at all.
    """
    end = panel.where(F.col(s.Y).isNotNull()).agg(F.max(s.DS).alias(s.DS)).first()
    if end is None or end[s.DS] is None:
        raise TableContractError(
            "silver.panel: no row has a value in y; see silver.quarantine and silver.repairs for why"
        )
    last: date = end[s.DS]
    return last


def all_cutoffs(config: Config, panel: DataFrame, frequency: Frequency) -> Cutoffs:
    """The cutoffs of the backtest and of the production forecast.

    Raises:
        TableContractError: the history is too short for the horizon and the number of cutoffs.
    """
    evaluation = config.evaluation
    final = panel_end(panel)
    backtest = tuple(
        backtest_cutoffs(final, frequency, evaluation.horizon, evaluation.cutoffs, evaluation.step)
    )
    first = panel.where(F.col(s.Y).isNotNull()).agg(F.min(s.DS).alias(s.DS)).first()
    start: date = first[s.DS] if first is not None else final
    needed = frequency.shift(start, evaluation.horizon)
    if backtest[0] < needed:
        known = _steps_between(start, final, frequency)
        raise TableContractError(
            f"evaluation.horizon is {evaluation.horizon} with {evaluation.cutoffs} cutoff(s), but silver.panel has only "
            f"{known} steps ({start} to {final}): the first cutoff {backtest[0]} must leave at least a horizon of "
            f"history; set evaluation.horizon to at most {max(1, known // (1 + evaluation.cutoffs))}"
        )
    return Cutoffs(backtest, final)


def _steps_between(start: date, end: date, frequency: Frequency) -> int:
    if frequency.alias == "MS":
        return (end.year - start.year) * 12 + end.month - start.month + 1
    return (end - start).days // (7 if frequency.alias == "W" else 1) + 1
