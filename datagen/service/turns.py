"""Turns: whose long work a worker takes up next.

A message says that there is work, and of whom; the worker takes up that of the owner who has the
least in work, and of two such the one whose last turn is longer ago. So an owner with fifty
trainings and one with a single report take turns, whatever order their messages came in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from datagen.db.session import now
from datagen.db.tables import Export, Figures, Model, Owner, Report
from datagen.service import claims
from datagen.settings import Settings

Long = type[Export] | type[Figures] | type[Model] | type[Report]
Turn = Literal["train_turn_at", "export_turn_at"]
TRAINED: tuple[Long, ...] = (Model, Report, Figures)
EXPORTED: tuple[Long, ...] = (Export,)


@dataclass(frozen=True)
class _Waiting:
    """The row of an owner that waits longest, of one kind."""

    kind: Long
    owner_id: UUID
    since: datetime


def take(
    session: Session, settings: Settings, kinds: tuple[Long, ...], kind: Long, row_id: UUID
) -> tuple[Long, UUID]:
    """What to take up now that a message named a row, and a note that its owner had a turn.

    It is the row itself where nobody has to go first.
    """
    turn: Turn = "train_turn_at" if kind in TRAINED else "export_turn_at"
    asked = session.execute(_owners(kind).where(kind.id == row_id)).scalar_one_or_none()
    waiting = [one for own in kinds for one in _waiting(session, settings, own)]
    owners = {one.owner_id for one in waiting}
    if not owners:
        return kind, row_id
    running = _running(session, kinds)
    rows = session.execute(select(Owner.id, getattr(Owner, turn)).where(Owner.id.in_(owners)))
    turns: dict[UUID, datetime | None] = {owner_id: last for owner_id, last in rows}  # noqa: C416 - rows

    def place(owner_id: UUID) -> tuple[int, float, str]:
        last = turns.get(owner_id)
        return running.get(owner_id, 0), 0.0 if last is None else last.timestamp(), str(owner_id)

    first = min(owners, key=place)
    session.execute(update(Owner).where(Owner.id == first).values({turn: now(session)}))
    if first == asked and _is_due(session, settings, kind, row_id):
        return kind, row_id
    oldest = min((one for one in waiting if one.owner_id == first), key=lambda one: one.since)
    found = session.scalar(
        _due(session, settings, oldest.kind, select(oldest.kind.id))
        .where(_owner_column(oldest.kind) == first)
        .order_by(oldest.kind.available_at, oldest.kind.id)
        .limit(1)
    )
    return (kind, row_id) if found is None else (oldest.kind, found)


def _owner_column(kind: Long) -> Any:
    return Model.owner_id if kind is Figures else kind.owner_id  # type: ignore[union-attr]


def _owners(kind: Long) -> Any:
    """The owners of rows of a kind; figures are those of their model's owner."""
    query = select(_owner_column(kind)).select_from(kind)
    return query.join(Model, Model.id == Figures.model_id) if kind is Figures else query


def _due(session: Session, settings: Settings, kind: Long, query: Any) -> Any:
    policy = claims.policy_of(settings, kind)
    if kind is Figures:
        query = query.join(Model, Model.id == Figures.model_id)
    return query.where(
        kind.state == "queued",
        kind.available_at <= now(session),
        kind.attempt - kind.attempt_floor < policy.attempts,
    )


def _is_due(session: Session, settings: Settings, kind: Long, row_id: UUID) -> bool:
    query = _due(session, settings, kind, select(kind.id)).where(kind.id == row_id)
    return session.execute(query).first() is not None


def _waiting(session: Session, settings: Settings, kind: Long) -> list[_Waiting]:
    owner = _owner_column(kind)
    query = _due(session, settings, kind, select(owner, func.min(kind.available_at)))
    rows = session.execute(query.group_by(owner)).all()
    return [_Waiting(kind, owner_id, since) for owner_id, since in rows]


def _running(session: Session, kinds: tuple[Long, ...]) -> dict[UUID, int]:
    found: dict[UUID, int] = {}
    moment = now(session)
    for kind in kinds:
        owner = _owner_column(kind)
        query: Any = select(owner, func.count()).select_from(kind)
        if kind is Figures:
            query = query.join(Model, Model.id == Figures.model_id)
        query = query.where(kind.state == "running", kind.lease_until > moment)
        for owner_id, count in session.execute(query.group_by(owner)).all():
            found[owner_id] = found.get(owner_id, 0) + count
    return found
