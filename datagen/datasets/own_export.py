"""Exports of datagen's own, given back: which folder is one, and what its classes are called.

Only `manifest.json` is evidence; all other files there have names that anybody may use.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.errors import InvalidFile

MANIFEST = "manifest.json"
# What stands beside the data in every export.
SIDECARS = frozenset(
    {
        MANIFEST,
        "README.md",
        "contact-sheet.png",
        "contact-sheet.html",
        "croissant.json",
        "files.parquet",
        "folders.txt",
    }
)
FORMATS = frozenset(
    {"parquet", "imagefolder", "webdataset", "idx", "npz", "tfrecord", "stylegan", "fiftyone"}
)
NAME_FILES = ("classes.txt", "class_names.txt", "labels.txt", "classnames.txt", "label.labels.txt")
_TYPES = {
    "schema_version": int,
    "datagen_version": str,
    "class_names": list,
    "image_shape": list,
    "counts": dict,
    "files": dict,
}
_MANIFEST_BYTES = 64 << 20
_NAMES_BYTES = 16 << 20


@dataclass(frozen=True)
class OwnExport:
    """One of datagen's own exports.

    Attributes:
        format: the name of its format.
        class_names: in their order, exactly as they were.
    """

    format: str
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class ClassList:
    """The names that stand beside data whose labels are numbers.

    Attributes:
        names: in the order of the numbers; None where there are none.
        files: that they come from, and which belong to the dataset therefore.
    """

    names: tuple[str, ...] | None
    files: tuple[Path, ...]


def own_export(folder: Path) -> OwnExport | None:
    """Which export of ours a folder is, if it is one: its manifest says so, in our own terms."""
    manifest = _manifest(folder / MANIFEST)
    names, kind = manifest.get("class_names"), manifest.get("format")
    if not isinstance(kind, str) or kind not in FORMATS:
        return None
    if not all(isinstance(manifest.get(key), wanted) for key, wanted in _TYPES.items()):
        return None
    if not names or not all(isinstance(name, str) for name in names):
        return None
    return OwnExport(kind, tuple(names)) if len(set(names)) == len(names) else None


def _manifest(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _MANIFEST_BYTES:
            return {}
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def class_list(root: Path, kind: str) -> ClassList:
    """The names of the classes beside data in a folder.

    Those of the manifest, where the folder is our export of that format: they are exact. Else those
    of `classes.txt` or a file like it.

    Raises:
        InvalidFile: a list of names that cannot be one.
    """
    own = own_export(root)
    if own is not None and own.format == kind:
        return ClassList(own.class_names, (root / MANIFEST,))
    path = next((root / name for name in NAME_FILES if (root / name).is_file()), None)
    return ClassList(None, ()) if path is None else ClassList(read_names(path), (path,))


def read_names(path: Path) -> tuple[str, ...]:
    """The names in a text file, one a line; spaces round a name do not count.

    Raises:
        InvalidFile: an empty line among them, which would shift the numbers of those that follow; a
            name that stands there twice, none at all, or no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_NAMES_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InvalidFile(f"{path.name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidFile(f"{path.name} is not text in UTF-8: {error}.") from None
    if len(data) > _NAMES_BYTES:
        raise InvalidFile(f"{path.name} is larger than {_NAMES_BYTES:,} bytes; it names classes.")
    # Not splitlines: names may hold what it takes for the end of a line, such as U+2028.
    names = [line.strip() for line in text.rstrip().replace("\r\n", "\n").split("\n")]
    places: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            raise InvalidFile(f"{path.name} line {number} is empty; name one class a line.")
        if name in places:
            raise InvalidFile(
                f"{path.name} names the class {name[:80]!r} in line {places[name]} and in line "
                f"{number}; name each once."
            )
        places[name] = number
    return tuple(names)
