from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Export, Job, Model, Sample
from datagen.queue import REPAIR_BATCH, RUN_EXPORT
from datagen.schemas import ExportCreate, JobCreate
from datagen.service import export_writing, exports, jobs
from datagen.work.repair import repair_batch

GATE = {"min_score": 0.0, "reject_copies": False, "reject_duplicates": True}


@pytest.fixture(params=[{"all": 40}, {"all": 40, "gate": GATE, "temperature": 0.01}],
                ids=["plain", "gated"])  # fmt: skip
def job(request, engine, settings, owner, queue, model, worker, work_off):
    """A job in several shards that has succeeded; with a gate, some images were drawn again."""
    own = settings.model_copy(update={"batch_size": 50})
    with writing(engine) as session:
        wanted = JobCreate(model="stripes", seed=11, **request.param)
        made, messages = jobs.create(session, own, owner.id, wanted)
    queue.send(messages)
    work_off(worker())
    with reading(engine) as session:
        assert session.get_one(Job, made.id).state == "succeeded"
    return made


def shards(engine, job):
    with reading(engine) as session:
        query = select(Batch).where(Batch.job_id == job.id).order_by(Batch.start)
        return list(session.scalars(query))


def rows(engine, job):
    with reading(engine) as session:
        query = select(Sample).where(Sample.job_id == job.id).order_by(Sample.index)
        return [
            (row.index, row.label, row.attempt, row.score, row.digest)
            for row in session.scalars(query)
        ]


@pytest.fixture
def exported(engine, storage, settings, owner, queue, worker):
    """Write an export that repairs, as workers would do it between them."""

    def export(job, *, repair=True):
        with writing(engine) as session:
            wanted = ExportCreate(job=job.id, format="npz", repair=repair)
            made, messages = exports.create(session, settings, owner.id, wanted)

        def run_export(export_id):
            with writing(engine) as session:
                past = now(session) - timedelta(seconds=1)
                session.execute(update(Export).values(available_at=past))
            queue.send(export_writing.run(engine, storage, settings, UUID(export_id)) or [])

        generation = worker()
        queue.tasks = {
            RUN_EXPORT: run_export,
            REPAIR_BATCH: lambda batch_id: repair_batch(generation, UUID(batch_id)),
        }
        queue.send(messages)
        queue.run_all()
        queue.send(messages)
        queue.run_all()
        with reading(engine) as session:
            return exports.read(session, owner.id, made.id)

    return export


def test_lost_and_damaged_shards_are_made_again_byte_by_byte(engine, storage, job, exported):
    before, known = shards(engine, job), rows(engine, job)
    whole = {batch.shard_key: storage.get(batch.shard_key) for batch in before}
    good = exported(job)
    storage.delete(before[0].shard_key)
    storage.put(before[1].shard_key, b"something else")
    assert "missing" in exported(job, repair=False).error

    export = exported(job)

    assert (export.state, export.error) == ("succeeded", None)
    assert export.digest == good.digest
    assert {key: storage.get(key) for key in whole} == whole
    assert rows(engine, job) == known
    assert all(batch.repair_asked_at is None for batch in shards(engine, job))
    with reading(engine) as session:
        assert session.get_one(Job, job.id).images_stored == job.images_requested


def test_whole_shards_are_left_alone(engine, storage, job, exported, queue):
    changed = {found.key: found.changed_at for found in storage.list("jobs/")}
    assert exported(job).state == "succeeded"
    assert {found.key: found.changed_at for found in storage.list("jobs/")} == changed


def test_rows_follow_where_another_machine_makes_other_images(
    engine, storage, job, exported, add_model
):
    # Other weights stand for another kind of device.
    other = add_model("other", seed=5)
    storage.delete(shards(engine, job)[0].shard_key)
    before = rows(engine, job)
    with writing(engine) as session:
        row = session.get_one(Model, session.get_one(Job, job.id).model_id)
        for name in ("digest", "checkpoint_key", "judge_digest", "judge_key"):
            setattr(row, name, getattr(other, name))

    assert exported(job).state == "succeeded"

    after, first = rows(engine, job), shards(engine, job)[0]
    assert [row[:3] for row in after] == [row[:3] for row in before]
    differs = [one[4] != two[4] for one, two in zip(before, after, strict=True)]
    assert all(differs[: first.stop])
    assert not any(differs[first.stop :])
    assert exported(job).state == "succeeded"


def test_shard_that_cannot_be_made_again_is_named(engine, storage, job, exported, model):
    storage.delete(shards(engine, job)[0].shard_key)
    storage.delete(model.checkpoint_key)

    export = exported(job)

    assert export.state == "failed"
    assert "could not be made again: images 0 to" in export.error
