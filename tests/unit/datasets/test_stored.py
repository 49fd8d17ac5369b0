from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from datagen.datasets.names import Names
from datagen.datasets.stored import digests_of, read_named_split, read_split, write_split
from datagen.errors import InvalidFile
from datagen.images import LabelledImages


def labelled(count: int = 9, channels: int = 3, seed: int = 1) -> LabelledImages:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, channels, 5, 4), dtype=np.uint8)
    return LabelledImages(pixels, rng.integers(0, 2, count), ("a", "ü"))


def named(*texts: str) -> Names:
    data = [text.encode() for text in texts]
    ends = np.cumsum([len(text) for text in data])
    return Names(np.frombuffer(b"".join(data), np.uint8), ends)


def content_digest(splits) -> str:
    return digests_of(splits).content


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


def test_names_survive(tmp_path):
    names = named("a/1.png", "", "b/ü.png", *"cdefgh")
    write_split(tmp_path / "x", labelled(), names)

    images, read = read_named_split(tmp_path / "x")

    assert read is not None
    assert read.texts(0, 9) == ["a/1.png", "", "b/ü.png", *"cdefgh"]
    assert read.texts(2, 4) == ["b/ü.png", "c"]
    assert np.array_equal(images.images, labelled().images)


def test_split_without_names_has_none(tmp_path):
    write_split(tmp_path / "x", labelled())

    assert read_named_split(tmp_path / "x")[1] is None


@pytest.mark.parametrize("ends", [[1] * 8, [2, 1, *[9] * 7], [*range(1, 9), 99]])
def test_names_that_do_not_fit_are_refused(tmp_path, ends):
    names = Names(np.zeros(20, np.uint8), np.array(ends, np.int64))
    write_split(tmp_path / "x", labelled(), names)

    with pytest.raises(InvalidFile, match="names do not fit"):
        read_split(tmp_path / "x")


def test_order_and_names_change_the_arrangement_alone():
    images, names = labelled(), {"train": named(*"abcdefghi")}
    turned = reordered(images, np.arange(9)[::-1])
    all_of = [
        digests_of({"train": images}),
        digests_of({"train": turned}),
        digests_of({"train": images}, names),
        digests_of({"train": images}, {"train": named(*"abcdefghj")}),
    ]

    assert len({found.content for found in all_of}) == 1
    assert len({found.arrangement for found in all_of}) == 4


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
