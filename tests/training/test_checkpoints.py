from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dlmine_spark.errors import TrainingError
from dlmine_spark.training.checkpoints import CheckpointStore, load_model, save_model, write_bytes
from dlmine_spark.training.comm import SingleProcess
from dlmine_spark.training.job import FORECASTING, VALIDATED, LaunchRequest, Phase, train_cutoffs
from dlmine_spark.training.loop import EpochLog, Progress, TrainState
from dlmine_spark.training.predict import MODEL_FILE, cutoff_folder, member_folders
from tests.training.panels import SMALL, small_request

MANIFEST = {"shape": {"hidden": 3, "cardinalities": (2, 5)}, "cutoff": "2024-01-06"}


def state_at(epoch: int) -> TrainState:
    weights = {"w": torch.full((2, 3), float(epoch))}
    entry = EpochLog(epoch, 0.5, None, 0.25, 1e-3, 100.0, 2.0, 0.5)
    return TrainState(weights, {"state": {}, "param_groups": []}, epoch, weights, epoch, 0.25, history=(entry,))


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for epoch in (1, 2, 3):
        store.save(state_at(epoch), MANIFEST)

    loaded = store.newest(MANIFEST)

    assert loaded is not None
    assert loaded.epoch == 3
    assert loaded.history == state_at(3).history
    assert torch.equal(loaded.weights["w"], state_at(3).weights["w"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00002.ckpt", "epoch-00003.ckpt"]


def test_a_state_within_an_epoch_comes_after_the_epoch_before(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    for epoch, steps in ((1, 0), (1, 90), (1, 100), (2, 0)):
        store.save(replace(state_at(epoch), begun=Progress(steps, 0.5 * steps)), MANIFEST)

    names = ["epoch-00001.step-00000090.ckpt", "epoch-00001.step-00000100.ckpt", "epoch-00002.ckpt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    (tmp_path / names[2]).unlink()
    loaded = store.newest(MANIFEST)
    assert loaded is not None
    assert (loaded.epoch, loaded.begun) == (1, Progress(100, 50.0))


def test_a_truncated_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    paths = [store.save(state_at(epoch), MANIFEST) for epoch in (1, 2, 3)]
    paths[2].write_bytes(paths[2].read_bytes()[:-40])
    altered = bytearray(paths[1].read_bytes())
    altered[-60] ^= 1
    paths[1].write_bytes(bytes(altered))

    with caplog.at_level(logging.WARNING):
        loaded = store.newest(MANIFEST)

    assert loaded is not None
    assert loaded.epoch == 1
    assert caplog.text.count("truncated or altered") == 2


def test_a_checkpoint_of_another_model_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    path = store.save(state_at(1), MANIFEST)
    with caplog.at_level(logging.WARNING):
        assert store.newest({**MANIFEST, "cutoff": "2024-02-01"}) is None
    assert "belongs to another model: cutoff differ" in caplog.text
    path.write_bytes(b"PK\x03\x04 something else")
    assert store.newest(MANIFEST) is None


def test_a_model_file_is_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / MODEL_FILE
    with pytest.raises(TrainingError, match="run the stage train"):
        load_model(path)
    save_model(path, state_at(1).weights, MANIFEST)
    weights, manifest = load_model(path)
    assert weights["w"].shape == (2, 3)
    assert manifest["shape"]["cardinalities"] == [2, 5]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TrainingError, match="truncated"):
        load_model(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*file") as raised:
        write_bytes(path, b"new")
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


TWO = SMALL.model_copy(update={"members": 2, "checkpoint_minutes": 1e-9})

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from dlmine_spark.training import checkpoints
from dlmine_spark.training.comm import SingleProcess
from dlmine_spark.training.job import FORECASTING, VALIDATED, LaunchRequest, Phase, train_cutoffs
from tests.training.panels import SMALL, request_for_folder
from tests.training.test_checkpoints import TWO

save = checkpoints.CheckpointStore.save
def save_and_die(self, state, manifest):
    path = save(self, state, manifest)
    at = [state.epoch, state.begun.steps]
    if str(self.folder).endswith(sys.argv[2]) and at == [int(word) for word in sys.argv[3:]]:
        os.kill(os.getpid(), signal.SIGKILL)
    return path
checkpoints.CheckpointStore.save = save_and_die
torch.set_num_threads(1)  # as in this process: more threads sum in another order
train_cutoffs(request_for_folder(Path(sys.argv[1]), TWO), SingleProcess())
"""


@pytest.mark.parametrize(
    ("phase", "epoch", "steps", "finished"),
    [
        pytest.param(VALIDATED, 2, 0, [True, False], id="after an epoch"),
        pytest.param(VALIDATED, 2, 3, [True, False], id="in the middle of one"),
        pytest.param(FORECASTING, 1, 0, [True, True], id="while tuned up to the cutoff"),
    ],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, phase: Phase, epoch: int, steps: int, finished: list[bool]
) -> None:
    undisturbed = small_request(tmp_path / "a", TWO)
    disturbed = small_request(tmp_path / "b", TWO)
    train_cutoffs(undisturbed, SingleProcess())
    where = f"member=2/{phase.checkpoints}"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "b"), where, str(epoch), str(steps)],
        cwd=Path(__file__).parents[2],
    )
    assert killed.returncode == -signal.SIGKILL
    backtest = cutoff_folder(disturbed.folder, disturbed.backtest[0])
    assert [(place / VALIDATED.model_file).exists() for place in member_folders(backtest, 2)] == finished

    with caplog.at_level(logging.INFO):
        train_cutoffs(disturbed, SingleProcess())

    assert f"checkpoint of epoch {epoch}{', step 3 of the next' if steps else ''}" in caplog.text
    for expected_file, found_file in zip(model_files(undisturbed), model_files(disturbed), strict=True):
        expected, _ = load_model(expected_file)
        found, _ = load_model(found_file)
        assert expected.keys() == found.keys()
        for name in expected:
            assert torch.equal(expected[name], found[name]), name


def model_files(request: LaunchRequest) -> list[Path]:
    folders = [cutoff_folder(request.folder, cutoff) for cutoff in request.cutoffs]
    return [place / MODEL_FILE for folder in folders for place in member_folders(folder, request.training.members)]


def test_a_finished_cutoff_is_not_trained_again(tmp_path: Path) -> None:
    request = small_request(tmp_path)
    train_cutoffs(request, SingleProcess())
    written = [path.stat().st_mtime_ns for path in model_files(request)]
    start = time.perf_counter()
    train_cutoffs(request, SingleProcess())
    assert [path.stat().st_mtime_ns for path in model_files(request)] == written
    assert time.perf_counter() - start < 1.0
