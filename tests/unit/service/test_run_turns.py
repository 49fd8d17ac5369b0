"""Runs that meet one another, fail, are tried again, cancelled, and told of."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from pipeline_world import said, states
from sqlalchemy import select

from datagen.db.session import now, reading, writing
from datagen.db.tables import Batch, Delivery, Export, Job, Run
from datagen.errors import Conflict
from datagen.queue import RUN_BATCH
from datagen.schemas import WebhookCreate
from datagen.service import (
    batches,
    delivering,
    jobs,
    pipelines,
    runs,
    webhooks,
)


def due_again(world, name="nightly"):
    """A due time has come."""
    with writing(world.engine) as session:
        row = pipelines.find_pipeline(session, world.owner.id, name)
        row.next_due_at = now(session) - timedelta(seconds=1)
    world.tick()
    return world.history(name)[0]


# Its next time does not come while the tests run.
SCHEDULE = {"every": "1h", "start": (datetime.now(UTC) - timedelta(minutes=30)).isoformat()}


def test_due_run_is_left_out_while_another_goes_on(world):
    world.apply(schedule=SCHEDULE)
    first = world.start()
    world.queue.run_next()
    second = due_again(world)
    world.settle()
    assert world.read(first.id).state == "succeeded"
    left_out = world.read(second.id)
    assert (left_out.state, left_out.error, left_out.job) == ("cancelled", None, None)
    assert left_out.sentence == f"Left out: run {first.id} went on."
    assert set(states(left_out).values()) == {"skipped"}


def test_run_by_hand_is_refused_while_another_goes_on_unless_it_may_wait(world):
    world.apply()
    first = world.start()
    with pytest.raises(Conflict, match=f"Run {first.id} of the pipeline 'nightly' goes on"):
        world.start()
    world.apply(on_overlap="queue")
    second = world.start()
    world.settle()
    assert [run.state for run in world.history()] == ["succeeded", "succeeded"]
    assert world.read(second.id).started_at >= world.read(first.id).ended_at


def test_queued_runs_take_their_turns_and_no_more_than_ten_wait(world):
    world.apply(schedule=SCHEDULE, on_overlap="queue")
    first = world.start()
    world.queue.run_next()
    held = world.queue.waiting.copy()
    world.queue.waiting.clear()
    for _ in range(10):
        world.start()
        world.queue.run_all()
    with pytest.raises(Conflict, match="and 10 more wait"):
        world.start()
    due_again(world)
    world.queue.run_all()
    waiting = [run for run in world.history() if run.state == "queued"]
    assert len(waiting) == 10
    world.queue.send(held)
    world.settle(40)
    ended = world.history()
    assert Counter(run.state for run in ended) == {"succeeded": 11, "cancelled": 1}
    done = sorted((run for run in ended if run.state == "succeeded"), key=lambda run: run.id)
    assert done[0].id == first.id
    for before, after in pairwise(done):
        assert after.started_at >= before.ended_at


def test_new_run_cancels_the_one_before_with_its_job(world):
    world.apply(schedule=SCHEDULE, on_overlap="cancel_previous")
    first = world.start()
    world.queue.run_next()
    world.queue.waiting.clear()
    second = due_again(world)
    world.settle()
    former, latter = world.read(first.id), world.read(second.id)
    assert (former.state, latter.state) == ("cancelled", "succeeded")
    assert former.sentence == f"Run {second.id} took its place."
    assert world.one(Job, former.job).state == "cancelled"


def unreadable(world, run):
    """As another version wrote it."""
    with writing(world.engine) as session:
        session.get_one(Run, run.id).recipe = {"name": "nightly", "verse": 1}


def test_run_that_another_version_wrote_fails_and_makes_room_for_the_next(world):
    world.apply(on_overlap="cancel_previous")
    first = world.start()
    world.queue.run_next()
    unreadable(world, first)
    second = world.start()
    world.settle()
    former = world.read(first.id)
    assert (former.state, "another version" in former.error) == ("failed", True)
    assert {"running", "waiting"}.isdisjoint(set(states(former).values()) - {"waiting"})
    assert world.read(second.id).state == "succeeded"


def test_run_that_another_version_wrote_can_be_cancelled(world):
    world.apply()
    run = world.start()
    unreadable(world, run)
    with writing(world.engine) as session:
        ended, messages = runs.cancel(session, world.settings, world.owner.id, run.id)
    assert (ended.state, messages) == ("failed", [])
    assert "another version" in ended.error


def test_failed_step_is_tried_again_and_goes_on_where_it_failed(world):
    world.apply(retries=2)
    run = world.start()
    world.queue.run_next()
    world.queue.waiting.clear()
    job = world.one(Job, world.read(run.id).job)
    with writing(world.engine) as session:
        batch = session.scalars(select(Batch)).first()
        batches.fail(session, batch.id, batch.attempt, "The card is gone.")
    world.settle()
    waits = world.read(run.id)
    assert (waits.state, waits.retry, states(waits)["generate"]) == ("running", 1, "waiting")
    assert "The card is gone. Tried again in 30 s, 1 of 2." in said(waits, "generate")
    world.waited(run.id)
    world.settle()
    ended = world.read(run.id)
    assert (ended.state, ended.job) == ("succeeded", job.id)
    assert "goes on where it ended" in said(ended, "generate")


def test_waits_between_retries_double_up_to_an_hour(world):
    world.apply(model="nobody", retries=9)
    run, waits = world.start(), []
    world.settle()
    while world.read(run.id).state == "running":
        row = world.one(Run, run.id)
        with reading(world.engine) as session:
            waits.append(round((row.available_at - now(session)).total_seconds(), -1))
        world.waited(run.id)
        world.settle()
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_last_retry_fails_the_run(world):
    world.apply(model="nobody", retries=1)
    run = world.start()
    world.settle()
    assert world.read(run.id).state == "running"
    world.waited(run.id)
    world.settle()
    ended = world.read(run.id)
    assert (ended.state, ended.retry) == ("failed", 1)


@pytest.mark.parametrize("stage", ["generate", "deliver", "queued"])
def test_cancelled_run_stops_the_step_that_it_is_at(world, stage):
    world.apply()
    run = world.start()
    if stage != "queued":
        world.queue.run_next()
    if stage == "deliver":
        while any(message.task == RUN_BATCH for message in world.queue.waiting):
            world.queue.run_next()
        world.tick()
        world.queue.run_next()
    ended = world.cancel(run.id)
    assert (ended.state, ended.sentence) == ("cancelled", "Cancelled by its owner.")
    if stage == "generate":
        assert world.one(Job, ended.job).state == "cancelled"
    if stage == "deliver":
        assert world.one(Export, ended.exports[0]).state == "cancelled"
    world.settle()
    assert world.read(run.id) == ended
    with pytest.raises(Conflict, match="cancelled already"):
        world.cancel(run.id)


def test_run_whose_job_somebody_cancelled_or_removed_fails(world):
    world.apply()
    run = world.start()
    world.queue.run_next()
    with writing(world.engine) as session:
        jobs.cancel(session, world.owner.id, world.read(run.id).job)
    world.settle()
    assert world.read(run.id).error.endswith("was cancelled")


@pytest.mark.parametrize(
    ("when", "recipe", "event"),
    [
        ("failure", {"model": "nobody"}, "run.failed"),
        ("failure", {}, None),
        ("success", {}, "run.succeeded"),
        ("success", {"model": "nobody"}, None),
        ("always", {"model": "nobody"}, "run.failed"),
    ],
)
def test_webhook_is_notified_of_the_end_that_it_waits_for(world, when, recipe, event):
    with writing(world.engine) as session:
        wanted = WebhookCreate(url="https://ci.example/hook", events=["job.failed"])
        hook = webhooks.create(session, world.owner.id, wanted)
    run = world.done(notify={"webhook": str(hook.id), "on": when}, **recipe)
    with reading(world.engine) as session:
        told = session.scalars(select(Delivery).where(Delivery.event.like("run.%"))).all()
    assert [(one.event, one.resource_id) for one in told] == ([(event, run.id)] if event else [])
    assert states(run)["notify"] == ("succeeded" if event else "skipped")
    if event:
        with writing(world.engine) as session:
            body = json.loads(delivering._claim(session, world.settings, told[0].id).body)
        assert (body["event"], body["data"]["id"]) == (event, str(run.id))
        assert body["data"]["steps"][-1]["name"] == "notify"


def test_webhook_that_is_gone_does_not_undo_the_run(world):
    with writing(world.engine) as session:
        hook = webhooks.create(session, world.owner.id, WebhookCreate(url="https://ci.example/x"))
    world.apply(notify={"webhook": str(hook.id), "on": "always"})
    with writing(world.engine) as session:
        webhooks.remove(session, world.owner.id, hook.id)
    run = world.done()
    assert (run.state, states(run)["notify"]) == ("succeeded", "failed")
    assert "There is no webhook" in said(run, "notify")
