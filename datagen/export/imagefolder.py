"""ImageFolder: `<split>/<class>/<name>.png`, with `<split>/metadata.parquet` beside the classes.

`torchvision.datasets.ImageFolder` reads the folders; the `datasets` library reads the metadata, and
with it the class names and where each image comes from.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.export.classes import put_classes
from datagen.export.columns import (
    PROVENANCE,
    column_fields,
    provenance,
    split_in,
    table_metadata,
)
from datagen.export.info import ExportInfo
from datagen.export.naming import folder_names
from datagen.export.protocol import Format, Records
from datagen.export.rows import Split
from datagen.export.sinks import Sink

# Every row group has an entry in the footer, which is held until the end: few, then.
PARTS_TOGETHER = 25
# As `classes.txt`, with the names of the folders: loaders take it where a split has no images of a
# class, and thus no folder.
FOLDERS = "folders.txt"
COLUMNS = (("file_name", pa.string()), *PROVENANCE)
_LOADING = """\
from torchvision.datasets import ImageFolder
images = ImageFolder("path/to/this/folder/train")

# or, with class names and provenance:
from datasets import load_dataset
images = load_dataset("path/to/this/folder")["train"]"""
_ADVICE = """\
- torchvision, Keras, fastai, Ultralytics, TFDS and timm number the folders of a split in their
  order, which is that of `classes.txt`; `folders.txt` has the folders in the same order. `datasets`
  takes names and numbers from `metadata.parquet`: there the column `label` has the number, and
  `file_name` the folder, of each image.
- fastai: `ImageDataLoaders.from_folder(path, train="train", valid="validation")`. Without `valid`
  it looks for a folder `valid`, finds no validation image and says nothing.
- timm: give the folder of a split as `root`; of a split that it does not find it takes the whole
  root, all splits together."""


def write(splits: Iterable[Split], info: ExportInfo, sink: Sink) -> None:
    """Write each split into a folder of its name."""
    folders = folder_names(info.class_names)
    schema = pa.schema(COLUMNS, metadata=table_metadata(info.class_names, COLUMNS))
    for split in splits:
        with (
            sink.open(f"{split.name}/metadata.parquet") as file,
            pq.ParquetWriter(file, schema, compression="zstd") as metadata,
        ):
            waiting: list[pa.RecordBatch] = []
            for rows in split.rows:
                labels = rows.samples.labels.tolist()
                names = [
                    f"{folders[label]}/{stem}.png"
                    for label, stem in zip(labels, rows.stems(), strict=True)
                ]
                for name, image in zip(names, rows.samples.images, strict=True):
                    sink.put(f"{split.name}/{name}", image)
                arrays = [pa.array(names, pa.string()), *provenance(rows)]
                waiting.append(pa.record_batch(arrays, schema=schema))
                if len(waiting) == PARTS_TOGETHER:
                    metadata.write_table(pa.Table.from_batches(waiting, schema))
                    waiting.clear()
            if waiting:
                metadata.write_table(pa.Table.from_batches(waiting, schema))
    put_classes(sink, info.class_names)
    put_classes(sink, folders, FOLDERS)


FORMAT = Format(
    "imagefolder",
    "folders of PNG files, one a class, with the metadata in a table beside them",
    write,
    _LOADING,
    advice=_ADVICE,
    by_class=True,
    split_files="{split}/**",
    records=(
        Records(
            "images",
            "Every image, with its split and its file in it; `metadata` has its label, under the "
            "same `split` and `file_name`.",
            "*/*/*.png",
            "image/png",
            (
                split_in("^(?:.*/)?(train|validation|test)/[^/]+/[^/]+$"),
                ("file", "sc:Text", {"fileProperty": "fullpath"}, None),
                (
                    "file_name",
                    "sc:Text",
                    {"fileProperty": "fullpath"},
                    {"regex": "^(?:.*/)?([^/]+/[^/]+)$"},
                ),
                ("image", "sc:ImageObject", {"fileProperty": "content"}, None),
            ),
        ),
        Records(
            "metadata",
            "The label of every image, and where it comes from.",
            "*/metadata.parquet",
            "application/x-parquet",
            (
                split_in("^(?:.*/)?(train|validation|test)/[^/]+$"),
                *column_fields(COLUMNS),
            ),
        ),
    ),
)
