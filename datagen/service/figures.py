"""Figures: pictures of what a model has learnt, drawn by workers at the first request.

Users get figures with real images only where these are their own, or ship with datagen: a
shared model shares what it generates, and not its owner's images.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.bundled import MODEL
from datagen.db.session import now
from datagen.db.tables import Dataset, Figures, Model, Owner, new_id
from datagen.errors import Conflict, InvalidRequest, NotFound
from datagen.queue import RUN_FIGURES, Message
from datagen.service import claims, learnt, sharing
from datagen.service.common import find_dataset, find_model, insert_if_absent, split_digests
from datagen.service.sharing import BUNDLED_OWNER
from datagen.settings import Settings
from datagen.storage import Storage

NAMES = (
    "loss",
    "kl-per-dimension",
    "latent-scatter",
    "latent-grid",
    "latent-strips",
    "same-z",
    "interpolation",
    "reconstructions",
    "samples",
)
MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml", "json": "application/json"}
# What stands in `dataset_key` where no dataset is registered.
NO_IMAGES, SAMPLE = "", "sample:mnist"


@dataclass(frozen=True)
class FiguresWork:
    """All that a worker needs to know to draw figures that it has claimed."""

    figures_id: UUID
    attempt: int
    model_name: str
    checkpoint_key: str
    digest: str
    metrics: dict[str, object]
    class_names: tuple[str, ...]
    learnt: tuple[int, ...]
    dataset_key: str
    storage_prefix: str | None
    splits: dict[str, str | None]


def request(
    session: Session, owner_id: UUID, reference: str, wanted: schemas.FiguresCreate
) -> tuple[schemas.Figures, list[Message]]:
    """Have a model's figures drawn; the same request again gives the same figures.

    Those that failed are drawn anew.

    Raises:
        NotFound: no such model or dataset.
        Conflict: the model's training has not succeeded.
        InvalidRequest: images of another shape or other classes than the model's.
    """
    model = _trained(session, owner_id, reference)
    dataset, key = _images_for(session, owner_id, model, wanted.dataset)
    moment = now(session)
    insert_if_absent(
        session,
        Figures,
        id=new_id(),
        model_id=model.id,
        dataset_id=None if dataset is None else dataset.id,
        dataset_key=key,
        state="queued",
        names=[],
        attempt=0,
        attempt_floor=0,
        available_at=moment,
        created_at=moment,
    )
    row = session.scalars(
        select(Figures)
        .where(Figures.model_id == model.id, Figures.dataset_key == key)
        .with_for_update()
    ).one()
    if dataset is not None:
        # Of an owner's datasets with the same images, one that is there.
        row.dataset_id = dataset.id
    if row.state == "failed":
        row.state, row.error, row.ended_at = "queued", None, None
        row.attempt_floor, row.available_at, row.sent_at = row.attempt, moment, None
    messages = []
    if row.state == "queued" and row.sent_at is None:
        row.sent_at = moment
        messages = [Message(RUN_FIGURES, {"figures_id": str(row.id)})]
    session.flush()
    return to_schema(row, dataset), messages


def _own_key(dataset: Dataset) -> str:
    """A key that no other owner's images have, so that none learns who has the same ones."""
    return hashlib.sha256(f"{dataset.owner_id}:{dataset.digest}".encode()).hexdigest()


def _trained(session: Session, owner_id: UUID, reference: str) -> Model:
    model = find_model(session, owner_id, reference, usable=True)
    if model.state != "succeeded":
        raise Conflict(
            f"The model {model.name}@{model.version} is {model.state}; there is nothing to draw "
            "yet."
        )
    return model


def _images_for(
    session: Session, owner_id: UUID, model: Model, reference: str | None
) -> tuple[Dataset | None, str]:
    """The real images that are shown to whoever asks, and their key. Raises InvalidRequest."""
    if reference is not None:
        dataset = find_dataset(session, owner_id, reference)
        own = (dataset.class_names, dataset.image_shape)
        if own != (model.class_names, model.image_shape):
            raise InvalidRequest(
                f"The dataset {dataset.name}@{dataset.version} has other classes or another image "
                f"size than the model {model.name}@{model.version}; give one that fits.",
                field="dataset",
            )
        return dataset, dataset.digest if model.owner_id == owner_id else _own_key(dataset)
    if model.dataset_id is not None and model.owner_id == owner_id:
        known = session.get_one(Dataset, model.dataset_id)
        return (known, known.digest) if known.removed_at is None else (None, NO_IMAGES)
    owner = session.get_one(Owner, model.owner_id)
    bundled = owner.name == BUNDLED_OWNER and model.name == MODEL.stem
    return None, SAMPLE if bundled else NO_IMAGES


def known(
    session: Session, owner_id: UUID, reference: str, wanted: schemas.FiguresCreate
) -> schemas.Figures | None:
    """The figures that a request would give, if they were asked for before. Raises as `request`."""
    model = _trained(session, owner_id, reference)
    dataset, key = _images_for(session, owner_id, model, wanted.dataset)
    row = session.scalars(
        select(Figures).where(Figures.model_id == model.id, Figures.dataset_key == key)
    ).one_or_none()
    return None if row is None else to_schema(row, dataset)


def to_schema(row: Figures, dataset: Dataset | None) -> schemas.Figures:
    """The wire form of figures.

    Args:
        row: of the figures.
        dataset: the real images of whoever asks; an earlier version shared rows between owners.
    """
    plain = {name: getattr(row, name, None) for name in schemas.Figures.model_fields}
    own = {"model": row.model_id, "dataset": None if dataset is None else dataset.id}
    return schemas.Figures.model_validate(plain | own)


def check_name(name: str) -> tuple[str, str]:
    """Which figure a name means, and as what; without an ending the PNG. Raises NotFound."""
    stem, _, kind = name.rpartition(".")
    stem, kind = (stem, kind) if stem else (name, "png")
    if stem not in NAMES or kind not in MEDIA_TYPES:
        raise NotFound(
            f"There is no figure {name[:60]!r}; there are {', '.join(NAMES)}, each as .png, .svg "
            "and .json."
        )
    return stem, kind


def read_file(
    session: Session, storage: Storage, figures: schemas.Figures, name: str
) -> tuple[bytes, str]:
    """One file of figures that are there, and its media type; without an ending it is the PNG.

    Raises:
        Conflict: drawing them failed.
        NotFound: there is no such figure, or it was left out for want of real images.
    """
    stem, kind = check_name(name)
    if figures.state == "failed":
        raise Conflict(f"The figures could not be drawn: {figures.error} Ask for them anew.")
    if stem not in figures.names:
        raise NotFound(
            f"The figure {stem!r} was left out, since there are no real images to show to you or "
            "the model has nothing of the kind; name a dataset of yours that fits it."
        )
    row = session.get_one(Figures, figures.id)
    try:
        with storage.open(str(row.archive_key)) as file, zipfile.ZipFile(file) as archive:
            return archive.read(f"{stem}.{kind}"), MEDIA_TYPES[kind]
    except FileNotFoundError:
        raise NotFound("The figures are missing from the storage; ask for them anew.") from None


def claim(session: Session, settings: Settings, figures_id: UUID) -> FiguresWork | None:
    """Take figures; None where somebody has them, or had them."""
    row = claims.claim(session, settings, Figures, figures_id)
    if row is None:
        return None
    return claims.read_claimed(session, settings, row, lambda: _work_of(session, row))


def _work_of(session: Session, row: Figures) -> FiguresWork:
    model = session.get_one(Model, row.model_id)
    dataset = None if row.dataset_id is None else session.get_one(Dataset, row.dataset_id)
    sharing.refuse_withdrawn(model, model.owner_id if dataset is None else dataset.owner_id)
    return FiguresWork(
        figures_id=row.id,
        attempt=row.attempt,
        model_name=f"{model.name}@{model.version}",
        checkpoint_key=str(model.checkpoint_key),
        digest=str(model.digest),
        metrics=model.metrics,
        class_names=tuple(model.class_names),
        learnt=tuple(learnt.of_model(session, model).labels),
        dataset_key=row.dataset_key,
        storage_prefix=None if dataset is None else dataset.storage_prefix,
        splits=split_digests(dataset),
    )


def close(
    session: Session, work: FiguresWork, *, key: str, digest: str, size: int, names: list[str]
) -> bool:
    """Record what was drawn; False, and nothing written, where it was taken over."""
    return _change(
        session,
        work,
        state="succeeded",
        archive_key=key,
        digest=digest,
        bytes=size,
        names=names,
        lease_until=None,
        error=None,
        ended_at=now(session),
    )


def _change(session: Session, work: FiguresWork, **values: object) -> bool:
    return claims.change(session, Figures, work.figures_id, work.attempt, **values)
