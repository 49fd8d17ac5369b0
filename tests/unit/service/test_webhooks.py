"""What webhooks are told of, while others change them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait

from sqlalchemy import select

from datagen.db.session import reading, writing
from datagen.db.tables import Delivery, Webhook
from datagen.schemas import WebhookCreate
from datagen.service import jobs, webhooks


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


def test_named_webhook_is_told_of_the_jobs_that_name_it_alone(engine, tiny, owner, start):
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
