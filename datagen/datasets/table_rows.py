"""Rows of the tables that lie beside pictures: CSV, TSV, JSON, JSON lines and Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.datasets import label_studio
from datagen.datasets.listing import ENDINGS
from datagen.errors import InvalidFile

TEXT_TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
TABLE_ENDINGS = (*TEXT_TABLE_ENDINGS, ".parquet")
_LINES_OF_JSON = (".jsonl", ".ndjson")
# A document of JSON is read whole.
MAX_JSON_BYTES = 256 << 20
_SNIFFED = 8192
# The columns of a table without a heading: a file and its label.
HEADLESS = ("file_name", "label")


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table with their line numbers, or their places where there are no lines.

    A JSON document that is no list of objects has no rows.

    Raises:
        InvalidFile: it cannot be read as what its name says.
    """
    ending = path.suffix.lower()
    try:
        if ending == ".parquet":
            for batch in pq.ParquetFile(path).iter_batches(use_threads=False):
                yield from enumerate(batch.to_pylist(), start=1)
        elif ending == ".json":
            yield from _document(path)
        else:
            yield from _lines(path, ending)
    except (csv.Error, UnicodeDecodeError, pa.ArrowException) as error:
        raise InvalidFile(f"{path.name} cannot be read as a table: {error}.") from error
    except OSError as error:
        raise InvalidFile(f"{path.name} cannot be read: {error.strerror}.") from error


def schema(path: Path) -> pa.Schema:
    """The schema of a Parquet file. Raises InvalidFile."""
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidFile(f"{path.name} is not a Parquet file, or is damaged: {error}.") from error


def _lines(path: Path, ending: str) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if ending in _LINES_OF_JSON:
            yield from _json_lines(file, path)
            return
        dialect = _dialect(file.read(_SNIFFED), path)
        file.seek(0)
        plain = csv.reader(file, dialect=dialect)
        head = next((row for row in plain if any(row)), None)
        if head is None:
            return
        # Without a heading the first row is taken for one: a picture's name shows that it is none.
        if len(head) == len(HEADLESS) and PurePosixPath(head[0].strip()).suffix.lower() in ENDINGS:
            yield 1, dict(zip(HEADLESS, head, strict=True))
            head = list(HEADLESS)
        for row in plain:
            if row:
                whole = [*row, *[None] * (len(head) - len(row))]
                yield plain.line_num, dict(zip(head, whole, strict=False))


def _dialect(start: str, path: Path) -> type[csv.Dialect]:
    if path.suffix.lower() == ".tsv":
        return csv.excel_tab
    start = start.lstrip("\r\n")
    line = start.partition("\n")[0]
    if ";" in line and "," not in line:
        return _Semicolons
    return csv.excel_tab if "\t" in line and "," not in line else _Commas


class _Commas(csv.excel):
    # Some write `"a", "b"`.
    skipinitialspace = True


class _Semicolons(_Commas):
    delimiter = ";"


def _json_lines(file: Iterator[str], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidFile(f"{path.name} line {number} is not JSON: {error}.") from None
        if not isinstance(row, dict):
            raise InvalidFile(f"{path.name} line {number} is {line.strip()[:40]!r}, not an object.")
        yield number, row


def _document(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.stat().st_size > MAX_JSON_BYTES:
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
