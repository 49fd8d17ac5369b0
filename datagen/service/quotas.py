"""Quotas of owners, counted in the transaction that takes from them."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from datagen.db.tables import Job, Owner
from datagen.errors import QuotaExceeded
from datagen.schemas import ENDED, MAX_IMAGES
from datagen.settings import Settings


def images(session: Session, settings: Settings, owner_id: UUID) -> tuple[int, int]:
    """The owner's quota of images, and how many of it are used.

    A job that goes on uses what it asks for, one that has ended what it has stored.
    """
    owner = session.get_one(Owner, owner_id)
    ended = Job.state.in_(sorted(ENDED))
    used = session.scalar(
        select(
            func.coalesce(func.sum(case((ended, Job.images_stored), else_=Job.images_requested)), 0)
        ).where(Job.owner_id == owner_id, Job.removed_at.is_(None))
    )
    quota = settings.quota_images if owner.quota_images is None else owner.quota_images
    return quota, int(used or 0)


def take_images(session: Session, settings: Settings, owner_id: UUID, wanted: int) -> None:
    """Refuse a job that asks for more images than are left.

    Raises:
        QuotaExceeded: more than that.
    """
    # The owner's row is locked, so that requests that come together are counted one by one.
    session.execute(select(Owner.id).where(Owner.id == owner_id).with_for_update())
    quota, used = images(session, settings, owner_id)
    left = max(0, quota - used)
    if wanted > min(left, MAX_IMAGES):
        raise QuotaExceeded(
            f"The job asks for {wanted:,} images and {left:,} of the quota of {quota:,} are left; "
            "ask for fewer, or have the quota raised.",
            field="labels",
        )
