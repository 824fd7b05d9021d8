"""Explain: which inputs the network's forecasts rest on, and when these fail."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dlmine_spark import schemas as s
from dlmine_spark.config import Config
from dlmine_spark.errors import DlmineError
from dlmine_spark.explain.inputs import known_input
from dlmine_spark.explain.permutation import Importance, permutation_importance
from dlmine_spark.lakehouse import Lakehouse
from dlmine_spark.pipelines import surrogate
from dlmine_spark.pipelines.common import calendar_of, covariates
from dlmine_spark.pipelines.failures import write_error_patterns
from dlmine_spark.pipelines.train import panel_source, trained_models
from dlmine_spark.report.text import plural
from dlmine_spark.runs import NotApplicable, StageReport
from dlmine_spark.training.predict import Explanation, cutoff_folder, load_for_explanation
from dlmine_spark.training.windows import Batch, InputGroup, permuted

log = logging.getLogger(__name__)

METHOD = "permutation"
NAMED_INPUTS = 3


@dataclass(frozen=True, kw_only=True)
class ExplainReport(StageReport):
    """What the forecast rests on, the most important input first, and how many patterns its large errors have."""

    inputs: tuple[str, ...]
    held_out: bool
    error_patterns: int


def run(config: Config, lakehouse: Lakehouse) -> ExplainReport | NotApplicable:
    """Measure the importance of every input on windows that the backtested network was not trained on."""
    if not lakehouse.exists(s.TRAINING_PANEL.name):
        return NotApplicable("no training panel: there is no forecast to explain")
    explanation = _explanation(config, lakehouse)
    groups = _inputs_people_know(explanation.groups, covariate_names(config, lakehouse))
    try:
        measured = _importance(config, explanation, groups)
    except ValueError as error:
        return NotApplicable(f"importance cannot be measured: {error}")
    lakehouse.overwrite(s.EXPLANATIONS.name, _rows(lakehouse, measured))
    patterns = write_error_patterns(config, lakehouse)
    if config.explain.surrogate:
        _imitate(config, lakehouse)
    return ExplainReport(
        rows_in=len(explanation.batch),
        rows_out=len(measured),
        inputs=tuple(one.feature for one in measured),
        held_out=explanation.held_out,
        error_patterns=patterns,
        message=f"{_message(measured, explanation)}; {plural(patterns, 'pattern')} of large errors",
    )


def _imitate(config: Config, lakehouse: Lakehouse) -> None:
    try:
        surrogate.run(config, lakehouse)
    except DlmineError as error:
        # Importance has been measured all the same.
        log.warning("%s; %s is not written", error, s.SURROGATES.name)


def _explanation(config: Config, lakehouse: Lakehouse) -> Explanation:
    """The networks of the newest backtest cutoff: the production model has been trained on all there is."""
    cutoffs = sorted(
        row[s.CUTOFF] for row in lakehouse.read(s.TRAINING_PANEL.name).select(s.CUTOFF).distinct().collect()
    )
    cutoff = cutoffs[-2] if len(cutoffs) > 1 else cutoffs[-1]
    return load_for_explanation(
        cutoff_folder(trained_models(lakehouse), cutoff),
        panel_source(config, lakehouse),
        cutoff,
        config.explain.windows,
        config.explain.seed,
    )


def covariate_names(config: Config, lakehouse: Lakehouse) -> list[str]:
    """The covariates and attributes under the names that the user's data has for them."""
    panel = lakehouse.read(s.PANEL.name)
    roles = covariates(config, panel, calendar_of(lakehouse, config))
    statics = lakehouse.read(s.STATICS.name).columns if lakehouse.exists(s.STATICS.name) else []
    return [*roles.known_future, *roles.past_only, *(name for name in statics if name != s.UNIQUE_ID)]


def _inputs_people_know(groups: Sequence[InputGroup], names: Sequence[str]) -> list[InputGroup]:
    """Columns that stand for one input as one group: shuffling one indicator of seven leaves the network well told."""
    together: dict[tuple[str, str], list[InputGroup]] = {}
    for group in groups:
        known = known_input(group.name, names)
        label = (known.name, known.role) if known is not None else (group.name.replace("_", " "), group.role)
        together.setdefault(label, []).append(group)
    return [
        InputGroup(name, role, tuple(part for group in same for part in group.parts))
        for (name, role), same in together.items()
    ]


def _importance(config: Config, explanation: Explanation, groups: Sequence[InputGroup]) -> list[Importance]:
    def exchange(batch: Batch, group: InputGroup, order: npt.NDArray[np.int64]) -> Batch:
        return permuted(batch, group, batch.series.new_tensor(order))

    return permutation_importance(
        explanation.predict,
        exchange,
        explanation.batch,
        groups,
        explanation.target,
        explanation.mask,
        config.explain.repeats,
        config.explain.seed,
    )


def _rows(lakehouse: Lakehouse, measured: Sequence[Importance]) -> DataFrame:
    values = [(one.feature, one.role, one.importance) for one in measured]
    return lakehouse.spark.createDataFrame(values, "feature string, role string, importance double").select(
        F.lit(lakehouse.run_id).alias(s.RUN_ID), F.lit(METHOD).alias("method"), "feature", "role", "importance"
    )


def _message(measured: Sequence[Importance], explanation: Explanation) -> str:
    worth_naming = [one for one in measured[:NAMED_INPUTS] if one.importance >= s.LEAST_IMPORTANCE]
    strongest = ", ".join(f"{one.feature} {100 * one.importance:+.1f} pp" for one in worth_naming) or "no rise by any"
    kind = "held-out" if explanation.held_out else "training"
    return f"WAPE without each of {len(measured)} inputs on {len(explanation.batch)} {kind} windows: {strongest}"
