"""Permutation importance: how much worse a forecast gets without what one input tells. Plain numpy.

Breiman, Random Forests (2001), section 10, with whole windows exchanged instead of rows. What it does not tell: inputs
that carry the same information share their importance, and exchanging one of several related inputs makes windows that
could not happen, so that the figure is about this network and not about causes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Inputs = TypeVar("Inputs")


class InputGroup(Protocol):
    """Inputs that are exchanged together, under a name that a person would give them."""

    @property
    def name(self) -> str: ...

    @property
    def role(self) -> str: ...


Group = TypeVar("Group", bound=InputGroup)


@dataclass(frozen=True, slots=True)
class Importance:
    """How much one input matters.

    Attributes:
        feature: the input.
        role: its role in forecasting.
        importance: rise of the WAPE (a share) when the input is exchanged between windows, averaged over the
            permutations; near zero, or below by chance, where the forecast does not use it.
    """

    feature: str
    role: str
    importance: float


def permutation_importance(
    predict: Callable[[Inputs], Floats],
    exchange: Callable[[Inputs, Group, Ints], Inputs],
    inputs: Inputs,
    groups: Sequence[Group],
    actual: Floats,
    weight: Floats,
    repeats: int,
    seed: int,
) -> list[Importance]:
    """Measure every input on the same windows and the same permutations.

    Args:
        predict: from windows to forecasts; windows x horizon.
        exchange: the windows with one group's inputs taken from other windows: window ``i`` gets those of ``order[i]``.
        inputs: the windows.
        groups: inputs to measure.
        actual: what happened; windows x horizon.
        weight: how much each value counts; 0 where it is not known.
        repeats: permutations a group.
        seed: of the permutations.

    Returns:
        One importance per group, the largest first.

    Raises:
        ValueError: fewer than two windows, or no actual value that counts, so that there is no error to rise.
    """
    if len(actual) < 2:
        raise ValueError(f"exchanging inputs needs at least 2 windows, got {len(actual)}")
    baseline = weighted_wape(actual, predict(inputs), weight)
    orders = _derangements(len(actual), repeats, seed)
    measured = []
    for group in groups:
        errors = [weighted_wape(actual, predict(exchange(inputs, group, order)), weight) for order in orders]
        measured.append(Importance(group.name, group.role, float(np.mean(errors)) - baseline))
    return sorted(measured, key=lambda one: (-one.importance, one.feature))


def weighted_wape(actual: Floats, forecast: Floats, weight: Floats) -> float:
    """Sum of weighted absolute errors as a share of the sum of weighted absolute values.

    Raises:
        ValueError: the values that count are all zero, or none counts.
    """
    size = float(np.sum(weight * np.abs(actual), where=weight > 0))
    if size == 0:
        raise ValueError("no actual value counts that is not zero: the WAPE is not defined")
    return float(np.sum(weight * np.abs(actual - forecast), where=weight > 0)) / size


def _derangements(size: int, count: int, seed: int) -> list[Ints]:
    """Random orders in which no window keeps its place: a window that keeps its input would count as unharmed."""
    rng = np.random.default_rng(seed)
    orders = []
    for _ in range(count):
        cycle = rng.permutation(size)
        order = np.empty(size, dtype=np.int64)
        # One cycle through all windows is a random order without a fixed point.
        order[cycle] = np.roll(cycle, 1)
        orders.append(order)
    return orders
