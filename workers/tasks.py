"""The tasks: each reads its arguments, calls a use case, and sends what follows from it.

Any of them may run twice, or come when all is done already; the use cases refuse that.
Unknown arguments are ignored, so that a newer sender may add some while older workers still run.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from celery import shared_task

from datagen.db.session import writing
from datagen.db.tables import Export, Figures, Model, Report
from datagen.queue import (
    ADVANCE_RUN,
    DELIVER,
    MAKE_BATCHES,
    REMOVE_JOBS,
    REPAIR_BATCH,
    REQUEUE_STALE,
    RUN_BATCH,
    RUN_DUE_PIPELINES,
    RUN_EXPORT,
    RUN_FIGURES,
    RUN_PREVIEW,
    RUN_REPORT,
    RUN_STEP,
    RUN_TRAINING,
    SETTLE_JOB,
    SWEEP_STORAGE,
)
from datagen.service import (
    batches,
    delivering,
    export_writing,
    job_changes,
    pipeline_ticks,
    replays,
    run_work,
    running,
    settling,
    sign_ins,
    stale,
    sweep,
    turns,
    webhooks,
)
from datagen.service.common import parse_id
from workers.context import Context, context, generation

log = structlog.get_logger()


@shared_task(name=RUN_BATCH)
def run_batch(batch_id: object = None, **_unknown: Any) -> None:
    """Make one batch of images."""
    if (row_id := _id_in(RUN_BATCH, batch_id)) is not None:
        generation().run_batch(row_id)


@shared_task(name=REPAIR_BATCH)
def repair_batch(batch_id: object = None, **_unknown: Any) -> None:
    """Make the shard of a batch again."""
    from datagen.work.repair import repair_batch  # noqa: PLC0415 - light workers have no torch

    if (row_id := _id_in(REPAIR_BATCH, batch_id)) is not None:
        repair_batch(generation(), row_id)


@shared_task(name=RUN_PREVIEW)
def run_preview(**wanted: Any) -> None:
    """Make a few images for somebody who waits for them."""
    from datagen.work.previews import run_preview  # noqa: PLC0415 - light workers have no torch

    run_preview(generation(), wanted)


@shared_task(name=RUN_TRAINING)
def run_training(model_id: object = None, **_unknown: Any) -> None:
    """Run one slice of a training."""
    if (row_id := _id_in(RUN_TRAINING, model_id)) is not None:
        _run_long(Model, row_id)


@shared_task(name=RUN_FIGURES)
def run_figures(figures_id: object = None, **_unknown: Any) -> None:
    """Draw what a model has learnt."""
    if (row_id := _id_in(RUN_FIGURES, figures_id)) is not None:
        _run_long(Figures, row_id)


@shared_task(name=RUN_REPORT)
def run_report(report_id: object = None, **_unknown: Any) -> None:
    """Run one slice of a report."""
    if (row_id := _id_in(RUN_REPORT, report_id)) is not None:
        _run_long(Report, row_id)


@shared_task(name=RUN_EXPORT)
def run_export(export_id: object = None, **_unknown: Any) -> None:
    """Write one export."""
    if (row_id := _id_in(RUN_EXPORT, export_id)) is not None:
        _run_long(Export, row_id)


def _run_long(kind: turns.Long, row_id: UUID) -> None:
    """Do the long work whose turn it is now that a message named some.

    Where another worker claims what was chosen, something else is chosen: the message would be lost
    otherwise, and the row that it named would wait until another one is sent.
    """
    own = context()
    tried: set[tuple[turns.Long, UUID]] = set()
    while True:
        with writing(own.engine) as session:
            chosen = turns.choose(session, own.settings, kind, row_id)
        if chosen in tried:
            chosen = kind, row_id
        if chosen in tried or _run_claimed(own, *chosen):
            return
        tried.add(chosen)


def _run_claimed(own: Context, kind: turns.Long, row_id: UUID) -> bool:
    """Do one piece of long work, if it can be claimed; returns whether."""
    if kind is Export:
        messages = export_writing.run(own.engine, own.storage, own.settings, row_id)
        own.queue.send(messages or [])
        return messages is not None
    # Light workers have no torch.
    if kind is Model:
        from datagen.work.training import run_training  # noqa: PLC0415

        return run_training(own.engine, own.storage, own.queue, own.settings, row_id)
    if kind is Report:
        from datagen.work.reports import run_report  # noqa: PLC0415

        return run_report(own.engine, own.storage, own.queue, own.settings, row_id)
    from datagen.work.figures import run_figures  # noqa: PLC0415

    return run_figures(own.engine, own.storage, own.settings, row_id)


@shared_task(name=SETTLE_JOB)
def settle_job(job_id: object = None, **_unknown: Any) -> None:
    """End a job without duplicates, or have those that it has generated again."""
    if (row_id := _id_in(SETTLE_JOB, job_id)) is not None:
        own = context()
        own.queue.send(settling.settle(own.engine, row_id))


@shared_task(name=REMOVE_JOBS)
def remove_jobs(**_unknown: Any) -> None:
    """Delete rows and files of the jobs that were removed."""
    own = context()
    job_changes.clear_removed(own.engine, own.storage)


@shared_task(name=DELIVER)
def deliver(delivery_id: object = None, **_unknown: Any) -> None:
    """Tell a webhook of what has ended."""
    if (row_id := _id_in(DELIVER, delivery_id)) is not None:
        own = context()
        own.queue.send(delivering.deliver(own.engine, own.settings, row_id))


@shared_task(name=MAKE_BATCHES)
def make_batches(**_unknown: Any) -> None:
    """Cut batches from the jobs that wait."""
    own = context()
    with writing(own.engine) as session:
        messages = batches.make_batches(session, own.settings)
    own.queue.send(messages)


@shared_task(name=REQUEUE_STALE)
def requeue_stale(**_unknown: Any) -> None:
    """Put right what was lost or fell silent."""
    own = context()
    with writing(own.engine) as session:
        # What has ended is noted first, and so sent at once.
        webhooks.note_ended(session)
        messages = stale.requeue_stale(session, own.settings)
    own.queue.send(messages)


@shared_task(name=RUN_DUE_PIPELINES)
def run_due_pipelines(**_unknown: Any) -> None:
    """Make runs of the pipelines that are due, and tell of the runs that can go on."""
    own = context()
    more = True
    while more:
        with writing(own.engine) as session:
            more = pipeline_ticks.make_due_runs(session) > 0
    with writing(own.engine) as session:
        messages = pipeline_ticks.go_on(session, own.settings)
    own.queue.send(messages)


@shared_task(name=ADVANCE_RUN)
def advance_run(run_id: object = None, **_unknown: Any) -> None:
    """Go on with a run of a pipeline until it waits or has ended."""
    if (row_id := _id_in(ADVANCE_RUN, run_id)) is not None:
        own = context()
        own.queue.send(running.advance(own.engine, own.storage, own.settings, row_id))


@shared_task(name=RUN_STEP)
def run_step(run_id: object = None, **_unknown: Any) -> None:
    """Do what a run waits for and a transaction would be too short for."""
    if (row_id := _id_in(RUN_STEP, run_id)) is not None:
        own = context()
        own.queue.send(run_work.run(own.engine, own.storage, own.settings, row_id))


@shared_task(name=SWEEP_STORAGE)
def sweep_storage(**_unknown: Any) -> None:
    """Remove what is over, and stored files that no row names."""
    own = context()
    with writing(own.engine) as session:
        messages = job_changes.expire(session)
        replays.expire(session)
        sign_ins.expire(session)
        webhooks.expire(session)
    own.queue.send(messages)
    sweep.sweep(own.engine, own.storage, own.settings)


def _id_in(task: str, value: object) -> UUID | None:
    """The id in a message; None, and a line in the log, where it was forged or damaged."""
    row_id = parse_id(value) if isinstance(value, str) else None
    if row_id is None:
        log.warning("message_refused", task=task, argument=repr(value)[:80])
    return row_id
