"""Weights of a mean of models: the best ones there are, and drawn together where little was seen."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from dlmine_spark.evaluation.blend import EQUAL_PARTS, best_weights, drawn_together, relative_widths


def products_of(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of errors x models: one group."""
    return (errors.T @ errors / len(errors))[None]


def test_no_other_weights_do_better() -> None:
    rng = np.random.default_rng(7)
    mixes = rng.normal(size=(40, 5, 5))
    products = mixes @ mixes.transpose(0, 2, 1)
    found = best_weights(products)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    for weights, group in zip(found, products, strict=True):
        damped = group + EQUAL_PARTS * np.diagonal(group).min() * np.eye(5)
        searched = minimize(
            lambda w, damped=damped: w @ damped @ w,
            np.full(5, 0.2),
            bounds=[(0, 1)] * 5,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        )
        assert weights @ damped @ weights <= searched.fun + 1e-6


def test_models_that_err_alike_share_and_a_bad_one_gets_next_to_nothing() -> None:
    rng = np.random.default_rng(7)
    common = rng.normal(size=5000)
    bad = common + rng.normal(3, 3, size=5000)
    weights = best_weights(products_of(np.column_stack([common, common, bad])))[0]
    assert weights.tolist() == pytest.approx([0.5, 0.5, 0.0], abs=0.005)


def test_without_errors_there_are_equal_parts_and_a_model_without_any_is_taken_alone() -> None:
    assert best_weights(np.zeros((1, 4, 4)))[0].tolist() == pytest.approx([0.25] * 4)
    perfect = np.diag([0.0, 1.0, 1.0])[None]
    assert best_weights(perfect)[0].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)


def test_the_mean_of_independent_errors_is_narrower_than_each() -> None:
    products = np.diag([4.0, 4.0, 0.0])[None]
    widths = relative_widths(products, np.array([[0.5, 0.5, 0.0]]))[0]
    assert widths.tolist() == pytest.approx([np.sqrt(0.5), np.sqrt(0.5), 1.0])


def test_a_group_is_drawn_to_all_by_how_little_it_has_seen() -> None:
    own = np.stack([np.diag([4.0, 0.0])] * 3 + [np.full((2, 2), np.inf)])
    together = np.eye(2)
    drawn = drawn_together(own, np.array([0.0, 10.0, 1e9, 5.0]), together, strength=10.0)
    np.testing.assert_allclose(drawn[0], together)
    np.testing.assert_allclose(drawn[1], np.diag([1.5, 0.5]))
    np.testing.assert_allclose(drawn[2], np.diag([2.0, 0.0]), atol=1e-6)
    # Errors that are no numbers say nothing.
    np.testing.assert_allclose(drawn[3], together)
