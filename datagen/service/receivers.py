"""Receivers: how many deliveries are sent at once, and to whom none is sent for a while.

An owner has so many deliveries at once, whatever number of them waits; the others wait in the
database and take no worker's time. A receiver that failed several times in a row is left alone;
after a while one delivery is sent to see whether it is back, and the others follow where it is.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from datagen.db.session import now
from datagen.db.tables import Delivery, Webhook
from datagen.queue import DELIVER, Message
from datagen.service import claims
from datagen.service.common import lock_owner
from datagen.settings import Settings

# Deliveries of one owner at once. A worker of deliveries has room for several such owners.
AT_ONCE = 4
# So many failures in a row, and a receiver is left alone: for this long at first, then for twice as
# long each time that it fails again.
FAILURES = 3
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(hours=1)
# What waited for a receiver for so long has failed; a delivery that is tried all the time gives up
# after about a day.
LONGEST_WAIT = timedelta(days=2)


def may_send(session: Session, delivery_id: UUID) -> bool:
    """Whether a delivery may be sent now; one that may not waits, and is sent when it may.

    The owner's row stays locked until the transaction ends, so no two count the same room.
    """
    hook = session.scalar(
        select(Webhook)
        .join(Delivery, Delivery.webhook_id == Webhook.id)
        .where(Delivery.id == delivery_id)
    )
    if hook is None:
        return False
    lock_owner(session, hook.owner_id)
    hook = session.get(Webhook, hook.id, populate_existing=True)
    if hook is None:
        # Removed by whoever held the lock.
        return False
    moment = now(session)
    count = session.scalar(running(moment).where(Webhook.owner_id == hook.owner_id)) or 0
    if count < AT_ONCE and _is_open(session, hook, moment):
        return True
    session.execute(
        update(Delivery)
        .where(Delivery.id == delivery_id, Delivery.state == "queued")
        .values(sent_at=None)
    )
    return False


def _is_open(session: Session, hook: Webhook, moment: datetime) -> bool:
    """Whether the receiver works, or its pause is over and no other delivery is testing it."""
    if hook.failures < FAILURES:
        return True
    if hook.paused_until is not None and hook.paused_until > moment:
        return False
    return not session.scalar(running(moment).where(Webhook.id == hook.id))


def running(moment: datetime) -> Select[int]:
    """Counts the deliveries that are being sent; the caller says whose."""
    return (
        select(func.count())
        .select_from(Delivery)
        .join(Webhook, Webhook.id == Delivery.webhook_id)
        .where(claims.is_running(Delivery, moment))
    )


def record_outcome(session: Session, webhook_id: UUID, *, answered: bool) -> None:
    """Record whether a receiver answered; one that does has no failures and no pause any more."""
    # Removed meanwhile, it has nothing to record.
    hook = session.get(Webhook, webhook_id, with_for_update=True, populate_existing=True)
    if hook is None:
        return
    if answered:
        hook.failures, hook.paused_until = 0, None
        return
    hook.failures += 1
    if hook.failures >= FAILURES:
        pause = claims.doubled(FIRST_PAUSE, LONGEST_PAUSE, hook.failures - FAILURES + 1)
        hook.paused_until = now(session) + pause


def reopen(session: Session, hook: Webhook) -> None:
    """Let a receiver be tried now: somebody asks for it."""
    if hook.paused_until is not None:
        hook.paused_until = now(session)


def due(session: Session, settings: Settings, owner_id: UUID | None = None) -> list[Message]:
    """Messages of the deliveries that may be sent, of each owner as many as have room now.

    Args:
        session: in the transaction that marks them as sent.
        settings: after how long a message counts as lost.
        owner_id: whose; all owners' if None.
    """
    moment = now(session)
    order = (Delivery.available_at, Delivery.id)
    busy = (
        running(moment)
        .with_only_columns(Webhook.owner_id, func.count().label("count"))
        .group_by(Webhook.owner_id)
        .subquery()
    )
    waiting = (
        select(
            Delivery.id,
            func.row_number().over(partition_by=Webhook.owner_id, order_by=order).label("turn"),
            (AT_ONCE - func.coalesce(busy.c.count, 0)).label("room"),
        )
        .join(Webhook, Webhook.id == Delivery.webhook_id)
        .outerjoin(busy, busy.c.owner_id == Webhook.owner_id)
        .where(
            claims.is_due(settings, Delivery, moment),
            claims.is_unsent(settings, Delivery, moment),
            or_(Webhook.failures < FAILURES, _is_next_probe(moment)),
        )
    )
    if owner_id is not None:
        waiting = waiting.where(Webhook.owner_id == owner_id)
    ranked = waiting.subquery()
    ids = list(session.scalars(select(ranked.c.id).where(ranked.c.turn <= ranked.c.room)))
    session.execute(update(Delivery).where(Delivery.id.in_(ids)).values(sent_at=moment))
    return [Message(DELIVER, {"delivery_id": str(row_id)}) for row_id in ids]


def _is_next_probe(moment: datetime) -> ColumnElement[bool]:
    """The first of a paused receiver's deliveries, where the pause is over."""
    other = aliased(Delivery)
    first = (
        select(func.min(other.available_at))
        .where(
            other.webhook_id == Webhook.id,
            other.state == "queued",
            other.available_at <= moment,
        )
        .correlate(Webhook)
        .scalar_subquery()
    )
    over = or_(Webhook.paused_until.is_(None), Webhook.paused_until <= moment)
    return over & (Delivery.available_at <= first)


def give_up(session: Session) -> None:
    """End deliveries whose receiver has not come back."""
    moment = now(session)
    session.execute(
        update(Delivery)
        .where(Delivery.state == "queued", Delivery.available_at < moment - LONGEST_WAIT)
        .values(
            state="failed",
            error="Gave up: the receiver answered nothing for "
            f"{LONGEST_WAIT.days} days; have it sent again when it is back.",
            ended_at=moment,
        )
    )
