"""Pictures with a table beside them: CSV, JSONL or Parquet rows of file name and label."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.datasets.imagefolder import ENDINGS
from datagen.datasets.parquet import METADATA, label_names, named
from datagen.datasets.source import SPLIT_NAMES, Entry, Found, Source, in_chunks
from datagen.errors import InvalidFile

FILE_COLUMNS = ("file_name", "filename", "file", "path", "image", "image_path", "img", "name")
LABEL_COLUMNS = ("label", "class", "category", "class_name", "label_name", "target")
SPLIT_COLUMN = "split"
ENDINGS_OF_TABLES = (".csv", ".tsv", ".jsonl")
_SNIFFED = 8192


@dataclass(frozen=True)
class _Table:
    """A table, the split that its folder stands for, and which columns mean what."""

    path: Path
    split: str | None
    file: str
    label: str
    names: tuple[str, ...] | None


def find(root: Path) -> Found | None:
    """The table of a folder, or those of its folders named like splits. Raises InvalidFile."""
    folders = {root: None} | {
        path: SPLIT_NAMES[path.name.lower()]
        for path in sorted(root.iterdir())
        if path.is_dir() and path.name.lower() in SPLIT_NAMES
    }
    tables = [table for folder, split in folders.items() for table in _tables(folder, split)]
    if not tables:
        return None
    if len(tables) > 1 and any(table.split is None for table in tables):
        names = ", ".join(table.path.name for table in tables)
        raise InvalidFile(f"The tables {names} all name pictures; keep one of them.")
    members = [table.path for table in tables]
    members += [path for table in tables for path in _pictures(table)]
    return Found("table", root, sorted(set(members)), lambda: _source(root, tables))


def _tables(folder: Path, split: str | None) -> Iterator[_Table]:
    for path in sorted(folder.iterdir()):
        if path.name == METADATA:
            found = _parquet_columns(path)
        elif path.suffix.lower() in ENDINGS_OF_TABLES and not path.name.startswith("."):
            found = _columns(next((row for _, row in _rows(path)), {}), path)
        else:
            continue
        if found is not None:
            names = label_names(_schema(path), found[1]) if path.name == METADATA else None
            yield _Table(path, split, *found, names)


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidFile(f"{path.name} is no Parquet file, or damaged: {error}.") from error


def _parquet_columns(path: Path) -> tuple[str, str] | None:
    return _named_columns(_schema(path).names)


def _columns(row: dict[str, Any], path: Path) -> tuple[str, str] | None:
    """The columns of file and label: by their names, or by what is in two without names."""
    known = _named_columns(list(row))
    if known is not None or path.suffix.lower() == ".jsonl":
        return known
    plain = list(row)
    # Without a heading the first row is taken for one: a picture's name tells it.
    if len(plain) == 2 and PurePosixPath(plain[0]).suffix.lower() in ENDINGS:  # noqa: PLR2004
        return plain[0], plain[1]
    return None


def _named_columns(names: Sequence[str]) -> tuple[str, str] | None:
    lower = {name.strip().lower(): name for name in names if isinstance(name, str)}
    file = next((lower[name] for name in FILE_COLUMNS if name in lower), None)
    label = next((lower[name] for name in LABEL_COLUMNS if name in lower), None)
    return (file, label) if file is not None and label is not None else None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their line numbers. Raises InvalidFile."""
    try:
        if path.name == METADATA:
            for batch in pq.ParquetFile(path).iter_batches(use_threads=False):
                yield from enumerate(batch.to_pylist(), start=1)
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".jsonl":
                yield from _json_rows(file, path)
                return
            dialect = _dialect(file.read(_SNIFFED), path)
            file.seek(0)
            reader = csv.DictReader(file, dialect=dialect)
            for row in reader:
                yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError, pa.ArrowException) as error:
        raise InvalidFile(f"{path.name} cannot be read as a table: {error}.") from error
    except OSError as error:
        raise InvalidFile(f"{path.name} cannot be read: {error.strerror}.") from error


def _dialect(start: str, path: Path) -> type[csv.Dialect]:
    if path.suffix.lower() == ".tsv":
        return csv.excel_tab
    line = start.partition("\n")[0]
    if ";" in line and "," not in line:
        return _Semicolons
    return csv.excel_tab if "\t" in line and "," not in line else csv.excel


class _Semicolons(csv.excel):
    delimiter = ";"


def _json_rows(file: Iterator[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidFile(f"{path.name} line {number} is no JSON: {error}.") from None
        if not isinstance(row, dict):
            raise InvalidFile(f"{path.name} line {number} is {line.strip()[:40]!r}, not an object.")
        yield number, row


def _pictures(table: _Table) -> Iterator[Path]:
    for _, row in _all_rows(table):
        path = _inside(table.path.parent, row.get(table.file))
        if path is not None and path.is_file():
            yield path


def _all_rows(table: _Table) -> Iterator[tuple[int, dict[str, Any]]]:
    if _is_headless(table):
        yield 1, {table.file: table.file, table.label: table.label}
    yield from _rows(table.path)


def _is_headless(table: _Table) -> bool:
    return PurePosixPath(table.file).suffix.lower() in ENDINGS


def _inside(folder: Path, name: Any) -> Path | None:
    """The file that a row names, if it is a relative name that stays in the folder."""
    if not isinstance(name, str) or not name or "\0" in name or "\\" in name:
        return None
    path = PurePosixPath(name)
    return None if path.is_absolute() or ".." in path.parts else folder / path


def _source(root: Path, tables: Sequence[_Table]) -> Source:
    names = tables[0].names
    if any(table.names != names for table in tables):
        names = None
    notes: list[str] = []
    return Source(in_chunks(_entries(root, tables, notes)), names, notes)


def _entries(root: Path, tables: Sequence[_Table], notes: list[str]) -> Iterator[Entry]:
    for table in tables:
        seen: set[Path] = set()
        for line, row in _all_rows(table):
            yield _entry(root, table, line, row, seen)
        beside = [path for path in _beside(table.path.parent) if path not in seen]
        if beside:
            notes.append(
                f"Pictures without a row in {table.path.name}, which were left out: "
                f"{len(beside):,}, such as {beside[0].relative_to(root).as_posix()}."
            )


def _beside(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in ENDINGS)


def _entry(root: Path, table: _Table, line: int, row: dict[str, Any], seen: set[Path]) -> Entry:
    where = f"{table.path.relative_to(root).as_posix()} line {line}"
    given = row.get(table.file)
    path = _inside(table.path.parent, given)
    label = named(_plain(row.get(table.label)), table.names)
    split = row.get(SPLIT_COLUMN)
    own = SPLIT_NAMES.get(str(split).strip().lower()) if split else table.split
    problem = None
    if path is None:
        problem = f"{where} names the file {str(given)[:80]!r}; only names inside are read."
    elif not path.is_file():
        problem = f"{where} names {str(given)[:80]}, which is not there."
    elif label is None:
        problem = f"{where} gives {str(given)[:80]} no label."
    elif split and own is None:
        problem = f"{where} names the split {str(split)[:40]!r}; there are train, validation, test."
    if path is not None:
        seen.add(path)
    return Entry(str(given)[:200], label, path or b"", own, problem)


def _plain(value: Any) -> Any:
    """A label as one value; spaces round a name do not count."""
    return value.strip() if isinstance(value, str) else value
