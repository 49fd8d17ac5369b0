"""A tiny generator with its judge, registered and stored as a trained model would be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from recipe_runs import NAMES, OPTIONS
from sqlalchemy import Engine
from tiny import CPU, SHAPE, striped_images, tiny_header, tiny_judge, tiny_model

from datagen.db.session import writing
from datagen.db.tables import Model, Owner, new_id
from datagen.images import LabelledImages
from datagen.model.checkpoint import save_checkpoint
from datagen.model.training_options import TrainingOptions
from datagen.quality.judge import Judge
from datagen.queue import MAKE_BATCHES, RUN_BATCH, SETTLE_JOB, MemoryQueue
from datagen.service import batches, settling
from datagen.settings import Settings
from datagen.storage import FileStorage
from datagen.work import recipe, sampler_measures
from datagen.work.generation import Generation


@pytest.fixture
def add_model(
    engine: Engine, owner: Owner, storage: FileStorage, tmp_path: Path
) -> Callable[..., Model]:
    """Register a generator of random weights under a name."""

    def add(name: str, seed: int = 0, judge: Judge | None = None) -> Model:
        generator, judge = tiny_model(seed), judge or tiny_judge(seed)
        keys = []
        for kind, module in (("cvae", generator), ("judge", judge)):
            path = tmp_path / f"{name}-{kind}.safetensors"
            save_checkpoint(path, module, tiny_header(kind, module.config))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            storage.put(f"models/{digest}.safetensors", path.read_bytes())
            keys += [digest, f"models/{digest}.safetensors"]
        moment = datetime.now(UTC)
        row = Model(
            id=new_id(),
            owner_id=owner.id,
            name=name,
            version=1,
            state="succeeded",
            visibility="private",
            options={},
            class_names=list(tiny_header("cvae", generator.config).class_names),
            image_shape=list(SHAPE),
            metrics={},
            progress={},
            digest=keys[0],
            checkpoint_key=keys[1],
            judge_digest=keys[2],
            judge_key=keys[3],
            created_at=moment,
            available_at=moment,
            ended_at=moment,
        )
        with writing(engine) as session:
            session.add(row)
        return row

    return add


@pytest.fixture
def model(add_model: Callable[..., Model]) -> Model:
    """A generator of three classes, named `stripes`."""
    return add_model("stripes")


@pytest.fixture
def queue() -> MemoryQueue:
    """A queue that the test steps."""
    return MemoryQueue()


@pytest.fixture
def worker(
    engine: Engine, storage: FileStorage, queue: MemoryQueue, settings: Settings
) -> Callable[..., Generation]:
    """Begin a worker; with other settings or another store where they are given."""

    def begin(store: FileStorage | None = None, **changes: object) -> Generation:
        own = settings.model_copy(update=changes)
        return Generation.begin(engine, store or storage, queue, own)

    return begin


@pytest.fixture
def work_off(engine: Engine, queue: MemoryQueue) -> Callable[..., int]:
    """Let workers take turns until no message waits; returns how many tasks ran."""

    def run(*workers: Generation) -> int:
        turn = iter(range(1_000_000))

        def run_batch(batch_id: str) -> None:
            workers[next(turn) % len(workers)].run_batch(UUID(batch_id))

        def make_batches() -> None:
            with writing(engine) as session:
                messages = batches.make_batches(session, workers[0].settings)
            queue.send(messages)

        def settle_job(job_id: str) -> None:
            queue.send(settling.settle(engine, UUID(job_id)))

        queue.tasks = {
            RUN_BATCH: run_batch,
            MAKE_BATCHES: make_batches,
            SETTLE_JOB: settle_job,
        }
        return queue.run_all()

    return run


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[bool, Path]]:
    """Runs the recipe: whether it has finished, and the folder of what it left."""
    monkeypatch.setattr(sampler_measures, "MEASURED_PER_CLASS", 20)

    def run(
        name: str = "one",
        *,
        count: int = 60,
        slice_seconds: float = 3600.0,
        check: Callable[[], None] = lambda: None,
        told: list[dict[str, Any]] | None = None,
        one_class: bool = False,
        only: dict[str, Any] | None = None,
        others: dict[str, Any] | None = None,
        digest: str = "d" * 64,
        names: tuple[str, ...] = NAMES,
        parent: recipe.Parent | None = None,
        **changes: Any,
    ) -> tuple[bool, Path]:
        images, labels = striped_images(count)
        labels = np.zeros_like(labels) if one_class else labels
        splits = {"train": (images, labels)} | (others or {})
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        finished = recipe.train(
            {split: LabelledImages(*pair, names) for split, pair in splits.items()},
            TrainingOptions.model_validate((OPTIONS if only is None else only) | changes),
            folder=folder,
            device=CPU,
            training_digest=digest,
            on_progress=(lambda _: None) if told is None else told.append,
            check=check,
            slice_seconds=slice_seconds,
            parent=parent,
        )
        return finished, folder

    return run
