"""The header of a checkpoint: what the weights are, readable without torch.

A checkpoint is a safetensors file: eight bytes with the header's length, a JSON header, numbers.
Ours keeps a document of its own under the metadata key `datagen`.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datagen.errors import InvalidFile

FORMAT_VERSION = 1
METADATA_KEY = "datagen"
MAX_HEADER_BYTES = 8_000_000
_LENGTH = struct.Struct("<Q")
_WITHOUT_TRAINING = {"training_digest": "", "parent_digest": None}


class CheckpointHeader(BaseModel):
    """What a checkpoint says of itself.

    Attributes:
        kind: `autoencoder`, `vae`, `cvae` or `judge`.
        config: architecture, as `GeneratorConfig` or `JudgeConfig` reads it.
        class_names: the labels, in order.
        image_shape: channels, height, width.
        training_digest: digest of the dataset that it was trained on.
        parent_digest: SHA-256 of the model that its training started from; None where from nothing.
        options: how it was trained.
        metrics: what was measured on images that it was not trained on.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int = Field(default=FORMAT_VERSION, ge=1, le=FORMAT_VERSION)
    kind: Literal["autoencoder", "vae", "cvae", "judge"]
    config: dict[str, Any]
    class_names: tuple[str, ...] = Field(min_length=1)
    image_shape: tuple[int, int, int]
    training_digest: str
    parent_digest: str | None = Field(default=None, max_length=64)
    options: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    datagen_version: str

    def to_metadata(self) -> dict[str, str]:
        """The safetensors metadata that holds this header; the same text for the same header."""
        return {METADATA_KEY: json.dumps(self.model_dump(mode="json"), sort_keys=True)}


def read_header(path: Path) -> CheckpointHeader:
    """The header of a checkpoint.

    Raises:
        InvalidFile: missing, truncated, damaged, a pickle, or not one of ours.
    """
    document = read_document(path)
    try:
        ours = json.loads(document["__metadata__"][METADATA_KEY])
        return CheckpointHeader.model_validate(ours)
    except (ValueError, TypeError, RecursionError, ValidationError):
        raise _refused(path, "its header cannot be read") from None
    except KeyError:
        raise _refused(path, "it was not written by datagen") from None


def head_without_training_digest(source: BinaryIO) -> bytes:
    """What a checkpoint begins with, but for what it was trained on and from; its tensors follow.

    Args:
        source: a checkpoint that was checked, at its beginning; it is left at the tensors.
    """
    (length,) = _LENGTH.unpack(source.read(_LENGTH.size))
    document = json.loads(source.read(length))
    header = CheckpointHeader.model_validate(json.loads(document["__metadata__"][METADATA_KEY]))
    document["__metadata__"] |= header.model_copy(update=dict(_WITHOUT_TRAINING)).to_metadata()
    text = json.dumps(document, separators=(",", ":")).encode()
    # Tensors begin at a multiple of eight, as the format wants it.
    text += b" " * (-len(text) % 8)
    return _LENGTH.pack(len(text)) + text


def read_document(path: Path) -> dict[str, Any]:
    """The JSON document at the head of a safetensors file: its tensors, and what else it says.

    Raises:
        InvalidFile: missing, truncated, damaged, or no such file.
    """
    try:
        document = json.loads(_header_text(path))
    except (ValueError, RecursionError):
        raise _refused(path, "its header cannot be read") from None
    if not isinstance(document, dict):
        raise _refused(path, "its header cannot be read")
    return document


def _header_text(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(_LENGTH.size)
            length = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else 0
            if not 0 < length <= min(MAX_HEADER_BYTES, size - _LENGTH.size):
                raise _refused(path, "it does not begin with a safetensors header")
            return file.read(length)
    except OSError as error:
        raise _refused(path, f"it cannot be read ({error.strerror})") from None


def _refused(path: Path, why: str) -> InvalidFile:
    return InvalidFile(f"{path.name} is not a checkpoint of datagen: {why}; train or import again.")
