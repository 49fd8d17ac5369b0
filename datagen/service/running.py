"""Running: how a run of a pipeline goes from step to step, and how it ends.

Each call of `advance` goes on from what the database says, so it does not matter which process
makes it, how many do at once, or where the one before was killed. What a run waits for ends by
itself; a tick (`pipeline_ticks`) finds the runs whose wait is over.

Order of locks: a pipeline's row before its runs', a run's before what it waits for.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from datagen.db.session import now, reading, writing
from datagen.db.tables import Pipeline, Report, Run
from datagen.errors import Conflict, DatagenError, NotFound
from datagen.queue import Message
from datagen.schemas import ENDED, Step
from datagen.service import claims, exports, jobs, models, reports, run_records, webhooks
from datagen.service.pipelines import recipe_of
from datagen.service.run_checks import CheckFailed
from datagen.service.run_steps import (
    BEGIN,
    LOOK,
    WORK,
    At,
    Findings,
    Outcome,
    Waits,
    still_waits,
)
from datagen.settings import Settings
from datagen.storage import Storage

# Runs of one pipeline that wait for their turn; a due time beyond these is let go.
MOST_WAITING = 10
FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=30), timedelta(hours=1)

_TOLD = {"failure": {"failed"}, "success": {"succeeded"}, "always": ENDED}

log = structlog.get_logger()


def advance(engine: Engine, storage: Storage, settings: Settings, run_id: UUID) -> list[Message]:
    """Go on with a run until it waits or has ended; what is to be sent. Safe to be told of twice.

    All steps that need not wait are one transaction.
    """
    # Read before it is open: the store may take its time.
    findings = _findings(engine, storage, run_id)
    messages, more = [], True
    with writing(engine) as session:
        _lock_pipeline(session, run_id)
        while more:
            told, more = _one_step(session, settings, run_id, findings)
            messages += told
    return messages


def _findings(engine: Engine, storage: Storage, run_id: UUID) -> Findings:
    with reading(engine) as session:
        found = session.execute(
            select(Report.id, Report.owner_id)
            .join(Run, Run.waits_id == Report.id)
            .where(Run.id == run_id, Run.waits_for == "report", Report.state == "succeeded")
        ).first()
        if found is None:
            return None
        try:
            data, _, _ = reports.read_file(
                session, storage, found.owner_id, found.id, "report.json"
            )
        except DatagenError as error:
            return error
    report: dict[str, Any] = json.loads(data)
    return report


def _one_step(
    session: Session, settings: Settings, run_id: UUID, findings: Findings
) -> tuple[list[Message], bool]:
    """Take one step on; also whether there is more to be done at once."""
    run = session.scalars(_locked(run_id)).one_or_none()
    moment = now(session)
    if run is None or run.state in ENDED or run.available_at > moment:
        return [], False
    at = place_of(session, settings, run, moment)
    if at is None:
        return [], False
    if run.state == "queued":
        return _take_turn(at)
    step = run_records.current(run)
    if step is None:
        return end(at, "succeeded"), False
    name: Step = step["name"]
    if name == "notify":
        return end(at, "succeeded"), False
    begun = step["state"] == run_records.RUNNING
    if begun and (_is_at_work(at) or still_waits(at)):
        return [], False
    if not begun:
        run_records.begin(run, name, moment)
    try:
        # What a refused step has written by then goes, and its record stays.
        with session.begin_nested():
            outcome = LOOK[name](at, findings) if begun else BEGIN[name](at)
    except (DatagenError, ValidationError) as error:
        return _failed(replace(at, run=session.scalars(_locked(run_id)).one()), name, error)
    return _recorded(at, name, outcome)


def _locked(run_id: UUID) -> Any:
    return (
        select(Run)
        .where(Run.id == run_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def _lock_pipeline(session: Session, run_id: UUID) -> None:
    """Have the runs of a pipeline take their turns one after the other."""
    waiting = select(Run.pipeline_id).where(Run.id == run_id, Run.state == "queued")
    session.execute(
        select(Pipeline.id).where(Pipeline.id == waiting.scalar_subquery()).with_for_update()
    )


def _is_at_work(at: At) -> bool:
    """Whether a worker is at the step, or may still be."""
    run = at.run
    if run.waits_for not in WORK:
        return False
    tries = run.attempt - run.attempt_floor
    at_work = run.lease_until is not None and run.lease_until > at.moment
    return at_work or tries < at.settings.max_attempts


def _recorded(at: At, name: Step, outcome: Outcome) -> tuple[list[Message], bool]:
    run = at.run
    run.sent_at = None
    if isinstance(outcome, Waits):
        run.waits_for, run.waits_id = outcome.kind, outcome.row_id
        return outcome.messages, False
    run.waits_for = run.waits_id = run.lease_until = None
    run_records.end(run, name, outcome.state, at.moment)
    if outcome.sentence is not None:
        return end(at, "succeeded", sentence=outcome.sentence), False
    return [], True


def _take_turn(at: At) -> tuple[list[Message], bool]:
    """Begin, or do what the recipe says of a run that comes while another one goes on."""
    run, policy = at.run, at.recipe.on_overlap
    older = at.session.scalars(
        select(Run)
        .where(Run.pipeline_id == run.pipeline_id, Run.id < run.id, Run.state.not_in(sorted(ENDED)))
        .order_by(Run.id)
        .with_for_update()
    ).all()
    messages: list[Message] = []
    if older and policy == "cancel_previous":
        for row in older:
            previous = place_of(at.session, at.settings, row, at.moment)
            if previous is not None:
                messages += cancel(previous, f"Run {run.id} took its place.")
    elif older and policy == "queue" and len(older) <= MOST_WAITING:
        run.waits_for, run.waits_id, run.sent_at = "run", older[-1].id, None
        return [], False
    elif older:
        waiting = f" and {len(older) - 1} more waited" if len(older) > 1 else ""
        why = f"Left out: run {older[0].id} went on{waiting}."
        return end(at, "cancelled", sentence=why), False
    run.state, run.started_at, run.sent_at = "running", at.moment, None
    run.waits_for = run.waits_id = None
    return messages, True


def _failed(
    at: At, name: Step, error: DatagenError | ValidationError
) -> tuple[list[Message], bool]:
    """Try the step again, where the recipe lets it and that may help; else the run has failed."""
    run = at.run
    reason = error.detail if isinstance(error, DatagenError) else str(error.errors()[0]["msg"])
    run.waits_for = run.waits_id = run.lease_until = run.sent_at = None
    # A worker that is slow, and not dead, finds that the step is no longer its own.
    run.attempt += 1
    if run.retry < at.recipe.retries and not isinstance(error, CheckFailed):
        run.retry += 1
        wait = claims.doubled(FIRST_RETRY, LONGEST_RETRY, run.retry)
        run.available_at = at.moment + wait
        at.say(name, f"{reason} Tried again in {wait.total_seconds():,.0f} s, "
               f"{run.retry} of {at.recipe.retries}.")  # fmt: skip
        run_records.wait_again(run, name)
        return [], False
    at.say(name, reason)
    run_records.end(run, name, "failed", at.moment)
    log.info("run_failed", run=str(run.id), step=name, reason=reason)
    return end(at, "failed", error=reason), False


def end(
    at: At, state: str, *, sentence: str | None = None, error: str | None = None
) -> list[Message]:
    """End a run and notify whom it concerns; what is to be sent."""
    run = at.run
    _close(run, state, at.moment, sentence or (_summary(run) if state == "succeeded" else error))
    run.error = error
    messages = _notify(at)
    at.session.flush()
    return messages


def place_of(session: Session, settings: Settings, run: Run, moment: datetime) -> At | None:
    """Where a run stands; None for one that another version wrote, which is ended as failed."""
    try:
        return At(session, settings, run, recipe_of(run), moment)
    except Conflict as error:
        _close(run, "failed", moment, error.detail)
        run.error = error.detail
        return None


def _close(run: Run, state: str, moment: datetime, sentence: str | None) -> None:
    """Write that a run has ended, and what its steps came to; `notify` is left as it is."""
    for step in run.steps:
        if step["state"] == run_records.RUNNING:
            run_records.end(run, step["name"], "cancelled", moment)
        elif step["state"] == run_records.WAITING and step["name"] != "notify":
            run_records.end(run, step["name"], "skipped", moment)
    run.state, run.ended_at, run.sentence = state, moment, sentence
    run.waits_for = run.waits_id = run.lease_until = None


def _summary(run: Run) -> str:
    count = len(run.exports)
    delivered = f" and {count} {'export' if count == 1 else 'exports'}" if count else ""
    return f"{run.images or 0:,} images were asked for; they are in job {run.job_id}{delivered}."


def _notify(at: At) -> list[Message]:
    run, notify = at.run, at.recipe.notify
    if notify is None or run.state not in _TOLD[notify.on]:
        run_records.end(run, "notify", "skipped", at.moment)
        return []
    run_records.begin(run, "notify", at.moment)
    try:
        message = webhooks.tell(
            at.session, run.owner_id, notify.webhook, f"run.{run.state}", run.id, at.moment
        )
    except NotFound as gone:
        at.say("notify", gone.detail)
        run_records.end(run, "notify", "failed", at.moment)
        return []
    at.link("notify", "webhook", notify.webhook)
    run_records.end(run, "notify", "succeeded", at.moment)
    return message


def cancel(at: At, sentence: str) -> list[Message]:
    """End a run and the step that it is at; what is to be sent."""
    run, session, owner_id = at.run, at.session, at.run.owner_id
    messages: list[Message] = []
    awaited = run.waits_id
    try:
        if awaited is not None and run.waits_for == "job":
            messages += jobs.cancel(session, owner_id, awaited)[1]
        elif awaited is not None and run.waits_for == "model":
            models.cancel(session, owner_id, awaited)
        elif awaited is not None and run.waits_for == "report":
            reports.cancel(session, owner_id, awaited)
    except (Conflict, NotFound):
        # It has ended in this moment.
        pass
    if run.waits_for == "export":
        for one in run.exports:
            try:
                exports.cancel(session, owner_id, UUID(one))
            except (Conflict, NotFound):
                continue
    return messages + end(at, "cancelled", sentence=sentence)
