"""Repair: how a worker makes a shard again that is missing or damaged."""

from __future__ import annotations

import hashlib
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from datagen.db.session import reading, writing
from datagen.errors import DatagenError, reason_of
from datagen.model.samplers import Sampling
from datagen.service import repairing
from datagen.service.repairing import RepairWork
from datagen.shards import write_shard
from datagen.work.candidates import Candidates, Drawing, Wanted
from datagen.work.generation import Generation, shard_info, shard_key
from datagen.work.stopwatch import Stopwatch

log = structlog.get_logger()


def repair_batch(generation: Generation, batch_id: UUID) -> None:
    """Make a batch's shard again and record it; safe to be told of twice."""
    try:
        with reading(generation.engine) as session:
            work = repairing.work_of(session, batch_id)
        if work is not None:
            _repair(generation, work)
    except (DatagenError, OSError, RuntimeError, MemoryError) as error:
        if isinstance(error, DBAPIError):
            raise
        reason = reason_of(error)
        log.warning("shard_not_repaired", batch=str(batch_id), reason=reason)
        with writing(generation.engine) as session:
            repairing.fail(session, batch_id, reason)


def _repair(generation: Generation, work: RepairWork) -> None:
    batch = work.batch
    generator = generation.cache.get(batch.files)
    sampling = Sampling(batch.sampler, batch.temperature, batch.truncation, batch.strength)
    # What passed the gate once passes as it is: its attempt is known.
    drawing = Drawing(sampling, batch.seed, gate=None)
    wanted = Wanted(work.indices, work.attempts, work.labels)
    samples, _ = Candidates(drawing, generator, Stopwatch()).make(wanted)
    shard = write_shard(samples, shard_info(batch))
    digest = hashlib.sha256(shard).hexdigest()
    key = shard_key(batch, digest)
    generation.storage.put(key, shard)
    with writing(generation.engine) as session:
        repairing.record(session, work, samples, key, digest, len(shard))
    log.info("shard_repaired", batch=str(batch.batch_id), same=digest == work.digest)
