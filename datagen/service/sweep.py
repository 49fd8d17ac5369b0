"""The sweep: removes stored files that no row names.

A worker stores its file first and then names it in the transaction that ends its work, so one that
dies in between, or is overtaken, leaves a file that is nobody's. Only the files of work that has
ended, or that never was, are removed: while it is open, somebody may be about to name them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

import structlog
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from datagen.db.session import reading
from datagen.db.tables import Batch, Dataset, Export, Figures, Model, Report
from datagen.schemas import ENDED
from datagen.scratch import sweep_scratch
from datagen.service import exports
from datagen.service.common import parse_id
from datagen.settings import Settings
from datagen.storage import INCOMING, Storage

AT_ONCE = 500

log = structlog.get_logger()


def sweep(engine: Engine, storage: Storage, settings: Settings) -> int:
    """Remove what is nobody's and older than `settings.sweep_seconds`; returns how many files.

    So are temporary folders of this machine that killed processes have left.
    """
    exports.expire(engine)
    sweep_scratch()
    before = datetime.now(UTC) - timedelta(seconds=settings.sweep_seconds)
    removed = 0
    for prefix, kept in _KEPT.items():
        old = (found.key for found in storage.list(prefix) if found.changed_at < before)
        while keys := list(islice(old, AT_ONCE)):
            with reading(engine) as session:
                named = kept(session, keys)
            for key in keys:
                if key not in named:
                    storage.delete(key)
                    removed += 1
    if removed:
        log.info("storage_swept", removed=removed)
    return removed


def _shards(session: Session, keys: Sequence[str]) -> set[str]:
    """The keys that a batch names, or that one may still name."""
    # Batches are found by job and first index, which the key tells: shard keys have no index.
    starts: dict[UUID, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key in keys:
        job_id, start = _first(key), key.split("/")[-1].partition("-")[0]
        if job_id is not None and start.isdecimal() and int(start) < 2**63:
            starts[job_id][int(start)].append(key)
    kept: set[str] = set()
    for job_id, by_start in starts.items():
        rows = session.execute(
            select(Batch.start, Batch.state, Batch.shard_key).where(
                Batch.job_id == job_id, Batch.start.in_(list(by_start))
            )
        )
        for first, state, named in rows:
            kept.update(key for key in by_start[first] if key == named or state not in ENDED)
    return kept


def _archives(session: Session, keys: Sequence[str]) -> set[str]:
    rows = session.execute(
        select(Export.id, Export.state, Export.archive_key, Export.files_key).where(
            Export.id.in_(_ids(keys))
        )
    ).all()
    archives = _of_rows(keys, {row.id: (row.state, row.archive_key) for row in rows})
    return archives | _of_rows(keys, {row.id: (row.state, row.files_key) for row in rows})


def _figures(session: Session, keys: Sequence[str]) -> set[str]:
    rows = session.execute(
        select(Figures.id, Figures.state, Figures.archive_key).where(Figures.id.in_(_ids(keys)))
    )
    return _of_rows(keys, {row_id: (state, named) for row_id, state, named in rows})


def _reports(session: Session, keys: Sequence[str]) -> set[str]:
    rows = session.execute(
        select(Report.id, Report.state, Report.archive_key, Report.state_key).where(
            Report.id.in_(_ids(keys))
        )
    ).all()
    archives = _of_rows(keys, {row.id: (row.state, row.archive_key) for row in rows})
    return archives | _of_rows(keys, {row.id: (row.state, row.state_key) for row in rows})


def _states(session: Session, keys: Sequence[str]) -> set[str]:
    rows = session.execute(
        select(Model.id, Model.state, Model.state_key).where(Model.id.in_(_ids(keys)))
    )
    return _of_rows(keys, {row_id: (state, named) for row_id, state, named in rows})


def _weights(session: Session, keys: Sequence[str]) -> set[str]:
    named: set[str] = set()
    for column in (Model.checkpoint_key, Model.judge_key, Model.examples_key, Model.index_key):
        found = select(column).where(column.in_(keys), Model.removed_at.is_(None))
        named |= {str(key) for key in session.scalars(found)}
    return named


def _images(session: Session, keys: Sequence[str]) -> set[str]:
    prefixes = {key.rpartition("/")[0] for key in keys}
    named = set(
        session.scalars(
            select(Dataset.storage_prefix).where(
                Dataset.storage_prefix.in_(prefixes), Dataset.removed_at.is_(None)
            )
        )
    )
    return {key for key in keys if key.rpartition("/")[0] in named}


def _nothing(session: Session, keys: Sequence[str]) -> set[str]:
    del session, keys
    return set()


def _ids(keys: Sequence[str]) -> set[UUID]:
    return {row_id for row_id in map(_first, keys) if row_id is not None}


def _of_rows(keys: Sequence[str], rows: dict[UUID, tuple[str, str | None]]) -> set[str]:
    kept = set()
    for key in keys:
        row_id = _first(key)
        state, named = rows.get(row_id, ("failed", None)) if row_id else ("failed", None)
        if key == named or state not in ENDED:
            kept.add(key)
    return kept


def _first(key: str) -> UUID | None:
    """The id in `kind/<id>/…`."""
    parts = key.split("/")
    return parse_id(parts[1]) if len(parts) > 2 else None  # noqa: PLR2004 - kind, id, file


_KEPT: dict[str, Callable[[Session, Sequence[str]], set[str]]] = {
    "jobs/": _shards,
    "exports/": _archives,
    "training/": _states,
    "figures/": _figures,
    "reports/": _reports,
    "datasets/": _images,
    "models/": _weights,
    "uploads/": _nothing,
    INCOMING: _nothing,
}
