"""Reports: one slice of measuring what images are worth, from its claim to its continuation."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from datagen.db.session import writing
from datagen.db.tables import Report
from datagen.errors import (
    InvalidRequest,
)
from datagen.export.sinks import ZipSink
from datagen.images import LabelledImages, decode_pngs
from datagen.model.devices import kind_of, resolve_device
from datagen.model.samplers import Sampling
from datagen.quality.comparable import comparable
from datagen.quality.report import (
    FULL,
    QUICK,
    Effort,
    Subject,
    assembled,
    run_step,
    spread_out,
    step_names,
)
from datagen.quality.report_page import page
from datagen.queue import Message, Queue
from datagen.schemas import Gate
from datagen.service import reports
from datagen.service.attempts import attempt, in_transaction
from datagen.service.lease import Lease
from datagen.service.reports import ReportWork
from datagen.service.stored_samples import read_samples
from datagen.settings import Settings
from datagen.storage import Storage
from datagen.work.candidates import Candidates, Drawing, Wanted
from datagen.work.generators import GeneratorCache, all_threads
from datagen.work.giving_way import GivingWay
from datagen.work.real_images import real_splits
from datagen.work.stopwatch import Stopwatch

# Of each class, where a dataset has nothing but a training split.
HELD_OUT_SHARE = 0.2

log = structlog.get_logger()


def run_report(
    engine: Engine, storage: Storage, queue: Queue, settings: Settings, report_id: UUID
) -> bool:
    """Measure for one slice, if the report can be claimed; returns whether. Safe to call twice."""
    work = in_transaction(engine, lambda session: reports.claim(session, settings, report_id))
    if work is None:
        return False
    messages: list[Message] = []
    with (
        all_threads(settings),
        attempt(
            engine,
            settings,
            Report,
            work.report_id,
            work.attempt,
        ) as lease,
    ):
        messages = _slice(engine, storage, settings, work, lease, GivingWay(queue))
    queue.send(messages)
    return True


def _slice(
    engine: Engine,
    storage: Storage,
    settings: Settings,
    work: ReportWork,
    lease: Lease,
    giving_way: GivingWay,
) -> list[Message]:
    deadline = time.monotonic() + settings.slice_seconds
    device = resolve_device(settings.device)
    effort = _effort(work)
    found = _state(storage, work)
    subject, left_out = _subject(engine, storage, settings, work, effort, lease.check)
    subject, notes = comparable(subject)
    names = step_names(effort)
    giving_way.begin()
    before = len(found)
    for number, name in enumerate(names):
        if name in found:
            continue
        # A slice makes at least one step, however long it took to begin.
        if len(found) > before and (
            time.monotonic() > deadline or giving_way.should_yield_at_once()
        ):
            return _continue(engine, storage, work, found)
        _tell(engine, work, name, number, len(names))
        found[name] = run_step(name, subject, effort, device, lease.check)
    report = {
        "subject": work.subject
        | {"images": len(subject.labels), "device": kind_of(device)}
        | {"training_images": len(subject.train), "held_out_images": len(subject.held_out)},
        **assembled(found, subject, effort),
        "notes": work.notes + notes,
    }
    report["not_computed"] = left_out + report["not_computed"]
    lease.check()
    _finish(engine, storage, work, report)
    return []


def _effort(work: ReportWork) -> Effort:
    """How much to compute."""
    effort = QUICK if work.quick else FULL
    return effort if work.images is None else replace(effort, images=work.images)


def _state(storage: Storage, work: ReportWork) -> dict[str, Any]:
    """What earlier slices found; nothing where that is lost, and it is computed again."""
    if work.state_key is None:
        return {}
    try:
        found: dict[str, Any] = json.loads(storage.get(work.state_key))
    except (FileNotFoundError, ValueError):
        log.warning("report_state_missing", report=str(work.report_id), key=work.state_key)
        return {}
    return found


def _subject(
    engine: Engine,
    storage: Storage,
    settings: Settings,
    work: ReportWork,
    effort: Effort,
    check: Callable[[], None],
) -> tuple[Subject, list[dict[str, str]]]:
    """What is reported on, and what had to be left out of it."""
    train, held_out = _real(storage, work)
    if work.job_id is None:
        images, labels = _generated(storage, settings, work, effort, check)
    else:
        images, labels = _stored(engine, storage, work, effort, check)
    if images.shape[1:] != train.image_shape:
        raise InvalidRequest(
            f"The images have the shape {images.shape[1:]} and the real ones {train.image_shape}."
        )
    known = {name: number for number, name in enumerate(train.class_names)}
    number = np.array([known.get(name, -1) for name in work.class_names])
    mapped = number[labels]
    left_out = []
    if np.any(mapped < 0):
        lacking = [work.class_names[label] for label in np.unique(labels[mapped < 0])]
        left_out.append(
            {
                "part": "labels",
                "reason": f"The real images lack {len(lacking)} of the labels "
                f"({', '.join(lacking[:5])}); {int((mapped < 0).sum()):,} images were left out.",
            }
        )
    if not np.any(mapped >= 0):
        raise InvalidRequest("None of the images has a label that the real ones have.")
    kept = mapped >= 0
    found = Subject(
        images[kept],
        mapped[kept],
        train,
        held_out,
        gated=work.subject["gate"] is not None,
        sampler=work.subject["sampler"],
    )
    return found, left_out


def _real(storage: Storage, work: ReportWork) -> tuple[LabelledImages, LabelledImages]:
    """Real images that were learnt from, and others."""
    splits = real_splits(storage, work.dataset_key, work.storage_prefix, work.splits)
    train = splits["train"]
    for name in ("test", "validation"):
        if name in splits and np.isin(splits[name].labels, train.labels).any():
            return train, splits[name]
    return _divided(train)


def _divided(real: LabelledImages) -> tuple[LabelledImages, LabelledImages]:
    """Hold a share of each class out; a class of one image stays."""
    random = np.random.default_rng(0)
    held = np.zeros(len(real), dtype=bool)
    for label in np.unique(real.labels):
        own = random.permutation(np.flatnonzero(real.labels == label))
        held[own[: int(np.ceil(len(own) * HELD_OUT_SHARE))] if len(own) > 1 else []] = True
    if not held.any():
        raise InvalidRequest(
            "There are no real images left to measure by: each class has one. Add some more."
        )
    return (
        LabelledImages(real.images[~held], real.labels[~held], real.class_names),
        LabelledImages(real.images[held], real.labels[held], real.class_names),
    )


def _generated(
    storage: Storage,
    settings: Settings,
    work: ReportWork,
    effort: Effort,
    check: Callable[[], None],
) -> tuple[np.ndarray, np.ndarray]:
    """As many images of each label that is learnt as the effort asks for, as a job of seed 0 makes
    them.
    """  # noqa: D205 - one sentence
    generator = GeneratorCache(storage, settings.device).get(work.files)
    gate = work.subject["gate"]
    drawing = Drawing(
        Sampling(work.subject["sampler"], strength=work.subject.get("strength")),
        0,
        None if gate is None else Gate.model_validate(gate),
    )
    each = max(1, effort.images // len(work.learnt))
    labels = np.repeat(np.array(work.learnt, dtype=np.int64), each)
    index = np.arange(len(labels))
    made, _ = Candidates(drawing, generator, Stopwatch(), check).make(
        Wanted(index, np.zeros_like(index), labels)
    )
    return decode_pngs(made.images), made.labels


def _stored(
    engine: Engine,
    storage: Storage,
    work: ReportWork,
    effort: Effort,
    check: Callable[[], None],
) -> tuple[np.ndarray, np.ndarray]:
    """The job's images, or so many of them as the effort asks for, spread over all of them."""
    assert work.job_id is not None  # noqa: S101 - for the type checker
    total = work.images_stored
    chosen = spread_out(total, effort.images)
    images, labels, seen = [], [], 0
    for part in read_samples(engine, storage, work.job_id):
        check()
        own = chosen[(chosen >= seen) & (chosen < seen + len(part))] - seen
        seen += len(part)
        if len(own):
            images.append(decode_pngs([part.images[row] for row in own.tolist()]))
            labels.append(part.labels[own])
    return np.concatenate(images), np.concatenate(labels)


def _tell(engine: Engine, work: ReportWork, name: str, done: int, whole: int) -> None:
    try:
        with writing(engine) as session:
            reports.record_progress(session, work, {"step": name, "done": done, "steps": whole})
    except OperationalError as error:
        # Something to look at; a database that restarts need not end a report.
        log.warning("progress_not_recorded", report=str(work.report_id), error=str(error))


def _continue(
    engine: Engine, storage: Storage, work: ReportWork, found: dict[str, Any]
) -> list[Message]:
    key = f"reports/{work.report_id}/{work.attempt:06d}.json"
    storage.put(key, json.dumps(found, allow_nan=False).encode())
    messages = in_transaction(engine, lambda session: reports.finish_slice(session, work, key))
    if work.state_key is not None and messages:
        storage.delete(work.state_key)
    return messages


def _finish(engine: Engine, storage: Storage, work: ReportWork, report: dict[str, Any]) -> None:
    out = io.BytesIO()
    with ZipSink(out) as sink:
        sink.put("report.json", json.dumps(report, allow_nan=False, indent=1).encode() + b"\n")
        sink.put("report.html", page(report).encode())
    archive = out.getvalue()
    digest = hashlib.sha256(archive).hexdigest()
    key = f"reports/{work.report_id}/{digest[:32]}.zip"
    storage.put(key, archive)
    closed = in_transaction(
        engine,
        lambda session: reports.close(
            session,
            work,
            key=key,
            digest=digest,
            size=len(archive),
            outcome=report["verdict"]["outcome"],
            sentence=report["verdict"]["sentence"],
        ),
    )
    # Where it was taken over, the state is what the other worker goes on from.
    if closed and work.state_key is not None:
        storage.delete(work.state_key)
