from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from sqlalchemy import select, update

from datagen.db.session import reading, writing
from datagen.db.tables import Batch, JobLabel, Model, Owner, new_id
from datagen.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
    UnknownLabel,
)
from datagen.queue import MAKE_BATCHES, RUN_BATCH, RUN_EXPORT
from datagen.schemas import JobCreate
from datagen.service import batch_work, batches, jobs, samples


def create(engine, settings, owner, **request):
    with writing(engine) as session:
        return jobs.create(session, settings, owner.id, JobCreate(model="pets", **request))


def finish(engine, settings, messages, batch_ids, result_of):
    """Do what workers would, until nothing is left to do; returns all messages that came."""
    seen = list(messages)
    while waiting := batch_ids(messages):
        for batch_id in waiting:
            with writing(engine) as session:
                work = batches.claim(session, settings, batch_id)
            with writing(engine) as session:
                seen += batches.close(session, work, result_of(work))
        with writing(engine) as session:
            messages = batches.make_batches(session, settings)
        seen += messages
    return seen


def test_plan_follows_the_models_class_order(engine, settings, owner, model):
    job, _ = create(engine, settings, owner, labels={"cat": 2, "ant": 5}, seed=1)

    with reading(engine) as session:
        parts = session.scalars(select(JobLabel).order_by(JobLabel.position)).all()
    assert [(part.label, part.start, part.requested) for part in parts] == [(0, 0, 5), (2, 5, 2)]
    assert [(entry.label, entry.requested) for entry in job.labels] == [("ant", 5), ("cat", 2)]
    assert job.images_requested == 7


def test_large_job_is_answered_before_its_whole_window_is_cut(engine, settings, owner, model):
    own = settings.model_copy(update={"batch_size": 10, "window": 64})
    _, messages = create(engine, own, owner, all=1_000_000)

    tasks = [message.task for message in messages]
    assert tasks == [RUN_BATCH] * jobs.CUT_AT_ONCE + [MAKE_BATCHES]
    with writing(engine) as session:
        later = batches.make_batches(session, own)
    assert [message.task for message in later] == [RUN_BATCH] * (64 - jobs.CUT_AT_ONCE)


@pytest.mark.parametrize(
    ("change", "sampler", "refusal", "words"),
    [
        ({"options": {}}, "density", InvalidRequest, "keeps no density"),
        ({"options": {}}, "neighbour", InvalidRequest, "keeps no real examples"),
        ({"options": {"family": "vae"}}, "prior", InvalidRequest, "knows no labels"),
        ({"options": {"family": "autoencoder"}}, "density", InvalidRequest, "knows no labels"),
        ({"examples_key": "x", "visibility": "public"}, "interpolate", Forbidden, "another owner"),
    ],
)
def test_sampler_that_the_model_cannot_serve_is_refused(
    engine, settings, owner, stranger, model, change, sampler, refusal, words
):
    asking = stranger if refusal is Forbidden else owner
    with writing(engine) as session:
        session.execute(update(Model).where(Model.id == model.id).values(**change))
    with pytest.raises(refusal, match=words):
        create(engine, settings, asking, all=1, sampler=sampler)


def test_strength_is_kept_with_a_job_of_the_sampler_that_it_is_for(engine, settings, owner, model):
    change = {"examples_key": "models/x.safetensors", "examples_digest": "a" * 64}
    with writing(engine) as session:
        session.execute(update(Model).where(Model.id == model.id).values(**change))
    job, _ = create(engine, settings, owner, all=2, sampler="neighbour", strength=0.3)

    assert (job.sampler, job.strength) == ("neighbour", 0.3)
    for sampler in ("prior", "interpolate"):
        with pytest.raises(InvalidRequest, match=f"the sampler is '{sampler}'") as refused:
            create(engine, settings, owner, all=2, sampler=sampler, strength=0.3)
        assert refused.value.field == "strength"


def test_sampler_is_kept_with_the_job_and_shown_with_each_sample(
    engine, settings, owner, model, result_of, batch_ids
):
    change = {"metrics": {"density_components": 4}}
    with writing(engine) as session:
        session.execute(update(Model).where(Model.id == model.id).values(**change))
    job, messages = create(engine, settings, owner, all=2, sampler="density", truncation=2.0)
    finish(engine, settings, messages, batch_ids, result_of)

    assert (job.sampler, job.truncation) == ("density", 2.0)
    with reading(engine) as session:
        sample = samples.read_sample(session, owner.id, job.id, 0)
    assert (sample.sampler, sample.sources) == ("density", [])


def test_all_asks_for_the_same_count_of_every_label(engine, settings, owner, model):
    job, _ = create(engine, settings, owner, all=4)

    assert [(entry.label, entry.requested) for entry in job.labels] == [
        ("ant", 4),
        ("bee", 4),
        ("cat", 4),
    ]


def test_seed_is_drawn_and_shown_when_absent(engine, settings, owner, model):
    first, _ = create(engine, settings, owner, all=1)
    second, _ = create(engine, settings, owner, all=1)

    assert first.seed != second.seed


def test_first_batch_is_small_and_the_window_bounds_the_rest(engine, settings, owner, model):
    small = settings.model_copy(update={"batch_size": 1000, "window": 3})

    job, messages = create(engine, small, owner, labels={"bee": 10_000_000})

    with reading(engine) as session:
        cut = session.execute(select(Batch.start, Batch.stop).order_by(Batch.start)).all()
    assert [tuple(row) for row in cut] == [(0, 256), (256, 1256), (1256, 2256)]
    assert len(messages) == 3
    assert job.state == "queued"


def test_window_is_shared_among_jobs_in_turn(engine, settings, owner, model):
    narrow = settings.model_copy(update={"batch_size": 10, "window": 2})
    create(engine, narrow, owner, all=100)
    wide = settings.model_copy(update={"batch_size": 10, "window": 6})

    second, _ = create(engine, wide, owner, all=100)

    with reading(engine) as session:
        mine = session.scalars(select(Batch).where(Batch.job_id == second.id)).all()
    assert len(mine) >= 2


def test_finished_job_counts_every_label(engine, settings, owner, model, batch_ids, result_of):
    tiny = settings.model_copy(update={"batch_size": 7})
    job, messages = create(engine, tiny, owner, labels={"ant": 10, "bee": 3, "cat": 20})

    finish(engine, tiny, messages, batch_ids, result_of)

    with reading(engine) as session:
        done = jobs.read(session, owner.id, job.id)
    assert done.state == "succeeded"
    assert [entry.stored for entry in done.labels] == [10, 3, 20]
    assert [entry.mean_score for entry in done.labels] == [0.75, 0.75, 0.75]
    assert done.labels[0].agreement == pytest.approx(6 / 10)
    assert done.seconds.decode == pytest.approx(0.2 * math.ceil(33 / 7))
    assert done.started_at is not None
    assert done.ended_at is not None


def test_exports_asked_for_follow_a_finished_job(
    engine, settings, owner, model, batch_ids, result_of
):
    job, messages = create(engine, settings, owner, all=1, exports=["parquet", "imagefolder"])

    seen = finish(engine, settings, messages, batch_ids, result_of)

    with reading(engine) as session:
        done = jobs.read(session, owner.id, job.id)
    assert len(done.exports) == 2
    assert sum(message.task == RUN_EXPORT for message in seen) == 2


def test_unknown_label_names_the_known_ones(engine, settings, owner, model):
    with pytest.raises(UnknownLabel, match="ant, bee, cat"):
        create(engine, settings, owner, labels={"dog": 1})


def test_unknown_export_format_is_refused_before_anything_is_written(
    engine, settings, owner, model
):
    with pytest.raises(InvalidRequest, match="parquet"):
        create(engine, settings, owner, all=1, exports=["jpeg2000"])
    with reading(engine) as session:
        assert jobs.list_jobs(session, owner.id).items == []


@pytest.mark.parametrize("name", ["dogs", "pets@2", "pets@x", "pets@99999999999999", "0" * 32])
def test_unknown_model_is_not_found(engine, settings, owner, model, name):
    with writing(engine) as session, pytest.raises(NotFound, match="model list"):
        jobs.create(session, settings, owner.id, JobCreate(model=name, all=1))


def test_model_in_training_is_a_conflict(engine, settings, owner, model):
    with writing(engine) as session:
        session.execute(update(Model).values(state="running"))
    with writing(engine) as session, pytest.raises(Conflict, match="running"):
        jobs.create(session, settings, owner.id, JobCreate(model="pets@1", all=1))


@pytest.mark.parametrize(
    "request_",
    [
        {"labels": {"ant": 0}},
        {"labels": {"ant": -3}},
        {"labels": {"ant": 1.5}},
        {"labels": {"ant": True}},
        {"labels": {"ant": 10**30}},
        {"labels": {}},
        {},
        {"all": 1, "labels": {"ant": 1}},
        {"all": 1, "temperature": math.nan},
        {"all": 1, "temperature": -0.1},
        {"all": 1, "temperature": math.inf},
        {"all": 1, "seed": -1},
        {"all": 1, "seed": 2**63},
        {"all": 1, "seed": 0.5},
        {"all": 1, "colour": "red"},
    ],
)
def test_values_that_cannot_be_used_never_make_a_request(request_):
    with pytest.raises(ValidationError):
        JobCreate(model="pets", **request_)


def test_quota_counts_what_is_promised_and_what_is_stored(engine, settings, owner, model):
    bounded = settings.model_copy(update={"quota_images": 10})
    create(engine, bounded, owner, labels={"ant": 7})

    with pytest.raises(QuotaExceeded, match="3 of the quota of 10"):
        create(engine, bounded, owner, labels={"ant": 4})
    create(engine, bounded, owner, labels={"ant": 3})


def test_owners_own_quota_goes_before_the_setting(engine, settings, owner, model):
    with writing(engine) as session:
        session.execute(update(Owner).where(Owner.id == owner.id).values(quota_images=2))

    with pytest.raises(QuotaExceeded):
        create(engine, settings, owner, labels={"ant": 3})


def test_another_owners_job_is_not_found(engine, settings, owner, model):
    job, _ = create(engine, settings, owner, all=1)
    stranger = new_id()

    with reading(engine) as session:
        for ask in (
            lambda: jobs.read(session, stranger, job.id),
            lambda: samples.list_samples(session, stranger, job.id),
            lambda: samples.read_sample(session, stranger, job.id, 0),
        ):
            with pytest.raises(NotFound):
                ask()
    with writing(engine) as session, pytest.raises(NotFound):
        jobs.cancel(session, stranger, job.id)


def test_cancelled_while_queued_ends_at_once(engine, settings, owner, model, batch_ids):
    job, messages = create(engine, settings, owner, all=5)

    with writing(engine) as session:
        ended, _ = jobs.cancel(session, owner.id, job.id)

    assert ended.state == "cancelled"
    with writing(engine) as session:
        assert batches.claim(session, settings, batch_ids(messages)[0]) is None


def test_cancelled_while_running_keeps_what_was_stored(
    engine, settings, owner, model, batch_ids, result_of
):
    tiny = settings.model_copy(update={"batch_size": 3})
    job, messages = create(engine, tiny, owner, labels={"ant": 6})
    first, second = batch_ids(messages)
    with writing(engine) as session:
        done = batches.claim(session, tiny, first)
        open_ = batches.claim(session, tiny, second)
    with writing(engine) as session:
        batches.close(session, done, result_of(done))

    with writing(engine) as session:
        jobs.cancel(session, owner.id, job.id)
        late = batches.close(session, open_, result_of(open_))

    assert late is None
    with reading(engine) as session:
        assert jobs.read(session, owner.id, job.id).images_stored == 3
        assert len(samples.list_samples(session, owner.id, job.id).items) == 3


def test_cancel_of_an_ended_job_is_a_conflict(engine, settings, owner, model, batch_ids, result_of):
    job, messages = create(engine, settings, owner, all=1)
    finish(engine, settings, messages, batch_ids, result_of)

    with writing(engine) as session, pytest.raises(Conflict, match="succeeded"):
        jobs.cancel(session, owner.id, job.id)


def test_jobs_are_listed_newest_first_page_by_page(engine, settings, owner, model):
    made = [create(engine, settings, owner, all=1)[0].id for _ in range(5)]

    seen, cursor = [], None
    with reading(engine) as session:
        while True:
            page = jobs.list_jobs(session, owner.id, limit=2, cursor=cursor)
            seen += [job.id for job in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
    assert seen == sorted(made, reverse=True)


def test_samples_are_filtered_by_label_and_paged(
    engine, settings, owner, model, batch_ids, result_of
):
    job, messages = create(engine, settings, owner, labels={"ant": 4, "bee": 5, "cat": 4})
    finish(engine, settings, messages, batch_ids, result_of)

    with reading(engine) as session:
        page = samples.list_samples(session, owner.id, job.id, label="bee", limit=3)
        rest = samples.list_samples(
            session, owner.id, job.id, label="bee", limit=3, cursor=page.next_cursor
        )
    assert [sample.index for sample in page.items] == [4, 5, 6]
    assert [sample.index for sample in rest.items] == [7, 8]
    assert rest.next_cursor is None
    assert {sample.label for sample in page.items} == {"bee"}


@pytest.mark.parametrize("cursor", ["x", "", "bnVsbA", "LTU", "W10", "é", "9" * 400])
def test_foreign_cursor_is_refused(engine, settings, owner, model, cursor):
    job, _ = create(engine, settings, owner, all=1)
    with reading(engine) as session:
        with pytest.raises(InvalidRequest, match="cursor"):
            samples.list_samples(session, owner.id, job.id, cursor=cursor)
        with pytest.raises(InvalidRequest, match="cursor"):
            jobs.list_jobs(session, owner.id, cursor=cursor)


def test_drawn_seeds_are_whole_in_a_float64(engine, settings, owner, model):
    with writing(engine) as session:
        request = JobCreate(model="pets", all=1)
        seeds = {jobs.create(session, settings, owner.id, request)[0].seed for _ in range(20)}
    assert len(seeds) == 20
    assert {int(float(seed)) for seed in seeds} == seeds


@pytest.mark.parametrize("index", [0, -1, 2**63, 10**30])
def test_sample_that_is_not_stored_is_not_found(engine, settings, owner, model, index):
    job, _ = create(engine, settings, owner, all=1)
    with reading(engine) as session, pytest.raises(NotFound):
        samples.read_sample(session, owner.id, job.id, index)


@pytest.fixture
def unlabelled(engine, model):
    with writing(engine) as session:
        session.get_one(Model, model.id).config = {"family": "vae"}
    return model


def test_model_without_labels_is_asked_for_a_count(engine, settings, owner, unlabelled):
    job, messages = create(engine, settings, owner, count=7)

    assert (job.images_requested, job.labelled_by, job.labels) == (7, "judge", [])
    assert messages
    for wanted in ({"labels": {"ant": 3}}, {"all": 3}):
        with pytest.raises(InvalidRequest, match="'count'") as raised:
            create(engine, settings, owner, **wanted)
        assert raised.value.field == "labels"


@pytest.mark.parametrize("sampler", ["prior", "neighbour", "interpolate"])
def test_count_is_refused_where_images_have_labels(engine, settings, owner, model, sampler):
    with pytest.raises(InvalidRequest, match="ask with 'labels' or 'all'") as raised:
        create(engine, settings, owner, count=7, sampler=sampler)
    assert raised.value.field == "count"


def test_labels_that_the_judge_gave_are_counted_and_listed(
    engine, settings, owner, unlabelled, result_of, batch_ids
):
    job, messages = create(engine, settings, owner, count=7)
    for batch_id in batch_ids(messages):
        with writing(engine) as session:
            work = batches.claim(session, settings, batch_id)
            assert set(work.labels()) == {batch_work.UNLABELLED}
            found = np.arange(work.start, work.stop) % 2 + 1
            made = result_of(work)
            given = replace(made.samples, labels=found, judged_labels=found)
            batches.close(session, work, replace(made, samples=given))

    with reading(engine) as session:
        ended = jobs.read(session, owner.id, job.id)
        bees = samples.list_samples(session, owner.id, job.id, label="bee").items
        ants = samples.list_samples(session, owner.id, job.id, label="ant").items
    assert ended.state == "succeeded"
    assert [(one.label, one.requested, one.stored) for one in ended.labels] == [
        ("bee", None, 4),
        ("cat", None, 3),
    ]
    assert {one.agreement for one in ended.labels} == {None}
    assert [one.mean_score for one in ended.labels] == [0.75, 0.75]
    assert [one.index for one in bees] == [0, 2, 4, 6]
    assert ants == []
