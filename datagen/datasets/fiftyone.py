"""FiftyOne's image classification datasets: pictures in `data/`, and `labels.json` beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.datasets.json_streaming import json_parts
from datagen.datasets.labels import label_of
from datagen.datasets.listing import ENDINGS, Folder
from datagen.datasets.source import Entry, Found, Source, in_chunks, split_folders
from datagen.errors import InvalidFile

LABELS, DATA = "labels.json", "data"


@dataclass(frozen=True)
class _Part:
    """The folder of a split, and its pictures by their names in it without endings."""

    folder: Path
    split: str | None
    pictures: dict[str, tuple[str, ...]]

    def files(self) -> Iterator[Path]:
        """The pictures, in the order of their names."""
        data = self.folder / DATA
        return (data / name for names in self.pictures.values() for name in names)


def find(root: Folder) -> Found | None:
    """The dataset of a folder, or those of its folders named like splits. Raises InvalidFile."""
    folders: list[tuple[Folder, str | None]] = [(root, None)] if _is_one(root) else []
    if not folders:
        splits = split_folders(root)
        folders = [(folder, split) for folder, split in splits if _is_one(folder)]
        left = [folder.name for folder, _ in splits if not _is_one(folder)]
        if folders and left:
            raise InvalidFile(
                f"The folder {left[0]!r} has no {LABELS} with a folder {DATA!r} beside it, and "
                "other splits have them; add them, or move it away."
            )
    if not folders:
        return None
    if len({split for _, split in folders}) < len(folders):
        names = ", ".join(folder.name for folder, _ in folders)
        raise InvalidFile(f"Of the folders {names} two are the same split; keep one of them.")
    parts = [_Part(folder.path, split, _pictures(folder)) for folder, split in folders]
    members = [path for part in parts for path in (part.folder / LABELS, *part.files())]
    return Found("fiftyone", root.path, members, lambda: _source(root.path, parts))


def _is_one(folder: Folder) -> bool:
    if LABELS not in folder.files or folder.inner(DATA) is None:
        return False
    parts = _read(folder.path / LABELS)
    return any(place == ("labels",) and value == {} for place, value in parts)


def _read(path: Path) -> Iterator[tuple[tuple[str, ...], Any]]:
    try:
        with path.open("rb") as file:
            yield from json_parts(file, path.name, "labels")
    except OSError as error:
        raise InvalidFile(f"{path.name} cannot be read: {error.strerror}.") from error


def _pictures(folder: Folder) -> dict[str, tuple[str, ...]]:
    data = folder.inner(DATA)
    found: dict[str, tuple[str, ...]] = {}
    for path in data.pictures_below() if data is not None else ():
        name = path.relative_to(folder.path / DATA).as_posix()
        stem = os.path.splitext(name)[0]  # noqa: PTH122 - a Path a file takes longer
        found[stem] = (*found.get(stem, ()), name)
    return found


def _source(root: Path, parts: list[_Part]) -> Source:
    classes = [_classes(part.folder / LABELS) for part in parts]
    given = [names for names in classes if names is not None]
    # Splits may name other classes; each number is then the place in its own split's list.
    union = tuple(dict.fromkeys(name for names in given for name in names))
    notes: list[str] = []
    return Source(
        in_chunks(
            entry
            for part, names in zip(parts, classes, strict=True)
            for entry in _entries(root, part, names, notes)
        ),
        union if len(given) == len(classes) else None,
        notes,
    )


def _classes(path: Path) -> tuple[str, ...] | None:
    """The names of the classes that a document lists, if it does. Raises InvalidFile."""
    values = next((value for place, value in _read(path) if place == ("classes",)), None)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(name, str) for name in values):
        raise InvalidFile(f"{path.name} has classes that are no list of names.")
    if not values or len(set(values)) != len(values):
        raise InvalidFile(f"{path.name} names a class twice, or none.")
    return tuple(values)


def _entries(
    root: Path, part: _Part, names: tuple[str, ...] | None, notes: list[str]
) -> Iterator[Entry]:
    labels, seen = part.folder / LABELS, set[str]()
    shown = labels.relative_to(root).as_posix()
    for place, value in _read(labels):
        if len(place) > 1:
            yield _entry(root, part, place[1], value, names, seen)
    left = len(part.pictures) - len(seen)
    if left:
        other = next(stem for stem in part.pictures if stem not in seen)
        notes.append(
            f"Pictures that {shown} gives no label, which were left out: {left:,}, such as {other}."
        )


def _entry(
    root: Path,
    part: _Part,
    key: str,
    value: Any,
    names: tuple[str, ...] | None,
    seen: set[str],
) -> Entry:
    where = f"{(part.folder / LABELS).relative_to(root).as_posix()}: {key[:200]!r}"
    stem, ending = os.path.splitext(key)  # noqa: PTH122 - a Path a file takes longer
    # A key may be the name of the file with its ending, as newer versions write it.
    stem, wanted = (stem, {key}) if ending.lower() in ENDINGS else (key, None)
    found = [name for name in part.pictures.get(stem, ()) if wanted is None or name in wanted]
    if len(found) != 1:
        what = "no picture" if not found else f"the pictures {', '.join(found)}"
        return Entry(where, None, b"", part.split, f"{where} has {what} in {DATA}; one is needed.")
    if stem in seen:
        return Entry(where, None, b"", part.split, f"{where} has a label more than once.")
    seen.add(stem)
    path = part.folder / DATA / found[0]
    label, problem = _label(where, value, names)
    return Entry(path.relative_to(root).as_posix(), label, path, part.split, problem)


def _label(where: str, value: Any, names: tuple[str, ...] | None) -> tuple[str | None, str | None]:
    """The class, or what is wrong with the label."""
    if isinstance(value, dict) and "label" in value:
        value = value["label"]
    try:
        return label_of(value, names), None
    except ValueError as error:
        return None, f"The label of {where} {error}; each image needs one class."
