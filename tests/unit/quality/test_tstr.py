from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import CPU, striped_data, striped_images

from datagen.quality.tstr import as_arrays, reduced, spread_over_classes, tstr


def accuracies(images, labels, *, steps=40, seed=0):
    test = striped_images(60, seed=9)
    return tstr(images, labels, [test], 3, steps=steps, seed=seed, device=CPU)


def test_classifier_that_learns_from_right_labels_finds_real_ones_and_from_wrong_ones_does_not():
    images, labels = striped_images(90)

    assert accuracies(images, labels)[0] > 0.9
    assert accuracies(images, (labels + 1) % 3)[0] < 0.1


def test_every_test_set_has_its_own_value():
    images, labels = striped_images(90)
    test, own = striped_images(60, seed=9)
    found = tstr(
        images, labels, [(test, own), (test, (own + 1) % 3)], 3, steps=40, seed=0, device=CPU
    )

    assert found[0] > 0.9
    assert found[1] < 0.1


def test_class_of_which_there_is_no_image_is_never_found():
    images, labels = striped_images(90)
    rows = labels != 2

    assert accuracies(images[rows], labels[rows])[0] == pytest.approx(2 / 3, abs=0.1)
    assert accuracies(images[:0], labels[:0]) == [0.0]


def test_same_seed_gives_the_same_value_and_the_global_randomness_is_left_alone():
    images, labels = striped_images(90)
    before = torch.get_rng_state()
    first, second = (accuracies(images, labels, steps=6, seed=3) for _ in range(2))

    assert first == second
    assert torch.equal(torch.get_rng_state(), before)


def test_stop_is_heard():
    images, labels = striped_images(90)

    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tstr(images, labels, [(images, labels)], 3, steps=4, seed=0, device=CPU, check=check)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 64, 64), (1, 64, 64)),
        ((3, 65, 10), (3, 33, 5)),
        ((1, 256, 256), (1, 64, 64)),
        ((1, 100, 200), (1, 25, 50)),
    ],
)
def test_large_pictures_are_averaged_down_by_a_whole_number(shape, expected):
    images = np.full((2, *shape), 77, dtype=np.uint8)
    found = reduced(images)

    assert found.shape == (2, *expected)
    assert found.dtype == np.uint8
    assert (found == 77).all()


def test_rows_are_spread_evenly_over_each_class():
    labels = np.array([0] * 100 + [1] * 3 + [2])
    rows = spread_over_classes(labels, 5)

    assert np.bincount(labels[rows]).tolist() == [5, 3, 1]
    assert rows[0] == 0
    assert rows[4] == 99


def test_images_of_a_training_are_taken_with_their_labels():
    data = striped_data(60)
    images, labels = as_arrays(data, 4)

    assert np.bincount(labels).tolist() == [4, 4, 4]
    pixels, own = data.rows(torch.arange(60))
    for image, label in zip(images, labels, strict=True):
        same = (pixels * 255).round().to(torch.uint8).numpy() == image
        assert own[np.flatnonzero(same.all(axis=(1, 2, 3)))[0]] == label
