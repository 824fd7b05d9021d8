"""Packs what a cluster needs to run the jobs, into dist/.

    scripts/package                       everything
    scripts/package code                  the wheel, and the same as a zip for spark-submit --py-files
    scripts/package mining                environment-mining.tar.gz for --archives: Python and what all jobs need
    scripts/package training              environment-training.tar.gz: torch, Horovod and the rest of training, too

An archive holds an interpreter and the installed packages of .venv, byte for byte, and neither Spark (a cluster has
its own) nor this project (whose zip is small and changes more often). Unpacked anywhere, ``bin/python`` in it runs: the
machines of a cluster need Java, Spark, and the same system as this one with its usual libraries. This is Python, not a
shell script, since it follows the requirements of packages by their metadata. A file gets its name once it is whole;
an archive whose contents would be the same is not packed again.

Exit codes: 0 done, 2 wrong usage, 3 something is missing.
"""

from __future__ import annotations

import argparse
import fcntl
import fnmatch
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from io import BytesIO
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setup import Stamps, fingerprint

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("code", "mining", "training")
EXTRAS = {"mining": (), "training": ("train", "tune", "horovod")}
COMPRESSION = {"mining": 1, "training": 0}
"""torch's CUDA libraries are not worth minutes of gzip, and another one at every executor: a third goes away."""
LEFT_OUT = frozenset({"pyspark", "py4j", "triton"})
"""Spark brings the first two in the version of its jars; torch needs triton, a gigabyte, only to compile for GPUs."""
LIBRARY_LEFT_OUT = (
    "__pycache__", "config-*", "dist-packages", "ensurepip", "idlelib", "site-packages", "test", "tkinter",
    "turtledemo",
)  # fmt: skip
"""Of the standard library: what belongs to an installation, needs a display, or tests."""
TESTS = "tests"
"""Packages' folders of tests are a third of all files, and every executor unpacks and removes each."""
LAUNCHER = """\
#!/bin/sh
# Wherever the archive was unpacked: this folder's interpreter, its own library, and nothing of the user's packages.
here=$(dirname "$(readlink -f "$0")")
export PYTHONNOUSERSITE=1
export LD_LIBRARY_PATH="$here/../lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$here/@python@" "$@"
"""


class PackageError(Exception):
    """What stops packing, as the one line that a user reads."""


# --- What goes in ---------------------------------------------------------------------------------


def requirements_of(part: str) -> list[Requirement]:
    """Return what the project asks for, by its pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for extra in EXTRAS[part] for text in project["optional-dependencies"][extra]]
    return [Requirement(text) for text in [*project["dependencies"], *extras]]


def installed_for(requirements: Sequence[Requirement]) -> list[Distribution]:
    """Return the installed packages that satisfy requirements, and those that these require, by name.

    Raises:
        PackageError: one is not installed.
    """
    found: dict[str, Distribution] = {}
    seen = set()
    waiting = deque((requirement, "the project") for requirement in requirements)
    while waiting:
        requirement, reason = waiting.popleft()
        name = canonicalize_name(requirement.name)
        wanted = (name, frozenset(requirement.extras))
        if name in LEFT_OUT or wanted in seen:
            continue
        seen.add(wanted)
        try:
            found[name] = distribution(name)
        except PackageNotFoundError as error:
            raise PackageError(
                f"{requirement} is not installed (needed by {reason}): run 'make setup SETUP_ARGS=--complete', "
                "and for Horovod 'make horovod'"
            ) from error
        for text in found[name].requires or []:
            further = Requirement(text)
            if any(_applies(further, extra) for extra in ("", *requirement.extras)):
                waiting.append((further, name))
    return [found[name] for name in sorted(found)]


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


@dataclass(frozen=True)
class Interpreter:
    """The Python below .venv: where it lies, and where one of its kind looks for packages."""

    executable: Path
    prefix: Path
    standard_library: tuple[Path, ...]
    library: Path | None
    packages: str
    """Relative to the prefix, wherever that is: Debian's Python looks into another folder than others."""

    @classmethod
    def below(cls, python: str) -> Interpreter:
        """Ask an interpreter that is no virtual environment's."""
        done = subprocess.run([python, "-I", "-c", ASK], capture_output=True, text=True, check=True)
        told = json.loads(done.stdout)
        prefix = Path(told["prefix"])
        within = [Path(folder) for folder in told["packages"] if Path(folder).is_relative_to(prefix)]
        if not within:
            raise PackageError(f"{python} has no folder for packages below {prefix}: this kind cannot be packed")
        library = Path(told["library"]) if told["library"] else None
        if library is not None and not library.exists():
            raise PackageError(f"{python} needs {library}, which is not there: this kind cannot be packed")
        return cls(
            executable=Path(python).resolve(),
            prefix=prefix,
            standard_library=tuple(dict.fromkeys(map(Path, told["standard_library"]))),
            library=library,
            packages=within[-1].relative_to(prefix).as_posix(),
        )


ASK = """
import json, os, site, sys, sysconfig
of = sysconfig.get_config_var
print(json.dumps({
    "prefix": sys.prefix,
    "packages": site.getsitepackages(),
    "standard_library": [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")],
    "library": os.path.join(of("LIBDIR"), of("INSTSONAME")) if of("Py_ENABLE_SHARED") else "",
}))
"""


@dataclass(frozen=True)
class Entry:
    """A file of an archive: its name there, and the file here that it is a copy of."""

    name: str
    source: Path


def interpreter_files(interpreter: Interpreter) -> Iterator[Entry]:
    """Yield the interpreter, its shared library if it has one, and the standard library."""
    yield Entry(f"bin/{interpreter.executable.name}", interpreter.executable)
    if interpreter.library is not None:
        yield Entry(f"lib/{interpreter.library.name}", interpreter.library)
    for folder in interpreter.standard_library:
        for place, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not _is_left_out(name))
            for name in sorted(files):
                source = Path(place, name)
                yield from _with_compiled(Entry(source.relative_to(interpreter.prefix).as_posix(), source))


def _is_left_out(folder: str) -> bool:
    return any(fnmatch.fnmatchcase(folder, pattern) for pattern in LIBRARY_LEFT_OUT)


def package_files(package: Distribution, folder: str) -> Iterator[Entry]:
    """Yield a package's files; not its tests, nor its programs, whose first line names this machine's interpreter."""
    for path in package.files or []:
        source = Path(str(package.locate_file(path)))
        if not {"..", TESTS}.isdisjoint(path.parts) or path.suffix == ".pyc" or not source.is_file():
            continue
        yield from _with_compiled(Entry(f"{folder}/{path.as_posix()}", source))


def _with_compiled(entry: Entry) -> Iterator[Entry]:
    """Yield a file and what Python compiled it to: else every worker would do that anew, before its first task."""
    yield entry
    if entry.source.suffix == ".py":
        compiled = Path(importlib.util.cache_from_source(str(entry.source)))
        if compiled.exists():
            yield Entry(f"{entry.name.rpartition('/')[0]}/__pycache__/{compiled.name}", compiled)


# --- Packing --------------------------------------------------------------------------------------


def write_archive(target: Path, entries: Sequence[Entry], launcher: str, compression: int) -> int:
    """Write a .tar.gz file; return the bytes that its files take once they are unpacked."""
    python = entries[0].name.removeprefix("bin/")
    unpacked = 0
    # Level 0 stores. A plain .tar would do, but Spark unpacks those by itself, and forgets what may be executed.
    with tarfile.open(target, "w:gz", dereference=True, copybufsize=1 << 20, compresslevel=compression) as tar:
        tar.addfile(*_launcher("bin/python", launcher.replace("@python@", python)))
        tar.addfile(*_launcher("bin/python3", launcher.replace("@python@", python)))
        for entry in entries:
            info = tar.gettarinfo(str(entry.source), entry.name)
            # Whole seconds, by which Python tells whether what it compiled is still of use.
            info.mtime = int(info.mtime)
            info.uid, info.gid, info.uname, info.gname = 0, 0, "", ""
            if not info.isreg():
                # Of several names of one file, tar would keep one and a link; they need not be unpacked together.
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", entry.source.stat().st_size
            with entry.source.open("rb") as file:
                tar.addfile(info, file)
            unpacked += info.size
    return unpacked


def _launcher(name: str, text: str) -> tuple[tarfile.TarInfo, BytesIO]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(text.encode()), 0o755
    return info, BytesIO(text.encode())


def pack_environment(part: str, out: Path, compression: int) -> None:
    """Pack an archive, unless the one that is there holds just this."""
    started = time.monotonic()
    interpreter = Interpreter.below(getattr(sys, "_base_executable", sys.executable))
    packages = installed_for(requirements_of(part))
    records = [(package.name, package.version, package.read_text("RECORD")) for package in packages]
    key = fingerprint(Path(__file__), str(interpreter), records, compression)
    target = out / f"environment-{part}.tar.gz"
    stamps = Stamps(out / ".stamps")
    if stamps.holds(target.name, key) and target.exists():
        tell(target, f"{len(packages)} packages, up to date", started)
        return
    entries = list(interpreter_files(interpreter))
    entries += [entry for package in packages for entry in package_files(package, interpreter.packages)]
    with whole_file(target) as partial:
        unpacked = write_archive(partial, entries, LAUNCHER, compression)
    stamps.write(target.name, key)
    tell(target, f"{len(packages)} packages, {unpacked / 1e6:,.0f} MB unpacked", started)


def pack_code(out: Path) -> None:
    """Build the wheel, and put a copy beside it under a name that spark-submit takes."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dlmine-wheel-") as scratch:
        build_wheel(Path(scratch))
        (wheel,) = Path(scratch).glob("*.whl")
        for target in (out / wheel.name, out / "dlmine_spark.zip"):
            with whole_file(target) as partial:
                shutil.copyfile(wheel, partial)
            tell(target, "", started)


def build_wheel(folder: Path) -> None:
    """Build the wheel with what set-up keeps in uv's cache, else with what the package index has.

    Raises:
        PackageError: neither works.
    """
    python = sys.executable
    uv = [str(Path(python).with_name("uv")), "build", "--wheel", "--python", python, "--out-dir", str(folder)]
    pins = ["--build-constraints", str(ROOT / "constraints.txt")]
    pip = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    last_words = ""
    for command in ([*uv, *pins, "--offline"], [*uv, *pins], pip):
        try:
            done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
        except OSError as error:
            last_words = str(error)
            continue
        if done.returncode == 0:
            return
        last_words = (done.stderr.strip().splitlines() or ["no word"])[-1]
    raise PackageError(f"the wheel cannot be built: {last_words}")


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a name to write to; the file gets its own name if the block succeeds."""
    partial = target.with_name(f"{target.name}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep others from packing into the same folder; what a killed one left half is removed."""
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for left in out.glob("*.partial"):
            left.unlink()
        yield
    finally:
        os.close(handle)


def tell(target: Path, what: str, started: float) -> None:
    """Print a line about a finished file."""
    size, seconds = target.stat().st_size / 1e6, time.monotonic() - started
    print(f"  {target.name:<42} {size:9,.1f} MB  {seconds:6.1f} s  {what}".rstrip(), flush=True)


def main(arguments: Sequence[str]) -> int:
    """Pack what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/package", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument(
        "--compression",
        type=int,
        choices=range(10),
        metavar="0-9",
        help="of gzip; default: 1 for mining, 0 for training",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder to write to; default: dist")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part: {', '.join(unknown)} (there are {', '.join(PARTS)})")
    try:
        with locked(given.out):
            for part in given.parts or PARTS:
                if part == "code":
                    pack_code(given.out)
                else:
                    pack_environment(
                        part, given.out, COMPRESSION[part] if given.compression is None else given.compression
                    )
    except (PackageError, OSError) as problem:
        print(f"package: {problem}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("package: interrupted; nothing half-written was left", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
