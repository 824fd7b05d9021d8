from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from dlmine_spark.errors import TrainingError
from dlmine_spark.training.comm import SingleProcess, slice_of
from dlmine_spark.training.shards import Features, PanelArrays, panel_arrays
from dlmine_spark.training.windows import (
    SeasonalLag,
    WindowBatches,
    WindowShape,
    gather,
    input_groups,
    permuted,
    plan_origins,
    plan_rehearsal,
    seasonal_lags,
)
from tests.training.panels import panel_rows

CUTOFF = date(2024, 1, 6)


def tiny_arrays(*, path_at: int | None = None) -> PanelArrays:
    """Series a: y = 1..6 up to the cutoff and two steps to forecast; series b: 5, 6 only. In a jumbled order."""
    ds = [CUTOFF + timedelta(days=step) for step in range(-5, 3)]
    rows = [
        ("a", day, float(at + 1) if at < 6 else None, int(at < 6), 10.0 + at, 20.0 + at) for at, day in enumerate(ds)
    ]
    rows += [("b", day, y, m, 0.5, 0.0) for day, y, m in zip(ds[4:], (5.0, 6.0, None, None), (1, 1, 0, 0), strict=True)]
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    path = [[100.0, 200.0] if path_at is not None and r[0] == "a" and r[1] == ds[path_at] else None for r in rows]
    names = ("unique_id", "ds", "y", "mask", "kf_x", "po_z")
    table = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    table |= {"open": [1] * len(rows), "sn_size": [1.0 if row[0] == "a" else 2.0 for row in rows]}
    table |= {"sc_kind": [1.0 if row[0] == "a" else 2.0 for row in rows]}
    arrow = pa.table(table).append_column("arima_path", pa.array(path, pa.list_(pa.float64())))
    arrow = arrow.set_column(1, "ds", arrow.column("ds").cast(pa.date32()))
    return panel_arrays(arrow, Features.of(arrow.column_names), CUTOFF, horizon=2)


SHAPE = WindowShape(history=3, horizon=2, lags=(SeasonalLag(2), SeasonalLag(2, extra=2)))


def test_a_window_shows_the_past_and_what_is_known_of_the_future() -> None:
    batch = gather(tiny_arrays(), np.array([3]), SHAPE)

    assert batch.y.tolist() == [[2.0, 3.0, 4.0]]
    assert batch.target.tolist() == [[5.0, 6.0]]
    assert batch.past[0].tolist() == [[1, 1, 11, 21], [1, 1, 12, 22], [1, 1, 13, 23]]  # valid, open, kf_x, po_z
    assert batch.future.tolist() == [[[14.0], [15.0]]]  # kf_x only: a past-only value never enters the horizon
    assert batch.lags.tolist() == [[[3.0, 1.0], [4.0, 2.0]]]  # two steps before each target, and two before that
    assert batch.category.tolist() == [[1]]


def test_a_short_series_is_padded_and_never_sees_its_neighbour() -> None:
    batch = gather(tiny_arrays(), np.array([9]), SHAPE)  # the cutoff of series b, its second row

    assert batch.series.tolist() == [1]
    assert batch.y.tolist() == [[0.0, 5.0, 6.0]]
    assert batch.mask.tolist() == [[0.0, 1.0, 1.0]]
    assert batch.past[0, 0].tolist() == [0, 0, 0, 0]
    assert batch.lags_known.tolist() == [[[1.0, 0.0], [1.0, 0.0]]]
    assert batch.target_mask.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("origin", "path", "known"),
    [
        (3, [100.0, 200.0], [1.0, 1.0]),
        (4, [200.0, 0.0], [1.0, 0.0]),  # made a step before: its second step is the first of this horizon
        (5, [0.0, 0.0], [0.0, 0.0]),
        (2, [0.0, 0.0], [0.0, 0.0]),
        (9, [0.0, 0.0], [0.0, 0.0]),  # another series
    ],
)
def test_an_arima_path_serves_as_far_as_it_reaches(origin: int, path: list[float], known: list[float]) -> None:
    batch = gather(tiny_arrays(path_at=3), np.array([origin]), SHAPE)

    assert batch.path.tolist() == [path]
    assert batch.path_known.tolist() == [known]


def test_seasonal_lags_look_back_four_seasons_and_a_year() -> None:
    assert seasonal_lags(7, 364) == (
        SeasonalLag(7),
        SeasonalLag(7, 7),
        SeasonalLag(7, 14),
        SeasonalLag(7, 21),
        SeasonalLag(364),
    )
    assert seasonal_lags(12, 12) == tuple(SeasonalLag(12, 12 * back) for back in range(4))


def long_arrays(series: int = 3, days: int = 120, horizon: int = 7) -> PanelArrays:
    rows = panel_rows(CUTOFF, series=series, days=days, horizon=horizon)
    return panel_arrays(rows, Features.of(rows.column_names), CUTOFF, horizon=horizon)


LONG = WindowShape(history=14, horizon=7, lags=(SeasonalLag(7),))


def test_no_training_horizon_reaches_into_the_validation_region() -> None:
    arrays = long_arrays()
    origins = plan_origins(arrays, LONG, validation_origins=2)

    distance = arrays.cutoff_rows[np.searchsorted(arrays.starts, origins.train, side="right") - 1] - origins.train
    assert distance.min() == 7 * 3  # its horizon ends where the first validation origin lies
    back = arrays.cutoff_rows[:, None] - np.array([14, 7])
    assert origins.validation.tolist() == sorted(back.ravel().tolist())
    assert origins.predict.tolist() == arrays.cutoff_rows.tolist()


def test_short_series_give_up_validation_before_training() -> None:
    origins = plan_origins(long_arrays(series=1, days=45), LONG, validation_origins=2)
    assert len(origins.train) >= 20
    assert len(origins.validation) == 0
    assert "0 validation origins instead of 2" in origins.note

    shortest = plan_origins(long_arrays(series=1, days=9), LONG, validation_origins=2)
    assert len(shortest.train) > 0
    assert "0 validation origins instead of 2" in shortest.note


def test_without_validation_the_newest_windows_have_a_part_of_their_horizon() -> None:
    arrays = long_arrays(series=2, horizon=12)
    origins = plan_origins(arrays, replace(LONG, horizon=12), validation_origins=0)
    distance = arrays.cutoff_rows[np.searchsorted(arrays.starts, origins.train, side="right") - 1] - origins.train
    assert distance.min() == 3
    assert not origins.note

    shortest = plan_origins(long_arrays(series=1, days=6, horizon=12), replace(LONG, horizon=12), validation_origins=2)
    assert len(shortest.train) > 0
    assert "partly known" in shortest.note


def test_a_rehearsal_sees_nothing_of_the_last_horizon() -> None:
    shape = replace(LONG, horizon=12)
    arrays = long_arrays(series=2, horizon=12)
    origins = plan_rehearsal(arrays, shape)
    distance = arrays.cutoff_rows[np.searchsorted(arrays.starts, origins.train, side="right") - 1] - origins.train
    assert distance.min() == 12 + 3
    assert len(origins.validation) == 0

    changed = arrays.dynamic.copy()
    for row in arrays.cutoff_rows:
        changed[row - 11 : row + 1, :2] = 1_000.0
    batches = WindowBatches(arrays, shape, origins, 16, 160, 5, SingleProcess())
    altered = replace(batches, arrays=replace(arrays, dynamic=changed))
    known = 0.0
    for batch, other in zip(batches.train(0), altered.train(0), strict=True):
        for field in ("y", "mask", "lags", "target", "target_mask"):
            assert torch.equal(getattr(batch, field), getattr(other, field)), field
        known += float(batch.target_mask[:, -1].sum())
    assert known  # windows whose whole horizon lies before it are among them


def test_series_without_known_values_are_named_and_all_of_them_refused() -> None:
    rows = panel_rows(CUTOFF, series=2, days=60, horizon=7)
    dark = pc.equal(rows.column("unique_id"), "s1")
    masked = rows.set_column(5, "mask", pc.if_else(dark, pa.scalar(0, pa.int32()), rows.column("mask")))
    masked = masked.rename_columns(rows.column_names)
    arrays = panel_arrays(masked, Features.of(rows.column_names), CUTOFF, horizon=7)
    assert plan_origins(arrays, LONG, 1).skipped == ("s1",)

    nothing = rows.set_column(5, "mask", pa.array([0] * rows.num_rows, pa.int32()))
    with pytest.raises(TrainingError, match="no series has 5 known values"):
        plan_origins(panel_arrays(nothing, Features.of(rows.column_names), CUTOFF, horizon=7), LONG, 1)


class Rank(SingleProcess):
    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def batches_of(rank: int, size: int, batch_size: int = 10) -> WindowBatches:
    arrays = long_arrays()
    return WindowBatches(arrays, LONG, plan_origins(arrays, LONG, 2), batch_size, 100, 5, Rank(rank, size))


def test_ranks_share_the_global_batches_of_one_rank_with_equal_steps() -> None:
    alone = [batch.origins.tolist() for batch in batches_of(0, 1).train(epoch=2)]
    shared = [list(batches_of(rank, 3).train(epoch=2)) for rank in range(3)]

    assert {len(batches) for batches in shared} == {len(alone)} == {batches_of(0, 3).steps} == {10}
    for step, together in enumerate(alone):
        assert [row for batches in shared for row in batches[step].origins.tolist()] == together
    assert alone != [batch.origins.tolist() for batch in batches_of(0, 1).train(epoch=3)]


def test_ranks_share_the_validation_windows() -> None:
    rows = [row for rank in range(4) for batch in batches_of(rank, 4).validation() for row in batch.origins.tolist()]
    assert rows == batches_of(0, 1).origins.validation.tolist()


def test_slices_cover_everything_once() -> None:
    for total, size in [(64, 2), (10, 3), (2, 4)]:
        covered = [at for rank in range(size) for at in range(total)[slice_of(total, Rank(rank, size))]]
        assert covered == list(range(total))


def test_permuting_an_input_changes_it_in_past_and_future_alone() -> None:
    arrays = tiny_arrays()
    batch = gather(arrays, np.array([3, 9]), SHAPE)
    groups = {group.name: group for group in input_groups(arrays.features, SHAPE)}
    assert set(groups) == {"history", "seasonal values", "arima_path", "kf_x", "po_z", "sn_size", "sc_kind"}

    swapped = permuted(batch, groups["kf_x"], np.array([1, 0]))
    assert swapped.future[0].tolist() == batch.future[1].tolist()
    assert swapped.past[0, :, 2].tolist() == batch.past[1, :, 2].tolist()
    assert swapped.past[..., [0, 1, 3]].tolist() == batch.past[..., [0, 1, 3]].tolist()
    assert swapped.y.tolist() == batch.y.tolist()
