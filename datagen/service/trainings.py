"""Trainings as workers see them: claimed, told of, continued, ended.

Every change is conditional on the attempt's number, so a worker that was overtaken changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen.db.session import now
from datagen.db.tables import Dataset, Model
from datagen.errors import Conflict
from datagen.model_quality import NOTES, overrun, training_notes
from datagen.queue import RUN_TRAINING, Message
from datagen.service import claims, sharing
from datagen.service.common import split_digests
from datagen.service.model_files import ModelFiles, StoredFile
from datagen.settings import Settings


@dataclass(frozen=True)
class TrainingWork:
    """All that a worker needs to know to go on with a training that it has claimed.

    Attributes:
        splits: those of the dataset, each with the SHA-256 of its file.
        parent: weights of the model to start from; None starts from nothing.
    """

    model_id: UUID
    attempt: int
    options: dict[str, Any]
    state_key: str | None
    dataset_digest: str
    storage_prefix: str
    splits: dict[str, str | None]
    parent: StoredFile | None = None


def run_message(model_id: UUID) -> Message:
    """The message that a training waits."""
    return Message(RUN_TRAINING, {"model_id": str(model_id)})


def claim_training(session: Session, settings: Settings, model_id: UUID) -> TrainingWork | None:
    """Take a training; None where somebody has it, had it, or it was cancelled."""
    model = claims.claim(session, settings, Model, model_id)
    if model is None:
        return None
    return claims.read_claimed(session, settings, model, lambda: _work_of(session, model))


def _work_of(session: Session, model: Model) -> TrainingWork:
    dataset = session.get_one(Dataset, model.dataset_id)
    return TrainingWork(
        model_id=model.id,
        attempt=model.attempt,
        options=model.options,
        state_key=model.state_key,
        dataset_digest=dataset.digest,
        storage_prefix=dataset.storage_prefix,
        splits=split_digests(dataset),
        parent=_weights_of_parent(session, model),
    )


def _weights_of_parent(session: Session, model: Model) -> StoredFile | None:
    """Weights that a training starts from.

    Raises:
        Conflict: the model that has them was removed.
        Forbidden: it is another owner's, who does not share it any more.
    """
    if model.parent_id is None or model.parent_digest is None:
        return None
    parent = session.get(Model, model.parent_id)
    if parent is None or parent.checkpoint_key is None or parent.removed_at is not None:
        raise Conflict(
            f"The model {model.parent_id}, which the training starts from, was removed; train from "
            "another model, or from nothing."
        )
    sharing.refuse_withdrawn(parent, model.owner_id)
    return StoredFile(parent.checkpoint_key, model.parent_digest)


def _change(session: Session, work: TrainingWork, **values: Any) -> bool:
    """Change the training's row, if it is still the worker's."""
    return claims.change(session, Model, work.model_id, work.attempt, **values)


def record_progress(session: Session, work: TrainingWork, progress: dict[str, Any]) -> bool:
    """Tell how far a training is; False where it is no longer the worker's."""
    return _change(session, work, progress=progress)


def finish_slice(
    session: Session, work: TrainingWork, state_key: str, seconds: float = 0.0
) -> list[Message]:
    """Put a training back in the queue, to go on from `state_key`; [] where it was taken over.

    The seconds that the slice took are added to those of the slices before.

    A slice that ended as planned is no failed attempt: the cap counts from here anew, while
    `attempt` itself keeps rising, since it is the fencing token.
    """
    moment = now(session)
    kept = _change(
        session,
        work,
        state="queued",
        state_key=state_key,
        seconds=Model.seconds + seconds,
        attempt_floor=work.attempt,
        lease_until=None,
        error=None,
        available_at=moment,
        sent_at=moment,
    )
    return [run_message(work.model_id)] if kept else []


def close_training(
    session: Session,
    work: TrainingWork,
    *,
    files: ModelFiles,
    class_names: list[str],
    image_shape: list[int],
    metrics: dict[str, Any],
    options: dict[str, Any],
    config: dict[str, Any],
    device: str | None = None,
    seconds: float = 0.0,
) -> bool:
    """Record what a training gave; False, and nothing written, where it was taken over.

    Its metrics get a note where it took longer than its time budget.
    Its options are then all that it was trained with, and no longer those that were given alone.
    """
    before = session.scalar(select(Model.seconds).where(Model.id == work.model_id)) or 0.0
    if late := overrun(before + seconds, options):
        metrics = metrics | {NOTES: training_notes(metrics) + late}
    return _change(
        session,
        work,
        state="succeeded",
        **files.columns(),
        class_names=class_names,
        image_shape=image_shape,
        metrics=metrics,
        options=options,
        config=config,
        device=device,
        seconds=Model.seconds + seconds,
        state_key=None,
        lease_until=None,
        error=None,
        ended_at=now(session),
    )
