"""Datasets: real labelled images, registered by name and version, kept by their content."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from datagen import bundled, schemas
from datagen.datasets.names import Names
from datagen.datasets.reading import DEFAULT_SHARES, Opened, ReadOptions, ReadReport
from datagen.datasets.sample import load_sample
from datagen.datasets.stored import read_named_split
from datagen.db.session import now
from datagen.db.tables import Dataset, Export, Figures, Model, Report, new_id
from datagen.errors import Conflict, InvalidFile, InvalidRequest
from datagen.images import LabelledImages
from datagen.schemas import ENDED, NAME_PATTERN, Page
from datagen.scratch import scratch
from datagen.service import pipelines, quotas
from datagen.service.common import (
    find_dataset,
    next_version,
    page_of,
    the_only_version,
)
from datagen.service.ingesting import Ingested, split_file, write_splits
from datagen.service.reader import FileReader
from datagen.service.unreadable_rows import skip_unreadable
from datagen.settings import Settings
from datagen.storage import Storage, digest_of

NAMED_MODELS = 5
SAMPLE_SOURCE = "sample:mnist"


def ingest(storage: Storage, reader: FileReader, source: Path, options: ReadOptions) -> Ingested:
    """Read a source and put its images into the store; `register` then writes the row.

    Reading and storing take long, so they happen before any transaction is open. The source may
    have been made by anybody, so it is read in a process of its own.

    Raises:
        InvalidFile: no dataset, harmful, images that cannot be read, or more than memory holds.
        InvalidRequest: nothing that is a dataset.
        StorageFailure: a disk is full.
    """
    return _ingested(storage, reader, {"source": str(source)}, options)


def inspect(reader: FileReader, source: Path, options: ReadOptions) -> schemas.DatasetInspection:
    """What a source holds; nothing is stored. Raises as `ingest` does."""
    return _inspected(reader, {"source": str(source)}, options)


def _ingested(
    storage: Storage, reader: FileReader, request: dict[str, Any], options: ReadOptions
) -> Ingested:
    with _read(reader, "ingest", request, options) as (folder, found):
        names, shape = tuple(found.pop("class_names")), tuple(found.pop("image_shape"))
        ingested = Ingested(class_names=names, image_shape=shape, **found)
        _put(storage, ingested, folder)
    return ingested


def _inspected(
    reader: FileReader, request: dict[str, Any], options: ReadOptions
) -> schemas.DatasetInspection:
    with _read(reader, "inspect", request, options) as (_, found):
        return schemas.DatasetInspection.model_validate(found)


@contextmanager
def _read(
    reader: FileReader, task: str, request: dict[str, Any], options: ReadOptions
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder, and what a reader says that has worked in it."""
    with scratch(task) as folder:
        more = {"options": asdict(options), "folder": str(folder)}
        yield folder, reader.read(task, request | more)


def inspect_source(reader: FileReader, wanted: schemas.DatasetSource) -> schemas.DatasetInspection:
    """What the sample that ships, or a URL, holds; nothing is stored. See `ingest_source`."""
    options = read_options(wanted)
    if wanted.source == SAMPLE_SOURCE:
        return schemas.DatasetInspection.model_validate(_sample().summary())
    return _inspected(reader, {"url": wanted.source}, options)


def _sample() -> Opened:
    return Opened(load_sample(), ReadReport(source=SAMPLE_SOURCE))


def ingest_sample(storage: Storage) -> Ingested:
    """The sample that ships with datagen, put into the store."""
    return store(storage, _sample())


def store(storage: Storage, opened: Opened) -> Ingested:
    """Put the splits of a dataset into the store.

    Raises:
        InvalidRequest: no images, or splits that do not fit together.
        StorageFailure: the images cannot be stored.
    """
    with scratch("split") as folder:
        ingested = write_splits(opened, folder)
        _put(storage, ingested, folder)
    return ingested


def _put(storage: Storage, ingested: Ingested, folder: Path) -> None:
    """Put splits into the store, even if they are there already.

    A file that no row names may be about to be swept away, and is safe again when it is new.
    """
    for split in ingested.counts:
        path = split_file(folder, split)
        with path.open("rb") as file:
            storage.put(_key(ingested.prefix, split), file)
        path.unlink()


def read_options(wanted: schemas.DatasetSource) -> ReadOptions:
    """How a source is to be read that the server reads itself."""
    given = {str(name): share for name, share in (wanted.split or {}).items()}
    return ReadOptions(
        wanted.size,
        wanted.pad,
        wanted.on_error,
        given or DEFAULT_SHARES,
        wanted.seed,
        wanted.zip_encoding,
    )


def ingest_source(storage: Storage, reader: FileReader, wanted: schemas.DatasetSource) -> Ingested:
    """Read the sample that ships, or what a URL holds; see `ingest` and `remote_sources.fetch`."""
    # Options that cannot be are refused before anything is fetched.
    options = read_options(wanted)
    if wanted.source == SAMPLE_SOURCE:
        return ingest_sample(storage)
    return _ingested(storage, reader, {"url": wanted.source}, options)


def licence_of_source(wanted: schemas.DatasetSource) -> str | None:
    """The licence that is named, or that of the sample."""
    return wanted.license or (bundled.LICENSE if wanted.source == SAMPLE_SOURCE else None)


def take(
    session: Session,
    settings: Settings,
    owner_id: UUID,
    name: str,
    ingested: Ingested,
    licence: str | None,
) -> schemas.Dataset:
    """Register images, and take from the quota what they need if they are not there yet.

    Raises:
        InvalidRequest: a name that cannot be used.
        QuotaExceeded: too many datasets, or no bytes left.
    """
    if not is_kept(session, owner_id, name, ingested.digest):
        size = quotas.pixel_bytes(ingested.counts, list(ingested.image_shape))
        quotas.take_upload(session, settings, owner_id, size)
    return register(session, owner_id, name, ingested, licence)


def check_dataset_name(name: str) -> None:
    """Refuse a name that cannot be used, before anything is read. Raises InvalidRequest."""
    if not re.fullmatch(NAME_PATTERN.rstrip("$"), name):
        raise InvalidRequest(
            f"{name[:80]!r} cannot be a dataset's name; use lower-case letters, digits, '.', '_' "
            "and '-', at most 64.",
            field="name",
        )


def is_kept(session: Session, owner_id: UUID, name: str, digest: str) -> bool:
    """Whether the same images are there under the name already."""
    kept = select(Dataset.id).where(
        Dataset.owner_id == owner_id,
        Dataset.name == name,
        Dataset.digest == digest,
        Dataset.removed_at.is_(None),
    )
    return session.scalar(kept) is not None


def register(
    session: Session, owner_id: UUID, name: str, ingested: Ingested, licence: str | None = None
) -> schemas.Dataset:
    """Register images under a name: the same images once, others as the name's next version.

    The same images as those of a version that was removed bring that version back. A licence that
    is given replaces the one that was there.

    Raises:
        InvalidRequest: a name that cannot be used.
    """
    check_dataset_name(name)
    version = next_version(session, Dataset, owner_id, name)
    row = session.scalars(
        select(Dataset).where(
            Dataset.owner_id == owner_id, Dataset.name == name, Dataset.digest == ingested.digest
        )
    ).one_or_none()
    if row is not None:
        if row.removed_at is not None or not row.report:
            row.removed_at = None
            row.report = ingested.report
            row.storage_prefix = ingested.prefix
        row.license = licence or row.license
        session.flush()
        return to_schema(row)
    row = Dataset(
        id=new_id(),
        owner_id=owner_id,
        name=name,
        version=version,
        digest=ingested.digest,
        class_names=list(ingested.class_names),
        image_shape=list(ingested.image_shape),
        counts=ingested.counts,
        report=ingested.report,
        storage_prefix=ingested.prefix,
        license=licence,
        created_at=now(session),
    )
    session.add(row)
    session.flush()
    pipelines.note_new_version(session, owner_id, name)
    return to_schema(row)


def _key(prefix: str, split: str) -> str:
    return f"{prefix}/{split}.safetensors"


def load_split(
    storage: Storage, prefix: str, split: str, sha256: str | None = None
) -> LabelledImages:
    """The images of one split of a registered dataset; see `load_named_split`."""
    return load_named_split(storage, prefix, split, sha256)[0]


def load_named_split(
    storage: Storage, prefix: str, split: str, sha256: str | None = None
) -> tuple[LabelledImages, Names | None]:
    """The images of one split of a registered dataset, as the map of a file, and their names.

    Args:
        storage: where they lie.
        prefix: `storage_prefix` of the dataset's row.
        split: its name.
        sha256: digest of the split's file, as it was registered; not looked at if None.

    Raises:
        InvalidFile: missing from the store, damaged, or not the images that were registered.
    """
    key = _key(prefix, split)
    with scratch("split") as folder:
        path = folder / "split.safetensors"
        try:
            with storage.open(key) as source, path.open("wb") as target:
                digest = digest_of(source, copy=target)
        except FileNotFoundError:
            raise InvalidFile(
                f"The images {key} are missing from the storage; add the dataset again."
            ) from None
        if sha256 is not None and digest != sha256:
            raise InvalidFile(
                f"The images {key} are not those that were registered: their digest is "
                f"{digest[:16]}… and should be {sha256[:16]}…; add the dataset again."
            )
        return read_named_split(path)


def to_schema(dataset: Dataset) -> schemas.Dataset:
    """The wire form of a dataset."""
    plain = {name: getattr(dataset, name) for name in schemas.Dataset.model_fields}
    return schemas.Dataset.model_validate(plain | {"report": dataset.report or {}})


def read(session: Session, owner_id: UUID, reference: str) -> schemas.Dataset:
    """A dataset by `name` (the latest version), `name@version` or id. Raises NotFound."""
    return to_schema(find_dataset(session, owner_id, reference))


def list_datasets(
    session: Session, owner_id: UUID, *, limit: int = 50, cursor: str | None = None
) -> Page[schemas.Dataset]:
    """The owner's datasets, newest first. Raises InvalidRequest for a bad cursor."""
    query = select(Dataset).where(Dataset.owner_id == owner_id, Dataset.removed_at.is_(None))
    rows, following = page_of(session, query, Dataset, limit, cursor)
    return Page(
        items=skip_unreadable(rows, lambda some: [to_schema(row) for row in some]),
        next_cursor=following,
    )


def versions(session: Session, owner_id: UUID, name: str) -> list[schemas.Dataset]:
    """All versions of a name, the latest first."""
    rows = session.scalars(
        select(Dataset)
        .where(Dataset.owner_id == owner_id, Dataset.name == name, Dataset.removed_at.is_(None))
        .order_by(Dataset.version.desc())
    )
    return [to_schema(row) for row in rows]


def remove(session: Session, owner_id: UUID, reference: str, *, force: bool = False) -> None:
    """Remove a dataset; its images follow when the store is swept.

    Where models were trained on it, `force` leaves a tombstone: the models stay as they are, and
    the images go.

    Raises:
        NotFound: the owner has none such.
        Conflict: a name with several versions; models that refer to it, without `force`; or a
            training that is still to read it.
    """
    dataset = the_only_version(session, Dataset, owner_id, reference)
    what = f"The dataset {dataset.name}@{dataset.version}"
    session.refresh(dataset, with_for_update=True)
    models = session.scalars(
        select(Model)
        .where(Model.dataset_id == dataset.id, Model.removed_at.is_(None))
        .order_by(Model.id)
    ).all()
    training = [model for model in models if model.state not in ENDED]
    if training:
        raise Conflict(
            f"{what} is being trained on by {_named(training)}; cancel the training first."
        )
    if _exported_by(session, dataset, Export.state.not_in(sorted(ENDED))):
        raise Conflict(f"{what} is being written into an export; wait until that has ended.")
    if _measured_by(session, dataset, Report.state.not_in(sorted(ENDED))):
        raise Conflict(f"{what} is being measured by in a report; cancel that first.")
    if models and not force:
        raise Conflict(
            f"{what} was trained on by {_named(models)}; remove them first, or force it: the "
            "models then stay, and the images go."
        )
    referred = session.scalar(
        select(func.count()).select_from(Model).where(Model.dataset_id == dataset.id)
    )
    drawn = session.scalar(
        select(func.count()).select_from(Figures).where(Figures.dataset_id == dataset.id)
    )
    if referred or drawn or _measured_by(session, dataset) or _exported_by(session, dataset):
        dataset.removed_at = now(session)
    else:
        session.delete(dataset)
    session.flush()


def _measured_by(session: Session, dataset: Dataset, *which: ColumnElement[bool]) -> int:
    """Reports that measure by a dataset."""
    query = select(func.count()).select_from(Report).where(Report.dataset_id == dataset.id, *which)
    return session.scalar(query) or 0


def _exported_by(session: Session, dataset: Dataset, *which: ColumnElement[bool]) -> int:
    """Exports that have a dataset's images."""
    query = select(func.count()).select_from(Export).where(Export.dataset_id == dataset.id, *which)
    return session.scalar(query) or 0


def _named(models: Sequence[Model]) -> str:
    names = [f"{model.name}@{model.version}" for model in models]
    shown_names = ", ".join(names[:NAMED_MODELS])
    return shown_names if len(names) <= NAMED_MODELS else f"{shown_names} and others"
