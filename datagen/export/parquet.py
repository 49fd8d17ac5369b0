"""Parquet in the layout of the `datasets` library: `data/train-00000-of-00001.parquet`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.export.columns import PROVENANCE, provenance
from datagen.export.info import ExportInfo
from datagen.export.naming import file_name
from datagen.export.sinks import Sink
from datagen.shards import IMAGE_TYPE, SampleBatch, image_column, loader_metadata

ROWS_PER_FILE = 100_000
COLUMNS = (("image", IMAGE_TYPE), *PROVENANCE)


def write(samples: Iterable[SampleBatch], info: ExportInfo, sink: Sink) -> None:
    """Write all samples into `data/`, a hundred thousand a file."""
    schema = pa.schema(COLUMNS, metadata=loader_metadata(info.class_names, COLUMNS))
    files = max(1, -(-info.images_total // ROWS_PER_FILE))
    parts = iter(samples)
    for number in range(files):
        path = f"data/train-{number:05d}-of-{files:05d}.parquet"
        # Images are compressed already; only the columns beside them gain from it.
        options = {"compression": "zstd", "use_dictionary": ["model", "seed"]}
        statistics = [name for name, _ in PROVENANCE]
        with (
            sink.open(path) as file,
            pq.ParquetWriter(file, schema, write_statistics=statistics, **options) as writer,
        ):
            for part in _first(parts, ROWS_PER_FILE):
                names = [file_name(index) for index in part.indices.tolist()]
                arrays = [image_column(part.images, names), *provenance(part, info)]
                writer.write_batch(pa.record_batch(arrays, schema=schema))


def _first(parts: Iterator[SampleBatch], rows: int) -> Iterator[SampleBatch]:
    """The next so many rows; parts have a size that divides ROWS_PER_FILE."""
    while rows > 0 and (part := next(parts, None)) is not None:
        rows -= len(part)
        yield part
