"""Models that travel: one zip with all that a model is, written, and registered again elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.session import now
from datagen.db.tables import Model, new_id
from datagen.errors import Conflict, InvalidFile
from datagen.export.sinks import ZipSink
from datagen.model.header import CheckpointHeader, head_without_training_digest
from datagen.service import sharing
from datagen.service.common import find_model, next_version
from datagen.service.model_files import ModelFiles, StoredFile
from datagen.service.models import to_schema
from datagen.service.packages import (
    DOCUMENT,
    EXAMPLES,
    GENERATOR,
    INDEX,
    JUDGE,
    Document,
    Member,
    Package,
)
from datagen.service.reader import FileReader
from datagen.storage import CHUNK_BYTES, Storage


def write_package(
    session: Session, storage: Storage, owner_id: UUID, reference: str, out: BinaryIO
) -> schemas.Model:
    """Write a model as one zip; the same bytes each time.

    The examples and the training index, which are made from the images that it was trained on, are
    for its owner alone; and so is the digest of these images.

    Raises:
        NotFound: no such model that the owner may see.
        Conflict: its training has not succeeded.
        InvalidFile: its weights are missing from the store, or not what they were.
    """
    model = find_model(session, owner_id, reference, usable=True)
    if model.state != "succeeded":
        raise Conflict(
            f"The model {model.name}@{model.version} is {model.state}; it has no weights."
        )
    files = ModelFiles.of(model)
    wanted: dict[str, StoredFile | None] = {GENERATOR: files.generator, JUDGE: files.judge}
    if model.owner_id == owner_id:
        wanted |= {EXAMPLES: files.examples, INDEX: files.index}
    kept = {name: file for name, file in wanted.items() if file is not None}
    names_dataset = sharing.names_dataset(session, model, owner_id)
    members = {name: _checked(storage, file) for name, file in kept.items()}
    if not names_dataset:
        # What goes out has another header.
        members = {name: _member(_anonymous(storage, file)) for name, file in kept.items()}
    document = Document(
        name=model.name,
        version=model.version,
        class_names=tuple(model.class_names),
        image_shape=(model.image_shape[0], model.image_shape[1], model.image_shape[2]),
        config=model.config or {},
        options=model.options,
        metrics=model.metrics,
        dataset_digest=model.dataset_digest if names_dataset else None,
        seconds=model.seconds,
        device=model.device,
        created_at=model.created_at.isoformat(),
        files=members,
    )
    with ZipSink(out) as sink:
        text = json.dumps(document.model_dump(mode="json"), indent=2, sort_keys=True)
        sink.put(DOCUMENT, text.encode() + b"\n")
        for name, file in kept.items():
            with sink.open(name) as member:
                blocks = _blocks if names_dataset else _anonymous
                for block in blocks(storage, file):
                    member.write(block)
    return to_schema(session, model, owner_id)


def _checked(storage: Storage, file: StoredFile) -> Member:
    """Weights as they are stored. Raises InvalidFile: missing, or not what they were."""
    try:
        found = _member(_blocks(storage, file))
    except FileNotFoundError:
        raise InvalidFile(f"The weights {file.key} are missing from the storage.") from None
    if found.sha256 != file.digest:
        raise InvalidFile(
            f"The weights {file.key} are not what the database says; they were changed."
        )
    return found


def _blocks(storage: Storage, file: StoredFile) -> Iterator[bytes]:
    """The bytes of a file, piece by piece."""
    with storage.open(file.key) as source:
        while block := source.read(CHUNK_BYTES):
            yield block


def _anonymous(storage: Storage, file: StoredFile) -> Iterator[bytes]:
    """The same with a header that does not name what the model was trained on."""
    with storage.open(file.key) as source:
        yield head_without_training_digest(source)
        while block := source.read(CHUNK_BYTES):
            yield block


def _member(blocks: Iterator[bytes]) -> Member:
    digest, size = hashlib.sha256(), 0
    for block in blocks:
        digest.update(block)
        size += len(block)
    return Member(sha256=digest.hexdigest(), bytes=size)


def read_in_process(reader: FileReader, path: Path, folder: Path) -> Package:
    """Check a package, unpacked into an empty folder, in a process of its own.

    Raises:
        InvalidFile: no package of ours, or one that was changed, damaged, or contradicts itself.
    """
    found = reader.read("package", {"path": str(path), "folder": str(folder)})
    document = Document.model_validate(found["document"])
    files = {name: folder / name for name in document.files}
    return Package(document, CheckpointHeader.model_validate(found["header"]), files)


def store_package(storage: Storage, package: Package) -> dict[str, str]:
    """Put the files of a checked package into the store; their keys."""
    keys = {}
    for name, path in package.files.items():
        keys[name] = f"models/{package.document.files[name].sha256}.safetensors"
        with path.open("rb") as file:
            storage.put(keys[name], file)
    return keys


def register(
    session: Session, owner_id: UUID, name: str, package: Package, keys: dict[str, str]
) -> schemas.Model:
    """Register an imported model as the next version of a name; the same model again once."""
    document, digests = package.document, package.document.files
    version = next_version(session, Model, owner_id, name)
    stored = {name: StoredFile(keys[name], member.sha256) for name, member in digests.items()}
    files = ModelFiles(stored[GENERATOR], stored[JUDGE], stored.get(EXAMPLES), stored.get(INDEX))
    same = session.scalars(
        select(Model).where(
            Model.owner_id == owner_id,
            Model.name == name,
            *(getattr(Model, name) == value for name, value in files.columns().items()),
            Model.removed_at.is_(None),
        )
    ).first()
    if same is not None:
        return to_schema(session, same, owner_id)
    moment = now(session)
    model = Model(
        id=new_id(),
        owner_id=owner_id,
        name=name,
        version=version,
        state="succeeded",
        visibility="private",
        dataset_digest=document.dataset_digest or package.header.training_digest or None,
        parent_digest=package.header.parent_digest,
        options=package.header.options,
        config=package.header.config,
        class_names=list(document.class_names),
        image_shape=list(document.image_shape),
        metrics=package.header.metrics,
        progress={},
        seconds=document.seconds,
        device=document.device,
        **files.columns(),
        created_at=moment,
        available_at=moment,
        ended_at=moment,
    )
    session.add(model)
    session.flush()
    return to_schema(session, model, owner_id)
