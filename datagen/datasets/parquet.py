"""Parquet files in the layout of the `datasets` library: a column of pictures, one of labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.datasets.labels import label_of
from datagen.datasets.listing import Folder, nfc
from datagen.datasets.parquet_rows import parquet_rows
from datagen.datasets.source import (
    Entry,
    Found,
    Source,
    in_chunks,
    split_of_folder,
    split_of_path,
)
from datagen.datasets.table_columns import (
    LABEL_COLUMNS,
    SPLIT_COLUMNS,
    also_labels,
    columns_named,
)
from datagen.errors import InvalidFile

IMAGE_COLUMNS = ("image", "img", "png", "jpg", "jpeg", "picture", "photo", "image_bytes", "bytes")
# Beside ImageFolder trees: a table of the pictures, without the pictures.
METADATA = "metadata.parquet"


@dataclass(frozen=True)
class _File:
    """A file, the columns that count in it, and its split and class names, if it has them."""

    path: Path
    image: str
    label: str
    split_column: str | None
    split: str | None
    names: tuple[str, ...] | None
    text: bool


def find(root: Folder) -> Found | None:
    """The Parquet files with pictures in a folder and below it. Raises InvalidFile."""
    files = [
        folder.path / name
        for folder in root.walk()
        for name in folder.files
        if name.lower().endswith((".parquet", ".pq")) and name != METADATA
    ]
    files = sorted(path for path in files if holds_pictures(path))
    if not files:
        return None
    _refuse_configurations(root.path, files)
    notes = dict.fromkeys(note for path in files for note in _unread_columns(path))
    return Found("parquet", root.path, files, lambda: _source(root.path, files), list(notes))


def _refuse_configurations(root: Path, files: Sequence[Path]) -> None:
    """Refuse files of one split in folders that are no splits: each may be a dataset by itself."""
    folders: dict[str | None, set[Path]] = {}
    for path in files:
        around = path.parent
        while around != root and split_of_folder(around.name) is not None:
            around = around.parent
        folders.setdefault(split_of_path(path, root), set()).add(around)
    several = next((found for found in folders.values() if len(found) > 1), None)
    if several is not None:
        names = ", ".join(repr(path.relative_to(root).as_posix()) for path in sorted(several)[:5])
        raise InvalidFile(
            f"Parquet files of the same split lie in several folders, {names}, each of which could "
            "be a dataset by itself; give one of them, or move the files into one folder."
        )


def _unread_columns(path: Path) -> Iterator[str]:
    """What is said of columns that could be the label as well."""
    labels = columns_named(read_schema(path).names, LABEL_COLUMNS)
    if len(labels) > 1:
        yield also_labels("the Parquet files", labels[0], labels[1:])


def holds_pictures(path: Path) -> bool:
    """Whether a Parquet file has a column of pictures, and is not a table of names of them."""
    schema = read_schema(path)
    return any(
        _is_of_pictures(schema.field(name).type)
        for name in columns_named(schema.names, IMAGE_COLUMNS)
    )


def _is_of_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def read_schema(path: Path) -> pa.Schema:
    """The schema of a Parquet file. Raises InvalidFile."""
    with _damage_named(path):
        return pq.read_schema(path)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidFile(f"{path.name} is not a Parquet file, or is damaged: {error}.") from error


def label_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """The class names that the `datasets` library keeps in a schema, if it does."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return tuple(nfc(str(name)) for name in names)


def _described(path: Path, root: Path) -> _File:
    schema = read_schema(path)
    images = [
        name
        for name in columns_named(schema.names, IMAGE_COLUMNS)
        if _is_of_pictures(schema.field(name).type)
    ]
    labels = [name for name in columns_named(schema.names, LABEL_COLUMNS) if name != images[0]]
    splits = columns_named(schema.names, SPLIT_COLUMNS)
    if not labels:
        raise InvalidFile(
            f"{path.name} has the columns {', '.join(schema.names[:20])}; one of them must be "
            f"named {', '.join(LABEL_COLUMNS)}."
        )
    return _File(
        path, images[0], labels[0], splits[0] if splits else None, split_of_path(path, root),
        label_names(schema, labels[0]), _is_text(schema.field(labels[0]).type),
    )  # fmt: skip


def _source(root: Path, paths: Sequence[Path]) -> Source:
    files = [_described(path, root) for path in paths]
    lists = [file.names for file in files if file.names is not None]
    without = next((file.path.name for file in files if file.names is None and not file.text), None)
    if lists and without is not None:
        raise InvalidFile(
            f"{without} has no list of class names, and other files have one; write the labels of "
            "all as text, or number all by one list."
        )
    # Where some labels are text, the lists do not name all classes.
    whole = len(lists) == len(files)
    return Source(in_chunks(_entries(files)), _joined(lists) if whole else None)


def _joined(lists: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """One list of all class names: the longest, and what the others have besides."""
    if not lists:
        return None
    by_length = sorted(lists, key=lambda own: -len(own))
    names = dict.fromkeys(by_length[0])
    for other in lists:
        names |= dict.fromkeys(other)
    return tuple(names)


def _entries(files: Sequence[_File]) -> Iterator[Entry]:
    for file in files:
        columns = [file.image, file.label, *([file.split_column] if file.split_column else [])]
        for number, row in enumerate(_rows(file.path, columns)):
            yield _entry(file, f"{file.path.name} row {number}", row)


def _entry(file: _File, name: str, row: dict[str, Any]) -> Entry:
    data = row[file.image]
    inner = data.get("bytes") if isinstance(data, dict) else data
    called = data.get("path") if isinstance(data, dict) else None
    problem = None if isinstance(inner, bytes) else f"{name} holds no picture."
    label = None
    try:
        label = label_of(row[file.label], file.names)
    except ValueError as error:
        problem = f"{name} has a label that {error}."
    split, own = file.split, row.get(file.split_column) if file.split_column else None
    if own is not None:
        split = split_of_folder(str(own).strip())
        if split is None:
            problem = f"{name} names the split {str(own)[:40]!r}; use train, validation or test."
    return Entry(
        name,
        label,
        inner if isinstance(inner, bytes) else b"",
        split,
        problem,
        called if isinstance(called, str) else None,
    )


def _rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    with _damage_named(path):
        yield from parquet_rows(path, columns)
