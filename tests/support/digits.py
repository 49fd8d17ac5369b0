"""Digits of the sample, as files in class folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from datagen.datasets.sample import load_sample
from datagen.images import encode_png


def digits(counts: Sequence[int], split: str = "train") -> Iterator[tuple[int, int, bytes]]:
    """Label, row and PNG of the first digits of a split, `counts[label]` of each label."""
    images = load_sample()[split]
    for label, count in enumerate(counts):
        rows = np.flatnonzero(images.labels == label)[:count]
        for row, png in zip(rows, encode_png(images.images[rows]), strict=True):
            yield label, int(row), png


def write_digits(folder: Path, counts: Sequence[int], split: str = "train") -> Path:
    """The first digits of a split as PNG, `counts[label]` of each label; returns the folder."""
    for label in range(len(counts)):
        (folder / str(label)).mkdir(parents=True)
    for label, row, png in digits(counts, split):
        (folder / str(label) / f"{row}.png").write_bytes(png)
    return folder
