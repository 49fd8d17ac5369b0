from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from datagen.datasets.stored import content_digest, read_split, write_split
from datagen.errors import InvalidFile
from datagen.images import LabelledImages


def labelled(count: int = 9, channels: int = 3, seed: int = 1) -> LabelledImages:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, channels, 5, 4), dtype=np.uint8)
    return LabelledImages(pixels, rng.integers(0, 2, count), ("a", "ü"))


def reordered(images: LabelledImages, order: np.ndarray) -> LabelledImages:
    return LabelledImages(images.images[order], images.labels[order], images.class_names)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_survive(tmp_path, channels):
    images = labelled(channels=channels)
    write_split(tmp_path / "x", images)

    read = read_split(tmp_path / "x")

    assert np.array_equal(read.images, images.images)
    assert np.array_equal(read.labels, images.labels)
    assert read.class_names == ("a", "ü")


def test_images_stay_when_their_file_goes(tmp_path):
    write_split(tmp_path / "x", labelled())
    read = read_split(tmp_path / "x")
    (tmp_path / "x").unlink()

    read.images[0] = 1

    assert np.array_equal(read.images[1:], labelled().images[1:])


def test_views_are_written_as_they_look(tmp_path):
    images = labelled()
    write_split(
        tmp_path / "x", LabelledImages(images.images[::2], images.labels[::2], images.class_names)
    )

    assert np.array_equal(read_split(tmp_path / "x").images, labelled().images[::2])


def test_same_images_give_the_same_bytes(tmp_path):
    for name in ("x", "y"):
        write_split(tmp_path / name, labelled())

    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_damaged_file_is_refused(tmp_path):
    path = tmp_path / "split"
    write_split(path, labelled())
    data = path.read_bytes()

    for damaged in (
        b"",
        data[:7],
        data[:60],
        data[:-1],
        data + b"\0",
        b"\x80\x04K\x01.",
        b"\xff" * 99,
    ):
        path.write_bytes(damaged)
        with pytest.raises(InvalidFile, match="split"):
            read_split(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidFile, match="nowhere"):
        read_split(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("tensors", "header"),
    [
        ({"images": labelled().images}, '{"class_names": ["a", "b"]}'),
        ({"images": labelled().images, "labels": labelled().labels}, "{}"),
        ({"images": labelled().images, "labels": labelled().labels}, "no json"),
        ({"images": labelled().images, "labels": labelled().labels}, '{"class_names": ["a"]}'),
        (
            {"images": np.zeros((9, 3), np.uint8), "labels": labelled().labels},
            '{"class_names": []}',
        ),
        (
            {"images": np.zeros((2, 1, 2, 2), np.float32), "labels": np.zeros(2, np.int64)},
            '{"class_names": ["a"]}',
        ),
    ],
)
def test_other_safetensors_are_refused(tmp_path, tensors, header):
    save_file(tensors, tmp_path / "x", metadata={"datagen": header})

    with pytest.raises(InvalidFile):
        read_split(tmp_path / "x")


def test_order_of_images_does_not_change_the_digest():
    images = labelled()
    order = np.random.default_rng(7).permutation(len(images))

    assert content_digest({"train": reordered(images, order)}) == content_digest({"train": images})


def test_order_of_splits_does_not_change_the_digest():
    one, other = labelled(seed=1), labelled(seed=2)

    assert content_digest({"train": one, "test": other}) == content_digest(
        {"test": other, "train": one}
    )


def test_every_difference_changes_the_digest():
    images = labelled()
    pixels, labels = images.images.copy(), images.labels.copy()
    pixels[3, 1, 2, 1] ^= 1
    labels[3] ^= 1
    first, other = 0, int(np.flatnonzero(images.labels != images.labels[0])[0])
    swapped = images.images.copy()
    swapped[[first, other]] = swapped[[other, first]]
    variants = [
        {"train": images},
        {"test": images},
        {"train": images, "test": images},
        {"train": LabelledImages(pixels, images.labels, images.class_names)},
        {"train": LabelledImages(images.images, labels, images.class_names)},
        {"train": LabelledImages(swapped, images.labels, images.class_names)},
        {"train": LabelledImages(images.images, images.labels, ("a", "b"))},
        {"train": LabelledImages(images.images.swapaxes(2, 3), images.labels, images.class_names)},
        {"train": reordered(images, np.arange(8))},
        {"train": reordered(images, np.array([0, *range(9)]))},
    ]

    assert len({content_digest(splits) for splits in variants}) == len(variants)
