"""TFRecord files of TensorFlow: `tf.train.Example` records with a picture and a label each.

A record is its length, the masked CRC-32C of the length, the payload and its masked CRC-32C.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import google_crc32c
import numpy as np

from datagen.datasets.archive import LARGEST_PICTURE
from datagen.datasets.labels import label_of
from datagen.datasets.listing import Folder
from datagen.datasets.own_export import ClassList, class_list
from datagen.datasets.source import Entry, Found, Source, in_chunks, split_folders, splits_in
from datagen.datasets.tf_examples import Feature, features_of
from datagen.errors import InvalidFile
from datagen.images import encode_png

# Names of the features that hold a picture, a label as a number, and a label as text.
IMAGES = ("image_bytes", "image/encoded", "image", "image_raw", "image/raw", "encoded", "img")
NUMBERS = ("label_index", "image/class/label", "label", "class", "image/label", "labels")
TEXTS = ("label", "image/class/text", "class_name", "label_name", "class", "category")
FILES = ("filename", "image/filename", "image/id", "file_name")
_SIDES = (("height", "width", "depth"), ("image/height", "image/width", "image/channels"))
_NAME = re.compile(
    r".+\.(tfrecords?|tfrec)(-[0-9]{5}-of-[0-9]{5})?(\.gz)?|tf\.records(-[0-9]{5}-of-[0-9]{5})?",
    re.IGNORECASE,
)
_COUNTED = re.compile(r"-[0-9]{5}-of-([0-9]{5})")
_MASK = 0xA282EAD8
_HEAD = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_GZIP = b"\x1f\x8b\x08"


def find(root: Folder) -> Found | None:
    """The record files in a folder and in its folders named like splits.

    Raises:
        InvalidFile: files of several splits in one name, or one of a numbered row of files is
            missing.
    """
    folders: list[tuple[Folder, str | None]] = [(root, None), *split_folders(root)]
    files = {
        folder.path / name: _split(name) or split
        for folder, split in folders
        for name in folder.files
        if _NAME.fullmatch(name)
    }
    return _found(root.path, files) if files else None


def find_alone(path: Path) -> Found | None:
    """A record file that is given by itself; names may lie beside it. Raises InvalidFile."""
    return _found(path.parent, {path: _split(path.name)}) if _NAME.fullmatch(path.name) else None


def _found(root: Path, files: Mapping[Path, str | None]) -> Found:
    _check_complete(root, list(files))
    classes = class_list(root, "tfrecord")
    members = [*files, *classes.files]
    return Found("tfrecord", root, members, lambda: _source(root, files, classes))


def _split(name: str) -> str | None:
    """The split that a file's name tells: `train-00000-of-00004`, `flowers_test.tfrecord`."""
    found = splits_in(name)
    if len(found) > 1:
        raise InvalidFile(f"{name} is named after more than one split; rename it.")
    return next(iter(found), None)


def _check_complete(root: Path, files: Sequence[Path]) -> None:
    """Files that say how many there are must all be there: one less is another dataset."""
    rows: dict[tuple[Path, str], tuple[int, int]] = {}
    for path in files:
        match = _COUNTED.search(path.name)
        if match is not None:
            key = (path.parent, _COUNTED.sub(f"-*-of-{match[1]}", path.name))
            rows[key] = (rows.get(key, (0, 0))[0] + 1, int(match[1]))
    for (folder, name), (count, wanted) in rows.items():
        if count != wanted:
            shown = (folder / name).relative_to(root).as_posix()
            raise InvalidFile(
                f"Of the {wanted:,} files {shown} there are {count:,} here; give the folder that "
                "holds all of them."
            )


def _source(root: Path, files: Mapping[Path, str | None], classes: ClassList) -> Source:
    names = classes.names
    entries = (
        _entry(f"{path.relative_to(root).as_posix()} record {number}", split, features, names)
        for path, split in files.items()
        for number, features in _examples(path)
    )
    return Source(in_chunks(entries), names)


def _examples(path: Path) -> Iterator[tuple[int, dict[str, Feature]]]:
    for number, payload in enumerate(records(path)):
        try:
            yield number, features_of(payload)
        except ValueError as error:
            raise InvalidFile(
                f"{path.name} record {number} is not a tf.train.Example: {error}."
            ) from None


def records(path: Path) -> Iterator[bytes]:
    """The payloads of a file, gzipped or not.

    Raises:
        InvalidFile: no such file, truncated or damaged; it names the record, counted from 0.
    """
    with _opened(path) as file:
        number = 0
        while head := file.read(_HEAD.size):
            wrong = f"{path.name} record {number}"
            if len(head) < _HEAD.size:
                raise InvalidFile(f"{wrong} ends within its header; the file is truncated.")
            length, crc = _HEAD.unpack(head)
            if _masked(head[:8]) != crc:
                raise InvalidFile(f"{wrong} is damaged: the checksum of its length is wrong.")
            if length > LARGEST_PICTURE:
                raise InvalidFile(f"{wrong} has {length:,} bytes, which is too much for a picture.")
            payload, tail = file.read(length), file.read(_CRC.size)
            if len(payload) < length or len(tail) < _CRC.size:
                raise InvalidFile(f"{wrong} ends early; the file is truncated.")
            if _masked(payload) != _CRC.unpack(tail)[0]:
                raise InvalidFile(f"{wrong} is damaged: its checksum is wrong.")
            yield payload
            number += 1


def _masked(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


@contextmanager
def _opened(path: Path) -> Iterator[BufferedIOBase]:
    try:
        with path.open("rb") as raw:
            head = raw.read(_HEAD.size)
            raw.seek(0)
            # A record may have the length that gzip begins with; its checksum tells.
            plain = len(head) == _HEAD.size and _masked(head[:8]) == _HEAD.unpack(head)[1]
            if head.startswith(_GZIP) and not plain:
                with gzip.GzipFile(fileobj=raw) as file:
                    yield file
            else:
                yield raw
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InvalidFile(f"{path.name} cannot be unzipped: {error}.") from error
    except OSError as error:
        raise InvalidFile(f"{path.name} cannot be read: {error.strerror}.") from error


def _entry(
    where: str,
    split: str | None,
    features: Mapping[str, Feature],
    names: tuple[str, ...] | None,
) -> Entry:
    file = next((value for key in FILES if (value := _text(features, key))), None)
    try:
        label = _label(features, names)
        data = _picture(features)
    except ValueError as error:
        return Entry(where, None, b"", split, f"{where} {error}.", file)
    return Entry(where, label, data, split, None, file)


def _text(features: Mapping[str, Feature], key: str) -> str | None:
    values = features.get(key)
    if not values or not isinstance(values[0], bytes):
        return None
    return values[0].decode(errors="replace")


def _label(features: Mapping[str, Feature], names: tuple[str, ...] | None) -> str | None:
    """The class of an example.

    Text that is a name says it by itself. A number counts where there are names to count in, or
    where there is no text.
    """
    text = _one(features, TEXTS, bytes)
    number = _one(features, NUMBERS, int)
    if text is None and number is None:
        given = next((key for key in (*NUMBERS, *TEXTS) if key in features), None)
        if given is None:
            raise ValueError(
                f"has the features {', '.join(sorted(features)[:20]) or 'none'}; a label is "
                f"needed, as {', '.join(NUMBERS)} or {', '.join(TEXTS)}"
            )
        raise ValueError(f"has {len(features[given])} values in {given!r}; one label is needed")
    try:
        name = None if text is None else label_of(text, None)
        if name is None or (names is not None and name not in names and number is not None):
            return label_of(number, names)
        if names is not None and name not in names and name.isascii() and name.isdigit():
            return label_of(int(name), names)
    except ValueError as error:
        raise ValueError(f"has a label that {error}; each image needs one class") from None
    return name


def _one(
    features: Mapping[str, Feature], keys: Sequence[str], kind: type[bytes | int]
) -> bytes | int | None:
    for key in keys:
        values = features.get(key, ())
        if len(values) == 1 and isinstance(values[0], kind):
            return values[0]
    return None


def _picture(features: Mapping[str, Feature]) -> bytes:
    for key in IMAGES:
        values = features.get(key, ())
        if len(values) == 1 and isinstance(values[0], bytes):
            return _framed(values[0], features)
    there = ", ".join(sorted(features)[:20]) or "none"
    raise ValueError(
        f"has the features {there}; a picture is needed in bytes, as {', '.join(IMAGES)}"
    )


def _framed(data: bytes, features: Mapping[str, Feature]) -> bytes:
    """The picture's file; one is made of plain pixels, whose sides stand beside them."""
    for keys in _SIDES:
        height, width, depth = (_one(features, (key,), int) for key in keys)
        depth = 1 if depth is None else depth
        if not (isinstance(height, int) and isinstance(width, int) and isinstance(depth, int)):
            continue
        if min(height, width) > 0 and depth in {1, 3} and len(data) == height * width * depth:
            pixels = np.frombuffer(data, np.uint8).reshape(1, height, width, depth)
            return encode_png(pixels.transpose(0, 3, 1, 2))[0]
    return data
