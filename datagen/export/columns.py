"""The columns that say where each exported row comes from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from datagen.export.protocol import RecordField
from datagen.export.rows import Rows
from datagen.shards import loader_metadata, source_columns

PROVENANCE: tuple[tuple[str, pa.DataType], ...] = (
    ("label", pa.int64()),
    ("synthetic", pa.bool_()),
    ("index", pa.int64()),
    ("job", pa.string()),
    ("model", pa.string()),
    ("sampler", pa.string()),
    ("seed", pa.int64()),
    ("attempt", pa.int64()),
    ("score", pa.float64()),
    ("judged_label", pa.int64()),
    ("first_source", pa.int64()),
    ("second_source", pa.int64()),
    ("source_file", pa.string()),
    ("digest", pa.string()),
)
# Columns with the same value in whole stretches.
REPEATED = ("synthetic", "job", "model", "sampler", "seed")


_KINDS = {pa.int64(): "sc:Integer", pa.float64(): "sc:Float", pa.bool_(): "sc:Boolean"}


def column_fields(columns: Sequence[tuple[str, pa.DataType]]) -> tuple[RecordField, ...]:
    """Croissant's fields for columns of a Parquet file."""
    return tuple(
        (name, _KINDS.get(kind, "sc:Text"), {"column": name}, None) for name, kind in columns
    )


def table_metadata(
    class_names: Sequence[str], columns: Sequence[tuple[str, pa.DataType]]
) -> dict[bytes, bytes]:
    """A Parquet file's metadata: classes for the `datasets` library, seeds for pandas.

    Real images have no seed, and pandas reads whole numbers with gaps as float64 unless it is told
    otherwise, which rounds a seed above 2^53 to one that makes other images.
    """
    whole = {"pandas_type": "int64", "numpy_type": "Int64", "metadata": None}
    named = [{"name": "seed", "field_name": "seed", **whole}]
    # The form is pandas' own: https://pandas.pydata.org/docs/development/developer.html
    told = {"index_columns": [], "column_indexes": [], "columns": named, "pandas_version": "2.0"}
    return {**loader_metadata(class_names, columns), b"pandas": json.dumps(told).encode()}


def split_in(pattern: str) -> RecordField:
    """Croissant's field for the split, which is the first group of a pattern of the file's path."""
    return ("split", "sc:Text", {"fileProperty": "fullpath"}, {"regex": pattern})


def provenance(rows: Rows) -> list[pa.Array]:
    """Arrays for the columns of PROVENANCE, one value a row."""
    samples, origin, count = rows.samples, rows.origin, len(rows)

    def same(value: Any, kind: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, kind), count)

    return [
        pa.array(samples.labels, pa.int64()),
        same(origin.synthetic, pa.bool_()),
        pa.array(samples.indices, pa.int64()),
        same(origin.job, pa.string()),
        same(origin.model, pa.string()),
        same(origin.sampler, pa.string()),
        same(origin.seed, pa.int64()),
        pa.array(samples.attempts, pa.int64(), mask=samples.attempts < 0),
        pa.array(samples.scores, pa.float64(), mask=np.isnan(samples.scores)),
        pa.array(samples.judged_labels, pa.int64(), mask=samples.judged_labels < 0),
        *source_columns(samples),
        pa.array(rows.names if rows.names is not None else [None] * count, pa.string()),
        pa.array([digest.hex() for digest in samples.digests], pa.string()),
    ]


def records(rows: Rows) -> list[dict[str, Any]]:
    """The same, as one mapping a row, without what is null."""
    names = [name for name, _ in PROVENANCE]
    columns = [array.to_pylist() for array in provenance(rows)]
    return [
        {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for values in zip(*columns, strict=True)
    ]
