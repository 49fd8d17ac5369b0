"""Deliveries: how many of an owner are sent at once, and receivers that do not answer."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import delete, select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Delivery, Webhook, new_id
from datagen.errors import TooManyRequests, Unavailable
from datagen.schemas import PING, WebhookCreate
from datagen.service import claims, common, delivering, receivers, stale, webhooks


@pytest.fixture
def world(engine, settings, owner):
    return World(engine, settings, owner)


class World:
    """Webhooks and deliveries, and what a worker would do with them."""

    def __init__(self, engine, settings, owner):
        self.engine, self.settings, self.owner = engine, settings, owner

    def hook(self, owner=None):
        with writing(self.engine) as session:
            wanted = WebhookCreate(url="https://h.example/")
            return webhooks.create(session, (owner or self.owner).id, wanted).id

    def wait(self, hook_id, count):
        """So many deliveries that wait, the oldest first."""
        with writing(self.engine) as session:
            moment = now(session) - timedelta(minutes=1)
            rows = [
                Delivery(
                    id=new_id(), webhook_id=hook_id, event="job.succeeded", resource_id=new_id(),
                    happened_at=moment, state="queued", attempt=0, attempt_floor=0,
                    available_at=moment + timedelta(seconds=number), created_at=moment,
                )
                for number in range(count)
            ]  # fmt: skip
            session.add_all(rows)
        return [row.id for row in rows]

    def claim(self, delivery_id):
        with writing(self.engine) as session:
            return delivering._claim(session, self.settings, delivery_id)

    def end(self, work, error=None):
        with writing(self.engine) as session:
            told = delivering._record(session, self.settings, work, None, error)
        return ids(told)

    def due(self):
        with writing(self.engine) as session:
            return ids(receivers.due(session, self.settings))

    def read_webhook(self, hook_id):
        with reading(self.engine) as session:
            return webhooks.read(session, self.owner.id, hook_id)

    def fail(self, hook_id, times=receivers.FAILURES):
        for delivery_id in self.wait(hook_id, times):
            self.end(self.claim(delivery_id), Unavailable("no answer"))

    def end_pause(self, hook_id):
        with writing(self.engine) as session:
            over = now(session) - timedelta(seconds=1)
            session.execute(update(Webhook).where(Webhook.id == hook_id).values(paused_until=over))


def ids(messages):
    return [UUID(message.arguments["delivery_id"]) for message in messages]


def test_one_owner_has_so_many_deliveries_at_once_and_others_have_theirs(world, stranger):
    waiting = [one for _ in range(2) for one in world.wait(world.hook(), receivers.AT_ONCE)]
    (theirs,) = world.wait(world.hook(stranger), 1)
    told = world.due()
    assert len(told) == receivers.AT_ONCE + 1
    assert theirs in told
    works = [work for one in waiting if (work := world.claim(one))]
    assert len(works) == receivers.AT_ONCE
    assert world.claim(theirs) is not None
    with writing(world.engine) as session:
        session.execute(update(Delivery).where(Delivery.state == "queued").values(sent_at=None))
    assert world.due() == [], "no room"
    # Whoever ends has the next of the same owner sent.
    (following,) = world.end(works[0])
    assert following in waiting
    with reading(world.engine) as session:
        states = session.scalars(select(Delivery.state)).all()
    assert states.count("running") == receivers.AT_ONCE


def test_receiver_that_fails_again_and_again_is_left_alone_until_a_probe_succeeds(world):
    hook_id = world.hook()
    world.fail(hook_id)
    waiting = world.wait(hook_id, 3)
    paused = world.read_webhook(hook_id)
    assert paused.failures == receivers.FAILURES
    assert paused.paused_until is not None
    assert world.due() == []
    assert world.claim(waiting[0]) is None

    world.end_pause(hook_id)
    (probe,) = world.due()
    work = world.claim(probe)
    assert work is not None
    assert world.claim(waiting[1]) is None, "one probe at a time"
    world.end(work, Unavailable("no answer"))
    longer = world.read_webhook(hook_id)
    assert longer.failures == receivers.FAILURES + 1
    assert world.due() == []

    world.end_pause(hook_id)
    with writing(world.engine) as session:
        session.execute(update(Delivery).values(sent_at=None))
    (probe,) = world.due()
    told = world.end(world.claim(probe))
    well = world.read_webhook(hook_id)
    assert (well.failures, well.paused_until) == (0, None)
    assert told, "the others follow at once"


def test_pauses_double_up_to_an_hour(world):
    hook_id = world.hook()
    pauses = []
    for number in range(receivers.FAILURES + 9):
        with writing(world.engine) as session:
            receivers.record_outcome(session, hook_id, answered=False)
            moment = now(session)
        if number >= receivers.FAILURES - 1:
            pauses.append((world.read_webhook(hook_id).paused_until - moment).total_seconds())
    assert [round(one / 30) for one in pauses[:4]] == [1, 2, 4, 8]
    assert round(pauses[-1]) == 3600


def test_ping_and_resending_go_to_a_paused_receiver(world):
    hook_id = world.hook()
    world.fail(hook_id)
    with writing(world.engine) as session:
        (message,) = webhooks.ping(session, world.owner.id, hook_id)[1]
    work = world.claim(UUID(message.arguments["delivery_id"]))
    assert work is not None
    world.end(work, Unavailable("no answer"))
    (again,) = world.wait(hook_id, 1)
    with writing(world.engine) as session:
        webhooks.resend(session, world.owner.id, hook_id, again)
    assert world.claim(again) is not None


def test_webhook_that_was_removed_while_its_owner_was_locked_is_not_posted_to(world, monkeypatch):
    (waiting,) = world.wait(world.hook(), 1)

    def removed_meanwhile(session, owner_id):
        for kind in (Delivery, Webhook):
            session.execute(delete(kind).execution_options(synchronize_session=False))
        return common.lock_owner(session, owner_id)

    monkeypatch.setattr(receivers, "lock_owner", removed_meanwhile)
    assert world.claim(waiting) is None


def test_owner_tries_webhooks_six_times_a_minute_at_most(world, stranger):
    hooks = [world.hook(), world.hook()]
    tries = iter(range(100))

    def ping():
        with writing(world.engine) as session:
            webhooks.ping(session, world.owner.id, hooks[next(tries) % 2])

    for _ in range(webhooks.MOST_PINGS):
        ping()
    theirs = world.hook(stranger)
    with writing(world.engine) as session:
        webhooks.ping(session, stranger.id, theirs)
    with pytest.raises(TooManyRequests, match="within a minute") as caught:
        ping()
    assert 1 <= caught.value.retry_after <= 60
    with writing(world.engine) as session:
        earlier = now(session) - webhooks.PING_WINDOW
        session.execute(update(Delivery).where(Delivery.event == PING).values(created_at=earlier))
    ping()


def test_what_waited_two_days_for_a_receiver_has_failed(world):
    hook_id = world.hook()
    world.fail(hook_id)
    old, fresh = world.wait(hook_id, 2)
    with writing(world.engine) as session:
        long_ago = now(session) - receivers.LONGEST_WAIT - timedelta(seconds=1)
        session.execute(update(Delivery).where(Delivery.id == old).values(available_at=long_ago))
        stale.requeue_stale(session, world.settings)
    with reading(world.engine) as session:
        assert session.get_one(Delivery, old).state == "failed"
        assert "Gave up" in str(session.get_one(Delivery, old).error)
        assert session.get_one(Delivery, fresh).state == "queued"


def test_worker_that_fell_silent_gives_its_place_back(world):
    waiting = world.wait(world.hook(), receivers.AT_ONCE + 1)
    for one in waiting[:-1]:
        assert world.claim(one)
    assert world.claim(waiting[-1]) is None
    with writing(world.engine) as session:
        past = now(session) - claims.DELIVERY_LEASE
        session.execute(
            update(Delivery).where(Delivery.state == "running").values(lease_until=past)
        )
    assert world.claim(waiting[-1]) is not None
