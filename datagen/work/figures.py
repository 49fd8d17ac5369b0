"""Figures: drawing what a model has learnt, from its claim to the archive in the store."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from uuid import UUID

from sqlalchemy import Engine

from datagen.db.tables import Figures
from datagen.export.sinks import ZipSink
from datagen.model.checkpoint import load_generator
from datagen.model.devices import resolve_device
from datagen.plots import render
from datagen.service import figures
from datagen.service.attempts import attempt, in_transaction
from datagen.service.figures import FiguresWork
from datagen.service.lease import Lease
from datagen.settings import Settings
from datagen.storage import Storage
from datagen.work.drawing import DRAWINGS, Subject
from datagen.work.generators import all_threads, fetched
from datagen.work.real_images import real_splits


def run_figures(engine: Engine, storage: Storage, settings: Settings, figures_id: UUID) -> bool:
    """Draw the figures of a model, if they can be claimed; returns whether. Safe to call twice."""
    work = in_transaction(engine, lambda session: figures.claim(session, settings, figures_id))
    if work is None:
        return False
    with (
        all_threads(settings),
        attempt(
            engine,
            settings,
            Figures,
            work.figures_id,
            work.attempt,
        ) as lease,
    ):
        _draw(engine, storage, settings, work, lease)
    return True


def _draw(
    engine: Engine, storage: Storage, settings: Settings, work: FiguresWork, lease: Lease
) -> None:
    subject = _subject(storage, settings, work)
    out = io.BytesIO()
    names = []
    with ZipSink(out) as sink:
        for name, data in _files(subject, lease):
            sink.put(name, data)
            if name.endswith(".json"):
                names.append(name.removesuffix(".json"))
    archive = out.getvalue()
    digest = hashlib.sha256(archive).hexdigest()
    key = f"figures/{work.figures_id}/{digest[:32]}.zip"
    lease.check()
    storage.put(key, archive)
    in_transaction(
        engine,
        lambda session: figures.close(
            session, work, key=key, digest=digest, size=len(archive), names=names
        ),
    )


def _files(subject: Subject, lease: Lease) -> Iterator[tuple[str, bytes]]:
    for name, draw in DRAWINGS.items():
        lease.check()
        drawn = draw(subject)
        if drawn is None:
            continue
        for kind in ("png", "svg"):
            yield f"{name}.{kind}", render(drawn.figure, kind)
        numbers = {"name": name, "caption": drawn.caption, **drawn.numbers}
        yield f"{name}.json", json.dumps(numbers, allow_nan=False).encode()


def _subject(storage: Storage, settings: Settings, work: FiguresWork) -> Subject:
    device = resolve_device(settings.device)
    with fetched(storage, work.checkpoint_key, work.digest) as path:
        model, _ = load_generator(path, device)
    return Subject.of(
        model,
        device,
        work.model_name,
        work.class_names,
        dict(work.metrics),
        real_splits(storage, work.dataset_key, work.storage_prefix, work.splits),
        work.learnt,
    )
