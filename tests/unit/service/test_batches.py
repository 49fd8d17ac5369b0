from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Job, Sample
from datagen.errors import StorageFailure
from datagen.queue import RUN_BATCH
from datagen.schemas import JobCreate
from datagen.service import batches, claims, jobs
from datagen.service.stale import requeue_stale


@pytest.fixture
def job(engine, settings, owner, model):
    with writing(engine) as session:
        made, _ = jobs.create(session, settings, owner.id, JobCreate(model="pets", all=2, seed=3))
    return made


@pytest.fixture
def batch_id(engine, job):
    with reading(engine) as session:
        return session.scalar(select(Batch.id).where(Batch.job_id == job.id))


def claim(engine, settings, batch_id):
    with writing(engine) as session:
        return batches.claim(session, settings, batch_id)


def close(engine, work, result):
    with writing(engine) as session:
        return batches.close(session, work, result)


def failed(session, settings, work, reason):
    end = batches.failing(work.batch_id, work.attempt)
    error = StorageFailure(reason)
    return claims.end_attempt(session, settings, Batch, work.batch_id, work.attempt, error, end)


def expire(engine, batch_id):
    """Let the lease end, as time would."""
    with writing(engine) as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(update(Batch).where(Batch.id == batch_id).values(lease_until=past))


def make_due(engine, batch_id):
    """Let the wait between attempts end, as time would."""
    with writing(engine) as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(update(Batch).where(Batch.id == batch_id).values(available_at=past))


def tick(engine, settings):
    with writing(engine) as session:
        return requeue_stale(session, settings)


def rows(engine, job):
    with reading(engine) as session:
        query = select(func.count()).select_from(Sample).where(Sample.job_id == job.id)
        return session.scalar(query)


def state_of(engine, job):
    with reading(engine) as session:
        return session.get_one(Job, job.id)


def test_batch_with_two_messages_is_claimed_once(engine, settings, batch_id):
    assert claim(engine, settings, batch_id) is not None
    assert claim(engine, settings, batch_id) is None


def test_batch_delivered_twice_records_samples_once(engine, settings, job, batch_id, result_of):
    work = claim(engine, settings, batch_id)
    close(engine, work, result_of(work))

    assert claim(engine, settings, batch_id) is None
    assert close(engine, work, result_of(work)) is None
    assert rows(engine, job) == 6
    assert state_of(engine, job).images_stored == 6


def test_stale_worker_that_finishes_late_writes_nothing(engine, settings, job, batch_id, result_of):
    stale = claim(engine, settings, batch_id)
    expire(engine, batch_id)
    winner = claim(engine, settings, batch_id)
    assert winner.attempt == stale.attempt + 1

    assert close(engine, stale, result_of(stale)) is None
    assert close(engine, winner, result_of(winner)) is not None

    assert rows(engine, job) == 6
    with reading(engine) as session:
        row = session.get_one(Batch, batch_id)
    assert row.shard_key == result_of(winner).shard_key
    assert close(engine, stale, result_of(stale)) is None


def test_lease_that_is_renewed_is_not_taken(engine, settings, batch_id):
    work = claim(engine, settings, batch_id)
    expire(engine, batch_id)
    with writing(engine) as session:
        assert claims.renew(session, settings, Batch, batch_id, work.attempt)

    assert claim(engine, settings, batch_id) is None


def test_stale_worker_cannot_renew_or_release(engine, settings, batch_id):
    stale = claim(engine, settings, batch_id)
    expire(engine, batch_id)
    claim(engine, settings, batch_id)

    with writing(engine) as session:
        assert not claims.renew(session, settings, Batch, batch_id, stale.attempt)
        assert not failed(session, settings, stale, "disk full")


def test_silent_workers_batch_is_sent_again_after_its_wait(engine, settings, batch_id):
    claim(engine, settings, batch_id)
    expire(engine, batch_id)

    assert tick(engine, settings) == []
    make_due(engine, batch_id)
    messages = tick(engine, settings)

    assert [(m.task, m.arguments) for m in messages] == [(RUN_BATCH, {"batch_id": str(batch_id)})]
    assert tick(engine, settings) == []


@pytest.mark.parametrize(
    ("count", "expected"),
    [(500, [(0, True), (256, True)]), (2000, [(0, True), (256, False), (1256, False)])],
)
def test_small_jobs_and_the_first_images_of_large_ones_are_urgent(
    engine, settings, owner, model, count, expected
):
    own = settings.model_copy(update={"batch_size": 1000})
    request = JobCreate(model="pets", labels={model.class_names[0]: count})
    with writing(engine) as session:
        _, messages = jobs.create(session, own, owner.id, request)
        starts = [
            session.get_one(Batch, UUID(message.arguments["batch_id"])).start
            for message in messages
        ]

    told = zip(starts, (message.urgent for message in messages), strict=True)
    assert list(told)[: len(expected)] == expected


def test_queued_batch_whose_message_was_lost_is_sent_again(engine, settings, batch_id):
    assert tick(engine, settings) == []
    with writing(engine) as session:
        long_ago = now(session) - timedelta(seconds=settings.resend_seconds + 1)
        session.execute(update(Batch).values(sent_at=long_ago))

    assert [m.arguments["batch_id"] for m in tick(engine, settings)] == [str(batch_id)]


def test_batch_that_kills_every_worker_fails_its_job_after_the_last_attempt(
    engine, settings, owner, model, job, batch_id
):
    starts = 0
    for _ in range(settings.max_attempts + 5):
        starts += claim(engine, settings, batch_id) is not None
        expire(engine, batch_id)
        tick(engine, settings)
        make_due(engine, batch_id)
        tick(engine, settings)

    assert starts == settings.max_attempts
    ended = state_of(engine, job)
    assert ended.state == "failed"
    assert f"{settings.max_attempts} attempts" in ended.error


def test_failure_that_may_pass_waits_longer_each_time(engine, settings, batch_id):
    waits = []
    for _ in range(3):
        work = claim(engine, settings, batch_id)
        with writing(engine) as session:
            failed(session, settings, work, "the disk is full")
            waits.append(session.get_one(Batch, batch_id).available_at - now(session))
        make_due(engine, batch_id)

    assert waits[0] < waits[1] < waits[2]


def test_last_failure_gives_its_reason_to_the_job(engine, settings, job, batch_id):
    once = settings.model_copy(update={"max_attempts": 1})
    work = claim(engine, once, batch_id)
    with writing(engine) as session:
        failed(session, once, work, "the disk is full")

    ended = state_of(engine, job)
    assert ended.state == "failed"
    assert "the disk is full" in ended.error


def test_failed_batch_cancels_the_jobs_other_batches_and_keeps_its_samples(
    engine, settings, owner, model, result_of
):
    tiny = settings.model_copy(update={"batch_size": 2})
    with writing(engine) as session:
        job, messages = jobs.create(session, tiny, owner.id, JobCreate(model="pets", all=2))
    first, second, third = [UUID(message.arguments["batch_id"]) for message in messages]
    done, bad = claim(engine, tiny, first), claim(engine, tiny, second)
    close(engine, done, result_of(done))
    with writing(engine) as session:
        batches.fail(session, bad.batch_id, bad.attempt, "the weights are damaged")

    assert claim(engine, tiny, third) is None
    assert state_of(engine, job).state == "failed"
    assert rows(engine, job) == 2


def test_lost_follow_up_is_healed_by_the_tick(engine, settings, owner, model, result_of):
    narrow = settings.model_copy(update={"batch_size": 1, "window": 1})
    with writing(engine) as session:
        job, messages = jobs.create(session, narrow, owner.id, JobCreate(model="pets", all=1))
    done = 0
    while messages:
        work = claim(engine, narrow, UUID(messages[0].arguments["batch_id"]))
        close(engine, work, result_of(work))  # its own messages are lost
        messages = tick(engine, narrow)
        done += 1

    assert done == 3
    assert state_of(engine, job).state == "succeeded"
