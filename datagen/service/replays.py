"""Replays: a request that is sent twice with one `Idempotency-Key` is done once.

The first request writes a row before it is done, and its answer into that row afterwards; whoever
comes second finds one or the other. Rows are kept for a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from datagen.db.session import now
from datagen.db.tables import Replay
from datagen.errors import InFlight, InvalidRequest
from datagen.service.common import insert_if_absent

KEPT = timedelta(hours=24)
# After this a request without an answer was lost with its process, and may be done again.
LOST_AFTER = timedelta(minutes=15)
LONGEST_KEY = 200


@dataclass(frozen=True)
class Answer:
    """What a request was answered with; no body where it is not to be told again."""

    status: int
    headers: dict[str, str]
    body: bytes | None


def begin(session: Session, owner_id: UUID, key: str, fingerprint: bytes) -> Answer | None:
    """The first answer to a request, or None to whoever is to do it now.

    Args:
        session: in a transaction of its own.
        owner_id: who asks; keys of two owners have nothing to do with each other.
        key: the client's own.
        fingerprint: of the request, 32 bytes: the same key must mean the same request.

    Raises:
        InvalidRequest: the key was used for another request, or cannot be one.
        InFlight: the first request is still being done.
    """
    if not key or len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise InvalidRequest(
            f"Idempotency-Key is {key[:40]!r}; give 1 to {LONGEST_KEY} printable ASCII characters.",
            field="Idempotency-Key",
        )
    moment = now(session)
    session.execute(
        delete(Replay).where(
            Replay.owner_id == owner_id,
            Replay.key == key,
            (Replay.created_at < moment - KEPT)
            | (Replay.status.is_(None) & (Replay.created_at < moment - LOST_AFTER)),
        )
    )
    made = insert_if_absent(
        session,
        Replay,
        owner_id=owner_id,
        key=key,
        fingerprint=fingerprint,
        created_at=moment,
    )
    if made:
        return None
    row = session.scalars(
        select(Replay).where(Replay.owner_id == owner_id, Replay.key == key)
    ).one()
    if row.fingerprint != fingerprint:
        raise InvalidRequest(
            f"The Idempotency-Key {key[:40]!r} was used for another request; take a new one for "
            "this.",
            field="Idempotency-Key",
        )
    if row.status is None:
        raise InFlight(
            f"The first request with the Idempotency-Key {key[:40]!r} is still being done; ask "
            "again in a moment."
        )
    return Answer(row.status, row.headers or {}, row.body)


def finish(session: Session, owner_id: UUID, key: str, answer: Answer) -> None:
    """Keep the answer that the request got."""
    session.execute(
        update(Replay)
        .where(Replay.owner_id == owner_id, Replay.key == key)
        .values(status=answer.status, headers=answer.headers, body=answer.body)
    )


def forget(session: Session, owner_id: UUID, key: str) -> None:
    """Let the request be done again: nothing came of it."""
    session.execute(
        delete(Replay).where(
            Replay.owner_id == owner_id, Replay.key == key, Replay.status.is_(None)
        )
    )


def expire(session: Session) -> None:
    """Drop answers that are no longer told again."""
    session.execute(delete(Replay).where(Replay.created_at < now(session) - KEPT))
