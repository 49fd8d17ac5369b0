from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import CPU, striped_data, striped_images

from datagen.model.data import Batches, TrainingData, generator_at, mid_tones


def test_every_row_comes_once_an_epoch_in_an_order_of_its_own():
    batches = Batches(count=40, size=8, seed=1, stage="fit")
    epochs = [
        torch.cat([batches.rows(epoch * 5 + place) for place in range(5)]) for epoch in range(2)
    ]

    for order in epochs:
        assert order.sort().values.tolist() == list(range(40))
    assert not torch.equal(*epochs)


def test_randomness_of_a_step_comes_from_its_counters():
    def drawn(*counters):
        return torch.rand(4, generator=generator_at(*counters)).tolist()

    assert drawn(1, "fit", 5) == drawn(1, "fit", 5)
    assert (
        len(
            {
                tuple(drawn(*counters))
                for counters in [(1, "fit", 5), (2, "fit", 5), (1, "refine", 5), (1, "fit", 6)]
            }
        )
        == 4
    )


def test_balanced_batches_draw_every_class_equally_often():
    labels = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    batches = Batches(count=1000, size=1000, seed=1, stage="fit", labels=labels)
    drawn = torch.cat([labels[batches.rows(epoch)] for epoch in range(10)])

    shares = drawn.bincount() / len(drawn)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.02, rtol=0)
    assert torch.equal(batches.rows(4), Batches(1000, 1000, 1, "fit", labels).rows(4))


def test_rows_are_scaled_to_one():
    data = TrainingData(
        torch.tensor(np.array([[[[0, 51, 255]]]], dtype=np.uint8)), torch.tensor([2])
    )
    image, label = data.rows(torch.tensor([0]))

    torch.testing.assert_close(image.flatten(), torch.tensor([0.0, 0.2, 1.0]))
    assert label.tolist() == [2]


def test_images_in_a_map_of_a_file_are_not_copied(tmp_path):
    images, labels = striped_images(20)
    path = tmp_path / "images"
    path.write_bytes(images.tobytes())
    mapped = np.memmap(path, np.uint8, mode="c", shape=images.shape)

    data = TrainingData.on(CPU, mapped, labels)

    assert data.images.data_ptr() == mapped.ctypes.data
    assert torch.equal(data.rows(torch.arange(20))[0], striped_data(20).rows(torch.arange(20))[0])


def test_subset_of_a_subset_is_numbered_as_in_the_whole():
    whole = striped_data(30)
    part = whole.subset(torch.arange(10, 20)).subset(torch.tensor([3, 1]))

    assert len(part) == 2
    assert part.numbers(torch.arange(2)).tolist() == [13, 11]
    assert torch.equal(part.all_labels, whole.labels[[13, 11]])
    image, label = part.rows(torch.tensor([1]))
    assert torch.equal(image, whole.rows(torch.tensor([11]))[0])
    assert label.tolist() == [int(whole.labels[11])]
    assert np.array_equal(part.pixels(torch.tensor([1])), whole.images[[11]].numpy())


@pytest.mark.parametrize(("shape", "most"), [((1, 28, 28), 1000), ((3, 512, 512), 21)])
def test_looking_once_at_all_images_takes_fewer_of_large_ones_at_a_time(shape, most):
    data = TrainingData(
        torch.zeros(1, *shape, dtype=torch.uint8).expand(2500, *shape),
        torch.zeros(2500, dtype=torch.int64),
    )
    pieces = list(data.pieces())

    assert torch.equal(torch.cat(pieces), torch.arange(2500))
    assert max(map(len, pieces)) == most


def test_mid_tones_are_values_that_are_neither_dark_nor_bright():
    images = np.zeros((4, 1, 2, 2), dtype=np.uint8)
    images[1], images[2], images[3, 0, 0] = 255, 128, [31, 32]
    data = TrainingData.on(CPU, images, np.zeros(4, dtype=np.int64))

    assert mid_tones(data) == 5 / 16
    assert mid_tones(data.subset(torch.tensor([2]))) == 1.0
    assert mid_tones(data.subset(torch.tensor([0, 1]))) == 0.0
