"""Claims: how exactly one worker at a time does a piece of work, and what follows a failed try.

Batches, exports, trainings, reports, figures, steps of runs and deliveries are all claimed here.

A claim is one conditional UPDATE that raises `attempt` and sets a lease. The attempt's number is
the fencing token: whoever closes, renews or releases must still hold it, else the row is no longer
theirs. A start is counted before the work begins, so work that kills its worker comes to an end.
Only attempts since `attempt_floor` count towards the limit: what was planned is no failure.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, and_, func, literal, not_, or_, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from datagen.db.base import UtcDateTime
from datagen.db.session import now
from datagen.db.tables import Batch, Delivery, Export, Figures, Model, Report, Run
from datagen.errors import DatagenError, Unavailable, reason_of
from datagen.settings import Settings

LONGEST_BACKOFF = timedelta(seconds=30)
# Seconds after each delivery that failed; together a day and a bit.
DELIVERY_WAITS = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 21_600, 36_000)
# Three times what a receiver may take to answer; nobody renews the claim meanwhile.
DELIVERY_LEASE = timedelta(seconds=30)
OPEN = ("queued", "running")
# Rows that a statement names: databases take a limited number of parameters.
AT_ONCE = 500
SILENT = "every worker that tried it was killed or fell silent."

# What the world outside may do.
_FORESEEN = (DatagenError, OSError, DBAPIError, RuntimeError, MemoryError)

Claimable = Batch | Delivery | Export | Figures | Model | Report | Run
Row = TypeVar("Row", bound=Claimable)
Read = TypeVar("Read")

log = structlog.get_logger()


@dataclass(frozen=True)
class Policy:
    """How often a kind of work is tried.

    Attributes:
        attempts: starts that may fail before the work has failed for good.
        lease: how long a worker may be silent.
        wait: how long to wait after so many failed tries, from 1 on.
    """

    attempts: int
    lease: timedelta
    wait: Callable[[int], timedelta]


@dataclass(frozen=True)
class Failure:
    """Why work has failed for good: after how many tries, and whether these were the last ones."""

    reason: str
    tries: int
    spent: bool

    def __str__(self) -> str:
        if not self.spent:
            return self.reason
        return f"Gave up after {self.tries} attempt{'' if self.tries == 1 else 's'}: {self.reason}"


# Ends a row for good; False where it is no longer the claimant's.
Fail = Callable[[Session, Failure], bool]


def doubled(first: timedelta, longest: timedelta, tries: int) -> timedelta:
    """How long to wait after so many failed tries: `first`, twice that, and so on to `longest`."""
    seconds = first.total_seconds() * 2.0 ** min(tries - 1, 30)
    return timedelta(seconds=min(seconds, longest.total_seconds()))


def policy_of(settings: Settings, kind: type[Row]) -> Policy:
    """How often work of a kind is tried, and how long its worker and its next try may take."""
    if kind is Delivery:
        return Policy(
            attempts=len(DELIVERY_WAITS) + 1,
            lease=DELIVERY_LEASE,
            wait=lambda tries: timedelta(seconds=DELIVERY_WAITS[tries - 1]),
        )
    first = timedelta(seconds=settings.backoff_seconds)
    return Policy(
        attempts=settings.max_attempts,
        lease=timedelta(seconds=settings.lease_seconds),
        wait=lambda tries: doubled(first, max(LONGEST_BACKOFF, first), tries),
    )


def failure_of(policy: Policy, tries: int, error: Exception) -> Failure | None:
    """What the error of a try means: that work has failed for good, or None for another try.

    It is another try where waiting may help and a try is left. An error that nobody foresaw may
    pass, for all that is known.

    Args:
        policy: of the kind of work.
        tries: attempts since work last went on as planned, this one included.
        error: what ended this one.
    """
    reason = reason_of(error)
    if isinstance(error, DatagenError) and not error.retryable:
        return Failure(reason, tries, spent=False)
    return Failure(reason, tries, spent=True) if tries >= policy.attempts else None


def note_failure(kind: type[Row], row_id: UUID, error: Exception) -> None:
    """Log why an attempt failed; what nobody foresaw is a defect, and leaves its trace."""
    defect = None if isinstance(error, _FORESEEN) else "".join(traceback.format_exception(error))
    log.warning(
        "attempt_failed",
        of=kind.__name__.lower(),
        id=str(row_id),
        reason=reason_of(error),
        **({} if defect is None else {"trace": defect}),
    )


def end_attempt(
    session: Session,
    settings: Settings,
    kind: type[Row],
    row_id: UUID,
    attempt: int,
    error: Exception,
    fail: Fail | None = None,
) -> bool:
    """End an attempt that failed: the row waits for the next one, or has failed for good.

    Args:
        session: in a write transaction.
        settings: how often work is tried.
        kind: table of the row.
        row_id: its id.
        attempt: the claimant's.
        error: what ended the attempt.
        fail: ends the row for good, where that takes more than its own columns.

    Returns:
        False, and nothing is changed, where the row is no longer the claimant's.
    """
    floor = session.scalar(select(kind.attempt_floor).where(held(kind, row_id, attempt)))
    if floor is None:
        return False
    policy, tries = policy_of(settings, kind), attempt - floor
    failure = failure_of(policy, tries, error)
    if failure is None:
        reason = reason_of(error)
        return _give_back(session, kind, row_id, attempt, policy.wait(tries), error=reason)
    if fail is not None:
        return fail(session, failure)
    return end_failed(session, kind, row_id, attempt, str(failure))


def end_failed(session: Session, kind: type[Row], row_id: UUID, attempt: int, reason: str) -> bool:
    """Record that a row has failed for good; False where it has moved on."""
    # What it would have gone on from; the sweep then removes it.
    state: dict[str, Any] = {"state_key": None} if hasattr(kind, "state_key") else {}
    ended = session.execute(
        update(kind)
        .where(kind.id == row_id, kind.attempt == attempt, kind.state.in_(OPEN))
        .values(state="failed", error=reason, lease_until=None, ended_at=now(session), **state)
        .returning(kind.id)
    )
    return ended.first() is not None


def claim(session: Session, settings: Settings, kind: type[Row], row_id: UUID) -> Row | None:
    """Take the row, if it waits or its last worker fell silent; None where it may not be taken.

    A row that has used up its attempts is not taken: `requeue_stale` closes it.
    """
    moment = now(session)
    is_silent = and_(_is_silent(kind, moment), _has_attempts(settings, kind))
    taken = session.execute(
        update(kind)
        .where(kind.id == row_id, or_(is_due(settings, kind, moment), is_silent))
        .values(
            state="running",
            attempt=kind.attempt + 1,
            lease_until=moment + policy_of(settings, kind).lease,
            started_at=func.coalesce(kind.started_at, literal(moment, UtcDateTime())),
        )
        .returning(kind.id)
    ).scalar_one_or_none()
    if taken is None:
        return None
    return session.get(kind, row_id, populate_existing=True)


def is_due(settings: Settings, kind: type[Row], moment: datetime) -> ColumnElement[bool]:
    """The condition that a row waits, that its time has come, and that it has attempts left."""
    return and_(kind.state == "queued", kind.available_at <= moment, _has_attempts(settings, kind))


def is_running(kind: type[Row], moment: datetime) -> ColumnElement[bool]:
    """The condition that a worker is at a row, under a lease."""
    return and_(kind.state == "running", kind.lease_until > moment)


def is_unsent(settings: Settings, kind: type[Row], moment: datetime) -> ColumnElement[bool]:
    """The condition that no message of a row was sent, or that the last one counts as lost."""
    forgotten = moment - timedelta(seconds=settings.resend_seconds)
    return or_(kind.sent_at.is_(None), kind.sent_at < forgotten)


def _is_silent(kind: type[Row], moment: datetime) -> ColumnElement[bool]:
    return and_(kind.state == "running", kind.lease_until < moment)


def _has_attempts(settings: Settings, kind: type[Row]) -> ColumnElement[bool]:
    return kind.attempt - kind.attempt_floor < policy_of(settings, kind).attempts


def read_claimed(
    session: Session,
    settings: Settings,
    row: Claimable,
    read: Callable[[], Read],
    fail: Fail | None = None,
) -> Read | None:
    """Read what the claimant of a row needs; None where it cannot be read, which ends the attempt.

    An error that went further would take the claim back with its transaction, so the attempt would
    not be counted, and the row would be claimed for ever.
    """
    try:
        with session.begin_nested():
            return read()
    except DBAPIError:
        raise
    except Exception as error:  # noqa: BLE001 - it is logged, and ends the attempt
        note_failure(type(row), row.id, error)
        end_attempt(session, settings, type(row), row.id, row.attempt, error, fail)
        return None


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
    lease = now(session) + policy_of(settings, kind).lease
    return change(session, kind, row_id, attempt, lease_until=lease)


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
    due = now(session) + wait
    # A run stays `running` while a worker is at one of its steps: `queued` is its own wait.
    waits = (
        {"lease_until": due}
        if kind is Run
        else {"state": "queued", "lease_until": None, "available_at": due}
    )
    return change(session, kind, row_id, attempt, sent_at=None, **waits, **values)


def release_expired(session: Session, settings: Settings, kind: type[Row]) -> None:
    """Give back what silent workers hold, each after its own backoff."""
    expired = session.execute(
        select(kind.id, kind.attempt).where(
            _is_silent(kind, now(session)), _has_attempts(settings, kind)
        )
    ).all()
    for row_id, attempt in expired:
        end_attempt(session, settings, kind, row_id, attempt, Unavailable(_silence(attempt)))


def _silence(attempt: int) -> str:
    return f"The worker of attempt {attempt} fell silent; it was killed or lost its database."


def exhausted(
    session: Session, settings: Settings, kind: type[Row]
) -> list[tuple[UUID, int, Failure]]:
    """Id, attempt and end of rows whose attempts are used up and that nobody runs any more."""
    rows = session.execute(
        select(kind.id, kind.attempt, kind.attempt_floor, kind.error).where(
            not_(_has_attempts(settings, kind)),
            or_(kind.state == "queued", _is_silent(kind, now(session))),
        )
    ).all()
    return [
        (row_id, attempt, Failure(error or SILENT, attempt - floor, spent=True))
        for row_id, attempt, floor, error in rows
    ]


def unsent(session: Session, settings: Settings, kind: type[Row]) -> list[UUID]:
    """Queued rows that are due and of which no message was sent lately; marks them as sent."""
    moment = now(session)
    due = list(
        session.scalars(
            select(kind.id)
            .where(is_due(settings, kind, moment), is_unsent(settings, kind, moment))
            .order_by(kind.id)
        )
    )
    for start in range(0, len(due), AT_ONCE):
        some = due[start : start + AT_ONCE]
        session.execute(update(kind).where(kind.id.in_(some)).values(sent_at=moment))
    return due
