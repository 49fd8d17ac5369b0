"""Webhooks: telling of what has ended, at the latest a tick after it.

Nothing is noted where work ends: a tick looks for what has ended since it last looked, so there is
no end, and no crash on the way, that it could miss. A telling is unique by webhook, event, resource
and moment.
"""

from __future__ import annotations

import base64
import math
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, false, func, select
from sqlalchemy.orm import Session

from datagen import schemas
from datagen.db.session import now
from datagen.db.tables import (
    Delivery,
    Export,
    ExportJob,
    Job,
    Model,
    Report,
    Run,
    Webhook,
    new_id,
)
from datagen.errors import Conflict, NotFound, TooManyRequests
from datagen.queue import DELIVER, Message
from datagen.schemas import ENDED, PING, Page, WebhookCreate, WebhookMade
from datagen.service import receivers
from datagen.service.common import (
    MAX_PAGE,
    decode_id_cursor,
    encode_cursor,
    insert_if_absent,
    lock_owner,
)
from datagen.service.unreadable_rows import skip_unreadable

SECRET_BYTES = 32
MOST_WEBHOOKS = 100
# Looked at again, since transactions that end later may carry earlier moments.
OVERLAP = timedelta(minutes=2)
KEPT = timedelta(days=30)
MOST_PINGS, PING_WINDOW = 6, timedelta(minutes=1)
KINDS: dict[str, type[Job | Export | Model | Report | Run]] = {
    "job": Job,
    "export": Export,
    "model": Model,
    "report": Report,
    "run": Run,
}


def create(session: Session, owner_id: UUID, wanted: WebhookCreate) -> WebhookMade:
    """Have an owner told from now on; the answer has the only copy of the secret.

    Raises:
        Conflict: the owner has a hundred already.
    """
    lock_owner(session, owner_id)
    refuse_one_too_many(session, owner_id)
    moment = now(session)
    row = Webhook(
        id=new_id(),
        owner_id=owner_id,
        url=wanted.url,
        events=list(dict.fromkeys(wanted.events)),
        named=wanted.named,
        secret=secrets.token_bytes(SECRET_BYTES),
        looked_at=moment,
        created_at=moment,
    )
    session.add(row)
    session.flush()
    return _made(row)


def refuse_one_too_many(session: Session, owner_id: UUID) -> None:
    """Refuse an owner who has a hundred already. Raises Conflict."""
    owned = select(func.count()).select_from(Webhook).where(Webhook.owner_id == owner_id)
    count = session.scalar(owned) or 0
    if count >= MOST_WEBHOOKS:
        raise Conflict(f"You have {count} webhooks, and that is the most; remove one.")


def list_webhooks(session: Session, owner_id: UUID) -> Page[schemas.Webhook]:
    """All of an owner's, newest first."""
    rows = session.scalars(
        select(Webhook).where(Webhook.owner_id == owner_id).order_by(Webhook.id.desc())
    )
    return Page(items=skip_unreadable(rows.all(), _webhook_schemas))


def _webhook_schemas(rows: Sequence[Webhook]) -> list[schemas.Webhook]:
    return [schemas.Webhook.model_validate(row) for row in rows]


def read(session: Session, owner_id: UUID, webhook_id: UUID) -> schemas.Webhook:
    """One of the owner's. Raises NotFound."""
    return schemas.Webhook.model_validate(_own(session, owner_id, webhook_id))


def rotate(session: Session, owner_id: UUID, webhook_id: UUID) -> WebhookMade:
    """Replace the secret; the former one signs beside it for a day. Raises NotFound."""
    row = _own(session, owner_id, webhook_id)
    row.former_secret, row.secret = row.secret, secrets.token_bytes(SECRET_BYTES)
    row.rotated_at = now(session)
    session.flush()
    return _made(row)


def remove(session: Session, owner_id: UUID, webhook_id: UUID) -> None:
    """Delete a webhook.

    Raises:
        NotFound: no such webhook of the owner's.
        Conflict: a delivery is being sent; it counts towards the limit of its owner.
    """
    row = _own(session, owner_id, webhook_id)
    # As deliveries do, before they lock the webhook.
    lock_owner(session, owner_id)
    if session.scalar(receivers.running(now(session)).where(Webhook.id == row.id)):
        raise Conflict(f"Webhook {row.id} is being posted to; try again in a moment.")
    session.execute(delete(Delivery).where(Delivery.webhook_id == row.id))
    session.delete(row)


def ping(
    session: Session, owner_id: UUID, webhook_id: UUID
) -> tuple[schemas.Delivery, list[Message]]:
    """Have a `ping` sent, to try the receiver, also one that is paused.

    Raises:
        NotFound: no such webhook of the owner's.
        TooManyRequests: the owner's webhooks were tried often in the last minute.
    """
    row = _own(session, owner_id, webhook_id)
    lock_owner(session, owner_id)
    _refuse_many_pings(session, owner_id)
    receivers.reopen(session, row)
    moment = now(session)
    delivery = Delivery(**_delivery(row.id, PING, row.id, moment) | {"sent_at": moment})
    session.add(delivery)
    session.flush()
    return _delivery_schema(delivery), [Message(DELIVER, {"delivery_id": str(delivery.id)})]


def _refuse_many_pings(session: Session, owner_id: UUID) -> None:
    # Of all webhooks together: an owner may have a hundred for one receiver.
    moment = now(session)
    sent = session.scalars(
        select(Delivery.created_at)
        .join(Webhook, Webhook.id == Delivery.webhook_id)
        .where(
            Webhook.owner_id == owner_id,
            Delivery.event == PING,
            Delivery.created_at > moment - PING_WINDOW,
        )
        .order_by(Delivery.created_at)
    ).all()
    if len(sent) < MOST_PINGS:
        return
    wait = max(1, math.ceil((sent[-MOST_PINGS] + PING_WINDOW - moment).total_seconds()))
    raise TooManyRequests(
        f"Your webhooks were tried {len(sent)} times within a minute, and that is the most; "
        f"wait {wait} s.",
        retry_after=wait,
    )


def list_deliveries(
    session: Session, owner_id: UUID, webhook_id: UUID, limit: int, cursor: str | None
) -> Page[schemas.Delivery]:
    """What was sent, newest first; kept for 30 days.

    Raises:
        NotFound: no such webhook of the owner's.
        InvalidRequest: a bad cursor.
    """
    row = _own(session, owner_id, webhook_id)
    query = select(Delivery).where(Delivery.webhook_id == row.id).order_by(Delivery.id.desc())
    if cursor is not None:
        query = query.where(Delivery.id < decode_id_cursor(cursor))
    limit = min(limit, MAX_PAGE)
    rows = session.scalars(query.limit(limit + 1)).all()
    following = encode_cursor(str(rows[limit - 1].id)) if len(rows) > limit else None
    return Page(items=skip_unreadable(rows[:limit], _delivery_schemas), next_cursor=following)


def _delivery_schemas(rows: Sequence[Delivery]) -> list[schemas.Delivery]:
    return [_delivery_schema(row) for row in rows]


def resend(
    session: Session, owner_id: UUID, webhook_id: UUID, delivery_id: UUID
) -> tuple[schemas.Delivery, list[Message]]:
    """Send one again, now.

    Raises:
        NotFound: no such webhook or delivery.
        Conflict: it is being sent.
    """
    receivers.reopen(session, _own(session, owner_id, webhook_id))
    row = session.get(Delivery, delivery_id, with_for_update=True)
    if row is None or row.webhook_id != webhook_id:
        raise NotFound(f"There is no delivery {delivery_id} of this webhook.")
    moment = now(session)
    if row.state == "running" and row.lease_until is not None and row.lease_until > moment:
        raise Conflict(f"Delivery {delivery_id} is being sent; look again in a moment.")
    # The attempts go on: a worker of before that still waits for its answer must not close this.
    row.state, row.attempt_floor = "queued", row.attempt
    row.ended_at = row.lease_until = None
    row.available_at = row.sent_at = moment
    session.flush()
    return _delivery_schema(row), [Message(DELIVER, {"delivery_id": str(row.id)})]


def note_ended(session: Session) -> None:
    """Write down what is to be told of all that has ended since the last look."""
    # Held, so that none is removed meanwhile; one that is being removed, or looked after by another
    # tick, is left alone.
    for hook in session.scalars(select(Webhook).with_for_update(skip_locked=True)).all():
        moment = now(session)
        # Never from a moment ahead: the clock may have been set back. Looking twice notes once.
        since = min(hook.looked_at, moment) - OVERLAP
        if hook.created_at <= moment:
            since = max(since, hook.created_at)
        wanted = {event.partition(".")[0] for event in hook.events}
        for name, kind in KINDS.items():
            if name not in wanted:
                continue
            ended = select(kind.id, kind.state, kind.ended_at).where(
                kind.owner_id == hook.owner_id,
                kind.ended_at >= since,
                kind.state.in_(sorted(ENDED)),
            )
            if hook.named:
                ended = ended.where(_naming(kind, hook.id))
            rows = session.execute(ended).all()
            for row_id, state, ended_at in rows:
                if f"{name}.{state}" in hook.events and ended_at is not None:
                    told = _delivery(hook.id, f"{name}.{state}", row_id, ended_at)
                    insert_if_absent(session, Delivery, **told | {"created_at": moment})
        hook.looked_at = moment


def tell(
    session: Session,
    owner_id: UUID,
    webhook_id: UUID,
    event: str,
    resource_id: UUID,
    moment: datetime,
) -> list[Message]:
    """Have one webhook told of one end, whatever it is told of else; none if it is told already.

    Raises:
        NotFound: no such webhook of the owner's.
    """
    row = _own(session, owner_id, webhook_id)
    told = _delivery(row.id, event, resource_id, moment)
    if not insert_if_absent(session, Delivery, **told | {"sent_at": moment}):
        return []
    return [Message(DELIVER, {"delivery_id": str(told["id"])})]


def _naming(
    kind: type[Job | Export | Model | Report | Run], webhook_id: UUID
) -> ColumnElement[bool]:
    """Which rows a webhook is told of that is told of those jobs alone that name it."""
    if kind is Job:
        return Job.webhook_id == webhook_id
    if kind is Export:
        return Export.id.in_(
            select(ExportJob.export_id)
            .join(Job, Job.id == ExportJob.job_id)
            .where(Job.webhook_id == webhook_id)
        )
    return false()


def check(session: Session, owner_id: UUID, webhook_id: UUID | None) -> None:
    """Refuse what names no webhook of the owner's. Raises NotFound."""
    if webhook_id is not None:
        _own(session, owner_id, webhook_id)


def expire(session: Session) -> None:
    """Drop what was sent long ago."""
    session.execute(delete(Delivery).where(Delivery.created_at < now(session) - KEPT))


def shown_secret(secret: bytes) -> str:
    """As receivers' libraries take it."""
    return "whsec_" + base64.b64encode(secret).decode()


def _delivery(webhook_id: UUID, event: str, resource_id: UUID, moment: datetime) -> dict[str, Any]:
    """The columns of a telling that is due at once."""
    return {
        "id": new_id(),
        "webhook_id": webhook_id,
        "event": event,
        "resource_id": resource_id,
        "happened_at": moment,
        "state": "queued",
        "attempt": 0,
        "attempt_floor": 0,
        "available_at": moment,
        "created_at": moment,
    }


def _own(session: Session, owner_id: UUID, webhook_id: UUID) -> Webhook:
    row = session.get(Webhook, webhook_id)
    if row is None or row.owner_id != owner_id:
        raise NotFound(f"There is no webhook {webhook_id}.")
    return row


def _made(row: Webhook) -> WebhookMade:
    told = schemas.Webhook.model_validate(row).model_dump()
    return WebhookMade(**told, secret=shown_secret(row.secret))


def _delivery_schema(row: Delivery) -> schemas.Delivery:
    names = ("id", "event", "resource_id", "state", "status", "error", "created_at", "ended_at")
    waits = row.state == "queued"
    return schemas.Delivery.model_validate(
        {name: getattr(row, name) for name in names}
        | {
            "attempt": row.attempt - row.attempt_floor,
            "next_attempt_at": row.available_at if waits else None,
        }
    )
