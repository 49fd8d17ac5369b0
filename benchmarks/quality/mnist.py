"""MNIST as the tracks use it: 50,000 images to learn from, 10,000 to choose by, 10,000 to test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datagen.datasets.idx import idx_files, image_pieces, read_idx_labels
from datagen.datasets.listing import list_folder
from datagen.images import LabelledImages

CLASS_NAMES = tuple("0123456789")
LEARNT_FROM = 50_000


class Mnist:
    """The images of a folder of IDX files, by what the tracks use them for.

    The 10,000 images that choose were looked at while the recipe was made, and nothing in a run
    looks at them; no part of a run but the last line of a cell looks at the test set.

    Attributes:
        learnt: the first 50,000 training images.
        test: the 10,000 test images.
    """

    def __init__(self, folder: Path) -> None:
        files = idx_files(list_folder(folder))
        images, labels = _read(*files["train"])
        self.learnt = LabelledImages(images[:LEARNT_FROM], labels[:LEARNT_FROM], CLASS_NAMES)
        self.choosing = LabelledImages(images[LEARNT_FROM:], labels[LEARNT_FROM:], CLASS_NAMES)
        self.test = LabelledImages(*_read(*files["test"]), CLASS_NAMES)

    def some(self, counts: Sequence[int], seed: int) -> LabelledImages:
        """So many images of each class, drawn by seed, in the order in which MNIST has them."""
        draw = np.random.default_rng(seed)
        chosen = [
            draw.choice(np.flatnonzero(self.learnt.labels == label), count, replace=False)
            for label, count in enumerate(counts)
        ]
        rows = np.sort(np.concatenate(chosen))
        return LabelledImages(self.learnt.images[rows], self.learnt.labels[rows], CLASS_NAMES)


def _read(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(list(image_pieces(images))), read_idx_labels(labels)
