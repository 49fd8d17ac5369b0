"""The closing pass of a job that wants no image twice, as others see it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Job
from datagen.queue import SETTLE_JOB
from datagen.schemas import JobCreate
from datagen.service import batches, jobs, settling
from datagen.service.stale import requeue_stale


@pytest.fixture
def job(engine, tiny, owner, model, batch_ids):
    """A job of two batches, and how to close the next of them."""
    gate = {"reject_duplicates": True, "reject_copies": False}
    request = JobCreate(model="pets", labels={"ant": 6}, gate=gate)
    with writing(engine) as session:
        made, messages = jobs.create(session, tiny, owner.id, request)
    return made, iter(batch_ids(messages))


@pytest.fixture
def close(engine, tiny, job, result_of):
    def run(*, twice=False):
        with writing(engine) as session:
            work = batches.claim(session, tiny, next(job[1]))
        result = result_of(work)
        if twice:
            alike = [result.samples.digests[0]] * len(result.samples.digests)
            result = replace(result, samples=replace(result.samples, digests=alike))
        with writing(engine) as session:
            return batches.close(session, work, result)

    return run


@pytest.fixture
def job_view(engine, owner, job):
    def read():
        with reading(engine) as session:
            return jobs.read(session, owner.id, job[0].id)

    return read


def tasks(messages):
    return [message.task for message in messages]


def test_job_is_settling_from_its_last_image_to_its_end(engine, job, close, job_view):
    assert (job_view().state, job_view().stage) == ("queued", "waiting")
    close()
    assert (job_view().state, job_view().stage) == ("running", "generating")
    assert SETTLE_JOB in tasks(close())
    assert (job_view().state, job_view().stage) == ("running", "settling")
    settling.settle(engine, job[0].id)
    assert (job_view().state, job_view().stage) == ("succeeded", None)


def test_job_whose_duplicates_are_generated_again_is_settling(engine, tiny, job, close, job_view):
    close()
    close(twice=True)
    messages = settling.settle(engine, job[0].id)
    assert tasks(messages) == ["datagen.run_batch"]
    assert (job_view().state, job_view().stage) == ("running", "settling")
    # While the batch is open again, no other round is begun, and the job does not end.
    assert settling.settle(engine, job[0].id) == []
    assert job_view().state == "running"


def test_job_that_is_not_whole_is_not_settled(engine, job, close, job_view):
    close()
    assert settling.settle(engine, job[0].id) == []
    assert (job_view().state, job_view().stage) == ("running", "generating")


def test_lost_message_of_the_closing_pass_is_sent_again_once(engine, tiny, job, close):
    close()
    close()
    patient = tiny.model_copy(update={"resend_seconds": 60.0})

    def sent():
        with writing(engine) as session:
            return [m for m in tasks(requeue_stale(session, patient)) if m == SETTLE_JOB]

    assert sent() == []
    with writing(engine) as session:
        session.execute(update(Job).values(settle_sent_at=now(session) - timedelta(seconds=61)))
    assert sent() == [SETTLE_JOB]
    assert sent() == []
