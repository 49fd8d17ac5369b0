"""Digits of the sample, as files in class folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datagen.datasets.sample import load_sample
from datagen.images import encode_png


def write_digits(folder: Path, counts: Sequence[int], split: str = "train") -> Path:
    """The first digits of a split as PNG, `counts[label]` of each label; returns the folder."""
    images = load_sample()[split]
    for label, count in enumerate(counts):
        (folder / str(label)).mkdir(parents=True)
        rows = np.flatnonzero(images.labels == label)[:count]
        for row, png in zip(rows, encode_png(images.images[rows]), strict=True):
            (folder / str(label) / f"{row}.png").write_bytes(png)
    return folder
