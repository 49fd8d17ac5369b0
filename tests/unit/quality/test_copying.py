from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from datagen.quality.copying import (
    exact_duplicates,
    look_for_copies,
    mann_whitney_z,
    near_duplicates,
)
from datagen.quality.training_index import index_of

CLASSES = 3


def blobs(count, seed):
    """Soft blobs at random places."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:12, :12]
    centre, size = random.uniform(2, 9, (count, 2)), random.uniform(1, 2.5, count)
    apart = (rows - centre[:, 0, None, None]) ** 2 + (columns - centre[:, 1, None, None]) ** 2
    image = 250 * np.exp(-apart / (2 * size[:, None, None] ** 2))
    return image[:, None].round().astype(np.uint8), np.arange(count) % CLASSES


def features(images):
    return images.reshape(len(images), -1).astype(np.float32)


@pytest.fixture(scope="module")
def real():
    return blobs(900, seed=0)


@pytest.fixture(scope="module")
def index(real):
    images, labels = real
    return index_of(images.__getitem__, labels, CLASSES)


def looked(images, labels, real, index):
    others, other_labels = blobs(600, seed=1)
    return look_for_copies(
        images,
        labels,
        index,
        (features(images), features(real[0]), features(others)),
        other_labels,
    )


def test_all_planted_copies_are_found_and_nothing_else(real, index):
    images, labels = blobs(300, seed=2)
    planted = np.arange(0, 300, 7)
    for number in planted:
        same = np.flatnonzero(real[1] == labels[number])[number]
        images[number] = real[0][same]

    found = looked(images, labels, real, index)

    assert found.copies[planted].all()
    assert found.copies.sum() - len(planted) < 0.2 * 300
    closest = [number for number, _, _ in found.pairs]
    assert set(closest) <= set(planted.tolist())
    for number, row, apart in found.pairs:
        assert apart == 0.0
        np.testing.assert_array_equal(images[number], real[0][row])


def test_copies_of_everything_are_found_by_c_t_and_authenticity(real, index):
    noise = np.random.default_rng(3).normal(0, 4, real[0].shape)
    near = np.clip(real[0] + noise, 0, 255).round().astype(np.uint8)

    found = looked(near, real[1], real, index)
    honest = looked(*blobs(900, seed=4), real, index)

    assert found.copies.mean() > 0.95
    assert found.authenticity < 0.1 < honest.authenticity
    assert found.copying_z[-1] < -10
    assert abs(honest.copying_z[-1]) < 4
    assert all(found.copying_z[label] < -8 for label in range(CLASSES))


def test_rank_test_is_the_known_one():
    random = np.random.default_rng(0)
    one, two = random.integers(0, 9, 80).astype(float), random.integers(1, 11, 60).astype(float)
    known = mannwhitneyu(one, two, use_continuity=False, method="asymptotic", alternative="less")

    assert mann_whitney_z(one, two) == pytest.approx(norm.ppf(known.pvalue))


@pytest.mark.parametrize(("one", "two"), [([], [1.0]), ([1.0], []), ([2.0, 2.0], [2.0, 2.0, 2.0])])
def test_rank_test_of_nothing_says_nothing(one, two):
    assert mann_whitney_z(np.array(one), np.array(two)) is None


def test_exact_duplicates_are_the_later_ones():
    images, _ = blobs(10, seed=0)
    images[[4, 7]] = images[1]

    assert np.flatnonzero(exact_duplicates(images)).tolist() == [4, 7]


def test_near_duplicates_are_the_later_ones_of_a_class(index):
    images, labels = blobs(200, seed=5)
    images[30] = np.clip(images[0].astype(int) + 2, 0, 255)
    images[31] = images[0]  # of another class
    assert labels[30] == labels[0] != labels[31]

    found = near_duplicates(images, labels, index)

    assert found[30]
    assert not found[0]
    assert found.mean() < 0.2


def test_class_without_held_out_images_has_no_figure_and_the_others_count(real, index):
    images, labels = blobs(60, seed=6)
    others, other_labels = blobs(90, seed=7)
    kept = other_labels != 2
    found = look_for_copies(
        images,
        labels,
        index,
        (features(images), features(real[0]), features(others[kept])),
        other_labels[kept],
    )

    assert found.copying_z[2] is None
    assert found.copying_z[-1] is not None
