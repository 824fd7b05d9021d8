"""Where a lakehouse lies, and that a second job is kept out of it."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
from pathlib import Path

import pytest

from dlmine_spark.config import LakehouseConfig
from dlmine_spark.errors import DlmineError, EnvironmentProblem
from dlmine_spark.places import files_root, local_path, lock, root_of, winner_file


@pytest.mark.parametrize(
    ("root", "path"),
    [("/data/house/", "/data/house"), ("file:/data/house", "/data/house"), ("file:///data/house", "/data/house")],
)
def test_roots_on_a_file_system_have_a_path(root: str, path: str) -> None:
    assert local_path(root_of(LakehouseConfig(root=root))) == Path(path)


def test_a_relative_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert root_of(LakehouseConfig(root="house")) == str(tmp_path / "house")


def test_an_address_has_no_path_and_no_lock() -> None:
    config = LakehouseConfig(root="s3a://bucket/house")
    assert local_path(root_of(config)) is None
    with lock(config):
        pass


def test_files_beside_an_address_have_a_folder_whose_lock_keeps_others_out(tmp_path: Path) -> None:
    config = LakehouseConfig(root="s3a://bucket/house", files=str(tmp_path / "files"))
    assert files_root(config) == tmp_path / "files"
    assert winner_file(config) == tmp_path / "files" / "tuning" / "best.yaml"
    with lock(config), pytest.raises(DlmineError, match="another dlmine job"), lock(config):
        pass
    (tmp_path / "file").write_text("")
    elsewhere = config.model_copy(update={"files": str(tmp_path / "file")})
    with pytest.raises(EnvironmentProblem, match=r"lakehouse\.files .*file: cannot be written"), lock(elsewhere):
        pass


def test_a_catalog_leaves_the_root_alone(tmp_path: Path) -> None:
    with lock(LakehouseConfig(root=str(tmp_path), catalog="main")):
        assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    entered = False
    with lock(LakehouseConfig(root=str(tmp_path))):
        entered = True
    assert entered


def _try_lock(root: str, outcome: multiprocessing.Queue[str]) -> None:
    try:
        with lock(LakehouseConfig(root=root)):
            outcome.put("got it")
    except DlmineError as error:
        outcome.put(str(error))


def test_a_second_job_is_kept_out_while_the_first_one_holds_the_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    outcome: multiprocessing.Queue[str] = context.Queue()

    with lock(LakehouseConfig(root=str(tmp_path))):
        other = context.Process(target=_try_lock, args=(str(tmp_path), outcome))
        other.start()
        refused = outcome.get(timeout=60)
        other.join()
    after = context.Process(target=_try_lock, args=(str(tmp_path), outcome))
    after.start()

    assert "another dlmine job" in refused
    assert outcome.get(timeout=60) == "got it"
    after.join()


def test_a_root_that_is_a_file_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "house").write_text("")
    with (
        pytest.raises(EnvironmentProblem, match=r"lakehouse\.root .*house: cannot be written"),
        lock(LakehouseConfig(root=str(tmp_path / "house"))),
    ):
        pass
