"""Pixels in place of PNG files, for formats that hold arrays."""

from __future__ import annotations

import numpy as np

from datagen.export.rows import Rows
from datagen.images import decode_pngs

MAX_BYTE_CLASSES = 256


def pixels_of(rows: Rows) -> np.ndarray:
    """Their pixels, uint8 (n, H, W) where they are grey and (n, H, W, C) where not."""
    images = decode_pngs(rows.samples.images)
    if images.shape[1] == 1:
        return images[:, 0]
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
