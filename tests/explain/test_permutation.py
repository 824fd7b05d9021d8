from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from dlmine_spark.explain.permutation import _derangements, permutation_importance, weighted_wape

Windows = dict[str, np.ndarray]


@dataclass(frozen=True)
class Group:
    name: str
    role: str
    arrays: tuple[str, ...]


def exchange(windows: Windows, group: Group, order: np.ndarray) -> Windows:
    return {name: values[order] if name in group.arrays else values for name, values in windows.items()}


def world(windows: int = 300, horizon: int = 4) -> tuple[Windows, np.ndarray]:
    """Sales that follow the level strongly, the promotion a little and the weather not at all."""
    rng = np.random.default_rng(3)
    inputs = {name: rng.uniform(0, 1, (windows, horizon)) for name in ("level", "promo", "weather")}
    return inputs, 10 * inputs["level"] + 2 * inputs["promo"] + 1


def predict(windows: Windows) -> np.ndarray:
    return 10 * windows["level"] + 2 * windows["promo"] + 1


GROUPS = [
    Group("weather", "past_only", ("weather",)),
    Group("promo", "known_future", ("promo",)),
    Group("level", "target", ("level",)),
]


def test_inputs_are_ranked_by_what_the_forecast_loses_without_them() -> None:
    inputs, actual = world()
    found = permutation_importance(predict, exchange, inputs, GROUPS, actual, np.ones_like(actual), repeats=3, seed=1)
    assert [(one.feature, one.role) for one in found] == [
        ("level", "target"),
        ("promo", "known_future"),
        ("weather", "past_only"),
    ]
    # The mean distance of two independent uniform values is a third.
    assert found[0].importance == pytest.approx(10 / 3 / actual.mean(), rel=0.1)
    assert found[1].importance == pytest.approx(2 / 3 / actual.mean(), rel=0.1)
    assert found[2].importance == 0


def test_inputs_that_stand_for_the_same_are_exchanged_together() -> None:
    inputs, actual = world()
    inputs["twin"] = inputs["level"].copy()

    def of_both(windows: Windows) -> np.ndarray:
        return 5 * windows["level"] + 5 * windows["twin"] + 2 * windows["promo"] + 1

    alone = Group("level", "target", ("level",))
    both = Group("both", "target", ("level", "twin"))
    found = permutation_importance(of_both, exchange, inputs, [alone, both], actual, np.ones_like(actual), 3, seed=1)
    assert found[0].feature == "both"
    assert found[0].importance == pytest.approx(2 * found[1].importance, rel=1e-9)


def test_values_without_weight_do_not_count() -> None:
    inputs, actual = world()
    weight = np.ones_like(actual)
    weight[:, 2:] = 0
    broken = actual.copy()
    broken[:, 2:] = np.nan
    with_broken = permutation_importance(predict, exchange, inputs, GROUPS, broken, weight, 2, seed=1)
    assert with_broken == permutation_importance(predict, exchange, inputs, GROUPS, actual, weight, 2, seed=1)


def test_the_same_seed_gives_the_same_importance() -> None:
    inputs, actual = world()
    ones = np.ones_like(actual)
    first, again, other = (
        permutation_importance(predict, exchange, inputs, GROUPS, actual, ones, 2, seed) for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_no_window_keeps_its_own_input() -> None:
    for order in _derangements(7, 50, seed=0):
        assert sorted(order) == list(range(7))
        assert not (order == np.arange(7)).any()


def test_nothing_to_measure_on_is_said() -> None:
    inputs, actual = world(windows=1)
    with pytest.raises(ValueError, match="at least 2 windows"):
        permutation_importance(predict, exchange, inputs, GROUPS, actual, np.ones_like(actual), 1, seed=0)
    with pytest.raises(ValueError, match="no actual value counts"):
        weighted_wape(np.ones((2, 2)), np.ones((2, 2)), np.zeros((2, 2)))
