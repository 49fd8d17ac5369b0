from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from reading import read

from datagen.datasets.idx import image_pieces, read_idx_labels
from datagen.datasets.packing import pack
from datagen.errors import InvalidFile

PIXELS = np.random.default_rng(1).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 2, 0, 0], dtype=np.uint8)


def images(pixels: np.ndarray = PIXELS, magic: int = 0x0803) -> bytes:
    return struct.pack(">4I", magic, *pixels.shape) + pixels.tobytes()


def labels(values: np.ndarray = LABELS, magic: int = 0x0801) -> bytes:
    return struct.pack(">2I", magic, len(values)) + values.tobytes()


def read_idx_images(path: Path) -> np.ndarray:
    return np.concatenate(list(image_pieces(path)))


def written(folder: Path, **files: bytes) -> Path:
    """Files `train_images`, `train_labels`, `t10k_images`, `t10k_labels` under MNIST's names."""
    for name, content in files.items():
        split, kind = name.split("_")
        axes = {"images": "idx3", "labels": "idx1"}[kind]
        (folder / f"{split}-{kind}-{axes}-ubyte").write_bytes(content)
    return folder


def test_both_splits_are_read_with_the_classes_of_both(tmp_path):
    more = np.array([3], dtype=np.uint8)
    written(tmp_path, train_images=images(), train_labels=labels())
    written(tmp_path, t10k_images=images(255 - PIXELS[:1]), t10k_labels=labels(more))

    found = read(tmp_path)

    assert list(found) == ["train", "test"]
    assert np.array_equal(found["train"].images, PIXELS[:, None])
    assert found["train"].labels.tolist() == LABELS.tolist()
    assert found["train"].class_names == found["test"].class_names == ("0", "1", "2", "3")
    assert found["test"].counts().tolist() == [0, 0, 0, 1]


def test_gzipped_files_are_the_same(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(images()))

    assert np.array_equal(read_idx_images(path), PIXELS[:, None])


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("length", [0, 3, 15, 16, 40, len(images()) - 1])
def test_truncated_file_is_named(tmp_path, zipped, length):
    path = tmp_path / "train-images-idx3-ubyte"
    cut = images()[:length]
    path.write_bytes(gzip.compress(cut) if zipped else cut)

    with pytest.raises(InvalidFile, match="train-images-idx3-ubyte"):
        read_idx_images(path)


def test_truncated_gzip_is_named(tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(labels())[:-9])

    with pytest.raises(InvalidFile, match=r"labels\.gz"):
        read_idx_labels(path)


def test_damaged_gzip_is_named(tmp_path):
    path = tmp_path / "labels.gz"
    data = bytearray(gzip.compress(labels()))
    data[-6] ^= 0xFF
    path.write_bytes(data)

    with pytest.raises(InvalidFile, match=r"labels\.gz cannot be unzipped"):
        read_idx_labels(path)


def test_trailing_bytes_are_refused_with_the_number_that_was_expected(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(labels() + b"\0")

    with pytest.raises(InvalidFile, match="after the 6 bytes"):
        read_idx_labels(path)


def test_wrong_magic_is_refused_with_the_right_one(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(images(magic=0x0D03))

    with pytest.raises(InvalidFile, match=r"0x00000d03.*0x00000803"):
        read_idx_images(path)


def test_images_without_pixels_are_refused(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(images(np.zeros((6, 0, 4), dtype=np.uint8)))

    with pytest.raises(InvalidFile, match="empty"):
        read_idx_images(path)


@pytest.mark.parametrize("zipped", [False, True])
def test_header_that_lies_about_its_size_asks_for_no_memory(tmp_path, zipped):
    path = tmp_path / "images"
    lie = struct.pack(">4I", 0x0803, 0xFFFFFFFF, 0xFFFF, 0xFFFF) + b"\0" * 64
    path.write_bytes(gzip.compress(lie) if zipped else lie)

    with pytest.raises(InvalidFile, match="at most"):
        read_idx_images(path)


def test_zip_bomb_is_refused(tmp_path):
    path = tmp_path / "images"
    head = struct.pack(">4I", 0x0803, 5_000_000, 1024, 1024)
    with path.open("wb") as file:
        file.write(gzip.compress(head))
        file.truncate(8_000_000_000)

    with pytest.raises(InvalidFile, match="scale them down"):
        read_idx_images(path)


def test_as_many_labels_as_images_are_needed(tmp_path):
    written(tmp_path, train_images=images(), train_labels=labels(LABELS[:5]))

    with pytest.raises(InvalidFile, match=r"6 images and train-labels-idx1-ubyte\s5 labels"):
        read(tmp_path)


def test_missing_half_of_a_pair_is_named(tmp_path):
    written(tmp_path, train_images=images())

    with pytest.raises(InvalidFile, match="train-labels-idx1-ubyte is not"):
        read(tmp_path)


def test_training_images_are_needed(tmp_path):
    written(tmp_path, t10k_images=images(), t10k_labels=labels())

    with pytest.raises(InvalidFile, match="no train-images-idx3-ubyte"):
        read(tmp_path)


def test_split_without_images_is_no_split(tmp_path):
    written(tmp_path, train_images=images(), train_labels=labels())
    written(tmp_path, t10k_images=images(PIXELS[:0]), t10k_labels=labels(LABELS[:0]))

    assert list(read(tmp_path)) == ["train"]


def test_dataset_without_images_is_refused(tmp_path):
    written(tmp_path, train_images=images(PIXELS[:0]), train_labels=labels(LABELS[:0]))

    with pytest.raises(InvalidFile, match="no image"):
        read(tmp_path)


@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw", "FashionMNIST/raw"])
@pytest.mark.parametrize("names", ["classes.txt", "labels.txt"])
def test_names_beside_the_files_name_the_classes(tmp_path, below, names):
    (tmp_path / below).mkdir(parents=True, exist_ok=True)
    written(tmp_path / below, train_images=images(), train_labels=labels())
    (tmp_path / below / names).write_bytes(b"\xef\xbb\xbfzoo\r\na  b\r\n3\r\n4\r\n\r\n")

    found = read(tmp_path)["train"]

    assert found.class_names == ("zoo", "a  b", "3", "4")
    assert found.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("given", ["", "MNIST", "MNIST/raw"])
def test_names_stand_above_the_folders_of_torchvision(tmp_path, given):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    written(raw, train_images=images(), train_labels=labels())
    (tmp_path / "classes.txt").write_text("zoo\nant\ncat\n")

    packed = tmp_path / "packed"
    pack(tmp_path / given, packed)

    assert read(packed)["train"].class_names == ("zoo", "ant", "cat")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\nb\n", "go up to 2, and 2 classes are named"),
        ("a\n\nb\nc\n", "line 2 is empty"),
        ("a\nb\na\n", "'a' in line 1 and in line 3"),
        ("", "line 1 is empty"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path, text, told):
    written(tmp_path, train_images=images(), train_labels=labels())
    (tmp_path / "classes.txt").write_text(text)

    with pytest.raises(InvalidFile, match=told):
        read(tmp_path)


def test_files_may_begin_with_the_name_of_their_dataset(tmp_path):
    start = "emnist-letters-"
    for split, pixels, values in (("train", PIXELS, LABELS), ("test", 255 - PIXELS, LABELS)):
        (tmp_path / f"{start}{split}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(images(pixels))
        )
        (tmp_path / f"{start}{split}-labels-idx1-ubyte").write_bytes(labels(values))

    found = read(tmp_path)

    assert np.array_equal(found["train"].images, PIXELS[:, None])
    assert np.array_equal(found["test"].images, 255 - PIXELS[:, None])


def test_files_of_several_datasets_are_refused_by_name(tmp_path):
    for start in ("emnist-letters-", "emnist-digits-"):
        (tmp_path / f"{start}train-images-idx3-ubyte").write_bytes(images())
        (tmp_path / f"{start}train-labels-idx1-ubyte").write_bytes(labels())

    with pytest.raises(InvalidFile, match=r"emnist-digits-train.*emnist-letters-train.*keep"):
        read(tmp_path)


def test_two_pairs_for_one_split_are_refused(tmp_path):
    for split in ("train", "t10k", "test"):
        written(tmp_path, **{f"{split}_images": images(), f"{split}_labels": labels()})

    with pytest.raises(InvalidFile, match=r"test-images.*t10k-images.*both hold the split test"):
        read(tmp_path)


def test_files_in_two_places_are_refused(tmp_path):
    for name in ("MNIST", "FashionMNIST"):
        (tmp_path / name / "raw").mkdir(parents=True)
        written(tmp_path / name / "raw", train_images=images(), train_labels=labels())

    with pytest.raises(InvalidFile, match="FashionMNIST/raw and MNIST/raw"):
        read(tmp_path)
