"""A clock that was set back: what was written while it ran ahead is brought back to now.

A lease, a wait or a due time that a clock a day ahead has written would otherwise hold for a day.
None is longer than its policy allows, so one that lies further ahead comes from such a clock. One
that is set forward needs nothing: what seems silent is done again, and of the due times that are
skipped one run is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import and_, exists, or_, select, update
from sqlalchemy.orm import Session

from datagen.db.session import now
from datagen.db.tables import Job, Pipeline, Run
from datagen.errors import Conflict
from datagen.service import claims
from datagen.service.pipelines import next_due, recipe_of
from datagen.service.running import LONGEST_RETRY
from datagen.settings import Settings

# Clocks are set by more than that, and transactions of one moment differ by less.
SLACK = timedelta(seconds=5)

log = structlog.get_logger()


def bring_back(
    session: Session, settings: Settings, kinds: Sequence[type[claims.Claimable]]
) -> None:
    """Shorten what lies further ahead than anything that is written now.

    Leases are shortened and not ended: a worker that lives renews its own, one that was killed
    falls silent within a lease.

    Args:
        session: in a write transaction.
        settings: how long leases and waits are.
        kinds: tables of what is claimed.
    """
    moment = now(session)
    session.execute(
        update(Job)
        .where(Job.state == "running", Job.settle_sent_at > moment + SLACK)
        .values(settle_sent_at=moment)
    )
    for kind in kinds:
        _bring_back_rows(session, settings, kind, moment)


def _bring_back_rows(
    session: Session, settings: Settings, kind: type[claims.Claimable], moment: datetime
) -> None:
    policy = claims.policy_of(settings, kind)
    wait = max(policy.wait(max(1, policy.attempts - 1)), claims.LONGEST_BACKOFF)
    # A run at a step waits for its next try by its lease, and for a retry by its own time.
    lease = max(policy.lease, wait) if kind is Run else policy.lease
    wait = max(wait, LONGEST_RETRY) if kind is Run else wait
    is_open = kind.state.in_(claims.OPEN)
    for ahead, values in (
        (
            and_(kind.state == "running", kind.lease_until > moment + lease + SLACK),
            {"lease_until": moment + policy.lease},
        ),
        (and_(is_open, kind.available_at > moment + wait + SLACK), {"available_at": moment}),
        (and_(is_open, kind.sent_at > moment + SLACK), {"sent_at": moment}),
    ):
        changed = session.execute(update(kind).where(ahead).values(**values).returning(kind.id))
        if rows := len(changed.all()):
            log.warning(
                "clock_was_set_back",
                of=kind.__name__.lower(),
                rows=rows,
                changed=next(iter(values)),
            )


def bring_back_due_times(session: Session) -> None:
    """Compute the next due time again of pipelines that were looked at while the clock ran ahead.

    A due time that comes a second time has its run already, and gets no other.
    """
    moment = now(session)
    ran_ahead = exists().where(
        Run.pipeline_id == Pipeline.id,
        Run.due_at > moment + SLACK,
        Run.due_at < Pipeline.next_due_at,
    )
    rows = session.scalars(
        select(Pipeline)
        .where(
            Pipeline.paused.is_(False),
            Pipeline.next_due_at > moment + SLACK,
            or_(Pipeline.updated_at > moment + SLACK, ran_ahead),
        )
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        try:
            schedule = recipe_of(row).schedule
        except Conflict:
            # Written by another version; the tick that finds it due says so.
            continue
        watches = schedule is not None and schedule.on_dataset
        row.next_due_at = moment if watches else next_due(schedule, moment, row.id)
        row.updated_at = min(row.updated_at, moment)
        log.warning("clock_was_set_back", of="pipeline", pipeline=str(row.id))
