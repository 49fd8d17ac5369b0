"""Figures: drawing what a model has learnt, from its claim to the archive in the store."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from uuid import UUID

import stamina
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from datagen.datasets.sample import load_sample
from datagen.db.session import writing
from datagen.db.tables import Figures
from datagen.errors import (
    Cancelled,
    DatagenError,
    DeviceUnusable,
    InvalidFile,
    InvalidRequest,
    StorageFailure,
)
from datagen.export.sinks import ZipSink
from datagen.images import LabelledImages
from datagen.model.checkpoint import load_generator
from datagen.model.devices import resolve_device
from datagen.plots import render
from datagen.service import figures
from datagen.service.datasets import load_split
from datagen.service.figures import SAMPLE, FiguresWork
from datagen.service.lease import Lease
from datagen.settings import Settings
from datagen.storage import Storage
from datagen.work.drawing import DRAWINGS, Subject
from datagen.work.generation import RETRY_SECONDS
from datagen.work.generators import fetched, use_threads

log = structlog.get_logger()


def run_figures(engine: Engine, storage: Storage, settings: Settings, figures_id: UUID) -> None:
    """Draw the figures of a model; safe to be told of twice."""
    work = _claim(engine, settings, figures_id)
    if work is None:
        return
    use_threads(settings.model_copy(update={"workers": 1}))
    try:
        with Lease(engine, settings, Figures, work.figures_id, work.attempt) as lease:
            _draw(engine, storage, settings, work, lease)
    except Cancelled as stop:
        log.info("figures_stopped", figures=str(figures_id), reason=stop.detail)
    except (InvalidFile, InvalidRequest, DeviceUnusable) as error:
        _end(engine, settings, work, error, final=True)
    except (OSError, DBAPIError, RuntimeError, MemoryError, StorageFailure) as error:
        _end(engine, settings, work, error, final=False)
    finally:
        use_threads(settings)


@stamina.retry(on=OperationalError, timeout=RETRY_SECONDS, attempts=None)
def _claim(engine: Engine, settings: Settings, figures_id: UUID) -> FiguresWork | None:
    with writing(engine) as session:
        return figures.claim(session, settings, figures_id)


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
    with writing(engine) as session:
        figures.close(session, work, key=key, digest=digest, size=len(archive), names=names)


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
        _real_images(storage, work),
    )


def _real_images(storage: Storage, work: FiguresWork) -> dict[str, LabelledImages]:
    if work.dataset_key == SAMPLE:
        return load_sample()
    if work.storage_prefix is None:
        return {}
    return {
        split: load_split(storage, work.storage_prefix, split, digest)
        for split, digest in work.splits.items()
    }


@stamina.retry(on=OperationalError, timeout=RETRY_SECONDS, attempts=None)
def _end(
    engine: Engine, settings: Settings, work: FiguresWork, error: Exception, *, final: bool
) -> None:
    reason = error.detail if isinstance(error, DatagenError) else f"{type(error).__name__}: {error}"
    log.warning("figures_not_drawn", figures=str(work.figures_id), reason=reason)
    with writing(engine) as session:
        if final:
            figures.fail(session, work, reason)
        else:
            figures.release(session, settings, work, reason)
