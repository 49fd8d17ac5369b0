from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from alembic import command
from sqlalchemy import inspect, text

from datagen.db import migrate
from datagen.db.session import open_engine, reading
from datagen.errors import HomeUnusable, InvalidRequest, Unavailable


@pytest.fixture
def empty_engine(empty_database_url):
    engine = open_engine(empty_database_url)
    yield engine
    engine.dispose()


def put_revision(engine, revision):
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})


def test_empty_database_is_brought_to_the_newest_revision(empty_database_url, empty_engine):
    assert migrate.current(empty_engine) is None

    assert migrate.upgrade(empty_database_url) == migrate.head()

    assert migrate.current(empty_engine) == migrate.head()
    migrate.check(empty_engine)


def test_upgrade_again_changes_nothing(database_url, engine):
    assert migrate.upgrade(database_url) == migrate.head()
    migrate.check(engine)


def test_database_without_tables_is_not_fit(empty_engine):
    with pytest.raises(Unavailable, match="datagen db upgrade"):
        migrate.check(empty_engine)


def test_older_schema_is_not_fit_and_a_newer_one_is(engine):
    put_revision(engine, "2001_01_01_older")
    with pytest.raises(Unavailable, match="2001_01_01_older"):
        migrate.check(engine)

    put_revision(engine, "2999_01_01_newer")
    migrate.check(engine)


def test_newer_database_is_not_touched(database_url, engine):
    put_revision(engine, "2999_01_01_newer")

    with pytest.raises(HomeUnusable, match="2999_01_01_newer"):
        migrate.upgrade(database_url)
    assert migrate.current(engine) == "2999_01_01_newer"


def test_somebody_elses_database_is_not_touched(empty_database_url, empty_engine):
    with empty_engine.begin() as connection:
        connection.execute(text("CREATE TABLE recipes (id INTEGER)"))

    with pytest.raises(HomeUnusable, match="recipes"):
        migrate.upgrade(empty_database_url)
    assert inspect(empty_engine).get_table_names() == ["recipes"]


def test_upgrades_at_the_same_time_do_not_clash(empty_database_url, empty_engine):
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(migrate.upgrade, [empty_database_url] * 4))

    assert done == [migrate.head()] * 4
    migrate.check(empty_engine)


def test_step_that_fails_leaves_nothing_behind(empty_database_url, empty_engine, monkeypatch):
    upgrade = command.upgrade

    def break_off(*arguments):
        upgrade(*arguments)
        raise RuntimeError("power cut")

    monkeypatch.setattr(command, "upgrade", break_off)
    with pytest.raises(RuntimeError):
        migrate.upgrade(empty_database_url)

    assert inspect(empty_engine).get_table_names() == []


def test_existing_sqlite_file_is_copied_before_it_is_changed(tmp_path, monkeypatch):
    path = tmp_path / "datagen.db"
    url = f"sqlite:///{path}"
    migrate.upgrade(url)
    path.chmod(0o600)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO owners (id, name, created_at) VALUES ('1', 'ada', '2026-01-01')"
        )
        connection.execute("UPDATE alembic_version SET version_num = '2001_01_01_older'")
    known = (migrate.head(), "2001_01_01_older")
    monkeypatch.setattr(migrate, "_known", lambda: known)
    monkeypatch.setattr(command, "upgrade", lambda *_: None)

    migrate.upgrade(url)

    copy = tmp_path / "datagen.db.before-2001_01_01_older"
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT name FROM owners").fetchall() == [("ada",)]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir() if "before" in p.name) == [copy.name]


def test_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "datagen.db"
    path.write_bytes(b"these are not the bytes of a database" * 100)

    with pytest.raises(Unavailable, match="not a database"):
        migrate.upgrade(f"sqlite:///{path}")


def test_server_that_is_away_is_an_error_without_the_password(tmp_path):
    url = f"postgresql+psycopg://ada:hush@/datagen?host={tmp_path}"

    with pytest.raises(Unavailable) as refused:
        migrate.upgrade(url)
    assert "hush" not in refused.value.detail
    assert "DATAGEN_DATABASE_URL" in refused.value.detail


@pytest.mark.parametrize("url", ["", "mysql://x/y", "sqlite://", "no url", "postgresql://x/y"])
def test_url_of_another_database_is_refused(url):
    with pytest.raises(InvalidRequest, match="DATAGEN_DATABASE_URL"):
        migrate.upgrade(url)


def test_folder_called_migrations_in_the_current_directory_is_not_ours(tmp_path):
    for name in ("migrations", "workers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('taken for ours')")
        (tmp_path / name / "env.py").write_text("raise SystemExit('taken for ours')")
    url = f"sqlite:///{tmp_path / 'home' / 'datagen.db'}"
    program = f"from datagen.db.migrate import upgrade; print(upgrade({url!r}))"

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        check=False,
        text=True,
    )

    assert done.stdout.strip() == migrate.head(), done.stderr


def test_reading_does_not_wait_for_a_writer(engine):
    with engine.begin() as connection:
        connection.execute(text("UPDATE owners SET name = name"))
        with reading(engine) as session:
            assert session.execute(text("SELECT 1")).scalar_one() == 1
