"""StyleGAN's datasets: a zip of numbered pictures, or its folder, with labels in `dataset.json`."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.datasets.archive import LARGEST_PICTURE, MAX_ENTRIES
from datagen.datasets.json_streaming import json_parts
from datagen.datasets.labels import label_of
from datagen.datasets.listing import ENDINGS, Folder
from datagen.datasets.own_export import class_list
from datagen.datasets.source import Entry, Found, Source, in_chunks, split_folders, split_of
from datagen.datasets.unzipping import check_directory
from datagen.errors import InvalidFile

LABELS = "dataset.json"
_NUMBERED = re.compile(r"[0-9]{5}")
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


@dataclass(frozen=True)
class _Part:
    """A zip or a folder of pictures, and the split that it is of."""

    place: Path | Folder
    split: str | None

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.place if isinstance(self.place, Path) else self.place.path


def find(root: Folder) -> Found | None:
    """The zips of a folder, or the folder itself or those of its splits where they are unpacked.

    Raises:
        InvalidFile: zips of other kinds beside them, two for one split, a damaged one, or no
            labels.
    """
    parts = _zips(root) or _folders(root)
    return _found(root.path, parts) if parts else None


def find_alone(path: Path) -> Found | None:
    """A zip that is given by itself: its name tells the split, and names may lie beside it.

    Raises:
        InvalidFile: damaged, or no labels.
    """
    return _found(path.parent, [_Part(path, split_of(path.stem))]) if _holds_labels(path) else None


def _found(root: Path, parts: Sequence[_Part]) -> Found:
    _check_splits(parts)
    for part in parts:
        if _labels(part) is None:
            raise InvalidFile(
                f"There are no labels in {_shown(root, part)}/{LABELS}; write the dataset again "
                "with a label for each image."
            )
    classes = class_list(root, "stylegan")
    members = [path for part in parts for path in _files(part)]
    return Found(
        "stylegan", root, [*members, *classes.files], lambda: _source(root, parts, classes.names)
    )


def _zips(root: Folder) -> list[_Part]:
    zips = [root.path / name for name in root.files if name.lower().endswith(".zip")]
    ours = [path for path in zips if _holds_labels(path)]
    if not ours:
        return []
    other = next((path.name for path in zips if path not in ours), None)
    if other is not None:
        raise InvalidFile(
            f"{ours[0].name} holds images with {LABELS}, and {other} beside it does not; keep only "
            "what is the dataset."
        )
    return [_Part(path, split_of(path.stem)) for path in ours]


def _holds_labels(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            check_directory(file, MAX_ENTRIES)
            with zipfile.ZipFile(file) as archive:
                return LABELS in archive.NameToInfo
    # Any other zip may lie there; whether it is whole is for its reader to say.
    except (OSError, *_DAMAGE, InvalidFile):
        return False


def _folders(root: Folder) -> list[_Part]:
    if _is_unpacked(root):
        return [_Part(root, None)]
    splits = split_folders(root)
    parts = [_Part(folder, split) for folder, split in splits if _is_unpacked(folder)]
    left = [folder.name for folder, _ in splits if folder.path not in {part.path for part in parts}]
    if parts and left:
        raise InvalidFile(
            f"The folder {left[0]!r} has no {LABELS}, and other splits have one; add it, or move "
            "the folder away."
        )
    return parts


def _is_unpacked(folder: Folder) -> bool:
    if LABELS not in folder.files:
        return False
    numbered = any(_NUMBERED.fullmatch(inner.name) for inner in folder.folders)
    return numbered and _labels(_Part(folder, None), missing=False) is not False


def _check_splits(parts: Sequence[_Part]) -> None:
    splits = [part.split for part in parts]
    if len(parts) > 1 and (None in splits or len(set(splits)) < len(splits)):
        names = ", ".join(part.path.name for part in parts)
        raise InvalidFile(
            f"{names} each hold images; keep one, or name one for each split: train, validation, "
            "test."
        )


def _shown(root: Path, part: _Part) -> str:
    return part.path.name if part.path != root else "the folder"


def _labels(part: _Part, missing: Any = None) -> Any:
    """The kind of value that the labels are, empty; `missing` where the document has none."""
    with _opened(part) as (items, _):
        return next((value for place, value in items if place == ("labels",)), missing)


@contextmanager
def _opened(part: _Part) -> Iterator[tuple[Iterator[tuple[tuple[str, ...], Any]], _Pictures]]:
    """The labels of a zip or a folder, and its pictures. Raises InvalidFile."""
    name = f"{part.path.name}/{LABELS}"
    try:
        if isinstance(part.place, Folder):
            with (part.path / LABELS).open("rb") as file:
                yield json_parts(file, name, "labels"), _Pictures(part.place, None)
            return
        with zipfile.ZipFile(part.path) as archive, archive.open(LABELS) as member:
            yield json_parts(member, name, "labels"), _Pictures(None, archive)
    except _DAMAGE as error:
        raise InvalidFile(f"{part.path.name} is damaged: {error}.") from error
    except OSError as error:
        raise InvalidFile(f"{part.path.name} cannot be read: {error.strerror}.") from error


class _Pictures:
    """The pictures of a zip or a folder by their names."""

    def __init__(self, folder: Folder | None, archive: zipfile.ZipFile | None) -> None:
        self._archive = archive
        self._files: dict[str, Path] = {}
        if folder is not None:
            pictures = folder.pictures_below()
            self._files = {path.relative_to(folder.path).as_posix(): path for path in pictures}
        self.names = set(self._files)
        if archive is not None:
            self.names = {name for name in archive.NameToInfo if _is_picture(name)}

    def data(self, name: str) -> Path | bytes:
        """Where a picture is, or its bytes. Raises InvalidFile."""
        if self._archive is None:
            return self._files[name]
        size = self._archive.getinfo(name).file_size
        if size > LARGEST_PICTURE:
            raise InvalidFile(f"{name} has {size:,} bytes, which is too large for a picture.")
        with self._archive.open(name) as member:
            return member.read(size)


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in ENDINGS  # noqa: PTH122 - a Path a file takes longer


def _files(part: _Part) -> Iterator[Path]:
    if isinstance(part.place, Path):
        yield part.place
        return
    yield part.path / LABELS
    yield from part.place.pictures_below()


def _source(root: Path, parts: Sequence[_Part], names: tuple[str, ...] | None) -> Source:
    notes: list[str] = []
    entries = (entry for part in parts for entry in _entries(root, part, names, notes))
    return Source(in_chunks(entries), names, notes)


def _entries(
    root: Path, part: _Part, names: tuple[str, ...] | None, notes: list[str]
) -> Iterator[Entry]:
    shown = _shown(root, part)
    with _opened(part) as (items, pictures):
        left = pictures.names.copy()
        for place, value in items:
            if len(place) > 1:
                yield _entry(
                    f"{shown}/{LABELS}", part.split, place[1], value, names, pictures, left
                )
        if left:
            notes.append(
                f"Pictures of {shown} that {LABELS} gives no label, which were left out: "
                f"{len(left):,}, such as {min(left)}."
            )


def _entry(
    file: str,
    split: str | None,
    number: str,
    value: Any,
    names: tuple[str, ...] | None,
    pictures: _Pictures,
    left: set[str],
) -> Entry:
    where = f"{file} item {number}"
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):  # noqa: PLR2004 - file and label
        problem = f"{where} is {str(value)[:80]}; the name of a file and a label are needed."
        return Entry(where, None, b"", split, problem)
    name, given = value
    if name not in left:
        known = "more than once" if name in pictures.names else "which does not exist"
        return Entry(where, None, b"", split, f"{where} names {name[:200]!r}, {known}.")
    left.discard(name)
    try:
        return Entry(name, label_of(given, names), pictures.data(name), split)
    except ValueError as error:
        return Entry(name, None, b"", split, f"The label of {name} {error}; see {where}.")
    except InvalidFile as error:
        return Entry(name, None, b"", split, error.detail)
