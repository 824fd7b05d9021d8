"""Ablation: the network trained again without each mined signal, and how much worse (or better) it forecasts then."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.caching import kept
from dlmine_spark.config import Config, Signal
from dlmine_spark.errors import TableContractError
from dlmine_spark.evaluation.ablation import ALL, FULL, SEED, Effect, measure_effects
from dlmine_spark.evaluation.compare import scored_actuals
from dlmine_spark.frequency import Moment
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines.alignment import to_own_clocks
from dlmine_spark.pipelines.train import forecasts_in, launch_request
from dlmine_spark.runs import NotApplicable, StageReport
from dlmine_spark.training.job import RESULT_FILE, LaunchRequest
from dlmine_spark.training.launch.spread import launch_each
from dlmine_spark.training.predict import cutoff_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AblationReport(StageReport):
    """What each signal is worth; ``rows_in`` counts networks, ``rows_out`` signals."""

    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """Networks of one seed that have the same signals: one for each backtest cutoff.

    Attributes:
        name: the signal that they lack, ``all`` or ``full``.
        seed: of their training.
        folder: where they are kept.
        networks: what is asked of the one process that trains each.
    """

    name: str
    seed: int
    folder: Path
    networks: tuple[LaunchRequest, ...]


def run(config: Config, lakehouse: Lakehouse) -> AblationReport | NotApplicable:
    """Train the network with all signals and without each, with several seeds, and compare held-out errors.

    All variants have the same budget, cutoffs and seeds. What a killed run has trained is not trained again.

    Raises:
        TableContractError: a signal that ``ablation.signals`` names is not in ``gold.training_panel``.
        TrainingError: a network cannot be trained.
    """
    if not lakehouse.exists(s.TRAINING_PANEL.name):
        return NotApplicable("no training panel: there is no network to take a signal from")
    training_panel = lakehouse.read(s.TRAINING_PANEL.name)
    signals = signals_to_remove(config, training_panel)
    if not signals:
        return NotApplicable("the training panel has no mined signal that could be removed")
    request = launch_request(config, lakehouse, training_panel)
    variants = plan_variants(config, request, signals)
    networks = [one for variant in variants for one in variant.networks]
    _tell_plan(networks)
    launch_each(networks, lakehouse.spark)

    actuals = scored_actuals(lakehouse.read(s.PANEL.name))
    with kept(
        read_variants(lakehouse, variants, request.backtest).join(actuals, on=[s.UNIQUE_ID, s.DS], how="inner")
    ) as forecasts:
        effects = measure_effects(forecasts, [*signals, *([ALL] if len(signals) > 1 else [])])
    rows = [(lakehouse.run_id, *astuple(one)) for one in effects]
    lakehouse.overwrite(s.ABLATION.name, lakehouse.spark.createDataFrame(rows, s.ABLATION.ddl))
    return AblationReport(
        rows_in=len(networks), rows_out=len(effects), effects=tuple(effects), message=_message(effects, len(networks))
    )


def signals_to_remove(config: Config, training_panel: DataFrame) -> tuple[Signal, ...]:
    """The signals asked for, by default those of ``training.mined`` that the panel has (one aggregation).

    Raises:
        TableContractError: one that is asked for by name is not there.
    """
    asked = config.ablation.signals or config.training.mined
    there = [signal for signal in asked if _is_there(signal, training_panel)]
    missing = [signal for signal in config.ablation.signals if signal not in there]
    if missing:
        raise TableContractError(
            f"gold.training_panel: there is no column of the signal {missing[0]} that ablation.signals names: "
            f"{_WHERE_FROM[missing[0]]}"
        )
    return tuple(there)


_WHERE_FROM: dict[Signal, str] = {
    "segments": "gold.segments has no segments of the series; see 'dlmine segment'",
    "rules": "gold.rules needs dated baskets, and mining.promoted_item a known-future covariate; see 'dlmine mine'",
    "arima": "gold.arima_origins has no forecasts; see 'dlmine arima' and arima.feature_origins",
    "sequences": "the stage fuse found none that say more than chance, or no baskets with customers; see its warnings",
    "activations": "the stage fuse found no rules beyond chance, or no dated baskets of the series; see its warnings",
}


def _is_there(signal: Signal, training_panel: DataFrame) -> bool:
    if signal == "arima":
        return not training_panel.where(F.col("arima_path").isNotNull()).isEmpty()
    marks = tuple(f"{prefix}{s.MINED}{signal}" for prefix in s.FEATURE_PREFIXES)
    return any(name.startswith(marks) for name in training_panel.columns)


def plan_variants(config: Config, request: LaunchRequest, signals: Sequence[Signal]) -> list[Variant]:
    """Every variant and seed: with all signals, without each, and (of several) without any."""
    removed: dict[str, Sequence[Signal]] = {FULL: (), **{signal: (signal,) for signal in signals}}
    if len(signals) > 1:
        removed[ALL] = signals
    seeds = range(config.training.seed, config.training.seed + config.ablation.seeds)
    return [_variant(request, name, lacking, seed) for name, lacking in removed.items() for seed in seeds]


def _variant(request: LaunchRequest, name: str, lacking: Sequence[Signal], seed: int) -> Variant:
    """A network of its own for every backtest cutoff: as a launch's only one, it is trained from scratch.

    Single ones, not ``training.members``: the seeds are what is averaged here.
    """
    mined = tuple(signal for signal in request.training.mined if signal not in lacking)
    training = request.training.model_copy(update={"mined": mined, "seed": seed, "members": 1})
    folder = request.folder / name / f"seed-{seed}"
    networks = [
        replace(request, backtest=(), final=cutoff, training=training, folder=folder) for cutoff in request.backtest
    ]
    return Variant(name, seed, folder, tuple(networks))


def _tell_plan(networks: Sequence[LaunchRequest]) -> None:
    done = sum((cutoff_folder(one.folder, one.final) / RESULT_FILE).exists() for one in networks)
    log.info("%d networks to train%s", len(networks), f", {done} of them are there already" if done else "")


def read_variants(lakehouse: Lakehouse, variants: Sequence[Variant], cutoffs: Sequence[Moment]) -> DataFrame:
    """Forecasts of all variants: ``model`` (the variant), ``seed``, ``unique_id``, ``cutoff``, ``ds``, ``y_hat``."""
    of_variants = [
        forecasts_in(lakehouse, variant.folder, cutoffs).select(
            F.lit(variant.name).alias(s.MODEL),
            F.lit(variant.seed).alias(SEED),
            s.UNIQUE_ID,
            s.CUTOFF,
            s.DS,
            s.Y_HAT,
        )
        for variant in variants
    ]
    return to_own_clocks(lakehouse, reduce(lambda upper, lower: upper.unionByName(lower), of_variants))


def _message(effects: Sequence[Effect], networks: int) -> str:
    parts = [
        f"{one.signal} {100 * one.difference:+.2f} pp"
        + (
            f" ({100 * one.lo_95:+.2f} to {100 * one.hi_95:+.2f})"
            if one.lo_95 is not None and one.hi_95 is not None
            else ""
        )
        for one in effects
    ]
    return f"WAPE without each signal, by {networks} networks: {', '.join(parts)}"
