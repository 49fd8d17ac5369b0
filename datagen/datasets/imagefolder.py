"""Trees of class folders, as torchvision's ImageFolder reads them, with splits or without."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datagen.datasets import annotation_file
from datagen.datasets.collecting import class_order
from datagen.datasets.listing import Folder, is_document
from datagen.datasets.source import (
    CONTAINER_NAMES,
    NEVER_CLASSES,
    Entry,
    Found,
    Source,
    in_chunks,
    split_of_folder,
    splits_in,
    words_of,
)
from datagen.datasets.unsupported_layouts import is_yolo, no_labels
from datagen.errors import InvalidFile
from datagen.wording import listed

NO_SPLIT = ""
NAMED_FOLDERS = 5
_SPREADSHEETS = (".xlsx", ".xls", ".ods")
# What competitions call pictures whose labels are to be found.
_UNLABELLED = frozenset({"pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled"})


@dataclass
class ClassTree:
    """The class folders of a dataset.

    Attributes:
        splits: for each split the pictures of each class; the split is empty where none was given.
        members: the files and folders that it consists of.
        notes: sentences about what lies there besides.
    """

    splits: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    members: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find(root: Folder) -> Found | None:
    """The tree of class folders in a folder, if there is one.

    Class folders lie directly in `root`, and are of no split then, or in folders named like splits
    (`train`, `val2017`, `seg_test`). All below a class folder belongs to the class. A folder
    without any file is a class without images; one with files and no picture is none.

    Raises:
        InvalidFile: pictures that no folder names the class of, splits without `train`, other
            folders beside splits, or folders of folders that could mean several things.
    """
    with_pictures = [folder for folder in root.folders if folder.picture_count]
    if not with_pictures:
        return None
    splits = [folder for folder in with_pictures if split_of_folder(folder.name)]
    deep = [folder for folder in splits if not _is_flat(folder)]
    if deep:
        tree = _tree_of_splits(root, with_pictures, splits)
    elif len(splits) == len(with_pictures):
        raise no_labels(root, splits)
    else:
        tree = ClassTree()
        if _is_around(root):
            return None
        _refuse_words_of_splits(with_pictures)
        tree.splits[NO_SPLIT] = _classes(root, tree)
        tree.notes += _named_like_splits(splits)
    tree.notes += _beside(root)
    return Found(
        "imagefolder", root.path, tree.members, lambda: _source(root.path, tree), tree.notes
    )


def _is_flat(folder: Folder) -> bool:
    """Whether all of a folder's pictures lie directly in it."""
    return len(folder.pictures) == folder.picture_count


def _is_around(root: Folder) -> bool:
    """Whether a folder only holds the folder in which the dataset lies."""
    inner = [folder for folder in root.folders if folder.picture_count]
    empty = any(not folder.file_count for folder in root.folders)
    return len(inner) == 1 and not inner[0].pictures and not empty


def _tree_of_splits(
    root: Folder, with_pictures: Sequence[Folder], splits: Sequence[Folder]
) -> ClassTree:
    tree = ClassTree()
    _leave_out_unlabelled(with_pictures, splits, tree)
    inner = {folder.name: _unwrapped(folder) for folder in splits}
    labelled = [folder for folder in splits if not _is_flat(inner[folder.name])]
    known = {label for folder in labelled for label in _labels_below(inner[folder.name])}
    for folder in splits:
        split, within = split_of_folder(folder.name) or NO_SPLIT, inner[folder.name]
        if split in tree.splits:
            raise InvalidFile(
                f"Of the folders {_names(splits)} two are the same split; keep one of them."
            )
        if folder in labelled:
            tree.splits[split] = _classes_of_split(folder, within, tree)
            continue
        listed = annotation_file.find(folder, within, known)
        if listed is not None:
            tree.splits[split] = listed.classes
            tree.members += listed.members
            tree.notes += listed.notes
        elif not labelled:
            raise no_labels(root, splits)
        else:
            tree.notes.append(
                f"The folder {folder.name!r} holds {folder.picture_count:,} pictures and no class "
                "folders; they have no labels and were left out."
            )
    if "train" not in tree.splits:
        raise InvalidFile(
            f"There is no folder `train` with class folders beside {_names(splits)}; a dataset "
            "needs one."
        )
    for folder in root.folders:
        if not folder.picture_count and split_of_folder(folder.name):
            _add_empty_split(folder, tree)
    return tree


def _leave_out_unlabelled(
    with_pictures: Sequence[Folder], splits: Sequence[Folder], tree: ClassTree
) -> None:
    """Note folders without labels beside splits, and refuse all others. Raises InvalidFile."""
    others = [folder for folder in with_pictures if folder not in splits]
    for folder in others:
        if _is_unlabelled(folder):
            tree.notes.append(
                f"The folder {folder.name!r} holds {folder.picture_count:,} pictures without "
                "labels, which were left out."
            )
    beside = [folder.name for folder in others if not _is_unlabelled(folder)]
    if beside:
        raise InvalidFile(
            f"Beside the splits {_names(splits)} are other folders: {_some(beside)}. Either all "
            "folders are splits (train, validation, test) or all are classes."
        )


def _is_unlabelled(folder: Folder) -> bool:
    """Whether a folder beside splits says that its pictures have no labels: `seg_pred`."""
    return bool(_UNLABELLED & {word.lower() for word in words_of(folder.name)})


def _add_empty_split(folder: Folder, tree: ClassTree) -> None:
    """Take the empty class folders of a split without pictures: they are classes all the same."""
    if folder.file_count:
        raise InvalidFile(
            f"The folder {folder.name!r} has no class folder with images in it; add images, or "
            "remove the folder."
        )
    tree.notes.append(f"The folder {folder.name!r} is empty; the dataset has no such split.")
    empty = {inner.name: inner.path for inner in folder.folders}
    tree.splits.setdefault(split_of_folder(folder.name) or NO_SPLIT, {name: [] for name in empty})
    tree.members += empty.values()


def _unwrapped(split: Folder) -> Folder:
    """The folder of a split in which its classes lie: `train/train`, `train/images`."""
    own = split_of_folder(split.name)
    while not split.pictures:
        inner = [folder for folder in split.folders if folder.picture_count]
        if len(inner) != 1:
            break
        name = inner[0].name
        if split_of_folder(name) != own and name.lower() not in CONTAINER_NAMES:
            break
        split = inner[0]
    return split


def _labels_below(folder: Folder) -> list[str]:
    return [inner.name for inner in folder.folders if inner.picture_count]


def _classes_of_split(folder: Folder, within: Folder, tree: ClassTree) -> dict[str, list[Path]]:
    if within.pictures:
        raise InvalidFile(
            f"The folder {folder.name!r} holds pictures, such as {within.pictures[0]!r}, and "
            f"beside them the folders {_some(_labels_below(within))}; it is either a class or a "
            "split of class folders, so move one of them."
        )
    return _classes(within, tree)


def _classes(around: Folder, tree: ClassTree) -> dict[str, list[Path]]:
    """The classes in a folder; what is no class is noted."""
    classes: dict[str, list[Path]] = {}
    for folder in around.folders:
        if folder.file_count and not folder.picture_count:
            tree.notes.append(
                f"The folder {folder.name!r} holds {folder.file_count:,} files and no picture; it "
                "is no class and was left out."
            )
            continue
        _check_class(around, folder)
        if folder.name in classes:
            tree.notes.append(
                f"Two folders are called {folder.name!r}, written in two forms of Unicode; they "
                "are one class."
            )
        pictures = folder.pictures_below()
        classes[folder.name] = classes.get(folder.name, []) + pictures
        tree.members += [folder.path, *pictures]
        tree.notes += _left_in(folder)
    return classes


def _check_class(around: Folder, folder: Folder) -> None:
    """Refuse a folder that is no class, or may be something else. Raises InvalidFile."""
    inner = _labels_below(folder)
    if not folder.pictures and len(inner) > 1:
        if all(split_of_folder(name) for name in inner):
            raise InvalidFile(
                f"The folder {folder.name!r} holds the splits {_some(inner)}; splits are read "
                f"above the classes, as {inner[0]}/{folder.name}/picture.png."
            )
        raise InvalidFile(
            f"The folder {folder.name!r} has no picture of its own, and several folders below it: "
            f"{_some(inner)}. Each class is one folder of pictures, with train, validation or test "
            "above it or nothing; move them so, or give one of the folders alone."
        )
    if folder.pictures and _is_flat(folder) and _is_unlabelled_container(around, folder):
        raise no_labels(around, [folder])


def _is_unlabelled_container(around: Folder, folder: Folder) -> bool:
    """Whether a folder of pictures holds all there are, and its name is not that of a class."""
    name = folder.name.lower()
    if name in NEVER_CLASSES:
        return True
    if len(_labels_below(around)) > 1:
        return False
    spreadsheet = any(file.lower().endswith(_SPREADSHEETS) for file in around.files)
    return name in CONTAINER_NAMES or spreadsheet or is_yolo(folder)


def _refuse_words_of_splits(folders: Sequence[Folder]) -> None:
    """Refuse classes whose names all speak of a split: `train-clean`, `test-clean`."""
    if len(folders) > 1 and all(splits_in(folder.name) for folder in folders):
        raise InvalidFile(
            f"The folders {_names(folders)} are named like splits, and like classes too; name them "
            "train, validation and test if they are splits, and otherwise if they are classes."
        )


def _named_like_splits(folders: Sequence[Folder]) -> Iterator[str]:
    if folders:
        yield (
            f"Folders named like splits that hold pictures, as the classes beside them do, and "
            f"were read as classes: {_names(folders)}."
        )


def _beside(root: Folder) -> Iterator[str]:
    """What is said of the pictures that lie beside the folders."""
    if root.pictures:
        yield (
            f"Pictures beside the folders, which have no label and were left out: "
            f"{len(root.pictures):,}, such as {root.pictures[0]!r}."
        )


def _left_in(folder: Folder) -> Iterator[str]:
    """What is said of the files in a class folder that are no pictures."""
    endings = Counter(
        os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path a file takes longer
        for at in folder.walk()
        for name in at.files
        if not is_document(name)
    )
    # Without an ending they are notes of tools, such as the lists of annotation programs.
    endings.pop("", None)
    if endings:
        kinds = ", ".join(f"{count:,} {ending}" for ending, count in sorted(endings.items()))
        yield (
            f"Files in the folder {folder.name!r} that are no pictures and were left out: {kinds}."
        )


def refuse_beside_classes(root: Folder, files: Sequence[Path]) -> None:
    """Say that class folders lie beside files that are a dataset too, rather than guess.

    Raises:
        InvalidFile: pictures lie in folders of `root`, or of its splits, which are no splits.
    """
    holding = {folder for path in files for folder in path.parents}
    splits = [folder for folder in root.folders if split_of_folder(folder.name)]
    for folder in (*root.folders, *(below for split in splits for below in split.folders)):
        if folder not in splits and folder.pictures and folder.path not in holding:
            raise InvalidFile(
                f"The folder holds {files[0].name!r} and beside it the images of "
                f"{folder.name!r}, each of which could be the dataset; keep one of them there."
            )


def _source(root: Path, tree: ClassTree) -> Source:
    names = class_order([name for classes in tree.splits.values() for name in classes])
    return Source(in_chunks(_entries(root, tree.splits)), names)


def _entries(root: Path, splits: Mapping[str, Mapping[str, Sequence[Path]]]) -> Iterator[Entry]:
    for split, classes in splits.items():
        for label, files in classes.items():
            for path in files:
                yield Entry(path.relative_to(root).as_posix(), label, path, split or None)


def _names(folders: Sequence[Folder]) -> str:
    return _some([folder.name for folder in folders])


def _some(names: Sequence[str]) -> str:
    return listed(names, NAMED_FOLDERS)
