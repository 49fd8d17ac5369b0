"""WebDataset: `<split>/<split>-000000.tar`, three members a sample: PNG, label, metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable

from datagen.export.classes import put_classes
from datagen.export.columns import records
from datagen.export.info import ExportInfo
from datagen.export.protocol import Format
from datagen.export.rows import Split, in_files
from datagen.export.sinks import Sink
from datagen.export.tar import END, member

ROWS_PER_FILE = 10_000
_LOADING = """\
import webdataset as wds
images = wds.WebDataset("path/to/this/folder/train/train-{000000..000009}.tar", shardshuffle=False)
images = images.decode("pil").to_tuple("png", "cls")  # as many tars as there are

# or, with provenance:
from datasets import load_dataset
images = load_dataset("path/to/this/folder")["train"]"""
_ADVICE = """\
- `classes.txt` names the numbers in `.cls`: line N, counted from 0, is class N.
- webdataset shares whole tars out to workers: take no more workers than there are tars, or
  `WebDataset(..., empty_check=False)`; else it raises a ValueError.
- Ray (`ray.data.read_webdataset`) and DALI (`fn.readers.webdataset`) read these tars without an
  index."""
_encoded = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def write(splits: Iterable[Split], info: ExportInfo, sink: Sink) -> None:
    """Write each split into a folder of its name, ten thousand samples a tar."""
    names = info.class_names
    for split in splits:
        for number, parts in enumerate(in_files(split.rows, ROWS_PER_FILE)):
            with sink.open(f"{split.name}/{split.name}-{number:06d}.tar") as file:
                for rows in parts:
                    pieces: list[bytes] = []
                    for stem, image, record in zip(
                        rows.stems(), rows.samples.images, records(rows), strict=True
                    ):
                        label = record["label"]
                        told = _encoded({"label_name": names[label], **record})
                        # Side by side and under one key, or a loader takes them for three samples.
                        pieces += member(f"{stem}.png", image)
                        pieces += member(f"{stem}.cls", b"%d" % label)
                        pieces += member(f"{stem}.json", told.encode())
                    file.write(b"".join(pieces))
                file.write(END)
    put_classes(sink, names)


FORMAT = Format(
    "webdataset",
    "tar files of PNG, label and JSON side by side, to be streamed",
    write,
    _LOADING,
    split_files="{split}/*.tar",
    advice=_ADVICE,
)
