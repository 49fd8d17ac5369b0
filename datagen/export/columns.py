"""The columns that say where each exported sample comes from."""

from __future__ import annotations

import pyarrow as pa

from datagen.export.info import ExportInfo
from datagen.shards import SampleBatch, source_columns

PROVENANCE: tuple[tuple[str, pa.DataType], ...] = (
    ("label", pa.int64()),
    ("index", pa.int64()),
    ("seed", pa.int64()),
    ("attempt", pa.int64()),
    ("score", pa.float64()),
    ("judged_label", pa.int64()),
    ("sampler", pa.string()),
    ("first_source", pa.int64()),
    ("second_source", pa.int64()),
    ("digest", pa.string()),
    ("model", pa.string()),
)


def provenance(samples: SampleBatch, info: ExportInfo) -> list[pa.Array]:
    """Arrays for the columns of PROVENANCE, one value a sample."""
    count = len(samples)
    return [
        pa.array(samples.labels, pa.int64()),
        pa.array(samples.indices, pa.int64()),
        pa.repeat(pa.scalar(info.seed, pa.int64()), count),
        pa.array(samples.attempts, pa.int64()),
        pa.array(samples.scores, pa.float64()),
        pa.array(samples.judged_labels, pa.int64()),
        pa.repeat(pa.scalar(info.sampler, pa.string()), count),
        *source_columns(samples),
        pa.array([digest.hex() for digest in samples.digests], pa.string()),
        pa.repeat(pa.scalar(info.model_digest, pa.string()), count),
    ]
