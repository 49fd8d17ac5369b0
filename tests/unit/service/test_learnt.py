from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pipeline_world import CLASS_NAMES, RECIPE, images
from sqlalchemy import delete, update

from datagen.datasets.reading import Opened, ReadReport
from datagen.db.session import now, reading, writing
from datagen.db.tables import Dataset, Model
from datagen.errors import InvalidRequest, UnknownLabel
from datagen.model.config import TRAINING_COUNTS
from datagen.schemas import (
    DecodeCreate,
    ExportCreate,
    JobCreate,
    JobExtend,
    PipelineApply,
    PreviewCreate,
)
from datagen.service import (
    datasets,
    export_contents,
    job_changes,
    job_plans,
    jobs,
    learnt,
    pipelines,
    previews,
    runs,
)

SENTENCE = "The model pets@1 had no training images of 'bee'; this class is left out."


@pytest.fixture
def model(engine, model):
    """It has learnt ants and cats."""
    with writing(engine) as session:
        counts = {TRAINING_COUNTS: [5, 0, 2]}
        session.execute(update(Model).where(Model.id == model.id).values(metrics=counts))
    return model


@pytest.fixture
def zoo(engine, storage, owner):
    """A dataset of 4 ants, no bee and 1 cat to train on, and a bee to test with."""
    test = images((0, 1, 0), value=90)
    splits = {"train": images((4, 0, 1)), "test": test}
    with writing(engine) as session:
        stored = datasets.store(storage, Opened(splits, ReadReport()))
        return datasets.register(session, owner.id, "zoo", stored)


def asked(engine, settings, owner, **wanted):
    """The plan of a dry run, and the job."""
    request = JobCreate(model="pets", **wanted)
    with writing(engine) as session:
        told = job_plans.plan(session, settings, owner.id, request)
        job, _ = jobs.create(session, settings, owner.id, request)
    return told, job


def test_every_class_leaves_out_what_was_not_learnt_in_the_dry_run_as_in_the_job(
    engine, settings, owner, model
):
    told, job = asked(engine, settings, owner, all=2)

    assert told.labels == {"ant": 2, "cat": 2}
    assert [entry.label for entry in job.labels] == ["ant", "cat"]
    assert told.notes == job.notes == [SENTENCE]
    with reading(engine) as session:
        assert jobs.read(session, owner.id, job.id).notes == [SENTENCE]


@pytest.mark.parametrize("name", ["bee", "1"])
def test_class_that_was_not_learnt_is_refused_by_name(engine, settings, owner, model, name):
    request = JobCreate(model="pets", labels={"ant": 1, name: 2})
    for ask in (job_plans.plan, jobs.create):
        with (
            writing(engine) as session,
            pytest.raises(UnknownLabel, match="no training images of 'bee'") as refused,
        ):
            ask(session, settings, owner.id, request)
        assert refused.value.field == "labels"


def test_balance_leaves_out_what_was_not_learnt(engine, settings, owner, model, zoo):
    told, job = asked(engine, settings, owner, balance={"dataset": "zoo"})

    assert told.labels == {"cat": 3}
    assert told.notes == job.notes == [SENTENCE]
    request = JobCreate(model="pets", balance={"dataset": "zoo", "to": 1})
    with reading(engine) as session, pytest.raises(InvalidRequest, match=r"Every other.*'bee'"):
        job_plans.plan(session, settings, owner.id, request)


def test_job_that_learnt_every_class_says_nothing(engine, settings, owner, model):
    with writing(engine) as session:
        session.execute(update(Model).values(metrics={TRAINING_COUNTS: [5, 1, 2]}))
    told, job = asked(engine, settings, owner, all=1)

    assert list(told.labels) == CLASS_NAMES
    assert told.notes == job.notes == []


def test_more_images_of_a_job_leave_it_out_and_say_so_once(engine, settings, owner, model):
    _, job = asked(engine, settings, owner, labels={"ant": 1})
    with writing(engine) as session:
        for _ in range(2):
            more, _ = job_changes.extend(session, settings, owner.id, job.id, JobExtend(all=1))

    assert {entry.label: entry.requested for entry in more.labels} == {"ant": 3, "cat": 2}
    assert more.notes == [SENTENCE]


def test_preview_leaves_it_out_and_refuses_it_by_name(engine, owner, model):
    with writing(engine) as session:
        session.execute(update(Model).values(config={"latent_dim": 2}))
    with reading(engine) as session:
        every = previews.drawn(session, owner.id, "pets", PreviewCreate(all=1))
        assert (every.work.labels, every.notes) == ([0, 2], [SENTENCE])
        with pytest.raises(UnknownLabel, match="'bee'"):
            previews.drawn(session, owner.id, "pets", PreviewCreate(labels={"bee": 1}))
        wanted = DecodeCreate(latents=[[0.0, 0.0]], labels=["bee"])
        with pytest.raises(UnknownLabel, match="'bee'"):
            previews.decoded(session, owner.id, "pets", wanted)


@pytest.mark.parametrize(
    ("known", "labels"),
    [
        ([3, 0, 1], [0, 2]),
        # What somebody else wrote, or an earlier version did not.
        (None, [0, 1, 2]),
        ([1, 2], [0, 1, 2]),
        ([0, 0, 0], [0, 1, 2]),
        (["5", None, -1], [0, 1, 2]),
        ({"ant": 1}, [0, 1, 2]),
    ],
)
def test_counts_of_a_model_are_taken_where_they_fit_its_classes(
    engine, owner, model, known, labels
):
    with writing(engine) as session:
        session.execute(update(Model).values(metrics={TRAINING_COUNTS: known}))
    with reading(engine) as session:
        assert learnt.of_model(session, session.get_one(Model, model.id)).labels == labels


@pytest.mark.parametrize("link", ["id", "digest"])
def test_model_of_an_earlier_version_has_learnt_what_its_dataset_has(
    engine, owner, model, zoo, link
):
    own = {"dataset_id": zoo.id} if link == "id" else {"dataset_digest": zoo.digest}
    with writing(engine) as session:
        session.execute(update(Model).values(metrics={}, **own))
        if link == "id":
            # A tombstone tells it still.
            session.execute(update(Dataset).values(removed_at=now(session)))
    with reading(engine) as session:
        row = session.get_one(Model, model.id)
        assert learnt.of_model(session, row).missing == ["bee"]
    if link == "digest":
        with writing(engine) as session:
            session.execute(delete(Dataset))
        with reading(engine) as session:
            row = session.get_one(Model, model.id)
            assert learnt.of_model(session, row).missing == []


@pytest.mark.parametrize(
    ("plan", "taken"),
    [
        ({"fill": 5}, [1, 0, 4]),
        ({"add": 1}, [1, 0, 1]),
        ({"balance": True}, [0, 0, 3]),
    ],
)
def test_plan_of_an_export_leaves_out_what_nothing_can_make(
    engine, owner, model, zoo, start, store, plan, taken
):
    made, ids = start(ant=2, cat=4)
    for batch_id in ids:
        store(batch_id)
    with reading(engine) as session:
        request = ExportCreate(job=made.id, dataset="zoo", plan=plan, format="parquet")
        found = export_contents.resolve(session, owner.id, request)

    assert found.taken.tolist() == taken
    assert found.warnings == (SENTENCE,)


def test_export_that_names_what_nothing_can_make_is_refused(
    engine, storage, owner, model, start, store
):
    made, ids = start(ant=2)
    store(ids[0])
    with writing(engine) as session:
        stored = datasets.store(storage, Opened({"train": images((4, 0, 1))}, ReadReport()))
        datasets.register(session, owner.id, "pair", stored)
    request = ExportCreate(
        job=made.id, dataset="pair", plan={"fill": 5}, labels=["ant", "bee"], format="parquet"
    )
    with reading(engine) as session, pytest.raises(UnknownLabel, match="'bee'") as refused:
        export_contents.resolve(session, owner.id, request)
    assert refused.value.field == "labels"


def test_pipeline_leaves_it_out_and_says_so_in_the_dry_run_as_in_the_run(world, engine, owner):
    world.apply(plan={"fill": 7}, deliver=[])
    with reading(engine) as session:
        dry = runs.dry_run(session, world.settings, owner.id, "nightly")
    run = world.done()

    assert dry.images == run.images == 5
    assert [(one.label, one.after - one.before) for one in dry.classes] == [
        ("ant", 1),
        ("bee", 0),
        ("cat", 4),
    ]
    assert SENTENCE in dry.warnings
    plan = next(step for step in run.steps if step.name == "plan")
    assert SENTENCE in [line.text for line in plan.log]


def test_pipeline_that_names_it_is_refused_at_once(world, engine, owner):
    with writing(engine) as session:
        session.execute(update(Model).values(metrics={}))
    world.apply(plan={"labels": {"bee": 2}})
    with writing(engine) as session:
        session.execute(update(Model).values(metrics={TRAINING_COUNTS: [5, 0, 2]}))
    recipe = PipelineApply.model_validate(RECIPE | {"plan": {"labels": {"bee": 1}}})
    own = (world.settings, owner.id)
    with writing(engine) as session:
        for refused in (
            lambda: pipelines.apply(session, *own, recipe),
            lambda: pipelines.validate(session, *own, recipe),
            lambda: runs.dry_run(session, *own, "nightly"),
            lambda: runs.start(session, owner.id, "nightly"),
        ):
            with pytest.raises(UnknownLabel, match="no training images of 'bee'"):
                refused()


def test_names_beyond_a_sensible_number_are_counted():
    names = tuple(f"c{number}" for number in range(30))
    known = learnt.Learnt("The model big@1 had", names, (1, *[0] * 29))

    assert "'c1', 'c2'" in known.note(known.missing)
    assert "'c20' and 9 more; these classes are left out." in known.note(known.missing)
    assert replace(known, counts=tuple(np.ones(30, dtype=int).tolist())).missing == []
