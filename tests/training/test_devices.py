"""Where a rank computes and in which precision; there is no GPU here, so what one would do is asked of stand-ins."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from dlmine_spark.errors import EnvironmentProblem
from dlmine_spark.pipelines.train import computed_in_words
from dlmine_spark.training.checkpoints import CheckpointStore, Manifest, load_model
from dlmine_spark.training.comm import SingleProcess
from dlmine_spark.training.devices import CPU, device_of, resolved
from dlmine_spark.training.job import RESULT_FILE, CutoffResult, train_cutoffs
from dlmine_spark.training.launch.torch_distributor import GLOO, NCCL, _tell_of_hidden_gpus, exchange_backend
from dlmine_spark.training.loop import FlatGradient, TrainState, fit
from dlmine_spark.training.model import DropoutMasks, EncoderDecoder, restored, scaled_forecast, window_losses
from dlmine_spark.training.predict import MODEL_FILE, REHEARSED_FILE, VALIDATED_FILE, cutoff_folder, member_folders
from dlmine_spark.training.windows import gather
from tests.training.panels import SMALL, small_request
from tests.training.test_loop import REQUEST, arrays_of, setting

KINDS = (VALIDATED_FILE, REHEARSED_FILE, MODEL_FILE)


class _ThirdOfAMachine(SingleProcess):
    rank = local_rank = 2


def gpus(monkeypatch: pytest.MonkeyPatch, count: int, bfloat16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr("dlmine_spark.training.devices._gpu_has_bfloat16", lambda device: bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")


def test_on_a_cluster_backend_torch_says_that_it_hides_gpus(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(EnvironmentProblem, match=r"backend torch sees no GPU on a cluster: .*backend=horovod"):
        _tell_of_hidden_gpus(SMALL.model_copy(update={"device": "cuda"}))
    with caplog.at_level(logging.WARNING):
        _tell_of_hidden_gpus(SMALL)
        assert not caplog.records
        _tell_of_hidden_gpus(SMALL.model_copy(update={"device": "auto"}))
    assert "ranks train on CPUs" in caplog.text


@pytest.mark.parametrize(
    ("device", "ranks", "count", "has_nccl", "backend"),
    [
        ("cuda", 2, 2, True, NCCL),
        ("auto", 2, 4, True, NCCL),
        ("cuda", 2, 1, True, GLOO),  # nccl wants a GPU a rank
        ("auto", 1, 0, True, GLOO),
        ("cpu", 2, 4, True, GLOO),
        ("cuda", 2, 2, False, GLOO),
    ],
)
def test_ranks_that_have_a_gpu_each_exchange_by_nccl(
    device: str, ranks: int, count: int, has_nccl: bool, backend: str
) -> None:
    config = SMALL.model_copy(update={"device": device, "workers": ranks})
    assert exchange_backend(config, count, has_nccl) == backend


@pytest.mark.parametrize(("takes", "carried"), [(True, "cuda"), (False, "cpu")])
def test_gradients_of_gpus_go_through_memory_unless_nccl_takes_them(takes: bool, carried: str) -> None:
    class Two(SingleProcess):
        size, takes_gpu_tensors = 2, takes

        def mean_(self, tensor: torch.Tensor) -> None:
            seen.append(tensor.device.type)

    seen: list[str] = []
    with FakeTensorMode(), torch.device("cuda"), contextlib.suppress(DataDependentOutputException):
        # A stand-in has no number to hand back after the exchange.
        FlatGradient([torch.nn.Parameter(torch.empty(3))]).exchange(0.0, 1, False, Two())
    assert seen == [carried]


@pytest.mark.parametrize(
    ("device", "precision", "count", "bfloat16", "found"),
    [
        ("cpu", "auto", 2, True, ("cpu", "float32")),
        ("cpu", "bfloat16", 0, False, ("cpu", "bfloat16")),
        ("auto", "auto", 0, False, ("cpu", "float32")),
        ("auto", "auto", 2, True, ("cuda:0", "bfloat16")),
        ("cuda", "auto", 4, True, ("cuda:2", "bfloat16")),
        ("cuda", "auto", 4, False, ("cuda:2", "float32")),
        ("cuda", "float32", 4, True, ("cuda:2", "float32")),
    ],
)
def test_the_precision_follows_from_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str, precision: str, count: int, bfloat16: bool, found: tuple[str, str]
) -> None:
    gpus(monkeypatch, count, bfloat16)
    config, comm = SMALL.model_copy(update={"device": device, "precision": precision}), _ThirdOfAMachine()
    assert (str(device_of(config, comm)), resolved(config, comm).precision) == found


def test_what_a_machine_lacks_is_said_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0, bfloat16=False)
    with pytest.raises(EnvironmentProblem, match=r"training\.device is cuda, but torch finds no GPU"):
        resolved(SMALL.model_copy(update={"device": "cuda"}), SingleProcess())
    gpus(monkeypatch, 1, bfloat16=False)
    with pytest.raises(
        EnvironmentProblem, match=r"bfloat16, which Old GPU \(cuda:0\) has not: set training\.precision"
    ):
        resolved(SMALL.model_copy(update={"device": "cuda", "precision": "bfloat16"}), SingleProcess())


def test_bfloat16_trains_weights_of_float32_about_as_well() -> None:
    states = []
    for precision in ("float32", "bfloat16"):
        config = SMALL.model_copy(update={"precision": precision})
        model, batches = setting(arrays_of(), config)
        states.append(fit(model, batches, config, SingleProcess(), TrainState.start(model)))
    exact, rough = ([entry.loss for entry in state.history] for state in states)
    assert rough != exact
    np.testing.assert_allclose(rough, exact, atol=1e-2)
    assert {weight.dtype for weight in states[1].weights.values()} == {torch.float32}


def test_the_head_the_scaling_and_the_loss_keep_all_digits() -> None:
    arrays = arrays_of()
    model, batches = setting(arrays)
    batch = gather(arrays, batches.origins.train[:8], REQUEST.window)
    inputs: list[torch.dtype] = []
    model.mix.register_forward_hook(lambda module, given, made: inputs.append(made.dtype))
    model.head.register_forward_hook(lambda module, given, made: inputs.extend([given[0].dtype, made.dtype]))

    losses = window_losses(model, batch, precision="bfloat16")

    assert inputs == [torch.bfloat16, torch.float32, torch.float32]
    assert losses.dtype == torch.float32


def test_a_checkpoint_of_another_precision_is_not_gone_on_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    request = small_request(tmp_path, SMALL.model_copy(update={"epochs": 1, "precision": "float32"}))
    request = replace(request, backtest=(), final=request.backtest[0])
    train_cutoffs(request, SingleProcess())
    folder = cutoff_folder(request.folder, request.final)
    (folder / RESULT_FILE).unlink()
    lower = replace(request, training=request.training.model_copy(update={"precision": "bfloat16"}))

    with caplog.at_level(logging.WARNING):
        train_cutoffs(lower, SingleProcess())

    assert "belongs to another model: training.precision differ" in caplog.text
    assert "'float32' there, 'bfloat16' here" in caplog.text
    _, manifest = load_model(member_folders(folder, 1)[0] / VALIDATED_FILE)
    assert manifest["training"]["precision"] == "bfloat16"


def test_a_run_that_goes_on_on_another_device_says_so_and_keeps_it_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    request = small_request(tmp_path, SMALL.model_copy(update={"epochs": 2}))
    request = replace(request, backtest=(), final=request.backtest[0])
    save = CheckpointStore.save

    def save_and_end(self: CheckpointStore, state: TrainState, manifest: Manifest) -> None:
        save(self, state, manifest)
        raise KeyboardInterrupt

    with monkeypatch.context() as machine:
        # What auto stands for on the machine where it begins.
        lower = {"precision": "bfloat16"}
        machine.setattr("dlmine_spark.training.loop.resolved", lambda config, comm: config.model_copy(update=lower))
        machine.setattr(CheckpointStore, "save", save_and_end)
        with pytest.raises(KeyboardInterrupt):
            train_cutoffs(request, SingleProcess())
    with caplog.at_level(logging.WARNING):
        train_cutoffs(request, SingleProcess())

    both = ("cpu in bfloat16", "cpu in float32")
    assert caplog.text.count("what was begun on cpu in bfloat16 goes on on cpu in float32") == 1
    folder = cutoff_folder(request.folder, request.final)
    result = CutoffResult.from_json((folder / RESULT_FILE).read_text(encoding="utf-8"))
    assert [(member.epochs, member.computed) for member in result.members] == [(2, both)]
    assert result.computed == both
    computed = {file: load_model(member_folders(folder, 1)[0] / file)[1]["computed"] for file in KINDS}
    assert computed == {VALIDATED_FILE: [*both], REHEARSED_FILE: [both[1]], MODEL_FILE: [both[1]]}
    assert computed_in_words(result.computed) == "; trained on cpu in bfloat16, then on cpu in float32"
    assert computed_in_words(["cpu in float32"]) == ""


def test_whatever_a_network_computes_is_on_the_device_of_its_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's own stand-ins refuse to mix devices, without a GPU; but it has none for LSTMs, nor for backward."""
    arrays = arrays_of()
    model, batches = setting(arrays)
    windows = gather(arrays, batches.origins.train[:8], REQUEST.window)
    monkeypatch.setattr(torch.nn.LSTM, "flatten_parameters", lambda self: None)
    monkeypatch.setattr(torch.nn.LSTM, "forward", _stand_in)
    gpu = torch.device("cuda")
    with FakeTensorMode(), gpu:
        network = EncoderDecoder(model.shape)
        held = {field.name: getattr(windows, field.name) for field in fields(windows)}
        batch = replace(windows, **{name: torch.empty(one.shape, dtype=one.dtype) for name, one in held.items()})
        with CPU:
            losses = window_losses(network, batch, DropoutMasks(0.1, 1, 1, 8, slice(0, 8), gpu))
            forecasts = restored(*scaled_forecast([network], batch), batch)
    assert (losses.device.type, forecasts.device.type) == ("cuda", "cuda")


def _stand_in(
    self: torch.nn.LSTM, given: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor] | None = None
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    made = given @ self.weight_ih_l0[: self.hidden_size].T
    if state is not None:
        made = made + (state[0][0] @ self.weight_hh_l0[: self.hidden_size].T).unsqueeze(1)
    last = made[:, -1].unsqueeze(0)
    return made, (last, last)
