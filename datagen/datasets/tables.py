"""Pictures with a table beside them: rows of file name and label, or of one-hot columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from datagen.datasets import table_rows
from datagen.datasets.labels import label_of
from datagen.datasets.listing import ENDINGS, UNREAD, Folder, nfc
from datagen.datasets.parquet import holds_pictures, label_names, read_schema
from datagen.datasets.picture_index import PictureIndex, relative_name
from datagen.datasets.source import (
    CONTAINER_NAMES,
    Entry,
    Found,
    Source,
    in_chunks,
    split_of_folder,
    split_of_path,
)
from datagen.datasets.table_columns import (
    FILE_COLUMNS,
    LABEL_COLUMNS,
    OTHER_SPLIT_COLUMNS,
    SPLIT_COLUMNS,
    also_labels,
    columns_named,
    is_on,
)
from datagen.errors import InvalidFile

_LOOKED_AT = 20
# A file whose own name says nothing, by which a folder's split is asked for.
_NO_NAME = "x"
_SHOWN_COLUMNS = 20
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d+)?")
_WHOLE = re.compile(r"-?\d+")
_TABLE_WORDS = re.compile(
    r"(labels?|meta_?data|annotations?|classes|list|info|csv|table)", re.IGNORECASE
)


@dataclass(frozen=True)
class _Table:
    """A table and what its columns mean.

    Attributes:
        path: where it lies.
        columns: all that it has.
        bases: folders that its file names may begin in, relative to the root.
        split: that of all its rows, by its folder or its own name; None if that says nothing.
        file, label, split_column: names of the columns; None where there is none.
        one_hot: columns that are classes.
        names: of the classes by number, where the table has them.
        named: the pictures of its rows.
        unusable: what keeps it from being used; empty if it is used.
        about_pictures: whether its cells name pictures, there or elsewhere.
    """

    path: Path
    columns: list[str]
    bases: list[str]
    split: str | None = None
    file: str | None = None
    label: str | None = None
    split_column: str | None = None
    one_hot: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    named: tuple[Path, ...] = ()
    unusable: str = ""
    about_pictures: bool = False


def find(root: Folder) -> tuple[Found | None, list[str]]:
    """The pictures that tables name, if there are such; and notes about tables that were not used.

    Tables are looked for in the folder, in folders named like splits, and in those beside the
    pictures. File names may begin at the table's own folder, at `root`, or in the only folder that
    holds pictures.

    Raises:
        InvalidFile: a table that speaks of pictures and cannot be used, or several of which not
            each is for another split.
    """
    paths = _candidates(root)
    if not paths or not root.picture_count:
        return None, []
    pictures = PictureIndex(root)
    tables = [_read_table(path, folder, root, pictures) for path, folder in paths]
    usable = [table for table in tables if not table.unusable]
    others = [table for table in tables if table.unusable]
    if not usable:
        for table in others:
            if table.about_pictures:
                raise InvalidFile(_refusal(table))
        return None, [_unrelated(table) for table in others]
    if len(usable) > 1 and len({table.split for table in usable} - {None}) < len(usable):
        names = ", ".join(table.path.name for table in usable)
        raise InvalidFile(
            f"The tables {names} all name pictures; keep one of them, or one for each split, named "
            "train, validation and test."
        )
    members = {path for table in usable for path in (table.path, *table.named)}
    found = Found("table", root.path, sorted(members), lambda: _source(root, usable, pictures))
    notes = [note for table in usable for note in _unread_columns(table)]
    notes += [_unrelated(table) for table in others]
    return found, notes + _left_out(usable, pictures, root)


def _candidates(root: Folder) -> list[tuple[Path, Folder]]:
    folders = [root]
    for folder in root.folders:
        split = split_of_folder(folder.name) is not None
        if split or folder.name.lower() in CONTAINER_NAMES or not folder.picture_count:
            folders.append(folder)
        if split:
            folders += [inner for inner in folder.folders if inner.name.lower() in CONTAINER_NAMES]
    return [
        (folder.path / name, folder)
        for folder in folders
        for name in folder.files
        if name.lower().endswith(table_rows.TABLE_ENDINGS) and not _is_other(folder.path / name)
    ]


def _is_other(path: Path) -> bool:
    """Whether a file of a table's kind is known to be none."""
    if path.suffix.lower() == ".parquet":
        return holds_pictures(path)
    if path.suffix.lower() == ".json":
        return next(table_rows.rows(path), None) is None
    return False


def _read_table(path: Path, folder: Folder, root: Folder, pictures: PictureIndex) -> _Table:
    """What a table's columns mean, by their names and by which of them name pictures."""
    head = [row for _, row in islice(table_rows.rows(path), _LOOKED_AT)]
    columns = table_rows.columns(path)
    table = _Table(path, columns, _bases(folder, root), _split_of_table(path, folder, root))
    if "submission" in path.stem.lower():
        why = "and its name says that its labels are to be filled in"
        return replace(table, unusable=why)
    files = columns_named(columns, FILE_COLUMNS)
    # Of several columns that could name the file, the one counts whose names are there.
    resolving = [
        name for name in files if any(pictures.find(row.get(name), table.bases) for row in head)
    ]
    file = next(iter(resolving or files), None)
    label = next((name for name in columns_named(columns, LABEL_COLUMNS) if name != file), None)
    table = replace(
        table,
        file=file,
        label=label,
        split_column=next(iter(columns_named(columns, SPLIT_COLUMNS)), None),
        about_pictures=_is_about_pictures(table, head, pictures),
    )
    if file is not None and label is None:
        table = replace(table, one_hot=_one_hot(table, head))
    return _with_pictures(table, head, pictures)


def _with_pictures(
    table: _Table, head: Sequence[Mapping[str, Any]], pictures: PictureIndex
) -> _Table:
    """The table with the pictures of its rows, or with what keeps it from being used."""
    file = table.file
    if file is None or (table.label is None and not table.one_hot):
        missing = "file names" if file is None else "labels"
        return replace(table, unusable=f"none of which is known as a column of {missing}")
    found = (pictures.find(row.get(file), table.bases) for _, row in table_rows.rows(table.path))
    named = tuple(pictures.by_name[name] for name in found if name is not None)
    if not named:
        first = f" ({str(head[0].get(file))[:80]!r} for example)" if head else ""
        return replace(table, unusable=f"and names no picture that is there{first}")
    return replace(table, named=named, names=_names(table))


def _names(table: _Table) -> tuple[str, ...] | None:
    """The class names by number, which only a Parquet file keeps."""
    if table.label is None or table.path.suffix.lower() != ".parquet":
        return None
    return label_names(read_schema(table.path), table.label)


def _bases(folder: Folder, root: Folder) -> list[str]:
    own = folder.relative(root.path)
    bases = ["" if own == "." else own, ""]
    inside = [at for at in (folder, *folder.above()) if at is not root]
    around = next((at for at in reversed(inside) if split_of_folder(at.name)), root)
    holding = [at for at in around.walk() if at.pictures]
    if len(holding) == 1:
        only = holding[0].relative(root.path)
        bases.append("" if only == "." else only)
    return list(dict.fromkeys(bases))


def _split_of_table(path: Path, folder: Folder, root: Folder) -> str | None:
    own = split_of_path(folder.path / _NO_NAME, root.path)
    return own or split_of_folder(_TABLE_WORDS.sub(" ", path.stem))


def _one_hot(table: _Table, head: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The columns that are classes: all but the file's and the split's hold one 1 and else 0."""
    rest = [name for name in table.columns if name not in {table.file, table.split_column}]
    if len(rest) < 2 or not head:  # noqa: PLR2004 - one column would be no choice
        return ()
    named = table.path.name.lower() == "_classes.csv"
    for row in head:
        cells = [is_on(row.get(name)) for name in rest]
        if None in cells or (sum(map(bool, cells)) != 1 and not named):
            return ()
    return tuple(rest)


def _unread_columns(table: _Table) -> Iterator[str]:
    """What is said of columns that could be the label as well."""
    others = [name for name in columns_named(table.columns, LABEL_COLUMNS) if name != table.label]
    if table.label is not None and others:
        yield also_labels(table.path.name, table.label, others)
    unread = columns_named(table.columns, OTHER_SPLIT_COLUMNS)
    if unread and table.split_column is None:
        shown = ", ".join(map(repr, unread))
        yield (
            f"{table.path.name} has the column {shown}, which was not read; name a column split, "
            "of train, validation and test, if it says which images train."
        )


def _refusal(table: _Table) -> str:
    return (
        f"{table.path.name} {_why_unusable(table)}; name its columns file_name and label, and "
        "write file names from the table's own folder, such as train_images/0.png."
    )


def _unrelated(table: _Table) -> str:
    return f"The table {table.path.name} was not read: it {_why_unusable(table)}."


def _why_unusable(table: _Table) -> str:
    columns = ", ".join(repr(name) for name in table.columns[:_SHOWN_COLUMNS])
    return f"has the columns {columns}, {table.unusable}"


def _is_about_pictures(
    table: _Table, head: Sequence[Mapping[str, Any]], pictures: PictureIndex
) -> bool:
    """Whether a cell ends as a picture does, or most cells of a column are called as one is."""
    cells = [value for row in head for value in row.values() if isinstance(value, str)]
    endings = {PurePosixPath(value.strip()).suffix.lower() for value in cells}
    return bool(endings & (ENDINGS | UNREAD)) or any(
        _names_pictures(column, head, pictures) for column in table.columns
    )


def _names_pictures(column: str, head: Sequence[Mapping[str, Any]], pictures: PictureIndex) -> bool:
    values = [row[column] for row in head if row.get(column) not in (None, "")]
    return 2 * sum(map(pictures.has_name, values)) > len(values)


def _left_out(tables: Sequence[_Table], pictures: PictureIndex, root: Folder) -> list[str]:
    named = {path for table in tables for path in table.named}
    beside = [path for path in pictures.by_name.values() if path not in named]
    if not beside:
        return []
    names = ", ".join(table.path.name for table in tables)
    shown = nfc(beside[0].relative_to(root.path).as_posix())
    return [
        f"Pictures without a row in {names}, which were left out: {len(beside):,}, such as {shown}."
    ]


def _source(root: Folder, tables: Sequence[_Table], pictures: PictureIndex) -> Source:
    names = tables[0].names
    if any(table.names != names for table in tables):
        names = None
    return Source(in_chunks(_entries(root, tables, pictures)), names)


def _entries(root: Folder, tables: Sequence[_Table], pictures: PictureIndex) -> Iterator[Entry]:
    for table in tables:
        labels: dict[Any, str | None] = {}
        for line, row in table_rows.rows(table.path):
            entry = _entry(root, table, line, row, pictures)
            if entry.problem is None and labels.setdefault(entry.data, entry.label) != entry.label:
                problem = (
                    f"{table.path.name} line {line} gives {entry.name[:80]} the label "
                    f"{str(entry.label)[:80]!r}, and an earlier line {labels[entry.data]!r}."
                )
                entry = replace(entry, problem=problem)
            yield entry


def _entry(
    root: Folder, table: _Table, line: int, row: Mapping[str, Any], pictures: PictureIndex
) -> Entry:
    where = f"{nfc(table.path.relative_to(root.path).as_posix())} line {line}"
    given = row.get(table.file or "")
    found = pictures.find(given, table.bases)
    label, wrong = _label(table, row)
    value = None if table.split_column is None else row.get(table.split_column)
    said = "" if value is None else str(value).strip()
    split = split_of_folder(said) if said else table.split or _split_of_file(found)
    shown = str(given)[:80]
    problem = None
    if relative_name(given) is None:
        problem = f"{where} names the file {shown!r}; only names inside are read."
    elif found is None:
        problem = f"{where} names {shown}, which does not exist."
    elif wrong:
        problem = f"{where} gives {shown} a label that {wrong}."
    elif label is None:
        problem = f"{where} gives {shown} no label."
    elif said and split is None:
        problem = f"{where} names the split {said[:40]!r}; use train, validation or test."
    data: bytes | Path = b"" if found is None else pictures.by_name[found]
    return Entry(str(given)[:200], label, data, split, problem)


def _split_of_file(name: str | None) -> str | None:
    """The split whose folder a file's name begins with."""
    folders = PurePosixPath(name or "").parts[:-1]
    return next((split for part in folders if (split := split_of_folder(part))), None)


def _label(table: _Table, row: Mapping[str, Any]) -> tuple[str | None, str]:
    """The label of a row, and what is wrong with it."""
    if table.one_hot:
        on = [name for name in table.one_hot if is_on(row.get(name))]
        if len(on) == 1:
            return nfc(on[0].strip()), ""
        return None, f"has {len(on)} classes marked with 1, where one is needed"
    value = row.get(table.label or "")
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None, ""
        # A table of text has its numbers as text: 3.0 is 3, and 3.5 is no class.
        in_text = table.path.suffix.lower() in {".csv", ".tsv"}
        if in_text and (_is_fraction(value) or value.lower() == "nan"):
            value = float(value)
    try:
        return label_of(value, table.names), ""
    except ValueError as error:
        return None, str(error)


def _is_fraction(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and not _WHOLE.fullmatch(text)
