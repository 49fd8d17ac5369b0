"""A trained model's row and batches of made-up samples, for use cases without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import pytest
from owners import add_owner
from pipeline_world import World, made
from sqlalchemy import Engine
from training_rows import add_dataset, create

from datagen import schemas
from datagen.db.session import writing
from datagen.db.tables import Model, Owner, new_id
from datagen.schemas import JobCreate
from datagen.service import batches, jobs
from datagen.service.batch_work import BatchResult, BatchWork
from datagen.settings import Settings
from datagen.shards import SampleBatch

CLASS_NAMES = ["ant", "bee", "cat"]


@pytest.fixture
def model(engine: Engine, owner: Owner) -> Model:
    """A model of three classes whose training has succeeded."""
    moment = datetime.now(UTC)
    row = Model(
        id=new_id(),
        owner_id=owner.id,
        name="pets",
        version=1,
        state="succeeded",
        visibility="private",
        options={},
        class_names=CLASS_NAMES,
        image_shape=[1, 4, 4],
        metrics={},
        progress={},
        digest="d" * 64,
        checkpoint_key="models/d.safetensors",
        judge_digest="e" * 64,
        judge_key="models/e.safetensors",
        created_at=moment,
        available_at=moment,
        ended_at=moment,
    )
    with writing(engine) as session:
        session.add(row)
    return row


@pytest.fixture
def dataset(engine: Engine, owner: Owner) -> None:
    """A dataset of the owner's, by the name `insects`."""
    add_dataset(engine, owner)


@pytest.fixture
def training(engine: Engine, settings: Settings, owner: Owner, dataset: None) -> schemas.Model:
    """A training of `bugs` on it that waits for a worker."""
    return create(engine, settings, owner)[0]


@pytest.fixture
def stranger(engine: Engine) -> Owner:
    """An owner beside the one of most tests."""
    return add_owner(engine, "stranger")


@pytest.fixture
def result_of() -> Callable[[BatchWork], BatchResult]:
    """What a worker would record: every third image is judged wrongly, scores are 0.75."""

    def make(work: BatchWork) -> BatchResult:
        index = np.arange(work.start, work.stop, dtype=np.int64)
        labels = work.labels()
        images = [f"{work.seed}-{number}".encode() for number in index]
        return BatchResult(
            shard_key=f"jobs/{work.job_id}/{work.start}-{work.attempt}.parquet",
            shard_digest="f" * 64,
            shard_bytes=100,
            device="cpu-fp32",
            torch_version="2",
            samples=SampleBatch(
                indices=index,
                labels=labels,
                scores=np.full(len(index), 0.75),
                judged_labels=np.where(index % 3 == 0, (labels + 1) % 3, labels),
                attempts=np.zeros(len(index), dtype=np.int64),
                sources=np.full((len(index), 2), -1, dtype=np.int64),
                digests=[hashlib.sha256(image).digest() for image in images],
                images=images,
            ),
            seconds={"latents": 0.1, "decode": 0.2, "score": 0.3, "encode": 0.4, "store": 0.5},
        )

    return make


@pytest.fixture
def batch_ids() -> Callable[[list[object]], list[UUID]]:
    """The batches that messages speak of."""

    def read(messages: list[object]) -> list[UUID]:
        return [UUID(m.arguments["batch_id"]) for m in messages if "batch_id" in m.arguments]

    return read


@pytest.fixture
def tiny(settings):
    return settings.model_copy(update={"batch_size": 4, "max_attempts": 3})


@pytest.fixture
def start(engine, tiny, owner, model, batch_ids):
    """Begin a job; returns it with the ids of its batches."""

    def begin(**labels):
        request = JobCreate(model="pets", labels=labels, seed=7)
        with writing(engine) as session:
            job, messages = jobs.create(session, tiny, owner.id, request)
        return job, batch_ids(messages)

    return begin


@pytest.fixture
def store(engine, storage, tiny):
    """Make and close a batch."""

    def close(batch_id):
        with writing(engine) as session:
            work = batches.claim(session, tiny, batch_id)
        with writing(engine) as session:
            batches.close(session, work, made(storage, work))

    return close


@pytest.fixture
def job(start, store):
    """A job of 10 images in 3 shards that has succeeded."""
    job, ids = start(ant=3, cat=7)
    for batch_id in ids:
        store(batch_id)
    return job


@pytest.fixture
def world(engine, storage, settings, owner, model):
    """An owner with a dataset, a model and workers that wait for the test."""
    begun = World(engine, storage, settings, owner)
    begun.dataset()
    return begun
