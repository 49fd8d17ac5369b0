from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from datagen.errors import InvalidFile
from datagen.quality import training_index
from datagen.quality.training_index import PER_CLASS, index_of, load_index, save_index

SHAPE = (1, 12, 10)


def blobs(count, seed=0, shape=SHAPE):
    """Images of a soft blob at a random place, of a random size and brightness."""
    random = np.random.default_rng(seed)
    channels, height, width = shape
    rows, columns = np.mgrid[:height, :width]
    centre = random.uniform([2, 2], [height - 3, width - 3], (count, 2))
    size, bright = random.uniform(1.0, 2.5, count), random.uniform(120, 255, count)
    apart = (rows - centre[:, 0, None, None]) ** 2 + (columns - centre[:, 1, None, None]) ** 2
    shape_of = bright[:, None, None] * np.exp(-apart / (2 * size[:, None, None] ** 2))
    return np.repeat(shape_of[:, None], channels, axis=1).round().astype(np.uint8)


@pytest.fixture(scope="module")
def real():
    images = blobs(900)
    return images, np.arange(900) % 3


@pytest.fixture(scope="module")
def index(real):
    images, labels = real
    return index_of(images.__getitem__, labels, 3)


def test_every_planted_copy_is_found(real, index):
    images, labels = real

    assert index.copies(images, labels).all()


def test_planted_near_copies_are_found(real, index):
    images, labels = real
    noise = np.random.default_rng(1).normal(0, 4, images.shape)
    near = np.clip(images + noise, 0, 255).round().astype(np.uint8)

    assert index.copies(near, labels).mean() > 0.99


def test_other_images_of_the_same_kind_are_seldom_taken_for_copies(index):
    others = blobs(900, seed=2)

    assert index.copies(others, np.arange(900) % 3).mean() < 0.1


def test_nearest_names_the_row_of_the_image(real, index):
    images, labels = real
    chosen = np.random.default_rng(4).permutation(900)[:50]

    distance, row = index.nearest(images[chosen], labels[chosen])

    assert distance.tolist() == [0.0] * 50
    np.testing.assert_array_equal(images[row], images[chosen])


def test_answer_is_exactly_the_same_whatever_stands_beside_an_image(index):
    images, labels = blobs(300, seed=5), np.arange(300) % 3
    together, rows = index.nearest(images, labels)
    order = np.random.default_rng(6).permutation(300)
    shuffled, _ = index.nearest(images[order], labels[order])
    alone = [index.nearest(images[at : at + 1], labels[at : at + 1]) for at in range(40)]

    np.testing.assert_array_equal(shuffled, together[order])
    assert [float(distance[0]) for distance, _ in alone] == together[:40].tolist()
    assert [int(row[0]) for _, row in alone] == rows[:40].tolist()
    assert np.all(together == np.floor(together))


def test_distances_are_whole_numbers_that_float32_has_exactly(index):
    """The farthest that two codes can lie apart is below 2**24."""
    codes = index.codes.astype(np.int64)
    exact = np.square(codes[:, None, :] - codes[None, :60, :]).sum(axis=2)
    found, _ = index.nearest(blobs(1), np.zeros(1, dtype=np.int64))

    assert codes.shape[1] * 255**2 < 2**24
    assert found[0] == int(found[0])
    assert exact.max() < 2**24


def test_label_without_an_image_has_no_copies(real):
    images, labels = real
    index = index_of(images.__getitem__, labels, 5)

    distance, row = index.nearest(images[:4], np.full(4, 4))

    assert np.isinf(distance).all()
    assert row.tolist() == [-1] * 4
    assert not index.copies(images[:4], np.full(4, 4)).any()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_so_few_images_still_tell_their_copies(count):
    images = blobs(count)
    index = index_of(images.__getitem__, np.zeros(count, dtype=np.int64), 1)

    assert index.copies(images, np.zeros(count, dtype=np.int64)).all()
    assert not index.copies(255 - images, np.zeros(count, dtype=np.int64)).any()


def test_class_full_of_the_same_image_still_tells_what_differs():
    images = np.repeat(blobs(1), 20, axis=0)
    labels = np.zeros(21, dtype=np.int64)
    index = index_of(np.concatenate([images, blobs(1, seed=9)]).__getitem__, labels, 1)

    assert index.copies(images[:1], labels[:1]).all()
    assert not index.copies(blobs(1, seed=3), labels[:1]).any()


def test_at_most_so_many_of_a_class_are_kept():
    images = np.zeros((PER_CLASS + 5, 1, 2, 2), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(PER_CLASS + 5) % 256
    index = index_of(images.__getitem__, np.zeros(len(images), dtype=np.int64), 1)

    assert len(index) == PER_CLASS
    assert index.rows.tolist() == list(range(PER_CLASS))


@pytest.mark.parametrize("shape", [(3, 20, 17), (4, 5, 5), (1, 1, 1)])
def test_any_shape_of_image_has_an_index(shape, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (80, *shape), dtype=np.uint8)
    labels = np.sort(np.arange(80) % 2)
    index = index_of(images.__getitem__, labels, 2)
    save_index(tmp_path / "index", index)

    again = load_index(tmp_path / "index", shape, 2)

    assert again.copies(images, labels).all()
    np.testing.assert_array_equal(again.codes, index.codes)
    np.testing.assert_array_equal(again.encode(images), index.encode(images))


def test_index_is_the_same_file_each_time(real, tmp_path):
    images, labels = real
    for name in ("one", "two"):
        save_index(tmp_path / name, index_of(images.__getitem__, labels, 3))

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_file_that_is_no_index_is_refused(tmp_path):
    (tmp_path / "index").write_bytes(b"no safetensors")

    with pytest.raises(InvalidFile, match="damaged"):
        load_index(tmp_path / "index", SHAPE, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda index: {"labels": index.labels[::-1]},
        lambda index: {"labels": index.labels + 1},
        lambda index: {"limits": index.limits * np.nan},
        lambda index: {"limits": index.limits[:2]},
        lambda index: {"codes": index.codes[:, :3]},
        lambda index: {"codes": index.codes.astype(np.int16)},
        lambda index: {"weights": index.weights[:-1]},
        lambda index: {"rows": index.rows[:-1]},
        lambda _: {"scale": float("inf")},
        lambda _: {"scale": -1.0},
    ],
)
def test_index_that_contradicts_itself_or_the_model_is_refused(index, tmp_path, change):
    save_index(tmp_path / "index", replace(index, **change(index)))

    with pytest.raises(InvalidFile, match="does not fit"):
        load_index(tmp_path / "index", SHAPE, 3)


def test_large_pictures_are_looked_at_a_few_at_once_and_come_to_the_same(real, index, monkeypatch):
    images, labels = real
    sizes = []

    def pixels(rows):
        sizes.append(len(rows))
        return images[rows]

    monkeypatch.setattr(training_index, "_VALUES_AT_ONCE", 40 * images[0].size)
    found = index_of(pixels, labels, 3)

    # All others are those that the directions are fitted to.
    assert sorted(sizes)[-2] == 40
    np.testing.assert_array_equal(found.codes, index.codes)
    others = blobs(100, seed=3), np.arange(100) % 3
    for one, two in zip(found.nearest(*others), index.nearest(*others), strict=True):
        np.testing.assert_array_equal(one, two)


def test_class_whose_images_are_all_there_twice_still_tells_near_copies():
    images = blobs(200)
    labels = np.zeros(400, dtype=np.int64)
    index = index_of(np.concatenate([images, images]).__getitem__, labels, 1)
    noise = np.random.default_rng(1).normal(0, 4, images.shape)
    near = np.clip(images + noise, 0, 255).round().astype(np.uint8)

    assert index.copies(near, labels[:200]).mean() > 0.99
    assert index.copies(blobs(200, seed=2), labels[:200]).mean() < 0.1
