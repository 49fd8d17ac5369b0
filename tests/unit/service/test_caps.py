"""Caps and unique names hold however many requests come at once, on every database."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from pipeline_world import RECIPE, World
from sqlalchemy import func, select

from datagen.db.session import now, writing
from datagen.db.tables import Dataset, Delivery, Figures, Pipeline, Run, Webhook, new_id
from datagen.errors import Conflict, DatagenError, QuotaExceeded, TooManyRequests, Unauthorized
from datagen.schemas import FiguresCreate, JobCreate, PipelineApply, WebhookCreate
from datagen.service import (
    common,
    delivering,
    figures,
    jobs,
    keys,
    pipelines,
    quotas,
    receivers,
    runs,
    sign_ins,
    webhooks,
)

AT_ONCE = 8


def race(engine, use_case):
    """The use case in so many transactions that begin together; what came of each."""
    together = threading.Barrier(AT_ONCE)

    def one(number):
        together.wait(30)
        try:
            with writing(engine) as session:
                return use_case(session, number)
        except DatagenError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(AT_ONCE)))


def count(engine, kind):
    with writing(engine) as session:
        return session.scalar(select(func.count()).select_from(kind))


def refused(results, kind):
    """How many were refused, all for the one reason."""
    errors = [one for one in results if isinstance(one, Exception)]
    assert all(isinstance(one, kind) for one in errors), errors
    return len(errors)


def hook_of(engine, owner):
    with writing(engine) as session:
        return webhooks.create(session, owner.id, WebhookCreate(url="https://h.example/")).id


def test_owner_has_as_many_webhooks_as_the_cap_and_no_more(engine, owner, monkeypatch):
    monkeypatch.setattr(webhooks, "MOST_WEBHOOKS", 3)
    wanted = WebhookCreate(url="https://h.example/")
    results = race(engine, lambda session, _: webhooks.create(session, owner.id, wanted))
    assert refused(results, Conflict) == AT_ONCE - 3
    assert count(engine, Webhook) == 3


def test_webhook_is_tried_as_often_as_the_cap_and_no_more(engine, owner):
    hook_id = hook_of(engine, owner)
    results = race(engine, lambda session, _: webhooks.ping(session, owner.id, hook_id))
    assert refused(results, TooManyRequests) == AT_ONCE - webhooks.MOST_PINGS


def test_as_many_deliveries_as_the_cap_are_claimed_and_no_more(engine, settings, owner):
    hook_id = hook_of(engine, owner)
    with writing(engine) as session:
        moment = now(session) - timedelta(minutes=1)
        rows = [
            Delivery(
                id=new_id(), webhook_id=hook_id, event="job.succeeded", resource_id=new_id(),
                happened_at=moment, state="queued", attempt=0, attempt_floor=0,
                available_at=moment, created_at=moment,
            )
            for _ in range(AT_ONCE)
        ]  # fmt: skip
        session.add_all(rows)
    ids = [row.id for row in rows]
    results = race(engine, lambda session, n: delivering._claim(session, settings, ids[n]))
    assert sum(work is not None for work in results) == receivers.AT_ONCE


@pytest.mark.parametrize(("quota", "most"), [("quota_images", 20), ("quota_jobs", 2)])
def test_jobs_are_created_up_to_the_quota_and_no_more(engine, settings, owner, model, quota, most):
    own = settings.model_copy(update={quota: most})
    wanted = JobCreate(model="pets", labels={"ant": 10})
    results = race(engine, lambda session, _: jobs.create(session, own, owner.id, wanted))
    assert refused(results, QuotaExceeded) == AT_ONCE - 2


def test_uploads_are_taken_up_to_the_quota_and_no_more(engine, settings, owner):
    own = settings.model_copy(update={"quota_uploads": 3})

    def keep(session, number):
        quotas.take_upload(session, own, owner.id, 1)
        _dataset(session, owner.id, f"set{number}", 1)

    assert refused(race(engine, keep), QuotaExceeded) == AT_ONCE - 3


def _dataset(session, owner_id, name, version):
    session.add(
        Dataset(
            id=new_id(),
            owner_id=owner_id,
            name=name,
            version=version,
            digest=f"{version:064d}",
            class_names=["a"],
            image_shape=[1, 2, 2],
            counts={"train": [1]},
            report={},
            storage_prefix="datasets/a",
            created_at=now(session),
        )
    )
    session.flush()
    return version


def test_datasets_of_one_name_get_different_versions(engine, owner):
    def add(session, _):
        version = common.next_version(session, Dataset, owner.id, "mine")
        return _dataset(session, owner.id, "mine", version)

    assert sorted(race(engine, add)) == list(range(1, AT_ONCE + 1))


def test_figures_of_a_model_are_drawn_once(engine, owner, model):
    results = race(
        engine, lambda session, _: figures.request(session, owner.id, "pets", FiguresCreate())
    )
    assert sum(len(messages) for _, messages in results) == 1
    assert count(engine, Figures) == 1


def test_name_has_one_pipeline(engine, settings, owner, model):
    wanted = PipelineApply.model_validate(RECIPE)
    results = race(engine, lambda s, _: pipelines.apply(s, settings, owner.id, wanted))
    assert sum(made for _, made in results) == 1
    assert count(engine, Pipeline) == 1


def test_pipeline_has_one_run_at_once(engine, storage, settings, owner, model):
    world = World(engine, storage, settings, owner)
    world.dataset()
    world.apply(on_overlap="skip")
    results = race(engine, lambda session, _: runs.start(session, owner.id, "nightly"))
    assert refused(results, Conflict) == AT_ONCE - 1
    assert count(engine, Run) == 1


def test_name_has_one_owner(engine):
    results = race(engine, lambda session, _: keys.ensure_owner(session, "new"))
    assert len(set(results)) == 1


def test_link_opens_one_session(engine):
    with writing(engine) as session:
        asker = keys.authenticate(session, keys.create_key(session, "me", ["read"]))
        token, _ = sign_ins.make_link(session, asker)
    results = race(engine, lambda session, _: sign_ins.use_link(session, token))
    assert refused(results, Unauthorized) == AT_ONCE - 1
