"""Fuse: values, covariates and everything that was mined, as of each cutoff, into ``gold.training_panel``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.frequency import Frequency, Moment, sql_literal
from dlmine_spark.fusion.panel import PanelInputs, training_panel
from dlmine_spark.fusion.signals import add_rule_pull, segment_signals
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.taxonomy import between_items
from dlmine_spark.parallel import in_parallel
from dlmine_spark.pipelines.alignment import read_panel
from dlmine_spark.pipelines.common import (
    Covariates,
    all_cutoffs,
    calendar_of,
    covariates,
    known_future,
    promotion_of,
)
from dlmine_spark.pipelines.mine import mine_rules
from dlmine_spark.pipelines.segment import segment_series
from dlmine_spark.pipelines.steps import panel_frequency
from dlmine_spark.runs import NotApplicable, StageReport

log = logging.getLogger(__name__)

FEATURES_AS_OF = "staging.store_features_as_of"
"""Features of the stores as of a backtest cutoff; one table a cutoff, numbered from 0."""
KNOWN_AS_OF = "staging.known_as_of"
"""What was known in advance, likewise: computed once, read by every aggregation that learns from it."""


@dataclass(frozen=True, kw_only=True)
class FuseReport(StageReport):
    """What went into the training panels: one per cutoff."""

    cutoffs: int
    covariates: int
    signals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PanelMaterial:
    """What every cutoff's training panel is made from."""

    config: Config
    lakehouse: Lakehouse
    panel: DataFrame
    calendar: DataFrame | None
    frequency: Frequency
    roles: Covariates


def run(config: Config, lakehouse: Lakehouse) -> FuseReport | NotApplicable:
    """Write one training panel per cutoff, each from data up to that cutoff only."""
    if not lakehouse.exists(s.PANEL.name):
        return NotApplicable("no panel: there are no series to forecast")
    panel = read_panel(lakehouse)
    calendar = calendar_of(lakehouse, config)
    frequency = panel_frequency(config, panel)
    cutoffs = all_cutoffs(config, panel, frequency)
    given = PanelMaterial(config, lakehouse, panel, calendar, frequency, covariates(config, panel, calendar))

    panels = in_parallel(
        lakehouse.spark,
        {
            str(cutoff): partial(_panel_as_of, given, cutoff, number, is_final=cutoff == cutoffs.final)
            for number, cutoff in enumerate(cutoffs.all)
        },
    )
    lakehouse.overwrite(s.TRAINING_PANEL.name, _stacked(list(panels.values())))

    written = lakehouse.read(s.TRAINING_PANEL.name)
    features = [name for name in written.columns if name.startswith(s.FEATURE_PREFIXES)]
    signals = tuple(
        signal
        for signal, present in (
            ("segments", any("mined_segments" in name for name in features)),
            ("rules", any("mined_rules" in name for name in features)),
            ("arima", lakehouse.exists(s.ARIMA_ORIGINS.name)),
        )
        if present
    )
    rows_out = written.count()
    many = f"{len(cutoffs.all)} cutoff{'' if len(cutoffs.all) == 1 else 's'}"
    return FuseReport(
        rows_in=panel.count(),
        rows_out=rows_out,
        cutoffs=len(cutoffs.all),
        covariates=len(features),
        signals=signals,
        message=(
            f"{rows_out:,} rows for {many}, {len(features)} inputs, mined signals: {', '.join(signals) or 'none'}"
        ),
    )


def _panel_as_of(given: PanelMaterial, cutoff: Moment, number: int, *, is_final: bool) -> DataFrame:
    """The training panel of one cutoff; what the stages mined from all data serves the final cutoff only."""
    lakehouse, roles = given.lakehouse, given.roles
    known = known_future(given.config, given.panel, given.calendar, given.frequency, cutoff)
    rules_and_segments = (
        {"rules": partial(_mined_rules, given), "segments": partial(_mined_segments, given)}
        if is_final
        else {
            "rules": partial(_rules_as_of, given, cutoff),
            "segments": partial(_segments_as_of, given, cutoff, number),
        }
    )
    mined = in_parallel(lakehouse.spark, rules_and_segments)
    rules, promoted = mined["rules"], given.config.mining.promoted_item
    if rules is not None and promoted is not None:
        known = add_rule_pull(known, rules, promoted)
    lakehouse.overwrite(f"{KNOWN_AS_OF}_{number}", known)
    inputs = PanelInputs(
        panel=given.panel,
        known_future=lakehouse.read(f"{KNOWN_AS_OF}_{number}"),
        statics=lakehouse.read(s.STATICS.name) if lakehouse.exists(s.STATICS.name) else None,
        segments=_signals(mined["segments"]),
        arima_origins=lakehouse.read(s.ARIMA_ORIGINS.name) if lakehouse.exists(s.ARIMA_ORIGINS.name) else None,
        known_names=[name for name in roles.known_future if name != promoted or rules is None],
        past_names=roles.past_only,
        promo=promotion_of(given.panel, given.calendar, roles),
    )
    return training_panel(inputs, cutoff, given.frequency)


def _mined_rules(given: PanelMaterial) -> DataFrame | None:
    """The rules of all data; None where no item is promoted, or nothing was mined."""
    if given.config.mining.promoted_item not in given.roles.known_future or not given.lakehouse.exists(s.RULES.name):
        return None
    return between_items(given.lakehouse.read(s.RULES.name), given.config.mining.taxonomy)


def _rules_as_of(given: PanelMaterial, cutoff: Moment) -> DataFrame | None:
    """Rules from baskets up to the cutoff; None where no item is promoted, or there are no dated baskets."""
    if given.config.mining.promoted_item not in given.roles.known_future or not given.lakehouse.exists(s.LINES.name):
        return None
    lines = given.lakehouse.read(s.LINES.name)
    if not given.frequency.has_calendar or lines.where(F.col(s.TS).isNotNull()).isEmpty():
        return None
    moment = F.col(s.TS).cast(given.frequency.sql_type)
    return mine_rules(lines.where(moment <= F.expr(sql_literal(cutoff))), given.config.mining)


def _mined_segments(given: PanelMaterial) -> DataFrame | None:
    """The segments of all data, where there are any."""
    return given.lakehouse.read(s.SEGMENTS.name) if given.lakehouse.exists(s.SEGMENTS.name) else None


def _segments_as_of(given: PanelMaterial, cutoff: Moment, number: int) -> DataFrame | None:
    """Segments of the stores by their values up to the cutoff."""
    staging = f"{FEATURES_AS_OF}_{number}"
    known = given.panel.where(F.col(s.DS) <= F.expr(sql_literal(cutoff)))
    found = segment_series(given.config, given.lakehouse, known, given.calendar, staging)
    return None if found is None else found.assignments


def _signals(assignments: DataFrame | None) -> DataFrame | None:
    """What the segments of the stores say of each series; None where there are none."""
    if assignments is None:
        return None
    stores = assignments.where(F.col("entity") == "store")
    width = stores.agg(F.max(F.size("membership")).alias("width")).collect()[0]["width"]
    return segment_signals(stores, int(width)) if width else None


def _stacked(panels: Sequence[DataFrame]) -> DataFrame:
    """The panels under each other; an indicator that one cutoff did not know yet is 0 there."""
    stacked = reduce(lambda upper, lower: upper.unionByName(lower, allowMissingColumns=True), panels)
    features = [name for name in stacked.columns if name.startswith(s.FEATURE_PREFIXES)]
    return stacked.fillna(0.0, subset=features)
