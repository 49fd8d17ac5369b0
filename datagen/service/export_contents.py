"""What goes into an export: counted when it is asked for, and gone through when it is written.

Both follow from the request alone. Synthetic images of a class are numbered in the order of the
jobs and of their indices; those that pass the filters are taken from the first on, as many as the
plan wants, and a seeded shuffle of these numbers shares them out to the splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from datagen.datasets.collecting import class_order
from datagen.db.tables import Dataset, Job, JobLabel, Model, Sample
from datagen.errors import Conflict, InvalidRequest
from datagen.schemas import ENDED, SPLITS, ExportCreate
from datagen.service import learnt
from datagen.service.common import find_dataset, image_shape, owned
from datagen.service.learnt import Learnt

TOLD_CLASSES = 5
NOWHERE = len(SPLITS)


@dataclass(frozen=True)
class JobPart:
    """The images of one job that an export takes.

    Attributes:
        job_id: the job.
        places: for each class of its model the number that it has in the export, int64 (K,).
        available: images of each class of the export that pass the filters, int64 (K,).
    """

    job_id: UUID
    places: np.ndarray
    available: np.ndarray


@dataclass(frozen=True)
class RealPart:
    """The real images that an export takes.

    Attributes:
        dataset_id: the dataset.
        places: for each class of the dataset the number that it has in the export, int64 (K,).
        counts: images of each class in each split, after the filter by label, int64 (K,).
    """

    dataset_id: UUID
    places: np.ndarray
    counts: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Contents:
    """All that an export takes.

    Attributes:
        class_names, image_shape: what all sources have.
        jobs: in order.
        real: None where there is no dataset.
        taken: synthetic images of each class, int64 (K,).
        shares: of each split for them.
        seed: of the shuffle.
        warnings: sentences about what to mind.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    jobs: tuple[JobPart, ...]
    real: RealPart | None
    taken: np.ndarray
    shares: Mapping[str, float]
    seed: int
    warnings: tuple[str, ...] = field(default=())

    @property
    def synthetic(self) -> dict[str, np.ndarray]:
        """Synthetic images of each class in each split, int64 (K,)."""
        parts = [_exact(self.shares, int(count)) for count in self.taken]
        table = np.array(parts, dtype=np.int64).reshape(len(self.taken), len(SPLITS))
        return {name: table[:, number] for number, name in enumerate(SPLITS)}

    @property
    def counts(self) -> dict[str, np.ndarray]:
        """All images of each class in each split that has any."""
        real = {} if self.real is None else self.real.counts
        found = {name: counts + real.get(name, 0) for name, counts in self.synthetic.items()}
        return {name: counts for name, counts in found.items() if counts.any()}

    @property
    def images_total(self) -> int:
        """Images in all splits."""
        return sum(int(counts.sum()) for counts in self.counts.values())

    def placed(self) -> Placing:
        """Where each synthetic image goes, as they come in order."""
        return Placing(self)


class Placing:
    """Gives each synthetic image that passes the filters its split, or none."""

    def __init__(self, contents: Contents) -> None:
        self._taken = contents.taken
        self._seen = np.zeros_like(contents.taken)
        self._splits = [
            _shuffled(contents, label, count) for label, count in enumerate(contents.taken.tolist())
        ]

    def of(self, labels: np.ndarray) -> np.ndarray:
        """Numbers of SPLITS for the next images, of these labels; NOWHERE for what is left out."""
        found = np.full(len(labels), NOWHERE, dtype=np.int64)
        for label in np.unique(labels).tolist():
            rows = np.flatnonzero(labels == label)
            places = self._seen[label] + np.arange(len(rows))
            self._seen[label] += len(rows)
            inside = places < self._taken[label]
            splits = self._splits[label]
            found[rows[inside]] = splits if isinstance(splits, int) else splits[places[inside]]
        return found


def _shuffled(contents: Contents, label: int, count: int) -> np.ndarray | int:
    """The split of each image of a class, uint8 (n,); one number where all go into one."""
    counts = _exact(contents.shares, count)
    if max(counts) == count:
        return int(np.argmax(counts))
    splits = np.repeat(np.arange(len(SPLITS), dtype=np.uint8), counts)
    np.random.default_rng([contents.seed, label]).shuffle(splits)
    return splits


def _exact(shares: Mapping[str, float], count: int) -> list[int]:
    """Whole numbers in the proportion of the shares that add up to the count, in SPLITS' order."""
    wanted = np.array([shares.get(name, 0.0) for name in SPLITS]) * count
    whole = np.floor(wanted + 1e-9).astype(np.int64)
    for number in np.argsort(-(wanted - whole), kind="stable")[: count - int(whole.sum())]:
        whole[number] += 1
    return [int(value) for value in whole]


def resolve(session: Session, owner_id: UUID, request: ExportCreate) -> Contents:
    """Count what a request for an export takes.

    Raises:
        NotFound: a job or a dataset that the owner does not have.
        Conflict: a job that has not ended.
        InvalidRequest: sources that do not fit together, an unknown label, a plan that asks for
            more images than there are, or nothing at all.
    """
    jobs = [_ended_job(session, owner_id, job_id) for job_id in request.all_jobs]
    models = [session.get_one(Model, job.model_id) for job in jobs]
    dataset = None if request.dataset is None else find_dataset(session, owner_id, request.dataset)
    first = models[0] if dataset is None else dataset
    names = tuple(first.class_names)
    if request.class_order == "name":
        names = class_order(names)
    for job, model in zip(jobs, models, strict=True):
        _refuse_unlike(job, model, names, first)
    wanted = _wanted_labels(request, names)
    parts = tuple(
        _job_part(session, job, model, request, names, wanted)
        for job, model in zip(jobs, models, strict=True)
    )
    real = None if dataset is None else _real_part(dataset, names, wanted)
    impossible, left_out = _impossible(session, request, parts, real, models, dataset, names)
    taken, warnings = _taken(request, parts, real, names, wanted & ~impossible)
    shares = request.splits or {"train": 1.0}
    contents = Contents(
        class_names=names,
        image_shape=image_shape(first),
        jobs=parts,
        real=real,
        taken=taken,
        shares=shares,
        seed=request.split_seed,
        warnings=(*warnings, *left_out, *_of_splits(taken, shares)),
    )
    if contents.images_total == 0:
        raise InvalidRequest(_nothing(jobs, request), field="job")
    return contents


def _ended_job(session: Session, owner_id: UUID, job_id: UUID) -> Job:
    job = owned(session, Job, owner_id, job_id)
    if job.state not in ENDED:
        raise Conflict(f"Job {job.id} is {job.state}; export it when it has ended.")
    return job


def _refuse_unlike(job: Job, model: Model, names: Sequence[str], first: Model | Dataset) -> None:
    whose = f"{type(first).__name__.lower()} {first.name!r}"
    if image_shape(model) != image_shape(first):
        raise InvalidRequest(
            f"The images of job {job.id} are {_size(model)}, and those of the {whose} are "
            f"{_size(first)}; one export has images of one size.",
            field="jobs",
        )
    strange = sorted(set(model.class_names) - set(names))
    if strange:
        raise InvalidRequest(
            f"Job {job.id} has the label {strange[0][:80]!r}, which the {whose} does not know; one "
            "export has one set of labels.",
            field="jobs",
        )


def _size(source: Model | Dataset) -> str:
    channels, height, width = source.image_shape
    return f"{width} x {height} pixels, {'grey' if channels == 1 else 'RGB'}"


def _wanted_labels(request: ExportCreate, names: Sequence[str]) -> np.ndarray:
    """Which classes are wanted, bool (K,)."""
    if request.labels is None:
        return np.ones(len(names), dtype=bool)
    unknown = [label for label in request.labels if label not in set(names)]
    if unknown:
        known = ", ".join(repr(name) for name in names[:TOLD_CLASSES])
        more = ", …" if len(names) > TOLD_CLASSES else ""
        raise InvalidRequest(
            f"There is no label {unknown[0][:80]!r}; there are {known}{more}.", field="labels"
        )
    return np.isin(names, request.labels)


def _job_part(
    session: Session,
    job: Job,
    model: Model,
    request: ExportCreate,
    names: Sequence[str],
    wanted: np.ndarray,
) -> JobPart:
    places = _places(model.class_names, names)
    available = np.zeros(len(names), dtype=np.int64)
    for label, count in session.execute(_counting(job.id, request)).all():
        available[places[label]] += count
    return JobPart(job.id, places, np.where(wanted, available, 0))


def _counting(job_id: UUID, request: ExportCreate) -> Any:
    """The query for the images of each label that pass the filters."""
    if request.min_score is None and request.indices is None:
        return (
            select(JobLabel.label, func.sum(JobLabel.stored))
            .where(JobLabel.job_id == job_id, JobLabel.label >= 0)
            .group_by(JobLabel.label)
        )
    query = select(Sample.label, func.count()).where(Sample.job_id == job_id)
    if request.indices is not None:
        start, stop = request.indices
        query = query.where(Sample.index >= start, Sample.index < stop)
    if request.min_score is not None:
        query = query.where(Sample.score >= request.min_score)
    return query.group_by(Sample.label)


def _real_part(dataset: Dataset, names: Sequence[str], wanted: np.ndarray) -> RealPart:
    places = _places(dataset.class_names, names)
    # The dataset's number of each class of the export.
    own = np.argsort(places)
    counts = {
        split: np.where(wanted, np.array(found, dtype=np.int64)[own], 0)
        for split, found in dataset.counts.items()
    }
    return RealPart(dataset.id, places, counts)


def _places(own: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """The numbers in `names` of a source's own classes, int64 (K,)."""
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[name] for name in own], dtype=np.int64)


def _impossible(
    session: Session,
    request: ExportCreate,
    parts: Sequence[JobPart],
    real: RealPart | None,
    models: Sequence[Model],
    dataset: Dataset | None,
    names: Sequence[str],
) -> tuple[np.ndarray, list[str]]:
    """Which classes a plan cannot fill, since nothing has learnt them, bool (K,); and why.

    Raises:
        UnknownLabel: one of them that is asked for by name, and of which there is no image at all.
    """
    if request.plan is None or real is None or dataset is None:
        return np.zeros(len(names), dtype=bool), []
    found = [learnt.of_model(session, model) for model in models] or [learnt.of_dataset(dataset)]
    able = {known.class_names[label] for known in found for label in known.labels}
    made = np.sum([part.available for part in parts], axis=0) if parts else np.zeros(len(names))
    train = real.counts.get("train", np.zeros(len(names), dtype=np.int64))
    lacks = _planned(request, train) > 0
    impossible = np.array([name not in able for name in names]) & (made == 0) & lacks
    if request.labels is not None:
        impossible &= np.isin(names, request.labels)
    left_out = [names[row] for row in np.flatnonzero(impossible).tolist()]
    if not left_out:
        return impossible, []
    whose = found[0].whose if len(found) == 1 else "The models of these jobs had"
    own = Learnt(whose, tuple(names), tuple(int(row) for row in ~impossible))
    if request.labels is not None:
        real_ones = np.sum(list(real.counts.values()), axis=0)
        own.refuse(
            [names[row] for row in np.flatnonzero(impossible & (real_ones == 0)).tolist()], "labels"
        )
    return impossible, [own.note(left_out)]


def _taken(
    request: ExportCreate,
    parts: Sequence[JobPart],
    real: RealPart | None,
    names: Sequence[str],
    wanted: np.ndarray,
) -> tuple[np.ndarray, list[str]]:
    """Synthetic images of each class that are taken, and what to warn of."""
    none = np.zeros(len(names), dtype=np.int64)
    there = np.sum([part.available for part in parts], axis=0) if parts else none
    capped = there if request.max_per_label is None else np.minimum(there, request.max_per_label)
    if request.plan is None or real is None:
        return capped, []
    asked = np.where(wanted, _planned(request, real.counts.get("train", none)), 0)
    short = asked - np.minimum(asked, capped)
    if not short.any():
        return asked, []
    rows = np.flatnonzero(short)
    told = ", ".join(
        f"{names[row]!r} {asked[row]:,} and there are {capped[row]:,}"
        for row in rows[:TOLD_CLASSES]
    )
    more = f", and {len(rows) - TOLD_CLASSES} more labels" if len(rows) > TOLD_CLASSES else ""
    if request.on_shortfall == "fail":
        missing = ",".join(f"{names[row]}={short[row]}" for row in rows[:TOLD_CLASSES])
        raise InvalidRequest(
            f"The plan asks for more synthetic images than the jobs have: for label {told}{more}. "
            f"Generate the missing ones (labels {missing}) and name that job too, or set "
            "'on_shortfall' to 'keep' (--keep).",
            field="plan",
        )
    return asked - short, [f"The plan was not reached: it asks for label {told}{more}."]


def _planned(request: ExportCreate, train: np.ndarray) -> np.ndarray:
    plan = request.plan
    assert plan is not None  # noqa: S101 - for the type checker
    if plan.add is not None:
        return np.full_like(train, plan.add)
    most = int(train.max()) if plan.balance else int(plan.fill or 0)
    return np.asarray(np.maximum(0, most - train))


def _of_splits(taken: np.ndarray, shares: Mapping[str, float]) -> Iterator[str]:
    measuring = [name for name in SPLITS if name != "train" and shares.get(name, 0.0) > 0]
    if taken.any() and measuring:
        yield (
            f"Synthetic images stand in {' and '.join(measuring)}: what is measured on them is how "
            "well the generator's own images are recognised, not how well real ones will be. "
            "Measure on real images."
        )


def _nothing(jobs: Sequence[Job], request: ExportCreate) -> str:
    if len(jobs) == 1 and jobs[0].images_stored == 0:
        return (
            f"Job {jobs[0].id} is {jobs[0].state} and has stored no images; there is nothing to "
            "export."
        )
    filters = request.labels or request.min_score is not None or request.indices is not None
    why = "no image passes the filters" if filters else "the sources have no images"
    return f"There is nothing to export: {why}."
