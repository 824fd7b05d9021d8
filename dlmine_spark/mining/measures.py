"""Measures of a rule from four counts: plain arithmetic on numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def measures(joint: Any, antecedent: Any, consequent: Any, baskets: float) -> dict[str, Doubles]:
    """The measures of rules ``antecedent => consequent``, each from exact counts by few roundings.

    Formulas, meaning and sources of all of them are in ``docs/mining.md``; those that mlxtend has too are named and
    defined as there.

    Args:
        joint: baskets with all items of the rule; numbers or arrays of one shape.
        antecedent: baskets with the antecedent.
        consequent: baskets with the consequent.
        baskets: all baskets.

    Returns:
        By name. NaN where a measure is not defined: ``conviction`` of a rule without exceptions (some packages say
        infinite), ``chi_squared`` where a side is in all baskets.
    """
    j, a, c, n = (np.asarray(value, np.float64) for value in (joint, antecedent, consequent, baskets))
    confidence = j / a
    beyond_chance = j * n - a * c
    with np.errstate(divide="ignore", invalid="ignore"):
        zhang = beyond_chance / np.maximum(j * (n - a), a * (c - j))
        certainty = beyond_chance / (a * (n - c))
        conviction = np.where(a > j, a * (n - c) / (n * (a - j)), np.nan)
        chi_squared = beyond_chance / (a * (n - a)) * (beyond_chance / (c * (n - c))) * n
    return {
        "antecedent_support": a / n,
        "consequent_support": c / n,
        "support": j / n,
        "confidence": confidence,
        "lift": j * n / (a * c),
        "leverage": beyond_chance / (n * n),
        "conviction": conviction,
        "zhangs_metric": np.where(np.isnan(zhang), 0.0, zhang),
        "jaccard": j / (a + c - j),
        "certainty": np.where(np.isnan(certainty), 0.0, certainty),
        "kulczynski": (confidence + j / c) / 2,
        "cosine": j / np.sqrt(a * c),
        "imbalance_ratio": np.abs(a - c) / (a + c - j),
        "chi_squared": chi_squared,
    }
