"""Turns: whose long work a worker takes up next.

A message says that there is work, and of whom; the worker takes up that of the owner who has the
least in work, and of two such the one whose last turn is longer ago. So an owner with fifty
trainings and one with a single report take turns, whatever order their messages came in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Select, func, select, update
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
    row_id: UUID
    owner_id: UUID
    since: datetime


def choose(session: Session, settings: Settings, kind: Long, row_id: UUID) -> tuple[Long, UUID]:
    """Choose what to take up now that a message named a row, and record its owner's turn.

    It is the row itself where nobody has to go first. Nothing is claimed: another worker may choose
    the same, and be sooner.
    """
    moment = now(session)
    kinds, turn = _workers_kinds(kind)
    waiting = [row for own in kinds for row in _waiting(session, settings, own, moment)]
    if not waiting:
        return kind, row_id
    first = _next_owner(session, turn, {row.owner_id for row in waiting}, kinds, moment)
    session.execute(update(Owner).where(Owner.id == first).values({turn: moment}))
    requested_owner = session.scalar(
        _rows(kind, _owner_of(kind)).where(kind.id == row_id, claims.is_due(settings, kind, moment))
    )
    if requested_owner == first:
        return kind, row_id
    oldest = min((row for row in waiting if row.owner_id == first), key=lambda row: row.since)
    return oldest.kind, oldest.row_id


def _workers_kinds(kind: Long) -> tuple[tuple[Long, ...], Turn]:
    """The kinds that the same workers do, and the column of their turns."""
    return (TRAINED, "train_turn_at") if kind in TRAINED else (EXPORTED, "export_turn_at")


def _next_owner(
    session: Session, turn: Turn, owners: set[UUID], kinds: tuple[Long, ...], moment: datetime
) -> UUID:
    running: Counter[UUID] = Counter()
    for kind in kinds:
        for owner_id, count in session.execute(_running(kind, moment)):
            running[owner_id] += count
    rows = session.execute(select(Owner.id, getattr(Owner, turn)).where(Owner.id.in_(owners)))
    last_turns = {owner_id: last.timestamp() for owner_id, last in rows if last is not None}
    return min(owners, key=lambda one: (running[one], last_turns.get(one, 0.0), str(one)))


def _waiting(
    session: Session, settings: Settings, kind: Long, moment: datetime
) -> Iterator[_Waiting]:
    owner = _owner_of(kind)
    place = func.row_number().over(partition_by=owner, order_by=(kind.available_at, kind.id))
    ranked = (
        _rows(kind, kind.id, owner.label("owner_id"), kind.available_at, place.label("place"))
        .where(claims.is_due(settings, kind, moment))
        .subquery()
    )
    columns = ranked.c.id, ranked.c.owner_id, ranked.c.available_at
    for row_id, owner_id, since in session.execute(select(*columns).where(ranked.c.place == 1)):
        yield _Waiting(kind, row_id, owner_id, since)


def _running(kind: Long, moment: datetime) -> Select[Any]:
    """Each owner with how many rows of a kind are in work."""
    owner = _owner_of(kind)
    return _rows(kind, owner, func.count()).where(claims.is_running(kind, moment)).group_by(owner)


def _owner_of(kind: Long) -> Any:
    """The column that says whose a row is; figures are those of their model's owner."""
    return Model.owner_id if kind is Figures else kind.owner_id  # type: ignore[union-attr]


def _rows(kind: Long, *columns: Any) -> Select[Any]:
    query = select(*columns).select_from(kind)
    return query.join(Model, Model.id == Figures.model_id) if kind is Figures else query
