from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import SHAPE

from datagen.model.data import TrainingData
from datagen.model.training_options import TrainingOptions
from datagen.work.splits import held_out_of, stratified_sample

CPU = torch.device("cpu")


def images_of(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    return TrainingData.on(CPU, np.zeros((len(labels), *SHAPE), np.uint8), labels)


@pytest.mark.parametrize(
    ("counts", "count", "expected"),
    [
        ((4000, 2000, 1000), 700, [400, 200, 100]),
        # The rare class stays whole; of the others no more than their share.
        ((9000, 900, 60), 1000, [903, 100, 60]),
        # No room for a hundred of each.
        ((300, 300, 300), 30, [10, 10, 10]),
    ],
)
def test_some_images_are_the_same_share_of_each_class_and_more_of_a_rare_one(
    counts, count, expected
):
    assert (
        np.bincount(stratified_sample(images_of(counts), count, 0).all_labels).tolist() == expected
    )


def test_some_images_are_chosen_by_the_seed_alone():
    data = images_of((500, 500))
    one, same, other = (
        stratified_sample(data, 100, seed).numbers(torch.arange(100)) for seed in (1, 1, 2)
    )

    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_some_images_of_very_many_classes_are_one_of_each_at_least():
    assert np.bincount(stratified_sample(images_of((5,) * 40), 20, 0).all_labels).min() == 1


def test_copies_of_an_image_are_all_held_out_or_none_is():
    random = np.random.default_rng(0)
    once = random.integers(0, 256, (200, *SHAPE), dtype=np.uint8)
    labels = np.tile(np.arange(200) % 2, 2)
    # Some copies have another label.
    labels[200:210] = 1 - labels[200:210]
    data = TrainingData.on(CPU, np.concatenate([once, once]), labels)
    train, held_out = held_out_of(data, TrainingOptions())

    assert 30 <= len(held_out) <= 44
    assert len(train) + len(held_out) == 400
    numbers = [
        set((part.numbers(torch.arange(len(part))) % 200).tolist()) for part in (train, held_out)
    ]
    assert not numbers[0] & numbers[1]
