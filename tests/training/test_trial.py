"""A trial: judged on windows that nothing of it has seen, given up in time, and gone on with after a kill."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dlmine_spark.errors import TrainingError
from dlmine_spark.training import trial as trials
from dlmine_spark.training.checkpoints import unpack
from dlmine_spark.training.loop import TrainState
from dlmine_spark.training.shards import Features, PanelArrays, panel_arrays
from dlmine_spark.training.trial import SelectionRequest, TrialRequest, TrialResult, plan_selection, train_trial
from tests.training.panels import FINAL, SMALL, panel_rows, request_for, write_panel

CUTOFF = FINAL - timedelta(days=7)
CONFIG = SMALL.model_copy(update={"epochs": 4, "validation_origins": 1})
SELECTION = SelectionRequest(origins=2, until=None, history=14)


def request(folder: Path, rows: pa.Table | None = None, limits: tuple[float, ...] = (math.inf,)) -> TrialRequest:
    write_panel(folder / "panel", panel_rows(CUTOFF) if rows is None else rows)
    launch = replace(request_for(CUTOFF, folder, CONFIG), backtest=(), folder=folder / "trial")
    return TrialRequest(launch, SELECTION, (2, 4), limits)


def arrays_of(rows: pa.Table) -> PanelArrays:
    return panel_arrays(rows, Features.of(rows.column_names), CUTOFF, horizon=7)


def test_selection_windows_end_at_the_cutoff_and_nothing_of_them_is_left_to_learn_from() -> None:
    arrays = arrays_of(panel_rows(CUTOFF))
    window = replace(request_for(CUTOFF).window, history=21)
    selection = plan_selection(arrays, window, 1, SELECTION)

    assert (selection.first, selection.last) == (CUTOFF - timedelta(days=13), CUTOFF)
    assert len(selection.rows) == 2 * len(arrays.ids)
    held_out = arrays.ds > np.datetime64(CUTOFF - timedelta(days=14))
    assert not selection.known.mask[held_out].any()
    assert not selection.known.y[held_out].any()
    np.testing.assert_array_equal(selection.known.mask[~held_out], arrays.mask[~held_out])
    # Validation windows end where the selection windows begin, training windows before those.
    last = arrays.ds[selection.origins.validation + window.horizon].max()
    assert last == np.datetime64(CUTOFF - timedelta(days=14))
    assert arrays.ds[selection.origins.train + window.horizon].max() == last - np.timedelta64(7, "D")


def test_selection_windows_may_end_before_the_cutoff() -> None:
    arrays = arrays_of(panel_rows(CUTOFF))
    until = CUTOFF - timedelta(days=10)
    selection = plan_selection(arrays, request_for(CUTOFF).window, 1, replace(SELECTION, until=until))
    assert selection.last == until
    assert not selection.known.mask[arrays.ds > np.datetime64(until - timedelta(days=14))].any()


def test_what_happens_in_the_selection_windows_changes_the_error_and_not_the_network(tmp_path: Path) -> None:
    rows = panel_rows(CUTOFF)
    at = rows.column_names.index("y")
    is_held = np.array(rows["ds"].to_pylist()) > CUTOFF - timedelta(days=14)
    y = np.array(rows["y"].to_pylist(), dtype=float)
    doubled = rows.set_column(at, "y", pa.array(np.where(is_held, 2 * y, y), from_pandas=True))
    results, weights = [], []
    for folder, panel in ((tmp_path / "a", rows), (tmp_path / "b", doubled)):
        results.append(train_trial(request(folder, panel)))
        checkpoint = next((folder / "trial" / "checkpoints").iterdir())
        weights.append(unpack(checkpoint.read_bytes(), str(checkpoint))["best_weights"])

    as_it_was, changed = results
    assert changed.values[-1] > as_it_was.values[-1] + 0.1
    assert all(tensor.equal(weights[1][name]) for name, tensor in weights[0].items())


def test_one_that_is_worse_than_the_limit_is_given_up_and_the_others_are_trained_to_the_end(tmp_path: Path) -> None:
    full = train_trial(request(tmp_path / "full"))
    assert (full.outcome, full.epochs, len(full.values)) == ("complete", 4, 2)
    assert full.values[-1] < 0.5
    given_up = train_trial(request(tmp_path / "pruned", limits=(full.values[0] / 2,)))
    assert (given_up.outcome, given_up.epochs, given_up.values) == ("pruned", 2, full.values[:1])
    just_so = train_trial(request(tmp_path / "as_good", limits=(full.values[0],)))
    assert just_so.values == full.values


def test_a_killed_trial_goes_on_and_comes_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = train_trial(request(tmp_path / "a"))
    asked = request(tmp_path / "b")
    save = trials.CheckpointStore.save
    epochs: list[int] = []

    def killed_in_epoch_4(store: trials.CheckpointStore, state: TrainState, manifest: dict[str, object]) -> Path:
        epochs.append(state.epoch)
        if len(epochs) == 4:
            raise KeyboardInterrupt
        return save(store, state, manifest)

    with monkeypatch.context() as patch:
        patch.setattr(trials.CheckpointStore, "save", killed_in_epoch_4)
        with pytest.raises(KeyboardInterrupt):
            train_trial(asked)
        patch.setattr(trials.CheckpointStore, "save", lambda *given: (epochs.append(given[1].epoch), save(*given))[1])
        again = train_trial(asked)
    assert epochs == [1, 2, 3, 4, 4]
    assert (again.outcome, again.values) == (undisturbed.outcome, undisturbed.values)
    # A checkpoint whose progress is lost cannot tell what its earlier rungs were worth.
    (tmp_path / "b" / "trial" / trials.PROGRESS_FILE).unlink()
    assert train_trial(asked).values == undisturbed.values


def test_a_loss_that_is_no_number_is_an_outcome_and_no_error(tmp_path: Path) -> None:
    asked = request(tmp_path)
    wild = CONFIG.model_copy(update={"learning_rate": 1e30, "clip": 1e30})
    result = train_trial(replace(asked, launch=replace(asked.launch, training=wild)))
    assert result.outcome == "failed"
    assert "no number" in result.error
    assert TrialResult.from_json(result.to_json()) == result


def test_it_may_be_too_late_to_begin(tmp_path: Path) -> None:
    assert train_trial(replace(request(tmp_path), deadline=0.0)).outcome == "late"


def test_one_series_is_enough(tmp_path: Path) -> None:
    assert train_trial(request(tmp_path, panel_rows(CUTOFF, series=1))).outcome == "complete"


@pytest.mark.parametrize(("days", "message"), [(12, "leave nothing to train on"), (3, "no series has a known value")])
def test_a_history_too_short_to_keep_windows_apart_is_refused(days: int, message: str) -> None:
    arrays = arrays_of(panel_rows(CUTOFF, series=1, days=days))
    with pytest.raises(TrainingError, match=rf"gold\.training_panel, cutoff {CUTOFF}: .*{message}.*tuning\.origins"):
        plan_selection(arrays, request_for(CUTOFF).window, 1, SELECTION)
