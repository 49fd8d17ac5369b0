"""NPZ files: arrays of images and labels, as Keras, MedMNIST and many others keep them."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from datagen.datasets.labels import label_of
from datagen.datasets.limits import check_room
from datagen.datasets.listing import Folder
from datagen.datasets.source import Block, Found, Source, rows_at_once
from datagen.errors import InvalidFile
from datagen.images import MAX_SIDE
from datagen.wording import listed

# Names of the arrays of images and labels, for each split that they may be of.
KEYS: Mapping[str | None, tuple[tuple[str, str], ...]] = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("X_train", "y_train")),
    "validation": (("x_val", "y_val"), ("val_images", "val_labels"), ("X_val", "y_val")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels"), ("X_test", "y_test")),
    None: (("images", "labels"), ("x", "y"), ("X", "y"), ("data", "labels"), ("images", "y")),
}
NAMED_FILES = 5
NAME_KEYS = ("class_names", "classes", "label_names")
MAX_LABEL_BYTES = 256 << 20
MAX_HEADER_BYTES = 10_000
_CHANNELS = frozenset({1, 3, 4})
_WANTED = (
    "x_train and y_train (with _val, _test), train_images and train_labels, or images and labels"
)


@dataclass(frozen=True)
class _Member:
    """An array in the archive, of which only the header was read."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool


def find(root: Folder) -> Found | None:
    """The NPZ file in a folder, if there is one.

    Raises:
        InvalidFile: there are several.
    """
    files = [root.path / name for name in root.files if name.lower().endswith(".npz")]
    if len(files) > 1:
        names = listed([path.name for path in files], NAMED_FILES)
        raise InvalidFile(
            f"The folder holds the NPZ files {names}; put the arrays of all splits into one file "
            "(x_train, y_train, x_test, y_test), or give one file."
        )
    return Found("npz", root.path, files, lambda: _source(files[0])) if files else None


def _source(path: Path) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.name: member for member in _members(archive, path.name)}
            pairs = _pairs(members, path.name)
            names = _class_names(archive, members, path.name)
            labels = {
                split: _label_names(_whole(archive, label, path.name), names, label.name)
                for split, (_, label) in pairs.items()
            }
    # zipfile tells a password, and a compression that it cannot undo, by a RuntimeError.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise InvalidFile(f"{path.name} is damaged: {error}.") from error
    return Source(_blocks(path, pairs, labels), names)


def _members(archive: zipfile.ZipFile, file: str) -> Iterator[_Member]:
    for name in archive.namelist():
        if not name.endswith(".npy"):
            continue
        with archive.open(name) as member:
            shape, fortran, dtype = _header(member, f"{file}: {name}")
        yield _Member(name.removesuffix(".npy"), shape, dtype, fortran)


def _header(member: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = npy.read_magic(member)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(member, max_header_size=MAX_HEADER_BYTES)
    except ValueError as error:
        raise InvalidFile(f"{name} is not an array: {error}.") from error
    if dtype.hasobject:
        raise InvalidFile(f"{name} holds Python objects, which are not read; save plain arrays.")
    return shape, fortran, dtype


def _pairs(members: Mapping[str, _Member], file: str) -> dict[str | None, tuple[_Member, _Member]]:
    found: dict[str | None, tuple[_Member, _Member]] = {}
    for split, choices in KEYS.items():
        for images, labels in choices:
            if images in members and labels in members and split not in found:
                found[split] = (members[images], members[labels])
    named: dict[str | None, tuple[_Member, _Member]] = {
        split: pair for split, pair in found.items() if split is not None
    }
    if named and "train" not in named:
        raise InvalidFile(
            f"{file} has no x_train with y_train; a dataset needs images to train on."
        )
    if not found:
        there = ", ".join(sorted(members)[:10]) or "none"
        raise InvalidFile(f"{file} holds the arrays {there}; expected are {_WANTED}.")
    return dict(named) or found


def _whole(archive: zipfile.ZipFile, member: _Member, file: str) -> np.ndarray:
    """A small array, all of it."""
    size = math.prod(member.shape) * member.dtype.itemsize
    if size > MAX_LABEL_BYTES:
        raise InvalidFile(
            f"{file}: {member.name} takes {size:,} bytes, which is too much for labels."
        )
    with archive.open(f"{member.name}.npy") as opened:
        _header(opened, member.name)
        data = opened.read(size + 1)
    if len(data) != size:
        raise InvalidFile(f"{file}: {member.name} does not hold the {size:,} bytes that it says.")
    values = np.frombuffer(data, member.dtype)
    if member.fortran:
        return values.reshape(member.shape[::-1]).transpose()
    return values.reshape(member.shape)


def _class_names(
    archive: zipfile.ZipFile, members: Mapping[str, _Member], file: str
) -> tuple[str, ...] | None:
    key = next((key for key in NAME_KEYS if key in members), None)
    if key is None or members[key].dtype.kind not in "US":
        return None
    values = _whole(archive, members[key], file).ravel()
    names = tuple(_label_names(values, None, f"{file}: {key}"))
    if len(set(names)) != len(names) or not names:
        raise InvalidFile(f"{file}: {key} names a class twice, or none.")
    return names


def _label_names(values: np.ndarray, names: tuple[str, ...] | None, key: str) -> list[str]:
    if values.ndim == 2 and values.shape[1] == 1:  # noqa: PLR2004 - a column
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iufUSb":
        raise InvalidFile(
            f"{key} has the shape {values.shape} and type {values.dtype}; one label an image is "
            "needed, as whole numbers or names."
        )
    return [_label_name(value, names, key, row) for row, value in enumerate(values.tolist())]


def _label_name(value: object, names: tuple[str, ...] | None, key: str, row: int) -> str:
    try:
        name = label_of(value, names)
    except ValueError as error:
        raise InvalidFile(f"{key}[{row}] {error}; each image needs the label of a class.") from None
    if name is None:
        raise InvalidFile(f"{key}[{row}] is {value}, which is no label; each image needs one.")
    return name


def _blocks(
    path: Path,
    pairs: Mapping[str | None, tuple[_Member, _Member]],
    labels: Mapping[str | None, list[str]],
) -> Iterator[Block]:
    try:
        with zipfile.ZipFile(path) as archive:
            for split, (images, _) in pairs.items():
                name, own, done = f"{path.name}: {images.name}", labels[split], 0
                if images.shape[:1] == (0,) and not own:
                    continue
                _check_shape(images, name)
                if images.shape[0] != len(own):
                    raise InvalidFile(
                        f"{name} holds {images.shape[0]:,} images and there are {len(own):,} "
                        "labels; they must be as many."
                    )
                for values in _images(archive, images, name):
                    part = own[done : done + len(values)]
                    yield Block(values, part, split, name, done)
                    done += len(values)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InvalidFile(f"{path.name} is damaged: {error}.") from error


def _check_shape(member: _Member, name: str) -> None:
    shape = member.shape
    grey = len(shape) == 3  # noqa: PLR2004 - N, H, W
    colour = len(shape) == 4 and bool(_CHANNELS & {shape[3], shape[1]})  # noqa: PLR2004 - and C
    if not (grey or colour) or member.fortran or 0 in shape:
        raise InvalidFile(
            f"{name} has the shape {shape}{' in Fortran order' if member.fortran else ''}; wanted "
            "is N x H x W, N x H x W x C or N x C x H x W, with 1, 3 or 4 channels."
        )
    if member.dtype.kind not in "uifb":
        raise InvalidFile(f"{name} has values of type {member.dtype}; numbers are needed.")
    height, width = shape[1:3] if grey or shape[3] in _CHANNELS else shape[2:4]
    if max(height, width) > MAX_SIDE:
        raise InvalidFile(
            f"{name} has images of {width} x {height} pixels; at most {MAX_SIDE} a side."
        )
    channels = 1 if grey else math.prod(shape[1:]) // (height * width)
    check_room(shape[0], (channels, height, width))


def _images(archive: zipfile.ZipFile, member: _Member, name: str) -> Iterator[np.ndarray]:
    """Images as (n, C, H, W), of the type that they have, a piece at a time."""
    for values in _rows(archive, member, name):
        if values.dtype.kind == "b":
            yield _channels_first(values.astype(np.uint8) * np.uint8(255))
        else:
            yield _channels_first(values.astype(values.dtype.newbyteorder("="), copy=False))


def _rows(archive: zipfile.ZipFile, member: _Member, name: str) -> Iterator[np.ndarray]:
    at_once = rows_at_once((*member.shape[1:], member.dtype.itemsize))
    row = math.prod(member.shape[1:]) * member.dtype.itemsize
    with archive.open(f"{member.name}.npy") as opened:
        _header(opened, name)
        for start in range(0, member.shape[0], at_once):
            rows = min(at_once, member.shape[0] - start)
            data = opened.read(rows * row)
            if len(data) != rows * row:
                raise InvalidFile(f"{name} ends after {start:,} of {member.shape[0]:,} images.")
            yield np.frombuffer(data, member.dtype).reshape(rows, *member.shape[1:])


def _channels_first(values: np.ndarray) -> np.ndarray:
    """N x C x H x W. Where both the last and the second axis could be channels, the last is."""
    if values.ndim == 3:  # noqa: PLR2004 - N, H, W
        return values[:, None]
    return values.transpose(0, 3, 1, 2) if values.shape[3] in _CHANNELS else values
