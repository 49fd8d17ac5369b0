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
from sqlalchemy import Engine, or_, update
from sqlalchemy.orm import Session

import datagen
from datagen import schemas
from datagen.db.session import now, writing
from datagen.db.tables import Delivery, Export, Job, Model, Report, Run, Webhook
from datagen.errors import Forbidden
from datagen.schemas import PING
from datagen.service import exports, reports, runs, showing_jobs
from datagen.service.outgoing import ANSWER_SECONDS, post
from datagen.settings import Settings

# Seconds after each attempt that failed; together a day and a bit.
WAITS = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 21_600, 36_000)
FORMER_SIGNS = timedelta(hours=24)
LEASE = timedelta(seconds=3 * ANSWER_SECONDS)
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
    """What is to be told, to whom, by which secrets."""

    delivery_id: UUID
    attempt: int
    event: str
    url: str
    secrets: tuple[bytes, ...]
    body: bytes


def deliver(engine: Engine, settings: Settings, delivery_id: UUID) -> None:
    """Send one; safe to be told of twice."""
    with writing(engine) as session:
        work = _claim(session, delivery_id)
    if work is None:
        return
    status, error = _sent(work, settings)
    with writing(engine) as session:
        _record(session, work, status, error)


def signature(secret: bytes, delivery_id: UUID, timestamp: int, body: bytes) -> str:
    """One signature, as it stands in the header."""
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def _claim(session: Session, delivery_id: UUID) -> Work | None:
    moment = now(session)
    taken = session.execute(
        update(Delivery)
        .where(
            Delivery.id == delivery_id,
            or_(
                (Delivery.state == "queued") & (Delivery.available_at <= moment),
                (Delivery.state == "running") & (Delivery.lease_until < moment),
            ),
        )
        .values(state="running", attempt=Delivery.attempt + 1, lease_until=moment + LEASE)
        .returning(Delivery.id)
    ).first()
    if taken is None:
        return None
    row = session.get_one(Delivery, delivery_id, populate_existing=True)
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
    return Work(row.id, row.attempt, row.event, hook.url, tuple(secrets), body)


def _data(session: Session, row: Delivery) -> Any:
    """The resource as it is now; null for a ping, and where it is gone meanwhile."""
    if row.event == PING:
        return None
    name = row.event.partition(".")[0]
    if name == "job":
        job = session.get(Job, row.resource_id)
        if job is None or job.removed_at is not None:
            return None
        return showing_jobs.shown(session, [job])[0].model_dump(mode="json")
    if name == "export":
        export = session.get(Export, row.resource_id)
        return (
            None if export is None else exports.shown(session, [export])[0].model_dump(mode="json")
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
        return None if run is None else runs.shown(session, [run])[0].model_dump(mode="json")
    report = session.get(Report, row.resource_id)
    return (
        None
        if report is None
        else reports.read(session, report.owner_id, report.id).model_dump(mode="json")
    )


def _sent(work: Work, settings: Settings) -> tuple[int | None, str | None]:
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
        return None, error.detail
    except (*_NO_ANSWER, ValueError, OSError) as error:
        return None, f"{type(error).__name__}: {error}"[:SHOWN_LETTERS]
    if 200 <= status < 300:  # noqa: PLR2004 - the statuses of success
        return status, None
    return status, f"answered with {status}: {text[:SHOWN_LETTERS]}"


def _record(session: Session, work: Work, status: int | None, error: str | None) -> None:
    moment = now(session)
    values: dict[str, Any] = {
        "status": status,
        "error": error,
        "lease_until": None,
        "sent_at": None,
    }
    if error is None:
        values |= {"state": "succeeded", "ended_at": moment}
    elif work.attempt > len(WAITS):
        values |= {"state": "failed", "ended_at": moment}
        log.warning("webhook_given_up", delivery=str(work.delivery_id), reason=error)
    else:
        wait = timedelta(seconds=WAITS[work.attempt - 1])
        values |= {"state": "queued", "available_at": moment + wait}
    session.execute(
        update(Delivery)
        .where(
            Delivery.id == work.delivery_id,
            Delivery.attempt == work.attempt,
            Delivery.state == "running",
        )
        .values(values)
    )
