"""Rows of Parquet files, so that memory does not grow with what a file unfolds to.

A value that a dictionary repeats is there once, however often it is repeated; a batch has few rows
where the rows are large; and pages are read one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datagen.datasets.archive import LARGEST_PICTURE
from datagen.datasets.source import rows_at_once
from datagen.errors import InvalidFile

ROWS_AT_ONCE = 1000
_BUFFER_BYTES = 1 << 20


def parquet_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file.

    Args:
        path: the file.
        columns: the columns that are read; all if None.

    Raises:
        InvalidFile: a row group or a value that is larger than any picture.
        pyarrow.ArrowException: damaged, or no such file.
    """
    with pq.ParquetFile(path) as plain:
        sizes = _row_bytes(plain.metadata, path.name)
        repeated = _of_bytes(plain.metadata, columns)
    file = pq.ParquetFile(
        path, read_dictionary=repeated, buffer_size=_BUFFER_BYTES, pre_buffer=False
    )
    with file:
        for group, size in enumerate(sizes):
            at_once = min(ROWS_AT_ONCE, rows_at_once((size,)))
            wanted = None if columns is None else list(columns)
            batches = file.iter_batches(
                at_once, row_groups=[group], columns=wanted, use_threads=False
            )
            for batch in batches:
                yield from _rows(batch, path.name)


def _row_bytes(metadata: pq.FileMetaData, name: str) -> list[int]:
    """Mean bytes of a row, for each row group, as the file says of itself."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    found = []
    for group in groups:
        if group.num_rows < 0 or group.total_byte_size < 0:
            raise InvalidFile(f"{name} is damaged: a group of rows has a negative size.")
        found.append(group.total_byte_size // max(1, group.num_rows))
    return found


def _of_bytes(metadata: pq.FileMetaData, columns: Sequence[str] | None) -> list[str]:
    """The paths of text and bytes within the columns: what a dictionary may repeat at length."""
    schema = metadata.schema
    leaves = [schema.column(number) for number in range(len(schema))]
    return [
        leaf.path
        for leaf in leaves
        if leaf.physical_type == "BYTE_ARRAY"
        and leaf.max_repetition_level == 0
        and (columns is None or leaf.path.split(".")[0] in columns)
    ]


def _rows(batch: pa.RecordBatch, name: str) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    columns = [_values(batch.column(column), name) for column in range(len(names))]
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def _values(values: pa.Array, name: str) -> list[Any]:
    """Values as Python has them; what a dictionary repeats is one object."""
    if pa.types.is_dictionary(values.type):
        used = values.indices.unique().drop_null()
        distinct = _values(values.dictionary.take(used), name)
        found = dict(zip(used.to_pylist(), distinct, strict=True))
        return [found.get(place) for place in values.indices.to_pylist()]
    if pa.types.is_struct(values.type):
        keys = [values.type.field(number).name for number in range(values.type.num_fields)]
        inner = [_values(values.field(number), name) for number in range(len(keys))]
        rows = zip(*inner, strict=True) if inner else [()] * len(values)
        there = values.is_valid().to_pylist()
        return [
            dict(zip(keys, row, strict=True)) if valid else None
            for row, valid in zip(rows, there, strict=True)
        ]
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        largest = pc.max(pc.binary_length(values)).as_py() or 0
        if largest > LARGEST_PICTURE:
            raise InvalidFile(f"{name} holds a value of {largest:,} bytes, too much for a picture.")
    return list(values.to_pylist())
