"""ImageFolder: `train/<class>/<index>.png`, with `train/metadata.parquet` beside the classes.

`torchvision.datasets.ImageFolder` reads the folders; the `datasets` library reads the metadata, and
with it the class names and where each image comes from.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.export.columns import PROVENANCE, provenance
from datagen.export.info import ExportInfo
from datagen.export.naming import file_name, folder_names
from datagen.export.sinks import Sink
from datagen.shards import SampleBatch, loader_metadata

# Every row group has an entry in the footer, which is held until the end: few, then.
PARTS_TOGETHER = 100
COLUMNS = (("file_name", pa.string()), *PROVENANCE)


def write(samples: Iterable[SampleBatch], info: ExportInfo, sink: Sink) -> None:
    """Write all samples into `train/`."""
    folders = folder_names(info.class_names)
    schema = pa.schema(COLUMNS, metadata=loader_metadata(info.class_names, COLUMNS))
    with (
        sink.open("train/metadata.parquet") as file,
        pq.ParquetWriter(file, schema, compression="zstd") as metadata,
    ):
        waiting: list[pa.RecordBatch] = []
        for part in samples:
            names = [
                f"{folders[label]}/{file_name(index)}"
                for label, index in zip(part.labels.tolist(), part.indices.tolist(), strict=True)
            ]
            for name, image in zip(names, part.images, strict=True):
                sink.put(f"train/{name}", image)
            arrays = [pa.array(names, pa.string()), *provenance(part, info)]
            waiting.append(pa.record_batch(arrays, schema=schema))
            if len(waiting) == PARTS_TOGETHER:
                metadata.write_table(pa.Table.from_batches(waiting, schema))
                waiting.clear()
        if waiting:
            metadata.write_table(pa.Table.from_batches(waiting, schema))
