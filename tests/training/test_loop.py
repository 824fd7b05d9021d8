from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from dlmine_spark.config import TrainingConfig
from dlmine_spark.errors import TrainingError
from dlmine_spark.training.checkpoints import pack_state, unpack_state
from dlmine_spark.training.comm import Comm, SingleProcess, require_same
from dlmine_spark.training.launch.torch_distributor import TorchComm
from dlmine_spark.training.loop import FlatGradient, TrainState, fit, learning_rate
from dlmine_spark.training.model import MEDIAN, QUANTILES, Forecaster, forecast, window_losses
from dlmine_spark.training.networks import model_shape, new_network
from dlmine_spark.training.predict import predict_panel
from dlmine_spark.training.shards import Features, PanelArrays, panel_arrays
from dlmine_spark.training.windows import Batch, WindowBatches, gather, plan_origins
from tests.training.panels import SMALL, panel_rows, request_for

CUTOFF = date(2024, 1, 6)
REQUEST = request_for(CUTOFF)


def arrays_of(**panel: Any) -> PanelArrays:
    rows = panel_rows(CUTOFF, **panel)
    return panel_arrays(rows, Features.of(rows.column_names), CUTOFF, horizon=7)


def setting(
    arrays: PanelArrays, config: TrainingConfig = SMALL, comm: Comm | None = None
) -> tuple[Forecaster, WindowBatches]:
    window = REQUEST.window
    model = new_network(model_shape(arrays, window, config), config.seed)
    origins = plan_origins(arrays, window, config.validation_origins)
    samples = config.samples_per_epoch
    return model, WindowBatches(
        arrays, window, origins, config.batch_size, samples, config.seed, comm or SingleProcess()
    )


def test_quantiles_never_cross_and_closed_days_are_zero() -> None:
    arrays = arrays_of()
    model, batches = setting(arrays)
    torch.nn.init.normal_(model.head.weight, std=3.0)
    batch = gather(arrays, batches.origins.train[:50], REQUEST.window)

    quantiles = forecast([model], batch)

    assert quantiles.shape == (50, 7, len(QUANTILES))
    assert (quantiles.diff(dim=2) >= 0).all()
    assert (quantiles[batch.open == 0] == 0).all()
    assert (quantiles >= 0).all()


def test_scaling_is_reversible_and_scale_free() -> None:
    arrays = arrays_of()
    model, batches = setting(arrays)
    batch = gather(arrays, batches.origins.train[:8], REQUEST.window)
    scaling = model.scaling(batch)
    assert scaling.log_scale
    restored = scaling.restore(scaling.scale(batch.y))
    torch.testing.assert_close(restored * batch.mask, batch.y, rtol=1e-4, atol=1e-3)

    negative = replace(arrays, dynamic=arrays.dynamic - np.eye(1, arrays.dynamic.shape[1], dtype=np.float32) * 500)
    linear, _ = setting(negative)
    assert not linear.shape.log_scale
    below = gather(negative, batches.origins.train[:8], REQUEST.window)
    restored = linear.scaling(below).restore(linear.scaling(below).scale(below.y))
    torch.testing.assert_close(restored * below.mask, below.y, rtol=1e-4, atol=1e-3)


def test_an_unknown_category_is_no_error() -> None:
    arrays = arrays_of()
    model, batches = setting(arrays)
    batch = gather(arrays, batches.origins.train[:2], REQUEST.window)
    unknown = forecast([model], replace(batch, category=torch.zeros_like(batch.category)))
    assert torch.equal(forecast([model], replace(batch, category=batch.category + 1000)), unknown)


def test_masked_days_teach_nothing() -> None:
    arrays = arrays_of()
    model, batches = setting(arrays)
    batch = gather(arrays, batches.origins.train[:4], REQUEST.window)
    mask = batch.target_mask.clone()
    mask[:, 3] = 0
    changed = batch.target.clone()
    changed[:, 3] = 1e9
    torch.testing.assert_close(
        window_losses(model, replace(batch, target=changed, target_mask=mask)),
        window_losses(model, replace(batch, target_mask=mask)),
    )


def test_the_learning_rate_rises_to_its_peak_and_falls() -> None:
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert max(rates) == 1.0 == rates[14]
    assert rates[0] < 0.1
    assert rates[-1] == pytest.approx(0.01, abs=0.005)
    assert rates[14:] == sorted(rates[14:], reverse=True)


def test_backward_fills_the_flat_gradient_in_place() -> None:
    layer = torch.nn.Linear(3, 2)
    gradient = FlatGradient(list(layer.parameters()))
    (layer(torch.ones(1, 3)) * torch.tensor([[1.0, 2.0]])).sum().backward()
    assert gradient.buffer.tolist() == [1, 1, 1, 2, 2, 2, 1, 2, 0, 0]
    assert gradient.clip(1.0) == pytest.approx(math.sqrt(20))
    assert gradient.buffer.norm().item() == pytest.approx(1.0)


def test_it_learns_the_week_and_the_promotions() -> None:
    arrays = arrays_of(days=260, noise=0.03)
    config = SMALL.model_copy(update={"epochs": 6, "samples_per_epoch": 1600, "hidden": 24})
    model, batches = setting(arrays, config)
    state = fit(model, batches, config, SingleProcess(), TrainState.start(model))

    # Held out: a training panel knows nothing after its cutoff, the same rows as of four weeks later do.
    origins = batches.origins.validation
    batch = gather(arrays, origins, REQUEST.window)
    error = ((forecast([model], batch)[..., MEDIAN] - batch.target).abs() * batch.target_mask).sum()
    naive = ((batch.lags[..., 0] - batch.target).abs() * batch.target_mask * batch.lags_known[..., 0]).sum()
    wape = float(error / batch.target.sum())
    assert wape == pytest.approx(state.best_metric, rel=1e-5)
    assert wape < 0.5 * float(naive / batch.target.sum())
    assert wape < 0.08  # noise of 3 % alone costs about 2.4 %


def test_the_best_epoch_is_kept_and_training_stops_without_improvement() -> None:
    class Worsening(WindowBatches):
        """Validation targets that grow from epoch to epoch: only the first epoch can be the best."""

        calls = 0

        def validation(self) -> Iterator[Batch]:
            type(self).calls += 1
            for batch in super().validation():
                yield replace(batch, target=batch.target * 10.0**self.calls)

    model, plain = setting(arrays_of())
    batches = Worsening(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})
    seen: list[TrainState] = []
    config = SMALL.model_copy(update={"epochs": 9, "patience": 2})
    state = fit(model, batches, config, SingleProcess(), TrainState.start(model), save=seen.append)

    assert (state.epoch, state.best_epoch, state.stopped) == (3, 1, True)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, seen[0].weights[name])


def test_a_loss_that_is_no_number_names_the_series() -> None:
    arrays = arrays_of()
    poisoned = arrays.dynamic.copy()
    rows = slice(int(arrays.starts[2]), int(arrays.starts[3]))
    poisoned[rows, 3] = np.nan
    model, batches = setting(replace(arrays, dynamic=poisoned))
    epochs: list[TrainState] = []
    with pytest.raises(TrainingError, match=r"loss is no number in epoch 1, step 1, in windows of series s2;"):
        fit(model, batches, SMALL, SingleProcess(), TrainState.start(model), save=epochs.append)
    assert epochs == []


def test_a_run_goes_on_in_the_middle_of_an_epoch() -> None:
    config = SMALL.model_copy(update={"checkpoint_minutes": 1e-9})
    model, batches = setting(arrays_of(), config)
    seen: list[TrainState] = []
    undisturbed = fit(model, batches, config, SingleProcess(), TrainState.start(model), save=seen.append)
    # After every step but the last of an epoch, where the epoch's own checkpoint follows.
    assert [(told.epoch, told.begun.steps) for told in seen[:11]] == [
        *((0, step) for step in range(1, 10)),
        (1, 0),
        (1, 1),
    ]

    middle = unpack_state(pack_state(seen[13], {}), {}, "the middle")
    other, batches = setting(arrays_of(), config)
    resumed = fit(other, batches, config, SingleProcess(), middle)

    assert (middle.epoch, middle.begun.steps) == (1, 4)
    assert [entry.loss for entry in resumed.history] == [entry.loss for entry in undisturbed.history]
    for name, weight in undisturbed.weights.items():
        assert torch.equal(resumed.weights[name], weight)


def test_accumulated_batches_make_the_step_of_a_large_one() -> None:
    once = SMALL.model_copy(update={"dropout": 0.0, "clip": 0.05})
    often = once.model_copy(update={"batch_size": SMALL.batch_size // 2, "accumulate": 2})
    exchanges: list[int] = []

    class Counting(SingleProcess):
        def mean_(self, tensor: torch.Tensor) -> None:
            exchanges.append(tensor.numel())

    curves = []
    for config in (once, often):
        model, batches = setting(arrays_of(), config)
        state = fit(model, batches, config, Counting(), TrainState.start(model))
        curves.append([entry.loss for entry in state.history])

    np.testing.assert_allclose(curves[1], curves[0], atol=1e-5)
    assert exchanges.count(max(exchanges)) == 2 * 3 * 10


@pytest.mark.parametrize("accumulate", [2, 3])
def test_a_loss_that_is_no_number_is_found_in_any_of_the_passes(accumulate: int) -> None:
    arrays = arrays_of()
    poisoned = arrays.dynamic.copy()
    poisoned[int(arrays.starts[2]) : int(arrays.starts[3]), 3] = np.nan
    config = SMALL.model_copy(update={"accumulate": accumulate, "batch_size": 2})
    model, batches = setting(replace(arrays, dynamic=poisoned), config)
    with pytest.raises(TrainingError, match=r"in windows of series s2;"):
        fit(model, batches, config, SingleProcess(), TrainState.start(model))


def _fit_as_rank(rank: int, size: int, folder: str, accumulate: int) -> None:
    """One of two ranks over gloo; leaves its loss curve and weights."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    comm = TorchComm()
    model, batches = setting(arrays_of(), comm=comm)
    # Rank 0 alone has a clock that tells it to write checkpoints.
    config = SMALL.model_copy(update={"checkpoint_minutes": 1e-4 if rank == 0 else 0, "accumulate": accumulate})
    saved: list[tuple[int, int]] = []
    state = fit(
        model,
        batches,
        config,
        comm,
        TrainState.start(model),
        lambda told: saved.append((told.epoch, told.begun.steps)),
    )
    with pytest.raises(TrainingError, match="ranks disagree on the number of rows"):
        require_same(comm, [7, rank], "the number of rows")
    losses = [(entry.loss, entry.validation_loss) for entry in state.history]
    left = {"losses": losses, "weights": state.best_weights, "saved": saved}
    if accumulate == 1:
        left["compressed"] = {way: _compressed(way, comm) for way in ("fp16", "bf16")}
    torch.save(left, Path(folder) / f"rank-{rank}.pt")
    dist.destroy_process_group()


EXCHANGED = [
    pytest.param([[1e30, -3e30], [3e30, -1e30]], [2e30, -2e30], id="beyond what 16 bits hold"),
    pytest.param([[1e-30, 0.0], [3e-30, 0.0]], [2e-30, 0.0], id="and below"),
    pytest.param([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0], id="nothing"),
    pytest.param([[1.0, 2.0], [math.inf, 2.0]], [math.nan, math.nan], id="no number in one rank"),
]
"""Gradients of two ranks, and what both have after a compressed exchange."""


def _compressed(way: str, comm: Comm) -> dict[str, Any]:
    """What a rank finds when gradients travel as 16 bits: a loss curve, its weights, and single exchanges."""
    config = SMALL.model_copy(update={"compression": way})
    model, batches = setting(arrays_of(), comm=comm)
    state = fit(model, batches, config, comm, TrainState.start(model))
    found = []
    for given, _ in (case.values for case in EXCHANGED):
        gradient = FlatGradient([torch.nn.Parameter(torch.zeros(2))], way)
        gradient.buffer[:2] = torch.tensor(given[comm.rank])
        told = gradient.exchange(0.3 + comm.rank, 1, wish=comm.rank == 0, comm=comm)
        found.append([*gradient.buffer[:2].tolist(), *told])
    return {"losses": [entry.loss for entry in state.history], "weights": state.weights, "exchanged": found}


@pytest.mark.parametrize("accumulate", [1, 3])
def test_two_ranks_compute_what_one_does(tmp_path: Path, accumulate: int) -> None:
    model, batches = setting(arrays_of())
    config = SMALL.model_copy(update={"accumulate": accumulate})
    alone = fit(model, batches, config, SingleProcess(), TrainState.start(model))
    torch.multiprocessing.spawn(_fit_as_rank, args=(2, str(tmp_path), accumulate), nprocs=2)

    ranks = [torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]
    assert ranks[0]["losses"] == ranks[1]["losses"]
    assert ranks[0]["saved"] == ranks[1]["saved"]
    assert len(ranks[0]["saved"]) > SMALL.epochs
    expected = [(entry.loss, entry.validation_loss) for entry in alone.history]
    np.testing.assert_allclose(ranks[0]["losses"], expected, atol=1e-4)
    for name, weight in alone.best_weights.items():
        assert torch.equal(ranks[0]["weights"][name], ranks[1]["weights"][name])
        torch.testing.assert_close(ranks[0]["weights"][name], weight, atol=1e-3, rtol=1e-2)
    if accumulate == 1:
        _assert_compressed(ranks, [loss for loss, _ in expected], alone.weights)


def _assert_compressed(ranks: list[dict[str, Any]], losses: list[float], weights: dict[str, torch.Tensor]) -> None:
    for way, atol in (("fp16", 1e-3), ("bf16", 1e-2)):
        one, other = (rank["compressed"][way] for rank in ranks)
        assert one["losses"] == other["losses"]
        np.testing.assert_allclose(one["losses"], losses, atol=atol)
        assert all(torch.equal(one["weights"][name], other["weights"][name]) for name in weights)
        assert any(not torch.allclose(one["weights"][name], weight, atol=1e-6) for name, weight in weights.items())
        for found in (one["exchanged"], other["exchanged"]):
            expected = [[*case.values[1], 0.8, True] for case in EXCHANGED]
            np.testing.assert_allclose(np.array(found), np.array(expected), rtol=1e-2)


def test_forecasts_are_rows_of_dates_with_ordered_bounds() -> None:
    arrays = arrays_of()
    model, batches = setting(arrays)
    frame = predict_panel([model], arrays, batches.origins.predict, REQUEST.window)

    assert len(frame) == 4 * 7
    assert frame["h"].tolist() == list(range(1, 8)) * 4
    assert set(frame["cutoff"]) == {CUTOFF}
    assert frame["ds"].min() > CUTOFF
    assert (frame["lo_95"] <= frame["lo_80"]).all()
    assert (frame["lo_80"] <= frame["y_hat"]).all()
    assert (frame["y_hat"] <= frame["hi_80"]).all()
    assert (frame["hi_80"] <= frame["hi_95"]).all()
    # A cutoff between the rows of a series is still what its forecasts are told by.
    later = replace(arrays, cutoff=CUTOFF + timedelta(days=1))
    told = predict_panel([model], later, batches.origins.predict[:1], REQUEST.window)
    assert set(told["cutoff"]) == {CUTOFF + timedelta(days=1)}
