"""The real images nearest to one: what shows a copy to whoever looks."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Session

from datagen.bundled import MODEL
from datagen.datasets.sample import load_sample
from datagen.db.tables import Dataset, Job, Model, Owner, Sample
from datagen.errors import DatagenError
from datagen.images import LabelledImages, decode_png, encode_png
from datagen.service.common import owned, split_digests
from datagen.service.datasets import load_split
from datagen.service.models import TRAINING_SPLIT
from datagen.service.samples import sample_image
from datagen.service.sharing import BUNDLED_OWNER
from datagen.storage import Storage

SHOWN = 6
# Looked through at once; more of a label are passed over, so that an answer comes within a second.
MOST_COMPARED = 20_000


@dataclass(frozen=True)
class Near:
    """A real image near to one.

    Attributes:
        row: in the training split.
        distance: root of the mean squared difference of pixels, in grey levels.
        png: in Base64.
    """

    row: int
    distance: float
    png: str


def nearest(
    session: Session, storage: Storage, owner_id: UUID, job_id: UUID, index: int
) -> list[Near]:
    """Training images of the same label, the nearest first; none where they may not be shown.

    Raises:
        NotFound: no such job of the owner's, or no such sample.
    """
    job = owned(session, Job, owner_id, job_id)
    png = sample_image(session, storage, owner_id, job_id, index)
    model = session.get_one(Model, job.model_id)
    label = session.get_one(Sample, (job_id, index)).label
    real = _training_images(session, storage, owner_id, model)
    name = model.class_names[label]
    if real is None or name not in real.class_names:
        return []
    rows = np.flatnonzero(real.labels == real.class_names.index(name))[:MOST_COMPARED]
    image = decode_png(png).astype(np.float32)
    if image.shape != real.image_shape:
        return []
    distances = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), 1000):
        some = real.images[rows[start : start + 1000]].astype(np.float32)
        distances[start : start + 1000] = np.sqrt(((some - image) ** 2).mean(axis=(1, 2, 3)))
    best = np.argsort(distances, kind="stable")[:SHOWN]
    files = encode_png(np.ascontiguousarray(real.images[rows[best]]))
    return [
        Near(int(rows[place]), round(float(distances[place]), 1), base64.b64encode(file).decode())
        for place, file in zip(best, files, strict=True)
    ]


def _training_images(
    session: Session, storage: Storage, owner_id: UUID, model: Model
) -> LabelledImages | None:
    """What a model was trained on, where that is the owner's, or ships with datagen."""
    dataset = None if model.dataset_id is None else session.get(Dataset, model.dataset_id)
    if dataset is not None:
        if dataset.owner_id != owner_id or dataset.removed_at is not None:
            return None
        digest = split_digests(dataset).get(TRAINING_SPLIT)
        try:
            return load_split(storage, dataset.storage_prefix, TRAINING_SPLIT, digest)
        except DatagenError:
            return None
    maker = session.get_one(Owner, model.owner_id).name
    if maker == BUNDLED_OWNER and model.name == MODEL.stem:
        return load_sample()[TRAINING_SPLIT]
    return None
