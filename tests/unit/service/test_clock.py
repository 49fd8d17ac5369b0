from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Pipeline, Run
from datagen.schemas import JobCreate
from datagen.service import claims, jobs, stale

DAY = timedelta(days=1)


def tick(world):
    with writing(world.engine) as session:
        return stale.requeue_stale(session, world.settings)


@pytest.fixture
def batch(world):
    with writing(world.engine) as session:
        wanted = JobCreate(model="pets", labels={"ant": 2})
        jobs.create(session, world.settings, world.owner.id, wanted)
        return session.scalars(select(Batch)).one()


def write_ahead(world, row_id, *names, **values):
    with writing(world.engine) as session:
        tomorrow = now(session) + DAY
        values |= dict.fromkeys(names, tomorrow)
        session.execute(update(Batch).where(Batch.id == row_id).values(**values))


def test_lease_of_a_clock_that_ran_ahead_ends_within_a_lease(world, batch):
    write_ahead(world, batch.id, "lease_until", state="running", attempt=1)
    tick(world)
    found = world.one(Batch, batch.id)
    with reading(world.engine) as session:
        left = found.lease_until - now(session)
    # Not ended: its worker may live, and renews it.
    assert found.state == "running"
    assert timedelta() < left <= timedelta(seconds=world.settings.lease_seconds)


def test_wait_of_a_clock_that_ran_ahead_is_over(world, batch):
    write_ahead(world, batch.id, "available_at", sent_at=None)
    messages = tick(world)
    assert str(batch.id) in {message.arguments.get("batch_id") for message in messages}
    with writing(world.engine) as session:
        assert claims.claim(session, world.settings, Batch, batch.id) is not None


def test_message_that_a_clock_ran_ahead_sent_counts_as_lost(world, batch):
    write_ahead(world, batch.id, "sent_at")
    tick(world)
    with reading(world.engine) as session:
        assert world.one(Batch, batch.id).sent_at <= now(session)


def test_leases_and_waits_that_policy_allows_are_left_alone(world, batch):
    with writing(world.engine) as session:
        until = now(session) + timedelta(seconds=world.settings.lease_seconds)
        session.execute(
            update(Batch)
            .where(Batch.id == batch.id)
            .values(state="running", attempt=1, lease_until=until)
        )
    tick(world)
    assert world.one(Batch, batch.id).lease_until == until


def pipeline(world):
    with reading(world.engine) as session:
        return session.scalars(select(Pipeline)).one()


def test_pipeline_is_due_again_today_and_no_due_time_runs_twice(world):
    world.dataset()
    world.apply(schedule={"every": 3600}, plan={"fill": 1})
    row = pipeline(world)
    due = row.next_due_at
    # While the clock ran a day ahead, one run was made, and the next one is a day away.
    world.change(Pipeline, row.id, next_due_at=due - timedelta(hours=1))
    world.tick()
    (run,) = world.history()
    world.change(Run, run.id, due_at=run.due_at + DAY)
    world.change(Pipeline, row.id, next_due_at=due + DAY)
    world.tick()
    assert pipeline(world).next_due_at == due
    # The due times that were run ahead of their time come again, and are not run again.
    world.change(Run, run.id, due_at=due - timedelta(hours=1))
    world.change(Pipeline, row.id, next_due_at=due - timedelta(hours=1))
    world.tick()
    assert [one.id for one in world.history()] == [run.id]


def test_pipeline_that_was_applied_by_a_clock_ahead_is_due_by_this_one(world):
    world.dataset()
    world.apply(schedule={"every": 3600})
    row = pipeline(world)
    world.change(
        Pipeline, row.id, next_due_at=row.next_due_at + DAY, updated_at=row.updated_at + DAY
    )
    world.tick()
    assert pipeline(world).next_due_at == row.next_due_at


def test_pipeline_that_another_version_wrote_stops_no_tick(world, batch):
    world.apply(schedule={"every": "1h"})
    with writing(world.engine) as session:
        tomorrow = now(session) + DAY
        session.execute(
            update(Pipeline).values(
                recipe={"name": "old", "verse": 1}, next_due_at=tomorrow, updated_at=tomorrow
            )
        )
    write_ahead(world, batch.id, "available_at", sent_at=None)
    assert str(batch.id) in {message.arguments.get("batch_id") for message in tick(world)}
