"""Trainings as owners request them and workers claim them, and the datasets that they are of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, update

from datagen import schemas
from datagen.db.session import now, reading, writing
from datagen.db.tables import Dataset, Model, Owner, new_id
from datagen.queue import Message
from datagen.schemas import ModelCreate
from datagen.service import models, trainings
from datagen.service.model_files import ModelFiles, StoredFile
from datagen.service.trainings import TrainingWork
from datagen.settings import Settings

# What a worker records of a training that has succeeded.
RESULT: dict[str, Any] = {
    "files": ModelFiles(
        StoredFile("models/a.safetensors", "a" * 64),
        StoredFile("models/b.safetensors", "b" * 64),
        StoredFile("models/c.safetensors", "c" * 64),
        StoredFile("models/d.safetensors", "d" * 64),
    ),
    "class_names": ["ant", "bee"],
    "image_shape": [1, 8, 8],
    "metrics": {"held_out_elbo": -90.5},
    "options": {"epochs": 8},
    "config": {"family": "cvae"},
}


def add_dataset(engine: Engine, owner: Owner, **changes: Any) -> None:
    """Register a dataset of two classes, of which no file is there."""
    values = {
        "id": new_id(),
        "owner_id": owner.id,
        "name": "insects",
        "version": 1,
        "digest": "c" * 64,
        "class_names": ["ant", "bee"],
        "image_shape": [1, 8, 8],
        "counts": {"train": [5, 5], "test": [1, 1]},
        "storage_prefix": "datasets/c",
        "created_at": datetime.now(UTC),
    }
    with writing(engine) as session:
        session.add(Dataset(**(values | changes)))


def create(
    engine: Engine, settings: Settings, owner: Owner, **request: Any
) -> tuple[schemas.Model, list[Message]]:
    """Request a training, by default of `bugs` on `insects`."""
    with writing(engine) as session:
        wanted = ModelCreate.model_validate({"name": "bugs", "dataset": "insects", **request})
        return models.create(session, settings, owner.id, wanted)


def claim(engine: Engine, settings: Settings, model: schemas.Model) -> TrainingWork | None:
    """Claim a training as a worker does."""
    with writing(engine) as session:
        return trainings.claim_training(session, settings, model.id)


def row(engine: Engine, model: schemas.Model) -> Model:
    """The model as the database has it."""
    with reading(engine) as session:
        return session.get_one(Model, model.id)


def let_time_pass(engine: Engine) -> None:
    """End every lease and every wait, as time would."""
    with writing(engine) as session:
        past = now(session) - timedelta(seconds=1)
        session.execute(update(Model).where(Model.state == "running").values(lease_until=past))
        session.execute(update(Model).where(Model.state == "queued").values(available_at=past))
