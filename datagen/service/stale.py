"""The healing tick: what fell silent, got lost or was never sent is put right from the database."""

from __future__ import annotations

from sqlalchemy.orm import Session

from datagen.db.tables import Batch, Delivery, Export, Figures, Model, Report, Run
from datagen.queue import (
    RUN_BATCH,
    RUN_EXPORT,
    RUN_FIGURES,
    RUN_REPORT,
    RUN_TRAINING,
    Message,
)
from datagen.service import batches, claims, clock, receivers, settling
from datagen.settings import Settings

# What has a message of its own each. Of deliveries an owner has so many sent at once, so
# `receivers` chooses them; of runs `pipeline_ticks` sends messages, at a tick of its own.
_SENT_BY_ROW: tuple[tuple[type[claims.Claimable], str, str], ...] = (
    (Batch, RUN_BATCH, "batch_id"),
    (Export, RUN_EXPORT, "export_id"),
    (Model, RUN_TRAINING, "model_id"),
    (Figures, RUN_FIGURES, "figures_id"),
    (Report, RUN_REPORT, "report_id"),
)
_CLAIMED: tuple[type[claims.Claimable], ...] = (*(kind for kind, _, _ in _SENT_BY_ROW), Delivery)


def requeue_stale(session: Session, settings: Settings) -> list[Message]:
    """Free expired leases, close what has no attempts left, cut batches; returns what to send.

    Jobs are locked before any batch, as everywhere: what fails comes first, then what changes
    batches alone.
    """
    for kind in _CLAIMED:
        for row_id, attempt, failure in claims.exhausted(session, settings, kind):
            if kind is Batch:
                batches.fail(session, row_id, attempt, failure.reason)
            else:
                claims.end_failed(session, kind, row_id, attempt, str(failure))
    clock.bring_back(session, settings, [*_CLAIMED, Run])
    messages = batches.make_batches(session, settings)
    messages += settling.unsettled(session, settings)
    for kind in _CLAIMED:
        claims.release_expired(session, settings, kind)
    for kind, task, argument in _SENT_BY_ROW:
        ids = claims.unsent(session, settings, kind)
        messages += [Message(task, {argument: str(row_id)}) for row_id in ids]
    receivers.give_up(session)
    return messages + receivers.due(session, settings)
