"""Real images of a dataset, some at a time, for whoever wants to look at them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Session

from datagen.errors import NotFound
from datagen.images import encode_png
from datagen.service.common import find_dataset, split_digests
from datagen.service.datasets import load_named_split
from datagen.storage import Storage

AT_ONCE = 120


@dataclass(frozen=True)
class RealImage:
    """A real image, what it was called where it came from, and its PNG in Base64."""

    row: int
    label: str
    name: str | None
    png: str


@dataclass(frozen=True)
class RealImages:
    """Some of them, how many there are in all, and where the next ones begin."""

    items: list[RealImage]
    total: int
    next_start: int | None


def images(
    session: Session,
    storage: Storage,
    owner_id: UUID,
    reference: str,
    split: str,
    label: str | None,
    start: int,
) -> RealImages:
    """Images of a split, of one label if it is named.

    Raises:
        NotFound: no such dataset of the owner's, or no such split or label in it.
        InvalidFile: they are missing from the store, or damaged.
    """
    dataset = find_dataset(session, owner_id, reference)
    if split not in dataset.counts:
        raise NotFound(f"The dataset {dataset.name!r} has no split {split[:40]!r}.")
    if label is not None and label not in dataset.class_names:
        raise NotFound(f"The dataset {dataset.name!r} has no label {label[:80]!r}.")
    found, names = load_named_split(
        storage, dataset.storage_prefix, split, split_digests(dataset).get(split)
    )
    rows = np.arange(len(found))
    if label is not None:
        rows = np.flatnonzero(found.labels == dataset.class_names.index(label))
    shown = rows[start : start + AT_ONCE]
    pngs = encode_png(np.ascontiguousarray(found.images[shown])) if len(shown) else []
    called = [None if names is None else names.texts(row, row + 1)[0] for row in shown.tolist()]
    items = [
        RealImage(row, dataset.class_names[int(found.labels[row])], name,
                  base64.b64encode(png).decode())
        for row, name, png in zip(shown.tolist(), called, pngs, strict=True)
    ]  # fmt: skip
    following = start + AT_ONCE
    return RealImages(items, len(rows), following if following < len(rows) else None)
