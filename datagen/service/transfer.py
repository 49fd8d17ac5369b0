"""Models that travel: one zip with all that a model is, written and read back.

What comes in may have been made by anybody. It is checked whole before anything is stored: the
members, their digests, every tensor's name, type and shape, and that all values are numbers.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.datasets.unzipping import COPY_BYTES, check_directory
from datagen.db.session import now
from datagen.db.tables import Model, new_id
from datagen.errors import Conflict, InvalidFile
from datagen.export.sinks import ZipSink
from datagen.model.checking import check_finite, check_generator, check_judge
from datagen.model.examples import load_examples
from datagen.model.header import CheckpointHeader, without_training_digest
from datagen.quality.training_index import load_index
from datagen.service import sharing
from datagen.service.common import find_model, next_version
from datagen.service.model_files import ModelFiles, StoredFile
from datagen.service.models import shown
from datagen.storage import Storage

SCHEMA_VERSION = 1
DOCUMENT = "model.json"
GENERATOR, JUDGE, EXAMPLES, INDEX = (
    "generator.safetensors",
    "judge.safetensors",
    "examples.safetensors",
    "index.safetensors",
)
# Made from the images that the model was trained on, and so for its owner alone.
_OWNERS = frozenset({EXAMPLES, INDEX})
MAX_DOCUMENT_BYTES = 64 << 20
_NEEDED = frozenset({DOCUMENT, GENERATOR, JUDGE})


class Member(BaseModel):
    """A file of the package."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Document(BaseModel):
    """`model.json`: what the model is, and the digest of each file beside it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    name: str = Field(max_length=64)
    version: int
    class_names: tuple[str, ...] = Field(min_length=1)
    image_shape: tuple[int, int, int]
    config: dict[str, Any]
    options: dict[str, Any]
    metrics: dict[str, Any]
    dataset_digest: str | None = Field(default=None, max_length=64)
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    device: str | None = Field(default=None, max_length=64)
    created_at: str = ""
    files: dict[str, Member]


@dataclass(frozen=True)
class Package:
    """A package that was checked, unpacked in a folder."""

    document: Document
    header: CheckpointHeader
    files: dict[str, Path]


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
    data = {name: _fetched(storage, file) for name, file in wanted.items() if file is not None}
    told = sharing.names_dataset(session, model, owner_id)
    if not told:
        data = {name: without_training_digest(content) for name, content in data.items()}
    document = Document(
        name=model.name,
        version=model.version,
        class_names=tuple(model.class_names),
        image_shape=(model.image_shape[0], model.image_shape[1], model.image_shape[2]),
        config=model.config or {},
        options=model.options,
        metrics=model.metrics,
        dataset_digest=model.dataset_digest if told else None,
        seconds=model.seconds,
        device=model.device,
        created_at=model.created_at.isoformat(),
        files={
            name: Member(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
            for name, content in data.items()
        },
    )
    with ZipSink(out) as sink:
        text = json.dumps(document.model_dump(mode="json"), indent=2, sort_keys=True)
        sink.put(DOCUMENT, text.encode() + b"\n")
        for name, content in data.items():
            sink.put(name, content)
    return shown(session, model, owner_id)


def _fetched(storage: Storage, file: StoredFile) -> bytes:
    try:
        data = storage.get(file.key)
    except FileNotFoundError:
        raise InvalidFile(f"The weights {file.key} are missing from the storage.") from None
    if hashlib.sha256(data).hexdigest() != file.digest:
        raise InvalidFile(
            f"The weights {file.key} are not what the database says; they were changed."
        )
    return data


def read_package(path: Path, folder: Path) -> Package:
    """Check a package, unpacked into an empty folder.

    Raises:
        InvalidFile: no package of ours, or one that was changed, damaged, or contradicts itself.
    """
    try:
        document, files = _unpacked(path, folder)
    # zipfile tells a password, and a compression that it cannot undo, by a RuntimeError.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        raise InvalidFile(
            f"The upload is no model that `datagen model export` wrote, or damaged: {error}."
        ) from error
    config, header = check_generator(files[GENERATOR])
    _, judge = check_judge(files[JUDGE])
    said = (document.class_names, document.image_shape)
    for own in (header, judge):
        if (own.class_names, own.image_shape) != said:
            raise InvalidFile("The files of the model contradict each other about its classes.")
    for name in (GENERATOR, JUDGE):
        check_finite(files[name])
    if EXAMPLES in files:
        examples = load_examples(files[EXAMPLES], config.latent_dim)
        if len(examples) and int(examples.labels.max()) >= config.class_count:
            raise InvalidFile(f"{EXAMPLES} has labels that the model does not know.")
    if INDEX in files:
        load_index(files[INDEX], config.image_shape, config.class_count)
    return Package(document, header, files)


def _unpacked(path: Path, folder: Path) -> tuple[Document, dict[str, Path]]:
    with path.open("rb") as raw:
        check_directory(raw, max_entries=100)
        with zipfile.ZipFile(raw) as archive:
            names = archive.namelist()
            if set(names) - _OWNERS != _NEEDED or len(set(names)) != len(names):
                raise InvalidFile(
                    f"The upload holds {', '.join(names)[:200] or 'nothing'}; a model is "
                    f"{', '.join(sorted(_NEEDED))} and maybe {' and '.join(sorted(_OWNERS))}."
                )
            document = _document(archive)
            if set(document.files) != set(names) - {DOCUMENT}:
                raise InvalidFile(f"{DOCUMENT} speaks of other files than there are.")
            files = {}
            for name, member in document.files.items():
                files[name] = folder / name
                _extract(archive, name, member, files[name])
    return document, files


def _document(archive: zipfile.ZipFile) -> Document:
    size = archive.getinfo(DOCUMENT).file_size
    if size > MAX_DOCUMENT_BYTES:
        raise InvalidFile(f"{DOCUMENT} has {size:,} bytes; that is no honest one.")
    try:
        return Document.model_validate_json(archive.read(DOCUMENT))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InvalidFile(f"{DOCUMENT} cannot be used: {where}: {problem['msg']}.") from None


def _extract(archive: zipfile.ZipFile, name: str, member: Member, target: Path) -> None:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != member.bytes:
        raise InvalidFile(f"{name} is not as {DOCUMENT} says; the file was changed.")
    digest = hashlib.sha256()
    with archive.open(info) as source, target.open("wb") as copy:
        while block := source.read(COPY_BYTES):
            digest.update(block)
            copy.write(block)
    if digest.hexdigest() != member.sha256:
        raise InvalidFile(
            f"{name} has the digest {digest.hexdigest()[:16]}… and {DOCUMENT} says "
            f"{member.sha256[:16]}…; the file was changed."
        )


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
        return shown(session, same, owner_id)
    moment = now(session)
    model = Model(
        id=new_id(),
        owner_id=owner_id,
        name=name,
        version=version,
        state="succeeded",
        visibility="private",
        dataset_digest=document.dataset_digest or package.header.training_digest or None,
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
    return shown(session, model, owner_id)
