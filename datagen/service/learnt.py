"""Which classes a model has learnt: those of which it had an image to train on.

A training writes down how many images of each class it had (`TRAINING_COUNTS` of its metrics), and
the checkpoint carries that wherever the model goes. For a model of an earlier version the dataset
that it was trained on says it, as long as that is known here; else every class counts as learnt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen.db.tables import Dataset, Model
from datagen.errors import UnknownLabel
from datagen.model.config import TRAINING_COUNTS
from datagen.wording import listed

_TRAINING_SPLIT = "train"


@dataclass(frozen=True)
class Learnt:
    """The classes of a model, or of a dataset that one is to be trained on, and what is learnt.

    Attributes:
        whose: the beginning of a sentence about them, such as `The model pets@1 had`.
        class_names: all of them, in order.
        counts: training images of each; None where that is not known.
    """

    whose: str
    class_names: tuple[str, ...]
    counts: tuple[int, ...] | None

    @property
    def labels(self) -> list[int]:
        """Numbers of the classes that are learnt, rising."""
        every = range(len(self.class_names))
        return [label for label in every if self.counts is None or self.counts[label] > 0]

    @property
    def missing(self) -> list[str]:
        """Names of the classes that are not learnt, in order."""
        learnt = set(self.labels)
        return [name for label, name in enumerate(self.class_names) if label not in learnt]

    def note(self, names: Sequence[str]) -> str:
        """The sentence that these classes are left out, and why."""
        these = "this class is" if len(names) == 1 else "these classes are"
        return f"{self.whose} no training images of {listed(names)}; {these} left out."

    def notes(self, names: Iterable[str]) -> list[str]:
        """The note about those of the names that are not learnt; empty where all are."""
        found = set(names)
        left_out = [name for name in self.missing if name in found]
        return [self.note(left_out)] if left_out else []

    def refuse(self, names: Iterable[str], field: str) -> None:
        """Refuse classes that are asked for by name. Raises UnknownLabel."""
        found = set(names)
        if wrong := [name for name in self.missing if name in found]:
            raise UnknownLabel(
                f"{self.whose} no training images of {listed(wrong)}, and what was not learnt "
                "cannot be generated; leave it out, or train on a dataset that has images of it.",
                field=field,
            )


def of_model(session: Session, model: Model) -> Learnt:
    """What a trained model has learnt."""
    names = tuple(model.class_names)
    counts = _usable((model.metrics or {}).get(TRAINING_COUNTS), names)
    if counts is None and (dataset := _trained_on(session, model)) is not None:
        counts = _of_dataset(dataset) if tuple(dataset.class_names) == names else None
    return Learnt(f"The model {model.name}@{model.version} had", names, counts)


def labels_of(session: Session, model_id: UUID) -> tuple[list[str], list[str]]:
    """Names of the classes that a model has learnt, and a sentence about the others."""
    known = of_model(session, session.get_one(Model, model_id))
    return [known.class_names[label] for label in known.labels], known.notes(known.missing)


def of_dataset(dataset: Dataset) -> Learnt:
    """What a model will learn that is trained on a dataset."""
    whose = f"The dataset {dataset.name}@{dataset.version} has"
    return Learnt(whose, tuple(dataset.class_names), _of_dataset(dataset))


def _of_dataset(dataset: Dataset) -> tuple[int, ...] | None:
    return _usable(dataset.counts.get(_TRAINING_SPLIT), dataset.class_names)


def _usable(counts: Any, names: Sequence[str]) -> tuple[int, ...] | None:
    """Counts that fit the classes; a file that somebody else wrote may hold anything."""
    fits = (
        isinstance(counts, list)
        and len(counts) == len(names)
        and all(isinstance(count, int) and count >= 0 for count in counts)
        and any(counts)
    )
    return tuple(counts) if fits else None


def _trained_on(session: Session, model: Model) -> Dataset | None:
    """The dataset of a model, which may be removed: its counts stay as long as models name it."""
    if model.dataset_id is not None:
        return session.get(Dataset, model.dataset_id)
    if model.dataset_digest is None:
        return None
    same = select(Dataset).where(
        Dataset.owner_id == model.owner_id, Dataset.digest == model.dataset_digest
    )
    return session.scalars(same.limit(1)).first()
