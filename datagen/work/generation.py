"""Generation: how a worker makes one batch, from latents to a stored shard and its rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import structlog
import torch
from sqlalchemy import Engine

from datagen.db.tables import Batch
from datagen.model.samplers import Sampling
from datagen.queue import Message, Queue
from datagen.service import batches
from datagen.service.attempts import attempt, in_transaction
from datagen.service.batch_work import BatchResult, BatchWork
from datagen.service.lease import Lease
from datagen.service.stored_samples import StoredShard, read_stored
from datagen.settings import Settings
from datagen.shards import SampleBatch, ShardInfo, write_shard
from datagen.storage import Storage
from datagen.work import generators
from datagen.work.candidates import Candidates, Drawing, Wanted
from datagen.work.generators import GeneratorCache
from datagen.work.stopwatch import Stopwatch

log = structlog.get_logger()


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
        work = in_transaction(
            self.engine, lambda session: batches.claim(session, self.settings, batch_id)
        )
        if work is None:
            return
        messages: list[Message] | None = []
        with attempt(
            self.engine,
            self.settings,
            Batch,
            work.batch_id,
            work.attempt,
            fail=batches.failing(work.batch_id, work.attempt),
        ) as lease:
            result = self._make(work, lease)
            messages = in_transaction(
                self.engine, lambda session: batches.close(session, work, result)
            )
        if messages is None:
            log.warning("batch_superseded", batch=str(batch_id), attempt=work.attempt)
        self.queue.send(messages or [])

    def _make(self, work: BatchWork, lease: Lease) -> BatchResult:
        generator = self.cache.get(work.files)
        watch = Stopwatch()
        kept, replaced = self._made_before(work)
        wanted = _wanted(work) if replaced is None else _wanted_anew(work, replaced)
        samples, refused = Candidates(_drawing(work), generator, watch, lease.check).make(wanted)
        with watch.stage("store"):
            whole = samples if kept is None else SampleBatch.joined([kept, samples])
            shard = write_shard(whole, shard_info(work))
            digest = hashlib.sha256(shard).hexdigest()
            key = shard_key(work, digest)
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
            refused=refused,
            replaced=replaced,
        )

    def _made_before(self, work: BatchWork) -> tuple[SampleBatch | None, SampleBatch | None]:
        """Of a batch that was made before, the samples that stay and those that are made anew."""
        if work.made is None:
            return None, None
        shard = StoredShard(work.start, work.stop, work.made.key, work.made.digest)
        before = SampleBatch.joined(list(read_stored(self.storage, shard)))
        anew = np.isin(before.indices, work.redraws)
        return before.rows(np.flatnonzero(~anew)), before.rows(np.flatnonzero(anew))


def _drawing(work: BatchWork) -> Drawing:
    sampling = Sampling(work.sampler, work.temperature, work.truncation, work.strength)
    return Drawing(sampling, work.seed, work.gate)


def _wanted(work: BatchWork) -> Wanted:
    index = np.arange(work.start, work.stop, dtype=np.int64)
    return Wanted(index, np.zeros_like(index), work.labels())


def _wanted_anew(work: BatchWork, replaced: SampleBatch) -> Wanted:
    """The images that are made anew, each from the attempt after the one that it had."""
    return Wanted(
        replaced.indices, replaced.attempts + 1, work.labels()[replaced.indices - work.start]
    )


def shard_key(work: BatchWork, digest: str) -> str:
    """Where a batch's shard lies: the key ends in its content's hash."""
    return f"jobs/{work.job_id}/{work.start:012d}-{work.stop:012d}-{digest[:32]}.parquet"


def shard_info(work: BatchWork) -> ShardInfo:
    """What all samples of a batch's shard share."""
    return ShardInfo(
        class_names=work.class_names,
        job_id=str(work.job_id),
        model_name=work.model_name,
        model_version=work.model_version,
        model_digest=work.files.generator.digest,
        seed=work.seed,
        temperature=work.temperature,
        sampler=work.sampler,
        truncation=work.truncation,
        strength=work.strength,
    )
