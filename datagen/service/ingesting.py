"""A dataset that was read: files in a folder, and a small description of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.datasets.failures import full_disk_named
from datagen.datasets.reading import Opened
from datagen.datasets.stored import digests_of, write_split
from datagen.errors import InvalidRequest
from datagen.images import LabelledImages


@dataclass(frozen=True)
class Ingested:
    """Images that were read, and are not registered yet.

    Attributes:
        digest: of the content, whatever it came as.
        prefix: of the keys of its splits.
        class_names: in their order.
        image_shape: channels, height, width.
        counts: per split, images per class.
        report: what was found while reading, and the SHA-256 of each split's file.
    """

    digest: str
    prefix: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    counts: dict[str, list[int]]
    report: dict[str, Any]


def split_file(folder: Path, split: str) -> Path:
    """Where a split lies in a folder."""
    return folder / f"{split}.safetensors"


def write_splits(opened: Opened, folder: Path) -> Ingested:
    """Write the splits of a dataset into a folder, and say what they are.

    Raises:
        InvalidRequest: no images, or splits that do not fit together.
        StorageFailure: the disk is full.
    """
    first = _checked(opened.splits)
    digests = digests_of(opened.splits, opened.names)
    files = {}
    with full_disk_named():
        for split, images in opened.splits.items():
            files[split] = write_split(split_file(folder, split), images, opened.names.get(split))
    return Ingested(
        digest=digests.content,
        # The same images in another order are another file, and a row knows its file by its hash.
        prefix=f"datasets/{digests.content}/{digests.arrangement[:16]}",
        class_names=first.class_names,
        image_shape=first.image_shape,
        counts={split: images.counts().tolist() for split, images in opened.splits.items()},
        report=opened.report.as_json() | {"files": files},
    )


def _checked(splits: Mapping[str, LabelledImages]) -> LabelledImages:
    """The first split; raises InvalidRequest where another one is of a different kind."""
    if not splits or not all(len(images) for images in splits.values()):
        raise InvalidRequest("The dataset has no images, or a split without any.")
    first_name, first = next(iter(splits.items()))
    for name, images in splits.items():
        if images.image_shape != first.image_shape or images.class_names != first.class_names:
            raise InvalidRequest(
                f"The splits {first_name!r} and {name!r} have different classes or image sizes; "
                "one dataset needs the same in all."
            )
    return first
