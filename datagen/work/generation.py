"""Generation: how a worker makes one batch, from latents to a stored shard and its rows."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
import stamina
import structlog
import torch
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from datagen.db.session import writing
from datagen.db.tables import Batch
from datagen.errors import (
    Cancelled,
    DatagenError,
    DeviceUnusable,
    InvalidFile,
    InvalidRequest,
    StorageFailure,
)
from datagen.images import encode_png
from datagen.model.samplers import Sampling, draw_latents
from datagen.queue import Message, Queue
from datagen.service import batches
from datagen.service.batches import UNLABELLED, BatchResult, BatchWork
from datagen.service.lease import Lease
from datagen.settings import Settings
from datagen.shards import SampleBatch, ShardInfo, write_shard
from datagen.storage import Storage
from datagen.work import generators
from datagen.work.generators import Generator, GeneratorCache

STAGES = ("latents", "decode", "score", "encode", "store")
# A database that restarts is back within seconds; past the lease the batch is somebody else's.
RETRY_SECONDS = 20.0

log = structlog.get_logger()


@dataclass
class Stopwatch:
    """Seconds spent in each stage."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began


@dataclass(frozen=True)
class Generation:
    """What a worker process keeps between batches."""

    engine: Engine
    storage: Storage
    queue: Queue
    settings: Settings
    cache: GeneratorCache

    @classmethod
    def begin(
        cls, engine: Engine, storage: Storage, queue: Queue, settings: Settings
    ) -> Generation:
        """Set the process up and load the models that are likely to be asked for.

        Raises:
            DeviceUnusable: `DATAGEN_DEVICE` names a device that is not there.
        """
        begun = cls(engine, storage, queue, settings, GeneratorCache(storage, settings.device))
        generators.warm_up(engine, begun.cache, settings)
        return begun

    def run_batch(self, batch_id: UUID) -> None:
        """Claim a batch, make it, record it, and send what follows; safe to be told of twice."""
        work = self._claim(batch_id)
        if work is None:
            return
        try:
            with Lease(self.engine, self.settings, Batch, work.batch_id, work.attempt) as lease:
                result = self._make(work, lease)
                messages = self._close(work, result)
        except Cancelled as stop:
            log.info("batch_stopped", batch=str(batch_id), reason=stop.detail)
        except (InvalidFile, InvalidRequest, DeviceUnusable) as error:
            self._end(work, error, final=True)
        except (OSError, DBAPIError, RuntimeError, MemoryError, StorageFailure) as error:
            self._end(work, error, final=False)
        else:
            if messages is None:
                log.warning("batch_superseded", batch=str(batch_id), attempt=work.attempt)
            self.queue.send(messages or [])

    @stamina.retry(on=OperationalError, timeout=RETRY_SECONDS, attempts=None)
    def _claim(self, batch_id: UUID) -> BatchWork | None:
        with writing(self.engine) as session:
            return batches.claim(session, self.settings, batch_id)

    @stamina.retry(on=OperationalError, timeout=RETRY_SECONDS, attempts=None)
    def _close(self, work: BatchWork, result: BatchResult) -> list[Message] | None:
        with writing(self.engine) as session:
            return batches.close(session, work, result)

    def _make(self, work: BatchWork, lease: Lease) -> BatchResult:
        generator = self.cache.get(
            digest=work.model_digest,
            checkpoint_key=work.checkpoint_key,
            judge_digest=work.judge_digest,
            judge_key=work.judge_key,
            examples_digest=work.examples_digest,
            examples_key=work.examples_key,
        )
        watch = Stopwatch()
        samples = _samples(work, generator, watch, lease)
        with watch.stage("store"):
            shard = write_shard(samples, _shard_info(work))
            digest = hashlib.sha256(shard).hexdigest()
            key = f"jobs/{work.job_id}/{work.start:012d}-{work.stop:012d}-{digest[:32]}.parquet"
            lease.check()
            self.storage.put(key, shard)
        return BatchResult(
            shard_key=key,
            shard_digest=digest,
            shard_bytes=len(shard),
            device=generator.decoder.kind,
            torch_version=torch.__version__,
            samples=samples,
            seconds=watch.seconds,
        )

    @stamina.retry(on=OperationalError, timeout=RETRY_SECONDS, attempts=None)
    def _end(self, work: BatchWork, error: Exception, *, final: bool) -> None:
        reason = (
            error.detail if isinstance(error, DatagenError) else f"{type(error).__name__}: {error}"
        )
        log.warning("batch_not_made", batch=str(work.batch_id), attempt=work.attempt, reason=reason)
        with writing(self.engine) as session:
            if final:
                batches.fail(session, work.batch_id, work.attempt, reason)
            else:
                batches.release(session, self.settings, work, reason)


def _samples(work: BatchWork, generator: Generator, watch: Stopwatch, lease: Lease) -> SampleBatch:
    """The batch's images as PNG, with the judge's opinion of each, tile by tile."""
    index = np.arange(work.start, work.stop, dtype=np.int64)
    attempt = np.zeros(len(index), dtype=np.int64)
    wanted = work.labels()
    # Networks that see no label are given any; the judge then says what came out.
    judged_alone = bool(np.any(wanted == UNLABELLED))
    labels = np.zeros_like(wanted) if judged_alone else wanted
    with watch.stage("latents"):
        sampling = Sampling(work.sampler, work.temperature, work.truncation)
        drawn = draw_latents(
            generator.model, sampling, work.seed, index, attempt, labels, generator.examples
        )
    pngs: list[bytes] = []
    opinions: list[np.ndarray] = []
    tiles = generator.decoder.tiles(drawn.latents, labels)
    while True:
        with watch.stage("decode"):
            images = next(tiles, None)
        if images is None:
            break
        with watch.stage("score"):
            opinions.append(generator.scorer.score(images))
        with watch.stage("encode"):
            pngs += encode_png(images)
        lease.check()
    with watch.stage("score"):
        probabilities = np.concatenate(opinions)
        judged = probabilities.argmax(axis=1).astype(np.int64)
        labels = judged if judged_alone else labels
        scores = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    with watch.stage("encode"):
        digests = [hashlib.sha256(png).digest() for png in pngs]
    return SampleBatch(
        indices=index,
        labels=labels,
        scores=np.round(scores, 4),
        judged_labels=judged,
        attempts=attempt,
        sources=drawn.sources,
        digests=digests,
        images=pngs,
    )


def _shard_info(work: BatchWork) -> ShardInfo:
    return ShardInfo(
        class_names=work.class_names,
        job_id=str(work.job_id),
        model_name=work.model_name,
        model_version=work.model_version,
        model_digest=work.model_digest,
        seed=work.seed,
        temperature=work.temperature,
        sampler=work.sampler,
        truncation=work.truncation,
    )
