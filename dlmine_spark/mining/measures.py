"""Measures of a rule from four counts: plain arithmetic that numbers, numpy arrays and Spark columns all know."""

from __future__ import annotations

from typing import Any


def measures(joint: Any, antecedent: Any, consequent: Any, baskets: float, exceptions: Any) -> dict[str, Any]:
    """The measures of rules ``antecedent => consequent``, each from exact counts by one division where that is enough.

    Args:
        joint: baskets with all items of the rule, as floating-point numbers (products exceed 64-bit integers).
        antecedent: baskets with the antecedent.
        consequent: baskets with the consequent.
        baskets: all baskets.
        exceptions: baskets with the antecedent without the consequent, ``antecedent - joint``; null or NaN where there
            is none, since conviction is not defined there (some packages say infinite).

    Returns:
        By name: ``antecedent_support``, ``consequent_support`` and ``support`` (shares of baskets); ``confidence``, the
        share of the antecedent's baskets that hold the consequent; ``lift``, confidence over what chance would give
        (1: independent); ``leverage``, the share of baskets beyond chance (Piatetsky-Shapiro 1991); ``conviction``, how
        many times as many exceptions chance would give (Brin, Motwani, Ullman and Tsur 1997, "Dynamic itemset counting
        and implication rules for market basket data").
    """
    return {
        "antecedent_support": antecedent / baskets,
        "consequent_support": consequent / baskets,
        "support": joint / baskets,
        "confidence": joint / antecedent,
        "lift": joint * baskets / (antecedent * consequent),
        "leverage": (joint * baskets - antecedent * consequent) / (baskets * baskets),
        "conviction": antecedent * (baskets - consequent) / (baskets * exceptions),
    }
