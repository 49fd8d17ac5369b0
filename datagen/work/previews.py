"""Previews: a worker makes a few images and puts them where somebody waits for them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import structlog
from pydantic import ValidationError
from redis import Redis

from datagen.db.session import reading
from datagen.db.tables import Model
from datagen.errors import DatagenError
from datagen.images import encode_png
from datagen.model.samplers import Sampling
from datagen.queue import ANSWER_SECONDS, redis_url
from datagen.schemas import Made, PreviewWork
from datagen.service import sharing
from datagen.service.batch_work import UNLABELLED
from datagen.service.model_files import ModelFiles
from datagen.work.candidates import Candidates, Drawing, Wanted
from datagen.work.generation import Generation
from datagen.work.generators import Generator
from datagen.work.stopwatch import Stopwatch

log = structlog.get_logger()


def run_preview(generation: Generation, told: object) -> None:
    """Make what a message asks for, and answer it; a forged message is refused."""
    try:
        work = PreviewWork.model_validate(told)
    except ValidationError as error:
        log.warning("message_refused", task="preview", reason=str(error.errors()[0]["msg"]))
        return
    try:
        made = _make(generation, work)
    except DatagenError as error:
        made = Made(error=error.detail)
    with Redis.from_url(redis_url(str(generation.settings.broker_url))) as broker:
        pipeline = broker.pipeline()
        pipeline.rpush(work.reply_to, made.model_dump_json())
        # Whoever asked may have gone; nothing is left behind.
        pipeline.expire(work.reply_to, ANSWER_SECONDS)
        pipeline.execute()


def _make(generation: Generation, work: PreviewWork) -> Made:
    with reading(generation.engine) as session:
        model = session.get(Model, work.model_id)
        if model is None or model.state != "succeeded":
            return Made(error="The model is no longer there.")
        sharing.refuse_withdrawn(model, work.owner_id)
        files = ModelFiles.of(model)
    generator = generation.cache.get(files)
    if max(work.labels, default=0) >= generator.model.config.class_count:
        return Made(error="A label is none of the model's.")
    is_drawn = work.latents is None and work.coordinates is None
    return _drawn(generator, work) if is_drawn else _decoded(generator, work)


def _drawn(generator: Generator, work: PreviewWork) -> Made:
    index = np.arange(len(work.labels), dtype=np.int64)
    wanted = Wanted(index, np.zeros_like(index), np.array(work.labels, dtype=np.int64))
    drawing = Drawing(
        Sampling(work.sampler, work.temperature, work.truncation, work.strength),
        work.seed,
        work.gate,
    )
    samples, _ = Candidates(drawing, generator, Stopwatch()).make(wanted)
    order = np.argsort(samples.indices)
    rows = samples.rows(order)
    return _made(rows.labels, rows.scores, rows.judged_labels, rows.images)


def _decoded(generator: Generator, work: PreviewWork) -> Made:
    labels = np.array(work.labels, dtype=np.int64)
    if work.coordinates is not None:
        latents = _along_directions(generator, work.coordinates, np.maximum(labels, 0))
    else:
        latents = np.array(work.latents, dtype=np.float32)
    images = np.concatenate(list(generator.decoder.tiles(latents, np.maximum(labels, 0))))
    probabilities = generator.scorer.score(images)
    judged = probabilities.argmax(axis=1)
    labels = np.where(labels == UNLABELLED, judged, labels)
    scores = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    return _made(labels, scores, judged, encode_png(images))


def _along_directions(
    generator: Generator, coordinates: list[list[float]], labels: np.ndarray
) -> np.ndarray:
    """Latents float32 (N, d) of places along the principal directions, of labels (N,)."""
    places = np.zeros((len(coordinates), max(map(len, coordinates))))
    for row, place in zip(places, coordinates, strict=True):
        row[: len(place)] = place
    return generator.directions.latents(places, labels).astype(np.float32)


def _made(labels: Any, scores: Any, judged: Any, pngs: list[bytes]) -> Made:
    return Made(
        labels=labels.tolist(),
        scores=[round(float(score), 4) for score in scores],
        judged_labels=judged.tolist(),
        pngs=[base64.b64encode(png).decode() for png in pngs],
    )
