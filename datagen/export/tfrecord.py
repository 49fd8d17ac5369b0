"""TFRecord files in FiftyOne's layout: `<split>/tf.records-00000-of-00001`.

A record is its length, the masked CRC-32C of the length, the payload and its masked CRC-32C; the
payload is a `tf.train.Example`, a protocol buffer, which is written here field by field.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import google_crc32c

from datagen.export.classes import put_classes
from datagen.export.info import ExportInfo
from datagen.export.protocol import Format
from datagen.export.rows import Split, in_files
from datagen.export.sinks import Sink

ROWS_PER_FILE = 100_000
_MASK = 0xA282EAD8
_LOADING = """\
import fiftyone as fo
images = fo.Dataset.from_dir(
    dataset_type=fo.types.TFImageClassificationDataset,
    tf_records_path="path/to/this/folder/train/tf.records-*",
    images_dir="/tmp/images",
)

# or with TensorFlow:
import glob
import tensorflow as tf
features = {
    "image_bytes": tf.io.FixedLenFeature([], tf.string),  # a PNG file
    "label_index": tf.io.FixedLenFeature([], tf.int64),
}
records = tf.data.TFRecordDataset(sorted(glob.glob("path/to/this/folder/train/tf.records-*")))
images = records.map(lambda record: tf.io.parse_single_example(record, features))"""
_ADVICE = """\
- Features, one value each: `image_bytes` (bytes, a PNG file), `label_index` (int64, the number of
  the class), `label` (bytes, its name in UTF-8), `filename` and `format` (bytes), `height`, `width`
  and `depth` (int64). `classes.txt` has the names in order: line N, counted from 0, is class N.
- Ray needs TensorFlow to read records, and DALI an index of each file (`tfrecord2idx`); both read
  the format `webdataset` as it is."""


def write(splits: Iterable[Split], info: ExportInfo, sink: Sink) -> None:
    """Write each split into a folder of its name, a hundred thousand records a file."""
    channels, height, width = info.image_shape
    # The fields are in the order of their names, as protocol buffers write maps for stable bytes.
    first = _feature("depth", _integer(channels))
    kind, tall, wide = (
        _feature("format", _text(b"png")),
        _feature("height", _integer(height)),
        _feature("width", _integer(width)),
    )
    labels = [
        _feature("label", _text(name.encode())) + _feature("label_index", _integer(label))
        for label, name in enumerate(info.class_names)
    ]
    for split in splits:
        files = -(-split.total // ROWS_PER_FILE)
        for number, parts in enumerate(in_files(split.rows, ROWS_PER_FILE)):
            with sink.open(f"{split.name}/tf.records-{number:05d}-of-{files:05d}") as file:
                for rows in parts:
                    file.write(
                        b"".join(
                            _record(
                                first
                                + _feature("filename", _text(b"%b.png" % stem.encode()))
                                + kind + tall
                                + _feature("image_bytes", _text(image))
                                + labels[label] + wide
                            )
                            for stem, image, label in zip(
                                rows.stems(),
                                rows.samples.images,
                                rows.samples.labels.tolist(),
                                strict=True,
                            )
                        )
                    )  # fmt: skip
    put_classes(sink, info.class_names)


def _record(features: bytes) -> bytes:
    payload = _field(1, features)
    length = struct.pack("<Q", len(payload))
    return b"%b%b%b%b" % (length, _masked(length), payload, _masked(payload))


def _masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF)


def _feature(name: str, value: bytes) -> bytes:
    """One entry of the map `Features.feature`."""
    return _field(1, _field(1, name.encode()) + _field(2, value))


def _text(data: bytes) -> bytes:
    """A feature with a list of one value of bytes."""
    return _field(1, _field(1, data))


def _integer(value: int) -> bytes:
    """A feature with a list of one integer."""
    return _field(3, _field(1, _varint(value)))


def _field(number: int, data: bytes) -> bytes:
    """A field of length-delimited type."""
    return b"%c%b%b" % (number << 3 | 2, _varint(len(data)), data)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


FORMAT = Format(
    "tfrecord",
    "TensorFlow's record files, in the layout that FiftyOne reads",
    write,
    _LOADING,
    metadata=False,
    advice=_ADVICE,
)
