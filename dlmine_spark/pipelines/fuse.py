"""Fuse: values, covariates and everything that was mined, as of each cutoff, into ``gold.training_panel``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Generic, TypeVar

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.frequency import Frequency, Moment, sql_literal
from dlmine_spark.fusion.panel import PanelInputs, training_panel
from dlmine_spark.fusion.signals import (
    ACTIVATIONS,
    MEMBERSHIP_PREFIX,
    RULE_PULL,
    SEGMENT_CODE,
    SEQUENCE_PULL,
    SEQUENCES_DUE,
    add_rule_pull,
    add_sequence_pull,
    delayed_pull,
    pull_of_items,
    segment_signals,
)
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.mining.taxonomy import between_items
from dlmine_spark.parallel import in_parallel
from dlmine_spark.pipelines.activations import Activations, activations_of
from dlmine_spark.pipelines.activations import told as told_activations
from dlmine_spark.pipelines.alignment import read_panel
from dlmine_spark.pipelines.common import (
    Covariates,
    all_cutoffs,
    calendar_of,
    covariates,
    known_future,
    promotion_of,
)
from dlmine_spark.pipelines.follow_ups import SequenceSignals, signals_of, told
from dlmine_spark.pipelines.mine import mine_rules
from dlmine_spark.pipelines.segment import segment_series
from dlmine_spark.pipelines.steps import panel_frequency
from dlmine_spark.runs import NotApplicable, StageReport

log = logging.getLogger(__name__)

FEATURES_AS_OF = "staging.store_features_as_of"
"""Features of the stores as of a backtest cutoff; one table a cutoff, their names end with numbers from 0."""
KNOWN_AS_OF = "staging.known_as_of"
"""What was known in advance, likewise: computed once, read by every aggregation that learns from it."""
MINED_PAST = f"{s.PAST_ONLY_PREFIX}{s.MINED}"
"""How columns of mined signals begin that are known afterwards only."""


@dataclass(frozen=True, kw_only=True)
class FuseReport(StageReport):
    """What went into the training panels: one per cutoff."""

    cutoffs: int
    covariates: int
    signals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """What some columns of a training panel were made from.

    Attributes:
        column: their name; with ``*``, how their names begin.
        table: that was read.
        newest: moment of what was used of it; None where nothing was.
    """

    column: str
    table: str
    newest: Moment | None


@dataclass(frozen=True, slots=True)
class PanelAsOf:
    """The training panel of a cutoff, and what was mined for it from what."""

    rows: DataFrame
    mined_from: tuple[Source, ...]


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mined(Generic[T]):
    """What was mined as of a cutoff, with the newest moment that it was mined from."""

    found: T
    newest: Moment | None


def _as_it_is(known: DataFrame) -> DataFrame:
    return known


@dataclass(frozen=True, slots=True)
class PanelMaterial:
    """What every cutoff's training panel is made from."""

    config: Config
    lakehouse: Lakehouse
    panel: DataFrame
    calendar: DataFrame | None
    frequency: Frequency
    roles: Covariates
    arima_origins: DataFrame | None
    planned: Callable[[DataFrame], DataFrame] = _as_it_is
    """What becomes of the rows that were known in advance: nothing, but in a scenario."""


def run(config: Config, lakehouse: Lakehouse) -> FuseReport | NotApplicable:
    """Write one training panel per cutoff, each from data up to that cutoff only."""
    if not lakehouse.exists(s.PANEL.name):
        return NotApplicable("no panel: there are no series to forecast")
    given = panel_material(config, lakehouse)
    cutoffs = all_cutoffs(config, given.panel, given.frequency)

    panels = in_parallel(
        lakehouse.spark,
        {
            str(cutoff): partial(panel_as_of, given, cutoff, str(number), is_final=cutoff == cutoffs.final)
            for number, cutoff in enumerate(cutoffs.all)
        },
    )
    rows = _stacked([one.rows for one in panels.values()])
    # Every shard in one task, and so in one file, instead of a little of it from each.
    lakehouse.overwrite(s.TRAINING_PANEL.name, rows.repartition(s.CUTOFF, s.SHARD))

    written = lakehouse.read(s.TRAINING_PANEL.name)
    mined_from = {cutoff: one.mined_from for cutoff, one in zip(cutoffs.all, panels.values(), strict=True)}
    lakehouse.overwrite(s.LINEAGE.name, _lineage(given, written, mined_from))
    features = [name for name in written.columns if name.startswith(s.FEATURE_PREFIXES)]
    signals = tuple(
        signal
        for signal, present in (
            ("segments", any("mined_segments" in name for name in features)),
            ("rules", any("mined_rules" in name for name in features)),
            ("arima", lakehouse.exists(s.ARIMA_ORIGINS.name)),
            ("sequences", any("mined_sequences" in name for name in features)),
            ("activations", any("mined_activations" in name for name in features)),
        )
        if present
    )
    rows_out = written.count()
    many = f"{len(cutoffs.all)} cutoff{'' if len(cutoffs.all) == 1 else 's'}"
    return FuseReport(
        rows_in=given.panel.count(),
        rows_out=rows_out,
        cutoffs=len(cutoffs.all),
        covariates=len(features),
        signals=signals,
        message=(
            f"{rows_out:,} rows for {many}, {len(features)} inputs, mined signals: {', '.join(signals) or 'none'}"
        ),
    )


def panel_material(config: Config, lakehouse: Lakehouse) -> PanelMaterial:
    """What there is to make training panels from."""
    panel, calendar = read_panel(lakehouse), calendar_of(lakehouse, config)
    roles = covariates(config, panel, calendar)
    origins = lakehouse.read(s.ARIMA_ORIGINS.name) if lakehouse.exists(s.ARIMA_ORIGINS.name) else None
    return PanelMaterial(config, lakehouse, panel, calendar, panel_frequency(config, panel), roles, origins)


def panel_as_of(given: PanelMaterial, cutoff: Moment, place: str, *, is_final: bool) -> PanelAsOf:
    """The training panel of one cutoff; what the stages mined from all data serves the final cutoff only.

    Args:
        given: what it is made from.
        cutoff: the last moment that is known.
        place: ending of the names of its staging tables.
        is_final: whether it is the end of the data.
    """
    lakehouse, roles = given.lakehouse, given.roles
    known = given.planned(known_future(given.config, given.panel, given.calendar, given.frequency, cutoff))
    rules_and_segments = (
        {"rules": partial(_mined_rules, given, cutoff), "segments": partial(_mined_segments, given)}
        if is_final
        else {
            "rules": partial(_rules_as_of, given, cutoff),
            "segments": partial(_segments_as_of, given, cutoff, place),
        }
    )
    mined = in_parallel(lakehouse.spark, rules_and_segments)
    rules, segments, promoted = mined["rules"], mined["segments"], given.config.mining.promoted_item
    asked = given.config.training.mined
    sequences = _sequences_as_of(given, cutoff, place) if "sequences" in asked else None
    active = _activations_as_of(given, cutoff, rules, place) if "activations" in asked else None
    pulling = _pulling(given, cutoff, rules)
    if pulling is not None and promoted is not None:
        known = add_rule_pull(known, pulling.found, promoted)
    later = _delayed_pull(sequences, known, given) if sequences is not None else {}
    if later and promoted is not None:
        known = add_sequence_pull(known, later, promoted)
    lakehouse.overwrite(f"{KNOWN_AS_OF}_{place}", known)
    due = sequences.found.due if sequences is not None else None
    of_the_past = [rows for rows in (due, active.found.rows if active is not None else None) if rows is not None]
    inputs = PanelInputs(
        panel=reduce(
            lambda panel, rows: panel.join(rows, on=[s.UNIQUE_ID, s.DS], how="left"), of_the_past, given.panel
        ),
        known_future=lakehouse.read(f"{KNOWN_AS_OF}_{place}"),
        statics=lakehouse.read(s.STATICS.name) if lakehouse.exists(s.STATICS.name) else None,
        segments=_signals(segments.found) if segments is not None else None,
        arima_origins=given.arima_origins,
        known_names=[name for name in roles.known_future if name != promoted or pulling is None],
        past_names=(
            *roles.past_only,
            *(name for rows in of_the_past for name in rows.columns if name not in (s.UNIQUE_ID, s.DS)),
        ),
        promo=promotion_of(given.panel, given.calendar, roles),
    )
    sources = [Source(RULE_PULL, s.LINES.name, pulling.newest)] if pulling is not None else []
    if segments is not None:
        names = (SEGMENT_CODE, f"{MEMBERSHIP_PREFIX}*")
        sources += [Source(name, s.PANEL.name, segments.newest) for name in names]
    if sequences is not None:
        there = {SEQUENCE_PULL: bool(later), f"{s.PAST_ONLY_PREFIX}{SEQUENCES_DUE}": due is not None}
        sources += [Source(name, s.LINES.name, sequences.newest) for name, is_there in there.items() if is_there]
    if active is not None:
        sources.append(Source(f"{s.PAST_ONLY_PREFIX}{ACTIVATIONS}*", s.LINES.name, active.newest))
    return PanelAsOf(training_panel(inputs, cutoff, given.frequency), tuple(sources))


def _needs_rules(given: PanelMaterial) -> bool:
    """Whether anything is made of rules: the pull of a promoted item, or activations, which are asked for."""
    return given.config.mining.promoted_item in given.roles.known_future or "activations" in given.config.training.mined


def _pulling(given: PanelMaterial, cutoff: Moment, rules: Mined[DataFrame] | None) -> Mined[DataFrame] | None:
    """Rules whose pull stands for the name of the promoted item; None where nothing pulls, and the name stays."""
    if rules is None or given.config.mining.promoted_item not in given.roles.known_future:
        return None
    if pull_of_items(rules.found).isEmpty():
        log.info("cutoff %s: no rule pulls anything, so the promoted item's name is an input", cutoff)
        return None
    return rules


def _mined_rules(given: PanelMaterial, cutoff: Moment) -> Mined[DataFrame] | None:
    """The rules of all data; None where nothing is made of them, or nothing was mined.

    Where the stage mined other baskets than dated lines as well, or instead, rules are mined of these alone, as they
    are for the backtest's cutoffs: what is judged there has to be what the last network is given.
    """
    if not _needs_rules(given) or not given.lakehouse.exists(s.RULES.name):
        return None
    has_others = given.config.mining.attributes is not None or given.config.source_of_kind("baskets") is not None
    if has_others and (rules_of_lines := _rules_as_of(given, cutoff)) is not None:
        return rules_of_lines
    rules = between_items(given.lakehouse.read(s.RULES.name), given.config.mining.taxonomy)
    # Baskets of one a line have no time.
    lines = given.lakehouse.read(s.LINES.name) if given.lakehouse.exists(s.LINES.name) else None
    is_dated = lines is not None and given.frequency.has_calendar
    return Mined(rules, _newest(lines, _moment(given)) if lines is not None and is_dated else None)


def _rules_as_of(given: PanelMaterial, cutoff: Moment) -> Mined[DataFrame] | None:
    """Rules from baskets up to the cutoff; None where nothing is made of them, or there are no dated baskets."""
    if not _needs_rules(given):
        return None
    known = _lines_as_of(given, cutoff)
    return None if known is None else Mined(mine_rules(known, given.config.mining), _newest(known, _moment(given)))


def _lines_as_of(given: PanelMaterial, cutoff: Moment) -> DataFrame | None:
    """Basket lines up to the cutoff; None where there are none with a time."""
    if not given.lakehouse.exists(s.LINES.name):
        return None
    lines = given.lakehouse.read(s.LINES.name)
    if not given.frequency.has_calendar or lines.where(F.col(s.TS).isNotNull()).isEmpty():
        return None
    return lines.where(_moment(given) <= F.expr(sql_literal(cutoff)))


def _sequences_as_of(given: PanelMaterial, cutoff: Moment, place: str) -> Mined[SequenceSignals] | None:
    """What sequences say by the baskets up to the cutoff; None where there are none that say anything."""
    known = _lines_as_of(given, cutoff)
    if known is None:
        log.warning("the forecast is told nothing of sequences: no basket has a time that the panel's steps go by")
        return None
    moments = given.panel.where(F.col(s.DS) <= F.expr(sql_literal(cutoff))).select(s.UNIQUE_ID, s.DS)
    signals = signals_of(given.config, given.lakehouse, known, moments, given.frequency, place)
    if signals is None:
        return None
    log.info(told(cutoff, signals.found))
    return Mined(signals, _newest(known, _moment(given)))


def _activations_as_of(
    given: PanelMaterial, cutoff: Moment, rules: Mined[DataFrame] | None, place: str
) -> Mined[Activations] | None:
    """What rules say of the last baskets up to the cutoff; None where there are none that say anything."""
    known = _lines_as_of(given, cutoff)
    if known is None or rules is None:
        lacking = "no basket has a time that the panel's steps go by" if known is None else "no rules were mined"
        log.warning("the forecast is told nothing of activations: %s", lacking)
        return None
    moments = given.panel.where(F.col(s.DS) <= F.expr(sql_literal(cutoff))).select(s.UNIQUE_ID, s.DS)
    signals = activations_of(
        given.config,
        given.lakehouse,
        lines=known,
        rules=rules.found,
        moments=moments,
        frequency=given.frequency,
        place=place,
    )
    if signals is None:
        return None
    log.info(told_activations(cutoff, signals.antecedents))
    # Rules are of the same lines.
    return Mined(signals, rules.newest)


def _delayed_pull(
    sequences: Mined[SequenceSignals], known: DataFrame, given: PanelMaterial
) -> dict[int, dict[str, float]]:
    """What promotions bring later, of the items that are promoted some time; nothing where none is."""
    promoted = given.config.mining.promoted_item
    if promoted not in given.roles.known_future:
        return {}
    found = sequences.found.found
    item = F.col(f"`{promoted}`")
    of_found = known.where(item.isin([one.first for one in found])).select(item).distinct()
    items = {row[0] for row in of_found.collect()}
    return delayed_pull([(one.first, one.gap, one.pull) for one in found if one.first in items], given.frequency)


def _moment(given: PanelMaterial) -> Column:
    """When a basket line was sold, as the panel tells time."""
    return F.col(s.TS).cast(given.frequency.sql_type)


def _newest(rows: DataFrame, moment: Column) -> Moment | None:
    newest: Moment | None = rows.agg(F.max(moment)).collect()[0][0]
    return newest


def _mined_segments(given: PanelMaterial) -> Mined[DataFrame] | None:
    """The segments of all data, where there are any."""
    if not given.lakehouse.exists(s.SEGMENTS.name):
        return None
    return Mined(given.lakehouse.read(s.SEGMENTS.name), _newest(_with_values(given.panel), F.col(s.DS)))


def _segments_as_of(given: PanelMaterial, cutoff: Moment, place: str) -> Mined[DataFrame] | None:
    """Segments of the stores by their values up to the cutoff."""
    staging = f"{FEATURES_AS_OF}_{place}"
    known = given.panel.where(F.col(s.DS) <= F.expr(sql_literal(cutoff)))
    found = segment_series(given.config, given.lakehouse, known, given.calendar, staging)
    return None if found is None else Mined(found.assignments, _newest(_with_values(known), F.col(s.DS)))


def _with_values(panel: DataFrame) -> DataFrame:
    return panel.where(F.col(s.Y).isNotNull())


def _lineage(given: PanelMaterial, written: DataFrame, mined_from: Mapping[Moment, Sequence[Source]]) -> DataFrame:
    """``ops.lineage`` of the panels that were written: what was mined, and what the rows themselves tell (one
    aggregation).
    """
    past = [name for name in written.columns if name.startswith(s.PAST_ONLY_PREFIX) and not name.startswith(MINED_PAST)]
    used = {
        s.Y: (s.PANEL.name, F.col(s.Y).isNotNull()),
        "arima_path": (s.ARIMA_ORIGINS.name, F.col("arima_path").isNotNull()),
        **{name: (s.PANEL.name, F.col(f"`{name}`") != 0) for name in past},
    }
    newest = written.groupBy(s.CUTOFF).agg(
        *(F.max(F.when(is_used, F.col(s.DS))).alias(name) for name, (_, is_used) in used.items())
    )
    rows = []
    for row in newest.collect():
        seen = [Source(name, table, row[name]) for name, (table, _) in used.items()]
        rows += [
            (
                given.lakehouse.run_id,
                row[s.CUTOFF],
                one.column,
                one.table,
                _version(given.lakehouse, one.table),
                one.newest,
            )
            for one in (*seen, *mined_from[row[s.CUTOFF]])
            if one.newest is not None
        ]
    types = s.LINEAGE.typed(given.frequency.sql_type)
    return given.lakehouse.spark.createDataFrame(rows, ", ".join(f"`{name}` {type_}" for name, type_ in types.items()))


def _version(lakehouse: Lakehouse, table: str) -> int | None:
    return lakehouse.pinned_version(table) if lakehouse.exists(table) else None


def _signals(assignments: DataFrame) -> DataFrame | None:
    """What the segments of the stores say of each series; None where there are none."""
    stores = assignments.where(F.col("entity") == "store")
    width = stores.agg(F.max(F.size("membership")).alias("width")).collect()[0]["width"]
    return segment_signals(stores, int(width)) if width else None


def _stacked(panels: Sequence[DataFrame]) -> DataFrame:
    """The panels under each other; an indicator that one cutoff did not know yet is 0 there."""
    stacked = reduce(lambda upper, lower: upper.unionByName(lower, allowMissingColumns=True), panels)
    features = [name for name in stacked.columns if name.startswith(s.FEATURE_PREFIXES)]
    return stacked.fillna(0.0, subset=features)
