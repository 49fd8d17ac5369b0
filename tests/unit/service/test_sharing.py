"""A model that is private again, or gone, makes nothing more; its dataset is its owner's affair."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import select, update

from datagen.db.session import reading, writing
from datagen.db.tables import Batch, Dataset, Job, Model, Report, Run, new_id
from datagen.errors import Conflict, Forbidden
from datagen.queue import RUN_BATCH
from datagen.schemas import (
    FiguresCreate,
    JobCreate,
    JobExtend,
    ModelChange,
    PipelineApply,
    ReportCreate,
)
from datagen.service import (
    batches,
    comparing,
    figures,
    job_changes,
    jobs,
    models,
    pipelines,
    repairing,
    reports,
    runs,
    settling,
)

SENTENCE = (
    "The model pets@1 is private again, and makes no more images for other owners; use another "
    "model, or ask its owner to share it."
)


@pytest.fixture
def shared(engine, owner, model):
    """The model, made public by its owner."""
    share(engine, owner, "public")
    return model


def share(engine, owner, visibility):
    with writing(engine) as session:
        return models.change(session, owner.id, "pets", ModelChange(visibility=visibility))


def withdraw_unseen(engine, model):
    """Make it private as a transaction does that did not see what others were beginning."""
    with writing(engine) as session:
        session.execute(update(Model).where(Model.id == model.id).values(visibility="private"))


def begun(engine, settings, owner, **wanted):
    with writing(engine) as session:
        request = JobCreate(model="pets", seed=7, **({"labels": {"ant": 3, "cat": 7}} | wanted))
        job, messages = jobs.create(session, settings, owner.id, request)
    return job, [UUID(m.arguments["batch_id"]) for m in messages if m.task == RUN_BATCH]


def row_of(engine, kind, row_id):
    with reading(engine) as session:
        return session.get_one(kind, row_id)


def test_going_jobs_of_others_end_when_a_model_is_made_private(
    engine, tiny, owner, stranger, shared, store
):
    theirs, ids = begun(engine, tiny, stranger)
    mine, _ = begun(engine, tiny, owner)
    store(ids[0])
    stored = row_of(engine, Job, theirs.id).images_stored
    with writing(engine) as session:
        claimed = batches.claim(session, tiny, ids[1])

    share(engine, owner, "private")

    ended = row_of(engine, Job, theirs.id)
    assert (ended.state, ended.error, ended.images_stored) == ("failed", SENTENCE, stored)
    assert ended.ended_at is not None
    assert row_of(engine, Job, mine.id).state == "queued"
    with reading(engine) as session:
        states = session.scalars(select(Batch.state).where(Batch.job_id == theirs.id)).all()
    assert set(states) == {"succeeded", "cancelled"}
    assert claimed is not None


def test_a_waiting_batch_ends_its_job_where_the_model_is_private_by_then(
    engine, tiny, stranger, shared, store
):
    job, ids = begun(engine, tiny, stranger)
    store(ids[0])
    stored = row_of(engine, Job, job.id).images_stored
    withdraw_unseen(engine, shared)

    with writing(engine) as session:
        assert batches.claim(session, tiny, ids[1]) is None

    ended = row_of(engine, Job, job.id)
    assert (ended.state, ended.error, ended.images_stored) == ("failed", SENTENCE, stored)


def test_a_batch_that_is_to_be_generated_again_keeps_the_images_that_it_had(
    engine, tiny, stranger, shared, store
):
    job, ids = begun(engine, tiny, stranger)
    for batch_id in ids:
        store(batch_id)
    with writing(engine) as session:
        # As the closing pass leaves it.
        session.execute(update(Job).where(Job.id == job.id).values(state="running", ended_at=None))
        session.execute(update(Batch).where(Batch.id == ids[0]).values(state="queued"))
    withdraw_unseen(engine, shared)

    with writing(engine) as session:
        assert batches.claim(session, tiny, ids[0]) is None

    assert row_of(engine, Batch, ids[0]).state == "succeeded"
    assert row_of(engine, Job, job.id).error == SENTENCE
    assert settling.settle(engine, job.id) == []


def test_jobs_of_others_are_neither_extended_nor_retried(
    engine, tiny, owner, stranger, shared, store
):
    whole, ids = begun(engine, tiny, stranger)
    for batch_id in ids:
        store(batch_id)
    cancelled, _ = begun(engine, tiny, stranger)
    with writing(engine) as session:
        jobs.cancel(session, stranger.id, cancelled.id)
    share(engine, owner, "private")

    with pytest.raises(Forbidden, match="private again"), writing(engine) as session:
        job_changes.extend(session, tiny, stranger.id, whole.id, JobExtend(all=1))
    with pytest.raises(Forbidden, match="private again"), writing(engine) as session:
        job_changes.retry(session, tiny, stranger.id, cancelled.id)
    assert row_of(engine, Job, whole.id).state == "succeeded"
    share(engine, owner, "public")
    with writing(engine) as session:
        assert job_changes.retry(session, tiny, stranger.id, cancelled.id)[0].state == "queued"


def test_jobs_of_a_removed_model_are_neither_extended_nor_retried(engine, tiny, owner, start):
    job, _ = start(ant=2)
    with writing(engine) as session:
        jobs.cancel(session, owner.id, job.id)
        models.remove(session, owner.id, "pets", force=True)

    with pytest.raises(Conflict, match="was removed"), writing(engine) as session:
        job_changes.retry(session, tiny, owner.id, job.id)


def test_a_damaged_shard_is_not_made_again_for_others(engine, tiny, owner, stranger, shared, store):
    job, ids = begun(engine, tiny, stranger)
    for batch_id in ids:
        store(batch_id)
    with reading(engine) as session:
        assert repairing.work_of(session, row_of(engine, Batch, ids[0]).id) is not None
    share(engine, owner, "private")

    with pytest.raises(Forbidden, match="private again"), reading(engine) as session:
        repairing.work_of(session, row_of(engine, Batch, ids[0]).id)
    assert row_of(engine, Job, job.id).state == "succeeded"


def own_dataset(engine, owner, model, name="own", digest="b" * 64):
    row = Dataset(
        id=new_id(), owner_id=owner.id, name=name, version=1, digest=digest,
        class_names=list(model.class_names), image_shape=list(model.image_shape),
        counts={"train": [4, 1, 2]}, storage_prefix=f"datasets/{digest}",
        created_at=datetime.now(UTC),
    )  # fmt: skip
    with writing(engine) as session:
        session.add(row)
    return row


def test_reports_that_make_images_end_and_are_not_gone_on_with(
    engine, tiny, owner, stranger, shared
):
    own_dataset(engine, stranger, shared)
    wanted = ReportCreate(model="pets", real="own")
    with writing(engine) as session:
        first = reports.create(session, stranger.id, wanted)[0]
    share(engine, owner, "private")
    ended = row_of(engine, Report, first.id)
    assert (ended.state, ended.error) == ("failed", SENTENCE)

    share(engine, owner, "public")
    with writing(engine) as session:
        second = reports.create(session, stranger.id, wanted)[0]
    withdraw_unseen(engine, shared)
    with writing(engine) as session:
        assert reports.claim(session, tiny, second.id) is None
    ended = row_of(engine, Report, second.id)
    assert (ended.state, ended.error) == ("failed", SENTENCE)


def test_figures_beside_another_owners_images_are_not_drawn(engine, tiny, stranger, shared):
    own_dataset(engine, stranger, shared)
    with writing(engine) as session:
        row = figures.request(session, stranger.id, "pets", FiguresCreate(dataset="own"))[0]
    withdraw_unseen(engine, shared)

    with writing(engine) as session:
        assert figures.claim(session, tiny, row.id) is None


def test_a_run_of_a_pipeline_fails_with_the_sentence(engine, owner, stranger, shared, world):
    world.owner = stranger
    world.dataset()
    world.apply()
    run = world.start()
    with writing(engine) as session:
        session.execute(
            update(Run).where(Run.id == run.id).values(
                state="running", model_id=shared.id, waits_for=None,
                dataset_id=select(Dataset.id).where(
                    Dataset.owner_id == stranger.id
                ).scalar_subquery(),
                steps=[
                    {"name": name, "state": "succeeded" if number < 3 else "waiting"}
                    for number, name in enumerate(
                        ("refresh", "train", "plan", "generate", "check", "deliver", "notify")
                    )
                ],
            )
        )  # fmt: skip
    share(engine, owner, "private")
    world.settle()

    ended = world.read(run.id)
    assert (ended.state, ended.error) == ("failed", SENTENCE)


def test_a_run_that_waits_for_its_job_fails_with_the_jobs_sentence(
    engine, owner, stranger, shared, world
):
    world.owner = stranger
    world.dataset()
    with writing(engine) as session:
        wanted = PipelineApply.model_validate(
            {"name": "n", "source": {"dataset": "defects"}, "model": "pets", "plan": {"fill": 9}}
        )
        pipelines.apply(session, world.settings, stranger.id, wanted)
        run, _ = runs.start(session, stranger.id, "n")
    world._advance(str(run.id))
    assert world.read(run.id).job is not None
    share(engine, owner, "private")
    world.settle()

    ended = world.read(run.id)
    assert ended.state == "failed"
    assert ended.error.endswith(SENTENCE)


def test_others_do_not_see_what_a_shared_model_was_trained_on(engine, owner, stranger, shared):
    dataset = own_dataset(engine, owner, shared, "secret", "c" * 64)
    same = own_dataset(engine, stranger, shared, "same", "c" * 64)
    with writing(engine) as session:
        row = session.get_one(Model, shared.id)
        row.dataset_id, row.dataset_digest = dataset.id, dataset.digest
    with writing(engine) as session:
        mine = models.read(session, owner.id, "pets")
        drawn = figures.request(session, owner.id, "pets", FiguresCreate())[0]
        told = [
            models.read(session, stranger.id, "pets"),
            *models.list_models(session, stranger.id).items,
            figures.request(session, stranger.id, "pets", FiguresCreate())[0],
            comparing.compare(session, stranger.id, ["pets", "pets"]),
        ]
        both = figures.request(session, stranger.id, "pets", FiguresCreate(dataset="same"))[0]

    assert (mine.dataset, mine.dataset_digest) == (dataset.id, dataset.digest)
    for answer in told:
        text = answer.model_dump_json()
        for name in (str(dataset.id), dataset.digest, "secret"):
            assert name not in text
    # Whoever has the same images does not learn so: the figures are their own.
    assert both.dataset == same.id
    assert both.id != drawn.id


def test_comparing_does_not_say_whether_hidden_images_are_the_same(engine, owner, stranger, shared):
    with writing(engine) as session:
        session.get_one(Model, shared.id).dataset_digest = "c" * 64
        other = Model(
            **{
                column.key: getattr(shared, column.key)
                for column in Model.__table__.columns
                if column.key != "id"
            }
            | {"owner_id": stranger.id, "name": "own", "dataset_digest": "c" * 64}
        )
        session.add(other)
    with reading(engine) as session:
        for digest_owner, known in ((stranger, False), (owner, True)):
            names = ["pets", "own"] if digest_owner is stranger else ["pets", "pets"]
            found = comparing.compare(session, digest_owner.id, names)
            assert any("different images" in one for one in found.warnings) is not known
