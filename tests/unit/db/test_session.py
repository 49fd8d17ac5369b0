from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from datagen.db import session as session_module
from datagen.db.session import now, open_engine, reading, writing
from datagen.db.tables import ApiKey, Owner, new_id
from datagen.errors import InvalidRequest, Unavailable

WRITERS, EACH = 4, 15


def add_owner(session, name):
    session.add(Owner(id=new_id(), name=name, created_at=datetime.now(UTC)))
    session.flush()


def count(engine):
    with reading(engine) as session:
        return session.scalar(select(func.count()).select_from(Owner))


def test_write_is_kept_at_the_end(engine):
    with writing(engine) as session:
        add_owner(session, "ada")

    assert count(engine) == 1


def test_error_takes_the_whole_write_back(engine):
    with pytest.raises(ZeroDivisionError), writing(engine) as session:  # noqa: PT012
        add_owner(session, "ada")
        _ = 1 / 0

    assert count(engine) == 0


def test_many_writers_that_read_first_all_get_through(database_url):
    problems = []

    def write(writer):
        engine = open_engine(database_url)
        try:
            for number in range(EACH):
                with writing(engine) as session:
                    seen = session.scalar(select(func.count()).select_from(Owner))
                    add_owner(session, f"{writer}-{number}-{seen}")
        except Exception as error:  # noqa: BLE001 - told by the assertion below
            problems.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    engine = open_engine(database_url)
    assert problems == []
    assert count(engine) == WRITERS * EACH
    engine.dispose()


def test_threads_of_one_process_take_turns_and_none_waits_for_ever(tmp_path, monkeypatch):
    engine = open_engine(f"sqlite:///{tmp_path / 'x.db'}")
    monkeypatch.setattr(session_module, "BUSY_SECONDS", 0.05)
    with writing(engine), ThreadPoolExecutor(1) as pool:

        def late():
            with writing(engine):
                pass

        with pytest.raises(Unavailable, match="busy"):
            pool.submit(late).result()
    with writing(engine):
        pass
    engine.dispose()


def test_foreign_keys_are_held(engine):
    key = ApiKey(
        id="a", owner_id=new_id(), secret_hash=b"", scopes=[], created_at=datetime.now(UTC)
    )
    with pytest.raises(IntegrityError), writing(engine) as session:
        session.add(key)


def test_clock_is_in_utc_and_moves_within_a_transaction(engine):
    with writing(engine) as session:
        first = now(session)
        add_owner(session, "ada")
        second = now(session)

    assert first.utcoffset() == timedelta(0)
    assert first < second
    assert abs(first - datetime.now(UTC)) < timedelta(minutes=1)


def test_sqlite_is_set_up_for_several_processes_and_power_loss(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'new' / 'datagen.db'}")
    with reading(engine) as session:
        found = {
            name: session.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    engine.dispose()

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.fixture
def written_elsewhere(tmp_path):
    """A new database that another program writes to, which has not switched to the log yet."""
    path = tmp_path / "new.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE things (name TEXT)")
        other.execute("BEGIN IMMEDIATE")
        yield path, other


def test_first_connection_waits_for_a_writer(written_elsewhere):
    path, other = written_elsewhere
    waiting = threading.Timer(0.2, other.execute, ["COMMIT"])
    waiting.start()
    with open_engine(f"sqlite:///{path}").connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    waiting.join()


def test_first_connection_does_not_wait_for_ever(written_elsewhere, monkeypatch):
    path, _ = written_elsewhere
    monkeypatch.setattr(session_module, "BUSY_SECONDS", 0.1)
    with pytest.raises(OperationalError, match="locked"):
        open_engine(f"sqlite:///{path}").connect()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x", "", "\0"])
def test_database_that_cannot_be_used_is_refused(url):
    with pytest.raises(InvalidRequest, match="DATAGEN_DATABASE_URL"):
        open_engine(url)
