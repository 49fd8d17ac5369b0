"""Bringing a database's schema to this version's, and telling whether it is there.

The steps lie in the package `migrations`, which is looked for beside the installed `datagen`: a
folder of that name in the current directory is somebody else's.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

import datagen
from datagen.db.session import open_engine
from datagen.errors import HomeUnusable, Unavailable

_STEPS = Path(datagen.__file__).parent.parent / "migrations"
# Any number will do, if all who upgrade take the same.
_LOCK = 0x6461746167656E


def config_on(connection: Connection | None = None) -> Config:
    """Alembic's configuration for its commands; they work in the connection's transaction."""
    config = Config()
    config.attributes["connection"] = connection
    config.set_main_option("script_location", str(_STEPS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@cache
def _known() -> tuple[str, ...]:
    """The revisions of this version, newest first."""
    return tuple(
        step.revision for step in ScriptDirectory.from_config(config_on()).walk_revisions()
    )


def head() -> str:
    """The revision that this version of datagen needs."""
    return _known()[0]


def current(engine: Engine) -> str | None:
    """The revision that the database is at; None for one without our tables.

    Raises:
        Unavailable: the database does not answer, or is none.
    """
    with _answering(engine), engine.connect() as connection:
        return _revision(connection)


def check(engine: Engine) -> None:
    """Refuse to work on a schema that is older than this version's.

    A newer one is no hindrance: its steps keep the version before running, so that hosts can be
    upgraded one after the other.

    Raises:
        Unavailable: the schema is older or missing, or the database does not answer.
    """
    found = current(engine)
    # Revisions begin with their date, so their order is that of the alphabet.
    if found is None or found < head():
        at = "has no tables of datagen's" if found is None else f"is at revision {found}"
        raise Unavailable(
            f"The database {at}, and this version needs {head()}; run `datagen db upgrade`."
        )


def upgrade(url: str) -> str:
    """Bring the database to this version's schema, all or nothing; returns the revision.

    An existing SQLite database is copied first, to `<file>.before-<revision>` beside it.

    Raises:
        InvalidRequest: the URL names no database that datagen can use.
        HomeUnusable: the database is newer than this version, or not datagen's.
        Unavailable: the database does not answer.
    """
    engine = open_engine(url)
    try:
        with _answering(engine), engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            found = _revision(connection)
            _refuse_foreign(connection, found)
            if found is not None and found != head():
                _back_up(connection, found)
            command.upgrade(config_on(connection), "head")
        return head()
    finally:
        engine.dispose()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_foreign(connection: Connection, found: str | None) -> None:
    where = connection.engine.url.render_as_string(hide_password=True)
    if found is not None and found not in _known():
        raise HomeUnusable(
            f"The database {where} is at revision {found}, which this version of datagen does not "
            "know; use the version that made it, or a newer one."
        )
    tables = sorted(set(inspect(connection).get_table_names()) - {"alembic_version"})
    if found is None and tables:
        raise HomeUnusable(
            f"The database {where} holds tables that datagen did not make, such as {tables[0]!r}; "
            "name another one in DATAGEN_DATABASE_URL."
        )


def _back_up(connection: Connection, revision: str) -> None:
    """Copy an SQLite file while our transaction keeps writers away."""
    if connection.dialect.name != "sqlite":
        return
    source = Path(str(connection.engine.url.database))
    target = source.with_name(f"{source.name}.before-{revision}")
    incoming = target.with_name(f".{target.name}.new")
    incoming.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(incoming)) as new:
        old.backup(new)
    shutil.copymode(source, incoming)
    incoming.replace(target)


@contextmanager
def _answering(engine: Engine) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        where = engine.url.render_as_string(hide_password=True)
        reason = str(error.orig).strip().splitlines()[0]
        raise Unavailable(
            f"The database {where} cannot be used: {reason}; see that it runs and that "
            "DATAGEN_DATABASE_URL names it."
        ) from error
