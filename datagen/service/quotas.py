"""Quotas of owners, counted in the transaction that takes from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, case, func, select, update
from sqlalchemy.orm import Session

from datagen.db.tables import Batch, Dataset, Export, Job, Owner
from datagen.errors import QuotaExceeded
from datagen.schemas import ENDED, MAX_IMAGES
from datagen.service.common import lock_owner
from datagen.settings import Settings

_ENDED = Job.state.in_(sorted(ENDED))
_GRANT = (
    update(Owner)
    .where(
        Owner.id == bindparam("owner_id"),
        Owner.images_granted + bindparam("wanted")
        <= func.coalesce(Owner.quota_images, bindparam("general")),
    )
    .values(images_granted=Owner.images_granted + bindparam("wanted"))
    .returning(Owner.quota_jobs, Owner.quota_bytes)
    .execution_options(synchronize_session=False)
)


@dataclass(frozen=True)
class Used:
    """How much of a quota is used; None is no quota at all."""

    quota: int | None
    used: int

    @property
    def left(self) -> float:
        """What is left of it."""
        return math.inf if self.quota is None else max(0, self.quota - self.used)


class _Own(NamedTuple):
    """Quotas of one owner's own."""

    jobs: int | None
    bytes: int | None


def images(session: Session, settings: Settings, owner: Owner) -> Used:
    """Images: a job that goes on uses what it asks for, one that has ended what it has stored."""
    quota = _quota(owner, settings, "images")
    used = session.scalar(
        select(
            func.coalesce(
                func.sum(case((_ENDED, Job.images_stored), else_=Job.images_requested)), 0
            )
        ).where(Job.owner_id == owner.id, Job.removed_at.is_(None))
    )
    return Used(quota, int(used or 0))


def jobs(session: Session, settings: Settings, owner: Owner) -> Used:
    """Jobs that have not ended."""
    quota = _quota(owner, settings, "jobs")
    used = session.scalar(
        select(func.count()).select_from(Job).where(Job.owner_id == owner.id, ~_ENDED)
    )
    return Used(quota, used or 0)


def uploads(session: Session, settings: Settings, owner: Owner) -> Used:
    """Versions of datasets that are kept."""
    quota = _quota(owner, settings, "uploads")
    used = session.scalar(
        select(func.count())
        .select_from(Dataset)
        .where(Dataset.owner_id == owner.id, Dataset.removed_at.is_(None))
    )
    return Used(quota, used or 0)


def stored_bytes(session: Session, settings: Settings, owner: Owner) -> Used:
    """Bytes of what jobs and exports have stored, and of the pixels of datasets."""
    quota = _quota(owner, settings, "bytes")
    shards = session.scalar(
        select(func.coalesce(func.sum(Batch.shard_bytes), 0))
        .join(Job, Job.id == Batch.job_id)
        .where(Job.owner_id == owner.id, Job.removed_at.is_(None))
    )
    archives = session.scalar(
        select(func.coalesce(func.sum(Export.bytes), 0)).where(
            Export.owner_id == owner.id, Export.archive_key.is_not(None)
        )
    )
    pixels = sum(
        pixel_bytes(counts, shape)
        for counts, shape in session.execute(
            select(Dataset.counts, Dataset.image_shape).where(
                Dataset.owner_id == owner.id, Dataset.removed_at.is_(None)
            )
        ).all()
    )
    return Used(quota, int(shards or 0) + int(archives or 0) + pixels)


def pixel_bytes(counts: dict[str, list[int]], image_shape: list[int]) -> int:
    """Bytes of a dataset's pixels, which are stored as they are."""
    return sum(sum(own) for own in counts.values()) * math.prod(image_shape)


def take_job(session: Session, settings: Settings, owner_id: UUID, wanted: int) -> None:
    """Take what a job needs from its owner's quotas, or refuse it.

    Called when the transaction has written all else, so that the owner's other requests wait for
    no more than its commit.

    Args:
        session: in the transaction that has written the job, or has had it go on.
        settings: the quotas of owners that have none of their own.
        owner_id: whose job it is.
        wanted: images that it uses more than before.

    Raises:
        QuotaExceeded: too many images, too many jobs at once, or no bytes left.
    """
    own = _take_images(session, settings, owner_id, wanted)
    # What has no quota is not counted: that would read every job that the owner ever had.
    if {own.jobs, own.bytes, settings.quota_jobs, settings.quota_bytes} == {None}:
        return
    owner = session.get_one(Owner, owner_id)
    at_once = jobs(session, settings, owner)
    _refuse_job(replace(at_once, used=at_once.used - 1))
    _refuse_bytes(session, settings, owner, 1)


def take_images(session: Session, settings: Settings, owner_id: UUID, wanted: int) -> None:
    """Take images that the transaction has added to a job. Raises QuotaExceeded."""
    _take_images(session, settings, owner_id, wanted)


def _take_images(session: Session, settings: Settings, owner_id: UUID, wanted: int) -> _Own:
    """As above; returns the owner's other quotas.

    What was granted is added up, and never given back: it is no less than what is used. Only where
    it leaves no room are the jobs counted, however many they are.
    """
    numbers = {"owner_id": owner_id, "wanted": wanted, "general": settings.quota_images}
    if wanted <= MAX_IMAGES:
        granted = session.execute(_GRANT, numbers).first()
        if granted is not None:
            return _Own(*granted)
    owner = lock_owner(session, owner_id)
    found = images(session, settings, owner)
    _refuse_images(replace(found, used=found.used - wanted), wanted)
    owner.images_granted = found.used
    return _Own(owner.quota_jobs, owner.quota_bytes)


def refuse_job(session: Session, settings: Settings, owner_id: UUID, wanted: int) -> Used:
    """Refuse a job that is not written, as `take_job` would; returns the quota of images."""
    owner = session.get_one(Owner, owner_id)
    found = images(session, settings, owner)
    _refuse_images(found, wanted)
    _refuse_job(jobs(session, settings, owner))
    _refuse_bytes(session, settings, owner, 1)
    return found


def _refuse_images(found: Used, wanted: int) -> None:
    if wanted > min(found.left, MAX_IMAGES):
        raise QuotaExceeded(
            f"The job asks for {wanted:,} images and {found.left:,} of the quota of "
            f"{found.quota:,} are left; ask for fewer, or have the quota raised.",
            field="labels",
        )


def _refuse_job(at_once: Used) -> None:
    if at_once.left < 1:
        raise QuotaExceeded(
            f"{at_once.used} of your jobs have not ended, and {at_once.quota} may be at work at "
            "once; wait for one, or cancel one.",
        )


def take_bytes(session: Session, settings: Settings, owner_id: UUID, wanted: int = 1) -> None:
    """Refuse what needs more bytes than are left. Raises QuotaExceeded."""
    _refuse_bytes(session, settings, lock_owner(session, owner_id), wanted)


def take_upload(session: Session, settings: Settings, owner_id: UUID, wanted: int) -> None:
    """Refuse one more dataset of so many bytes where a quota has no room for it.

    Raises:
        QuotaExceeded: too many datasets, or no bytes left.
    """
    owner = lock_owner(session, owner_id)
    if _quota(owner, settings, "uploads") is not None:
        found = uploads(session, settings, owner)
        if found.left < 1:
            raise QuotaExceeded(
                f"You keep {found.used} versions of datasets, and {found.quota} is your quota; "
                "remove one, or have it raised."
            )
    _refuse_bytes(session, settings, owner, wanted)


def _refuse_bytes(session: Session, settings: Settings, owner: Owner, wanted: int) -> None:
    if _quota(owner, settings, "bytes") is None:
        return
    found = stored_bytes(session, settings, owner)
    if wanted > found.left:
        raise QuotaExceeded(
            f"{found.used:,} bytes of your quota of {found.quota:,} are used, and "
            f"{wanted:,} more are needed at least; remove jobs, exports or datasets, or have the "
            "quota raised."
        )


def _quota(owner: Owner, settings: Settings, name: str) -> int | None:
    own: int | None = getattr(owner, f"quota_{name}")
    general: int | None = getattr(settings, f"quota_{name}")
    return general if own is None else own
