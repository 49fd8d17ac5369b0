"""Which images of a report can be compared with real ones; classes without those are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datagen.errors import InvalidRequest
from datagen.images import LabelledImages
from datagen.quality.report import Subject
from datagen.wording import listed


def comparable(subject: Subject) -> tuple[Subject, list[str]]:
    """The images of those classes that there are real training images of, and what to know of it.

    Nothing that learns from the real images knows the others, so no figure would mean anything.

    Raises:
        InvalidRequest: none of the generated, or of the held-out images is of such a class.
    """
    names = subject.class_names
    train, held, made = (
        np.bincount(labels, minlength=len(names))
        for labels in (subject.train.labels, subject.held_out.labels, subject.labels)
    )
    unknown = train == 0
    notes = []
    if unknown.any():
        lost = int(made[unknown].sum()), int(held[unknown].sum())
        notes.append(
            f"The real images have no training images of {_named(names, unknown)}, so nothing is "
            f"measured of them; {lost[0]:,} generated and {lost[1]:,} held-out images were left "
            "out."
        )
    for kind, count in (("generated", made), ("held-out", held)):
        if not count[~unknown].any():
            seen = listed([names[label] for label in np.flatnonzero(count).tolist()])
            raise InvalidRequest(
                f"No {kind} image is of a class that there are real training images of; "
                f"{seen} have none. Name another dataset with 'real'."
            )
    if (unheld := (held == 0) & ~unknown).any():
        notes.append(
            f"The real images have none held out of {_named(names, unheld)}, so distance, coverage "
            "and usefulness leave them out."
        )
    if (few := train == 1).any():
        notes.append(
            f"There is one real training image of {_named(names, few)}; figures of it say little."
        )
    known, own = ~unknown[subject.held_out.labels], ~unknown[subject.labels]
    found = replace(
        subject,
        images=subject.images[own],
        labels=subject.labels[own],
        held_out=subject.held_out if known.all() else _rows(subject.held_out, known),
    )
    return found, notes


def _named(names: Sequence[str], chosen: np.ndarray) -> str:
    return listed([names[label] for label in np.flatnonzero(chosen).tolist()])


def _rows(real: LabelledImages, chosen: np.ndarray) -> LabelledImages:
    return LabelledImages(real.images[chosen], real.labels[chosen], real.class_names)
