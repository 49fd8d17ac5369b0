"""Bending: images turned, scaled, sheared and shifted a little, as augmentation while learning."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor

# Largest changes of an augmented image: turn (radians), scale, shear, shift (of half a side).
TURN, SCALE, SHEAR, SHIFT = 0.2, 0.1, 0.15, 0.125


def bent(image: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W), each turned, scaled, sheared and shifted a little."""
    count = len(image)
    change = torch.rand(count, 5, generator=generator) * 2 - 1  # (B, 5) in [-1, 1]
    turn, shear = change[:, 0] * TURN, change[:, 2] * SHEAR
    scale = 1 + change[:, 1] * SCALE
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = scale * turn.cos(), -scale * turn.sin() + shear
    matrix[:, 1, 0], matrix[:, 1, 1] = scale * turn.sin(), scale * turn.cos()
    matrix[:, :, 2] = change[:, 3:] * SHIFT
    grid = F.affine_grid(matrix.to(image.device), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)
