"""Claims: how exactly one worker at a time runs a batch, export, training, report, figures, step.

A claim is one conditional UPDATE that raises `attempt` and sets a lease. The attempt's number is
the fencing token: whoever closes, renews or releases must still hold it, else the row is no longer
theirs. A start is counted before the work begins, so work that kills its worker comes to an end.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, literal, or_, select, update
from sqlalchemy.orm import Session

from datagen.db.base import UtcDateTime
from datagen.db.session import now
from datagen.db.tables import Batch, Export, Figures, Model, Report, Run
from datagen.settings import Settings

LONGEST_BACKOFF_SECONDS = 30.0

Claimable = Batch | Export | Figures | Model | Report | Run
Row = TypeVar("Row", bound=Claimable)


def claim(session: Session, settings: Settings, kind: type[Row], row_id: UUID) -> Row | None:
    """Take the row, if it waits or its last worker fell silent; None where it may not be taken.

    A row that has used up its attempts is not taken: `requeue_stale` closes it.
    """
    moment = now(session)
    lease = moment + timedelta(seconds=settings.lease_seconds)
    taken = session.execute(
        update(kind)
        .where(
            kind.id == row_id,
            kind.attempt - kind.attempt_floor < settings.max_attempts,
            or_(
                and_(kind.state == "queued", kind.available_at <= moment),
                and_(kind.state == "running", kind.lease_until < moment),
            ),
        )
        .values(
            state="running",
            attempt=kind.attempt + 1,
            lease_until=lease,
            started_at=func.coalesce(kind.started_at, literal(moment, UtcDateTime())),
        )
        .returning(kind.id)
    ).scalar_one_or_none()
    if taken is None:
        return None
    return session.get(kind, row_id, populate_existing=True)


def held(kind: type[Row], row_id: UUID, attempt: int) -> ColumnElement[bool]:
    """The condition that the row is still the claimant's."""
    return and_(kind.id == row_id, kind.attempt == attempt, kind.state == "running")


def change(session: Session, kind: type[Row], row_id: UUID, attempt: int, **values: object) -> bool:
    """Change the row, if it is still the claimant's."""
    changed = session.execute(
        update(kind).where(held(kind, row_id, attempt)).values(**values).returning(kind.id)
    )
    return changed.first() is not None


def renew(
    session: Session, settings: Settings, kind: type[Row], row_id: UUID, attempt: int
) -> bool:
    """Prolong the lease; False where the row is no longer the claimant's."""
    lease = now(session) + timedelta(seconds=settings.lease_seconds)
    return change(session, kind, row_id, attempt, lease_until=lease)


def backoff(settings: Settings, attempt: int) -> timedelta:
    """How long to wait after the given attempt, in doubling steps."""
    seconds = settings.backoff_seconds * 2.0 ** min(attempt - 1, 30)
    return timedelta(seconds=min(seconds, max(LONGEST_BACKOFF_SECONDS, settings.backoff_seconds)))


def release(
    session: Session, settings: Settings, kind: type[Row], row_id: UUID, attempt: int, reason: str
) -> bool:
    """Give a claimed row back after a failure that may pass; False where it was taken over."""
    floor = session.scalar(select(kind.attempt_floor).where(kind.id == row_id)) or 0
    wait = backoff(settings, attempt - floor)
    return _give_back(session, kind, row_id, attempt, wait, error=reason)


def postpone(session: Session, kind: type[Row], row_id: UUID, attempt: int, seconds: float) -> bool:
    """Give a claimed row back that waits for something; that counts as no attempt."""
    wait = timedelta(seconds=seconds)
    return _give_back(session, kind, row_id, attempt, wait, attempt_floor=attempt)


def _give_back(
    session: Session,
    kind: type[Row],
    row_id: UUID,
    attempt: int,
    wait: timedelta,
    **values: object,
) -> bool:
    return change(
        session,
        kind,
        row_id,
        attempt,
        state="queued",
        lease_until=None,
        sent_at=None,
        available_at=now(session) + wait,
        **values,
    )


def release_expired(session: Session, settings: Settings, kind: type[Row]) -> None:
    """Give back what silent workers hold, each after its own backoff."""
    moment = now(session)
    expired = session.execute(
        select(kind.id, kind.attempt).where(
            kind.state == "running",
            kind.lease_until < moment,
            kind.attempt - kind.attempt_floor < settings.max_attempts,
        )
    ).all()
    for row_id, attempt in expired:
        release(
            session,
            settings,
            kind,
            row_id,
            attempt,
            f"The worker of attempt {attempt} fell silent; it was killed or lost its database.",
        )


def exhausted(session: Session, settings: Settings, kind: type[Row]) -> list[Row]:
    """Rows whose attempts are used up and that nobody runs any more."""
    moment = now(session)
    return list(
        session.scalars(
            select(kind).where(
                kind.attempt - kind.attempt_floor >= settings.max_attempts,
                or_(
                    kind.state == "queued",
                    and_(kind.state == "running", kind.lease_until < moment),
                ),
            )
        )
    )


def unsent(session: Session, settings: Settings, kind: type[Row]) -> list[UUID]:
    """Queued rows that are due and that no worker was told of lately; marks them as told."""
    moment = now(session)
    forgotten = moment - timedelta(seconds=settings.resend_seconds)
    due = list(
        session.scalars(
            select(kind.id)
            .where(
                kind.state == "queued",
                kind.available_at <= moment,
                kind.attempt - kind.attempt_floor < settings.max_attempts,
                or_(kind.sent_at.is_(None), kind.sent_at < forgotten),
            )
            .order_by(kind.id)
        )
    )
    if due:
        session.execute(update(kind).where(kind.id.in_(due)).values(sent_at=moment))
    return due
