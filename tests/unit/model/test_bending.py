from __future__ import annotations

import pytest
import torch

from datagen.model.bending import UNBENT, bent, transformed


def noise(count=200, shape=(1, 9, 7)):
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(1))


def test_bent_images_keep_shape_and_range_and_follow_their_generator():
    image = noise()

    first, second = (bent(image, torch.Generator().manual_seed(2)) for _ in range(2))

    assert torch.equal(first, second)
    assert first.shape == image.shape
    assert first.min() >= 0
    assert first.max() <= 1


def test_half_of_the_images_are_left_as_they_are_so_that_their_texture_is_known():
    image = noise()
    same = torch.isclose(bent(image, torch.Generator().manual_seed(2)), image, atol=1e-5)
    left = same.flatten(1).all(dim=1)

    assert float(left.float().mean()) == pytest.approx(UNBENT, abs=0.1)
    assert not same[~left].flatten(1).any(dim=1).all()


def test_transform_by_nothing_changes_nothing():
    image = noise(3)

    torch.testing.assert_close(transformed(image, torch.zeros(3, 5)), image)


@pytest.mark.parametrize("shape", [(25, 13), (13, 25)])
def test_picture_that_is_not_square_is_turned_and_sheared_as_it_is_in_a_square(shape):
    """A blob in the middle of a strip comes to the same as in the square that the strip is of."""
    side, (height, width) = 25, shape
    rows, columns = torch.meshgrid(torch.arange(25.0) - 12, torch.arange(25.0) - 12, indexing="ij")
    square = torch.exp(-((rows / 2) ** 2 + (columns / 1.2 - rows / 6) ** 2)).expand(1, 1, 25, 25)
    top, left = (side - height) // 2, (side - width) // 2

    def cut(image):
        return image[..., top : top + height, left : left + width]

    change = torch.tensor([[0.9, 0.5, -0.7, 0.0, 0.0]])
    expected = cut(transformed(square, change))
    assert not torch.allclose(expected, cut(square), atol=0.1)
    torch.testing.assert_close(transformed(cut(square), change), expected, atol=1e-2, rtol=0)
