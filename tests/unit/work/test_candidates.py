from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select, update
from tiny import CPU, opinionated_judge, tiny_model

from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Job, JobLabel, Model, Redraw, Sample
from datagen.errors import InvalidRequest
from datagen.images import encode_png
from datagen.model.decoding import Decoder
from datagen.model.examples import Examples, save_examples
from datagen.model.samplers import Sampling, draw_latents
from datagen.quality.judge import Scorer
from datagen.quality.training_index import index_of, save_index
from datagen.queue import RUN_BATCH, SETTLE_JOB
from datagen.schemas import JobCreate
from datagen.service import jobs, samples, settling
from datagen.service.stale import requeue_stale
from datagen.service.stored_samples import read_samples

SEED = 11
LABELS = 3
EXAMPLES = 12
LENIENT = {"min_score": 0.0, "reject_copies": False, "reject_duplicates": False}


def keep(engine, storage, model, name, path):
    """Give a model's row a file that was written to `path`."""
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    key = f"models/{digest}.safetensors"
    storage.put(key, data)
    change = {f"{name}_digest": digest, f"{name}_key": key}
    with writing(engine) as session:
        session.execute(update(Model).where(Model.id == model.id).values(**change))


@pytest.fixture
def model(add_model):
    return add_model("stripes", judge=opinionated_judge(tiny_model(0)))


@pytest.fixture
def examples(engine, storage, model, tmp_path):
    """Twelve real examples a label, far enough from each other to look different."""
    random = np.random.default_rng(3)
    count = EXAMPLES * LABELS
    found = Examples(
        mean=random.normal(0, 3, (count, 5)).astype(np.float16),
        spread=np.full((count, 5), 0.1, dtype=np.float16),
        labels=np.repeat(np.arange(LABELS), EXAMPLES),
        rows=np.arange(count),
    )
    save_examples(tmp_path / "examples", found)
    keep(engine, storage, model, "examples", tmp_path / "examples")
    return found


@pytest.fixture
def submit(engine, settings, owner, queue, model):
    def create(gate, batch_size=2000, seed=SEED, **request):
        own = settings.model_copy(update={"batch_size": batch_size})
        wanted = JobCreate(model="stripes", seed=seed, gate=LENIENT | gate, **request)
        with writing(engine) as session:
            job, messages = jobs.create(session, own, owner.id, wanted)
        queue.send(messages)
        return job

    return create


def candidates(count, attempts, sampling=None, examples=None):
    """Pixels and scores of the candidates of `count` images a label, in the plan's order.

    Drawn one at a time from the same networks, with nothing of the job's code.
    """
    generator, judge = tiny_model(0), opinionated_judge(tiny_model(0))
    decoder, scorer = Decoder(generator, CPU), Scorer(judge, CPU)
    labels = np.repeat(np.arange(LABELS), count)
    found = []
    for attempt in range(attempts):
        index = np.arange(len(labels))
        drawn = draw_latents(
            generator,
            sampling or Sampling(),
            SEED,
            index,
            np.full(len(labels), attempt),
            labels,
            examples,
        )
        images = np.concatenate(list(decoder.tiles(drawn.latents, labels)))
        scores = scorer.score(images)[index, labels].astype(np.float64).round(4)
        found.append((images, scores))
    return labels, found


def digest_of(image):
    return hashlib.sha256(encode_png(image[None])[0]).digest()


def stored(engine, job):
    with reading(engine) as session:
        query = select(Sample).where(Sample.job_id == job.id).order_by(Sample.index)
        return list(session.scalars(query))


def row_of(engine, job):
    with reading(engine) as session:
        return session.get_one(Job, job.id)


def shown(engine, owner, job):
    with reading(engine) as session:
        return jobs.read(session, owner.id, job.id)


def median_score():
    _, found = candidates(20, 1)
    return float(np.median(found[0][1]))


def test_each_image_is_its_first_candidate_that_passes(engine, owner, submit, worker, work_off):
    least = round(median_score(), 4)
    labels, found = candidates(20, 30)
    scores = np.stack([score for _, score in found])  # (attempts, images)
    first = (scores >= least).argmax(axis=0)
    assert (scores >= least).any(axis=0).all()
    assert first.max() > 1

    job = submit({"min_score": least, "max_attempts": 30}, all=20)
    work_off(worker())

    rows = stored(engine, job)
    assert [row.attempt for row in rows] == first.tolist()
    assert [row.digest for row in rows] == [
        digest_of(found[attempt][0][index]) for index, attempt in enumerate(first)
    ]
    assert min(row.score for row in rows) >= least
    told = shown(engine, owner, job).labels
    assert [part.rejected["score"] for part in told] == [
        int(first[labels == label].sum()) for label in range(LABELS)
    ]
    assert [part.rejected["copy"] for part in told] == [0] * LABELS


def test_gate_gives_the_same_whatever_batches_and_workers(
    engine, owner, examples, submit, worker, work_off
):
    gate = {"min_score": 0.1, "max_attempts": 200, "reject_duplicates": True}
    first, second = worker(), worker()
    results = []
    for size, workers in ((7, [first]), (16, [first, second]), (2000, [second])):
        job = submit(gate, size, all=4, sampler="neighbour", temperature=0.0)
        work_off(*workers)
        rows = stored(engine, job)
        labels = shown(engine, owner, job).labels
        results.append(
            (
                row_of(engine, job).state,
                [(row.index, row.label, row.attempt, row.digest) for row in rows],
                [part.rejected for part in labels],
            )
        )

    assert results[0] == results[1] == results[2]
    assert results[0][0] == "succeeded"
    assert sum(part["duplicate"] for part in results[0][2]) > 0


def test_lowest_index_keeps_and_the_others_are_generated_again_until_none_is_left(
    engine, owner, examples, submit, worker, work_off
):
    count, attempts = 7, 60
    sampling = Sampling("neighbour", 0.0)
    labels, found = candidates(count, attempts, sampling, examples)
    digests = [[digest_of(image) for image in images] for images, _ in found]
    attempt = [0] * len(labels)
    rounds, duplicates = 0, 0
    while True:
        now_there = [digests[attempt[index]][index] for index in range(len(labels))]
        twice = [index for index, own in enumerate(now_there) if own in now_there[:index]]
        if not twice:
            break
        rounds, duplicates = rounds + 1, duplicates + len(twice)
        for index in twice:
            attempt[index] += 1

    job = submit(
        {"max_attempts": attempts, "reject_duplicates": True},
        5,
        all=count,
        sampler="neighbour",
        temperature=0.0,
    )
    work_off(worker())

    rows = stored(engine, job)
    assert rounds > 1
    assert row_of(engine, job).rounds == rounds
    assert [row.attempt for row in rows] == attempt
    assert len({row.digest for row in rows}) == len(rows) == count * LABELS
    told = shown(engine, owner, job)
    assert sum(part.rejected["duplicate"] for part in told.labels) == duplicates
    assert [part.stored for part in told.labels] == [count] * LABELS
    assert told.images_stored == count * LABELS


def test_what_was_generated_again_is_what_shards_and_rows_hold(
    engine, storage, owner, examples, submit, worker, work_off
):
    job = submit(
        {"max_attempts": 60, "reject_duplicates": True},
        4,
        all=4,
        sampler="neighbour",
        temperature=0.0,
    )
    work_off(worker())

    rows = stored(engine, job)
    read = [
        (int(index), digest, int(attempt), tuple(sources))
        for part in read_samples(engine, storage, job.id)
        for index, digest, attempt, sources in zip(
            part.indices, part.digests, part.attempts, part.sources.tolist(), strict=True
        )
    ]
    assert read == [
        (row.index, row.digest, row.attempt, (row.first_source, row.second_source)) for row in rows
    ]
    with reading(engine) as session:
        assert not session.scalars(select(Redraw)).all()
        assert set(session.scalars(select(Batch.state))) == {"succeeded"}
        parts = session.scalars(select(JobLabel).where(JobLabel.job_id == job.id)).all()
        png = samples.sample_image(session, storage, owner.id, job.id, 5)
    for part in parts:
        own = [row for row in rows if row.label == part.label]
        assert part.score_sum == sum(round(row.score * 10_000) for row in own)
        assert part.agreed == sum(row.judged_label == row.label for row in own)
    assert hashlib.sha256(png).digest() == rows[5].digest


def test_copies_of_training_images_are_drawn_again(
    engine, storage, owner, model, submit, worker, work_off, tmp_path
):
    count = 6
    labels, found = candidates(count, 1)
    copied = np.flatnonzero(np.arange(len(labels)) % 3 == 0)
    images = found[0][0]
    others = np.random.default_rng(0).integers(0, 255, images.shape, dtype=np.uint8)
    real = np.concatenate([images[copied], others])
    index = index_of(real.__getitem__, np.concatenate([labels[copied], labels]), LABELS)
    # Nothing but the same pixels: the images of random weights are all much alike.
    save_index(tmp_path / "index", replace(index, limits=np.zeros(LABELS)))
    keep(engine, storage, model, "index", tmp_path / "index")

    job = submit({"reject_copies": True, "max_attempts": 50}, all=count)
    work_off(worker())

    rows = stored(engine, job)
    assert row_of(engine, job).state == "succeeded"
    assert all(rows[index].attempt > 0 for index in copied)
    assert not {row.digest for row in rows} & {digest_of(images[index]) for index in copied}
    assert sum(part.rejected["copy"] for part in shown(engine, owner, job).labels) >= len(copied)


def test_label_that_cannot_be_filled_fails_the_job_with_the_numbers(
    engine, owner, submit, worker, work_off
):
    job = submit({"min_score": 1.0, "max_attempts": 3}, all=2)
    work_off(worker())

    ended = shown(engine, owner, job)
    assert ended.state == "failed"
    assert "6 of the images 0 to 5 found no candidate" in ended.error
    assert "3 attempts" in ended.error
    assert "label 'class 0': 6 by score" in ended.error
    assert (ended.images_stored, ended.images_short) == (0, 6)


def test_label_that_cannot_be_filled_is_left_short_where_that_is_asked_for(
    engine, storage, owner, submit, worker, work_off
):
    least = round(median_score(), 4)
    _, found = candidates(20, 1)
    passing = np.flatnonzero(found[0][1] >= least)
    gate = {"min_score": least, "max_attempts": 1, "on_shortfall": "keep"}

    job = submit(gate, 16, all=20)
    work_off(worker())

    ended = shown(engine, owner, job)
    assert ended.state == "succeeded"
    assert [row.index for row in stored(engine, job)] == passing.tolist()
    assert (ended.images_stored, ended.images_short) == (len(passing), 60 - len(passing))
    for part in ended.labels:
        assert part.stored + part.short == part.requested
        assert part.rejected["score"] == part.short
    with reading(engine) as session:
        for index in passing:
            png = samples.sample_image(session, storage, owner.id, job.id, int(index))
            shown_pixels = np.asarray(Image.open(io.BytesIO(png)))
            np.testing.assert_array_equal(shown_pixels, found[0][0][index, 0])


def test_job_of_which_nothing_passes_fails_even_where_less_would_do(
    engine, submit, worker, work_off
):
    job = submit({"min_score": 1.0, "max_attempts": 2, "on_shortfall": "keep"}, all=2)
    work_off(worker())

    ended = row_of(engine, job)
    assert ended.state == "failed"
    assert "No candidate passed the gate: label 'class 0': 4 by score" in ended.error


def test_duplicates_without_attempts_left_are_left_short(
    engine, owner, examples, submit, worker, work_off
):
    """Fourteen different images are asked for, of twelve examples."""
    gate = {"max_attempts": 50, "reject_duplicates": True, "on_shortfall": "keep"}
    job = submit(gate, 3, all=14, sampler="neighbour", temperature=0.0)
    work_off(worker())

    ended = shown(engine, owner, job)
    assert ended.state == "succeeded"
    assert [(part.stored, part.short) for part in ended.labels] == [(EXAMPLES, 2)] * LABELS
    assert len({row.digest for row in stored(engine, job)}) == EXAMPLES * LABELS


@pytest.fixture
def in_closing_pass(engine, examples, submit, worker, queue, work_off):
    """A job in its closing pass, the batches of which wait to be made anew."""
    job = submit(
        {"max_attempts": 60, "reject_duplicates": True},
        4,
        all=4,
        sampler="neighbour",
        temperature=0.0,
    )
    work_off(worker())
    expected = [(row.attempt, row.digest) for row in stored(engine, job)]

    again = submit(
        {"max_attempts": 60, "reject_duplicates": True},
        4,
        all=4,
        sampler="neighbour",
        temperature=0.0,
    )
    settled = []
    queue.tasks |= {SETTLE_JOB: lambda job_id: settled.append(job_id)}  # noqa: PLW0108 - by keyword
    queue.run_all()
    assert settled == [str(again.id)]
    messages = settling.settle(engine, again.id)
    assert {message.task for message in messages} == {RUN_BATCH}
    return again, messages, expected


def test_closing_pass_goes_on_after_lost_messages_and_killed_workers(
    engine, settings, in_closing_pass, queue, worker, work_off
):
    job, messages, expected = in_closing_pass
    batch = messages[0].arguments["batch_id"]
    with writing(engine) as session:
        # A worker that took one of them and was killed; the other messages are lost.
        session.execute(
            update(Batch)
            .where(Batch.state == "queued")
            .values(sent_at=now(session) - timedelta(days=1))
        )
        session.execute(
            update(Batch)
            .where(Batch.id == type(job.id)(batch))
            .values(
                state="running",
                attempt=Batch.attempt + 1,
                lease_until=now(session) - timedelta(seconds=1),
            )
        )
    patient = settings.model_copy(update={"backoff_seconds": 0.0})
    for _ in range(20):
        with writing(engine) as session:
            told = requeue_stale(session, patient)
            session.execute(update(Job).values(settle_sent_at=now(session) - timedelta(days=1)))
        queue.send(told)
        work_off(worker(backoff_seconds=0.0))
        if row_of(engine, job).state == "succeeded":
            break

    assert [(row.attempt, row.digest) for row in stored(engine, job)] == expected


def test_lost_message_of_the_closing_pass_is_sent_again(
    engine, settings, examples, submit, worker, queue, work_off
):
    job = submit({"reject_duplicates": True, "max_attempts": 60}, all=2)
    lost = []
    own = worker()
    queue.tasks |= {
        RUN_BATCH: lambda batch_id: own.run_batch(type(job.id)(batch_id)),
        SETTLE_JOB: lambda job_id: lost.append(job_id),  # noqa: PLW0108 - by keyword
    }
    queue.run_all()
    with writing(engine) as session:
        assert SETTLE_JOB not in [each.task for each in requeue_stale(session, settings)]
        session.execute(update(Job).values(settle_sent_at=now(session) - timedelta(days=1)))
    with writing(engine) as session:
        told = [each for each in requeue_stale(session, settings) if each.task == SETTLE_JOB]
    assert [each.arguments for each in told] == [{"job_id": str(job.id)}]


def test_round_that_was_begun_is_not_begun_again(engine, in_closing_pass):
    job, _, _ = in_closing_pass

    assert settling.settle(engine, job.id) == []
    assert row_of(engine, job).rounds == 1


def test_job_cancelled_in_its_closing_pass_keeps_what_it_has(
    engine, storage, owner, in_closing_pass, worker, work_off
):
    job, _, _ = in_closing_pass
    with writing(engine) as session:
        ended, _ = jobs.cancel(session, owner.id, job.id)
    work_off(worker())

    assert (ended.state, ended.images_stored) == ("cancelled", 12)
    assert sum(len(part) for part in read_samples(engine, storage, job.id)) == 12
    with reading(engine) as session:
        assert not session.scalars(select(Redraw)).all()


def test_model_without_an_index_cannot_know_copies(submit, model):
    with pytest.raises(InvalidRequest, match="keeps no index") as told:
        submit({"reject_copies": True}, all=1)
    assert told.value.field == "gate.reject_copies"


def test_no_spread_and_no_duplicates_contradict_each_other(submit, model):
    with pytest.raises(InvalidRequest, match="temperature") as told:
        submit({"reject_duplicates": True}, all=2, temperature=0.0)
    assert told.value.field == "gate.reject_duplicates"


def test_judge_labels_what_knows_no_label_and_refusals_count_for_its_labels(
    engine, owner, model, submit, worker, work_off
):
    with writing(engine) as session:
        session.execute(update(Model).where(Model.id == model.id).values(config={"family": "vae"}))
    gate = {"min_score": 0.9, "max_attempts": 100}
    job = submit(gate, 16, count=50)
    work_off(worker())

    ended = shown(engine, owner, job)
    assert ended.state == "succeeded"
    assert sum(part.stored for part in ended.labels) == 50
    attempts = sum(row.attempt for row in stored(engine, job))
    assert sum(part.rejected["score"] for part in ended.labels) == attempts > 0
