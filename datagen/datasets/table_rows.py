"""Rows of the tables that lie beside pictures: CSV, TSV, JSON, JSON lines and Parquet."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

import pyarrow as pa

from datagen.datasets import label_studio
from datagen.datasets.listing import ENDINGS
from datagen.datasets.parquet import read_schema
from datagen.datasets.parquet_rows import parquet_rows
from datagen.errors import InvalidFile

_WITH_HEADING = (".csv", ".tsv")
_LINES_OF_JSON = (".jsonl", ".ndjson")
TEXT_TABLE_ENDINGS = (*_WITH_HEADING, *_LINES_OF_JSON, ".json")
TABLE_ENDINGS = (*TEXT_TABLE_ENDINGS, ".parquet")
# A document of JSON is read whole.
MAX_JSON_BYTES = 64 << 20
# Far longer than a line of an ordinary table.
MAX_LINE_CHARS = 16 << 20
_SNIFFED = 8192
# The columns of a table without a heading: a file and its label.
HEADLESS = ("file_name", "label")

_Row = tuple[int, dict[str, Any]]


def rows(path: Path) -> Iterator[_Row]:
    """The rows of a table with their line numbers, or their places where there are no lines.

    A JSON document that is no list of objects has no rows.

    Raises:
        InvalidFile: it cannot be read as what its name says.
    """
    ending = path.suffix.lower()
    with _failures_named(path):
        if ending == ".parquet":
            yield from enumerate(parquet_rows(path), start=1)
        elif ending == ".json":
            yield from _document(path)
        else:
            with _opened(path) as file:
                lines = _json_lines if ending in _LINES_OF_JSON else _delimited_lines
                yield from lines(file, path)


def columns(path: Path) -> list[str]:
    """The columns of a table: those of its heading, or of its first row where there is none.

    Raises:
        InvalidFile: it cannot be read as what its name says.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        return list(read_schema(path).names)
    if ending in _WITH_HEADING:
        with _failures_named(path), _opened(path) as file:
            return _heading(_reader(file, path))[0]
    return [str(name) for _, row in islice(rows(path), 1) for name in row]


@contextmanager
def _failures_named(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise InvalidFile(
            f"{path.name} cannot be read as a table: {error}; save it as UTF-8."
        ) from error
    except (csv.Error, pa.ArrowException) as error:
        raise InvalidFile(f"{path.name} cannot be read as a table: {error}.") from error
    except OSError as error:
        raise InvalidFile(f"{path.name} cannot be read: {error.strerror}.") from error


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    with path.open("rb") as file:
        head = file.read(2)
    # Excel's "Unicode text" begins so.
    wide = head in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}
    with path.open(encoding="utf-16" if wide else "utf-8-sig", newline="") as text:
        yield text


def _delimited_lines(file: TextIO, path: Path) -> Iterator[_Row]:
    reader = _reader(file, path)
    head, first = _heading(reader)
    if first is not None:
        yield 1, dict(zip(head, first, strict=True))
    for row in reader:
        if row:
            whole = [*row, *[None] * (len(head) - len(row))]
            yield reader.line_num, dict(zip(head, whole, strict=False))


def _heading(reader: Any) -> tuple[list[str], list[str] | None]:
    """The columns, and the first row where it stands in the place of a heading."""
    head: list[str] = next((row for row in reader if any(row)), [])
    # A picture's name in the first line shows that it is no heading.
    if len(head) == len(HEADLESS) and PurePosixPath(head[0].strip()).suffix.lower() in ENDINGS:
        return list(HEADLESS), head
    return head, None


def _reader(file: TextIO, path: Path) -> Any:
    start = file.read(_SNIFFED).lstrip("\r\n")
    file.seek(0)
    return csv.reader(_lines(file, path), dialect=_dialect(start, path))


def _dialect(start: str, path: Path) -> type[csv.Dialect]:
    if path.suffix.lower() == ".tsv":
        return csv.excel_tab
    line = start.partition("\n")[0]
    if ";" in line and "," not in line:
        return _Semicolons
    return csv.excel_tab if "\t" in line and "," not in line else _Commas


class _Commas(csv.excel):
    # Some write `"a", "b"`.
    skipinitialspace = True


class _Semicolons(_Commas):
    delimiter = ";"


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """The lines of a file, none of which is read further than it may be long."""
    number = 1
    while line := file.readline(MAX_LINE_CHARS):
        if len(line) == MAX_LINE_CHARS:
            raise InvalidFile(
                f"{path.name} line {number} has {MAX_LINE_CHARS:,} characters or more; a table has "
                "a line for each picture."
            )
        yield line
        number += 1


def _json_lines(file: TextIO, path: Path) -> Iterator[_Row]:
    for number, line in enumerate(_lines(file, path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidFile(f"{path.name} line {number} is not JSON: {error}.") from None
        if not isinstance(row, dict):
            raise InvalidFile(f"{path.name} line {number} is {line.strip()[:40]!r}, not an object.")
        yield number, row


def _document(path: Path) -> Iterator[_Row]:
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        with path.open("rb") as file:
            is_list = file.read(_SNIFFED).lstrip().startswith(b"[")
        if is_list:
            raise InvalidFile(
                f"{path.name} has {size:,} bytes, and JSON lists of up to {MAX_JSON_BYTES:,} are "
                "read; write it as JSON lines (.jsonl)."
            )
        return
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        # Much is called .json that has nothing to do with the pictures.
        return
    if not isinstance(document, list) or not all(isinstance(row, dict) for row in document):
        return
    for number, row in enumerate(document, start=1):
        yield number, label_studio.flattened(row, f"{path.name} task {number}")
