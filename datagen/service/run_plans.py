"""Plans of runs: how many images of each class a recipe asks for, given what a dataset has."""

from __future__ import annotations

from dataclasses import dataclass

from datagen.db.tables import Dataset
from datagen.errors import InvalidRequest, UnknownLabel
from datagen.schemas import Plan
from datagen.service.models import TRAINING_SPLIT

LISTED_LABELS = 20


@dataclass(frozen=True)
class Counted:
    """Images of each class.

    Attributes:
        before: real ones in the training split, by every class of the dataset.
        wanted: to be made, by the classes that lack some.
    """

    before: dict[str, int]
    wanted: dict[str, int]

    @property
    def total(self) -> int:
        """Images to be made."""
        return sum(self.wanted.values())


def counted(plan: Plan, dataset: Dataset) -> Counted:
    """What a plan asks for.

    Raises:
        UnknownLabel: a label that the dataset does not have.
        InvalidRequest: more images than the plan lets a run make.
    """
    none = [0] * len(dataset.class_names)
    there = dataset.counts.get(TRAINING_SPLIT, none)
    before = dict(zip(dataset.class_names, there, strict=True))
    wanted = {name: _lacking(plan, name, before) for name in before}
    if strange := sorted(set(plan.labels or {}) - set(before)):
        known = ", ".join(dataset.class_names[:LISTED_LABELS])
        raise UnknownLabel(
            f"The dataset {dataset.name}@{dataset.version} has no label {strange[0][:80]!r}; it "
            f"knows {known}{', …' if len(before) > LISTED_LABELS else ''}.",
            field="plan.labels",
        )
    found = Counted(before, {name: count for name, count in wanted.items() if count})
    if plan.max_images is not None and found.total > plan.max_images:
        raise InvalidRequest(
            f"The plan needs {found.total:,} images, and its 'max_images' lets a run make "
            f"{plan.max_images:,}; raise it, or ask for fewer.",
            field="plan.max_images",
        )
    return found


def _lacking(plan: Plan, name: str, before: dict[str, int]) -> int:
    if plan.labels is not None:
        count = plan.labels.get(name, 0)
    elif plan.add is not None:
        count = plan.add
    else:
        most = max(before.values()) if plan.balance else int(plan.fill or 0)
        count = max(0, most - before[name])
    return count if plan.max_per_label is None else min(count, plan.max_per_label)
