from __future__ import annotations

import hashlib
import io
import json
import zipfile
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Export, Job, new_id
from datagen.errors import Conflict, Forbidden, Gone, InvalidRequest, NotFound, StorageFailure
from datagen.images import decode_png
from datagen.queue import RUN_EXPORT
from datagen.schemas import ExportCreate
from datagen.service import claims, export_writing, exports, jobs, links
from datagen.service.stale import requeue_stale
from datagen.service.sweep import sweep
from datagen.settings import Settings


def create(engine, owner, job, name="parquet"):
    with writing(engine) as session:
        wanted = ExportCreate(job=job.id, format=name)
        return exports.create(session, Settings(), owner.id, wanted)


def state(engine, owner, export):
    with reading(engine) as session:
        return exports.read(session, owner.id, export.id)


def opened(engine, storage, owner, export):
    with reading(engine) as session:
        row = exports.archive(session, owner.id, export.id)
    data = storage.get(row.archive_key)
    assert hashlib.sha256(data).hexdigest() == row.digest
    assert len(data) == row.size
    return zipfile.ZipFile(io.BytesIO(data))


def let_the_wait_pass(engine):
    with writing(engine) as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(update(Export).values(available_at=past))


def test_export_is_queued_and_a_message_sent(engine, owner, job):
    export, messages = create(engine, owner, job)

    assert (export.state, export.images_written, export.images_total) == ("queued", 0, 10)
    assert [(m.task, m.arguments) for m in messages] == [
        (RUN_EXPORT, {"export_id": str(export.id)})
    ]


def test_archive_holds_every_image_with_its_label(engine, storage, tiny, owner, job):
    export, _ = create(engine, owner, job)
    export_writing.run(engine, storage, tiny, export.id)

    done = state(engine, owner, export)
    assert (done.state, done.images_written) == ("succeeded", 10)
    with opened(engine, storage, owner, export) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".parquet"))
        table = pq.read_table(io.BytesIO(archive.read(name)))
        manifest = json.loads(archive.read("manifest.json"))
    assert table["label"].to_pylist() == [0] * 3 + [2] * 7
    pixels = [decode_png(entry["bytes"])[0, 0, 0] for entry in table["image"].to_pylist()]
    assert pixels == list(range(10))
    assert manifest["counts"]["train"] == {"ant": 3, "bee": 0, "cat": 7}
    assert manifest["jobs"][0]["request"]["labels"] == {"ant": 3, "cat": 7}
    assert manifest["partial"] is False


def test_image_folder_names_files_by_index(engine, storage, tiny, owner, job):
    export, _ = create(engine, owner, job, "imagefolder")
    export_writing.run(engine, storage, tiny, export.id)

    with opened(engine, storage, owner, export) as archive:
        images = [
            name
            for name in archive.namelist()
            if name.startswith("train/") and name.endswith("png")
        ]
    assert len(images) == 10
    assert sum("/cat/" in name for name in images) == 7


def test_same_job_gives_the_same_archive_again(engine, storage, tiny, owner, job):
    digests = set()
    for _ in range(2):
        export, _ = create(engine, owner, job)
        export_writing.run(engine, storage, tiny, export.id)
        digests.add(state(engine, owner, export).digest)

    assert len(digests) == 1


def test_export_with_two_messages_is_written_once(engine, storage, tiny, owner, job):
    export, _ = create(engine, owner, job)
    for _ in range(2):
        export_writing.run(engine, storage, tiny, export.id)

    with reading(engine) as session:
        assert session.get_one(Export, export.id).attempt == 1


def test_cancelled_job_is_exported_as_far_as_it_came(engine, storage, tiny, owner, start, store):
    job, ids = start(bee=12)
    store(ids[1])
    with writing(engine) as session:
        jobs.cancel(session, owner.id, job.id)

    export, _ = create(engine, owner, job)
    export_writing.run(engine, storage, tiny, export.id)

    with opened(engine, storage, owner, export) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["partial"] is True
    assert manifest["counts"]["train"]["bee"] == 4


def test_unknown_format_names_the_known_ones(engine, owner, job):
    with pytest.raises(InvalidRequest, match="imagefolder, npz, parquet") as refused:
        create(engine, owner, job, "jpeg2000")
    assert refused.value.field == "format"


def test_job_that_has_not_ended_is_a_conflict(engine, owner, start):
    job, _ = start(ant=1)
    with pytest.raises(Conflict, match="queued"):
        create(engine, owner, job)


def test_job_without_images_is_refused(engine, owner, start):
    job, _ = start(ant=1)
    with writing(engine) as session:
        jobs.cancel(session, owner.id, job.id)

    with pytest.raises(InvalidRequest, match="no images") as refused:
        create(engine, owner, job)
    assert refused.value.field == "job"


def test_anothers_job_and_export_are_not_found(engine, owner, job):
    export, _ = create(engine, owner, job)
    stranger = new_id()

    with writing(engine) as session:
        with pytest.raises(NotFound):
            exports.create(
                session, Settings(), stranger, ExportCreate(job=job.id, format="parquet")
            )
        with pytest.raises(NotFound):
            exports.read(session, stranger, export.id)
        with pytest.raises(NotFound):
            exports.archive(session, stranger, export.id)
        assert exports.list_exports(session, stranger).items == []


def test_archive_that_is_not_ready_is_a_conflict(engine, owner, job):
    export, _ = create(engine, owner, job)
    with reading(engine) as session, pytest.raises(Conflict, match="queued"):
        exports.archive(session, owner.id, export.id)


def test_exports_are_listed_by_job_newest_first(engine, owner, job, start, store):
    other, ids = start(ant=1)
    store(ids[0])
    create(engine, owner, other)
    mine = [create(engine, owner, job)[0].id for _ in range(3)]

    with reading(engine) as session:
        first = exports.list_exports(session, owner.id, job_id=job.id, limit=2)
        rest = exports.list_exports(
            session, owner.id, job_id=job.id, limit=2, cursor=first.next_cursor
        )
    assert [export.id for export in (*first.items, *rest.items)] == mine[::-1]


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda storage, key: storage.delete(key), "missing"),
        (lambda storage, key: storage.put(key, storage.get(key) + b"x"), "not as it was written"),
    ],
)
def test_spoilt_shard_fails_the_export_at_once(engine, storage, tiny, owner, job, spoil, word):
    with reading(engine) as session:
        spoil(storage, session.scalars(select(Batch.shard_key).order_by(Batch.start)).all()[1])
    export, _ = create(engine, owner, job)

    export_writing.run(engine, storage, tiny, export.id)

    failed = state(engine, owner, export)
    assert failed.state == "failed"
    assert word in failed.error
    assert not list(storage.list("exports/"))
    with reading(engine) as session, pytest.raises(Conflict, match=word):
        exports.archive(session, owner.id, export.id)


class FullDisk:
    """A store that can be read and not written."""

    def __init__(self, storage):
        self.open = storage.open

    def put(self, _key, _data):
        raise StorageFailure("The storage cannot be written: the disk is full.")


def test_full_disk_gives_the_export_back_until_the_last_attempt(engine, storage, tiny, owner, job):
    export, _ = create(engine, owner, job)
    for expected in ("queued", "queued", "failed"):
        export_writing.run(engine, FullDisk(storage), tiny, export.id)
        assert state(engine, owner, export).state == expected
        let_the_wait_pass(engine)

    assert "disk is full" in state(engine, owner, export).error


def test_export_succeeds_when_the_disk_has_room_again(engine, storage, tiny, owner, job):
    export, _ = create(engine, owner, job)
    export_writing.run(engine, FullDisk(storage), tiny, export.id)
    let_the_wait_pass(engine)
    with writing(engine) as session:
        messages = requeue_stale(session, tiny)
    assert [m.arguments["export_id"] for m in messages] == [str(export.id)]

    export_writing.run(engine, storage, tiny, export.id)

    done = state(engine, owner, export)
    assert (done.state, done.error) == ("succeeded", None)


class Overtaken:
    """A store in which, while the archive is put, another worker takes the export over."""

    def __init__(self, storage, take_over):
        self.open = storage.open
        self._storage, self._take_over = storage, take_over

    def put(self, key, data):
        self._storage.put(key, data)
        if key.endswith(".zip"):
            self._take_over()


def test_overtaken_worker_does_not_close_the_export(engine, storage, tiny, owner, job):
    export, _ = create(engine, owner, job)

    def take_over():
        with writing(engine) as session:
            past = now(session) - timedelta(seconds=1)
            session.execute(update(Export).values(lease_until=past))
            assert claims.claim(session, tiny, Export, export.id).attempt == 2

    export_writing.run(engine, Overtaken(storage, take_over), tiny, export.id)

    assert state(engine, owner, export).state == "running"


def test_unknown_export_is_let_be(engine, storage, tiny, owner):
    export_writing.run(engine, storage, tiny, new_id())


def test_failed_job_is_exported_too(engine, storage, tiny, owner, job):
    with writing(engine) as session:
        session.execute(update(Job).where(Job.id == job.id).values(state="failed"))
    export, _ = create(engine, owner, job)
    export_writing.run(engine, storage, tiny, export.id)

    assert state(engine, owner, export).state == "succeeded"


def test_cancelled_export_is_not_written(engine, storage, tiny, owner, job):
    export, _ = create(engine, owner, job)
    with writing(engine) as session:
        assert exports.cancel(session, owner.id, export.id).state == "cancelled"
        with pytest.raises(Conflict, match="cancelled"):
            exports.cancel(session, owner.id, export.id)

    export_writing.run(engine, storage, tiny, export.id)

    assert state(engine, owner, export).state == "cancelled"
    assert not list(storage.list("exports/"))


def test_export_cancelled_while_it_is_written_stays_so(engine, storage, tiny, owner, job):
    export, _ = create(engine, owner, job)

    def stop():
        with writing(engine) as session:
            row = session.get_one(Export, export.id)
            if row.state == "running":
                exports.cancel(session, owner.id, export.id)

    export_writing.run(engine, Overtaken(storage, stop), tiny, export.id)

    assert state(engine, owner, export).state == "cancelled"


def test_removed_export_is_gone_and_its_files_follow(engine, storage, tiny, owner, job):
    export, _ = create(engine, owner, job)
    with writing(engine) as session, pytest.raises(Conflict, match="cancel it first"):
        exports.remove(session, owner.id, export.id)
    export_writing.run(engine, storage, tiny, export.id)
    with writing(engine) as session:
        exports.remove(session, owner.id, export.id)

    with reading(engine) as session, pytest.raises(NotFound):
        exports.read(session, owner.id, export.id)
    assert len(list(storage.list("exports/"))) == 2
    sweep(engine, storage, tiny.model_copy(update={"sweep_seconds": 1e-9}))
    assert not list(storage.list("exports/"))


def test_export_expires_and_its_row_says_so(engine, storage, tiny, owner, job):
    kept, _ = create(engine, owner, job)
    export_writing.run(engine, storage, tiny, kept.id)
    export, _ = create(engine, owner, job)
    export_writing.run(engine, storage, tiny.model_copy(update={"export_ttl": 3600.0}), export.id)
    assert state(engine, owner, export).expires_at is not None
    assert not state(engine, owner, export).expired

    with writing(engine) as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(update(Export).where(Export.id == export.id).values(expires_at=past))
    assert state(engine, owner, export).expired
    with reading(engine) as session, pytest.raises(Gone, match="expired on"):
        exports.archive(session, owner.id, export.id)
    sweep(engine, storage, tiny.model_copy(update={"sweep_seconds": 1e-9}))

    assert state(engine, owner, export).expired
    assert {found.key.split("/")[1] for found in storage.list("exports/")} == {str(kept.id)}
    with reading(engine) as session:
        exports.archive(session, owner.id, kept.id)


def test_link_opens_what_it_was_made_for_until_it_ends(engine, owner, job):
    export, _ = create(engine, owner, job)
    with reading(engine) as session, pytest.raises(Forbidden):
        links.check(session, export.id, "zip", 2**40, "00")
    with writing(engine) as session:
        later = int(links.expiry(session, 60).timestamp())
        good = links.signature(session, export.id, "zip", later)
        over = links.signature(session, export.id, "zip", 1)
    with reading(engine) as session:
        links.check(session, export.id, "zip", later, good)
        for what, expires, given in (
            ("tar", later, good),
            ("zip", later + 1, good),
            ("zip", later, good[:-1]),
            ("zip", later, ""),
        ):
            with pytest.raises(Forbidden, match="changed"):
                links.check(session, export.id, what, expires, given)
        with pytest.raises(Forbidden, match="expired"):
            links.check(session, export.id, "zip", 1, over)
        with pytest.raises(Forbidden, match="changed"):
            links.check(session, new_id(), "zip", later, good)


def test_export_that_was_delivered_before_its_worker_was_killed_ends_well(
    engine, storage, tiny, owner, job, tmp_path
):
    settings = tiny.model_copy(update={"export_destinations": f"disk={tmp_path.as_uri()}/out"})
    wanted = ExportCreate(job=job.id, format="npz", destination="disk", path="today")
    with writing(engine) as session:
        export, _ = exports.create(session, settings, owner.id, wanted)
        other, _ = exports.create(session, settings, owner.id, wanted)
    export_writing.run(engine, storage, settings, export.id)
    first = state(engine, owner, export)
    with writing(engine) as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(
            update(Export)
            .where(Export.id == export.id)
            .values(state="running", lease_until=past, digest=None, bytes=None, ended_at=None)
        )
    export_writing.run(engine, storage, settings, export.id)
    again = state(engine, owner, export)
    assert (again.state, again.digest, again.location) == ("succeeded", first.digest, "disk/today")
    export_writing.run(engine, storage, settings, other.id)
    assert "There is an export at 'today'" in state(engine, owner, other).error
