"""Plans of runs: how many images of each class a recipe asks for, given what a dataset has."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen.db.tables import Dataset, Model
from datagen.errors import InvalidRequest, NotFound, UnknownLabel
from datagen.schemas import PipelineApply, Plan
from datagen.service import learnt
from datagen.service.common import find_dataset, find_model
from datagen.service.learnt import Learnt
from datagen.service.models import TRAINING_SPLIT

LISTED_LABELS = 20


@dataclass(frozen=True)
class Counted:
    """Images of each class.

    Attributes:
        before: real ones in the training split, by every class of the dataset.
        wanted: to be made, by the classes that lack some.
        notes: what was left out, in sentences.
    """

    before: dict[str, int]
    wanted: dict[str, int]
    notes: list[str]

    @property
    def total(self) -> int:
        """Images to be made."""
        return sum(self.wanted.values())


def counted(plan: Plan, dataset: Dataset, known: Learnt) -> Counted:
    """What a plan asks for; of every class means of every class that the model has learnt.

    Args:
        plan: the recipe's.
        dataset: whose images are counted.
        known: what the model that makes the images has learnt, or will have.

    Raises:
        UnknownLabel: a label that the dataset does not have, or that is not learnt.
        InvalidRequest: more images than the plan lets a run make.
    """
    _refuse_labels(plan, dataset, known)
    none = [0] * len(dataset.class_names)
    there = dataset.counts.get(TRAINING_SPLIT, none)
    before = dict(zip(dataset.class_names, there, strict=True))
    lacking = {name: count for name in before if (count := _lacking(plan, name, before))}
    if strange := [name for name in lacking if name not in known.class_names]:
        raise UnknownLabel(
            f"The dataset {dataset.name}@{dataset.version} has the label {strange[0][:80]!r}, "
            "which the model of the pipeline does not know; take a model that was trained on it.",
            field="model",
        )
    missing = set(known.missing)
    wanted = {name: count for name, count in lacking.items() if name not in missing}
    found = Counted(before, wanted, known.notes(lacking))
    if plan.max_images is not None and found.total > plan.max_images:
        raise InvalidRequest(
            f"The plan needs {found.total:,} images, and its 'max_images' lets a run make "
            f"{plan.max_images:,}; raise it, or ask for fewer.",
            field="plan.max_images",
        )
    return found


def _refuse_labels(plan: Plan, dataset: Dataset, known: Learnt) -> None:
    if strange := sorted(set(plan.labels or {}) - set(dataset.class_names)):
        names = dataset.class_names[:LISTED_LABELS]
        more = ", …" if len(dataset.class_names) > LISTED_LABELS else ""
        raise UnknownLabel(
            f"The dataset {dataset.name}@{dataset.version} has no label {strange[0][:80]!r}; it "
            f"knows {', '.join(names)}{more}.",
            field="plan.labels",
        )
    known.refuse(plan.labels or {}, "plan.labels")


def _lacking(plan: Plan, name: str, before: dict[str, int]) -> int:
    if plan.labels is not None:
        count = plan.labels.get(name, 0)
    elif plan.add is not None:
        count = plan.add
    else:
        most = max(before.values()) if plan.balance else int(plan.fill or 0)
        count = max(0, most - before[name])
    return count if plan.max_per_label is None else min(count, plan.max_per_label)


def model_there(
    session: Session, owner_id: UUID, recipe: PipelineApply, dataset: Dataset
) -> Model | None:
    """The model that a run on a dataset takes as it is; None where it trains one first.

    Raises:
        NotFound: no model of the name that the recipe gives.
    """
    wanted = recipe.model
    if isinstance(wanted, str):
        return find_model(session, owner_id, wanted, usable=True)
    latest = latest_model(session, owner_id, wanted.name or recipe.name)
    when = wanted.train.when
    same = latest is not None and latest.dataset_digest == dataset.digest
    return latest if when == "never" or (when == "dataset_changed" and same) else None


def latest_model(session: Session, owner_id: UUID, name: str) -> Model | None:
    """The latest version of a model of the owner's whose training has succeeded."""
    return session.scalar(
        select(Model)
        .where(
            Model.owner_id == owner_id,
            Model.name == name,
            Model.state == "succeeded",
            Model.removed_at.is_(None),
        )
        .order_by(Model.version.desc())
        .limit(1)
    )


def learnt_by(session: Session, dataset: Dataset, model: Model | None) -> Learnt:
    """What the model of a run has learnt, or will have where it is trained on the dataset."""
    if model is None or model.dataset_digest == dataset.digest:
        return learnt.of_dataset(dataset)
    return learnt.of_model(session, model)


def refuse_named(session: Session, owner_id: UUID, recipe: PipelineApply) -> None:
    """Refuse labels that a plan names and that are not learnt, by what is there now.

    Raises:
        UnknownLabel: a label of which there was no image to train on.
    """
    if recipe.plan.labels is None:
        return
    try:
        dataset = find_dataset(session, owner_id, recipe.source.dataset)
        model = model_there(session, owner_id, recipe, dataset)
    except NotFound:
        # Not there yet: a run says so, or finds what has come meanwhile.
        return
    learnt_by(session, dataset, model).refuse(recipe.plan.labels, "plan.labels")
