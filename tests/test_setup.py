"""Set-up's own decisions, tested without installing anything: stamps, interpreters, jars, messages."""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
import time
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load_setup() -> ModuleType:
    """The script as a module; it lies in no package since it runs before anything is installed."""
    spec = importlib.util.spec_from_file_location("dlmine_setup", ROOT / "scripts" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


setup = load_setup()


def test_a_stamp_holds_for_its_inputs_only(tmp_path: Path) -> None:
    stamps = setup.Stamps(tmp_path / "stamps")
    assert not stamps.holds("packages", "a")
    stamps.write("packages", "a", status="ok")
    assert stamps.holds("packages", "a")
    assert not stamps.holds("packages", "b")
    assert not stamps.holds("jars", "a")
    assert stamps.read("packages") == {"key": "a", "status": "ok"}


@pytest.mark.parametrize("left_over", ["", "{", '"text"'])
def test_a_damaged_stamp_is_no_stamp(tmp_path: Path, left_over: str) -> None:
    (tmp_path / "packages.json").write_text(left_over)
    assert setup.Stamps(tmp_path).read("packages") == {}


def test_a_stamp_cut_off_while_written_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "packages.partial").write_text('{"key": "a"}')
    assert not setup.Stamps(tmp_path).holds("packages", "a")


def test_fingerprint_sees_the_content_of_files(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("numpy==2.4.6\n")
    before = setup.fingerprint(pins, "spark,dev", (3, 11))
    assert setup.fingerprint(pins, "spark,dev", (3, 11)) == before
    assert setup.fingerprint(pins, "spark,train,dev", (3, 11)) != before
    pins.write_text("numpy==2.4.7\n")
    assert setup.fingerprint(pins, "spark,dev", (3, 11)) != before


VERSIONS = {"python3.11": (3, 11), "python3": (3, 13), "old": (3, 9), "python3.12": (3, 12)}


def test_the_first_python_that_runs_and_is_right_is_chosen() -> None:
    assert setup.choose_python(None, ["python3", "shim", "python3.11", "python3.12"], VERSIONS.get) == "python3.11"


def test_the_requested_python_is_taken_or_refused() -> None:
    assert setup.choose_python("python3.12", ["python3.11"], VERSIONS.get) == "python3.12"
    with pytest.raises(setup.SetupError, match=r"--python old: it is not Python 3\.11 or newer"):
        setup.choose_python("old", ["python3.11"], VERSIONS.get)


def test_no_python_says_what_to_install() -> None:
    with pytest.raises(setup.SetupError, match=r"missing: Python 3\.11.*apt-get install -y python3\.11") as caught:
        setup.choose_python(None, ["python3", "shim"], VERSIONS.get)
    assert "\n" not in str(caught.value)


def test_a_shim_that_exists_and_fails_is_no_python(tmp_path: Path) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert setup.python_version(shim) is None
    assert setup.python_version(sys.executable) == sys.version_info[:2]


def test_everything_missing_is_said_in_one_line(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "JAVA_HOME": str(tmp_path / "jdk")}
    missing = [setup.missing_java(environment), setup.Missing("make", "make", "xcode-select --install")]
    compiler = setup.Missing("a C++ compiler", "g++", "xcode-select --install")
    assert setup.missing_message([*missing, compiler]) == (
        f"missing: Java 17 or newer (JAVA_HOME is {tmp_path / 'jdk'}); make; a C++ compiler. "
        "Install it with: apt-get install -y openjdk-17-jre-headless make g++ (Debian, Ubuntu), "
        "or brew install openjdk@17 && xcode-select --install (macOS)"
    )


def test_make_and_compiler_are_needed_for_horovod_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "missing_java", lambda environment: None)
    monkeypatch.setattr(setup, "compiler_version", lambda environment: None)
    environment = {"PATH": str(tmp_path)}
    assert [item.debian for item in setup.missing_tools(environment, for_horovod=True)] == ["make", "g++"]
    assert setup.missing_tools(environment, for_horovod=False) == []


def distribution(site_packages: Path, name: str, files: list[str], record: list[str] | None) -> Path:
    """An installed package of empty files, with a RECORD that may say otherwise."""
    metadata = site_packages / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    for file in files:
        (site_packages / file).parent.mkdir(exist_ok=True)
        (site_packages / file).touch()
    if record is not None:
        (metadata / "RECORD").write_text("".join(f"{line},sha256=x,0\n" for line in record))
    return metadata


def test_packages_cut_off_half_way_are_found(tmp_path: Path) -> None:
    distribution(tmp_path, "whole", ["whole/a.py"], ["whole/a.py", "whole/__pycache__/a.pyc", '"whole/a.py"'])
    cut = distribution(tmp_path, "cut", ["cut/a.py"], ["cut/a.py", "cut/b.py"])
    early = distribution(tmp_path, "early", [], None)
    assert setup.damaged_distributions(tmp_path) == [cut, early]


def jar(folder: Path, name: str, *classes: str) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for entry in (*classes, "META-INF/MANIFEST.MF", "module-info.class"):
            archive.writestr(entry, "")
    return folder / name


def test_only_jars_that_spark_lacks_are_added(tmp_path: Path) -> None:
    spark = [
        jar(tmp_path / "spark", "slf4j-api-2.0.17.jar", "org/slf4j/Logger.class"),
        jar(tmp_path / "spark", "jcl-over-slf4j-2.0.17.jar", "org/apache/commons/logging/Log.class"),
    ]
    delta = jar(tmp_path / "ivy", "delta-spark_4.2_2.13-4.4.0.jar", "io/delta/sql/Extension.class")
    resolved = [
        delta,
        jar(tmp_path / "ivy", "slf4j-api-2.0.13.jar", "org/slf4j/Older.class"),
        jar(tmp_path / "ivy", "commons-logging-1.3.0.jar", "org/apache/commons/logging/Log.class"),
    ]
    assert setup.jars_to_add(resolved, spark) == [delta]


@pytest.mark.parametrize(
    ("name", "artifact"),
    [
        ("delta-spark_4.2_2.13-4.4.0.jar", "delta-spark_4.2_2.13"),
        ("zstd-jni-1.5.7-3.jar", "zstd-jni"),
        ("log4j-slf4j2-impl-2.25.3.jar", "log4j-slf4j2-impl"),
        ("jackson-datatype-jdk8-2.13.5.jar", "jackson-datatype-jdk8"),
    ],
)
def test_artifact_of(name: str, artifact: str) -> None:
    assert setup.artifact_of(name) == artifact


def test_a_wheel_cut_off_while_written_is_not_taken(tmp_path: Path) -> None:
    wheel = tmp_path / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl"
    jar(tmp_path, wheel.name, "horovod/torch.so")
    assert setup.complete_wheel(tmp_path) == wheel
    wheel.write_bytes(wheel.read_bytes()[:-30])
    assert setup.complete_wheel(tmp_path) is None


def test_the_environment_overrides_the_build_settings() -> None:
    assert setup.horovod_settings({"PATH": "/bin"}) == setup.HOROVOD_DEFAULTS
    assert setup.horovod_settings({"HOROVOD_CYCLE_TIME": "5"}) == setup.HOROVOD_DEFAULTS
    settings = setup.horovod_settings({"HOROVOD_GPU_OPERATIONS": "NCCL", "HOROVOD_WITH_MPI": "1"})
    assert settings["HOROVOD_GPU_OPERATIONS"] == "NCCL"
    assert "HOROVOD_WITHOUT_MPI" not in settings


def test_a_wheel_that_an_orphaned_build_finished_is_taken(tmp_path: Path) -> None:
    project = setup.Project(tmp_path, tmp_path / "cache")
    project.python.parent.mkdir(parents=True)
    project.python.symlink_to(sys.executable)
    jar(tmp_path, "horovod-0.28.1-py3-none-any.whl", "horovod/torch.so")
    finished = tmp_path / "cache" / "horovod-key.building" / "wheel"
    finished.mkdir(parents=True)
    (tmp_path / "horovod-0.28.1-py3-none-any.whl").rename(finished / "horovod-0.28.1-py3-none-any.whl")
    target = tmp_path / "cache" / "horovod-key"
    setup.build_horovod(project, "horovod==0.28.1", target, setup.Machine(tmp_path / "logs"))
    assert setup.complete_wheel(target) is not None
    assert not finished.parent.exists()


@pytest.mark.parametrize(("cores", "memory", "jobs"), [(2, 24.0, 2), (16, 8.0, 4), (8, 1.0, 1)])
def test_compilers_fit_into_memory(cores: int, memory: float, jobs: int) -> None:
    assert setup.compile_jobs(cores, memory) == jobs


def test_choices_are_remembered_until_told_otherwise(tmp_path: Path) -> None:
    project = setup.Project(tmp_path, tmp_path / "cache")
    chosen = setup.remembered_choices(project, setup.parse_arguments(["--without-training"]))
    assert (chosen.training, chosen.horovod, chosen.extras) == (False, False, "spark,connect,dev")
    setup.remember_choices(project, chosen)
    assert setup.remembered_choices(project, setup.parse_arguments([])) == chosen
    assert setup.remembered_choices(project, setup.parse_arguments(["--complete"])) == setup.Choices()
    # `make s3` adds to what there is, and later runs keep it.
    setup.remember_choices(project, setup.remembered_choices(project, setup.parse_arguments(["--with-s3"])))
    again = setup.remembered_choices(project, setup.parse_arguments([]))
    assert (again.training, again.s3) == (False, True)


def test_a_failing_command_names_its_last_words_and_its_log(tmp_path: Path) -> None:
    machine = setup.Machine(tmp_path / "logs")
    with pytest.raises(setup.SetupError, match=r"no compiler \(log: .*horovod\.log\)"):
        machine.run([sys.executable, "-c", "import sys; sys.exit('no compiler')"], "horovod")


def hold_lock(folder: Path, seconds: float) -> None:
    with setup.Machine(folder).locked(folder):
        (folder / "held").touch()
        time.sleep(seconds)


def test_a_second_set_up_waits_for_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = multiprocessing.get_context("fork").Process(target=hold_lock, args=(tmp_path, 0.5))
    first.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with setup.Machine(tmp_path).locked(tmp_path):
        assert "waiting" in capsys.readouterr().out
    first.join()


def test_every_version_is_pinned_and_no_address_is_kept() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(pin.count("==") == 1 and "/" not in pin and ";" not in pin for pin in pins)
    assert {"uv", "horovod", "torch", "pyspark", "delta-spark"} <= {pin.partition("==")[0] for pin in pins}
