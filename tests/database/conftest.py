"""A PostgreSQL server of the tests' own, with a password; where none is installed, what needs it is skipped."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dlmine_spark.jdbc import DRIVERS
from dlmine_spark.session import spark_home

USER, PASSWORD = "clerk", "s3cret word"


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server."""

    programs: Path
    port: int

    @property
    def address(self) -> str:
        return f"jdbc:postgresql://127.0.0.1:{self.port}/postgres"

    def run(self, sql: str) -> list[list[str]]:
        """Run statements; the cells of the rows of the last one."""
        command = [self.programs / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", "postgres"]
        done = subprocess.run(
            [*command, "-v", "ON_ERROR_STOP=1", "-qAt", "-c", sql],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return [line.split("|") for line in done.stdout.splitlines()]


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A server on a free port, its data in memory-backed or temporary files, ended with the tests."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    if not any((spark_home() / "jars").glob("postgresql-*.jar")):
        pytest.skip(f"no driver beside Spark's jars ({DRIVERS['postgresql']}): run make setup")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="dlmine-postgres-"))
    owner = None
    if os.getuid() == 0:
        # It refuses to run as root.
        owner = "postgres" if "postgres" in (entry.pw_name for entry in pwd.getpwall()) else "nobody"
        shutil.chown(folder, owner)
    secret = folder / "password"
    secret.write_text(PASSWORD, encoding="utf-8")
    if owner is not None:
        shutil.chown(secret, owner)
    data = folder / "data"
    quick = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c shared_buffers=16MB"
    place = f"-p {port} -h 127.0.0.1 -k {folder}"

    def run(*command: str | Path) -> None:
        said = subprocess.run(
            [str(part) for part in command], user=owner, cwd=folder, check=False, capture_output=True, text=True
        )
        assert said.returncode == 0, said.stdout + said.stderr

    run(programs / "initdb", "-D", data, "-U", USER, "--pwfile", secret, "--auth=scram-sha-256", "-E", "UTF8",
        "--locale=C", "--no-sync")  # fmt: skip
    try:
        run(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", f"{place} {quick}", "start")
        yield Postgres(programs, port)
    finally:
        subprocess.run([programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"], user=owner, cwd=folder,
                       check=False, capture_output=True)  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """The server with an empty schema, and the variables that hold who may read it."""
    server.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    monkeypatch.setenv("DLMINE_SHOP_USER", USER)
    monkeypatch.setenv("DLMINE_SHOP_PASSWORD", PASSWORD)
    return server


def _programs() -> Path | None:
    """The folder of the newest server's programs; Debian keeps them off the PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    found: Sequence[Path] = installed
    on_path = shutil.which("initdb")
    if not found and on_path is not None:
        found = [Path(on_path).resolve().parent]
    return found[-1] if found else None
