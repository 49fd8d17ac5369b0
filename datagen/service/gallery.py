"""The gallery of a job: pages of its samples with their images, by index or by score."""

from __future__ import annotations

import base64
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from datagen.db.tables import Batch, Job, Model, Sample
from datagen.errors import InvalidRequest
from datagen.schemas import MAX_IMAGES
from datagen.service.common import decode_cursor, encode_cursor, owned
from datagen.service.samples import label_number, range_of
from datagen.shards import read_images_of
from datagen.storage import Storage

MOST = 200
Order = Literal["index", "score", "-score"]


@dataclass(frozen=True)
class Tile:
    """A sample with its image.

    Attributes:
        png: in Base64; None where the shard is missing.
    """

    index: int
    label: str
    judged_label: str
    score: float
    png: str | None


@dataclass(frozen=True)
class Tiles:
    """A page of them, and the cursor of the next."""

    items: list[Tile]
    next_cursor: str | None


def tiles(
    session: Session,
    storage: Storage,
    owner_id: UUID,
    job_id: UUID,
    *,
    label: str | None = None,
    min_score: float = 0.0,
    order: Order = "index",
    limit: int = 120,
    cursor: str | None = None,
) -> Tiles:
    """A page of a job's samples.

    Raises:
        NotFound: no such job of the owner's.
        UnknownLabel: a label that the job's model does not know.
        InvalidRequest: a bad cursor.
    """
    job = owned(session, Job, owner_id, job_id)
    names = session.get_one(Model, job.model_id).class_names
    query = select(Sample).where(Sample.job_id == job_id)
    if label is not None:
        number = label_number(names, label)
        query = query.where(Sample.label == number)
        first, last = range_of(session, job_id, number)
        if last:
            query = query.where(Sample.index >= first, Sample.index < last)
    if min_score > 0:
        query = query.where(Sample.score >= min_score)
    if order == "index":
        query = query.order_by(Sample.index)
    else:
        rising = order == "score"
        query = query.order_by(Sample.score if rising else Sample.score.desc(), Sample.index)
    if cursor is not None:
        score, place = _place(cursor)
        if order == "index":
            query = query.where(Sample.index > place)
        else:
            beyond = Sample.score > score if order == "score" else Sample.score < score
            query = query.where(or_(beyond, and_(Sample.score == score, Sample.index > place)))
    limit = min(limit, MOST)
    rows = session.scalars(query.limit(limit + 1)).all()
    end = rows[limit - 1] if len(rows) > limit else None
    shown = rows[:limit]
    images = _images(session, storage, job_id, [row.index for row in shown])
    return Tiles(
        [
            Tile(row.index, names[row.label], names[row.judged_label], row.score,
                 images.get(row.index))
            for row in shown
        ],
        None if end is None else encode_cursor([end.score, end.index]),
    )  # fmt: skip


def _place(cursor: str) -> tuple[float, int]:
    position = decode_cursor(cursor)
    if isinstance(position, list) and len(position) == 2:  # noqa: PLR2004 - score and index
        score, index = position
        # To Python, true is 1, and JSON's NaN a number.
        if type(score) in {int, float} and type(index) is int and 0 <= index < MAX_IMAGES:
            with suppress(OverflowError):
                if math.isfinite(score):
                    return float(score), index
    raise InvalidRequest(
        f"The cursor {cursor[:40]!r} is not one of ours; begin with the first page.",
        field="cursor",
    )


def _images(
    session: Session, storage: Storage, job_id: UUID, indices: Sequence[int]
) -> dict[int, str]:
    """The images of some samples, shard by shard."""
    if not indices:
        return {}
    low, high = min(indices), max(indices)
    batches = session.execute(
        select(Batch.start, Batch.stop, Batch.shard_key)
        .where(
            Batch.job_id == job_id,
            Batch.stop > low,
            Batch.start <= high,
            Batch.shard_key.is_not(None),
        )
        .order_by(Batch.start)
    ).all()
    wanted: dict[str, list[int]] = defaultdict(list)
    starts = [batch.start for batch in batches]
    for index in indices:
        place = bisect_right(starts, index) - 1
        if place >= 0 and index < batches[place].stop:
            wanted[batches[place].shard_key].append(index)
    found: dict[int, bytes] = {}
    for key, own in wanted.items():
        try:
            with storage.open(key) as shard:
                found |= read_images_of(shard, own)
        except FileNotFoundError:
            # `datagen db check` tells of it; the others are shown.
            continue
    return {index: base64.b64encode(image).decode() for index, image in found.items()}
