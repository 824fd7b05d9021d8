"""Panels too large for memory: read shard by shard, mapped from files, and otherwise like any other."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from dlmine_spark.errors import EnvironmentProblem, TrainingError
from dlmine_spark.training import predict, scratch, shards, windows
from dlmine_spark.training.checkpoints import load_model
from dlmine_spark.training.comm import SingleProcess
from dlmine_spark.training.job import train_cutoffs
from dlmine_spark.training.networks import SeriesCodes, model_shape
from dlmine_spark.training.predict import MODEL_FILE, cutoff_folder, member_folders, predict_panel, write_forecasts
from dlmine_spark.training.scratch import FileRows
from dlmine_spark.training.shards import Ints, PanelArrays, PanelSource, read_categories, read_panel
from dlmine_spark.training.windows import (
    Batch,
    Origins,
    WindowBatches,
    WindowShape,
    gather,
    in_batches,
    plan_origins,
    rows_of_windows,
    seasonal_lags,
)
from tests.training.panels import SMALL, panel_rows, small_request, write_panel

CUTOFF = date(2024, 1, 6)
SHAPE = WindowShape(21, 7, seasonal_lags(7, 364))


def resharded(rows: pa.Table, count: int) -> pa.Table:
    """The rows with as many shards, series dealt to them in turn."""
    number = [int(name[1:]) % count for name in rows.column("unique_id").to_pylist()]
    return rows.set_column(rows.column_names.index("shard"), "shard", pa.array(number, pa.int32()))


def mapped(source: PanelSource, scratch: Path) -> PanelSource:
    return replace(source, in_memory_mb=0, scratch=str(scratch))


def assert_same(found: PanelArrays, expected: PanelArrays) -> None:
    for field in fields(PanelArrays):
        if field.name != "maps":
            one, other = getattr(found, field.name), getattr(expected, field.name)
            assert np.array_equal(one, other) if isinstance(other, np.ndarray) else one == other, field.name
            assert getattr(one, "dtype", None) == getattr(other, "dtype", None), field.name


@pytest.mark.parametrize("count", [1, 2, 5])
def test_arrays_are_the_same_in_memory_and_mapped_and_by_any_number_of_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    rows = panel_rows(CUTOFF, series=11, days=90)
    whole = read_panel(write_panel(tmp_path / "whole", rows), CUTOFF, 7)
    source = write_panel(tmp_path / "shards", resharded(rows, count))
    monkeypatch.setattr(shards, "READ_ROWS", 200)

    assert_same(read_panel(source, CUTOFF, 7), whole)
    from_files = read_panel(mapped(source, tmp_path), CUTOFF, 7)
    assert from_files.maps
    assert_same(from_files, whole)
    from_files.release()
    assert from_files.checksum() == whole.checksum()
    assert len(whole.paths) > 50


def test_what_is_made_from_blocks_of_series_is_made_from_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = read_panel(write_panel(tmp_path, panel_rows(CUTOFF, series=9, days=120)), CUTOFF, 7)
    expected, shape, checksum = plan_origins(arrays, SHAPE, 2), model_shape(arrays, SHAPE, SMALL), arrays.checksum()

    monkeypatch.setattr(shards, "BLOCK_ROWS", 300)

    assert [block.stop - block.start for block in arrays.blocks()] == [2, 2, 2, 2, 1]
    found = plan_origins(arrays, SHAPE, 2)
    for name in ("train", "validation", "predict"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert arrays.checksum() == checksum
    by_blocks = model_shape(arrays, SHAPE, SMALL)
    assert by_blocks.spread == pytest.approx(shape.spread, rel=1e-12)
    assert replace(by_blocks, spread=shape.spread) == shape


def test_a_mapped_panel_trains_and_forecasts_as_one_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory, from_files = small_request(tmp_path / "a"), small_request(tmp_path / "b")
    from_files = replace(from_files, source=mapped(from_files.source, tmp_path / "scratch"))
    train_cutoffs(in_memory, SingleProcess())
    monkeypatch.setattr(shards, "READ_ROWS", 300)
    train_cutoffs(from_files, SingleProcess())

    for cutoff in in_memory.cutoffs:
        folders = [cutoff_folder(request.folder, cutoff) for request in (in_memory, from_files)]
        expected, found = (load_model(member_folders(folder, 1)[0] / MODEL_FILE)[0] for folder in folders)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        pd.testing.assert_frame_equal(*(pd.read_parquet(folder / "forecasts.parquet") for folder in folders))
    gc.collect()
    assert names_in(tmp_path / "scratch") == []


def names_in(scratch: Path) -> list[str]:
    return sorted(path.name for root in scratch.glob("dlmine-panels-*") for path in root.iterdir())


def test_processes_of_a_machine_share_one_copy_and_the_last_one_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = mapped(write_panel(tmp_path / "panel", panel_rows(CUTOFF, days=60)), tmp_path / "scratch")
    first = read_panel(source, CUTOFF, 7)
    script = "import sys; from tests.training.test_large_panels import read_beside; read_beside(sys.argv[1])"
    beside = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2])
    assert beside.returncode == 0
    # The other process left the files to this one.
    assert len(names_in(tmp_path / "scratch")) == 2

    monkeypatch.setattr(shards, "_fill", lambda *_: pytest.fail("it is there already"))
    second = read_panel(source, CUTOFF, 7)
    del first
    gc.collect()
    assert len(names_in(tmp_path / "scratch")) == 2
    checksum = second.checksum()
    assert checksum == read_panel(replace(source, in_memory_mb=1), CUTOFF, 7).checksum()
    del second
    gc.collect()
    assert names_in(tmp_path / "scratch") == []


def read_beside(folder: str) -> None:
    """In another process, while this one has the panel: maps what is there."""
    shards._fill = None  # type: ignore[assignment]
    read_panel(mapped(PanelSource(f"{folder}/panel", 0), Path(folder) / "scratch"), CUTOFF, 7).checksum()


def test_whoever_comes_while_files_are_filled_waits_for_them(tmp_path: Path) -> None:
    write_panel(tmp_path / "panel", panel_rows(CUTOFF, days=60))
    script = "import sys; from tests.training.test_large_panels import fill_slowly; fill_slowly(sys.argv[1])"
    ranks = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2]) for _ in range(3)
    ]
    assert [rank.wait(180) for rank in ranks] == [0, 0, 0]
    assert len(list(tmp_path.glob("filled-*"))) == 1
    assert names_in(tmp_path / "scratch") == []


def fill_slowly(folder: str) -> None:
    """One of three processes that need a panel at the same time: one of them should fill its files."""
    fill = shards._fill

    def noted(*arguments: object) -> object:
        (Path(folder) / f"filled-{os.getpid()}").touch()
        time.sleep(0.5)
        return fill(*arguments)  # type: ignore[arg-type]

    shards._fill = noted  # type: ignore[assignment]
    panel = read_panel(mapped(PanelSource(f"{folder}/panel", 0), Path(folder) / "scratch"), CUTOFF, 7)
    (Path(folder) / f"read-{os.getpid()}").touch()
    # As ranks do, which meet before they train.
    while len(list(Path(folder).glob("read-*"))) < 3:
        time.sleep(0.05)
    panel.checksum()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    source = write_panel(tmp_path / "panel", panel_rows(CUTOFF, days=60))
    script = "import sys; from tests.training.test_large_panels import read_and_die; read_and_die(sys.argv[1])"
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert len(names_in(tmp_path / "scratch")) == 2

    # Also by one that needs no files itself.
    read_panel(replace(source, scratch=str(tmp_path / "scratch")), CUTOFF, 7)

    assert names_in(tmp_path / "scratch") == []


def read_and_die(folder: str) -> None:
    """In another process: killed while it has a panel mapped."""
    panel = read_panel(mapped(PanelSource(f"{folder}/panel", 0), Path(folder) / "scratch"), CUTOFF, 7)
    assert panel.maps
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_error_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = mapped(write_panel(tmp_path / "panel", panel_rows(CUTOFF, days=60)), tmp_path / "scratch")
    with pytest.raises(TrainingError, match=r"evaluation\.horizon is 9"):
        read_panel(source, CUTOFF, 9)
    assert names_in(tmp_path / "scratch") == []

    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(EnvironmentProblem, match=r"No space left on device; set training\.scratch to"):
        read_panel(source, CUTOFF, 7)
    assert names_in(tmp_path / "scratch") == []


def test_a_series_in_two_shards_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = panel_rows(CUTOFF, days=60)
    halves = pa.array(np.arange(rows.num_rows) % 2, pa.int32())
    source = write_panel(tmp_path, rows.set_column(rows.column_names.index("shard"), "shard", halves))
    monkeypatch.setattr(shards, "READ_ROWS", 100)
    with pytest.raises(TrainingError, match=r"series 's0' (lies in more than one shard|ends at)"):
        read_panel(source, CUTOFF, 7)


def test_codes_are_read_without_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "READ_ROWS", 3)
    source = write_panel(tmp_path, panel_rows(CUTOFF, days=60))
    expected = SeriesCodes.of(read_panel(source, CUTOFF, 7))
    found = SeriesCodes(*read_categories(source, CUTOFF))
    assert np.array_equal(found.ids, expected.ids)
    assert np.array_equal(found.category, expected.category)


def test_drawing_from_many_origins_needs_memory_for_those_drawn(tmp_path: Path) -> None:
    arrays = read_panel(write_panel(tmp_path, panel_rows(CUTOFF, days=60)), CUTOFF, 7)
    many = Origins(np.arange(10_000_000, dtype=np.int32), np.empty(0, np.int64), np.empty(0, np.int64), ())
    batches = WindowBatches(arrays, SHAPE, many, 64, 12_800, 5, SingleProcess())
    tracemalloc.start()
    order = batches.epoch_order(3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(order.tolist())) == 12_800
    assert order.dtype == np.int64
    assert peak < 2**21


def test_forecasts_are_the_same_however_many_are_made_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = small_request(tmp_path)
    train_cutoffs(request, SingleProcess())
    folder = cutoff_folder(request.folder, request.final)
    networks = predict.load_trained(folder).networks
    arrays = read_panel(request.source, request.final, 7)
    origins = plan_origins(arrays, request.window, 0).predict
    whole = predict_panel(networks, arrays, origins, request.window)

    monkeypatch.setattr(predict, "ORIGINS_AT_ONCE", 3)
    frames = list(predict.predict_cutoff(folder, request.source, request.final))
    assert [len(frame) for frame in frames] == [3 * 7, 7]
    write_forecasts(frames, tmp_path / "forecasts.parquet", request.final)
    written = pd.read_parquet(tmp_path / "forecasts.parquet")

    assert written["unique_id"].tolist() == whole["unique_id"].tolist()
    np.testing.assert_allclose(written["hi_95"], whole["hi_95"], rtol=1e-5)
    validation = pd.concat(predict.predict_rehearsal(folder, request.source, request.final))
    assert (validation["y"] > 0).all()


def test_a_folder_that_another_user_made_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(EnvironmentProblem, match=r"it belongs to another user; set training\.scratch to"):
        scratch.lease(tmp_path, "key", lambda files: files.finish({}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("history", [5, 21, 400])
def test_rows_read_ahead_are_those_that_windows_are_cut_from(tmp_path: Path, history: int) -> None:
    source = write_panel(tmp_path / "panel", panel_rows(CUTOFF, series=3, days=450))
    arrays, shape = read_panel(source, CUTOFF, 7), replace(SHAPE, history=history)
    origins = plan_origins(arrays, shape, 2).train[::37]
    expected = {"dynamic": np.zeros(arrays.rows, dtype=bool), "paths": np.zeros(len(arrays.paths), dtype=bool)}
    for name, first, end in rows_of_windows(arrays, origins, shape):
        for low, high in zip(first, end, strict=True):
            expected[name][low:high] = True
    poisoned = {name: np.where(rows[:, None], getattr(arrays, name), np.nan) for name, rows in expected.items()}

    found, whole = (gather(panel, origins, shape) for panel in (replace(arrays, **poisoned), arrays))

    assert all(not rows.all() for rows in expected.values())
    for field in fields(whole):
        assert torch.equal(getattr(found, field.name), getattr(whole, field.name)), field.name


def test_a_mapped_panel_is_told_of_batches_before_they_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = read_panel(mapped(write_panel(tmp_path / "panel", panel_rows(CUTOFF)), tmp_path), CUTOFF, 7)
    told: list[str] = []
    expect, cut = FileRows.expect, windows.gather

    def noted(rows: FileRows, first: Ints, end: Ints) -> None:
        assert rows.size in (arrays.dynamic.strides[0], arrays.paths.strides[0])
        expect(rows, first, end)
        told.append("expected")

    def gathered(*arguments: Any) -> Batch:
        told.append("cut")
        return cut(*arguments)

    monkeypatch.setattr(FileRows, "expect", noted)
    monkeypatch.setattr(windows, "gather", gathered)
    once = replace(SHAPE, lags=SHAPE.lags[:1])
    for _ in in_batches(arrays, arrays.cutoff_rows.copy(), once, size=1):
        pass

    # Rows and path of each of the four windows.
    assert told == ["expected"] * 6 + ["cut", "expected", "expected", "cut", "cut", "cut"]
    assert arrays.file_rows.keys() == {"dynamic", "paths"}
    assert read_panel(replace(PanelSource(str(tmp_path / "panel"), 0)), CUTOFF, 7).file_rows == {}


def test_the_rows_of_a_mapped_array_are_places_of_its_file(tmp_path: Path) -> None:
    np.save(tmp_path / "numbers.npy", np.arange(30.0).reshape(10, 3))
    array = np.asarray(np.load(tmp_path / "numbers.npy", mmap_mode="r"))
    rows = FileRows.of(array)
    assert rows is not None
    content = (tmp_path / "numbers.npy").read_bytes()
    place = rows.offset + 4 * rows.size
    assert np.frombuffer(content[place : place + rows.size]).tolist() == [12.0, 13.0, 14.0]
    assert FileRows.of(array.copy()) is None
