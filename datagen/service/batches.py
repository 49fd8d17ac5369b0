"""Batches: cut from jobs within a window, claimed by workers, closed once.

Order of locks: the job's row first, then its batches'. Whoever changes both keeps to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Case, Subquery, and_, bindparam, case, delete, func, or_, select, update
from sqlalchemy.orm import Session

from datagen.db.bulk import insert_samples
from datagen.db.session import now
from datagen.db.tables import Batch, Job, Model, Redraw, Sample, new_id
from datagen.queue import MAKE_BATCHES, RUN_BATCH, SETTLE_JOB, Message
from datagen.service import claims, exports, sharing
from datagen.service.batch_reading import gate_of, redraws_within, work_of
from datagen.service.batch_work import BatchResult, BatchWork
from datagen.service.counting import count, refusals
from datagen.settings import Settings

# A first batch of one decode tile, so that the first images of a job are there at once.
FIRST_BATCH = 256
# Batches of one owner that are urgent at once: more would make those of other owners wait.
URGENT_AT_ONCE = 4
# Digests of so many images are compared at once.
SMALL_TO_SETTLE = 10_000
OPEN = claims.OPEN
_OUTSTANDING = select(func.count()).select_from(Batch).where(Batch.state.in_(OPEN))
_OPEN_OF_OWNER = (
    select(Job.owner_id, func.count().label("open"))
    .join(Batch, Batch.job_id == Job.id)
    .where(Batch.state.in_(OPEN))
    .group_by(Job.owner_id)
    .subquery()
)
# Open batches of an owner that are urgent by what `_run_message` goes by, built once.
_URGENT = (
    select(func.count())
    .select_from(Batch)
    .join(Job, Job.id == Batch.job_id)
    .where(
        Batch.state.in_(OPEN),
        Job.owner_id == bindparam("owner_id"),
        or_(
            Job.priority == "interactive",
            and_(
                Job.priority.is_(None),
                or_(Batch.start == 0, Job.images_requested <= Job.batch_size),
            ),
        ),
    )
)


def make_batches(session: Session, settings: Settings, most: int | None = None) -> list[Message]:
    """Cut batches, owner by owner in turn, until the window is full; returns the messages to send.

    Args:
        session: in the transaction that cuts them.
        settings: the window.
        most: no more than this many now; a message asks for the others.
    """
    free = _free(session, settings)
    room = free if most is None else min(free, most)
    if room <= 0:
        return []
    turns = _turns()
    waiting = list(
        session.scalars(
            select(Job)
            .join(turns, turns.c.id == Job.id)
            .where(Job.state.in_(OPEN), Job.next_index < Job.images_requested)
            .order_by(turns.c.turn, Job.id)
            .limit(room)
            .with_for_update(skip_locked=True, of=Job)
        )
    )
    moment, urgent = now(session), _UrgentLeft(session)
    made = [(job, _cut(job, moment)) for job in _in_turn(session, waiting, room)]
    # Before the batches are added, and count as open themselves.
    messages = [_run_message(job, batch, urgent) for job, batch in made]
    session.add_all(batch for _, batch in made)
    session.flush()
    waiting = [job for job in waiting if job.next_index < job.images_requested]
    if waiting and room < free:
        messages.append(Message(MAKE_BATCHES))
    return messages


def first_of(
    session: Session, settings: Settings, job: Job, moment: datetime, most: int
) -> tuple[list[Batch], list[Message]]:
    """The first batches of a job that is not written yet, and the messages to send.

    No other job is looked at: one that has no batch yet has the next turn anyhow.
    """
    urgent = _UrgentLeft(session)
    # However many batches others have at work, a job of who has few is begun at once.
    free = max(_free(session, settings), min(1, urgent.left(job.owner_id)))
    made: list[Batch] = []
    while len(made) < min(free, most) and job.next_index < job.images_requested:
        made.append(_cut(job, moment))
    messages = [_run_message(job, batch, urgent) for batch in made]
    if len(made) < free and job.next_index < job.images_requested:
        messages.append(Message(MAKE_BATCHES))
    return made, messages


def _free(session: Session, settings: Settings) -> int:
    """How many more batches the window has room for."""
    return settings.window - (session.scalar(_OUTSTANDING) or 0)


def count_of(images: int, batch_size: int) -> int:
    """How many batches a job of so many images is cut into."""
    first = min(FIRST_BATCH, batch_size)
    return 1 + max(0, -(-(images - first) // batch_size))


def reopen(session: Session, job: Job) -> list[Message]:
    """Queue the batches of a job again that were not made, with attempts of their own."""
    moment = now(session)
    rows = session.execute(
        update(Batch)
        .where(Batch.job_id == job.id, Batch.state.in_(("failed", "cancelled")))
        .values(
            state="queued",
            attempt_floor=Batch.attempt,
            available_at=moment,
            sent_at=moment,
            ended_at=None,
            error=None,
        )
        .returning(Batch.id)
    )
    messages = [Message(RUN_BATCH, {"batch_id": str(batch_id)}) for batch_id in rows.scalars()]
    if not messages and is_whole(session, job):
        messages = _whole(session, job, moment)
    return messages


def _run_message(job: Job, batch: Batch, left: _UrgentLeft) -> Message:
    # Somebody looks at the first images of a job, and waits for the whole of a small one.
    urgent = batch.start == 0 or job.images_requested <= job.batch_size
    if job.priority is not None:
        urgent = job.priority == "interactive"
    urgent = urgent and left.take(job.owner_id)
    quick = batch.stop - batch.start <= FIRST_BATCH
    return Message(RUN_BATCH, {"batch_id": str(batch.id)}, urgent=urgent, quick=quick)


class _UrgentLeft:
    """How many more batches of each owner may be urgent now, beside those that are open."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._left: dict[UUID, int] = {}

    def left(self, owner_id: UUID) -> int:
        """So many of this owner."""
        if owner_id not in self._left:
            used = self._session.scalar(_URGENT, {"owner_id": owner_id}) or 0
            self._left[owner_id] = max(0, URGENT_AT_ONCE - used)
        return self._left[owner_id]

    def take(self, owner_id: UUID) -> bool:
        """Whether one more is; it is counted."""
        left = self.left(owner_id)
        self._left[owner_id] = max(0, left - 1)
        return left > 0


def _in_turn(session: Session, waiting: Sequence[Job], room: int) -> Iterator[Job]:
    """Yields the job to cut the next batch from, `room` times; the caller cuts it in between.

    It is a job of the owner with the fewest open batches.
    """
    rows = session.execute(select(_OPEN_OF_OWNER)).all()
    open_of: dict[UUID, int] = {owner_id: count for owner_id, count in rows}  # noqa: C416 - rows, not tuples
    queues: dict[UUID, deque[Job]] = {}
    for job in waiting:
        queues.setdefault(job.owner_id, deque()).append(job)
    for _ in range(room):
        if not queues:
            return
        owner_id = min(queues, key=lambda one: open_of.get(one, 0))
        job = queues[owner_id].popleft()
        open_of[owner_id] = open_of.get(owner_id, 0) + 1
        yield job
        if job.next_index < job.images_requested:
            queues[owner_id].append(job)
        elif not queues[owner_id]:
            del queues[owner_id]


def _turns() -> Subquery:
    """Jobs that are not cut whole, each with its turn: owner by owner, and job by job of each."""
    open_of_job = (
        select(func.count())
        .where(Batch.job_id == Job.id, Batch.state.in_(OPEN))
        .correlate(Job)
        .scalar_subquery()
    )
    place = func.row_number().over(partition_by=Job.owner_id, order_by=(open_of_job, Job.id))
    return (
        select(Job.id, (func.coalesce(_OPEN_OF_OWNER.c.open, 0) + place).label("turn"))
        .outerjoin(_OPEN_OF_OWNER, _OPEN_OF_OWNER.c.owner_id == Job.owner_id)
        .where(Job.state.in_(OPEN), Job.next_index < Job.images_requested)
        .subquery()
    )


def _cut(job: Job, moment: datetime) -> Batch:
    size = min(job.batch_size, FIRST_BATCH) if job.next_index == 0 else job.batch_size
    start = job.next_index
    job.next_index = min(start + size, job.images_requested)
    return Batch(
        id=new_id(),
        job_id=job.id,
        start=start,
        stop=job.next_index,
        state="queued",
        created_at=moment,
        available_at=moment,
        sent_at=moment,
    )


def claim(session: Session, settings: Settings, batch_id: UUID) -> BatchWork | None:
    """Take a batch; None where somebody has it, had it, its job has ended, or it is unreadable.

    A job whose model its owner may use no more has failed with that.
    """
    job_id = session.scalar(select(Batch.job_id).where(Batch.id == batch_id))
    if job_id is None:
        return None
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
    if job.state not in OPEN:
        return None
    model = session.get_one(Model, job.model_id, populate_existing=True)
    if (error := sharing.withdrawn(model, job.owner_id)) is not None:
        end_failed(session, job, error.detail, now(session))
        return None
    batch = claims.claim(session, settings, Batch, batch_id)
    if batch is None:
        return None
    if job.state == "queued":
        job.state, job.started_at = "running", now(session)
    return claims.read_claimed(
        session,
        settings,
        batch,
        lambda: work_of(session, batch, job, model),
        failing(batch.id, batch.attempt),
    )


def close(session: Session, work: BatchWork, result: BatchResult) -> list[Message] | None:
    """Record a batch, and its job where it was the last; None where it is no longer theirs.

    Nothing is written in that case: the shard of a worker that was overtaken is nobody's.
    """
    job = session.scalars(select(Job).where(Job.id == work.job_id).with_for_update()).one()
    moment = now(session)
    closed = session.execute(
        update(Batch)
        .where(claims.held(Batch, work.batch_id, work.attempt))
        .values(
            state="succeeded",
            lease_until=None,
            error=None,
            ended_at=moment,
            shard_key=result.shard_key,
            shard_digest=result.shard_digest,
            shard_bytes=result.shard_bytes,
            device=result.device,
            torch_version=result.torch_version,
        )
        .returning(Batch.id)
    ).first()
    if closed is None:
        return None
    if work.made is not None:
        _drop_redrawn(session, work)
    insert_samples(session, work.job_id, result.samples)
    count(session, job, work, result)
    messages = [Message(MAKE_BATCHES)] if _more_to_cut(session) else []
    short = 0 if result.refused is None else len(result.refused.short)
    if short and work.gate is not None and work.gate.on_shortfall == "fail":
        _end_short(session, job, work, short, moment)
    elif is_whole(session, job):
        messages += _whole(session, job, moment)
    return messages


def _drop_redrawn(session: Session, work: BatchWork) -> None:
    """Take the images that were generated again off the job, and off the list of what is to be."""
    drawn = redraws_within(work.job_id, work.start, work.stop).order_by(None)
    session.execute(delete(Sample).where(Sample.job_id == work.job_id, Sample.index.in_(drawn)))
    session.execute(
        delete(Redraw).where(
            Redraw.job_id == work.job_id, Redraw.index >= work.start, Redraw.index < work.stop
        )
    )


def is_whole(session: Session, job: Job) -> bool:
    """Whether each image that was asked for is there, or left out, and no batch is open."""
    if job.images_stored + job.images_short < job.images_requested:
        return False
    session.flush()
    open_batch = select(Batch.id).where(Batch.job_id == job.id, Batch.state.in_(OPEN)).limit(1)
    return session.execute(open_batch).first() is None


def _whole(session: Session, job: Job, moment: datetime) -> list[Message]:
    gate = gate_of(job)
    if gate is None or not gate.reject_duplicates:
        return succeed(session, job, moment)
    job.settle_sent_at = moment
    # A small one takes milliseconds, and must not wait for somebody's export.
    small = job.images_requested <= SMALL_TO_SETTLE
    return [Message(SETTLE_JOB, {"job_id": str(job.id)}, urgent=small, quick=small)]


def succeed(session: Session, job: Job, moment: datetime) -> list[Message]:
    """End a job that has all it can have; returns the messages of what follows it."""
    job.ended_at = moment
    if not job.images_stored:
        job.state, job.error = "failed", f"No candidate passed the gate: {refusals(session, job)}."
        return []
    job.state = "succeeded"
    return _follow(session, job, moment)


def _end_short(session: Session, job: Job, work: BatchWork, short: int, moment: datetime) -> None:
    """End a job whose gate leaves out an image, as it asked to; what is stored stays."""
    attempts = 0 if work.gate is None else work.gate.max_attempts
    times = f"{attempts} attempt{'' if attempts == 1 else 's'}"
    reason = (
        f"{short:,} of the images {work.start} to {work.stop - 1} found no candidate that passes "
        f"the gate in {times} (so far {refusals(session, job)}); "
        'lower `min_score`, raise `max_attempts`, or set `on_shortfall` to "keep".'
    )
    end_failed(session, job, reason, moment)


def _more_to_cut(session: Session) -> bool:
    return (
        session.execute(
            select(Job.id)
            .where(Job.state.in_(OPEN), Job.next_index < Job.images_requested)
            .limit(1)
        ).first()
        is not None
    )


def _follow(session: Session, job: Job, moment: datetime) -> list[Message]:
    session.flush()
    return exports.following(session, job, job.follow_exports, moment)


def failing(batch_id: UUID, attempt: int) -> claims.Fail:
    """How an attempt at a batch ends it for good."""
    return lambda session, failure: fail(session, batch_id, attempt, failure.reason)


def fail(session: Session, batch_id: UUID, attempt: int, reason: str) -> bool:
    """End a batch and with it its job; what other batches have stored stays.

    Returns False where the batch has meanwhile moved on.
    """
    job_id = session.scalar(select(Batch.job_id).where(Batch.id == batch_id))
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
    moment = now(session)
    failed = session.execute(
        update(Batch)
        .where(Batch.id == batch_id, Batch.attempt == attempt, Batch.state.in_(OPEN))
        .values(state=_left_as("failed"), error=reason, lease_until=None, ended_at=moment)
        .returning(Batch.start, Batch.stop, Batch.attempt_floor)
    ).first()
    if failed is None:
        return False
    tries = attempt - failed.attempt_floor
    if job.state in OPEN:
        what = f"Images {failed.start} to {failed.stop - 1} could not be made"
        times = f"{tries} attempt{'' if tries == 1 else 's'}"
        end_failed(session, job, f"{what} in {times}: {reason}", moment)
    return True


def end_failed(session: Session, job: Job, reason: str, moment: datetime) -> None:
    """End a job that cannot go on; what it has stored stays."""
    job.state, job.ended_at, job.error = "failed", moment, reason
    cancel_open(session, job.id, moment)


def end_of_others(session: Session, model: Model, moment: datetime) -> None:
    """End the jobs that other owners have going with a model that is private now."""
    going = session.scalars(
        select(Job)
        .where(Job.model_id == model.id, Job.owner_id != model.owner_id, Job.state.in_(OPEN))
        .order_by(Job.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    reason = sharing.private_again(model)
    for job in going:
        end_failed(session, job, reason, moment)


def cancel_open(session: Session, job_id: UUID, moment: datetime) -> None:
    """Cancel all batches of a job that are not closed; their workers find out and stop.

    One that was opened again by the closing pass keeps the shard that it had.
    """
    session.execute(
        update(Batch)
        .where(Batch.job_id == job_id, Batch.state.in_(OPEN))
        .values(state=_left_as("cancelled"), lease_until=None, ended_at=moment)
    )
    session.execute(delete(Redraw).where(Redraw.job_id == job_id))


def _left_as(state: str) -> Case[str]:
    return case((Batch.shard_key.is_not(None), "succeeded"), else_=state)
