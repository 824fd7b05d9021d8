"""The textbook preset: LSTM(50) + Dense(1), which forecasts one step after another from past values alone."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from dlmine_spark.config import Config, TrainingConfig
from dlmine_spark.errors import ConfigError
from dlmine_spark.training.checkpoints import load_model, save_model
from dlmine_spark.training.comm import SingleProcess
from dlmine_spark.training.job import RESULT_FILE, LaunchRequest, train_cutoffs
from dlmine_spark.training.loop import TrainState, fit
from dlmine_spark.training.model import MEDIAN, EncoderDecoder, forecast, window_losses
from dlmine_spark.training.predict import (
    MODEL_FILE,
    VALIDATED_FILE,
    cutoff_folder,
    describe,
    embed_cutoff,
    load_trained,
    member_folders,
    predict_rehearsal,
)
from dlmine_spark.training.textbook import Textbook
from dlmine_spark.training.windows import gather, input_groups, permuted
from dlmine_spark.tuning.space import default_space
from tests.training.panels import SMALL, small_request
from tests.training.test_loop import REQUEST, arrays_of, setting

TEXTBOOK = TrainingConfig.model_validate(
    {**SMALL.model_dump(exclude={"hidden", "dropout"}), "preset": "textbook", "epochs": 2}
)


def test_the_preset_brings_its_settings_and_takes_no_others() -> None:
    assert (TEXTBOOK.hidden, TEXTBOOK.layers, TEXTBOOK.dropout) == (50, 1, 0.0)
    assert TrainingConfig.model_validate(TEXTBOOK.model_dump()) == TEXTBOOK
    assert {"hidden", "layers", "dropout"}.isdisjoint(default_space(TEXTBOOK))
    with pytest.raises(
        ValidationError, match="preset textbook has hidden 50, got 64: leave hidden out or set it to 50"
    ):
        TrainingConfig.model_validate({"preset": "textbook", "hidden": 64})
    with pytest.raises(ValidationError, match=r"tuning\.space\.hidden: 32 is no legal training\.hidden: preset textb"):
        Config.model_validate({"training": {"preset": "textbook"}, "tuning": {"space": {"hidden": [32, 50]}}})


def test_what_needs_covariates_is_refused_before_anything_is_trained() -> None:
    SMALL.require_covariates("--scenario")
    with pytest.raises(ConfigError, match=r"--scenario: .*training\.preset textbook reads past values alone"):
        TEXTBOOK.require_covariates("--scenario")


def test_each_step_is_forecast_from_the_values_and_the_forecasts_before_it() -> None:
    arrays = arrays_of()
    model, batches = setting(arrays, TEXTBOOK)
    assert isinstance(model, Textbook)
    batch = gather(arrays, batches.origins.train[:20], REQUEST.window)
    assert (batch.open == 0).any()
    scaling = model.scaling(batch)

    medians = model(batch, scaling)[..., MEDIAN]

    seen = scaling.scale(batch.y) * batch.mask
    for step in range(REQUEST.horizon):
        following = model.dense(model.lstm(seen.unsqueeze(2))[0][:, -1])
        torch.testing.assert_close(medians[:, step : step + 1], following)
        seen = torch.cat([seen, following * batch.open[:, step : step + 1]], dim=1)


def test_it_reads_nothing_but_past_values_and_closures() -> None:
    arrays = arrays_of()
    model, batches = setting(arrays, TEXTBOOK)
    batch = gather(arrays, batches.origins.train[:20], REQUEST.window)
    order = torch.arange(20).flip(0)

    read = {
        group.name
        for group in input_groups(arrays.features, REQUEST.window)
        if not torch.equal(forecast([model], batch), forecast([model], permuted(batch, group, order)))
    }

    assert read == {"history"}


def test_weights_learn_the_next_step_and_intervals_the_errors_of_the_recursive_forecast() -> None:
    arrays = arrays_of(days=260, noise=0.1)
    config = TEXTBOOK.model_copy(update={"epochs": 4, "samples_per_epoch": 1600, "learning_rate": 0.04})
    model, batches = setting(arrays, config)
    assert isinstance(model, Textbook)
    batch = gather(arrays, batches.origins.train, REQUEST.window)

    scaling = model.scaling(batch)
    next_error = scaling.scale(batch.target)[:, 0] - model(batch, scaling)[:, 0, MEDIAN]
    weights = [*model.lstm.parameters(), *model.dense.parameters()]
    squared = torch.autograd.grad((next_error.square() * batch.target_mask[:, 0]).sum(), weights)
    *of_weights, of_distances = torch.autograd.grad(window_losses(model, batch).sum(), [*weights, model.distances])
    torch.testing.assert_close(of_weights, list(squared))
    assert (of_distances != 0).all()

    state = fit(model, batches, config, SingleProcess(), TrainState.start(model))

    assert state.history[-1].loss < 0.9 * state.history[0].loss
    quantiles = forecast([model], batch)
    for low, high, level in ((1, 3, 0.8), (0, 4, 0.95)):
        inside = (quantiles[..., low] <= batch.target) & (batch.target <= quantiles[..., high])
        covered = (inside * batch.target_mask).sum(0) / batch.target_mask.sum(0)
        np.testing.assert_allclose(covered, level, atol=0.06)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> LaunchRequest:
    torch.set_num_threads(1)
    request = small_request(tmp_path_factory.mktemp("textbook"), TEXTBOOK)
    train_cutoffs(request, SingleProcess())
    return request


def test_it_is_trained_kept_and_forecasts_like_the_default_network(trained: LaunchRequest) -> None:
    folder = cutoff_folder(trained.folder, trained.backtest[0])
    model = load_trained(folder)
    assert all(isinstance(network, Textbook) for network in model.networks)
    assert isinstance(load_trained(cutoff_folder(trained.folder, trained.final)).networks[0], Textbook)
    (embedded,) = embed_cutoff(folder, trained.source, trained.backtest[0])
    assert embedded["embedding"].map(len).tolist() == [50] * 4
    (rehearsed,) = predict_rehearsal(folder, trained.source, trained.backtest[0])
    assert (rehearsed["lo_95"] < rehearsed["lo_80"]).all()
    assert (rehearsed["hi_80"] < rehearsed["hi_95"]).all()


def test_a_checkpoint_of_the_other_preset_is_not_gone_on_with(
    trained: LaunchRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    request = small_request(tmp_path, SMALL.model_copy(update={"epochs": 1}))
    request = replace(request, backtest=(), final=request.backtest[0])
    train_cutoffs(request, SingleProcess())
    folder = cutoff_folder(request.folder, request.final)
    (folder / RESULT_FILE).unlink()
    with caplog.at_level(logging.WARNING):
        train_cutoffs(replace(request, training=TEXTBOOK), SingleProcess())
    assert "belongs to another model: " in caplog.text
    assert "shape.preset" in caplog.text
    assert "training.preset" in caplog.text
    assert isinstance(load_trained(folder, VALIDATED_FILE).networks[0], Textbook)


def test_networks_of_before_there_were_presets_are_read(tmp_path: Path) -> None:
    model, batches = setting(arrays_of())
    file = member_folders(tmp_path, 1)[0] / MODEL_FILE
    shape = describe(model.shape, batches.arrays.features, batches.shape)
    del shape["shape"]["preset"]
    save_model(file, model.state_dict(), {**shape, "training": {"members": 1}})
    assert "preset" not in load_model(file)[1]["shape"]
    assert isinstance(load_trained(tmp_path).networks[0], EncoderDecoder)
