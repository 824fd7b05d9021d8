"""The only place that knows LightGBM: how its trees are fitted, kept as text and asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlmine_spark.config import LightGBMConfig
from dlmine_spark.errors import EnvironmentProblem, TrainingError

Floats = npt.NDArray[np.float32]

PATIENCE = 50
"""Trees without a smaller error on the validation rows, after which no more are added."""


FEWEST_TO_SAMPLE = 10


def require_lightgbm() -> Any:
    """The package.

    Raises:
        EnvironmentProblem: it is not installed, or lacks the system's library of OpenMP.
    """
    try:
        import lightgbm
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            "lightgbm.enabled needs the package lightgbm: pip install 'dlmine-spark[lightgbm]', or set "
            "lightgbm.enabled=false"
        ) from error
    except OSError as error:
        raise EnvironmentProblem(
            f"the package lightgbm cannot be loaded ({error}): install OpenMP's library (libgomp1 of Debian and "
            "Ubuntu, libomp of Homebrew), or set lightgbm.enabled=false"
        ) from error
    return lightgbm


@dataclass(frozen=True, slots=True)
class Examples:
    """What trees learn from.

    Attributes:
        inputs: NaN where unknown; rows x columns.
        target: of each row.
    """

    inputs: Floats
    target: Floats


def fit(
    rows: Examples,
    categorical: Sequence[int],
    quantile: float,
    trees: int,
    config: LightGBMConfig,
    threads: int,
    validation: Examples | None = None,
) -> Any:
    """Trees for a quantile of the target; the same for any number of threads.

    Args:
        rows: to learn from.
        categorical: columns whose values are codes.
        quantile: 0.5 for the median.
        trees: so many, or at most so many with ``validation``.
        config: size of the trees and how fast they learn.
        threads: of this process.
        validation: rows whose error says when to stop; what was best is kept.

    Raises:
        TrainingError: LightGBM cannot learn from these rows.
    """
    lightgbm = require_lightgbm()
    settings = {
        "objective": "quantile",
        "alpha": quantile,
        "metric": "quantile",
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_rows_a_leaf,
        # Of few rows, LightGBM may take none.
        "bagging_fraction": 0.8 if len(rows.target) >= FEWEST_TO_SAMPLE else 1.0,
        "bagging_freq": 1,
        "feature_fraction": 0.8,
        "seed": config.seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }

    def table(part: Examples, reference: Any = None) -> Any:
        return lightgbm.Dataset(
            part.inputs, part.target, categorical_feature=list(categorical), reference=reference, params=settings
        )

    learnt = table(rows)
    stopping = [] if validation is None else [lightgbm.early_stopping(PATIENCE, verbose=False)]
    try:
        return lightgbm.train(
            settings,
            learnt,
            num_boost_round=trees,
            valid_sets=[] if validation is None else [table(validation, learnt)],
            callbacks=stopping,
        )
    except lightgbm.basic.LightGBMError as error:
        raise TrainingError(f"LightGBM cannot learn from {len(rows.target):,} rows: {error}") from error


def count(booster: Any) -> int:
    """How many trees were best."""
    return int(booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration())


def to_text(booster: Any) -> str:
    """The trees as text, which says nothing but numbers: no code comes back with it."""
    return str(booster.model_to_string(num_iteration=count(booster)))


def from_text(text: str) -> Any:
    """The trees that ``to_text`` wrote.

    Raises:
        TrainingError: the text is damaged.
    """
    lightgbm = require_lightgbm()
    try:
        return lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise TrainingError(f"trees of LightGBM cannot be read: {error}") from error


def predict(booster: Any, inputs: Floats, threads: int) -> npt.NDArray[np.float64]:
    """The quantile of each row."""
    return np.asarray(booster.predict(inputs, num_threads=threads), dtype=np.float64)
