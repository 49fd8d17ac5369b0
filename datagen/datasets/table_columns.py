"""Which columns of a table name the file, the label and the split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

FILE_COLUMNS = (
    "file_name", "filename", "file", "filepath", "filepaths", "file_path", "file_paths", "path",
    "paths", "image_path", "image_file", "image_filename", "image", "image_name", "image_id",
    "img_path", "img", "name", "id",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "class", "class_name", "category", "breed", "target", "choice",
    "label_name", "category_name", "fine_label", "class_label", "class_id", "classid",
)  # fmt: skip
SPLIT_COLUMNS = ("split", "set", "subset", "partition", "data_set", "data_split")
# Columns that say which rows train in ways that are not read.
OTHER_SPLIT_COLUMNS = ("is_valid", "is_train", "is_training", "is_test", "is_validation", "fold")
_BETWEEN = re.compile(r"[\s\-]+")


def columns_named(columns: Iterable[Any], known: Sequence[str]) -> list[str]:
    """The columns that are called as one of the known ones is, whatever the case, in their order.

    Spaces and dashes count as underscores: `Image Name` is `image_name`.
    """
    by_name: dict[str, str] = {}
    for column in columns:
        if isinstance(column, str):
            by_name.setdefault(_BETWEEN.sub("_", column.strip().lower()), column)
    return [by_name[name] for name in known if name in by_name]


def also_labels(table: str, label: str, others: Sequence[str]) -> str:
    """The note that other columns could be the label as well."""
    shown = ", ".join(map(repr, others))
    return f"The labels of {table} are its column {label!r}; not read: {shown}."


def is_on(value: Any) -> bool | None:
    """Whether a cell of a one-hot column is 1; None where it is neither 0 nor 1."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return {0.0: False, 1.0: True}.get(number)
