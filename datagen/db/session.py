"""Engines and transactions: SQLite set up so that several processes can write, PostgreSQL as is."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from datagen.errors import InvalidRequest, Unavailable
from datagen.texts import replace_surrogates

BUSY_SECONDS = 30.0
_PAUSE_SECONDS = 0.01
_PRAGMAS = (
    f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}",
    # FULL, because an accepted job must survive a power loss; NORMAL may lose the last commits.
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
)

_CLOCK = select(func.clock_timestamp())

Transaction = Callable[[], Any]


def open_engine(url: str) -> Engine:
    """An engine for `sqlite:///…` or `postgresql+psycopg://…`.

    Raises:
        InvalidRequest: another database, or no URL at all.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.drivername not in {"sqlite", "postgresql+psycopg"}:
        raise InvalidRequest(
            "DATAGEN_DATABASE_URL is neither sqlite:///… nor postgresql+psycopg://…; "
            "give one of these.",
            field="DATAGEN_DATABASE_URL",
        )
    if parsed.drivername == "sqlite":
        return _sqlite(url, parsed.database)
    return create_engine(
        parsed,
        pool_pre_ping=True,
        pool_size=20,
        max_overflow=20,
        json_deserializer=_read_json,
    )


def _read_json(text: str | bytes) -> Any:
    """The value of a column of JSON, with U+FFFD for lone surrogates that an older version kept.

    Such a text has no UTF-8 form, so no answer could show it.
    """
    found = json.loads(text)
    escape = b"\\ud" if isinstance(text, bytes) else "\\ud"
    return replace_surrogates(found) if escape in text.lower() else found  # type: ignore[operator] # both are text, or both bytes


def _sqlite(url: str, database: str | None) -> Engine:
    if not database or database == ":memory:":
        raise InvalidRequest(
            "DATAGEN_DATABASE_URL names a database in memory, which no second process sees; "
            "give a file.",
            field="DATAGEN_DATABASE_URL",
        )
    Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_SECONDS},
        json_deserializer=_read_json,
        # SQLite's own wait for a writer looks again ever more seldom; threads of one process take
        # turns instead.
        execution_options={"datagen_turn": threading.Lock()},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # The driver's own implicit, deferred BEGIN fails with "locked" under several writers.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        _use_write_ahead_log(cursor)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        deferred = connection.get_execution_options().get("datagen_read_only", False)
        connection.exec_driver_sql("BEGIN" if deferred else "BEGIN IMMEDIATE")

    return engine


def _use_write_ahead_log(cursor: DBAPICursor) -> None:
    """Switch a new database to the write-ahead log; one that has switched stays so.

    While another program writes, SQLite refuses to switch at once, whatever `busy_timeout` says.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A session in one write transaction: committed at the end, rolled back by an exception.

    Raises:
        Unavailable: on SQLite, other threads of this process wrote for half a minute.
    """
    with (
        _turn(engine),
        Session(engine, expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


@contextmanager
def _turn(engine: Engine) -> Iterator[None]:
    """The turn to write of the threads of this process, where the database knows none."""
    lock: threading.Lock | None = engine.get_execution_options().get("datagen_turn")
    if lock is None:
        yield
        return
    # No longer than the database itself would wait for another process.
    if not lock.acquire(timeout=BUSY_SECONDS):
        raise Unavailable("The database is busy; try again in a moment.")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A session that only reads; it does not wait for writers."""
    with Session(engine.execution_options(datagen_read_only=True)) as session:
        yield session


def now(session: Session) -> datetime:
    """The database's clock, so that hosts whose clocks differ agree on leases."""
    if session.get_bind().dialect.name == "sqlite":
        return datetime.now(UTC)
    moment: datetime = session.execute(_CLOCK).scalar_one()
    return moment.astimezone(UTC)
