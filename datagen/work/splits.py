"""Splits: what a dataset's images are for in a training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from datagen.errors import InvalidRequest
from datagen.images import LabelledImages
from datagen.model.data import TrainingData, generator_at
from datagen.model.training_options import TrainingOptions

FEWEST_IMAGES = 2
# Of a class, for a share of it to be held out unasked.
FEWEST_TO_HOLD_OUT = 50
FEWEST_OF_A_CLASS = 100


@dataclass(frozen=True)
class Parts:
    """What a dataset's images are for, in a training.

    Attributes:
        train: what the generator and its judge learn from.
        validation: what decides: when to stop, which prior, how many components.
        test: what the finished model is measured on; it decides nothing.
        measured_on: name of the split that `test` comes from.
        class_names: of all labels.
    """

    train: TrainingData
    validation: TrainingData
    test: TrainingData
    measured_on: str
    class_names: tuple[str, ...]

    @property
    def why_not_comparable(self) -> str | None:
        """Why no classifier can say which sampler teaches most; None where one can."""
        labels = self.train.all_labels
        if int(labels.min()) == int(labels.max()):
            return "of one label there is nothing that a classifier could tell apart"
        if not len(self.validation):
            return (
                "there are no images for validation (where a dataset has no such split, some of "
                f"each class of {FEWEST_TO_HOLD_OUT} or more images are held out)"
            )
        return None


def split_up(
    splits: Mapping[str, LabelledImages], options: TrainingOptions, device: torch.device
) -> Parts:
    """What the images of a dataset's splits are for. Raises InvalidRequest: too few."""
    data = {
        name: TrainingData.on(device, found.images, found.labels) for name, found in splits.items()
    }
    train, names = data["train"], tuple(splits["train"].class_names)
    if len(train) < FEWEST_IMAGES:
        raise InvalidRequest(
            f"{len(train)} images are too few; at least {FEWEST_IMAGES} are needed."
        )
    validation = data.get("validation")
    if validation is None:
        train, validation = held_out_of(train, options)
        if len(train) < FEWEST_IMAGES:
            raise InvalidRequest(
                f"{len(train)} of the images would be left to train on, with a share of "
                f"{options.validation_fraction:g} held out; at least {FEWEST_IMAGES} are needed."
            )
    # What is not learnt cannot be measured, and must not decide.
    validation = _learnt(validation, train)
    test = _learnt(data["test"], train) if "test" in data else None
    if test is None or not len(test):
        return Parts(train, validation, validation, "validation", names)
    return Parts(train, validation, test, "test", names)


def stratified_sample(data: TrainingData, count: int, seed: int) -> TrainingData:
    """About so many of the images, chosen by seed: the same share of each class.

    A class that is rare keeps up to `FEWEST_OF_A_CLASS` of its images, as far as there is room.
    """
    labels = data.all_labels.numpy()
    order = torch.randperm(len(labels), generator=generator_at(seed, "some", 0)).numpy()
    known, counts = np.unique(labels, return_counts=True)
    least = max(1, min(FEWEST_OF_A_CLASS, count // len(known)))
    chosen = [
        order[labels[order] == label][: max(least, int(total * count / len(labels)))]
        for label, total in zip(known, counts, strict=True)
    ]
    return data.subset(torch.from_numpy(np.sort(np.concatenate(chosen))))


def _learnt(data: TrainingData, train: TrainingData) -> TrainingData:
    """The images of those classes alone that there are training images of."""
    known = torch.isin(data.all_labels, train.all_labels)
    return data if bool(known.all()) else data.subset(torch.nonzero(known)[:, 0])


def held_out_of(data: TrainingData, options: TrainingOptions) -> tuple[TrainingData, TrainingData]:
    """Hold a share of each class out, by seed; a class of one image stays in training.

    So does a small class where nobody asked for a share: a few images teach more than they tell.
    All copies of an image are on the same side, whatever their labels.
    """
    least = 0 if "validation_fraction" in options.model_fields_set else FEWEST_TO_HOLD_OUT
    labels = data.all_labels.numpy()
    order = torch.randperm(len(labels), generator=generator_at(options.seed, "split", 0)).numpy()
    first = _first_copies(data)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        if len(own) >= least:
            different = own[first[own] == own]
            held[different[: int(len(different) * options.validation_fraction)]] = True
    held = held[first]
    train, validation = np.flatnonzero(~held), np.flatnonzero(held)
    return data.subset(torch.from_numpy(train)), data.subset(torch.from_numpy(validation))


def _first_copies(data: TrainingData) -> np.ndarray:
    """For each image the row of the first one with the same pixels, int64 (N,)."""
    seen: dict[bytes, int] = {}
    first = np.empty(len(data), dtype=np.int64)
    for rows in data.pieces():
        for row, pixels in zip(rows.tolist(), data.pixels(rows), strict=True):
            first[row] = seen.setdefault(hashlib.sha256(pixels.tobytes()).digest(), row)
    return first
