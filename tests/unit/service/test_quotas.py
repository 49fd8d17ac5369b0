"""Quotas, one by one and under fifty requests at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update

from datagen.db.session import now, reading, writing
from datagen.db.tables import Dataset, Export, Job, Owner, new_id
from datagen.errors import QuotaExceeded
from datagen.schemas import ExportCreate, JobCreate
from datagen.service import exports, jobs, keys, quotas


def allow(engine, owner, **quota):
    with writing(engine) as session:
        session.execute(update(Owner).where(Owner.id == owner.id).values(quota))


def create(engine, settings, owner, **wanted):
    with writing(engine) as session:
        return jobs.create(session, settings, owner.id, JobCreate(model="pets", **wanted))[0]


def dataset(engine, owner, name="zoo"):
    with writing(engine) as session:
        session.add(
            Dataset(
                id=new_id(), owner_id=owner.id, name=name, version=1, digest="a" * 64,
                class_names=["ant"], image_shape=[3, 4, 5], counts={"train": [10], "test": [2]},
                report={}, storage_prefix="datasets/a", created_at=now(session),
            )
        )  # fmt: skip


def test_fifty_jobs_at_once_against_a_quota_of_ten_are_exactly_ten(engine, tiny, owner, model):
    allow(engine, owner, quota_images=10)

    def one(_):
        try:
            create(engine, tiny, owner, labels={"ant": 1})
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(one, range(50)))
    assert sum(made) == 10
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 10


def test_jobs_at_once_are_counted_until_they_end(engine, tiny, owner, model):
    allow(engine, owner, quota_jobs=2)
    first = create(engine, tiny, owner, all=1)
    create(engine, tiny, owner, all=1)
    with pytest.raises(QuotaExceeded, match="2 of your jobs have not ended, and 2 may"):
        create(engine, tiny, owner, all=1)
    with writing(engine) as session:
        jobs.cancel(session, owner.id, first.id)
    create(engine, tiny, owner, all=1)


def test_bytes_of_shards_exports_and_datasets_add_up(engine, tiny, owner, job):
    with reading(engine) as session:
        shards = quotas.stored_bytes(session, tiny, owner).used
    assert shards > 0
    dataset(engine, owner)
    with writing(engine) as session:
        export, _ = exports.create(
            session, tiny, owner.id, ExportCreate(job=job.id, format="parquet")
        )
        session.execute(
            update(Export)
            .where(Export.id == export.id)
            .values(state="succeeded", archive_key="exports/x", bytes=1000)
        )
    with reading(engine) as session:
        used = quotas.stored_bytes(session, tiny, owner)
    assert used.used == shards + 12 * 3 * 4 * 5 + 1000
    allow(engine, owner, quota_bytes=used.used)
    for refused in (
        lambda: create(engine, tiny, owner, all=1),
        lambda: exports_of(engine, tiny, owner, job),
    ):
        with pytest.raises(QuotaExceeded, match="remove jobs, exports or datasets"):
            refused()
    with writing(engine) as session:
        session.get_one(Job, job.id).removed_at = now(session)
    create(engine, tiny, owner, all=1)


def exports_of(engine, tiny, owner, job):
    with writing(engine) as session:
        exports.create(session, tiny, owner.id, ExportCreate(job=job.id, format="npz"))


def test_datasets_are_counted_and_their_pixels_too(engine, tiny, owner):
    allow(engine, owner, quota_uploads=2, quota_bytes=1500)
    with writing(engine) as session:
        quotas.take_upload(session, tiny, owner.id, 1500)
    dataset(engine, owner)
    with writing(engine) as session, pytest.raises(QuotaExceeded, match="720 bytes of your quota"):
        quotas.take_upload(session, tiny, owner.id, 781)
    dataset(engine, owner, "other")
    with writing(engine) as session, pytest.raises(QuotaExceeded, match="You keep 2 versions"):
        quotas.take_upload(session, tiny, owner.id, 1)


def test_settings_are_the_quotas_of_owners_without_their_own(engine, tiny, owner, model):
    few = tiny.model_copy(update={"quota_jobs": 0, "quota_uploads": 0, "quota_bytes": 0})
    with pytest.raises(QuotaExceeded):
        create(engine, few, owner, all=1)
    allow(engine, owner, quota_jobs=1, quota_bytes=10)
    create(engine, few, owner, all=1)


def test_answer_shows_what_is_used(engine, tiny, owner, job):
    with writing(engine) as session:
        text = keys.create_key(session, owner.name, ["read"])
    with reading(engine) as session:
        me = keys.me(session, tiny, keys.authenticate(session, text))
    assert (me.images.used, me.jobs.used, me.uploads.used) == (10, 0, 0)
    assert me.images.quota == tiny.quota_images
    assert me.bytes.quota is None
    assert me.bytes.used > 0
