"""Pictures with a table beside them: rows of file name and label, or of one-hot columns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from datagen.datasets import table_rows
from datagen.datasets.labels import label_of
from datagen.datasets.listing import ENDINGS, UNREAD, Folder, nfc
from datagen.datasets.parquet import holds_pictures, label_names
from datagen.datasets.source import (
    CONTAINER_NAMES,
    Entry,
    Found,
    Source,
    in_chunks,
    split_of_folder,
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
_SHOWN_COLUMNS = 20
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d+)?")
_WHOLE = re.compile(r"-?\d+")
_TABLE_WORDS = re.compile(
    r"(labels?|meta_?data|annotations?|classes|list|info|csv|table)", re.IGNORECASE
)


@dataclass
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
        why: what keeps it from being used.
        first: the first file that it names.
    """

    path: Path
    columns: list[str]
    bases: list[str]
    split: str | None = None
    file: str | None = None
    label: str | None = None
    split_column: str | None = None
    one_hot: list[str] = field(default_factory=list)
    names: tuple[str, ...] | None = None
    why: str = ""
    first: str = ""
    speaks_of_pictures: bool = False


class _Pictures:
    """The pictures below a folder, by name."""

    def __init__(self, root: Folder) -> None:
        self.by_name: dict[str, Path] = {}
        self._by_stem: dict[str, list[str]] | None = None
        self._words: frozenset[str] | None = None
        for folder in root.walk():
            at = folder.relative(root.path)
            for name in folder.pictures:
                own = nfc(name) if at == "." else f"{at}/{nfc(name)}"
                self.by_name[own] = folder.path / name

    def find(self, name: str, bases: Sequence[str]) -> str | None:
        """The picture that a row names, with its ending or without; None if none or several."""
        for base in bases:
            whole = f"{base}/{name}" if base else name
            if whole in self.by_name:
                return whole
            found = self._stems().get(whole, ())
            if len(found) == 1:
                return found[0]
        return None

    def any_called(self, value: Any) -> bool:
        """Whether a picture, in whatever folder, is called so, with its ending or without."""
        if self._words is None:
            bases = [name.rpartition("/")[2] for name in self.by_name]
            self._words = frozenset(bases) | {base.rpartition(".")[0] or base for base in bases}
        return nfc(str(value).strip().replace("\\", "/").rpartition("/")[2]) in self._words

    def _stems(self) -> dict[str, list[str]]:
        if self._by_stem is None:
            self._by_stem = {}
            for name in self.by_name:
                self._by_stem.setdefault(name.rpartition(".")[0] or name, []).append(name)
        return self._by_stem


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
    pictures = _Pictures(root)
    tables = [_look(path, folder, root, pictures) for path, folder in paths]
    usable = [table for table in tables if not table.why]
    others = [table for table in tables if table.why]
    if not usable:
        for table in others:
            if table.speaks_of_pictures:
                raise InvalidFile(_refusal(table))
        return None, [_unrelated(table) for table in others]
    if len(usable) > 1 and len({table.split for table in usable} - {None}) < len(usable):
        names = ", ".join(table.path.name for table in usable)
        raise InvalidFile(
            f"The tables {names} all name pictures; keep one of them, or one for each split, named "
            "train, validation and test."
        )
    members = [table.path for table in usable]
    members += [path for table in usable for path in _pictures_of(table, pictures)]
    found = Found("table", root.path, sorted(set(members)), lambda: _source(root, usable, pictures))
    notes = [note for table in usable for note in _passed_over(table)]
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


def _look(path: Path, folder: Folder, root: Folder, pictures: _Pictures) -> _Table:
    head = [row for _, row in islice(table_rows.rows(path), _LOOKED_AT)]
    if "submission" in path.stem.lower():
        columns = [str(name) for row in head[:1] for name in row]
        return _Table(path, columns, [], why="whose name says that its labels are to be filled in")
    parquet = path.suffix.lower() == ".parquet"
    columns = (
        list(table_rows.schema(path).names)
        if parquet
        else [str(name) for row in head[:1] for name in row]
    )
    table = _Table(path, columns, _bases(folder, root), _split_of_table(path, folder, root))
    files = columns_named(columns, FILE_COLUMNS)
    labels = columns_named(columns, LABEL_COLUMNS)
    splits = columns_named(columns, SPLIT_COLUMNS)
    table.split_column = splits[0] if splits else None
    table.speaks_of_pictures = any(
        _speaks(value, table, pictures) for row in head for value in row.values()
    ) or any(_names_pictures(column, head, pictures) for column in columns)
    # Of several columns that could name the file, the one counts whose names are there.
    resolving = [
        name for name in files if any(_resolved(row.get(name), table, pictures) for row in head)
    ]
    table.file = next(iter(resolving or files), None)
    table.label = next((name for name in labels if name != table.file), None)
    if table.file is not None and table.label is None:
        table.one_hot = _one_hot(table, head)
    if table.file is None or (table.label is None and not table.one_hot):
        missing = "file names" if table.file is None else "labels"
        table.why = f"none of which is known as a column of {missing}"
    elif not any(
        _resolved(row.get(table.file), table, pictures) for _, row in table_rows.rows(path)
    ):
        table.first = str(head[0].get(table.file))[:80] if head else ""
        table.why = "and names no picture that is there"
    elif parquet and table.label is not None:
        table.names = label_names(table_rows.schema(path), table.label)
    return table


def _bases(folder: Folder, root: Folder) -> list[str]:
    own = folder.relative(root.path)
    bases = ["" if own == "." else own, ""]
    around = root
    for above in (folder, *_above(folder)):
        if above is not root and split_of_folder(above.name):
            around = above
    holding = [at for at in around.walk() if at.pictures]
    if len(holding) == 1:
        inside = holding[0].relative(root.path)
        bases.append("" if inside == "." else inside)
    return list(dict.fromkeys(bases))


def _above(folder: Folder) -> Iterator[Folder]:
    while folder.around is not None:
        folder = folder.around
        yield folder


def _split_of_table(path: Path, folder: Folder, root: Folder) -> str | None:
    for at in (folder, *_above(folder)):
        if at is root:
            break
        split = split_of_folder(at.name)
        if split is not None:
            return split
    return split_of_folder(_TABLE_WORDS.sub(" ", path.stem))


def _one_hot(table: _Table, head: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that are classes: all but the file's and the split's hold one 1 and else 0."""
    rest = [name for name in table.columns if name not in {table.file, table.split_column}]
    if len(rest) < 2 or not head:  # noqa: PLR2004 - one column would be no choice
        return []
    named = table.path.name.lower() == "_classes.csv"
    for row in head:
        cells = [is_on(row.get(name)) for name in rest]
        if None in cells or (sum(map(bool, cells)) != 1 and not named):
            return []
    return rest


def _passed_over(table: _Table) -> Iterator[str]:
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
    columns = ", ".join(repr(name) for name in table.columns[:_SHOWN_COLUMNS])
    first = f" ({table.first!r} for example)" if table.first else ""
    return (
        f"{table.path.name} has the columns {columns}, {table.why}{first}; name its columns "
        "file_name and label, and write file names from the table's own folder, such as "
        "train_images/0.png."
    )


def _unrelated(table: _Table) -> str:
    columns = ", ".join(repr(name) for name in table.columns[:_SHOWN_COLUMNS])
    return f"The table {table.path.name} with the columns {columns}, {table.why}, was not read."


def _speaks(value: Any, table: _Table, pictures: _Pictures) -> bool:
    """Whether a cell names a picture, there or elsewhere."""
    if not isinstance(value, str):
        return False
    ending = PurePosixPath(value.strip()).suffix.lower()
    return ending in ENDINGS | UNREAD or _resolved(value, table, pictures) is not None


def _names_pictures(column: str, head: Sequence[Mapping[str, Any]], pictures: _Pictures) -> bool:
    """Whether most cells of a column are called as pictures are, wherever those lie."""
    values = [row.get(column) for row in head if row.get(column) not in {None, ""}]
    return 2 * sum(map(pictures.any_called, values)) > len(values)


def _resolved(value: Any, table: _Table, pictures: _Pictures) -> str | None:
    name = _inside(value)
    return None if name is None else pictures.find(name, table.bases)


def _inside(value: Any) -> str | None:
    """The name that a cell holds, if it is a relative one that stays in the folder."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return None
    # Tables of Windows have backslashes.
    path = PurePosixPath(nfc(value.strip().replace("\\", "/")))
    return None if path.is_absolute() or ".." in path.parts else path.as_posix()


def _pictures_of(table: _Table, pictures: _Pictures) -> Iterator[Path]:
    for _, row in table_rows.rows(table.path):
        found = _resolved(row.get(table.file or ""), table, pictures)
        if found is not None:
            yield pictures.by_name[found]


def _left_out(tables: Sequence[_Table], pictures: _Pictures, root: Folder) -> list[str]:
    named = {path for table in tables for path in _pictures_of(table, pictures)}
    beside = [path for path in pictures.by_name.values() if path not in named]
    if not beside:
        return []
    names = ", ".join(table.path.name for table in tables)
    shown = nfc(beside[0].relative_to(root.path).as_posix())
    return [
        f"Pictures without a row in {names}, which were left out: {len(beside):,}, such as {shown}."
    ]


def _source(root: Folder, tables: Sequence[_Table], pictures: _Pictures) -> Source:
    names = tables[0].names
    if any(table.names != names for table in tables):
        names = None
    return Source(in_chunks(_entries(root, tables, pictures)), names)


def _entries(root: Folder, tables: Sequence[_Table], pictures: _Pictures) -> Iterator[Entry]:
    for table in tables:
        labels: dict[Any, str | None] = {}
        for line, row in table_rows.rows(table.path):
            entry = _entry(root, table, line, row, pictures)
            if entry.problem is None and labels.setdefault(entry.data, entry.label) != entry.label:
                problem = (
                    f"{table.path.name} line {line} gives {entry.name[:80]} the label "
                    f"{str(entry.label)[:80]!r}, and an earlier line {labels[entry.data]!r}."
                )
                entry = dataclasses.replace(entry, problem=problem)
            yield entry


def _entry(
    root: Folder, table: _Table, line: int, row: Mapping[str, Any], pictures: _Pictures
) -> Entry:
    where = f"{nfc(table.path.relative_to(root.path).as_posix())} line {line}"
    given = row.get(table.file or "")
    found = _resolved(given, table, pictures)
    label, wrong = _label(table, row)
    value = row.get(table.split_column) if table.split_column is not None else None
    said = str(value).strip() if value is not None else ""
    split = split_of_folder(said) if said else table.split or _split_of_file(found)
    shown = str(given)[:80]
    problem = None
    if _inside(given) is None:
        problem = f"{where} names the file {shown!r}; only names inside are read."
    elif found is None:
        problem = f"{where} names {shown}, which does not exist."
    elif wrong:
        problem = f"{where} gives {shown} a label that {wrong}."
    elif label is None:
        problem = f"{where} gives {shown} no label."
    elif said and split is None:
        problem = f"{where} names the split {said[:40]!r}; use train, validation or test."
    data: bytes | Path = pictures.by_name[found] if found is not None else b""
    return Entry(str(given)[:200], label, data, split, problem)


def _split_of_file(name: str | None) -> str | None:
    """The split whose folder a file's name begins with."""
    for part in PurePosixPath(name or "").parts[:-1]:
        split = split_of_folder(part)
        if split is not None:
            return split
    return None


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
