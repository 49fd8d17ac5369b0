"""Every export is reopened by the loaders that its users have, and compared image by image."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import webdataset
from drawing import CASES, check_images, pixels
from PIL import Image
from torchvision.datasets import MNIST, ImageFolder

from datagen.export import tfrecord
from datagen.export import webdataset as our_webdataset
from datagen.export.protocol import missing_before_others


def _by_digest(drawn: Any, split: str) -> dict[str, Any]:
    return {
        hashlib.sha256(image.tobytes()).hexdigest(): (stem, label, synthetic)
        for stem, label, image, synthetic in drawn.all_rows(split)
    }


@pytest.mark.parametrize("name", ["parquet", "imagefolder"])
def test_datasets_library_reads_labels_names_and_pixels(
    name: str, whole: Any, load_dataset: Any, tmp_path: Path
) -> None:
    whole.write(name, tmp_path / "set")
    loaded = load_dataset(tmp_path / "set")
    assert set(loaded) == set(whole.info.counts)
    for split, rows in loaded.items():
        assert rows.features["label"].names == list(whole.names)
        check_images(((row["image"], row["label"]) for row in rows), whole, split)
        kinds = _by_digest(whole, split)
        for row in rows:
            array = pixels(row["image"], whole.info.image_shape[0])
            _, _, synthetic = kinds[hashlib.sha256(array.tobytes()).hexdigest()]
            assert row["synthetic"] is synthetic


@pytest.mark.parametrize("name", ["parquet", "imagefolder"])
def test_datasets_library_reads_where_each_image_comes_from(
    name: str, draw: Any, load_dataset: Any, tmp_path: Path
) -> None:
    drawn = draw(CASES["ordinary"], real={"train": {"dog": 1}})
    drawn.write(name, tmp_path / "set")
    rows = load_dataset(tmp_path / "set")["train"]
    made = next(row for row in rows if row["synthetic"] and row["index"] == 7)
    assert {key: made[key] for key in made if key not in {"image", "file_name"}} == {
        "label": 1,
        "synthetic": True,
        "index": 7,
        "job": "0192f0c1-0000-7000-8000-000000000001",
        "model": "ab" * 32,
        "sampler": "prior",
        "seed": 9,
        "attempt": 0,
        "score": pytest.approx(0.7059),
        "judged_label": 1,
        "first_source": None,
        "second_source": None,
        "source_file": None,
        "digest": hashlib.sha256(drawn.files[7]).hexdigest(),
    }
    (real,) = (row for row in rows if not row["synthetic"])
    told = {key: real[key] for key in real if real[key] is not None}
    assert {key: told[key] for key in told if key not in {"image", "file_name", "digest"}} == {
        "label": 1,
        "synthetic": False,
        "index": 0,
        "source_file": "photos/0.jpg",
    }


def test_datasets_library_streams_webdataset(whole: Any, load_dataset: Any, tmp_path: Path) -> None:
    whole.write("webdataset", tmp_path / "set")
    loaded = load_dataset(tmp_path / "set")
    assert set(loaded) == set(whole.info.counts)
    for split, rows in loaded.items():
        check_images(((row["png"], row["cls"]) for row in rows), whole, split)
        assert {row["json"]["label_name"] for row in rows} <= set(whole.names)


# The library leaves the files that it has read to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_its_tars(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(our_webdataset, "ROWS_PER_FILE", 4)
    whole.write("webdataset", tmp_path)
    for split in whole.info.counts:
        tars = sorted(str(path) for path in (tmp_path / split).glob("*.tar"))
        assert len(tars) == -(-int(whole.info.counts[split].sum()) // 4)
        samples = list(
            webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode("pilrgb" if
            whole.info.image_shape[0] == 3 else "l8")
        )  # fmt: skip
        check_images(((sample["png"], sample["cls"]) for sample in samples), whole, split)
        stems = [stem for stem, *_ in whole.all_rows(split)]
        assert sorted(sample["__key__"] for sample in samples) == sorted(stems)


def test_torchvision_numbers_the_class_folders_as_we_do(whole: Any, tmp_path: Path) -> None:
    whole.write("imagefolder", tmp_path)
    for split, counts in whole.info.counts.items():
        labels = {stem: label for stem, label, *_ in whole.all_rows(split)}
        if missing_before_others(counts):
            _make_missing(tmp_path, split)
        folder = ImageFolder(str(tmp_path / split), allow_empty=True)
        assert {Path(path).stem: label for path, label in folder.samples} == labels
        check_images(
            ((folder[number][0], label) for number, (_, label) in enumerate(folder.samples)),
            whole,
            split,
        )


def _make_missing(root: Path, split: str) -> None:
    """What the card says for classes without images in a split, which have no folder there."""
    for name in (root / "folders.txt").read_text().split("\n")[:-1]:
        (root / split / name).mkdir(exist_ok=True)


def _as_timm(root: Path, class_map: Path | None = None) -> list[tuple[Path, int]]:
    """Pictures below a folder with their class numbers, by the rules of timm's image folders."""
    pictures = [path for path in root.rglob("*") if path.suffix in {".png", ".jpg", ".jpeg"}]
    labels = ["" if path.parent == root else path.parent.name for path in pictures]

    def natural(name: str) -> list[int | str]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower())]

    names: list[str] = sorted(set(labels), key=natural)
    if class_map is not None:
        names = [line.strip() for line in class_map.read_text().split("\n")[:-1]]
    return [(path, names.index(label)) for path, label in zip(pictures, labels, strict=True)]


def test_timm_numbers_the_class_folders_as_we_do(whole: Any, tmp_path: Path) -> None:
    whole.write("imagefolder", tmp_path)
    for split, counts in whole.info.counts.items():
        labels = {stem: label for stem, label, *_ in whole.all_rows(split)}
        remedy = tmp_path / "folders.txt" if missing_before_others(counts) else None
        found = _as_timm(tmp_path / split, remedy)
        assert {path.stem: label for path, label in found} == labels


def test_loader_that_is_given_the_root_finds_no_class_but_ours(drawn: Any, tmp_path: Path) -> None:
    drawn.write("imagefolder", tmp_path)
    assert {path.parent.name for path, _ in _as_timm(tmp_path)} == set(drawn.names)
    assert ImageFolder(str(tmp_path)).classes == ["train"]
    page = (tmp_path / "contact-sheet.html").read_text()
    sheet = base64.b64decode(page.partition("base64,")[2].partition('"')[0])
    with Image.open(io.BytesIO(sheet)) as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize("case", CASES)
def test_torchvisions_mnist_reads_idx(case: str, draw: Any, tmp_path: Path) -> None:
    real = {"test": {next(iter(CASES[case])): 3}} if case == "ordinary" else None
    drawn = draw(CASES[case], real=real)
    drawn.write("idx", tmp_path)
    for split, train in (("train", True), ("test", False)):
        if split in drawn.info.counts:
            found = MNIST(str(tmp_path), train=train)
            check_images(zip(found.data.numpy(), found.targets, strict=True), drawn, split)
        else:
            size = (tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte").stat().st_size
            assert size == 16


def test_numpy_reads_npz_without_pickle(whole: Any, tmp_path: Path) -> None:
    whole.write("npz", tmp_path)
    with np.load(tmp_path / "dataset.npz", allow_pickle=False) as arrays:
        assert arrays["class_names"].tolist() == list(whole.names)
        for key, split in (("train", "train"), ("val", "validation"), ("test", "test")):
            if split not in whole.info.counts:
                assert split == "validation" or len(arrays[f"x_{key}"]) == 0
                continue
            images, labels = arrays[f"x_{key}"], arrays[f"y_{key}"]
            assert (images.dtype, labels.dtype) == (np.uint8, np.uint8)
            check_images(zip(images, labels, strict=True), whole, split)


def _examples(path: Path) -> Iterator[dict[str, Any]]:
    """The features of each record, as TensorFlow would read them, every checksum checked."""

    def unmasked(stored: bytes) -> int:
        value = (struct.unpack("<I", stored)[0] - 0xA282EAD8) % 2**32
        return (value << 15 | value >> 17) % 2**32

    with path.open("rb") as file:
        while head := file.read(8):
            assert unmasked(file.read(4)) == google_crc32c.value(head)
            payload = file.read(struct.unpack("<Q", head)[0])
            assert unmasked(file.read(4)) == google_crc32c.value(payload)
            ((_, features),) = _fields(payload)
            found = {}
            for _, entry in _fields(features):
                (_, key), (_, feature) = _fields(entry)
                ((kind, values),) = _fields(feature)
                ((_, value),) = _fields(values)
                found[key.decode()] = value if kind == 1 else _varint(value, 0)[0]
            yield found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not data[at - 1] & 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        assert data[at] & 7 == 2
        number = data[at] >> 3
        length, at = _varint(data, at + 1)
        yield number, data[at : at + length]
        at += length


def test_records_hold_fiftyones_features(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tfrecord, "ROWS_PER_FILE", 5)
    whole.write("tfrecord", tmp_path)
    channels, height, width = whole.info.image_shape
    place = {name: label for label, name in enumerate(whole.names)}
    for split, counts in whole.info.counts.items():
        files = sorted((tmp_path / split).iterdir())
        many = -(-int(counts.sum()) // 5)
        assert [file.name for file in files] == [
            f"tf.records-{number:05d}-of-{many:05d}" for number in range(many)
        ]
        records = [record for file in files for record in _examples(file)]
        assert {(row["depth"], row["height"], row["width"]) for row in records} == {
            (channels, height, width)
        }
        assert {row["format"] for row in records} == {b"png"}
        assert all(row["filename"].endswith(b".png") for row in records)
        assert all(place[row["label"].decode()] == row["label_index"] for row in records)
        check_images(
            ((Image.open(io.BytesIO(row["image_bytes"])), row["label_index"]) for row in records),
            whole,
            split,
        )


def test_stylegans_rules_are_kept(whole: Any, tmp_path: Path) -> None:
    whole.write("stylegan", tmp_path)
    for split in whole.info.counts:
        with zipfile.ZipFile(tmp_path / f"{split}.zip") as archive:
            assert all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
            labels = dict(json.loads(archive.read("dataset.json"))["labels"])
            images = [name for name in archive.namelist() if name.endswith(".png")]
            # What its ImageFolderDataset does: sorted names, a label for every one.
            assert sorted(images) == sorted(labels)
            assert images[0] == "00000/img00000000.png"
            check_images(
                ((Image.open(io.BytesIO(archive.read(name))), labels[name]) for name in images),
                whole,
                split,
            )


def test_fiftyones_layout_is_kept(whole: Any, tmp_path: Path) -> None:
    whole.write("fiftyone", tmp_path)
    for split in whole.info.counts:
        document = json.loads((tmp_path / split / "labels.json").read_text())
        assert document["classes"] == list(whole.names)
        images = {path.stem: path for path in (tmp_path / split / "data").iterdir()}
        assert set(images) == set(document["labels"])
        check_images(
            ((Image.open(images[stem]), told["label"])
             for stem, told in document["labels"].items()),
            whole,
            split,
        )  # fmt: skip
        for told in document["labels"].values():
            assert told["attributes"]["synthetic"] is (told["confidence"] is not None)


@pytest.mark.parametrize("name", ["idx", "imagefolder", "stylegan", "tfrecord", "webdataset"])
@pytest.mark.parametrize("case", ["names with white space", "odd names", "one class"])
def test_class_names_stand_beside_numbers_as_they_are(
    name: str, case: str, draw: Any, tmp_path: Path
) -> None:
    drawn = draw(CASES[case], shape=(1, 8, 8))
    drawn.write(name, tmp_path)
    text = (tmp_path / "classes.txt").read_bytes().decode()
    assert text.split("\n") == [*drawn.names, ""]
