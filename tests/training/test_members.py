"""Several networks per cutoff, whose mean is the forecast."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dlmine_spark.errors import TrainingError
from dlmine_spark.training.checkpoints import load_model
from dlmine_spark.training.comm import SingleProcess
from dlmine_spark.training.job import LaunchRequest, read_results, train_cutoffs
from dlmine_spark.training.networks import SeriesCodes, carried_on, member_seed, model_shape, new_network
from dlmine_spark.training.predict import (
    MODEL_FILE,
    cutoff_folder,
    load_for_explanation,
    load_trained,
    load_validated,
    member_folders,
    predict_cutoff,
    predict_panel,
)
from dlmine_spark.training.shards import read_panel
from dlmine_spark.training.windows import plan_origins
from tests.training.panels import SMALL, small_request

MEMBERS = 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> LaunchRequest:
    torch.set_num_threads(1)
    request = small_request(tmp_path_factory.mktemp("members"), SMALL.model_copy(update={"members": MEMBERS}))
    train_cutoffs(request, SingleProcess())
    return request


def test_each_network_and_their_mean_have_a_validation_error(trained: LaunchRequest) -> None:
    backtest, final = read_results(trained)
    alone = [member.validation_wape for member in backtest.members]

    assert len(set(alone)) == MEMBERS
    assert backtest.validation_wape is not None
    assert backtest.validation_wape < np.mean([wape for wape in alone if wape is not None])
    assert backtest.epochs == MEMBERS * SMALL.epochs
    assert [member.epochs for member in final.members] == [SMALL.final_epochs] * MEMBERS
    assert final.validation_wape is None


def test_the_first_network_is_the_one_there_would_be_alone(trained: LaunchRequest, tmp_path: Path) -> None:
    request = small_request(tmp_path)
    train_cutoffs(request, SingleProcess())
    for cutoff in request.cutoffs:
        alone, _ = load_model(member_folders(cutoff_folder(request.folder, cutoff), 1)[0] / MODEL_FILE)
        first, _ = load_model(member_folders(cutoff_folder(trained.folder, cutoff), MEMBERS)[0] / MODEL_FILE)
        assert all(torch.equal(alone[name], first[name]) for name in alone)


def test_the_forecast_is_the_mean_on_the_scale_of_the_networks(trained: LaunchRequest) -> None:
    folder = cutoff_folder(trained.folder, trained.final)
    networks = load_trained(folder).networks
    arrays = read_panel(trained.source, trained.final, trained.horizon)
    origins = plan_origins(arrays, trained.window, validation_origins=0).predict
    alone = [predict_panel([network], arrays, origins, trained.window)["hi_80"] for network in networks]

    together = pd.concat(predict_cutoff(folder, trained.source, trained.final))["hi_80"]

    np.testing.assert_allclose(np.log1p(together), np.mean([np.log1p(each) for each in alone], axis=0), rtol=1e-4)
    assert not np.allclose(alone[0], alone[1], rtol=1e-3)


def test_what_is_explained_is_the_mean(trained: LaunchRequest) -> None:
    cutoff = trained.backtest[0]
    folder = cutoff_folder(trained.folder, cutoff)
    explanation = load_for_explanation(folder, trained.source, cutoff, windows=6, seed=1)
    assert explanation.held_out
    found = explanation.predict(explanation.batch)

    arrays = read_panel(trained.source, cutoff, trained.horizon)
    expected = predict_panel(load_validated(folder).networks, arrays, explanation.batch.origins.numpy(), trained.window)
    np.testing.assert_allclose(found.ravel(), expected["y_hat"], rtol=1e-5)


def test_a_lost_network_is_an_error_and_no_smaller_mean(trained: LaunchRequest) -> None:
    folder = cutoff_folder(trained.folder, trained.backtest[0])
    lost = member_folders(folder, MEMBERS)[1] / MODEL_FILE
    kept = lost.rename(lost.with_suffix(".kept"))
    try:
        with pytest.raises(TrainingError, match=r"member=2/model\.ckpt: there is no trained model"):
            load_trained(folder)
    finally:
        kept.rename(lost)


def test_members_have_seeds_of_their_own() -> None:
    assert member_seed(7, 1) == 7
    assert len({member_seed(seed, member) for seed in range(50) for member in range(1, 5)}) == 200


def test_embeddings_follow_their_series_to_other_codes(trained: LaunchRequest) -> None:
    arrays = read_panel(trained.source, trained.final, trained.horizon)
    shape = model_shape(arrays, trained.window, trained.training)
    old, codes = new_network(shape, 1), SeriesCodes.of(arrays)
    turned = SeriesCodes(codes.ids, codes.category[::-1].copy())

    network = carried_on(old, codes, shape, turned, seed=2)

    before, after = old.embeddings[0].weight, network.embeddings[0].weight
    assert torch.equal(before[codes.category[:, 0]], after[turned.category[:, 0]])
    assert torch.equal(network.head.weight, old.head.weight)


def test_the_log_tells_the_mean_beside_its_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train_cutoffs(small_request(tmp_path, SMALL.model_copy(update={"members": 2, "epochs": 1})), SingleProcess())
    assert "by the mean of 2 networks (alone: " in caplog.text
