"""Delivering: how a worker tells a receiver, and what it does when nobody answers.

Signed as https://www.standardwebhooks.com describes: HMAC-SHA256 over id, timestamp and body, so a
receiver knows who speaks, that nothing was changed, and when it was said.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpcore
import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

import datagen
from datagen import schemas
from datagen.db.session import now
from datagen.db.tables import Delivery, Export, Job, Model, Report, Run, Webhook
from datagen.errors import DatagenError, Forbidden, Unavailable, reason_of
from datagen.queue import Message
from datagen.schemas import PING
from datagen.service import claims, exports, job_views, receivers, reports, runs
from datagen.service.attempts import in_transaction
from datagen.service.common import lock_owner
from datagen.service.outgoing import post
from datagen.settings import Settings

FORMER_SIGNS = timedelta(hours=24)
SHOWN_LETTERS = 300
_NO_ANSWER = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)

log = structlog.get_logger()


@dataclass(frozen=True)
class Work:
    """What is sent, and where; each secret signs it."""

    owner_id: UUID
    webhook_id: UUID
    delivery_id: UUID
    attempt: int
    event: str
    url: str
    secrets: tuple[bytes, ...]
    body: bytes


def deliver(engine: Engine, settings: Settings, delivery_id: UUID) -> list[Message]:
    """Send one; returns the messages of what its owner has waiting. Safe to call twice."""
    work = in_transaction(engine, lambda session: _claim(session, settings, delivery_id))
    if work is None:
        return []
    status, error = _sent(work, settings)
    return in_transaction(engine, lambda session: _record(session, settings, work, status, error))


def signature(secret: bytes, delivery_id: UUID, timestamp: int, body: bytes) -> str:
    """One signature, as it stands in the header."""
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def _claim(session: Session, settings: Settings, delivery_id: UUID) -> Work | None:
    if not receivers.may_send(session, delivery_id):
        return None
    row = claims.claim(session, settings, Delivery, delivery_id)
    if row is None:
        return None
    return claims.read_claimed(session, settings, row, lambda: _work_of(session, row))


def _work_of(session: Session, row: Delivery) -> Work:
    moment = now(session)
    hook = session.get_one(Webhook, row.webhook_id)
    secrets = [hook.secret]
    rotated = hook.rotated_at
    if hook.former_secret is not None and rotated is not None and moment < rotated + FORMER_SIGNS:
        secrets.append(hook.former_secret)
    body = json.dumps(
        {
            "id": str(row.id),
            "event": row.event,
            "happened_at": row.happened_at.isoformat(),
            "data": _data(session, row),
        }
    ).encode()
    return Work(
        hook.owner_id, hook.id, row.id, row.attempt, row.event, hook.url, tuple(secrets), body
    )


def _data(session: Session, row: Delivery) -> Any:
    """The resource as it is now; null for a ping, and where it is gone meanwhile."""
    if row.event == PING:
        return None
    name = row.event.partition(".")[0]
    if name == "job":
        job = session.get(Job, row.resource_id)
        if job is None or job.removed_at is not None:
            return None
        return job_views.to_schemas(session, [job])[0].model_dump(mode="json")
    if name == "export":
        export = session.get(Export, row.resource_id)
        return (
            None
            if export is None
            else exports.to_schemas(session, [export])[0].model_dump(mode="json")
        )
    if name == "model":
        model = session.get(Model, row.resource_id)
        if model is None:
            return None
        return schemas.ModelRef.model_validate(model).model_dump(mode="json") | {
            "state": model.state,
            "error": model.error,
        }
    if name == "run":
        run = session.get(Run, row.resource_id)
        return None if run is None else runs.to_schemas(session, [run])[0].model_dump(mode="json")
    report = session.get(Report, row.resource_id)
    return (
        None
        if report is None
        else reports.read(session, report.owner_id, report.id).model_dump(mode="json")
    )


def _sent(work: Work, settings: Settings) -> tuple[int | None, DatagenError | None]:
    """The receiver's status, and why it counts as a failure; None where it does not."""
    timestamp = int(datetime.now(UTC).timestamp())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"datagen/{datagen.__version__}",
        "webhook-id": str(work.delivery_id),
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(
            signature(secret, work.delivery_id, timestamp, work.body) for secret in work.secrets
        ),
    }
    try:
        # httpcore leaves these two to its caller.
        host = httpcore.URL(work.url)
        port = "" if host.port is None else f":{host.port}"
        headers |= {"Host": host.host.decode() + port, "Content-Length": str(len(work.body))}
        status, text = post(work.url, work.body, headers, allow_private=settings.webhooks_private)
    except Forbidden as error:
        return None, error
    except (*_NO_ANSWER, ValueError, OSError) as error:
        return None, Unavailable(reason_of(error)[:SHOWN_LETTERS])
    if 200 <= status < 300:  # noqa: PLR2004 - the statuses of success
        return status, None
    return status, Unavailable(f"answered with {status}: {text[:SHOWN_LETTERS]}")


def _record(
    session: Session,
    settings: Settings,
    work: Work,
    status: int | None,
    error: DatagenError | None,
) -> list[Message]:
    lock_owner(session, work.owner_id)
    if error is None or work.event != PING:
        # A ping that fails is a try by hand: it does not prolong the pause.
        receivers.record_outcome(session, work.webhook_id, answered=error is None)
    own = (session, Delivery, work.delivery_id, work.attempt)
    if error is None:
        claims.change(
            *own, state="succeeded", status=status, error=None, lease_until=None, sent_at=None,
            ended_at=now(session),
        )  # fmt: skip
    else:
        claims.change(*own, status=status)
        log.info("webhook_not_delivered", delivery=str(work.delivery_id), reason=error.detail)
        claims.end_attempt(session, settings, Delivery, work.delivery_id, work.attempt, error)
    return receivers.due(session, settings, work.owner_id)
