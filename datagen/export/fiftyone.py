"""FiftyOne's image classification dataset: `<split>/data/<name>.png` and `<split>/labels.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from datagen.export.columns import records, split_in
from datagen.export.info import ExportInfo
from datagen.export.protocol import Format, Records
from datagen.export.rows import Rows, Split
from datagen.export.sinks import Sink

_LOADING = """\
import fiftyone as fo
images = fo.Dataset.from_dir(
    "path/to/this/folder/train", fo.types.FiftyOneImageClassificationDataset
)"""
_ADVICE = """\
- FiftyOne imports one split at a time; `images.tag_samples("train")` keeps its name."""
_encoded = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def write(splits: Iterable[Split], info: ExportInfo, sink: Sink) -> None:
    """Write the images of each split, and what is known of them in one file beside them."""
    for split in splits:
        with sink.open(f"{split.name}/labels.json") as labels:
            head = _encoded({"classes": list(info.class_names)}).removesuffix("}")
            labels.write(f'{head},"labels":{{'.encode())
            comma = ""
            for rows in split.rows:
                for stem, image in zip(rows.stems(), rows.samples.images, strict=True):
                    sink.put(f"{split.name}/data/{stem}.png", image)
                labels.write(f"{comma}{','.join(_lines(split.name, rows))}".encode())
                comma = ","
            labels.write(b"}}\n")


def _lines(split: str, rows: Rows) -> Iterator[str]:
    for stem, record in zip(rows.stems(), records(rows), strict=True):
        label, score = record.pop("label"), record.get("score")
        # By which Croissant's readers find the entry of an image: names may be those of two splits.
        place = {"file": f"{split}/data/{stem}.png"}
        told = {"label": label, "confidence": score, "attributes": place | record}
        yield f"\n{_encoded(stem)}:{_encoded(told)}"


FORMAT = Format(
    "fiftyone",
    "PNG files and labels.json, which FiftyOne imports with all attributes",
    write,
    _LOADING,
    advice=_ADVICE,
    records=(
        Records(
            "images",
            "Every image with its split; `metadata` has its label, under the same `file`.",
            "*/data/*.png",
            "image/png",
            (
                ("file", "sc:Text", {"fileProperty": "fullpath"}, None),
                split_in("^(?:.*/)?(train|validation|test)/data/[^/]+$"),
                ("image", "sc:ImageObject", {"fileProperty": "content"}, None),
            ),
        ),
        Records(
            "metadata",
            "The label of every image, and where it comes from.",
            "*/labels.json",
            "application/json",
            (
                ("file", "sc:Text", {"jsonPath": "labels.*.attributes.file"}, None),
                split_in("^(?:.*/)?(train|validation|test)/[^/]+$"),
                ("label", "sc:Integer", {"jsonPath": "labels.*.label"}, None),
                ("synthetic", "sc:Boolean", {"jsonPath": "labels.*.attributes.synthetic"}, None),
                ("index", "sc:Integer", {"jsonPath": "labels.*.attributes.index"}, None),
                ("score", "sc:Float", {"jsonPath": "labels.*.confidence"}, None),
                ("digest", "sc:Text", {"jsonPath": "labels.*.attributes.digest"}, None),
            ),
        ),
    ),
)
