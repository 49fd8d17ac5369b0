"""Layouts of other tasks, named where pictures came without labels."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from datagen.datasets.listing import Folder
from datagen.errors import InvalidFile
from datagen.wording import listed

_LABEL_FOLDERS = frozenset({"labels", "label"})
_MASK_FOLDERS = frozenset({"masks", "mask", "segmentations", "trimaps", "gt", "groundtruth"})
_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".xlsx", ".xls", ".ods", ".parquet")
# How much of a JSON file is read to find out what it is.
_PEEKED = 65_536
NAMED_TABLES = NAMED_FOLDERS = 3
EXPECTED = (
    "class folders are read, as train/cat/picture.png or cat/picture.png, or a table beside the "
    "pictures with a column of file names and one of labels"
)


def no_labels(root: Folder, folders: Sequence[Folder]) -> InvalidFile:
    """The error for pictures without labels, which says what layout this is, if it is known.

    Args:
        root: the folder around.
        folders: those in it whose pictures have no labels.
    """
    names = listed([folder.name for folder in folders], NAMED_FOLDERS)
    what = f"The pictures in {names}" if folders else "The pictures"
    return InvalidFile(f"{what} have no labels: {_reason(root)}; {EXPECTED}.")


def _reason(root: Folder) -> str:
    every = list(root.walk())
    files = [name for folder in every for name in folder.files]
    if any(_is_coco(folder, name) for folder in every for name in folder.files):
        return (
            "this is COCO's layout, whose boxes and outlines name objects, not one class an image"
        )
    if any(is_yolo(folder) for folder in every):
        return (
            "this is YOLO's layout of images/ and labels/*.txt, whose boxes name objects, not one "
            "class an image"
        )
    if any(_has(folder, ".xml") for folder in every):
        return "the .xml files beside them hold boxes of objects, not one class an image"
    if any(folder.name.lower() in _MASK_FOLDERS and folder.picture_count for folder in every):
        return "this is a layout of pictures and masks, which outline objects"
    tables = [name for name in files if name.lower().endswith(_TABLES)]
    if tables:
        names = listed(tables, NAMED_TABLES)
        return f"there are no class folders, and {names} could not be used as a table of labels"
    return "there are no class folders and no table beside them"


def _has(folder: Folder, ending: str) -> bool:
    return any(name.lower().endswith(ending) for name in folder.files)


def is_yolo(folder: Folder) -> bool:
    """Whether a folder holds text files that are called as pictures elsewhere are."""
    texts = {_stem(name) for name in folder.files if name.lower().endswith(".txt")}
    if folder.around is None or not texts:
        return False
    *inner, _root = (folder, *folder.above())
    if any(around.name.lower() in _LABEL_FOLDERS for around in inner):
        return True
    return len(texts & {_stem(name) for name in folder.pictures}) > len(folder.pictures) // 2


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122 - a Path a file takes longer


def _is_coco(folder: Folder, name: str) -> bool:
    if not name.lower().endswith(".json"):
        return False
    path = folder.path / name
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = file.read(_PEEKED)
            size = path.stat().st_size
        found = json.loads(head) if size <= _PEEKED else None
    except (OSError, ValueError, RecursionError):
        return False
    if found is None:
        return head.lstrip().startswith("{") and '"file_name"' in head and '"images"' in head
    return isinstance(found, dict) and {"images", "annotations"} <= set(found)
