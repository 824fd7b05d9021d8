"""Sets the project up in a fresh clone: its own environment, pinned packages, Delta's jars, Horovod.

Standard library only: any Python from 3.11 on runs it (``make setup`` finds one). Each step leaves a stamp,
keyed by what went into it, once it is done; so nothing is done twice, and a run that was cut off anywhere,
even by ``kill -9``, is simply started again. What takes long to make and belongs to no single clone (the
Horovod wheel, Delta's jars) is kept in a cache of the user's: ``$XDG_CACHE_HOME/dlmine-spark``, or
``~/.cache/dlmine-spark``.

Exit codes: 0 done (a Horovod that cannot be built is a warning, training then uses another backend), 2 wrong
usage, 3 something is missing on the machine or a step failed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON, PYTHON_LIMIT = (3, 11), (3, 13)
OLDEST_JAVA = 17
SCALA = "2.13"
POSTGRESQL_DRIVER = "org.postgresql:postgresql:42.7.7"
HOROVOD_DEFAULTS = {
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_MPI": "1",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
}
HOROVOD_BUILD_PREFIXES = tuple(
    f"HOROVOD_{word}" for word in ("WITH", "BUILD", "CMAKE", "CPU_OPERATIONS", "CUDA", "GPU", "NCCL", "ROCM")
)
"""The user's variables that change what is built; others (HOROVOD_CYCLE_TIME) matter only when it runs."""
GIB_PER_COMPILER = 2
"""Memory that one compiler process may need on torch's headers, in GiB."""


Command = Sequence[str | Path]
"""A program and its arguments."""


class SetupError(Exception):
    """What stops set-up, as the one line that a user reads."""


# --- What the machine has -------------------------------------------------------------------------


@dataclass(frozen=True)
class Missing:
    """Something the machine lacks, and the packages that bring it."""

    what: str
    debian: str
    macos: str


def missing_message(missing: Sequence[Missing]) -> str:
    """Name everything that is missing and how to install all of it, in one line."""
    debian = " ".join(dict.fromkeys(word for item in missing for word in item.debian.split()))
    macos = " && ".join(dict.fromkeys(item.macos for item in missing))
    return (
        f"missing: {'; '.join(item.what for item in missing)}. "
        f"Install it with: apt-get install -y {debian} (Debian, Ubuntu), or {macos} (macOS)"
    )


def output_of(command: Command) -> str | None:
    """Return what a short command prints (both streams), or None where it cannot be run or fails."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def python_version(python: str | Path) -> tuple[int, int] | None:
    """Return the version of an interpreter, or None if it does not run (a pyenv shim may exist and fail)."""
    printed = output_of([python, "-c", "import sys; print(*sys.version_info[:2])"])
    numbers = re.search(r"^(\d+) (\d+)\s*$", printed or "", re.MULTILINE)
    return (int(numbers[1]), int(numbers[2])) if numbers else None


def choose_python(
    requested: str | None,
    candidates: Sequence[str],
    version_of: Callable[[str], tuple[int, int] | None] = python_version,
) -> str:
    """Return the interpreter to make .venv with: the requested one, else the first that is right."""
    wanted = f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, below {'.'.join(map(str, PYTHON_LIMIT))}"
    for python in [requested] if requested else candidates:
        version = version_of(python)
        if version and OLDEST_PYTHON <= version < PYTHON_LIMIT:
            return python
    if requested:
        raise SetupError(f"--python {requested}: it is not {wanted}, or it does not run")
    need = Missing(wanted, "python3.11 python3.11-venv python3.11-dev", "brew install python@3.11")
    raise SetupError(missing_message([need]) + "; one elsewhere is named with --python PATH")


def parse_java_version(printed: str) -> int | None:
    """Return the major version from what ``java -version`` prints: 17 for "17.0.15", 8 for "1.8.0_392"."""
    found = re.search(r'version "(?:1\.)?(\d+)', printed)
    return int(found[1]) if found else None


def missing_java(environment: Mapping[str, str]) -> Missing | None:
    """Judge the Java that Spark will use: JAVA_HOME's if that is set, else the one on the path."""
    home = environment.get("JAVA_HOME")
    version = parse_java_version(output_of([Path(home, "bin", "java") if home else "java", "-version"]) or "")
    if version is not None and version >= OLDEST_JAVA:
        return None
    told = [f"JAVA_HOME is {home}"] if home else []
    told += [f"found {version}"] if version else []
    what = f"Java {OLDEST_JAVA} or newer" + (f" ({', '.join(told)})" if told else "")
    return Missing(what, "openjdk-17-jre-headless", "brew install openjdk@17")


def compiler_version(environment: Mapping[str, str]) -> str | None:
    """Return the first line of the C++ compiler's version, or None where there is none that runs."""
    for compiler in filter(None, (environment.get("CXX"), "c++", "g++", "clang++")):
        printed = output_of([*compiler.split(), "--version"])
        if printed:
            return printed.splitlines()[0]
    return None


def missing_tools(environment: Mapping[str, str], *, for_horovod: bool) -> list[Missing]:
    """Return what Spark and (if wanted) the build of Horovod need and the machine lacks."""
    missing = []
    java = missing_java(environment)
    if java:
        missing.append(java)
    if for_horovod and not shutil.which("make", path=environment.get("PATH")):
        missing.append(Missing("make", "make", "xcode-select --install"))
    if for_horovod and not compiler_version(environment):
        what = "a C++ compiler (it builds Horovod; --without-horovod does without)"
        missing.append(Missing(what, "g++", "xcode-select --install"))
    return missing


# --- Stamps, locks, commands ----------------------------------------------------------------------


def fingerprint(*parts: object) -> str:
    """Return a short hash of plain values; a path stands for the content of its file."""
    plain = [part.read_text(encoding="utf-8") if isinstance(part, Path) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Stamps:
    """What each step was done with: one small JSON file a step, in place only once the step is complete."""

    folder: Path

    def read(self, step: str) -> dict[str, str]:
        """Return a step's stamp; empty where there is none or it cannot be read."""
        try:
            stamp = json.loads((self.folder / f"{step}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stamp if isinstance(stamp, dict) else {}

    def holds(self, step: str, key: str) -> bool:
        """Tell whether a step was completed with just these inputs."""
        return self.read(step).get("key") == key

    def write(self, step: str, key: str, **facts: str) -> None:
        """Record a completed step: the file appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{step}.partial"
        partial.write_text(json.dumps({"key": key, **facts}), encoding="utf-8")
        partial.replace(self.folder / f"{step}.json")


@dataclass
class Machine:
    """Runs commands with their output in log files, and says what is being done, one line a step.

    Commands inherit the locks in ``held``: where set-up itself is killed, what it had started keeps the next
    run waiting until it is through, instead of both writing the same files.
    """

    logs: Path
    held: list[int] = field(default_factory=list)
    worked: bool = False

    def run(self, command: Command, log: str, environment: Mapping[str, str] | None = None) -> None:
        """Run a command to its end; raise SetupError with its last words and the log's path if it fails."""
        self.logs.mkdir(parents=True, exist_ok=True)
        path = self.logs / f"{log}.log"
        words = [str(word) for word in command]
        with path.open("a", encoding="utf-8") as out:
            out.write(f"$ {' '.join(words)}\n")
            out.flush()
            try:
                status = subprocess.run(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=dict(environment) if environment is not None else None,
                    cwd=ROOT,
                    pass_fds=self.held,
                    check=False,
                ).returncode
            except OSError as error:
                raise SetupError(f"{words[0]} cannot be run: {error}") from error
        if status != 0:
            lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise SetupError(f"{Path(words[0]).name} failed: {lines[-1].strip()[:200]} (log: {path})")

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print a step's name, then how long it took."""
        self.worked = True
        started = time.monotonic()
        print(f"  {title:<58}", end=" ", flush=True)
        try:
            yield
        except BaseException:
            print("failed", flush=True)
            raise
        print(f"{time.monotonic() - started:6.1f} s", flush=True)

    @contextlib.contextmanager
    def locked(self, folder: Path) -> Iterator[None]:
        """Keep other set-ups out of a folder; the lock ends with the last process that holds it."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"  another set-up is at work in {folder}: waiting for it", flush=True)
                fcntl.flock(handle, fcntl.LOCK_EX)
            self.held.append(handle)
            yield
        finally:
            if handle in self.held:
                self.held.remove(handle)
            os.close(handle)


# --- The steps ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choices:
    """What to set up."""

    training: bool = True
    horovod: bool = True
    s3: bool = False

    @property
    def extras(self) -> str:
        """The extras of the project to install; Horovod is built and installed by a step of its own."""
        return "spark,connect,train,tune,mlflow,dev" if self.training else "spark,connect,dev"


@dataclass(frozen=True)
class Project:
    """One clone and its environment."""

    root: Path
    cache: Path

    @property
    def venv(self) -> Path:
        """The environment's folder."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.venv / "bin" / "python"

    @property
    def stamps(self) -> Stamps:
        """What was done in this environment (and goes with it)."""
        return Stamps(self.venv / "setup-stamps")

    @property
    def constraints(self) -> Path:
        """The exact versions of everything that is installed."""
        return self.root / "constraints.txt"

    def site_packages(self) -> Path:
        """Return the folder of the environment's packages."""
        return next(self.venv.glob("lib/python3*/site-packages"))

    def installed_version(self, name: str) -> str | None:
        """Return the installed version of a package, or None; the interpreter need not be started for it."""
        found = sorted(self.site_packages().glob(f"{name}-*.dist-info"))
        return found[-1].name.removesuffix(".dist-info").partition("-")[2] if found else None

    def install(self, arguments: Command, machine: Machine, log: str) -> None:
        """Install packages under the constraints: with uv, or where that fails with pip."""
        uv = self.venv / "bin" / "uv"
        if self.stamps.read("uv").get("status") == "ok":
            command: Command = [uv, "pip", "install", "--python", self.python, "--compile-bytecode"]
            pinned: Command = ["--constraints", self.constraints, "--build-constraints", self.constraints]
            # uv reads no pip.conf: behind a company's mirror, pip may know a way that uv does not.
            try:
                machine.run([*command, *pinned, *arguments], log)
            except SetupError as problem:
                print(f"\n  {problem}; trying pip instead", flush=True)
            else:
                return
        pip: Command = [self.python, "-m", "pip", "install", "--no-input", "--constraint", self.constraints]
        machine.run([*pip, *arguments], log)


def venv_is_usable(project: Project, python: str, *, requested: bool) -> bool:
    """Tell whether the environment runs, was made in this place, and has the version that was asked for."""
    made_at = project.stamps.read("venv").get("path", str(project.venv))
    version = python_version(project.python)
    if version is None or made_at != str(project.venv) or not OLDEST_PYTHON <= version < PYTHON_LIMIT:
        return False
    if requested and version != python_version(python):
        return False
    return output_of([project.python, "-m", "pip", "--version"]) is not None


def make_venv(project: Project, python: str, machine: Machine, *, requested: bool) -> None:
    """Make the environment, unless there is one that works."""
    key = fingerprint(str(project.venv))
    if venv_is_usable(project, python, requested=requested):
        if not project.stamps.holds("venv", key):
            project.stamps.write("venv", key, path=str(project.venv))
        return
    if output_of([python, "-c", "import ensurepip, venv"]) is None:
        version = ".".join(map(str, python_version(python) or OLDEST_PYTHON))
        need = Missing(f"the venv module of {python}", f"python{version}-venv", f"brew install python@{version}")
        raise SetupError(missing_message([need]))
    with machine.step(f"environment .venv ({Path(python).name})"):
        # Its log cannot lie in the folder that is cleared.
        done = subprocess.run(
            [python, "-m", "venv", "--clear", str(project.venv)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=machine.held,
            check=False,
        )
        if done.returncode != 0:
            raise SetupError(f"{python} -m venv failed: {(done.stdout + done.stderr).strip()[-300:]}")
        project.stamps.write("venv", key, path=str(project.venv))


def install_uv(project: Project, machine: Machine) -> None:
    """Install uv from the package index; where that fails, pip does the work, more slowly."""
    pins = project.constraints.read_text(encoding="utf-8").splitlines()
    pin = next(line for line in pins if line.startswith("uv=="))
    uv = project.venv / "bin" / "uv"
    stamp = project.stamps.read("uv")
    if stamp.get("key") == fingerprint(pin) and (stamp.get("status") != "ok" or uv.exists()):
        return
    pip: Command = [
        project.python,
        "-m",
        "pip",
        "install",
        "--no-input",
        "--force-reinstall",
        "--no-deps",
        pin,
    ]
    try:
        with machine.step("uv, from the package index"):
            machine.run(pip, "uv")
            machine.run([uv, "--version"], "uv")
    except SetupError as problem:
        print(f"  {problem}; pip will do the work, more slowly", flush=True)
        project.stamps.write("uv", fingerprint(pin), status="missing")
    else:
        project.stamps.write("uv", fingerprint(pin), status="ok")


def damaged_distributions(site_packages: Path) -> list[Path]:
    """Return the metadata folders of packages whose installation was cut off: a listed file is not there.

    An installer that was killed may leave a package's metadata without some of its files; installers judge by
    the metadata alone and would never repair it.
    """
    damaged = []
    for metadata in sorted(site_packages.glob("*.dist-info")):
        record = metadata / "RECORD"
        if not record.exists() or not all(map(os.path.exists, recorded_files(record, site_packages))):
            damaged.append(metadata)
    return damaged


def recorded_files(record: Path, site_packages: Path) -> Iterator[str]:
    """Yield the paths of the files that a RECORD lists, compiled ones (made again at need) left out."""
    for line in record.read_text(encoding="utf-8").splitlines():
        # "path,hash,size"; a path that holds a comma is quoted.
        name = line[1:].partition('"')[0] if line.startswith('"') else line.partition(",")[0]
        if name and not name.endswith(".pyc"):
            yield os.path.join(site_packages, name)


def install_packages(project: Project, choices: Choices, machine: Machine) -> None:
    """Install the project, editable, with its extras, at exactly the versions of the constraints file."""
    version = python_version(project.python)
    key = fingerprint(project.root / "pyproject.toml", project.constraints, choices.extras, version)
    if project.stamps.holds("packages", key):
        return
    size = "about 3 GB to fetch" if choices.training else "about 600 MB to fetch"
    with machine.step(f"packages ({size} the first time)"):
        for metadata in damaged_distributions(project.site_packages()):
            shutil.rmtree(metadata)
        project.install(["--editable", f"{project.root}[{choices.extras}]"], machine, "packages")
        project.stamps.write("packages", key)


def artifact_of(jar: str) -> str:
    """Return a jar's artifact name: its file name without the version."""
    return re.sub(r"-\d[^_]*$", "", jar.removesuffix(".jar"))


def classes_of(jar: Path) -> set[str]:
    """Return the names of the classes in a jar, but for module descriptors."""
    with zipfile.ZipFile(jar) as archive:
        names = archive.namelist()
    return {name for name in names if name.endswith(".class") and not name.endswith("module-info.class")}


def jars_to_add(resolved: Sequence[Path], spark_jars: Sequence[Path]) -> list[Path]:
    """Return the resolved jars that Spark lacks: it has no other version of them and none of their classes.

    A second copy of a class on the same class path wins or loses by the order of files in a folder: an older
    commons-logging would shadow the bridge that Spark routes its logs through.
    """
    artifacts = {artifact_of(jar.name) for jar in spark_jars}
    classes = set().union(*map(classes_of, spark_jars))
    unknown = [jar for jar in resolved if artifact_of(jar.name) not in artifacts]
    return [jar for jar in unknown if classes.isdisjoint(classes_of(jar))]


def resolve_jars(project: Project, coordinates: str, target: Path, machine: Machine, log: str) -> None:
    """Resolve artifacts' jars with Spark's own Ivy; keep those that Spark lacks in ``target``, all or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    spark = project.site_packages() / "pyspark"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="resolving-") as scratch:
        nothing = Path(scratch) / "nothing.py"
        nothing.touch()
        ivy = ["--conf", f"spark.jars.ivy={scratch}/ivy", "--packages", coordinates]
        environment = {**os.environ, "SPARK_HOME": str(spark), "PYSPARK_PYTHON": str(project.python)}
        machine.run([spark / "bin" / "spark-submit", *ivy, nothing], log, environment)
        # Ivy's cache keeps the plain file names; the folder beside it prefixes them with their organisation.
        resolved = sorted(Path(scratch).glob("ivy/cache/**/*.jar"))
        kept = Path(scratch) / "jars"
        kept.mkdir()
        artifacts = [one.split(":")[1] for one in coordinates.split(",")]
        # An earlier set-up may have placed some already; a jar of the same name is the same jar.
        names = {jar.name for jar in resolved}
        own = [jar for jar in sorted((spark / "jars").glob("*.jar")) if jar.name not in names]
        for jar in jars_to_add(resolved, own):
            shutil.copy(jar, kept)
        for artifact in artifacts:
            if not list(kept.glob(f"{artifact}-*.jar")):
                raise SetupError(f"Ivy resolved no {artifact} (log: {machine.logs / log}.log)")
        kept.replace(target)


def place_jars(project: Project, machine: Machine, title: str, coordinates: str, kept: Path, step: str) -> None:
    """Put artifacts' jars beside Spark's own: every start finds them, offline too, and no option is needed.

    Args:
        project: whose Spark.
        machine: that does it.
        title: of the step, for people.
        coordinates: of the artifacts, with commas between them.
        kept: folder of the user's cache for the jars.
        step: name of the stamp and of the log.
    """
    placed = project.site_packages() / "pyspark" / "jars"
    key = fingerprint(coordinates, project.installed_version("pyspark"))
    names = project.stamps.read(step).get("jars", "").split()
    if project.stamps.holds(step, key) and all((placed / name).exists() for name in names):
        return
    with machine.step(title):
        if not kept.exists():
            resolve_jars(project, coordinates, kept, machine, step)
        for jar in kept.iterdir():
            partial = placed / f"{jar.name}.partial"
            shutil.copy(jar, partial)
            partial.replace(placed / jar.name)
        names = sorted(jar.name for jar in kept.iterdir())
        project.stamps.write(step, key, jars=" ".join(names))


def place_delta_jars(project: Project, machine: Machine) -> None:
    """Put Delta's jars, and PostgreSQL's driver, beside Spark's own."""
    spark, delta = project.installed_version("pyspark"), project.installed_version("delta_spark")
    if not spark or not delta:
        raise SetupError("pyspark and delta-spark are not installed: remove .venv and run `make setup` again")
    coordinates = f"io.delta:delta-spark_{'.'.join(spark.split('.')[:2])}_{SCALA}:{delta},{POSTGRESQL_DRIVER}"
    driver = POSTGRESQL_DRIVER.split(":", 1)[1].replace(":", "-")
    kept = project.cache / "jars" / f"delta-{delta}-spark-{spark}-{driver}"
    place_jars(project, machine, "Delta's jars, PostgreSQL's driver", coordinates, kept, "delta-jars")


def place_s3_jars(project: Project, machine: Machine) -> None:
    """Put Hadoop's client for S3, of the very version of Spark's Hadoop, beside Spark's jars."""
    found = list((project.site_packages() / "pyspark" / "jars").glob("hadoop-client-api-*.jar"))
    if not found:
        raise SetupError("Spark's jars are not complete: remove .venv and run `make setup` again")
    version = found[0].stem.removeprefix("hadoop-client-api-")
    coordinates = f"org.apache.hadoop:hadoop-aws:{version}"
    kept = project.cache / "jars" / f"s3-hadoop-{version}"
    place_jars(project, machine, "jars for S3 (600 MB to fetch the first time)", coordinates, kept, "s3-jars")


def archive_classes(project: Project, machine: Machine) -> None:
    """Keep the classes that a session loads in an archive of Java's: sessions start in half the time.

    A convenience: where this Java makes no archive, or another Java is used later, sessions start as ever.
    """
    spark = project.site_packages() / "pyspark"
    archive = spark / "dlmine-classes.jsa"
    java = output_of(
        [Path(os.environ["JAVA_HOME"], "bin", "java") if "JAVA_HOME" in os.environ else "java", "-version"]
    )
    key = fingerprint(java, sorted(jar.name for jar in (spark / "jars").glob("*.jar")), project.root.as_posix())
    if project.stamps.holds("class-archive", key):
        return
    with machine.step("archive of Java classes"):
        partial = archive.with_suffix(".partial")
        exit_option = f'"-XX:ArchiveClassesAtExit={partial}" -Xlog:cds=off -Xlog:cds+dynamic=off'
        script = project.root / "scripts" / "load_classes.py"
        environment = {
            **os.environ,
            "PYSPARK_PYTHON": str(project.python),
            "PYSPARK_DRIVER_PYTHON": str(project.python),
        }
        command = [spark / "bin" / "spark-submit", "--master", "local[2]", "--driver-java-options", exit_option, script]
        try:
            machine.run(command, "class-archive", {**environment, "SPARK_HOME": str(spark)})
            partial.replace(archive)
        except (SetupError, OSError) as problem:
            print(f"\n  no archive of Java classes: {problem}", flush=True)
        project.stamps.write("class-archive", key)


# --- Horovod --------------------------------------------------------------------------------------


def horovod_recipe(project: Project) -> list[Path]:
    """Return the files that say how Horovod is built."""
    return sorted((project.root / "scripts" / "horovod_build").iterdir())


def horovod_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return Horovod's build settings: gloo and torch only, unless the environment says more (NCCL, MPI)."""
    own = {name: value for name, value in environment.items() if name.startswith(HOROVOD_BUILD_PREFIXES)}
    refused = {name.replace("_WITH_", "_WITHOUT_") for name in own}
    return {**{name: value for name, value in HOROVOD_DEFAULTS.items() if name not in refused}, **own}


def compile_jobs(cores: int, memory_gib: float) -> int:
    """Return how many compilers may run at once: one a core, as far as the memory goes."""
    return max(1, min(cores, int(memory_gib / GIB_PER_COMPILER)))


def build_environment(project: Project, requirements: Path) -> dict[str, str]:
    """Return the variables of Horovod's build: its own tools first, then those of .venv and its torch."""
    # What the calling make hands down is meant for its own children.
    inherited = {name: value for name, value in os.environ.items() if name not in {"MAKELEVEL", "MFLAGS"}}
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    paths = [str(requirements / "bin"), str(project.venv / "bin"), os.environ.get("PATH", os.defpath)]
    return {
        **inherited,
        **horovod_settings(os.environ),
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": str(requirements),
        "CMAKE_TOOLCHAIN_FILE": str(project.root / "scripts" / "horovod_build" / "toolchain.cmake"),
        "MAKEFLAGS": f"-j{compile_jobs(os.cpu_count() or 1, memory_gib)}",
    }


def complete_wheel(folder: Path) -> Path | None:
    """Return the wheel in a folder if there is one and it is whole (a zip's directory comes last)."""
    return next((wheel for wheel in sorted(folder.glob("horovod-*.whl")) if zipfile.is_zipfile(wheel)), None)


def build_horovod(project: Project, pin: str, target: Path, machine: Machine) -> None:
    """Build the wheel against the installed torch and put it in ``target``, whole or not at all."""
    include = output_of([project.python, "-c", "import sysconfig; print(sysconfig.get_path('include'))"])
    if not include or not Path(include.strip(), "Python.h").exists():
        raise SetupError(missing_message([Missing("Python's headers", "python3-dev", "brew install python@3.11")]))
    work = target.with_name(f"{target.name}.building")
    # A set-up that was killed may have left its build running to the end: that wheel is as good.
    if complete_wheel(work / "wheel") is None:
        shutil.rmtree(work, ignore_errors=True)
        requirements = work / "requirements"
        wanted = project.root / "scripts" / "horovod_build" / "requirements.txt"
        pip: Command = [project.python, "-m", "pip"]
        machine.run([*pip, "install", "--target", requirements, "-r", wanted], "horovod")
        options = ["--verbose", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--no-binary=horovod"]
        environment = build_environment(project, requirements)
        machine.run([*pip, "wheel", *options, "-w", work / "wheel", pin], "horovod", environment)
    (work / "wheel").replace(target)
    shutil.rmtree(work, ignore_errors=True)


def install_horovod(project: Project, machine: Machine, *, retry: bool) -> None:
    """Install Horovod, built for this very torch, Python and compiler: from the user's cache or from source.

    A build that fails is recorded and not tried again until something changes or the user asks for it.
    """
    pins = project.constraints.read_text(encoding="utf-8").splitlines()
    pin = next(line for line in pins if line.startswith("horovod=="))
    key = fingerprint(
        pin,
        project.installed_version("torch"),
        output_of([project.python, "-c", "import sys; print(sys.implementation.cache_tag)"]),
        [platform.system(), platform.machine()],
        compiler_version(os.environ),
        horovod_settings(os.environ),
        *horovod_recipe(project),
    )
    stamp = project.stamps.read("horovod")
    if stamp.get("key") == key and stamp.get("status") == "failed" and not retry:
        warn_horovod(stamp.get("problem", ""))
        return
    if stamp.get("key") == key and stamp.get("status") == "ok" and project.installed_version("horovod"):
        return
    wheels = project.cache / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    target = wheels / f"horovod-{key}"
    (machine.logs / "horovod.log").unlink(missing_ok=True)
    if retry:
        shutil.rmtree(target, ignore_errors=True)
    how = "built from source: minutes" if complete_wheel(target) is None else "its wheel was kept"
    try:
        with machine.step(f"Horovod ({how})"):
            with machine.locked(wheels):
                # Whoever held the lock before may have built it meanwhile.
                if complete_wheel(target) is None:
                    shutil.rmtree(target, ignore_errors=True)
                    build_horovod(project, pin, target, machine)
            wheel = complete_wheel(target)
            if wheel is None:
                raise SetupError(f"no wheel came out of the build (log: {machine.logs / 'horovod.log'})")
            # Another build has the same version, so an installer would keep the one it finds.
            project.install(["--force-reinstall", wheel], machine, "horovod")
            check = "import horovod.torch as hvd; assert hvd.gloo_built()"
            machine.run([project.python, "-c", check], "horovod")
    except SetupError as problem:
        # One that was built for another torch is worse than none: it imports, then fails in the middle of a run.
        if project.installed_version("horovod"):
            machine.run([project.python, "-m", "pip", "uninstall", "--yes", "horovod"], "horovod")
        project.stamps.write("horovod", key, status="failed", problem=str(problem))
        warn_horovod(str(problem))
    else:
        project.stamps.write("horovod", key, status="ok")


def warn_horovod(problem: str) -> None:
    """Say that training goes on without Horovod, why, and how to try again."""
    print(
        f"  warning: Horovod could not be built; training will use backend torch. {problem}\n"
        f"  `make horovod` tries again",
        flush=True,
    )


# --- The whole ------------------------------------------------------------------------------------


def remembered_choices(project: Project, arguments: argparse.Namespace) -> Choices:
    """Return what to set up: what the options say, else what an earlier run was told."""
    earlier = project.stamps.read("choices").get("without", "").split() if not arguments.complete else []
    training = not (arguments.without_training or "training" in earlier)
    horovod = training and not (arguments.without_horovod or "horovod" in earlier)
    more = project.stamps.read("choices").get("with", "").split()
    return Choices(training=training, horovod=horovod, s3=arguments.with_s3 or "s3" in more)


def remember_choices(project: Project, choices: Choices) -> None:
    """Keep the choices for later runs: `make test` must not install what set-up was told to leave out."""
    without = [name for name in ("training", "horovod") if not getattr(choices, name)]
    chosen = {"without": " ".join(without), "with": "s3" if choices.s3 else ""}
    stamp = project.stamps.read("choices")
    if any(stamp.get(key, "") != value for key, value in chosen.items()) or not stamp:
        project.stamps.write("choices", fingerprint(chosen), **chosen)


def set_up(project: Project, arguments: argparse.Namespace) -> None:
    """Do every step that is not done yet."""
    machine = Machine(project.venv / "setup-logs")
    with machine.locked(project.root):
        started = time.monotonic()
        choices = remembered_choices(project, arguments)
        missing = missing_tools(os.environ, for_horovod=choices.horovod)
        if missing:
            raise SetupError(missing_message(missing))
        python = choose_python(arguments.python, [sys.executable, "python3.11", "python3.12", "python3"])
        make_venv(project, python, machine, requested=arguments.python is not None)
        remember_choices(project, choices)
        install_uv(project, machine)
        install_packages(project, choices, machine)
        place_delta_jars(project, machine)
        if choices.s3:
            place_s3_jars(project, machine)
        archive_classes(project, machine)
        if choices.horovod:
            install_horovod(project, machine, retry=arguments.retry_horovod)
        if machine.worked:
            seconds = time.monotonic() - started
            print(f"  set up in {seconds:.0f} s; logs: {machine.logs.relative_to(project.root)}", flush=True)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/setup.py",
        description="Set the project up in .venv; run it again to go on or to update.",
    )
    parser.add_argument("--python", metavar="PATH", help="the Python 3.11 or 3.12 to use")
    parser.add_argument("--without-training", action="store_true", help="no torch, no Horovod (remembered)")
    parser.add_argument("--without-horovod", action="store_true", help="no Horovod (remembered)")
    parser.add_argument("--with-s3", action="store_true", help="jars for lakehouses in S3, 600 MB (remembered)")
    parser.add_argument("--complete", action="store_true", help="forget what was left out before")
    parser.add_argument("--retry-horovod", action="store_true", help="build Horovod again after a failure")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Set the project up; return the exit code."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dlmine-spark"
    try:
        set_up(Project(ROOT, cache), parse_arguments(arguments))
    except SetupError as problem:
        print(f"set-up: {problem}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("\nset-up: interrupted; run it again and it goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
