from __future__ import annotations

import hashlib
import io
from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select, update
from tiny import CPU, SHAPE

from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Job, Sample
from datagen.model.checkpoint import load_generator
from datagen.model.decoding import Decoder
from datagen.model.samplers import Sampling, draw_latents
from datagen.schemas import JobCreate
from datagen.service import jobs
from datagen.service.stale import requeue_stale
from datagen.shards import read_sample
from datagen.storage import FileStorage
from datagen.work.stopwatch import STAGES


class InterruptedStorage(FileStorage):
    """A store on a machine where something happens just before a file is kept."""

    def __init__(self, root, before_put):
        super().__init__(root)
        self._before_put = before_put

    def put(self, key, data):
        self._before_put()
        super().put(key, data)


@pytest.fixture
def submit(engine, settings, owner, queue):
    def create(model="stripes", batch_size=2000, **request):
        own = settings.model_copy(update={"batch_size": batch_size})
        wanted = JobCreate(model=model, seed=11, **(request or {"all": 2}))
        with writing(engine) as session:
            job, messages = jobs.create(session, own, owner.id, wanted)
        queue.send(messages)
        return job

    return create


def stored(engine, job):
    with reading(engine) as session:
        query = select(Sample).where(Sample.job_id == job.id).order_by(Sample.index)
        return list(session.scalars(query))


def job_of(engine, job):
    with reading(engine) as session:
        return session.get_one(Job, job.id)


def batch_of(engine, job):
    with reading(engine) as session:
        return session.scalars(select(Batch).where(Batch.job_id == job.id)).one()


def expire(engine):
    """Let every lease end, as time would."""
    with writing(engine) as session:
        session.execute(update(Batch).values(lease_until=now(session) - timedelta(seconds=1)))


def make_due(engine):
    """Let every wait between attempts end, as time would."""
    with writing(engine) as session:
        session.execute(update(Batch).values(available_at=now(session) - timedelta(seconds=1)))


def file_of(storage, key):
    return storage.root / key


def test_same_request_gives_same_digests_whatever_batches_and_workers(
    engine, model, submit, worker, work_off
):
    plan = {"class 0": 300, "class 2": 1}
    first, second = worker(), worker()
    digests = []
    for batch_size, workers in ((64, [first]), (64, [first, second]), (1000, [second])):
        job = submit(labels=plan, batch_size=batch_size)
        work_off(*workers)
        digests.append([(row.index, row.label, row.digest) for row in stored(engine, job)])

    assert [number for number, _, _ in digests[0]] == list(range(301))
    assert [label for _, label, _ in digests[0]] == [0] * 300 + [2]
    assert digests[0] == digests[1] == digests[2]
    assert len({digest for _, _, digest in digests[0]}) == 301


def test_every_row_answers_for_the_image_that_is_stored(
    engine, storage, model, submit, worker, work_off
):
    job = submit(all=3)
    work_off(worker())

    batch, rows = batch_of(engine, job), stored(engine, job)
    shard = storage.get(batch.shard_key)
    assert hashlib.sha256(shard).hexdigest() == batch.shard_digest
    assert len(shard) == batch.shard_bytes
    for row in rows:
        png = read_sample(io.BytesIO(shard), row.index)
        assert hashlib.sha256(png).digest() == row.digest
        assert Image.open(io.BytesIO(png)).size == (SHAPE[2], SHAPE[1])
        assert 0.0 <= row.score <= 1.0
        assert row.score == round(row.score, 4)


def test_stored_pixels_are_the_decoders_own(
    engine, storage, model, submit, worker, work_off, tmp_path
):
    job = submit(all=2, temperature=0.5)
    work_off(worker())

    generator, _ = load_generator(file_of(storage, model.checkpoint_key), CPU)
    labels = np.repeat(np.arange(3), 2)
    sampling = Sampling(temperature=0.5)
    zero = np.zeros(6, np.int64)
    latents = draw_latents(generator, sampling, job.seed, np.arange(6), zero, labels).latents
    pixels = np.concatenate(list(Decoder(generator, CPU).tiles(latents, labels)))
    shard = io.BytesIO(storage.get(batch_of(engine, job).shard_key))
    for row in range(6):
        found = np.asarray(Image.open(io.BytesIO(read_sample(shard, row))))
        np.testing.assert_array_equal(found, pixels[row, 0])


def test_job_tells_what_made_it_and_how_long_each_stage_took(
    engine, model, submit, worker, work_off
):
    job = submit(all=2)
    work_off(worker())

    batch, ended = batch_of(engine, job), job_of(engine, job)
    assert batch.device.startswith("cpu-")
    assert batch.torch_version
    assert ended.state == "succeeded"
    assert all(getattr(ended, f"seconds_{stage}") > 0 for stage in STAGES)


def test_batch_delivered_twice_is_stored_once(engine, model, submit, queue, worker, work_off):
    job = submit(all=2)
    queue.send(list(queue.waiting))

    assert work_off(worker()) == 2
    assert len(stored(engine, job)) == 6
    assert batch_of(engine, job).attempt == 1


def test_worker_that_is_overtaken_while_it_stores_records_nothing(
    engine, storage, model, submit, queue, worker, work_off
):
    job = submit(all=2)
    batch_id = UUID(queue.waiting[0].arguments["batch_id"])
    winner = worker()
    ran = []

    def overtake():
        expire(engine)
        winner.run_batch(batch_id)
        ran.append(batch_of(engine, job).attempt)

    stale = worker(InterruptedStorage(storage.root, overtake))
    stale.run_batch(batch_id)

    assert ran == [2]
    batch = batch_of(engine, job)
    assert (batch.state, batch.attempt) == ("succeeded", 2)
    assert len(stored(engine, job)) == job_of(engine, job).images_stored == 6
    assert [file.key for file in storage.list("jobs/")] == [batch.shard_key]


def test_job_cancelled_while_its_batch_is_stored_stays_cancelled(
    engine, storage, owner, model, submit, worker, work_off
):
    job = submit(all=2)

    def cancel():
        with writing(engine) as session:
            jobs.cancel(session, owner.id, job.id)

    work_off(worker(InterruptedStorage(storage.root, cancel)))

    assert job_of(engine, job).state == "cancelled"
    assert stored(engine, job) == []


@pytest.mark.parametrize("part", ["checkpoint_key", "judge_key"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_damaged_weights_fail_the_job_at_once_with_the_reason(
    engine, storage, model, submit, worker, work_off, part, damage
):
    key = getattr(model, part)
    data = storage.get(key)
    storage.delete(key)
    if damage == "truncated":
        storage.put(key, data[: len(data) // 2])
    elif damage == "flipped":
        storage.put(key, data[:-1] + bytes([data[-1] ^ 1]))
    job = submit()
    work_off(worker())

    ended = job_of(engine, job)
    assert ended.state == "failed"
    assert key in ended.error
    assert "1 attempt:" in ended.error
    assert stored(engine, job) == []


def test_damaged_model_does_not_keep_workers_from_the_others(
    engine, storage, add_model, submit, worker, work_off
):
    damaged = add_model("damaged")
    add_model("healthy", seed=1)
    storage.delete(damaged.checkpoint_key)
    bad, good = submit("damaged"), submit("healthy")
    work_off(worker())

    assert job_of(engine, bad).state == "failed"
    assert job_of(engine, good).state == "succeeded"


def test_store_that_refuses_is_tried_again_and_then_fails_the_job(
    engine, storage, model, settings, submit, queue, worker, work_off
):
    (storage.root / "jobs").write_text("in the way")
    tries = 3
    own = worker(max_attempts=tries)
    job = submit()
    states = []
    for _ in range(tries):
        work_off(own)
        states.append(job_of(engine, job).state)
        make_due(engine)
        with writing(engine) as session:
            queue.send(requeue_stale(session, own.settings))

    assert states == ["running"] * (tries - 1) + ["failed"]
    assert f"in {tries} attempts" in job_of(engine, job).error
    assert stored(engine, job) == []


def test_store_that_recovers_lets_the_job_succeed(
    engine, storage, model, submit, queue, worker, work_off
):
    obstacle = storage.root / "jobs"
    obstacle.write_text("in the way")
    own = worker()
    job = submit()
    work_off(own)
    obstacle.unlink()
    make_due(engine)
    with writing(engine) as session:
        queue.send(requeue_stale(session, own.settings))
    work_off(own)

    assert job_of(engine, job).state == "succeeded"
    assert batch_of(engine, job).attempt == 2
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(Sample)) == 6


def test_unknown_batch_is_ignored(engine, model, worker):
    worker().run_batch(UUID(int=1))
