from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from PIL import Image
from reading import opened, read

from datagen.datasets.packing import pack
from datagen.errors import InvalidFile


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(value: Any) -> bytes:
    """A feature of bytes, of whole numbers, or of floats; whole numbers packed, as usual."""
    values = value if isinstance(value, list) else [value]
    if isinstance(values[0], bytes):
        return field(1, b"".join(field(1, one) for one in values))
    if isinstance(values[0], float):
        return field(2, field(1, struct.pack(f"<{len(values)}f", *values)))
    return field(3, field(1, b"".join(map(varint, values))))


def example(**features: Any) -> bytes:
    """A `tf.train.Example`; two underscores in a name stand for a slash."""
    entries = (
        field(1, field(1, name.replace("__", "/").encode()) + field(2, feature(value)))
        for name, value in features.items()
    )
    return field(1, b"".join(entries))


def masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (4, 4), value).save(out, "PNG")
    return out.getvalue()


def written(path: Path, *examples: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(record, examples)))
    return path.parent


@pytest.mark.parametrize("image", ["image_bytes", "image__encoded", "image", "image_raw"])
@pytest.mark.parametrize("label", ["label_index", "image__class__label", "label", "class"])
def test_features_are_found_by_their_usual_names(tmp_path, image, label):
    given = ({image: png(n), label: n % 2, "other": [0.5, 1.5], "more": b"x"} for n in range(4))
    written(tmp_path / "a.tfrecord", *(example(**features) for features in given))

    found = opened(tmp_path)

    assert found.report.source == "tfrecord"
    assert found.splits["train"].class_names == ("0", "1")
    assert found.splits["train"].labels.tolist() == [0, 1, 0, 1]
    assert found.splits["train"].images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("label", ["label", "image__class__text", "class_name"])
def test_labels_may_be_text(tmp_path, label):
    written(
        tmp_path / "a.tfrecords",
        *(example(image=png(n), **{label: name.encode()}) for n, name in enumerate(["ü", "a"])),
    )

    assert read(tmp_path)["train"].class_names == ("a", "ü")


def test_text_names_the_class_where_a_number_stands_beside_it(tmp_path):
    given = [(5, b"dog"), (7, b"cat")]
    written(
        tmp_path / "a.tfrecord",
        *(
            example(image__encoded=png(n), image__class__label=n, image__class__text=name)
            for n, name in given
        ),
    )

    assert read(tmp_path)["train"].class_names == ("cat", "dog")


@pytest.mark.parametrize("names", ["classes.txt", "label.labels.txt"])
@pytest.mark.parametrize(
    "features",
    [
        [{"label": 1}, {"label": 0}],
        [{"label": b"2"}, {"label": b"1"}],
        [{"label": b"n02", "label_index": 1}, {"label": b"n01", "label_index": 0}],
        [{"label": b"2", "label_index": 1}, {"label": b"1", "label_index": 0}],
    ],
)
def test_names_beside_the_files_name_the_classes(tmp_path, names, features):
    written(
        tmp_path / "train.tfrecord",
        *(example(image=png(n), **one) for n, one in enumerate(features)),
    )
    (tmp_path / names).write_text("1\n2\n3\n")

    pack(tmp_path, tmp_path / "packed")
    found = read(tmp_path / "packed")["train"]

    assert (found.class_names, found.labels.tolist()) == (("1", "2", "3"), [1, 0])


@pytest.mark.parametrize(
    "names",
    [
        ["train/tf.records-00000-of-00001", "val/tf.records-00000-of-00001"],
        ["train.tfrecord", "validation.tfrecords"],
        ["flowers-train.tfrecord-00000-of-00001", "flowers-valid.tfrecord-00000-of-00001"],
        ["train-00000-of-00001.tfrecord", "dev-00000-of-00001.tfrecord"],
        ["train/a.tfrec", "validation/a.tfrec"],
    ],
)
def test_splits_are_found_by_folders_and_by_names(tmp_path, names):
    for number, name in enumerate(names):
        written(tmp_path / name, example(image=png(number), label=number))

    assert list(read(tmp_path)) == ["train", "validation"]


def test_files_come_in_their_order_and_an_empty_one_is_none(tmp_path):
    for number in range(3):
        values = [] if number == 1 else [example(image=png(number), label=0)]
        written(tmp_path / "train" / f"tf.records-{number:05d}-of-00003", *values)

    assert read(tmp_path)["train"].images[:, 0, 0, 0].tolist() == [0, 2]


def test_file_given_alone_keeps_its_name_and_the_names_beside_it(tmp_path):
    written(tmp_path / "TEST.TFRecord", GOOD)
    written(tmp_path / "train.tfrecord", *[example(image=png(n), label=n) for n in range(2)])
    (tmp_path / "classes.txt").write_text("zoo\nant\n")

    pack(tmp_path / "train.tfrecord", tmp_path / "packed")

    assert read(tmp_path / "packed")["train"].class_names == ("zoo", "ant")
    assert list(read(tmp_path)) == ["train", "test"]


def test_gzipped_records_are_the_same(tmp_path):
    data = b"".join(record(example(image=png(n), label=n)) for n in range(3))
    (tmp_path / "a.tfrecord").write_bytes(gzip.compress(data))

    assert len(read(tmp_path)["train"]) == 3


def test_record_whose_length_begins_as_gzip_does_is_no_gzip(tmp_path):
    payload = example(image=png(1), label=0)
    # The length 0x88b1f begins with the bytes 1f 8b 08: an unknown field fills it up.
    payload += field(15, bytes(0x88B1F - len(payload) - 4))
    written(tmp_path / "a.tfrecord", payload)

    assert (tmp_path / "a.tfrecord").read_bytes().startswith(b"\x1f\x8b\x08")
    assert len(read(tmp_path)["train"]) == 1


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("prefix", ["", "image__"])
def test_plain_pixels_are_read_by_the_sides_beside_them(tmp_path, depth, prefix):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, depth), dtype=np.uint8)
    named = {"height": 5, "width": 4, ("channels" if prefix else "depth"): depth}
    sides = {f"{prefix}{key}": value for key, value in named.items()}
    written(
        tmp_path / "a.tfrecord",
        *(example(image_raw=one.tobytes(), label=0, **sides) for one in pixels),
    )

    assert np.array_equal(read(tmp_path)["train"].images, pixels.transpose(0, 3, 1, 2))


def test_numbers_that_are_not_packed_are_read(tmp_path):
    number = field(1, field(1, b"label") + field(2, field(3, varint(1 << 3) + varint(7))))
    written(
        tmp_path / "a.tfrecord",
        field(1, number + field(1, field(1, b"image") + field(2, feature(png(1))))),
    )

    assert read(tmp_path)["train"].class_names == ("7",)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ({"label": 0}, r"a\.tfrecord record 1 has the features label; a picture is needed"),
        ({"image": png(1)}, "record 1 has the features image; a label is needed"),
        ({"image": [0.5, 0.5], "label": 0}, "a picture is needed in bytes"),
        ({"image": [png(1), png(2)], "label": 0}, "a picture is needed in bytes"),
        ({"image": b"no picture", "label": 0}, "record 1"),
        ({"image": png(1), "label": [0, 1]}, "record 1 has 2 values in 'label'; one label"),
        ({"image": png(1), "label": 1.0}, "in 'label'; one label is needed"),
        ({"image": png(1), "label": b"\xff"}, "record 1 has a label that is no UTF-8 text"),
        ({"image": png(1), "label": b""}, "record 1 has a label that is empty text"),
        ({"image": png(1), "label": 5}, "is 5, and 2 classes are named"),
        ({"image": png(1), "label": b"cow"}, "'cow' is not among"),
        ({"image": png(1), "label": -1}, "has no label"),
    ],
)
def test_records_that_cannot_be_used_are_explained(tmp_path, features, told):
    written(tmp_path / "a.tfrecord", example(image=png(0), label=0), example(**features))
    (tmp_path / "classes.txt").write_text("a\nb\n")

    with pytest.raises(InvalidFile, match=told):
        read(tmp_path)


GOOD = example(image=png(0), label=0)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (record(GOOD)[:-1], "record 1 ends early"),
        (record(GOOD)[:20], "record 1 ends early"),
        (record(GOOD)[:5], "record 1 ends within its header"),
        (b"\1" + record(GOOD)[1:], "record 1 is damaged: the checksum of its length"),
        (record(GOOD)[:-1] + b"?", "record 1 is damaged: its checksum"),
        (struct.pack("<Q", 1 << 60) + masked(struct.pack("<Q", 1 << 60)), "too much for a picture"),
        (record(b"\x0a\x7f"), "record 1 is not a tf.train.Example: a field is longer"),
        (record(b"\xff" * 20), "record 1 is not a tf.train.Example: a number is too long"),
        (record(b"\x0a\x80"), "record 1 is not a tf.train.Example: it ends within a number"),
        (record(field(1, field(1, field(1, b"\xff")))), "record 1 is not a tf.train.Example"),
        (record(field(1, b"\x0a\x00" * 100_001)), "more than 100,000 fields"),
        (record(b"\x0b"), "a field has the type 3"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_damage_is_an_error_with_file_and_record(tmp_path, data, told, zipped):
    whole = record(GOOD) + data
    (tmp_path / "a.tfrecord").write_bytes(gzip.compress(whole) if zipped else whole)

    with pytest.raises(InvalidFile, match=rf"a\.tfrecord.*{told}"):
        read(tmp_path)


def test_damaged_gzip_is_an_error(tmp_path):
    data = gzip.compress(b"".join(map(record, [GOOD] * 5)))
    (tmp_path / "a.tfrecord").write_bytes(data[:-9])

    with pytest.raises(InvalidFile, match=r"a\.tfrecord cannot be unzipped"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            ["train-00000-of-00003.tfrecord", "train-00002-of-00003.tfrecord"],
            "Of the 3 files train-\\*-of-00003.tfrecord there are 2 here",
        ),
        (["train_test.tfrecord"], "more than one split"),
    ],
)
def test_files_that_are_no_whole_dataset_are_refused(tmp_path, names, told):
    for name in names:
        written(tmp_path / name, GOOD)

    with pytest.raises(InvalidFile, match=told):
        read(tmp_path)


def test_class_folders_beside_the_files_are_refused_rather_than_guessed(tmp_path):
    written(tmp_path / "a.tfrecord", GOOD)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(png(1))

    with pytest.raises(InvalidFile, match=r"a\.tfrecord.*'cat'"):
        read(tmp_path)


def test_pictures_are_called_what_the_record_calls_them(tmp_path):
    written(tmp_path / "a.tfrecord", example(image=png(0), label=0, filename=b"photos/1.png"))

    assert opened(tmp_path).names["train"].texts(0, 1) == ["photos/1.png"]
