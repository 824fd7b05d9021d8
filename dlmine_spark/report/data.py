"""What the page is about, as plain values: everything ``page.render`` needs, and nothing that needs Spark.

An empty frame means that its stage did not run or had nothing to do; ``absent`` says why, by section.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd

from dlmine_spark.frequency import Moment

LSTM, ARIMA, SEASONAL_NAIVE, BLEND = "lstm", "arima", "seasonal_naive", "blend"


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much data there is.

    Attributes:
        series: number of series in the panel.
        first: first date of the panel.
        last: last date with a known value.
        step: ``hour``, ``day``, ``week`` and the like.
        steps: steps from ``first`` to ``last``, both counted.
        baskets: number of baskets, None without baskets.
    """

    series: int = 0
    first: Moment | None = None
    last: Moment | None = None
    step: str = "day"
    steps: int = 0
    baskets: int | None = None


@dataclass(frozen=True, kw_only=True)
class ChosenSeries:
    """A series that is drawn or can be, why it was chosen (if it was), and the WAPE (a share) of each model on it."""

    unique_id: str
    why: str
    segment: int | None = None
    wape: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a simulation knows and real data does not.

    Attributes:
        irreducible_wape: the WAPE (a share) of a forecast that knows the noiseless expected sales.
        rules_planted: number of planted rules.
        rules_found: how many of them are among the mined rules.
        sequences_planted: number of planted sequences.
        sequences_found: how many of them are among the mined sequences.
        store_types_ari: adjusted Rand index of the segments against the true store types.
    """

    irreducible_wape: float | None = None
    rules_planted: int | None = None
    rules_found: int | None = None
    sequences_planted: int | None = None
    sequences_found: int | None = None
    store_types_ari: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything on the page.

    Attributes:
        title: heading of the page.
        created: when the page was made.
        extent: how much data there is.
        horizon: steps that are forecast.
        quality_runs: cleaned_at, source, rows_in, accepted, quarantined, duplicates, superseded, repaired (cells); a
            row per run of the stage clean and source, of the last runs.
        sources: source, rows_in, accepted, quarantined, duplicates, superseded (by a newer row of the same key); one
            row per source.
        repairs: source, rule, column, count; one row per combination.
        repair_examples: source, key, column, old_value, new_value, rule.
        rejections: source, rule, column, count, message (an example); one row per reason.
        set_aside: unique_id, rows, start, end, reason; a bounded number of the series that the panel has no place for.
        profiles: entity, segment, size, feature, mean, z, description.
        map_entities: entity, entity_id, segment, x, y, is_outlier; a bounded sample, placed between the centres.
        map_centres: entity, segment, x, y.
        members: entity, entity_id, segment, distance; a bounded number per segment, nearest first.
        rules: antecedent, consequent (lists), support, confidence, lift ...; the best rules, best first.
        rule_cloud: antecedent, consequent, support, confidence, lift; a bounded sample for the scatter.
        rules_total: number of rules in all.
        itemsets: size, count; number of frequent itemsets by size.
        sequences: sequence (a list of lists), support, confidence, lift; the best of two baskets and more, best first.
        mining_note: one line of the mining stage about itself: engine, agreement of the engines.
        chosen: the series that are drawn at once, each with a table of all its numbers.
        listed: the series that can be looked up, the chosen ones first; empty: only the chosen ones.
        history: unique_id, ds, y, y_imputed; the last steps of the chosen and the listed series.
        forecasts: model, unique_id, cutoff, ds, h, y_hat, lo_80, hi_80, lo_95, hi_95 of these series, at the newest
            backtest cutoff and at the final one.
        metrics: model, metric, value; over all series and held-out steps.
        comparisons: model, other, difference, standard_error, p_value, forecasts; a row per pair of models.
        wape_by_step: model, h, value.
        wape_by_segment: model, segment, value.
        wape_by_part: model, segment, steps (a part of the horizon, ``1-7``), value; by segment, then by part.
        coverage: model, segment, steps (a part of the horizon, ``1-7``), coverage_80, coverage_95.
        effects: signal, wape_with, wape_without, difference, lo_95, hi_95, p_value, seeds, origins, forecasts; a row
            per mined signal, in the order they are to be shown.
        trials: number, state, value, epochs, seconds, error, settings (as text); a row per network that was tried,
            number 0 with the configured settings.
        tuned: parameter, default_value, best_value, importance; a row per setting searched, the most important first.
        tuning_effect: wape_default, wape_best, difference, lo_95, hi_95, seeds, origins, forecasts; a row or none.
        importance: method, feature, role, importance.
        error_patterns: conditions (lists), failure, forecasts, share, lift; the most telling first.
        surrogates: conditions (lists), ratio, coverage, held_out_ratio; rules that imitate the network, the one about
            most forecasts first.
        surrogate_scores: value by measure, see ``gold.surrogate_scores``.
        runs: stage, status, seconds, rows_in, rows_out, rows_rejected, message; in running order.
        tables: table, version, stage; the tables that the runs wrote.
        config_yaml: the resolved configuration.
        truth: what a simulation knows.
        absent: why a section is empty, by the section's id.
    """

    title: str
    created: datetime
    extent: Extent = Extent()
    horizon: int = 0
    quality_runs: pd.DataFrame = field(default_factory=pd.DataFrame)
    sources: pd.DataFrame = field(default_factory=pd.DataFrame)
    repairs: pd.DataFrame = field(default_factory=pd.DataFrame)
    repair_examples: pd.DataFrame = field(default_factory=pd.DataFrame)
    rejections: pd.DataFrame = field(default_factory=pd.DataFrame)
    set_aside: pd.DataFrame = field(default_factory=pd.DataFrame)
    profiles: pd.DataFrame = field(default_factory=pd.DataFrame)
    map_entities: pd.DataFrame = field(default_factory=pd.DataFrame)
    map_centres: pd.DataFrame = field(default_factory=pd.DataFrame)
    members: pd.DataFrame = field(default_factory=pd.DataFrame)
    rules: pd.DataFrame = field(default_factory=pd.DataFrame)
    rule_cloud: pd.DataFrame = field(default_factory=pd.DataFrame)
    rules_total: int = 0
    itemsets: pd.DataFrame = field(default_factory=pd.DataFrame)
    sequences: pd.DataFrame = field(default_factory=pd.DataFrame)
    mining_note: str = ""
    chosen: tuple[ChosenSeries, ...] = ()
    listed: tuple[ChosenSeries, ...] = ()
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    forecasts: pd.DataFrame = field(default_factory=pd.DataFrame)
    metrics: pd.DataFrame = field(default_factory=pd.DataFrame)
    comparisons: pd.DataFrame = field(default_factory=pd.DataFrame)
    wape_by_step: pd.DataFrame = field(default_factory=pd.DataFrame)
    wape_by_segment: pd.DataFrame = field(default_factory=pd.DataFrame)
    wape_by_part: pd.DataFrame = field(default_factory=pd.DataFrame)
    coverage: pd.DataFrame = field(default_factory=pd.DataFrame)
    effects: pd.DataFrame = field(default_factory=pd.DataFrame)
    trials: pd.DataFrame = field(default_factory=pd.DataFrame)
    tuned: pd.DataFrame = field(default_factory=pd.DataFrame)
    tuning_effect: pd.DataFrame = field(default_factory=pd.DataFrame)
    importance: pd.DataFrame = field(default_factory=pd.DataFrame)
    error_patterns: pd.DataFrame = field(default_factory=pd.DataFrame)
    surrogates: pd.DataFrame = field(default_factory=pd.DataFrame)
    surrogate_scores: Mapping[str, float] = field(default_factory=dict)
    runs: pd.DataFrame = field(default_factory=pd.DataFrame)
    tables: pd.DataFrame = field(default_factory=pd.DataFrame)
    config_yaml: str = ""
    truth: Truth = Truth()
    absent: Mapping[str, str] = field(default_factory=dict)
