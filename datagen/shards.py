"""The shard: one Parquet file a batch, which the usual dataset loaders open as it is.

Columns: `image` struct<bytes, path>, `label`, then what each image answers for itself with. Row
groups are small, so that one sample is fetched without reading the rest.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.errors import InvalidFile

ROW_GROUP = 256
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FIELDS: tuple[tuple[str, pa.DataType], ...] = (
    ("image", IMAGE_TYPE),
    ("label", pa.int64()),
    ("index", pa.int64()),
    ("seed", pa.int64()),
    ("attempt", pa.int64()),
    ("score", pa.float64()),
    ("judged_label", pa.int64()),
    ("sampler", pa.string()),
    ("first_source", pa.int64()),
    ("second_source", pa.int64()),
)


@dataclass(frozen=True)
class SampleBatch:
    """Samples of one job, by columns: no object an image.

    Attributes:
        indices, labels, judged_labels, attempts: int64 of shape (n,).
        scores: float64 of shape (n,), rounded to 1e-4.
        sources: int64 of shape (n, 2): rows of the real images, in the training split, that each
            was made from; -1 where there is none.
        digests: SHA-256 of each PNG, 32 bytes.
        images: PNG files.
    """

    indices: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    judged_labels: np.ndarray
    attempts: np.ndarray
    sources: np.ndarray
    digests: list[bytes]
    images: list[bytes]

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, chosen: np.ndarray) -> SampleBatch:
        """The samples of the numbered rows, in that order."""
        arrays = {
            name: getattr(self, name)[chosen]
            for name in ("indices", "labels", "scores", "judged_labels", "attempts", "sources")
        }
        return SampleBatch(
            **arrays,
            digests=[self.digests[row] for row in chosen.tolist()],
            images=[self.images[row] for row in chosen.tolist()],
        )

    def cut(self, start: int, stop: int) -> SampleBatch:
        """The samples of the rows `start` to `stop` - 1, arrays as views."""
        return SampleBatch(
            **{name: getattr(self, name)[start:stop] for name in self.__dataclass_fields__}
        )

    @classmethod
    def joined(cls, parts: Sequence[SampleBatch]) -> SampleBatch:
        """All samples of some batches, at least one, in the order of their indices."""
        whole = cls.stacked(parts)
        return whole.rows(np.argsort(whole.indices, kind="stable"))

    @classmethod
    def stacked(cls, parts: Sequence[SampleBatch]) -> SampleBatch:
        """All samples of some batches, at least one, as they come."""
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("indices", "labels", "scores", "judged_labels", "attempts", "sources")
        }
        return cls(
            **arrays,
            digests=[digest for part in parts for digest in part.digests],
            images=[image for part in parts for image in part.images],
        )


@dataclass(frozen=True)
class ShardInfo:
    """What all samples of a shard share; kept in the file's own metadata."""

    class_names: tuple[str, ...]
    job_id: str
    model_name: str
    model_version: int
    model_digest: str
    seed: int
    temperature: float
    sampler: str = "prior"
    truncation: float | None = None
    strength: float | None = None


def loader_metadata(
    class_names: Sequence[str], columns: Sequence[tuple[str, pa.DataType]]
) -> dict[bytes, bytes]:
    """The schema metadata by which the `datasets` library knows images and class labels.

    `label` and `judged_label` become ClassLabel, `image` becomes Image, the rest plain values.
    """
    names = {"names": list(class_names), "_type": "ClassLabel"}
    features: dict[str, Any] = {}
    for name, kind in columns:
        if name == "image":
            features[name] = {"_type": "Image"}
        elif name in {"label", "judged_label"}:
            features[name] = names
        else:
            features[name] = {"dtype": _value_type(kind), "_type": "Value"}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def _value_type(kind: pa.DataType) -> str:
    return {"double": "float64", "bool": "bool"}.get(str(kind), str(kind))


def image_column(files: Sequence[bytes], paths: Sequence[str | None]) -> pa.StructArray:
    """The `image` column: PNG bytes with the name that each would have as a file."""
    return pa.StructArray.from_arrays(
        [pa.array(files, pa.binary()), pa.array(paths, pa.string())], fields=list(IMAGE_TYPE)
    )


def source_columns(samples: SampleBatch) -> list[pa.Array]:
    """The columns `first_source` and `second_source`, with nulls where there is no source."""
    return [pa.array(sources, mask=sources < 0) for sources in samples.sources.T]


def _document(info: ShardInfo) -> dict[str, Any]:
    """The metadata as JSON has it: the same bytes as ever where no strength was given."""
    document = asdict(info)
    if info.strength is None:
        del document["strength"]
    return document


def write_shard(samples: SampleBatch, info: ShardInfo) -> bytes:
    """The shard's file, the same bytes for the same samples."""
    schema = pa.schema(
        FIELDS,
        metadata=loader_metadata(info.class_names, FIELDS)
        | {b"datagen": json.dumps(_document(info)).encode()},
    )
    count = len(samples)
    table = pa.table(
        [
            image_column(samples.images, [None] * count),
            pa.array(samples.labels),
            pa.array(samples.indices),
            pa.array(np.full(count, info.seed, dtype=np.int64)),
            pa.array(samples.attempts),
            pa.array(samples.scores),
            pa.array(samples.judged_labels),
            pa.repeat(pa.scalar(info.sampler, pa.string()), count),
            *source_columns(samples),
        ],
        schema=schema,
    )
    out = io.BytesIO()
    # PNG does not compress further, and statistics would copy whole images into the footer.
    pq.write_table(
        table,
        out,
        row_group_size=ROW_GROUP,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )
    return out.getvalue()


def _opened(file: BinaryIO) -> pq.ParquetFile:
    try:
        shard = pq.ParquetFile(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidFile(f"The shard is damaged: {error}.") from error
    missing = [name for name, _ in FIELDS if name not in shard.schema_arrow.names]
    if missing:
        raise InvalidFile(f"The shard lacks the columns {', '.join(missing)}.")
    return shard


def _row_group(shard: pq.ParquetFile, number: int, columns: list[str] | None = None) -> pa.Table:
    try:
        return shard.read_row_group(number, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidFile(f"Row group {number} of the shard is damaged: {error}.") from error


def read_shard(file: BinaryIO) -> Iterator[SampleBatch]:
    """The samples, a row group at a time. Raises InvalidFile for a damaged shard."""
    shard = _opened(file)
    for number in range(shard.num_row_groups):
        table = _row_group(shard, number)
        images = _images(table)
        yield SampleBatch(
            indices=table["index"].to_numpy(),
            labels=table["label"].to_numpy(),
            scores=table["score"].to_numpy(),
            judged_labels=table["judged_label"].to_numpy(),
            attempts=table["attempt"].to_numpy(),
            sources=np.stack(
                [
                    table[name].fill_null(-1).to_numpy()
                    for name in ("first_source", "second_source")
                ],
                axis=1,
            ),
            digests=[hashlib.sha256(image).digest() for image in images],
            images=images,
        )


def _images(table: pa.Table) -> list[bytes]:
    files: list[bytes] = table["image"].combine_chunks().field("bytes").to_pylist()
    return files


def read_sample(file: BinaryIO, row: int) -> bytes:
    """The PNG of one row, reading its row group alone. Raises InvalidFile, IndexError."""
    shard = _opened(file)
    if not 0 <= row < shard.metadata.num_rows:
        raise IndexError(f"row {row} of {shard.metadata.num_rows}")
    images = _images(_row_group(shard, row // ROW_GROUP, ["image"]))
    return images[row % ROW_GROUP]


def read_images_of(file: BinaryIO, indices: Sequence[int]) -> dict[int, bytes]:
    """The PNGs of some samples by their index, reading the row groups that hold them alone.

    Raises:
        InvalidFile: a damaged shard.
    """
    shard, wanted = _opened(file), set(indices)
    found: dict[int, bytes] = {}
    for number in range(shard.num_row_groups):
        there = _row_group(shard, number, ["index"])["index"].to_pylist()
        if wanted.isdisjoint(there):
            continue
        images = _images(_row_group(shard, number, ["image"]))
        found |= {
            index: image for index, image in zip(there, images, strict=True) if index in wanted
        }
    return found
