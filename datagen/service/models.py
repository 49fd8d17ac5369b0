"""Models: trainings from request to result, and the model that ships with datagen."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from datagen import bundled, schemas
from datagen.db.session import now
from datagen.db.tables import Dataset, Model, new_id
from datagen.errors import Conflict, Forbidden, InvalidFile, InvalidRequest, NotFound
from datagen.model.config import MAX_SIDE
from datagen.model.header import CheckpointHeader, read_header
from datagen.queue import RUN_TRAINING, Message
from datagen.schemas import ENDED, ModelCreate, Page
from datagen.service import claims
from datagen.service.common import (
    find_dataset,
    find_model,
    insert_if_absent,
    next_version,
    page_of,
)
from datagen.service.keys import ensure_owner
from datagen.settings import Settings
from datagen.storage import Storage

BUNDLED_OWNER = "datagen"
TRAINING_SPLIT = "train"


@dataclass(frozen=True)
class TrainingWork:
    """All that a worker needs to know to go on with a training that it has claimed.

    Attributes:
        tries: attempts since the last slice that ended as planned.
        splits: those of the dataset, each with the SHA-256 of its file.
    """

    model_id: UUID
    attempt: int
    tries: int
    options: dict[str, Any]
    state_key: str | None
    dataset_digest: str
    storage_prefix: str
    splits: dict[str, str | None]


def create(
    session: Session, settings: Settings, owner_id: UUID, request: ModelCreate
) -> tuple[schemas.Model, list[Message]]:
    """Write a training, as the next version of the model's name.

    Raises:
        NotFound: no such dataset of the owner's.
        InvalidRequest: a dataset that nothing can be trained on.
    """
    del settings  # the signature of all that cause work
    dataset = find_dataset(session, owner_id, request.dataset)
    _refuse_untrainable(dataset)
    moment = now(session)
    model = Model(
        id=new_id(),
        owner_id=owner_id,
        name=request.name,
        version=next_version(session, Model, owner_id, request.name),
        state="queued",
        visibility="private",
        dataset_id=dataset.id,
        options=request.options.model_dump(exclude_none=True),
        class_names=dataset.class_names,
        image_shape=dataset.image_shape,
        metrics={},
        progress={},
        created_at=moment,
        available_at=moment,
        sent_at=moment,
    )
    session.add(model)
    session.flush()
    return shown(model), [_told(model.id)]


def _refuse_untrainable(dataset: Dataset) -> None:
    what = f"The dataset {dataset.name}@{dataset.version}"
    if TRAINING_SPLIT not in dataset.counts:
        splits = ", ".join(sorted(dataset.counts))
        raise InvalidRequest(
            f"{what} has the splits {splits}; a training needs one called {TRAINING_SPLIT!r}.",
            field="dataset",
        )
    if max(dataset.image_shape[1:]) > MAX_SIDE:
        raise InvalidRequest(
            f"{what} has images of {dataset.image_shape[1]} x {dataset.image_shape[2]} pixels; "
            f"make them at most {MAX_SIDE} a side.",
            field="dataset",
        )


def _told(model_id: UUID) -> Message:
    return Message(RUN_TRAINING, {"model_id": str(model_id)})


def shown(model: Model) -> schemas.Model:
    """The wire form of a model."""
    plain = {name: getattr(model, name, None) for name in schemas.Model.model_fields}
    return schemas.Model.model_validate(plain | {"dataset": model.dataset_id})


def read(session: Session, owner_id: UUID, reference: str) -> schemas.Model:
    """A model by `name` (the latest version), `name@version` or id. Raises NotFound."""
    return shown(find_model(session, owner_id, reference))


def list_models(
    session: Session, owner_id: UUID, *, limit: int = 50, cursor: str | None = None
) -> Page[schemas.Model]:
    """The owner's models and the public ones, newest first. Raises InvalidRequest."""
    query = select(Model).where(or_(Model.owner_id == owner_id, Model.visibility == "public"))
    rows, following = page_of(session, query, Model, limit, cursor)
    return Page(items=[shown(row) for row in rows], next_cursor=following)


def cancel(session: Session, owner_id: UUID, model_id: UUID) -> schemas.Model:
    """End a training now; its worker stops at its next look.

    Raises:
        NotFound: no such model that the owner may see.
        Forbidden: another owner's public model.
        Conflict: the training has ended already.
    """
    model = session.scalars(
        select(Model)
        .where(Model.id == model_id, or_(Model.owner_id == owner_id, Model.visibility == "public"))
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if model is None:
        raise NotFound(f"There is no model {model_id}.")
    if model.state in ENDED:
        raise Conflict(f"The training of {model.name} is {model.state}; it cannot be cancelled.")
    if model.owner_id != owner_id:
        raise Forbidden(f"The model {model.name!r} belongs to another owner.")
    model.state, model.ended_at = "cancelled", now(session)
    model.lease_until = model.state_key = None
    session.flush()
    return shown(model)


def claim_training(session: Session, settings: Settings, model_id: UUID) -> TrainingWork | None:
    """Take a training; None where somebody has it, had it, or it was cancelled."""
    model = claims.claim(session, settings, Model, model_id)
    if model is None:
        return None
    dataset = session.get_one(Dataset, model.dataset_id)
    return TrainingWork(
        model_id=model.id,
        attempt=model.attempt,
        tries=model.attempt - model.attempt_floor,
        options=model.options,
        state_key=model.state_key,
        dataset_digest=dataset.digest,
        storage_prefix=dataset.storage_prefix,
        splits=dict.fromkeys(dataset.counts) | dict((dataset.report or {}).get("files", {})),
    )


def _change(session: Session, work: TrainingWork, **values: Any) -> bool:
    """Change the training's row, if it is still the worker's."""
    changed = session.execute(
        update(Model)
        .where(claims.held(Model, work.model_id, work.attempt))
        .values(**values)
        .returning(Model.id)
    )
    return changed.first() is not None


def record_progress(session: Session, work: TrainingWork, progress: dict[str, Any]) -> bool:
    """Tell how far a training is; False where it is no longer the worker's."""
    return _change(session, work, progress=progress)


def finish_slice(session: Session, work: TrainingWork, state_key: str) -> list[Message]:
    """Put a training back in the queue, to go on from `state_key`; [] where it was taken over.

    A slice that ended as planned is no failed attempt: the cap counts from here anew, while
    `attempt` itself keeps rising, since it is the fencing token.
    """
    moment = now(session)
    kept = _change(
        session,
        work,
        state="queued",
        state_key=state_key,
        attempt_floor=work.attempt,
        lease_until=None,
        error=None,
        available_at=moment,
        sent_at=moment,
    )
    return [_told(work.model_id)] if kept else []


def close_training(
    session: Session,
    work: TrainingWork,
    *,
    digest: str,
    checkpoint_key: str,
    judge_digest: str,
    judge_key: str,
    examples_digest: str | None,
    examples_key: str | None,
    class_names: list[str],
    image_shape: list[int],
    metrics: dict[str, Any],
) -> bool:
    """Record what a training gave; False, and nothing written, where it was taken over."""
    return _change(
        session,
        work,
        state="succeeded",
        digest=digest,
        checkpoint_key=checkpoint_key,
        judge_digest=judge_digest,
        judge_key=judge_key,
        examples_digest=examples_digest,
        examples_key=examples_key,
        class_names=class_names,
        image_shape=image_shape,
        metrics=metrics,
        state_key=None,
        lease_until=None,
        error=None,
        ended_at=now(session),
    )


def fail_training(session: Session, work: TrainingWork, reason: str) -> bool:
    """End a training that cannot succeed; False where it was taken over."""
    return _change(
        session,
        work,
        state="failed",
        error=reason,
        state_key=None,
        lease_until=None,
        ended_at=now(session),
    )


def release_training(session: Session, settings: Settings, work: TrainingWork, reason: str) -> bool:
    """Give a training back after a failure that may pass; at the last attempt it fails."""
    if work.tries >= settings.max_attempts:
        return fail_training(session, work, f"Gave up after {work.tries} attempts: {reason}")
    return claims.release(session, settings, Model, work.model_id, work.attempt, reason)


def ensure_bundled(session: Session, storage: Storage) -> None:
    """Register the model that ships with datagen, as a public one; safe to repeat.

    Other weights than those of the version before become the model's next version, so that jobs
    keep the model that they were made with.

    Raises:
        InvalidFile: the shipped files are damaged.
        StorageFailure: the weights cannot be stored.
    """
    # They are made by `make bundled`, with a datagen that has none yet.
    if not (bundled.MODEL.exists() and bundled.JUDGE.exists()):
        return
    header, digest, key = _stored(storage, bundled.MODEL, "cvae")
    _, judge_digest, judge_key = _stored(storage, bundled.JUDGE, "judge")
    owner_id, name = ensure_owner(session, BUNDLED_OWNER), bundled.MODEL.stem
    version = next_version(session, Model, owner_id, name)
    same = select(Model.id).where(
        Model.owner_id == owner_id,
        Model.name == name,
        Model.digest == digest,
        Model.judge_digest == judge_digest,
    )
    if session.execute(same).first() is not None:
        return
    moment = now(session)
    insert_if_absent(
        session,
        Model,
        id=new_id(),
        owner_id=owner_id,
        name=name,
        version=version,
        state="succeeded",
        visibility="public",
        options=header.options,
        class_names=list(header.class_names),
        image_shape=list(header.image_shape),
        metrics=header.metrics,
        progress={},
        digest=digest,
        checkpoint_key=key,
        judge_digest=judge_digest,
        judge_key=judge_key,
        attempt=0,
        attempt_floor=0,
        available_at=moment,
        created_at=moment,
        ended_at=moment,
    )


def _stored(storage: Storage, path: Path, kind: str) -> tuple[CheckpointHeader, str, str]:
    header = read_header(path)
    if header.kind != kind:
        raise InvalidFile(
            f"{path.name} holds a {header.kind}, not a {kind}; install datagen again."
        )
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    key = f"models/{digest}.safetensors"
    if not storage.exists(key):
        storage.put(key, data)
    return header, digest, key
