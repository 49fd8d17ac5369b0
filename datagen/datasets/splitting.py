"""Splits: given ones are kept, others are made; no image stands on both sides of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datagen.datasets.collecting import NO_SPLIT, Collected
from datagen.datasets.reading import Opened, ReadOptions, ReadReport
from datagen.datasets.source import rows_at_once
from datagen.datasets.stored import image_hashes
from datagen.errors import InvalidFile
from datagen.images import LabelledImages
from datagen.schemas import SPLITS
from datagen.wording import listed

TRAIN = SPLITS.index("train")
# What it means for a class to have so few images to train on.
_FEW = {
    0: "Classes with no image to train on: {names}; a model that is trained on this dataset does "
    "not learn them, and generates no image of them.",
    1: "Classes with one image to train on: {names}; a model learns little more of them than that "
    "image.",
}


def arrange(found: Collected, options: ReadOptions, scratch: Path, report: ReadReport) -> Opened:
    """The splits of what was collected; what was found out goes into the report.

    Where the data came with splits they stay as they came, but for images of one that stand in
    another too: those are taken out of the training side. Else every class is shared out by the
    options' shares and seed, copies of an image together.

    Raises:
        InvalidFile: some images came with a split and others without, or none for training.
    """
    group = _groups(found.images)
    report.duplicates = len(group) - len(np.unique(group))
    report.conflicting = _conflicting(group, found.labels)
    given = found.splits != NO_SPLIT
    if given.any():
        if not given.all():
            raise InvalidFile(
                f"{int((~given).sum()):,} of the {len(given):,} images name no split, and the "
                "others do; name one for all or for none."
            )
        splits = _without_copies(found.splits.astype(np.int64), group, report)
    else:
        splits = shared_out(found.labels, group, options)
        _note_shares(splits, report)
    if not (splits == TRAIN).any():
        raise InvalidFile("No image is in the split train; a dataset needs one.")
    _note_small_classes(found, splits, report)
    rows = {name: np.flatnonzero(splits == number) for number, name in enumerate(SPLITS)}
    rows = {name: own for name, own in rows.items() if len(own)}
    images = {
        name: LabelledImages(
            _part(found.images, own, scratch / f"{name}.images"),
            found.labels[own],
            found.class_names,
        )
        for name, own in rows.items()
    }
    return Opened(images, report, {name: found.names.rows(own) for name, own in rows.items()})


def _groups(images: np.ndarray) -> np.ndarray:
    """A number for each image, the same for images that are the same pixel by pixel, (N,)."""
    hashes = np.ascontiguousarray(image_hashes(images)).view(np.dtype((np.void, 32))).ravel()
    _, group = np.unique(hashes, return_inverse=True)
    return np.asarray(group)


def _conflicting(group: np.ndarray, labels: np.ndarray) -> int:
    """Images that stand under more than one label."""
    pairs = np.unique(np.stack([group, labels]), axis=1)
    return int((np.bincount(pairs[0]) > 1).sum())


def _without_copies(splits: np.ndarray, group: np.ndarray, report: ReadReport) -> np.ndarray:
    """Splits in which each image stays on one side; -1 for the copies that are taken out."""
    # What measures keeps its images: of two copies the one in the later split stays.
    last = np.full(int(group.max()) + 1, NO_SPLIT, dtype=np.int64)
    np.maximum.at(last, group, splits)
    out = splits < last[group]
    for number, name in enumerate(SPLITS):
        count = int((out & (splits == number)).sum())
        if count:
            report.moved[name] = count
            report.notes.append(
                f"Images of {name} that are in a split for measuring, too, and left out of "
                f"{name}: {count:,}."
            )
    return np.where(out, NO_SPLIT, splits)


def shared_out(labels: np.ndarray, group: np.ndarray, options: ReadOptions) -> np.ndarray:
    """A split for each image, int64 (N,): every class by the shares, copies together.

    Counts are exact by the largest remainder, as far as copies let them be. A class of one image
    is for training, and every class has at least one image there.
    """
    shares = np.array([options.shares.get(name, 0.0) for name in SPLITS])
    random = np.random.default_rng(options.seed)
    splits = np.full(len(labels), TRAIN, dtype=np.int64)
    # A copy goes where its first one goes, under whatever label that stands.
    first = np.full(int(group.max()) + 1, len(group), dtype=np.int64)
    np.minimum.at(first, group, np.arange(len(group)))
    size = np.bincount(group)
    for label in np.unique(labels):
        heads = first[group[labels == label]]
        heads = np.unique(heads[labels[heads] == label])
        order = random.permutation(heads)
        if not len(order):
            continue
        sizes = size[group[order]]
        bounds = np.cumsum(_exact(shares, int(sizes.sum())))
        # A group of copies belongs to the split in which its first image falls.
        splits[order] = np.searchsorted(bounds, np.cumsum(sizes) - sizes, side="right")
    return np.asarray(splits[first[group]])


def _exact(shares: np.ndarray, count: int) -> np.ndarray:
    """Whole numbers in the proportion of the shares that add up to the count; training first."""
    wanted = shares * count
    whole = np.floor(wanted + 1e-9).astype(np.int64)
    rest = wanted - whole
    for number in np.argsort(-rest, kind="stable")[: count - int(whole.sum())]:
        whole[number] += 1
    if whole[TRAIN] == 0:
        whole[int(np.argmax(whole))] -= 1
        whole[TRAIN] += 1
    return whole


def _note_shares(splits: np.ndarray, report: ReadReport) -> None:
    counts = np.bincount(splits, minlength=len(SPLITS))
    told = ", ".join(
        f"{count:,} {name}" for name, count in zip(SPLITS, counts, strict=True) if count
    )
    report.notes.append(f"The data came without splits; each class was split at random: {told}.")


def _note_small_classes(found: Collected, splits: np.ndarray, report: ReadReport) -> None:
    counts = np.bincount(found.labels[splits == TRAIN], minlength=len(found.class_names))
    for count, what in _FEW.items():
        names = [found.class_names[label] for label in np.flatnonzero(counts == count)]
        if names:
            report.notes.append(what.format(names=listed(names)))
    if len(found.class_names) == 1:
        report.notes.append(f"There is one class only, {found.class_names[0]!r}.")


def _part(images: np.ndarray, rows: np.ndarray, path: Path) -> np.ndarray:
    """The numbered images: a view where they stand together, else a copy in a file."""
    if not len(rows) or rows[-1] - rows[0] + 1 == len(rows):
        return images[rows[0] : rows[-1] + 1] if len(rows) else images[:0]
    at_once = rows_at_once(images.shape[1:])
    with path.open("wb") as file:
        for start in range(0, len(rows), at_once):
            file.write(np.ascontiguousarray(images[rows[start : start + at_once]]).data)
    shape = (len(rows), *images.shape[1:])
    return np.asarray(np.memmap(path, np.uint8, mode="r", shape=shape))
