"""The file that a model travels in, read back: one zip with all that a model is.

It may have been made by anybody. It is checked whole before anything is stored: the members, their
digests, every tensor's name, type and shape, and that all values are numbers.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datagen.datasets.unzipping import check_directory
from datagen.errors import InvalidFile
from datagen.model.checking import check_finite, check_generator, check_judge
from datagen.model.examples import load_examples
from datagen.model.header import CheckpointHeader
from datagen.quality.training_index import load_index
from datagen.schemas.base import first_problem
from datagen.storage import digest_of

SCHEMA_VERSION = 1
DOCUMENT = "model.json"
GENERATOR, JUDGE, EXAMPLES, INDEX = (
    "generator.safetensors",
    "judge.safetensors",
    "examples.safetensors",
    "index.safetensors",
)
# Made from the images that the model was trained on, and so for its owner alone.
PRIVATE_FILES = frozenset({EXAMPLES, INDEX})
# A directory of more files is not read: a model has five.
MOST_FILES = 100
# A document takes many times its size in memory; those of our own have some kilobytes.
MAX_DOCUMENT_BYTES = 1 << 20
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


def read_package(path: Path, folder: Path) -> Package:
    """Check a package, unpacked into an empty folder.

    Raises:
        InvalidFile: no package of ours, or one that was changed, damaged, or contradicts itself.
    """
    try:
        document, files = _unpacked(path, folder)
    # zipfile raises RuntimeError for a password, and for a compression that it does not know.
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
        try:
            check_directory(raw, max_entries=MOST_FILES)
        except InvalidFile as error:
            raise InvalidFile(
                "The upload is not a model that `datagen model export` wrote; give such a file."
            ) from error
        with zipfile.ZipFile(raw) as archive:
            names = archive.namelist()
            if set(names) - PRIVATE_FILES != _NEEDED or len(set(names)) != len(names):
                raise InvalidFile(
                    f"The upload holds {', '.join(names)[:200] or 'nothing'}; a model is "
                    f"{', '.join(sorted(_NEEDED))} and maybe {' and '.join(sorted(PRIVATE_FILES))}."
                )
            document = _document(archive)
            if set(document.files) != set(names) - {DOCUMENT}:
                raise InvalidFile(f"{DOCUMENT} names other files than the archive holds.")
            files = {}
            for name, member in document.files.items():
                files[name] = folder / name
                _extract(archive, name, member, files[name])
    return document, files


def _document(archive: zipfile.ZipFile) -> Document:
    size = archive.getinfo(DOCUMENT).file_size
    if size > MAX_DOCUMENT_BYTES:
        raise InvalidFile(
            f"{DOCUMENT} has {size:,} bytes; at most {MAX_DOCUMENT_BYTES:,} are read."
        )
    try:
        return Document.model_validate_json(archive.read(DOCUMENT))
    except ValidationError as error:
        where, why = first_problem(error)
        raise InvalidFile(f"{DOCUMENT} cannot be used: {where}: {why}.") from None


def _extract(archive: zipfile.ZipFile, name: str, member: Member, target: Path) -> None:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != member.bytes:
        raise InvalidFile(f"{name} is not as {DOCUMENT} says; the file was changed.")
    with archive.open(info) as source, target.open("wb") as copy:
        digest = digest_of(source, copy=copy)
    if digest != member.sha256:
        raise InvalidFile(
            f"{name} has the digest {digest[:16]}… and {DOCUMENT} says "
            f"{member.sha256[:16]}…; the file was changed."
        )
