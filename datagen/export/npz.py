"""NPZ as Keras has it: `x_train`, `y_train`, `x_test`, `y_test`, and `class_names`."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from datagen.export.info import ExportInfo
from datagen.export.pixels import MAX_BYTE_CLASSES, pixels_of
from datagen.export.protocol import Format
from datagen.export.rows import Split
from datagen.export.sinks import Sink, ZipSink

FILE = "dataset.npz"
_KEYS = {"train": "train", "validation": "val", "test": "test"}
_LOADING = """\
import numpy as np
arrays = np.load("path/to/this/folder/dataset.npz")  # allow_pickle is not needed
images, labels, names = arrays["x_train"], arrays["y_train"], arrays["class_names"]"""
_ADVICE = """\
- `class_names[n]` is the name of label n.
- `x_train` and `x_test` are always there, without values where the split has no images; `x_val` is
  there only where there are such images."""


def write(splits: Iterable[Split], info: ExportInfo, sink: Sink) -> None:
    """Write one file with the arrays of all splits; train and test are there even if empty."""
    channels, height, width = info.image_shape
    one = (height, width) if channels == 1 else (height, width, channels)
    kind = np.dtype("u1" if len(info.class_names) <= MAX_BYTE_CLASSES else "<i8")
    empty = {name: _KEYS[name] for name in ("train", "test")}
    with sink.open(FILE) as file, ZipSink(file) as arrays:
        for split in splits:
            key = empty.pop(split.name, _KEYS[split.name])
            labels: list[np.ndarray] = []
            with arrays.open(f"x_{key}.npy") as images:
                _write_header(images, (split.total, *one), np.dtype("u1"))
                for rows in split.rows:
                    images.write(pixels_of(rows).tobytes())
                    labels.append(rows.samples.labels.astype(kind))
            arrays.put(f"y_{key}.npy", _array(np.concatenate(labels)))
        for key in empty.values():
            arrays.put(f"x_{key}.npy", _array(np.zeros((0, *one), np.uint8)))
            arrays.put(f"y_{key}.npy", _array(np.zeros(0, kind)))
        arrays.put("class_names.npy", _array(np.array(info.class_names, dtype=np.str_)))


def _write_header(file: BinaryIO, shape: tuple[int, ...], kind: np.dtype) -> None:
    described = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, described)


def _array(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    npy.write_array(out, values, allow_pickle=False)
    return out.getvalue()


FORMAT = Format(
    "npz",
    "one NumPy file of arrays, named as in Keras' MNIST",
    write,
    _LOADING,
    metadata=False,
    advice=_ADVICE,
)
