"""Bending: images turned, scaled, sheared and shifted a little, as augmentation while learning."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor

from datagen.model.config import TRANSFORM_VALUES

# Largest changes of an augmented image: turn (radians), scale, shear, shift (of half a side).
TURN, SCALE, SHEAR, SHIFT = 0.2, 0.1, 0.15, 0.125
# Share of the images that are left as they are: bending averages neighbouring pixels, and who sees
# bent images alone knows nothing of fine texture.
UNBENT = 0.5


def random_transforms(count: int, generator: torch.Generator) -> Tensor:
    """Turn, scale, shear and two shifts of so many images, as shares of the largest, (B, 5)."""
    return torch.rand(count, TRANSFORM_VALUES, generator=generator) * 2 - 1


def transforms_of_some(count: int, generator: torch.Generator) -> Tensor:
    """Random transforms of so many images, (B, 5), of which half change nothing."""
    change = random_transforms(count, generator)
    change[torch.rand(count, generator=generator) < UNBENT] = 0.0
    return change


def bent(image: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W), half of them turned, scaled, sheared and shifted a little."""
    return transformed(image, transforms_of_some(len(image), generator))


def transformed(image: Tensor, change: Tensor) -> Tensor:
    """Images (B, C, H, W), each transformed by its values (B, 5) in [-1, 1]; 0 changes nothing."""
    count, (height, width) = len(image), image.shape[-2:]
    turn, shear = change[:, 0] * TURN, change[:, 2] * SHEAR
    scale = 1 + change[:, 1] * SCALE
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = scale * turn.cos(), -scale * turn.sin() + shear
    matrix[:, 1, 0], matrix[:, 1, 1] = scale * turn.sin(), scale * turn.cos()
    matrix[:, :, 2] = change[:, 3:] * SHIFT
    # Coordinates are shares of a side: a turn is one in pixels, whatever the sides.
    matrix[:, 0, 1] *= height / width
    matrix[:, 1, 0] *= width / height
    grid = F.affine_grid(matrix.to(image.device), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)
