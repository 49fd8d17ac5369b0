"""What webhooks are told of, while others change them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Delivery, Job, Webhook
from datagen.errors import Conflict, Forbidden, Unavailable
from datagen.schemas import WebhookCreate
from datagen.service import claims, delivering, jobs, webhooks


def note(engine):
    with writing(engine) as session:
        webhooks.note_ended(session)


def test_webhook_that_is_removed_while_the_tick_looks_is_left_alone(engine, owner):
    with writing(engine) as session:
        hook = webhooks.create(session, owner.id, WebhookCreate(url="https://h.example/"))
    with ThreadPoolExecutor(1) as pool:
        with writing(engine) as session:
            webhooks.remove(session, owner.id, hook.id)
            session.flush()
            looked = pool.submit(note, engine)
            # Here it meets the row that goes, or waits for its turn to write.
            wait([looked], timeout=1)
        looked.result(timeout=30)
    with reading(engine) as session:
        assert session.scalars(select(Webhook)).all() == []


def test_named_webhook_is_notified_of_the_jobs_that_name_it_alone(engine, tiny, owner, start):
    with writing(engine) as session:
        named, plain = (
            webhooks.create(session, owner.id, WebhookCreate(url="https://h.example/", named=one))
            for one in (True, False)
        )
    first, second = (start(ant=1)[0] for _ in range(2))
    with writing(engine) as session:
        jobs.held(session, owner.id, first.id).webhook_id = named.id
        for job in (first, second):
            jobs.cancel(session, owner.id, job.id)
    note(engine)
    with reading(engine) as session:
        rows = session.execute(select(Delivery.webhook_id, Delivery.resource_id)).all()
    assert sorted(rows) == sorted(
        [(named.id, first.id), (plain.id, first.id), (plain.id, second.id)]
    )


@pytest.mark.parametrize(
    ("before_the_look", "before_the_webhook", "told"),
    [(60, False, 1), (110, False, 1), (130, False, 0), (60, True, 0)],
)
def test_end_that_is_committed_after_a_later_look_is_sent(
    engine, tiny, owner, start, before_the_look, before_the_webhook, told
):
    with writing(engine) as session:
        wanted = WebhookCreate(url="https://h.example/", events=["job.succeeded"])
        hook = webhooks.create(session, owner.id, wanted)
    job, _ = start(ant=1)
    with writing(engine) as session:
        looked = now(session)
        ended = looked - timedelta(seconds=before_the_look)
        age = timedelta(seconds=-1 if before_the_webhook else 3600)
        session.execute(update(Webhook).values(looked_at=looked, created_at=ended - age))
        session.execute(update(Job).values(state="succeeded", ended_at=ended))
    for _ in range(2):
        note(engine)
    with reading(engine) as session:
        rows = session.scalars(select(Delivery.resource_id).where(Delivery.webhook_id == hook.id))
        assert list(rows) == [job.id] * told


def test_end_is_noted_though_the_clock_was_set_back_since_the_last_look(engine, tiny, owner, start):
    with writing(engine) as session:
        wanted = WebhookCreate(url="https://h.example/", events=["job.succeeded"])
        webhooks.create(session, owner.id, wanted)
        ahead = now(session) + timedelta(days=1)
        session.execute(update(Webhook).values(looked_at=ahead, created_at=ahead))
    job, _ = start(ant=1)
    with writing(engine) as session:
        session.execute(update(Job).values(state="succeeded", ended_at=now(session)))
    for _ in range(2):
        note(engine)
    with reading(engine) as session:
        assert list(session.scalars(select(Delivery.resource_id))) == [job.id]


@pytest.fixture
def ping(engine, owner):
    """A delivery that waits."""
    with writing(engine) as session:
        hook = webhooks.create(session, owner.id, WebhookCreate(url="https://h.example/"))
        return hook, webhooks.ping(session, owner.id, hook.id)[0]


def claim(engine, settings, delivery):
    with writing(engine) as session:
        return delivering._claim(session, settings, delivery.id)


def record(engine, settings, work, status, error):
    with writing(engine) as session:
        delivering._record(session, settings, work, status, error)


def last_delivery(engine, owner, hook):
    with reading(engine) as session:
        return webhooks.list_deliveries(session, owner.id, hook.id, 50, None).items[0]


def lease_ends(engine):
    with writing(engine) as session:
        session.execute(update(Delivery).values(lease_until=now(session) - timedelta(seconds=1)))


def test_delivery_that_is_sent_again_has_all_its_attempts_and_shows_those_alone(
    engine, settings, owner, ping
):
    hook, delivery = ping
    record(engine, settings, claim(engine, settings, delivery), 500, Unavailable("answered 500"))
    assert (
        last_delivery(engine, owner, hook).attempt,
        last_delivery(engine, owner, hook).status,
    ) == (1, 500)
    with writing(engine) as session:
        again, messages = webhooks.resend(session, owner.id, hook.id, delivery.id)
    assert (again.state, again.attempt, len(messages)) == ("queued", 0, 1)
    record(engine, settings, claim(engine, settings, delivery), 204, None)
    ended = last_delivery(engine, owner, hook)
    assert (ended.state, ended.attempt, ended.status, ended.error) == ("succeeded", 1, 204, None)
    with reading(engine) as session:
        assert session.get_one(Delivery, delivery.id).attempt == 2


def test_worker_of_before_does_not_close_what_was_sent_again(engine, settings, owner, ping):
    hook, delivery = ping
    slow = claim(engine, settings, delivery)
    with writing(engine) as session, pytest.raises(Conflict, match="is being sent"):
        webhooks.resend(session, owner.id, hook.id, delivery.id)
    lease_ends(engine)
    with writing(engine) as session:
        webhooks.resend(session, owner.id, hook.id, delivery.id)
    assert claim(engine, settings, delivery).attempt == 2
    record(engine, settings, slow, 500, Unavailable("answered 500"))
    record(engine, settings, slow, 204, None)
    still = last_delivery(engine, owner, hook)
    assert (still.state, still.status) == ("running", None)


def test_address_that_is_refused_is_not_tried_for_a_day(engine, settings, owner, ping):
    hook, delivery = ping
    record(engine, settings, claim(engine, settings, delivery), None, Forbidden("Not public."))
    ended = last_delivery(engine, owner, hook)
    assert (ended.state, ended.error, ended.next_attempt_at) == ("failed", "Not public.", None)
    assert ended.ended_at is not None


def test_delivery_waits_longer_each_time(engine, settings, owner, ping):
    _, delivery = ping
    for seconds in claims.DELIVERY_WAITS[:3]:
        error = Unavailable("answered 500")
        record(engine, settings, claim(engine, settings, delivery), 500, error)
        with writing(engine) as session:
            moment = now(session)
            due = session.get_one(Delivery, delivery.id).available_at
            session.execute(update(Delivery).values(available_at=moment))
        assert round((due - moment).total_seconds()) == seconds
