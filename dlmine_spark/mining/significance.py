"""Fisher's exact test in plain numpy: how likely chance alone would put two sides together at least as often.

Everything is computed from logarithms, so that a p-value of 1e-300 is as right as one of .01.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

_EXACT = 16
"""Below, the remainder of Stirling's formula comes from a table; from there on, six terms of its series are exact."""
_REMAINDERS = np.array(
    [0.0] + [math.lgamma(n + 1) - n * math.log(n) + n for n in range(1, _EXACT)],
)
_NEGLIGIBLE = 1e-18
"""A term that is less than this share of the sum so far ends the sum (terms fall at least geometrically)."""


def log_fisher(joint: Any, antecedent: Any, consequent: Any, baskets: Any) -> Doubles:
    """Logarithm of the one-sided (greater) p-value of Fisher's exact test; arrays of whole numbers in, one out.

    Of ``baskets``, ``antecedent`` hold the one side and ``consequent`` the other; with these totals given, the number
    that holds both is hypergeometric if the sides are independent (Fisher 1935). The p-value is the probability of
    ``joint`` or more; 1 where no other number is possible.

    The first term is computed by Loader's method (2000, "Fast and accurate computation of binomial probabilities"),
    whose error does not grow with the counts as that of ``lgamma`` does; the others follow by their ratios, from
    ``joint`` away from the mean, so that the sum has as many terms as matter.
    """
    k, a, c, n = (np.atleast_1d(np.asarray(value, np.float64)) for value in (joint, antecedent, consequent, baskets))
    k, a, c, n = np.broadcast_arrays(k, a, c, n)
    result = np.zeros(k.shape)
    possible = k > np.maximum(0.0, a + c - n)
    upper = possible & (k * n > a * c)
    lower = possible & ~upper
    result[upper] = _log_tail(k[upper], a[upper], c[upper], n[upper], rising=True)
    # Up to the mean the other tail is the smaller one; what it leaves is never small.
    other = np.exp(_log_tail(k[lower] - 1, a[lower], c[lower], n[lower], rising=False))
    result[lower] = np.log1p(-np.minimum(other, 1.0))
    return np.minimum(result, 0.0)


def log_same_share(hits: Any, cases: Any, other_hits: Any, other_cases: Any) -> Doubles:
    """Logarithm of the two-sided p-value that two samples have one share of hits (Fisher's exact test).

    Two-sided is twice the smaller tail, at most 1.
    """
    all_hits, all_cases = np.asarray(hits) + other_hits, np.asarray(cases) + other_cases
    more = log_fisher(hits, cases, all_hits, all_cases)
    fewer = log_fisher(other_hits, other_cases, all_hits, all_cases)
    both: Doubles = np.minimum(math.log(2) + np.minimum(more, fewer), 0.0)
    return both


def benjamini_hochberg(p_values: Doubles, hypotheses: int) -> Doubles:
    """Q-values (Benjamini and Hochberg 1995) of p-values, in their order; those that are NaN stay so.

    Args:
        p_values: of some of the hypotheses; all others count as p = 1.
        hypotheses: how many there are in all.
    """
    known = np.flatnonzero(~np.isnan(p_values))
    falling = known[np.argsort(-p_values[known], kind="stable")]
    ranks = np.arange(len(falling), 0, -1)
    q_values = np.full(len(p_values), np.nan)
    q_values[falling] = np.minimum.accumulate(np.minimum(1.0, hypotheses * p_values[falling] / ranks))
    return q_values


def _log_tail(k: Doubles, a: Doubles, c: Doubles, n: Doubles, *, rising: bool) -> Doubles:
    """Logarithm of P(H = k) + P(H = k + 1) + ... (or ``k - 1`` ...)."""
    total = np.ones(k.shape)
    rows: npt.NDArray[np.int64] = np.arange(len(k))
    i, term, a_, c_, rest = k, np.ones(k.shape), a, c, n - a - c
    while len(rows):
        if rising:
            term = term * ((a_ - i) * (c_ - i)) / ((i + 1) * (rest + i + 1))
            i = i + 1
        else:
            term = term * (i * (rest + i)) / ((a_ - i + 1) * (c_ - i + 1))
            i = i - 1
        total[rows] += term
        going = term > _NEGLIGIBLE * total[rows]
        if not going.all():
            rows = rows[going]
            i, term, a_, c_, rest = (value[going] for value in (i, term, a_, c_, rest))
    return _log_hypergeometric(k, a, c, n) + np.log(total)


def _log_hypergeometric(k: Doubles, a: Doubles, c: Doubles, n: Doubles) -> Doubles:
    """Logarithm of P(H = k): three binomial probabilities of the same chance ``a / n``, as Loader and R do it."""
    chance, otherwise = a / n, (n - a) / n
    return (
        _log_binomial(k, c, chance, otherwise)
        + _log_binomial(a - k, n - c, chance, otherwise)
        - _log_binomial(a, n, chance, otherwise)
    )


def _log_binomial(x: Doubles, n: Doubles, chance: Doubles, otherwise: Doubles) -> Doubles:
    return (
        _remainder(n) - _remainder(x) - _remainder(n - x) - _deviance(x, n * chance) - _deviance(n - x, n * otherwise)
    )


def _remainder(n: Doubles) -> Doubles:
    """``log(n!) - (n log n - n)``."""
    large = np.maximum(n, _EXACT)
    square = large * large
    series = 1 / 1260 - (1 / 1680 - (1 / 1188 - 691 / 360360 / square) / square) / square
    series = (1 / 12 - (1 / 360 - series / square) / square) / large
    return np.where(
        n < _EXACT,
        _REMAINDERS[np.minimum(n, _EXACT - 1).astype(np.int64)],
        0.5 * np.log(2 * math.pi * large) + series,
    )


def _deviance(x: Doubles, expected: Doubles) -> Doubles:
    """``x log(x / expected) + expected - x``, without the cancellation of the parts where they are close."""
    beyond = (x - expected) / expected
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = np.where(x > 0, (1 + beyond) * np.log1p(beyond), 0.0)
    return expected * (logarithm - beyond)
