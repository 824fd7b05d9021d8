"""Contributions that add up, go to the inputs that matter, and need a finer path where the function bends."""

from __future__ import annotations

import pytest
import torch

from dlmine_spark.explain.attribution import TOLERANCE, Inputs, attribute


def test_of_a_sum_every_input_gets_its_part() -> None:
    def predict(inputs: Inputs) -> torch.Tensor:
        return torch.stack([3 * inputs["a"][:, 0] + inputs["b"][:, 1], inputs["a"][:, 1]], dim=1)

    inputs = {"a": torch.tensor([[2.0, 9.0]]), "b": torch.tensor([[7.0, 5.0]])}
    baseline = {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[0.0, 1.0]])}
    found = attribute(predict, inputs, baseline, step=0)
    assert (found.forecast, found.baseline) == (11.0, 4.0)
    assert found.contributions["a"].tolist() == pytest.approx([3.0, 0.0])
    assert found.contributions["b"].tolist() == pytest.approx([0.0, 4.0])
    assert found.gap == pytest.approx(0.0, abs=1e-5)


def test_where_the_function_bends_they_still_add_up() -> None:
    def predict(inputs: Inputs) -> torch.Tensor:
        return torch.expm1(inputs["a"] * torch.sigmoid(40 * (inputs["b"] - 0.83)))

    found = attribute(predict, {"a": torch.tensor([[5.0]]), "b": torch.tensor([[1.0]])}, zeros(), step=0)
    total = sum(part.sum() for part in found.contributions.values())
    assert total + found.gap == pytest.approx(found.forecast - found.baseline)
    assert abs(found.gap) <= TOLERANCE * found.forecast


def zeros() -> Inputs:
    return {"a": torch.zeros(1, 1), "b": torch.zeros(1, 1)}
