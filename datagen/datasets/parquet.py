"""Parquet files in the layout of the `datasets` library: a column of pictures, one of labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.datasets.source import SPLIT_NAMES, Entry, Found, Source, in_chunks, split_of
from datagen.errors import InvalidFile

IMAGE_COLUMNS = ("image", "img", "png")
LABEL_COLUMNS = ("label", "labels", "class", "category", "fine_label")
ROWS_AT_ONCE = 1000
# Beside ImageFolder trees: a table of the pictures, without the pictures.
METADATA = "metadata.parquet"


def find(root: Path) -> Found | None:
    """The Parquet files with pictures in a folder, in `data/`, or in folders named like splits."""
    files = [path for path in _candidates(root) if _has_pictures(path)]
    return Found("parquet", root, files, lambda: _source(files)) if files else None


def _candidates(root: Path) -> list[Path]:
    folders = [root, root / "data"]
    folders += sorted(path for path in root.iterdir() if path.name.lower() in SPLIT_NAMES)
    found = [path for folder in folders if folder.is_dir() for path in folder.glob("*.parquet")]
    return sorted(path for path in found if path.name != METADATA)


def _has_pictures(path: Path) -> bool:
    return _column(_schema(path), IMAGE_COLUMNS) is not None


def _schema(path: Path) -> pa.Schema:
    with _damage_named(path):
        return pq.read_schema(path)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidFile(f"{path.name} is no Parquet file, or damaged: {error}.") from error


def _column(schema: pa.Schema, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in schema.names), None)


def label_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """The class names that the `datasets` library keeps in a schema, if it does."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return tuple(str(name) for name in names)


def named(value: Any, names: tuple[str, ...] | None) -> str | None:
    """The class that a value of the label column means; None where there is none."""
    if value is None or value == "":
        return None
    if names is None or isinstance(value, str):
        return str(value)
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return None if value == -1 else str(value)


def _source(files: Sequence[Path]) -> Source:
    schema = _schema(files[0])
    label = _column(schema, LABEL_COLUMNS)
    if label is None:
        raise InvalidFile(
            f"{files[0].name} has the columns {', '.join(schema.names[:20])}; one of them must be "
            f"named {', '.join(LABEL_COLUMNS)}."
        )
    return Source(in_chunks(_entries(files, label)), label_names(schema, label))


def _entries(files: Sequence[Path], label: str) -> Iterator[Entry]:
    splits = {path: split_of(path.name) or SPLIT_NAMES.get(path.parent.name) for path in files}
    for path, split in splits.items():
        schema = _schema(path)
        image = _column(schema, IMAGE_COLUMNS)
        if image is None or label not in schema.names:
            raise InvalidFile(f"{path.name} lacks the columns that the other files have.")
        names = label_names(schema, label)
        columns = [image, label, *(["split"] if "split" in schema.names else [])]
        for number, row in enumerate(_rows(path, columns)):
            data = row[image]
            inner = data.get("bytes") if isinstance(data, dict) else data
            called = data.get("path") if isinstance(data, dict) else None
            name = f"{path.name} row {number}"
            own = row.get("split")
            yield Entry(
                name,
                named(row[label], names),
                inner if isinstance(inner, bytes) else b"",
                SPLIT_NAMES.get(str(own).lower()) if own is not None else split,
                None if isinstance(inner, bytes) else f"{name} holds no picture.",
                called if isinstance(called, str) else None,
            )


def _rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    with _damage_named(path):
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns, use_threads=False):
            yield from batch.to_pylist()
