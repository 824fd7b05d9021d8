"""What is packed for a cluster: whole, runnable anywhere, and no more than needed."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import package
import pytest
from packaging.requirements import Requirement


def test_requirements_are_followed_and_what_spark_brings_is_left_out() -> None:
    found = {one.name.lower() for one in package.installed_for([Requirement("delta-spark"), Requirement("typer")])}

    assert {"delta-spark", "typer", "rich", "markdown-it-py", "importlib-metadata"} <= {
        name.replace("_", "-") for name in found
    }
    assert not found & package.LEFT_OUT


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(package.PackageError, match=r"no-such-package>=3 is not installed \(needed by the project\)"):
        package.installed_for([Requirement("no-such-package>=3")])


@pytest.mark.parametrize("compression", [0, 1])
def test_a_packed_environment_runs_wherever_it_is_unpacked(
    compression: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "requirements_of", lambda part: [Requirement("pyyaml")])
    package.pack_environment("mining", tmp_path, compression)
    place = tmp_path / "elsewhere"
    with tarfile.open(tmp_path / "environment-mining.tar.gz") as tar:
        tar.extractall(place, filter="fully_trusted")

    program = "import sys, yaml, ssl, json; print(json.dumps([sys.prefix, yaml.__file__, *sys.path[1:]]))"
    # A relative name, as executors run it, and no variable of this process.
    done = subprocess.run(
        ["./bin/python", "-c", program], cwd=place, env={}, capture_output=True, text=True, check=True
    )

    assert all(path.startswith(str(place)) for path in json.loads(done.stdout))


def test_the_same_environment_is_not_packed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(package, "requirements_of", lambda part: [Requirement("pyyaml")])
    monkeypatch.setattr(
        package, "interpreter_files", lambda python: [package.Entry("bin/python3", Path(sys.executable))]
    )
    package.pack_environment("mining", tmp_path, 0)
    package.pack_environment("mining", tmp_path, 0)
    package.pack_environment("mining", tmp_path, 1)

    assert [line.endswith("up to date") for line in capsys.readouterr().out.splitlines()] == [False, True, False]


def test_what_fails_halfway_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    def cut_off() -> None:
        with package.whole_file(tmp_path / "file") as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "environment-training.tar.partial").write_text("half")
    with package.locked(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_wheel_and_zip_hold_the_package_and_its_data(tmp_path: Path) -> None:
    assert package.main(["code", "--out", str(tmp_path)]) == 0

    (wheel,) = tmp_path.glob("dlmine_spark-*.whl")
    assert wheel.read_bytes() == (tmp_path / "dlmine_spark.zip").read_bytes()
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"dlmine_spark/cli.py", "dlmine_spark/log4j2.properties"} <= names
    assert any(name.startswith("dlmine_spark/report/assets/") for name in names)
    assert not any(name.startswith(("tests/", "scripts/", "jobs/")) for name in names)
