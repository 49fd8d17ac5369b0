"""Replays: a request that is sent twice with one `Idempotency-Key` is done once.

The first request writes a row before it is done, and its answer into that row afterwards; whoever
comes second finds one or the other. Rows are stored for a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, select, update
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
    """The answer to a request; no body where it must not be stored."""

    status: int
    headers: dict[str, str]
    body: bytes | None


@dataclass(frozen=True)
class Stored:
    """The first answer, and a hash of the body that it was given to."""

    body_digest: bytes
    answer: Answer


def begin(session: Session, caller: str, key: str, head: bytes) -> Stored | datetime:
    """The first answer to a request; or, to whoever is to do it now, the moment it began.

    Args:
        session: in a transaction of its own.
        caller: the key or session that sends it; two of them have nothing to do with each other.
        key: the client's own.
        head: a hash of all that makes it the same request, the body aside; 32 bytes.

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
    own = (Replay.caller == caller, Replay.key == key)
    session.execute(
        delete(Replay).where(
            *own,
            (Replay.created_at < moment - KEPT) | (Replay.status.is_(None) & _lost(moment)),
        )
    )
    if insert_if_absent(session, Replay, caller=caller, key=key, head=head, created_at=moment):
        return moment
    row = session.scalars(select(Replay).where(*own)).one()
    if row.head != head:
        raise _other_request(key)
    if row.status is None or row.body_digest is None:
        raise InFlight(
            f"The first request with the Idempotency-Key {key[:40]!r} is still being done; ask "
            "again in a moment."
        )
    return Stored(row.body_digest, Answer(row.status, row.headers or {}, row.body))


def _lost(moment: datetime) -> ColumnElement[bool]:
    """Whether the process that began a request is gone, by a clock that may have been set back."""
    return (Replay.created_at < moment - LOST_AFTER) | (Replay.created_at > moment + LOST_AFTER)


def refuse_other(key: str, stored: Stored, body_digest: bytes) -> None:
    """Refuse a request with another body than the first one's. Raises InvalidRequest."""
    if stored.body_digest != body_digest:
        raise _other_request(key)


def _other_request(key: str) -> InvalidRequest:
    return InvalidRequest(
        f"The Idempotency-Key {key[:40]!r} was used for another request; take a new one for this.",
        field="Idempotency-Key",
    )


def finish(
    session: Session, caller: str, key: str, began: datetime, body_digest: bytes, answer: Answer
) -> None:
    """Store the answer that the request got; nothing where another one has its place by now."""
    session.execute(
        update(Replay)
        .where(*_begun(caller, key, began))
        .values(
            body_digest=body_digest,
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
        )
    )


def forget(session: Session, caller: str, key: str, began: datetime) -> None:
    """Let the request be done again: nothing came of it."""
    session.execute(delete(Replay).where(*_begun(caller, key, began)))


def _begun(caller: str, key: str, began: datetime) -> tuple[ColumnElement[bool], ...]:
    """The row of a request that is being done, and not that of one which took its place."""
    return (
        Replay.caller == caller,
        Replay.key == key,
        Replay.created_at == began,
        Replay.status.is_(None),
    )


def expire(session: Session) -> None:
    """Delete answers that are no longer given again."""
    session.execute(delete(Replay).where(Replay.created_at < now(session) - KEPT))
