"""How the images of a registered dataset are kept: one safetensors file a split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from datagen.errors import InvalidFile, InvalidRequest
from datagen.images import LabelledImages

SCHEMA_VERSION = 1
# One key alone: safetensors writes several in no fixed order.
_HEADER = "datagen"


def write_split(path: Path, images: LabelledImages) -> None:
    """Write images, labels and class names; the same images give the same bytes."""
    header = {"schema_version": SCHEMA_VERSION, "class_names": list(images.class_names)}
    save_file(
        {
            "images": np.ascontiguousarray(images.images),
            "labels": np.ascontiguousarray(images.labels),
        },
        path,
        metadata={_HEADER: json.dumps(header)},
    )


def read_split(path: Path) -> LabelledImages:
    """The images of a split, mapped into memory: pages are read when they are looked at.

    The file may be removed meanwhile; changes to the array stay in this process.

    Raises:
        InvalidFile: missing, damaged, or not such a file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            labels = file.get_tensor("labels")
            kept = file.get_slice("images")
            dtype, shape = kept.get_dtype(), tuple(kept.get_shape())
        if dtype != "U8":
            raise InvalidFile(f"{path.name} has images of type {dtype}; U8 is needed.")
        images = np.memmap(path, np.uint8, mode="c", offset=_offset(path, "images"), shape=shape)
        return LabelledImages(np.asarray(images), labels, tuple(header["class_names"]))
    except InvalidRequest as error:
        raise InvalidFile(f"{path.name} holds no dataset: {error.detail}") from error
    except (SafetensorError, OSError, ValueError, TypeError, LookupError) as error:
        raise InvalidFile(f"{path.name} is no stored dataset, or damaged: {error}.") from error


def _offset(path: Path, name: str) -> int:
    """Where a tensor's bytes begin; safetensors has checked the header by then."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    begin: int = header[name]["data_offsets"][0]
    return 8 + length + begin


def content_digest(splits: Mapping[str, LabelledImages]) -> str:
    """SHA-256, as hex, over what a dataset holds.

    It covers the splits' names, the class names in their order, the images' shape, and each image
    with its label. The order of images within a split does not count, nor does the format that they
    came in: the same images in IDX files and in class folders are the same dataset.
    """
    whole = hashlib.sha256()
    for split in sorted(splits):
        images = splits[split]
        head = [split, list(images.class_names), list(images.images.shape)]
        whole.update(json.dumps(head).encode() + b"\0")
        whole.update(np.sort(_fingerprints(images)).tobytes())
    return whole.hexdigest()


def _fingerprints(images: LabelledImages) -> np.ndarray:
    """Label and hash of each image, as 40 bytes of shape (N,) that can be sorted."""
    hashes = b"".join(
        hashlib.sha256(pixels).digest() for pixels in np.ascontiguousarray(images.images)
    )
    rows = np.empty((len(images), 40), dtype=np.uint8)
    rows[:, :8] = images.labels.astype(">i8")[:, None].view(np.uint8)
    rows[:, 8:] = np.frombuffer(hashes, dtype=np.uint8).reshape(-1, 32)
    # Compared as bytes, not as text: a trailing zero counts.
    return rows.view(np.dtype((np.void, 40))).ravel()
