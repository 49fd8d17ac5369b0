"""How the images of a registered dataset are kept: one safetensors file a split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from datagen.datasets.names import Names
from datagen.errors import InvalidFile, InvalidRequest
from datagen.images import LabelledImages

SCHEMA_VERSION = 1
PIECE_BYTES = 16 << 20
_HEADER = "datagen"


def write_split(path: Path, images: LabelledImages, names: Names | None = None) -> str:
    """Write images, labels, class and file names; the same images and names give the same bytes.

    Images are copied a piece at a time, so they may be the map of a file larger than memory. The
    layout is safetensors': the length of a JSON header, the header, and the bytes it speaks of.

    Returns:
        SHA-256 of the file, hexadecimal.
    """
    ours = {"schema_version": SCHEMA_VERSION, "class_names": list(images.class_names)}
    arrays = {"labels": images.labels}
    if names is not None:
        arrays |= {"name_ends": names.ends, "names": names.data}
    small = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    ends = list(accumulate(values.nbytes for values in small.values()))
    header = json.dumps(
        {
            "__metadata__": {_HEADER: json.dumps(ours)},
            **{
                name: _tensor(values, end - values.nbytes)
                for (name, values), end in zip(small.items(), ends, strict=True)
            },
            "images": _tensor(images.images, ends[-1]),
        }
    ).encode()
    # Numbers begin at a multiple of eight, as the format wants it.
    header += b" " * (-len(header) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in _parts(header, small.values(), images):
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def _tensor(values: np.ndarray, begin: int) -> dict[str, Any]:
    span = [begin, begin + values.nbytes]
    dtype = {"uint8": "U8", "int64": "I64"}[values.dtype.name]
    return {"dtype": dtype, "shape": list(values.shape), "data_offsets": span}


def _parts(
    header: bytes, small: Iterable[np.ndarray], images: LabelledImages
) -> Iterator[bytes | memoryview]:
    yield len(header).to_bytes(8, "little")
    yield header
    for values in small:
        yield values.data
    at_once = max(1, PIECE_BYTES // max(1, images.images[0].nbytes)) if len(images) else 1
    for start in range(0, len(images), at_once):
        yield np.ascontiguousarray(images.images[start : start + at_once]).data


def read_split(path: Path) -> LabelledImages:
    """The images of a split, mapped into memory; see `read_named_split`."""
    return read_named_split(path)[0]


def read_named_split(path: Path) -> tuple[LabelledImages, Names | None]:
    """The images of a split, mapped into memory: pages are read when they are looked at.

    The file may be removed meanwhile; changes to the array stay in this process. With them comes
    what the images were called; None where that was not kept.

    Raises:
        InvalidFile: missing, damaged, or not such a file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            labels = file.get_tensor("labels")
            names = _read_names(file, len(labels))
            kept = file.get_slice("images")
            dtype, shape = kept.get_dtype(), tuple(kept.get_shape())
        if dtype != "U8":
            raise InvalidFile(f"{path.name} has images of type {dtype}; U8 is needed.")
        images = np.memmap(path, np.uint8, mode="c", offset=_offset(path, "images"), shape=shape)
        return LabelledImages(np.asarray(images), labels, tuple(header["class_names"])), names
    except InvalidRequest as error:
        raise InvalidFile(f"{path.name} holds no dataset: {error.detail}") from error
    except (SafetensorError, OSError, ValueError, TypeError, LookupError) as error:
        raise InvalidFile(f"{path.name} is no stored dataset, or damaged: {error}.") from error


def _read_names(file: Any, count: int) -> Names | None:
    if "names" not in file.keys():  # noqa: SIM118 - the file is no mapping
        return None
    names = Names(file.get_tensor("names"), file.get_tensor("name_ends"))
    bounds = np.concatenate([[0], names.ends, [len(names.data)]])
    if names.ends.shape != (count,) or np.any(np.diff(bounds) < 0):
        raise ValueError("its names do not fit its images")
    return names


def _offset(path: Path, name: str) -> int:
    """Where a tensor's bytes begin; safetensors has checked the header by then."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    begin: int = header[name]["data_offsets"][0]
    return 8 + length + begin


@dataclass(frozen=True)
class Digests:
    """SHA-256 digests of a dataset, as hex.

    Attributes:
        content: over the splits' names, the class names in their order, the images' shape, and each
            image with its label. The order of images within a split does not count, nor what they
            are called: the same images in IDX files and in class folders are the same dataset.
        arrangement: over their order and their names too, and so over all that is stored.
    """

    content: str
    arrangement: str


def digests_of(
    splits: Mapping[str, LabelledImages], names: Mapping[str, Names] | None = None
) -> Digests:
    """The digests of a dataset's splits and of what their images were called."""
    content, arrangement = hashlib.sha256(), hashlib.sha256()
    for split in sorted(splits):
        images = splits[split]
        head = [split, list(images.class_names), list(images.images.shape)]
        fingerprints = _fingerprints(images)
        for whole, rows in ((content, np.sort(fingerprints)), (arrangement, fingerprints)):
            whole.update(json.dumps(head).encode() + b"\0")
            whole.update(rows.tobytes())
        if names and split in names:
            arrangement.update(names[split].ends.tobytes())
            arrangement.update(np.ascontiguousarray(names[split].data).data)
    return Digests(content.hexdigest(), arrangement.hexdigest())


def image_hashes(images: np.ndarray) -> np.ndarray:
    """SHA-256 of the pixels of each image, uint8 of shape (N, 32)."""
    hashes = b"".join(hashlib.sha256(pixels).digest() for pixels in np.ascontiguousarray(images))
    return np.frombuffer(hashes, dtype=np.uint8).reshape(-1, 32)


def _fingerprints(images: LabelledImages) -> np.ndarray:
    """Label and hash of each image, as 40 bytes of shape (N,) that can be sorted."""
    rows = np.empty((len(images), 40), dtype=np.uint8)
    rows[:, :8] = images.labels.astype(">i8")[:, None].view(np.uint8)
    rows[:, 8:] = image_hashes(images.images)
    # Compared as bytes, not as text: a trailing zero counts.
    return rows.view(np.dtype((np.void, 40))).ravel()
