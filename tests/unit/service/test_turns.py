"""Whose long work comes next, and whose batches are urgent."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import select, update

from datagen.db.session import now, writing
from datagen.db.tables import Batch, Export, Figures, Job, Model, Owner, Report, new_id
from datagen.queue import BULK, QUICK, RUN_BATCH
from datagen.schemas import JobCreate
from datagen.service import batches, claims, jobs, turns


@pytest.fixture(autouse=True)
def shared(engine, model):
    """The model is there for every owner."""
    with writing(engine) as session:
        session.execute(update(Model).values(visibility="public"))


def report(session, owner_id, model_id, age):
    moment = now(session) - timedelta(seconds=age)
    row = Report(
        id=new_id(), owner_id=owner_id, model_id=model_id, dataset_key="sample:mnist", quick=True,
        state="queued", progress={}, created_at=moment, available_at=moment, sent_at=moment,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def take(engine, settings, kind, row_id):
    """Take up what comes next, as a worker does; whose it was."""
    with writing(engine) as session:
        taken, found = turns.choose(session, settings, kind, row_id)
        row = claims.claim(session, settings, taken, found)
        return None if row is None else (row.owner_id, row.id)


def end(engine, kind, row_id):
    with writing(engine) as session:
        session.execute(
            update(kind).where(kind.id == row_id).values(state="queued", lease_until=None)
        )


def test_owner_with_many_reports_and_one_with_one_take_turns(
    engine, settings, owner, stranger, model
):
    with writing(engine) as session:
        mine = [report(session, owner.id, model.id, 100 - number) for number in range(5)]
        theirs = report(session, stranger.id, model.id, 1)
    # However many messages of the first owner stand in front.
    served = []
    for message in [*mine, theirs]:
        owner_id, row_id = take(engine, settings, Report, message)
        served.append(owner_id)
        # A slice has ended, and the report goes on later.
        end(engine, Report, row_id)
    assert served.count(stranger.id) == 3
    assert all(one != following for one, following in pairwise(served))


def test_message_of_a_training_may_begin_anothers_report(engine, settings, owner, stranger, model):
    with writing(engine) as session:
        moment = now(session)
        row = session.get_one(Model, model.id)
        common = {
            "owner_id": owner.id, "state": "queued", "visibility": "private", "options": {},
            "class_names": row.class_names, "image_shape": row.image_shape, "metrics": {},
            "progress": {}, "created_at": moment, "available_at": moment,
        }  # fmt: skip
        trainings = [Model(id=new_id(), name="t", version=n, **common) for n in (1, 2)]
        session.add_all(trainings)
        theirs = report(session, stranger.id, model.id, 1)
    assert take(engine, settings, Model, trainings[0].id) is not None
    assert take(engine, settings, Model, trainings[1].id) == (stranger.id, theirs)
    # The message of the report finds the training that had to stand back.
    assert take(engine, settings, Report, theirs) == (owner.id, trainings[1].id)


def test_exports_take_turns_too(engine, settings, owner, stranger):
    with writing(engine) as session:
        moment = now(session)
        rows = [
            Export(
                id=new_id(), owner_id=owner_id, format="npz", request={}, warnings=[],
                state="queued", images_written=0, images_total=1, created_at=moment,
                available_at=moment, sent_at=moment,
            )
            for owner_id in (owner.id, owner.id, owner.id, stranger.id)
        ]  # fmt: skip
        session.add_all(rows)
    served = [take(engine, settings, Export, row.id)[0] for row in rows]
    assert set(served[:2]) == {owner.id, stranger.id}
    assert served.count(owner.id) == 3


def test_what_waits_longest_of_all_kinds_is_taken_up(engine, settings, owner, stranger, model):
    with writing(engine) as session:
        mine = report(session, owner.id, model.id, 10)
        young = report(session, stranger.id, model.id, 20)
        figures = Figures(
            id=new_id(), model_id=model.id, dataset_key="sample:mnist", state="queued", names=[],
            created_at=now(session), available_at=now(session) - timedelta(seconds=30),
        )  # fmt: skip
        session.add(figures)
        session.execute(
            update(Owner).where(Owner.id == stranger.id).values(train_turn_at=now(session))
        )
        session.flush()
        # Figures count as their model's owner's.
        assert turns.choose(session, settings, Report, young) == (Figures, figures.id)
        session.execute(update(Owner).where(Owner.id == owner.id).values(train_turn_at=None))
        assert turns.choose(session, settings, Report, mine) == (Report, mine)


def create(engine, settings, owner, **labels):
    with writing(engine) as session:
        return jobs.create(session, settings, owner.id, JobCreate(model="pets", labels=labels))[1]


def queues(messages):
    return [message.queue for message in messages if message.task == RUN_BATCH]


def test_small_jobs_of_one_owner_fill_no_more_than_their_share(engine, settings, stranger, owner):
    told = [queues(create(engine, settings, owner, ant=10)) for _ in range(7)]
    assert [queue for (queue,) in told] == [QUICK] * batches.URGENT_AT_ONCE + [BULK] * 3
    assert queues(create(engine, settings, stranger, ant=10)) == [QUICK]


def test_job_begins_though_anothers_batches_fill_the_window(engine, settings, stranger, owner):
    narrow = settings.model_copy(update={"batch_size": 10, "window": 4})
    create(engine, narrow, owner, ant=1000)
    assert queues(create(engine, narrow, stranger, ant=10)) == [QUICK]


def test_window_is_shared_among_owners_and_not_jobs(engine, settings, stranger, owner):
    narrow = settings.model_copy(update={"batch_size": 10, "window": 1})
    for _ in range(5):
        create(engine, narrow, owner, ant=1000)
    create(engine, narrow, stranger, ant=1000)
    wide = settings.model_copy(update={"batch_size": 10, "window": 40})
    with writing(engine) as session:
        batches.make_batches(session, wide)
    with writing(engine) as session:
        of = session.scalars(select(Job.owner_id).join(Batch, Batch.job_id == Job.id)).all()
    assert abs(of.count(owner.id) - of.count(stranger.id)) <= 6
