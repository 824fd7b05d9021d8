"""Audit: whether anything that a backtest's forecasts rest on comes from after their cutoff.

What was recorded is checked: the newest moments that signals were made from (``ops.lineage``) and the fit cutoffs of
ARIMA's paths. And it is tried: with noise after the cutoff, each training panel is made once more and has to come out
the same. Records can be wrong, and trying finds what nobody thought of recording.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import TableContractError
from dlmine_spark.evaluation.leakage import (
    Leak,
    changed_columns,
    fitted_after_origin,
    newer_than_cutoff,
    with_noise,
)
from dlmine_spark.frequency import Moment, sql_literal
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.alignment import read_panel, to_own_clocks
from dlmine_spark.pipelines.common import all_cutoffs, calendar_of, covariates
from dlmine_spark.pipelines.fuse import panel_as_of, panel_material
from dlmine_spark.pipelines.scratch import scratch_lakehouse
from dlmine_spark.pipelines.steps import panel_frequency
from dlmine_spark.report.text import plural

log = logging.getLogger(__name__)

NAMED_LEAKS = 5
_KEPT = (s.CALENDAR, s.STATICS, s.ARIMA_ORIGINS)
"""What was planned or never changes; and ARIMA's paths, which have records of their own."""
_OF_LINES = (s.ITEM, s.QUANTITY, s.PRICE, s.CUSTOMER_ID)


def run(config: Config, lakehouse: Lakehouse) -> str:
    """Look for leaks at every backtest cutoff; one line about what was looked at.

    Args:
        config: the whole configuration.
        lakehouse: the tables as the backtest saw them.

    Raises:
        ConfigError: the tables lie where no scratch folder can be made.
        TableContractError: something comes from after its cutoff; each with table, column and cutoff.
    """
    training_panel = lakehouse.read(s.TRAINING_PANEL.name)
    panel = read_panel(lakehouse)
    cutoffs = all_cutoffs(config, panel, panel_frequency(config, panel)).backtest
    leaks = newer_than_cutoff(lakehouse.read(s.LINEAGE.name), cutoffs)
    if lakehouse.exists(s.ARIMA_ORIGINS.name):
        leaks += fitted_after_origin(training_panel, lakehouse.read(s.ARIMA_ORIGINS.name), cutoffs)
    leaks += _changes_with_the_future(config, lakehouse, cutoffs)
    if leaks:
        shown = "; ".join(str(leak) for leak in leaks[:NAMED_LEAKS])
        more = f"; and {len(leaks) - NAMED_LEAKS} more" if len(leaks) > NAMED_LEAKS else ""
        raise TableContractError(f"{plural(len(leaks), 'leak')} from after the cutoff: {shown}{more}")
    columns = len([name for name in training_panel.columns if name.startswith(s.FEATURE_PREFIXES)])
    return (
        f"{columns} inputs at {plural(len(cutoffs), 'cutoff')}: none was made from what came "
        "later, and none changes with it"
    )


def _changes_with_the_future(config: Config, lakehouse: Lakehouse, cutoffs: Sequence[Moment]) -> list[Leak]:
    leaks = []
    stored = lakehouse.read(s.TRAINING_PANEL.name)
    with scratch_lakehouse(lakehouse.spark, lakehouse.config, "audit") as trial:
        for number, cutoff in enumerate(cutoffs):
            write_with_noise(config, lakehouse, trial, cutoff)
            anew = panel_as_of(panel_material(config, trial), cutoff, str(number), is_final=False).rows
            of_cutoff = stored.where(F.col(s.CUTOFF) == F.expr(sql_literal(cutoff)))
            changed = changed_columns(of_cutoff, anew)
            leaks += [Leak(s.TRAINING_PANEL.name, name, cutoff, "it changes with what comes later") for name in changed]
            log.info("cutoff %s: made once more, %d columns change with what comes later", cutoff, len(changed))
    return leaks


def write_with_noise(config: Config, lakehouse: Lakehouse, trial: Lakehouse, cutoff: Moment) -> None:
    """Write the tables that training panels are made from into another lakehouse, with noise after the cutoff.

    Values, covariates that are not known in advance and baskets become noise; closures, too, where they are only seen
    afterwards. What was planned stays.
    """
    panel = read_panel(lakehouse)
    roles = covariates(config, panel, calendar_of(lakehouse, config))
    names = [s.Y, *roles.past_only, *([] if roles.open_is_known else [s.OPEN])]
    later = with_noise(panel, names, F.col(s.DS) > F.expr(sql_literal(cutoff)), (s.UNIQUE_ID, s.DS))
    if not roles.open_is_known:
        later = later.withColumn(s.OPEN, F.pmod(s.OPEN, F.lit(2)))
    trial.overwrite(s.PANEL.name, to_own_clocks(lakehouse, later))
    frequency = panel_frequency(config, panel)
    if lakehouse.exists(s.LINES.name):
        lines = lakehouse.read(s.LINES.name)
        if frequency.has_calendar:
            is_later = F.col(s.TS).cast(frequency.sql_type) > F.expr(sql_literal(cutoff))
            lines = with_noise(lines, _OF_LINES, is_later, (s.BASKET_ID, s.ITEM))
        trial.overwrite(s.LINES.name, lines)
    for table in _KEPT:
        if lakehouse.exists(table.name):
            trial.overwrite(table.name, lakehouse.read(table.name))
