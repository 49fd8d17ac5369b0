"""Reading back all that a job has stored, shard by shard, each checked against its hash."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO, cast
from uuid import UUID

from sqlalchemy import Engine, select

from datagen.db.session import reading
from datagen.db.tables import Batch
from datagen.errors import InvalidFile
from datagen.shards import SampleBatch, read_shard
from datagen.storage import Storage, digest_of

SHARDS_AT_ONCE = 500
SPOOL_BYTES = 16 << 20


@dataclass(frozen=True)
class StoredShard:
    """The shard of the images `start` to `stop` - 1, and the SHA-256 that it must have."""

    start: int
    stop: int
    key: str
    digest: str


def read_samples(engine: Engine, storage: Storage, job_id: UUID) -> Iterator[SampleBatch]:
    """The samples of a job in the order of their indices, a few hundred at a time.

    No transaction stays open between two of them, and only one shard is held.

    Raises:
        InvalidFile: a shard is missing, or not the one that its batch recorded.
    """
    for shard in _shards(engine, job_id):
        yield from read_stored(storage, shard)


def read_stored(storage: Storage, shard: StoredShard) -> Iterator[SampleBatch]:
    """The samples of one shard, a few hundred at a time.

    Raises:
        InvalidFile: it is missing, or not the one that its batch recorded.
    """
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as copy:
        _fetch(storage, shard, copy)
        yield from read_shard(cast("BinaryIO", copy))


def _shards(engine: Engine, job_id: UUID) -> Iterator[StoredShard]:
    after = -1
    while True:
        with reading(engine) as session:
            rows = session.execute(
                select(Batch.start, Batch.stop, Batch.shard_key, Batch.shard_digest)
                .where(Batch.job_id == job_id, Batch.start > after, Batch.state == "succeeded")
                .order_by(Batch.start)
                .limit(SHARDS_AT_ONCE)
            ).all()
        if not rows:
            return
        for start, stop, key, digest in rows:
            yield StoredShard(start, stop, str(key), str(digest))
        after = rows[-1].start


def _fetch(storage: Storage, shard: StoredShard, target: IO[bytes]) -> None:
    images = f"images {shard.start} to {shard.stop - 1}"
    try:
        source = storage.open(shard.key)
    except FileNotFoundError:
        raise InvalidFile(
            f"The shard {shard.key} with the {images} is missing from the storage; restore it, or "
            "run the job again with the same seed."
        ) from None
    with source:
        digest = digest_of(source, copy=target)
    if digest != shard.digest:
        raise InvalidFile(
            f"The shard {shard.key} with the {images} is not as it was written; restore it, or "
            "run the job again with the same seed."
        )
    target.seek(0)
