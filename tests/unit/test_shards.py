from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from datagen.errors import InvalidFile
from datagen.images import encode_png
from datagen.shards import (
    ROW_GROUP,
    SampleBatch,
    ShardInfo,
    read_sample,
    read_shard,
    write_shard,
)

INFO = ShardInfo(("a", "b"), "job", "mnist", 1, "d" * 64, 7, 1.0)


def samples(count: int = 600, start: int = 1000) -> SampleBatch:
    rng = np.random.default_rng(1)
    images = encode_png(rng.integers(0, 256, (count, 1, 6, 6), dtype=np.uint8))
    return SampleBatch(
        indices=np.arange(start, start + count),
        labels=np.arange(count) % 2,
        scores=np.round(rng.random(count), 4),
        judged_labels=np.zeros(count, dtype=np.int64),
        attempts=np.zeros(count, dtype=np.int64),
        sources=np.stack([np.arange(count) - 1, np.arange(count) - 300], axis=1).clip(-1),
        digests=[hashlib.sha256(image).digest() for image in images],
        images=images,
    )


def test_samples_survive_the_shard():
    written = samples()
    read = list(read_shard(io.BytesIO(write_shard(written, INFO))))

    assert [len(part) for part in read] == [ROW_GROUP, ROW_GROUP, 600 - 2 * ROW_GROUP]
    assert [image for part in read for image in part.images] == written.images
    assert [digest for part in read for digest in part.digests] == written.digests
    for name in ("indices", "labels", "scores", "judged_labels", "attempts", "sources"):
        assert np.array_equal(
            np.concatenate([getattr(part, name) for part in read]), getattr(written, name)
        )


def test_same_samples_give_the_same_bytes():
    assert write_shard(samples(), INFO) == write_shard(samples(), INFO)


def test_one_sample_is_read_by_its_row():
    written = samples()
    shard = io.BytesIO(write_shard(written, INFO))

    for row in (0, ROW_GROUP - 1, ROW_GROUP, 599):
        assert read_sample(shard, row) == written.images[row]
    for row in (-1, 600):
        with pytest.raises(IndexError):
            read_sample(shard, row)


def test_damaged_shard_is_refused():
    data = write_shard(samples(), INFO)

    for damaged in (b"", b"PAR1", data[: len(data) // 2], data[:-1], b"\x80\x04K\x01."):
        with pytest.raises(InvalidFile):
            list(read_shard(io.BytesIO(damaged)))


def test_parquet_without_the_columns_is_refused():
    out = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(write_shard(samples(), INFO))).drop(["score"]), out)

    with pytest.raises(InvalidFile, match="score"):
        list(read_shard(io.BytesIO(out.getvalue())))


def test_dataset_loaders_find_images_and_class_names():
    schema = pq.read_schema(io.BytesIO(write_shard(samples(), INFO)))

    assert b'"_type": "Image"' in schema.metadata[b"huggingface"]
    assert b'"names": ["a", "b"], "_type": "ClassLabel"' in schema.metadata[b"huggingface"]


def test_shard_without_a_strength_has_the_same_bytes_as_before_there_were_any():
    def document(info):
        shard = pq.ParquetFile(io.BytesIO(write_shard(samples(2), info)))
        return json.loads(shard.schema_arrow.metadata[b"datagen"])

    plain, near = document(INFO), document(replace(INFO, strength=0.4))

    assert "strength" not in plain
    assert near == plain | {"strength": 0.4}
