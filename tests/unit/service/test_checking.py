"""Rows that differ from their shards are found and made again; shards are asked for."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select, update

from datagen.db.session import reading, writing
from datagen.db.tables import Batch, Sample
from datagen.queue import REPAIR_BATCH
from datagen.service import checking


def problems(engine, storage, job_id=None):
    return [found.problem for found in checking.check(engine, storage, job_id) if found.problem]


def rows(engine, job):
    with reading(engine) as session:
        return session.execute(
            select(Sample.index, Sample.label, Sample.score, Sample.digest, Sample.first_source)
            .where(Sample.job_id == job.id)
            .order_by(Sample.index)
        ).all()


def test_what_agrees_has_no_problem(engine, storage, job):
    found = list(checking.check(engine, storage))
    assert [
        (one.start, one.stop, one.problem) for one in sorted(found, key=lambda one: one.start)
    ] == [
        (0, 4, None),
        (4, 8, None),
        (8, 10, None),
    ]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda j: delete(Sample).where(Sample.job_id == j, Sample.index == 5), "have 3 rows, and"),
        (
            lambda j: update(Sample).where(Sample.job_id == j, Sample.index == 5).values(label=0),
            "The row of image 5 is not what",
        ),
        (
            lambda j: update(Sample).where(Sample.job_id == j, Sample.index == 5).values(score=0.4),
            "The row of image 5 is not what",
        ),
        (
            lambda j: (
                update(Sample).where(Sample.job_id == j, Sample.index == 5).values(digest=bytes(32))
            ),
            "The row of image 5 is not what",
        ),
    ],
)
def test_rows_that_differ_are_found_and_made_again(engine, storage, job, spoil, sentence):
    before = rows(engine, job)
    with writing(engine) as session:
        session.execute(spoil(job.id))
    (problem,) = problems(engine, storage)
    assert sentence in problem
    assert problems(engine, storage, job.id) == [problem]

    ((found, message),) = checking.rebuild(engine, storage)
    assert (found.start, message) == (4, None)
    assert rows(engine, job) == before
    assert problems(engine, storage) == []


@pytest.mark.parametrize("how", ["missing", "changed"])
def test_shards_that_are_gone_are_asked_for(engine, storage, job, how):
    with reading(engine) as session:
        batch = session.scalars(select(Batch).where(Batch.start == 4)).one()
    if how == "missing":
        storage.delete(batch.shard_key)
    else:
        storage.put(batch.shard_key, storage.get(batch.shard_key)[:-1] + b"x")
    (problem,) = problems(engine, storage)
    assert ("missing" if how == "missing" else "not as it was written") in problem

    ((found, message),) = checking.rebuild(engine, storage)
    assert found.is_of_shard
    assert (message.task, message.arguments) == (REPAIR_BATCH, {"batch_id": str(batch.id)})
    with reading(engine) as session:
        assert session.get_one(Batch, batch.id).repair_asked_at is not None


def test_jobs_that_go_on_are_left_alone(engine, storage, start, store):
    _, ids = start(ant=10)
    store(ids[0])
    assert list(checking.check(engine, storage)) == []
