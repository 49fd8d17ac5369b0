"""Datasets: real labelled images, registered by name and version, kept by their content."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.datasets.archive import unpack_archive
from datagen.datasets.opening import open_dataset
from datagen.datasets.stored import content_digest, read_split, write_split
from datagen.db.session import now
from datagen.db.tables import Dataset, new_id
from datagen.errors import InvalidFile, InvalidRequest
from datagen.images import LabelledImages
from datagen.schemas import NAME_PATTERN, Page
from datagen.service.common import find_dataset, next_version, page_of
from datagen.storage import CHUNK_BYTES, Storage


def ingest(storage: Storage, archive: Path) -> dict[str, LabelledImages]:
    """Read an uploaded tar and put its images into the store; `register` then writes the row.

    Reading and storing take long, so they happen before any transaction is open.

    Raises:
        InvalidFile: not a tar, harmful, or not images that can be read.
        InvalidRequest: nothing that is a dataset.
        StorageFailure: the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="datagen-ingest-") as name:
        folder = Path(name)
        unpack_archive(archive, folder)
        splits = open_dataset(folder)
    _store(storage, splits)
    return splits


def register(
    session: Session,
    storage: Storage,
    owner_id: UUID,
    name: str,
    splits: dict[str, LabelledImages],
) -> schemas.Dataset:
    """Register images under a name: the same images once, others as the name's next version.

    Raises:
        InvalidRequest: a name that cannot be used, no images, or splits that do not fit together.
        StorageFailure: the images cannot be stored.
    """
    if not re.fullmatch(NAME_PATTERN.rstrip("$"), name):
        raise InvalidRequest(
            f"{name[:80]!r} cannot be a dataset's name; use lower-case letters, digits, '.', '_' "
            "and '-', at most 64.",
            field="name",
        )
    first = _checked(splits)
    digest, prefix = _store(storage, splits)
    version = next_version(session, Dataset, owner_id, name)
    row = session.scalars(
        select(Dataset).where(
            Dataset.owner_id == owner_id, Dataset.name == name, Dataset.digest == digest
        )
    ).one_or_none()
    if row is not None:
        return shown(row)
    row = Dataset(
        id=new_id(),
        owner_id=owner_id,
        name=name,
        version=version,
        digest=digest,
        class_names=list(first.class_names),
        image_shape=list(first.image_shape),
        counts={split: images.counts().tolist() for split, images in splits.items()},
        storage_prefix=prefix,
        created_at=now(session),
    )
    session.add(row)
    session.flush()
    return shown(row)


def _checked(splits: dict[str, LabelledImages]) -> LabelledImages:
    """The first split; raises InvalidRequest where another one is of a different kind."""
    if not splits or not all(len(images) for images in splits.values()):
        raise InvalidRequest("The dataset has no images, or a split without any.")
    first_name, first = next(iter(splits.items()))
    for name, images in splits.items():
        if images.image_shape != first.image_shape or images.class_names != first.class_names:
            raise InvalidRequest(
                f"The splits {first_name!r} and {name!r} have different classes or image sizes; "
                "one dataset needs the same in all."
            )
    return first


def _store(storage: Storage, splits: dict[str, LabelledImages]) -> tuple[str, str]:
    """Put what is not there yet; returns the content's digest and the prefix of its keys."""
    digest = content_digest(splits)
    prefix = f"datasets/{digest}"
    for split, images in splits.items():
        key = _key(prefix, split)
        if storage.exists(key):
            continue
        with tempfile.TemporaryDirectory(prefix="datagen-split-") as folder:
            path = Path(folder, "split.safetensors")
            write_split(path, images)
            with path.open("rb") as file:
                storage.put(key, file)
    return digest, prefix


def _key(prefix: str, split: str) -> str:
    return f"{prefix}/{split}.safetensors"


def load_split(storage: Storage, prefix: str, split: str) -> LabelledImages:
    """The images of one split of a registered dataset.

    Args:
        storage: where they lie.
        prefix: `storage_prefix` of the dataset's row.
        split: its name.

    Raises:
        InvalidFile: missing from the store, or damaged.
    """
    key = _key(prefix, split)
    with tempfile.TemporaryDirectory(prefix="datagen-split-") as folder:
        path = Path(folder, "split.safetensors")
        try:
            with storage.open(key) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, CHUNK_BYTES)
        except FileNotFoundError:
            raise InvalidFile(
                f"The images {key} are missing from the storage; add the dataset again."
            ) from None
        return read_split(path)


def shown(dataset: Dataset) -> schemas.Dataset:
    """The wire form of a dataset."""
    return schemas.Dataset.model_validate(dataset)


def read(session: Session, owner_id: UUID, reference: str) -> schemas.Dataset:
    """A dataset by `name` (the latest version), `name@version` or id. Raises NotFound."""
    return shown(find_dataset(session, owner_id, reference))


def list_datasets(
    session: Session, owner_id: UUID, *, limit: int = 50, cursor: str | None = None
) -> Page[schemas.Dataset]:
    """The owner's datasets, newest first. Raises InvalidRequest for a bad cursor."""
    query = select(Dataset).where(Dataset.owner_id == owner_id)
    rows, following = page_of(session, query, Dataset, limit, cursor)
    return Page(items=[shown(row) for row in rows], next_cursor=following)
