from __future__ import annotations

import struct
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, convert_to_deltalake, write_deltalake

from dlmine_spark.errors import TrainingError
from dlmine_spark.training.shards import Features, PanelArrays, PanelSource, panel_arrays, read_panel
from tests.training.panels import panel_rows, write_panel

CUTOFF = date(2024, 1, 6)
BEFORE = CUTOFF - timedelta(days=7)


def test_the_arrays_do_not_depend_on_files_or_row_order(tmp_path: Path) -> None:
    rows = panel_rows(CUTOFF, days=60)
    one = write_panel(tmp_path / "one", rows, panel_rows(BEFORE, days=40))
    for part in np.array_split(np.random.default_rng(4).permutation(rows.num_rows), 3):
        write_deltalake(tmp_path / "many", rows.take(pa.array(part)), mode="append", partition_by=["cutoff", "shard"])

    first, second = read_panel(one, CUTOFF, 7), read_panel(PanelSource(str(tmp_path / "many"), 2), CUTOFF, 7)

    assert first.checksum() == second.checksum()
    assert first.ids.tolist() == ["s0", "s1", "s2", "s3"]
    assert (first.ds[first.cutoff_rows] == np.datetime64(CUTOFF)).all()
    assert first.features.known_future == ("kf_calendar_weekday", "kf_promo")
    assert first.rows == rows.num_rows


def test_the_pinned_version_is_read(tmp_path: Path) -> None:
    source = write_panel(tmp_path, panel_rows(CUTOFF, days=60))
    before = read_panel(source, CUTOFF, 7).checksum()
    write_deltalake(tmp_path, panel_rows(CUTOFF, days=50), mode="overwrite")

    assert read_panel(source, CUTOFF, 7).checksum() == before
    assert read_panel(PanelSource(str(tmp_path), 1), CUTOFF, 7).checksum() != before


def test_tables_that_would_be_misread_are_refused(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", panel_rows(CUTOFF, days=40), configuration={"delta.enableDeletionVectors": "true"})
    version = DeltaTable(tmp_path / "t").version()
    with pytest.raises(TrainingError, match=r"deletionVectors \(delta\.enableDeletionVectors\)"):
        read_panel(PanelSource(str(tmp_path / "t"), version), CUTOFF, 7)


def test_column_mapping_is_refused(tmp_path: Path) -> None:
    write_deltalake(tmp_path, panel_rows(CUTOFF, days=40))
    log = tmp_path / "_delta_log" / "00000000000000000000.json"
    log.write_text(log.read_text().replace('"configuration":{}', '"configuration":{"delta.columnMapping.mode":"name"}'))
    with pytest.raises(TrainingError, match="columnMapping"):
        read_panel(PanelSource(str(tmp_path), 0), CUTOFF, 7)


def test_what_is_wrong_with_a_panel_is_said(tmp_path: Path) -> None:
    rows = panel_rows(CUTOFF, days=40)
    source = write_panel(tmp_path / "good", rows)
    with pytest.raises(TrainingError, match="no rows for cutoff 2023-12-30"):
        read_panel(source, BEFORE, 7)
    with pytest.raises(TrainingError, match=r"evaluation\.horizon is 9"):
        read_panel(source, CUTOFF, 9)
    with pytest.raises(TrainingError, match="cannot be opened"):
        read_panel(PanelSource(str(tmp_path / "nowhere"), 0), CUTOFF, 7)

    promo = rows.column_names.index("kf_promo")
    holes = pc.if_else(pc.equal(rows.column("unique_id"), "s2"), None, rows.column("kf_promo"))
    with pytest.raises(TrainingError, match=r"column kf_promo is null .* first in series 's2'"):
        read_panel(write_panel(tmp_path / "null", rows.set_column(promo, "kf_promo", holes)), CUTOFF, 7)
    with pytest.raises(TrainingError, match="more than one row for"):
        read_panel(write_panel(tmp_path / "twice", rows, rows.slice(0, 1)), CUTOFF, 7)
    blank = rows.set_column(4, "y", pa.array([None] * rows.num_rows, pa.float64()))
    with pytest.raises(TrainingError, match="y of series 's0' is no number"):
        read_panel(write_panel(tmp_path / "blank", blank), CUTOFF, 7)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    source = write_panel(tmp_path, panel_rows(CUTOFF, days=40))
    victim = next(tmp_path.rglob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(TrainingError, match="cannot be read"):
        read_panel(source, CUTOFF, 7)
    victim.unlink()
    with pytest.raises(TrainingError, match="cannot be read"):
        read_panel(source, CUTOFF, 7)


def test_a_number_that_changed_on_disk_is_an_error(tmp_path: Path) -> None:
    # Spark writes checksums of pages, and so may pyarrow.
    plain = panel_rows(CUTOFF, days=40).append_column("kf_exact", pa.array(np.full(4 * 47 - 18, 3.25)))
    file = tmp_path / "rows.parquet"
    pq.write_table(plain, file, write_page_checksum=True, compression="none", use_dictionary=False)
    convert_to_deltalake(str(tmp_path))
    source = PanelSource(str(tmp_path), 0)
    assert read_panel(source, CUTOFF, 7).rows == plain.num_rows

    # Two in a row: alone it may stand in the statistics.
    old, new = struct.pack("<2d", 3.25, 3.25), struct.pack("<2d", 3.25, 3.5)
    file.write_bytes(file.read_bytes().replace(old, new, 1))
    with pytest.raises(TrainingError, match=r"cannot be read: .*(CRC|crc)"):
        read_panel(source, CUTOFF, 7)


def test_mined_signals_can_be_left_out(tmp_path: Path) -> None:
    rows = panel_rows(CUTOFF, days=40)
    ones = pa.array([1.0] * rows.num_rows)
    sequences = {"kf_mined_sequences_pull", "po_mined_sequences_due"}
    for name in ("kf_mined_rules_pull", "sc_mined_segments", "sn_mined_segments_0", *sorted(sequences)):
        rows = rows.append_column(name, ones)
    source = write_panel(tmp_path, rows)

    everything = read_panel(source, CUTOFF, 7)
    others = {"kf_mined_rules_pull", "sc_mined_segments", "sn_mined_segments_0"}
    assert others | sequences <= set(everything.features.all)
    assert len(everything.paths) > 0

    only_rules = read_panel(source, CUTOFF, 7, mined=["rules"])
    assert set(everything.features.all) - set(only_rules.features.all) == others - {"kf_mined_rules_pull"} | sequences
    assert len(only_rules.paths) == 0
    assert len(only_rules.path_origins) == 0


@pytest.mark.parametrize("kind", ["hours", "counted"])
def test_moments_of_every_kind_are_read(tmp_path: Path, kind: str) -> None:
    def moment(day: date) -> datetime | int:
        step = (day - CUTOFF).days
        return datetime(2024, 1, 6, 5) + timedelta(hours=step) if kind == "hours" else 100 + step

    daily = panel_rows(CUTOFF, days=60)
    type_ = pa.timestamp("us") if kind == "hours" else pa.int32()
    rows = daily
    for name in ("ds", "cutoff"):
        moments = pa.array([moment(day) for day in daily.column(name).to_pylist()], type_)
        rows = rows.set_column(rows.column_names.index(name), name, moments)

    read = read_panel(write_panel(tmp_path, rows), moment(CUTOFF), 7)

    same = read_panel(write_panel(tmp_path / "daily", daily), CUTOFF, 7)
    assert read.checksum() == same.checksum()
    assert read.cutoff_rows.tolist() == same.cutoff_rows.tolist()
    assert read.ds[read.cutoff_rows].astype(object).tolist() == [moment(CUTOFF)] * 4


def test_a_series_without_a_row_on_the_cutoff_ends_with_the_one_before() -> None:
    def arrays(**starts: date) -> PanelArrays:
        days = {name: [start + timedelta(weeks=week) for week in range(6)] for name, start in starts.items()}
        ids = [name for name in days for _ in range(6)]
        rows = pa.table(
            {
                "unique_id": ids,
                "ds": pa.array([day for own in days.values() for day in own], pa.date32()),
                "y": [1.0] * len(ids),
                "mask": pa.array([1] * len(ids), pa.int32()),
                "open": pa.array([1] * len(ids), pa.int32()),
                "arima_path": pa.nulls(len(ids), pa.list_(pa.float64())),
            }
        )
        return panel_arrays(rows, Features((), (), (), ()), date(2024, 1, 22), 2)

    # On the Monday itself, and four days before it.
    assert arrays(mon=date(2024, 1, 1), thu=date(2023, 12, 28)).cutoff_rows.tolist() == [3, 9]
    for late in (date(2024, 1, 8), date(2023, 12, 25)):
        with pytest.raises(TrainingError, match=r"'thu' ends at .*, which is not 2 steps after the cutoff 2024-01-22"):
            arrays(mon=date(2024, 1, 1), thu=late)
