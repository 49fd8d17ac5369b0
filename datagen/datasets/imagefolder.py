"""Trees of class folders, as torchvision's ImageFolder reads them, with splits or without."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datagen.datasets.limits import check_name, check_room
from datagen.errors import InvalidFile
from datagen.images import LabelledImages, read_image

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
# Pictures that are not read are refused: leaving them out would change the dataset unseen.
UNREAD = frozenset({".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".avif", ".jxl", ".jp2"})
NAMED_PROBLEMS = 5
_LEFTOVERS = frozenset({"__MACOSX", "lost+found"})

# For each split the class folders, and for each of them its pictures.
Tree = dict[str, dict[Path, list[Path]]]


def find_images(folder: Path) -> Tree:
    """The class folders and pictures of each split; no splits where there are no pictures at all.

    Class folders lie directly in `folder`, which makes them the split `train`, or in `train`,
    `validation` (or `val`) and `test`. Everything below a class folder belongs to the class. Files
    that are no pictures and names that begin with a dot count for nothing; a class folder may be
    empty.

    Raises:
        InvalidFile: splits without `train`, other folders beside them, a split without pictures, or
            a kind of picture that is not read.
    """
    folders = _folders(folder)
    splits = [path for path in folders if _is_split(path)]
    beside = [path.name for path in folders if path not in splits]
    found = {SPLITS[path.name.lower()] for path in splits}
    if not splits or (beside and "train" not in found):
        classes = {path: _pictures_below(path) for path in folders}
        return {"train": classes} if any(classes.values()) else {}
    _check_splits(splits, found, beside)
    return {SPLITS[path.name.lower()]: _classes_of(path) for path in splits}


def _is_split(folder: Path) -> bool:
    """Named like a split, with class folders in it; a class named so has its pictures in it."""
    named = folder.name.lower() in SPLITS
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


def class_order(names: Sequence[str]) -> tuple[str, ...]:
    """Classes in the order of their names as strings, as torchvision has them.

    Where all names are numbers they are in the order of the numbers: 0, 1, 2, 10, not 0, 1, 10, 2.
    """
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(set(names), key=lambda name: (int(name), name)))
    return tuple(sorted(set(names)))


def read_imagefolder(folder: Path) -> dict[str, LabelledImages]:
    """The splits of a tree of class folders; every split has the classes of all of them.

    Grey images become RGB where others of the dataset are RGB.

    Raises:
        InvalidFile: no images, images of different sizes, or some that cannot be read; up to five
            of them are named, relative to `folder`.
    """
    tree = find_images(folder)
    if not tree:
        raise InvalidFile("There are no class folders with images in them.")
    return read_tree(folder, tree)


def read_tree(folder: Path, tree: Tree) -> dict[str, LabelledImages]:
    """The images that `find_images` found; see `read_imagefolder`. Raises InvalidFile."""
    names = class_order([path.name for classes in tree.values() for path in classes])
    for name in names:
        check_name(name, "The class folder")
    files = [path for classes in tree.values() for paths in classes.values() for path in paths]
    images = _read_files(folder, files)
    splits: dict[str, LabelledImages] = {}
    begin = 0
    for split, classes in tree.items():
        numbers = [(names.index(path.name), len(paths)) for path, paths in classes.items()]
        labels = np.repeat(*np.array(numbers, dtype=np.int64).T)
        end = begin + len(labels)
        splits[split] = LabelledImages(images[begin:end], labels, names)
        begin = end
    return splits


def _read_files(root: Path, paths: Sequence[Path]) -> np.ndarray:
    """All pictures in one array, which is made when the size of the first is known."""
    images: np.ndarray | None = None
    first = ""
    problems: list[str] = []
    for number, path in enumerate(paths):
        name = path.relative_to(root).as_posix()
        try:
            pixels = read_image(path.read_bytes(), name)
            if images is None:
                check_room(len(paths), pixels.shape)
                first = f"{name} is {_size(pixels)}"
                images = np.empty((len(paths), *pixels.shape), dtype=np.uint8)
            images = _placed(images, number, pixels, name, first)
        except InvalidFile as error:
            problems.append(error.detail)
        if len(problems) == NAMED_PROBLEMS:
            break
    if problems or images is None:
        raise InvalidFile(" ".join(problems))
    return images


def _placed(
    images: np.ndarray, number: int, pixels: np.ndarray, name: str, first: str
) -> np.ndarray:
    if pixels.shape[1:] != images.shape[2:]:
        raise InvalidFile(
            f"{name} is {_size(pixels)} pixels, but {first}; bring all images to one size."
        )
    if pixels.shape[0] > images.shape[1]:
        check_room(len(images), pixels.shape)
        images = images.repeat(pixels.shape[0], axis=1)
    # Numpy spreads one grey channel over the three of a colour dataset.
    images[number] = pixels
    return images


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[2]} x {pixels.shape[1]}"


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
    paths = [Path(name) for name in sorted(found)]
    unread = [path for path in paths if path.suffix.lower() in UNREAD]
    if unread:
        raise InvalidFile(
            f"{folder.name}/{unread[0].relative_to(folder).as_posix()} is of a kind that is not "
            f"read; save it as PNG. Read are {', '.join(sorted(ENDINGS))}."
        )
    return paths


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:NAMED_PROBLEMS])
    return shown if len(names) <= NAMED_PROBLEMS else f"{shown}, …"
