"""Trees of class folders, as torchvision's ImageFolder reads them, with splits or without."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from datagen.datasets.collecting import class_order
from datagen.datasets.source import SPLIT_NAMES, Entry, Found, Source, in_chunks
from datagen.errors import InvalidFile

NO_SPLIT = ""
ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
# Pictures that are not read are no less pictures: leaving them out would change the dataset unseen.
UNREAD = frozenset({".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".avif", ".jxl", ".jp2"})
NAMED_FOLDERS = 5
_LEFTOVERS = frozenset({"__MACOSX", "lost+found"})

# For each split the class folders, and for each of them its pictures.
Tree = dict[str, dict[Path, list[Path]]]


def find_images(folder: Path) -> Tree:
    """The class folders and pictures of each split; no splits where there are no pictures at all.

    Class folders lie directly in `folder`, and are of no split then, or in `train`, `validation`
    (or `val`) and `test`. Everything below a class folder belongs to the class. Files
    that are no pictures and names that begin with a dot count for nothing; a class folder may be
    empty.

    Raises:
        InvalidFile: splits without `train`, other folders beside them, or a split without pictures.
    """
    folders = _folders(folder)
    splits = [path for path in folders if _is_split(path)]
    beside = [path.name for path in folders if path not in splits]
    found = {SPLIT_NAMES[path.name.lower()] for path in splits}
    if not splits or (beside and "train" not in found):
        classes = {path: _pictures_below(path) for path in folders}
        return {NO_SPLIT: classes} if any(classes.values()) else {}
    _check_splits(splits, found, beside)
    return {SPLIT_NAMES[path.name.lower()]: _classes_of(path) for path in splits}


def _is_split(folder: Path) -> bool:
    """Named like a split, with class folders in it; a class named so has its pictures in it."""
    named = folder.name.lower() in SPLIT_NAMES
    return named and not has_pictures(folder) and bool(_folders(folder))


def _check_splits(splits: Sequence[Path], found: set[str], beside: Sequence[str]) -> None:
    names = ", ".join(path.name for path in splits)
    if "train" not in found:
        raise InvalidFile(f"There is no folder `train` beside {names}; a dataset needs one.")
    if len(found) < len(splits):
        raise InvalidFile(f"Of the folders {names} two mean the same split; keep one of them.")
    if beside:
        raise InvalidFile(
            f"Beside the splits {names} lie other folders: {_some(beside)}. Either all folders are "
            "splits (train, validation, test) or all are classes."
        )


def _classes_of(split: Path) -> dict[Path, list[Path]]:
    classes = {label: _pictures_below(label) for label in _folders(split)}
    if not any(classes.values()):
        raise InvalidFile(f"The folder {split.name!r} has no class folder with images in it.")
    return classes


def refuse_beside_classes(root: Path, files: Sequence[Path]) -> None:
    """Say that class folders lie beside files that are a dataset too, rather than guess.

    Raises:
        InvalidFile: pictures lie in folders of `root`, or of its splits, which are no splits.
    """
    folders = _folders(root)
    inner = [path for split in folders if _is_split(split) for path in _folders(split)]
    for path in (*folders, *inner):
        if path.name.lower() not in SPLIT_NAMES and has_pictures(path):
            raise InvalidFile(
                f"The folder holds {files[0].name!r} and beside it the images of "
                f"{path.name!r}, each of which could be the dataset; keep one of them there."
            )


def find(root: Path) -> Found | None:
    """The tree of class folders in a folder, if there is one. Raises InvalidFile."""
    tree = find_images(root)
    if not tree:
        return None
    members = [
        path
        for classes in tree.values()
        for folder, files in classes.items()
        for path in (folder, *files)
    ]
    return Found("imagefolder", root, members, lambda: _source(root, tree))


def _source(root: Path, tree: Tree) -> Source:
    names = class_order([path.name for classes in tree.values() for path in classes])
    return Source(in_chunks(_entries(root, tree)), names)


def _entries(root: Path, tree: Tree) -> Iterator[Entry]:
    for split, classes in tree.items():
        for folder, files in classes.items():
            for path in files:
                name = path.relative_to(root).as_posix()
                yield Entry(name, folder.name, path, split or None)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _LEFTOVERS


def _folders(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.is_dir() and not _hidden(path.name)]
    return sorted(found, key=lambda path: path.name)


def has_pictures(folder: Path) -> bool:
    """Whether pictures lie directly in a folder."""
    with os.scandir(folder) as entries:
        return any(entry.is_file() and _is_picture(entry.name) for entry in entries)


def _is_picture(name: str) -> bool:
    return not _hidden(name) and os.path.splitext(name)[1].lower() in ENDINGS | UNREAD  # noqa: PTH122 - a Path a file takes longer than the test


def _pictures_below(folder: Path) -> list[Path]:
    """Picture files of a class, in the order of their paths as strings."""
    found: list[str] = []
    for top, below, files in os.walk(folder):
        below[:] = sorted(name for name in below if not _hidden(name))
        found += (f"{top}/{name}" for name in files if _is_picture(name))
    return [Path(name) for name in sorted(found)]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:NAMED_FOLDERS])
    return shown if len(names) <= NAMED_FOLDERS else f"{shown}, …"
