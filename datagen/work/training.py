"""Training: one slice of a model's training, from its claim to its continuation or its end."""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
import torch
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from datagen.db.session import writing
from datagen.db.tables import Model
from datagen.images import LabelledImages
from datagen.model.checkpoint import load_generator
from datagen.model.devices import kind_of, resolve_device
from datagen.model.header import read_header
from datagen.model.training_options import TrainingOptions
from datagen.queue import Message, Queue
from datagen.scratch import scratch
from datagen.service import trainings
from datagen.service.attempts import attempt, in_transaction
from datagen.service.datasets import load_split
from datagen.service.lease import Lease
from datagen.service.model_files import ModelFiles, StoredFile
from datagen.service.trainings import TrainingWork
from datagen.settings import Settings
from datagen.storage import CHUNK_BYTES, Storage
from datagen.work import recipe
from datagen.work.generators import all_threads, fetched
from datagen.work.giving_way import GivingWay
from datagen.work.process_memory import return_freed_memory

TOLD_SECONDS = 1.0

log = structlog.get_logger()


@dataclass
class Progress:
    """Tells the database how far a training is, at most once a second."""

    engine: Engine
    work: TrainingWork
    _told_at: float = field(default=0.0)

    def __call__(self, progress: dict[str, Any]) -> None:
        """Record the latest figures."""
        moment = time.monotonic()
        if moment - self._told_at < TOLD_SECONDS:
            return
        self._told_at = moment
        try:
            with writing(self.engine) as session:
                trainings.record_progress(session, self.work, progress)
        except OperationalError as error:
            # Figures are for looking at; a database that restarts need not end a training.
            log.warning("progress_not_recorded", model=str(self.work.model_id), error=str(error))


def run_training(
    engine: Engine, storage: Storage, queue: Queue, settings: Settings, model_id: UUID
) -> bool:
    """Train for one slice, if the model can be claimed; returns whether. Safe to call twice.

    The state between slices lies in the store, so that any worker can go on from it, and a worker
    that is killed loses one slice at most.
    """
    work = in_transaction(
        engine, lambda session: trainings.claim_training(session, settings, model_id)
    )
    if work is None:
        return False
    messages: list[Message] = []
    with (
        all_threads(settings),
        attempt(
            engine,
            settings,
            Model,
            work.model_id,
            work.attempt,
        ) as lease,
    ):
        messages = _slice(engine, storage, settings, work, lease, GivingWay(queue))
    queue.send(messages)
    return_freed_memory()
    return True


def _slice(
    engine: Engine,
    storage: Storage,
    settings: Settings,
    work: TrainingWork,
    lease: Lease,
    giving_way: GivingWay,
) -> list[Message]:
    began = time.monotonic()
    device = resolve_device(settings.device)
    splits = {
        name: load_split(storage, work.storage_prefix, name, work.splits[name])
        for name in recipe.SPLITS
        if name in work.splits
    }
    with scratch("training") as folder:
        if work.state_key is not None:
            _fetch_state(storage, work, work.state_key, folder / recipe.STATE)
        finished = recipe.train(
            splits,
            TrainingOptions.model_validate(work.options),
            folder=folder,
            device=device,
            training_digest=work.dataset_digest,
            on_progress=Progress(engine, work),
            check=lease.check,
            slice_seconds=settings.slice_seconds,
            giving_way=giving_way,
            parent=_parent(storage, work.parent, device),
        )
        if finished:
            seconds = time.monotonic() - began
            _finish(engine, storage, work, folder, splits["train"], kind_of(device), seconds)
            return []
        return _continue(engine, storage, work, folder, time.monotonic() - began)


def _parent(
    storage: Storage, file: StoredFile | None, device: torch.device
) -> recipe.Parent | None:
    """The model that a training starts from. Raises InvalidFile: missing, or not what it was."""
    if file is None:
        return None
    with fetched(storage, file.key, file.digest) as path:
        model, header = load_generator(path, device)
    return recipe.Parent(model, header.class_names, file.digest)


def _fetch_state(storage: Storage, work: TrainingWork, key: str, path: Path) -> None:
    try:
        with storage.open(key) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)
    except FileNotFoundError:
        # From the start again it comes to the same weights; trying again would not bring it back.
        log.warning("training_state_missing", model=str(work.model_id), key=key)


def _continue(
    engine: Engine, storage: Storage, work: TrainingWork, folder: Path, seconds: float
) -> list[Message]:
    key = f"training/{work.model_id}/{work.attempt:06d}.safetensors"
    with (folder / recipe.STATE).open("rb") as file:
        storage.put(key, file)
    messages = in_transaction(
        engine, lambda session: trainings.finish_slice(session, work, key, seconds)
    )
    if work.state_key is not None and messages:
        storage.delete(work.state_key)
    return messages


def _finish(
    engine: Engine,
    storage: Storage,
    work: TrainingWork,
    folder: Path,
    train: LabelledImages,
    device: str,
    seconds: float,
) -> None:
    header = read_header(folder / recipe.GENERATOR)
    stored: dict[str, StoredFile] = {}
    for name in (recipe.GENERATOR, recipe.JUDGE, recipe.EXAMPLES, recipe.INDEX):
        if not (folder / name).exists():
            continue
        data = (folder / name).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        stored[name] = StoredFile(f"models/{digest}.safetensors", digest)
        storage.put(stored[name].key, data)
    files = ModelFiles(
        stored[recipe.GENERATOR],
        stored[recipe.JUDGE],
        stored.get(recipe.EXAMPLES),
        stored.get(recipe.INDEX),
    )
    closed = in_transaction(
        engine,
        lambda session: trainings.close_training(
            session,
            work,
            files=files,
            class_names=list(train.class_names),
            image_shape=list(train.image_shape),
            metrics=header.metrics,
            options=header.options,
            config=header.config,
            device=device,
            seconds=seconds,
        ),
    )
    # Where it was taken over, the state is what the other worker goes on from.
    if closed and work.state_key is not None:
        storage.delete(work.state_key)
