"""Everything out, and everything in again: into either database."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from sqlalchemy import func, select

from datagen.db.migrate import upgrade
from datagen.db.session import open_engine, reading, writing
from datagen.db.tables import Job, Secret, Table
from datagen.errors import Conflict, InvalidFile, Unauthorized
from datagen.service import backup, checking, jobs, keys, links, replays, sign_ins
from datagen.service.replays import Answer
from datagen.storage import FileStorage


def silent(_name, _done):
    pass


def contents(engine):
    with reading(engine) as session:
        return {
            table.name: sorted(map(repr, session.execute(select(table)).all()))
            for table in Table.metadata.sorted_tables
        }


@pytest.fixture
def made(engine, storage, job, tmp_path):
    """A backup of a job, and its folder."""
    folder = tmp_path / "backup"
    backup.backup(engine, storage, folder, silent)
    return folder


@pytest.fixture
def elsewhere(tmp_path):
    """Another database and store, empty."""
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    upgrade(url)
    engine = open_engine(url)
    yield engine, FileStorage(tmp_path / "elsewhere")
    engine.dispose()


def test_restored_service_is_the_one_that_was_backed_up(engine, owner, job, made, elsewhere):
    other, files = elsewhere
    backup.restore(other, files, made, silent)
    assert contents(other) == contents(engine)
    assert [found.problem for found in checking.check(other, files)] == [None] * 3
    with reading(other) as session:
        assert jobs.read(session, owner.id, job.id).images_stored == 10


def test_backup_lets_nobody_in(engine, storage, owner, tmp_path, elsewhere):
    with writing(engine) as session:
        asker = keys.authenticate(session, keys.create_key(session, "me", ["admin"]))
        token, _ = sign_ins.make_link(session, asker)
        cookie, _ = sign_ins.begin(session, asker)
        links.signature(session, owner.id, "zip", 1)
        secrets = session.scalars(select(Secret.value)).all()
        began = replays.begin(session, asker.caller, "k", b"h" * 32)
        answer = Answer(202, {}, b"answer-of-mine")
        replays.finish(session, asker.caller, "k", began, b"b" * 32, answer)
    folder = tmp_path / "quiet"
    backup.backup(engine, storage, folder, silent)
    written = b"".join(
        str(pq.read_table(path).to_pylist()).encode() for path in folder.glob("tables/*.parquet")
    )
    assert b"'me'" in written
    assert len(secrets) == 2
    for secret in (
        token.encode(),
        b"answer-of-mine",
        *(str(one)[2:-1].encode() for one in secrets),
    ):
        assert secret not in written
    other, files = elsewhere
    backup.restore(other, files, folder, silent)
    with writing(other) as session, pytest.raises(Unauthorized):
        sign_ins.principal_of(session, cookie)


def test_backup_appears_whole_and_replaces_nothing(engine, storage, made):
    assert [path.name for path in made.parent.glob(".backup*")] == []
    manifest = json.loads((made / "backup.json").read_text())
    assert manifest["tables"]["samples"] == 10
    assert len(manifest["files"]) == 3
    with pytest.raises(Conflict, match="is not empty"):
        backup.backup(engine, storage, made, silent)


def test_database_with_rows_is_not_restored_into(engine, storage, made):
    with pytest.raises(Conflict, match="has 1 jobs already"):
        backup.restore(engine, storage, made, silent)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "backup.json").unlink(), "is no backup"),
        (lambda folder: (folder / "backup.json").write_text("{}"), "is no backup"),
        (lambda folder: next(folder.glob("files/jobs/*/*")).unlink(), "is missing"),
        (lambda folder: next(folder.glob("files/jobs/*/*")).write_bytes(b"x"), "is damaged"),
        (lambda folder: (folder / "tables/samples.parquet").write_bytes(b"x"), "cannot be read"),
        (
            lambda folder: (folder / "tables/samples.parquet").write_bytes(
                (folder / "tables/jobs.parquet").read_bytes()
            ),
            "has other columns",
        ),
    ],
)
def test_damaged_backup_is_refused_and_leaves_no_row(made, elsewhere, spoil, sentence):
    other, files = elsewhere
    before = contents(other)
    spoil(made)
    with pytest.raises(InvalidFile, match=sentence):
        backup.restore(other, files, made, silent)
    assert contents(other) == before


def test_backup_of_another_version_says_which(made, elsewhere):
    other, files = elsewhere
    manifest = json.loads((made / "backup.json").read_text())
    (made / "backup.json").write_text(json.dumps(manifest | {"revision": "2026_01_01_old"}))
    with pytest.raises(InvalidFile, match="is of revision 2026_01_01_old"):
        backup.restore(other, files, made, silent)


def test_rows_of_a_first_start_give_way(engine, owner, made, elsewhere):
    other, files = elsewhere
    from datagen.db.session import writing  # noqa: PLC0415 - used here alone
    from datagen.service import keys  # noqa: PLC0415

    with writing(other) as session:
        keys.create_key(session, "local", ["admin"])
    backup.restore(other, files, made, silent)
    assert contents(other) == contents(engine)
    with reading(other) as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1
