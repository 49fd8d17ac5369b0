"""Real images: what figures and reports show and measure beside generated ones."""

from __future__ import annotations

from collections.abc import Mapping

from datagen.datasets.sample import load_sample
from datagen.images import LabelledImages
from datagen.service.datasets import load_split
from datagen.service.figures import SAMPLE
from datagen.storage import Storage


def real_splits(
    storage: Storage, dataset_key: str, prefix: str | None, splits: Mapping[str, str | None]
) -> dict[str, LabelledImages]:
    """The splits of a dataset, or of the sample that ships; none where there is no dataset.

    Raises:
        InvalidFile: a split is missing from the store, or not the one that was registered.
    """
    if dataset_key == SAMPLE:
        return load_sample()
    if prefix is None:
        return {}
    return {name: load_split(storage, prefix, name, digest) for name, digest in splits.items()}
