"""Parquet in the layout of the `datasets` library: `data/train-00000-of-00001.parquet`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.export.columns import (
    PROVENANCE,
    REPEATED,
    column_fields,
    provenance,
    split_in,
    table_metadata,
)
from datagen.export.info import ExportInfo
from datagen.export.protocol import Format, Records
from datagen.export.rows import Rows, Split, in_files
from datagen.export.sinks import Sink
from datagen.shards import IMAGE_TYPE, image_column

ROWS_PER_FILE = 100_000
COLUMNS = (("image", IMAGE_TYPE), *PROVENANCE)
_LOADING = """\
from datasets import load_dataset
images = load_dataset("path/to/this/folder")["train"]"""
_ADVICE = """\
- `datasets` takes the class names from the metadata of the Parquet schema. polars and DuckDB read
  `label` as a number, and drop that metadata when they write the table again; `manifest.json` has
  the names in order."""


def write(splits: Iterable[Split], info: ExportInfo, sink: Sink) -> None:
    """Write all splits into `data/`, a hundred thousand rows a file."""
    schema = pa.schema(COLUMNS, metadata=table_metadata(info.class_names, COLUMNS))
    for split in splits:
        files = -(-split.total // ROWS_PER_FILE)
        for number, parts in enumerate(in_files(split.rows, ROWS_PER_FILE)):
            path = f"data/{split.name}-{number:05d}-of-{files:05d}.parquet"
            with sink.open(path) as file:
                _write_file(parts, schema, file)


def _write_file(parts: Iterator[Rows], schema: pa.Schema, file: BinaryIO) -> None:
    # Images are compressed already; only the columns beside them gain from it.
    compression = dict.fromkeys(["image.path", *(name for name, _ in PROVENANCE)], "zstd")
    with pq.ParquetWriter(
        file,
        schema,
        compression=compression | {"image.bytes": "none"},
        use_dictionary=list(REPEATED),
        write_statistics=[name for name, _ in PROVENANCE],
    ) as writer:
        for rows in parts:
            names = [f"{stem}.png" for stem in rows.stems()]
            arrays = [image_column(rows.samples.images, names), *provenance(rows)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


FORMAT = Format(
    "parquet",
    "Parquet files with image, label and metadata columns",
    write,
    _LOADING,
    split_files="data/{split}-*.parquet",
    advice=_ADVICE,
    records=(
        Records(
            "images",
            "Every image with its label and where it comes from.",
            "data/*.parquet",
            "application/x-parquet",
            (
                split_in("^(?:.*/)?(train|validation|test)(?:-.*)?$"),
                ("image", "sc:ImageObject", {"column": "image"}, {"jsonPath": "bytes"}),
                *column_fields(PROVENANCE),
            ),
        ),
    ),
)
