"""MNIST's IDX files: `MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte`, all four.

The format is http://yann.lecun.com/exdb/mnist/: big-endian, a magic number, the length of each
axis, the values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from datagen.errors import InvalidRequest
from datagen.export.classes import put_classes
from datagen.export.info import ExportInfo
from datagen.export.pixels import MAX_BYTE_CLASSES, pixels_of
from datagen.export.protocol import Format, ImageShape
from datagen.export.rows import Split
from datagen.export.sinks import Sink

FOLDER = "MNIST/raw"
_FILES = {"train": "train", "test": "t10k"}
_IMAGES, _LABELS = 0x0803, 0x0801
_LOADING = """\
from torchvision.datasets import MNIST
images = MNIST("path/to/this/folder", train=True)  # labels are numbers; classes.txt names them"""
_ADVICE = """\
- `classes.txt` names the labels: line N, counted from 0, is class N. torchvision's `MNIST.classes`
  are always the ten digits, whatever the labels are.
- A split without images has files without values, for which torchvision raises a ValueError:
  `MNIST(..., train=False)` needs images in `test`."""


def write(splits: Iterable[Split], info: ExportInfo, sink: Sink) -> None:
    """Write images and labels of both splits; one without images has files without values."""
    _, height, width = info.image_shape
    left = dict(_FILES)
    for split in splits:
        start = f"{FOLDER}/{left.pop(split.name)}"
        labels: list[bytes] = []
        with sink.open(f"{start}-images-idx3-ubyte") as images:
            images.write(struct.pack(">4I", _IMAGES, split.total, height, width))
            for rows in split.rows:
                images.write(pixels_of(rows).tobytes())
                labels.append(rows.samples.labels.astype("u1").tobytes())
        sink.put(f"{start}-labels-idx1-ubyte", _labels(split.total) + b"".join(labels))
    for name in left.values():
        sink.put(
            f"{FOLDER}/{name}-images-idx3-ubyte", struct.pack(">4I", _IMAGES, 0, height, width)
        )
        sink.put(f"{FOLDER}/{name}-labels-idx1-ubyte", _labels(0))
    put_classes(sink, info.class_names)


def _labels(count: int) -> bytes:
    return struct.pack(">2I", _LABELS, count)


def _check(_image_shape: ImageShape, class_names: Sequence[str]) -> None:
    if len(class_names) > MAX_BYTE_CLASSES:
        raise InvalidRequest(
            f"The format 'idx' numbers its classes from 0 to 255, and there are "
            f"{len(class_names)}; 'parquet' and 'imagefolder' hold as many as you like.",
            field="format",
        )


FORMAT = Format(
    "idx",
    "MNIST's four files, which torchvision's MNIST opens",
    write,
    _LOADING,
    rgb=False,
    metadata=False,
    splits=("train", "test"),
    check=_check,
    advice=_ADVICE,
)
