from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from datagen.db.session import now, open_engine, reading, writing
from datagen.db.tables import Batch, Job
from datagen.errors import Cancelled
from datagen.schemas import JobCreate
from datagen.service import batches, jobs
from datagen.service.lease import LOOK_SECONDS, Lease


@pytest.fixture
def batch_id(engine, settings, owner, model, batch_ids):
    with writing(engine) as session:
        _, messages = jobs.create(session, settings, owner.id, JobCreate(model="pets", all=2))
    return batch_ids(messages)[0]


@pytest.fixture
def work(engine, settings, batch_id):
    with writing(engine) as session:
        return batches.claim(session, settings, batch_id)


@pytest.fixture
def clock(monkeypatch):
    """The lease's clock, which the test moves."""
    moment = [0.0]
    monkeypatch.setattr("datagen.service.lease.time.monotonic", lambda: moment[0])

    def forward():
        moment[0] += LOOK_SECONDS

    return forward


def test_lease_is_renewed_while_work_goes_on(engine, settings, work):
    brief = settings.model_copy(update={"lease_seconds": 0.3})
    with writing(engine) as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(update(Batch).values(lease_until=past))
    renewed = threading.Event()

    with Lease(engine, brief, Batch, work.batch_id, work.attempt):
        while not renewed.is_set():
            with reading(engine) as session:
                if session.scalars(select(Batch.lease_until)).one() > past:
                    renewed.set()

    assert renewed.is_set()


def test_check_passes_while_the_claim_stands(engine, settings, work, clock):
    with Lease(engine, settings, Batch, work.batch_id, work.attempt) as lease:
        clock()
        lease.check()


@pytest.mark.parametrize(
    "change", [{"state": "cancelled"}, {"attempt": 2}, {"state": "queued", "lease_until": None}]
)
def test_check_stops_work_whose_claim_was_lost(engine, settings, work, clock, change):
    with Lease(engine, settings, Batch, work.batch_id, work.attempt) as lease:
        with writing(engine) as session:
            session.execute(update(Batch).values(**change))
        lease.check()
        clock()
        with pytest.raises(Cancelled, match=str(work.batch_id)):
            lease.check()
        with pytest.raises(Cancelled):
            lease.check()


def test_cancelled_job_stops_its_batches(engine, settings, owner, work, clock):
    with Lease(engine, settings, Batch, work.batch_id, work.attempt) as lease:
        with writing(engine) as session:
            jobs.cancel(session, owner.id, work.job_id)
        clock()
        with pytest.raises(Cancelled):
            lease.check()


def test_of_many_workers_that_claim_at_once_one_gets_the_batch(database_url, settings, batch_id):
    begin = threading.Barrier(4)

    def claim(_):
        own = open_engine(database_url)
        begin.wait()
        with writing(own) as session:
            got = batches.claim(session, settings, batch_id)
        own.dispose()
        return got

    with ThreadPoolExecutor(4) as pool:
        claims = list(pool.map(claim, range(4)))

    assert sum(got is not None for got in claims) == 1


def test_batches_closed_at_once_are_all_counted(
    database_url, engine, settings, owner, model, batch_ids, result_of
):
    tiny = settings.model_copy(update={"batch_size": 3})
    with writing(engine) as session:
        job, messages = jobs.create(session, tiny, owner.id, JobCreate(model="pets", all=8))
    begin = threading.Barrier(4)
    parts = [batch_ids(messages)[first::4] for first in range(4)]

    def run(part):
        own = open_engine(database_url)
        begin.wait()
        for one in part:
            with writing(own) as session:
                work = batches.claim(session, tiny, one)
            with writing(own) as session:
                batches.close(session, work, result_of(work))
        own.dispose()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, parts))

    with reading(engine) as session:
        done = session.get_one(Job, job.id)
        shown = jobs.read(session, owner.id, job.id)
    assert (done.state, done.images_stored) == ("succeeded", 24)
    assert [entry.stored for entry in shown.labels] == [8, 8, 8]
