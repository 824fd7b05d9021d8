"""Damaged files and tables of local folders, told before Spark is asked."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from dlmine_spark.config import SourceConfig, load_config
from dlmine_spark.damage import damage_of_log, newest_commit, unreadable_log
from dlmine_spark.doctor import check_tables
from dlmine_spark.errors import SourceError
from dlmine_spark.guessing.samples import look_at
from dlmine_spark.sources.files import files_of


def write_log(folder: Path, commits: dict[int, str], checkpoint: tuple[int, bytes] | None = None) -> Path:
    """The log of a table: the text of each commit, and the bytes of a checkpoint."""
    log_folder = folder / "_delta_log"
    log_folder.mkdir(parents=True)
    for version, text in commits.items():
        (log_folder / f"{version:020}.json").write_text(text, encoding="utf-8")
    if checkpoint is not None:
        (log_folder / f"{checkpoint[0]:020}.checkpoint.parquet").write_bytes(checkpoint[1])
    return log_folder


GOOD, WHOLE = '{"commitInfo": {}}\n{"add": {}}\n', b"PAR1 and so on PAR1"


@pytest.mark.parametrize(
    ("commits", "checkpoint", "damage"),
    [
        ({0: GOOD, 1: GOOD}, None, None),
        ({}, None, None),
        ({2: GOOD, 3: GOOD}, (2, WHOLE), None),
        # What a checkpoint replaces is not read any more.
        ({1: "{", 3: GOOD}, (2, WHOLE), None),
        ({0: GOOD, 2: GOOD}, None, "its log has no commit 1"),
        ({4: GOOD}, (2, WHOLE), "its log has no commit 3"),
        ({0: GOOD, 1: '{"add": {"pa'}, None, "commit 1 of its log (00000000000000000001.json) is no JSON"),
        ({0: ""}, None, "commit 0 of its log (00000000000000000000.json) is no JSON"),
        ({2: GOOD}, (2, WHOLE[:-2]), "its log's checkpoint 00000000000000000002.checkpoint.parquet is cut off"),
    ],
)
def test_what_a_log_lacks(
    tmp_path: Path, commits: dict[int, str], checkpoint: tuple[int, bytes] | None, damage: str | None
) -> None:
    log_folder = write_log(tmp_path, commits, checkpoint)

    assert damage_of_log(log_folder) == damage
    assert newest_commit(log_folder) == max(commits, default=None)


@pytest.mark.parametrize("name", ["80a083e8.json", "80a083e8.parquet", "0000000001.0000000002.parquet"])
def test_checkpoints_of_other_names_replace_commits_too(tmp_path: Path, name: str) -> None:
    log_folder = write_log(tmp_path, {2: GOOD, 3: GOOD})
    (log_folder / f"{2:020}.checkpoint.{name}").write_bytes(WHOLE)
    assert damage_of_log(log_folder) is None


def test_a_folder_without_a_log_is_not_damaged(tmp_path: Path) -> None:
    assert (damage_of_log(tmp_path / "_delta_log"), newest_commit(tmp_path / "_delta_log")) == (None, None)


def test_a_damaged_source_is_named_by_clean_and_by_init(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    deltalake.write_deltalake(str(tmp_path / "sales"), pa.table({"y": [1]}))
    (tmp_path / "sales" / "_delta_log" / f"{0:020}.json").write_text("{", encoding="utf-8")

    for look in (
        lambda path: files_of("sales", SourceConfig(kind="table", format="delta", path=path)),
        look_at,
    ):
        with pytest.raises(SourceError, match=r"sales: is damaged, commit 0 of its log .* is no JSON: bring that file"):
            look(str(tmp_path / "sales"))


def test_the_doctor_names_damaged_tables(tmp_path: Path) -> None:
    config = load_config(overrides=[f"lakehouse.root={tmp_path}"])
    assert list(check_tables(config)) == []
    write_log(tmp_path / "silver" / "lines", {0: GOOD})
    assert [(one.name, one.status) for one in check_tables(config)] == [("tables", "ok")]
    write_log(tmp_path / "silver" / "panel", {1: GOOD})
    assert [(one.name, one.status) for one in check_tables(config)] == [("table silver.panel", "fail")]


def test_what_delta_says_of_a_log_that_only_spark_can_read() -> None:
    text = "[DELTA_VERSIONS_NOT_CONTIGUOUS] Versions (0, 2) are not contiguous."
    assert unreadable_log(text) == "DELTA_VERSIONS_NOT_CONTIGUOUS"
    assert unreadable_log("[TABLE_OR_VIEW_NOT_FOUND] delta.`x`") is None
