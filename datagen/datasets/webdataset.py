"""WebDataset: tars in which the files of a sample stand side by side, by one key."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from datagen.datasets.archive import tar_files
from datagen.datasets.imagefolder import ENDINGS, refuse_beside_classes
from datagen.datasets.source import SPLIT_NAMES, Entry, Found, Source, in_chunks, split_of
from datagen.errors import InvalidFile

LABEL_ENDINGS = (".cls", ".json", ".txt")
NAME_FILES = ("classes.txt", "class_names.txt", "labels.txt", "classnames.txt")
LABEL_KEYS = ("label_name", "class_name", "label", "class", "cls", "category")
_NAME_BYTES = 1 << 20


def find(root: Path) -> Found | None:
    """The tars of samples in a folder and those of its splits, or their files unpacked.

    Raises:
        InvalidFile: class folders lie beside the tars.
    """
    folders = [root, *(path for path in sorted(root.iterdir()) if _is_split(path))]
    tars = [path for folder in folders for path in sorted(folder.glob("*.tar"))]
    names = [root / name for name in NAME_FILES if (root / name).is_file()]
    if tars:
        refuse_beside_classes(root, tars)
        return Found(
            "webdataset", root, [*tars, *names], lambda: _source(names, _from_tars(root, tars))
        )
    loose = [path for folder in folders if any(folder.glob("*.cls")) for path in _files(folder)]
    if loose:
        return Found(
            "webdataset", root, [*loose, *names], lambda: _source(names, _from_files(root, loose))
        )
    return None


def _is_split(path: Path) -> bool:
    return path.is_dir() and path.name.lower() in SPLIT_NAMES


def _files(folder: Path) -> list[Path]:
    wanted = (*ENDINGS, *LABEL_ENDINGS)
    found = [path for path in folder.iterdir() if path.suffix.lower() in wanted]
    return sorted(path for path in found if path.name not in NAME_FILES)


def _source(names: Sequence[Path], samples: Iterator[Entry]) -> Source:
    given = _read_names(names[0]) if names else None
    return Source(in_chunks(_named(samples, given)), given)


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_NAME_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path.name} cannot be read: {error}.") from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(set(names)) != len(names) or not names:
        raise InvalidFile(f"{path.name} names a class twice, or none.")
    return names


def _named(samples: Iterator[Entry], names: tuple[str, ...] | None) -> Iterator[Entry]:
    """Entries whose labels are names, where a list of them came with the data."""
    for entry in samples:
        label = entry.label
        if names is not None and label is not None and label not in names and label.isdigit():
            number = int(label)
            label = names[number] if number < len(names) else label
        yield Entry(entry.name, label, entry.data, entry.split, entry.problem)


def _from_tars(root: Path, tars: Sequence[Path]) -> Iterator[Entry]:
    for path in tars:
        split = split_of(path.name) or SPLIT_NAMES.get(path.parent.name.lower())
        shown = path.relative_to(root).as_posix()
        key, parts = "", dict[str, bytes]()
        for name, data in tar_files(path):
            own, ending = _key(name)
            if own != key and parts:
                yield _sample(f"{shown}: {key}", parts, split)
                parts = {}
            key = own
            parts[ending] = data
        if parts:
            yield _sample(f"{shown}: {key}", parts, split)


def _from_files(root: Path, files: Sequence[Path]) -> Iterator[Entry]:
    key, parts = Path(), dict[str, bytes]()
    for path in files:
        own = path.with_suffix("")
        if own != key and parts:
            yield _sample(key.relative_to(root).as_posix(), parts, _split(key))
            parts = {}
        key = own
        parts[path.suffix.lower()] = path.read_bytes()
    if parts:
        yield _sample(key.relative_to(root).as_posix(), parts, _split(key))


def _split(path: Path) -> str | None:
    return SPLIT_NAMES.get(path.parent.name.lower())


def _key(name: str) -> tuple[str, str]:
    """The key of a member and its ending: all that follows the first dot of the base name."""
    folder, base = os.path.split(name)
    start, dot, ending = base.partition(".")
    return f"{folder}/{start}".lstrip("/"), f"{dot}{ending}".lower()


def _sample(name: str, parts: dict[str, bytes], split: str | None) -> Entry:
    endings = [ending for ending in parts if ending in ENDINGS]
    if len(endings) != 1:
        what = "no picture" if not endings else f"the pictures {', '.join(sorted(endings))}"
        return Entry(name, None, b"", split, f"{name} has {what}; one a sample is needed.")
    label, problem = _label(name, parts)
    return Entry(f"{name}{endings[0]}", label, parts[endings[0]], split, problem)


def _label(name: str, parts: dict[str, bytes]) -> tuple[str | None, str | None]:
    for ending in (".cls", ".txt"):
        if ending in parts:
            text = parts[ending].decode(errors="replace").strip()
            return (text, None) if text else (None, f"{name}{ending} holds no label.")
    if ".json" in parts:
        try:
            document = json.loads(parts[".json"])
        except (ValueError, RecursionError) as error:
            return None, f"{name}.json is no JSON: {error}."
        found = document if isinstance(document, dict) else {}
        key = next((key for key in LABEL_KEYS if found.get(key) is not None), None)
        return (str(found[key]), None) if key else (None, f"{name}.json names no label.")
    return None, f"{name} has no label: neither .cls nor .json stands beside it."
