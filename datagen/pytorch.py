"""Exports as PyTorch datasets: `SyntheticDataset`, with every row at hand, and `SyntheticStream`.

    from datagen.pytorch import SyntheticDataset
    images = SyntheticDataset("digits", transform=ToTensor())

Both take the folder of a Parquet export, or the id of a job, whose export is then made, fetched and
kept under `~/.cache/datagen`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from datagen.errors import InvalidFile, InvalidRequest
from datagen.scratch import scratch_beside

CACHE = Path("~/.cache/datagen")
_FORMAT = "parquet"
_SCHEMA = pa.schema([("image", pa.large_binary()), ("label", pa.int64())])

Transform = Callable[[Any], Any]
Item = tuple[Any, Any]


class SyntheticDataset(Dataset[Item]):
    """A map-style dataset: (image, label) by number, as torchvision's ImageFolder gives them.

    The images of a split are copied once into an Arrow file under the cache, which is mapped into
    memory: any row is at hand without reading others, memory does not grow with the export, and the
    workers of a DataLoader share the file.

    Attributes:
        classes: names of the labels.
        class_to_idx: their numbers.
        targets: the label of every row, int64 (N,).
    """

    def __init__(
        self,
        job_or_path: UUID | str | Path,
        split: str = "train",
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        *,
        cache: Path | str = CACHE,
    ) -> None:
        """Open a split.

        Args:
            job_or_path: the folder of a Parquet export, or the id of a job.
            split: `train`, `validation` or `test`.
            transform: takes a PIL image, grey or RGB.
            target_transform: takes the label's number.
            cache: where copies are kept.

        Raises:
            InvalidRequest: no such split.
            InvalidFile: no Parquet export, or a damaged one.
        """
        export = _Export(job_or_path, Path(cache).expanduser())
        self.transform, self.target_transform = transform, target_transform
        self.classes, self.class_to_idx = export.classes, export.class_to_idx
        self._path = export.arrow_of(split)
        self._open()

    def _open(self) -> None:
        with pa.memory_map(str(self._path)) as source:
            self._table = pa.ipc.open_file(source).read_all()
        self._images = self._table["image"]
        self.targets = self._table["label"].to_numpy()

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Item:
        """An image and its label. Raises IndexError."""
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        image = _decoded(self._images[number].as_buffer())
        return _transformed(image, int(self.targets[number]), self.transform, self.target_transform)

    def __getstate__(self) -> dict[str, Any]:
        """All but the map: a DataLoader's worker opens it for itself."""
        kept = dict(self.__dict__)
        for name in ("_table", "_images", "targets"):
            kept.pop(name)
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


class SyntheticStream(IterableDataset[Item]):
    """A streaming dataset: (image, label), file by file in order, straight from the Parquet files.

    Nothing is copied and a few hundred rows are held. The workers of a DataLoader take turns by row
    groups. With a buffer, rows are shuffled within it, otherwise in every epoch.
    """

    def __init__(
        self,
        job_or_path: UUID | str | Path,
        split: str = "train",
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        *,
        shuffle_buffer: int = 0,
        seed: int = 0,
        cache: Path | str = CACHE,
    ) -> None:
        """Open a split.

        Args:
            job_or_path: the folder of a Parquet export, or the id of a job.
            split: `train`, `validation` or `test`.
            transform: takes a PIL image, grey or RGB.
            target_transform: takes the label's number.
            shuffle_buffer: rows among which the next one is drawn; 0 keeps the order.
            seed: of the shuffle.
            cache: where the export of a job is kept.

        Raises:
            InvalidRequest: no such split, or a buffer below 0.
            InvalidFile: no Parquet export, or a damaged one.
        """
        if shuffle_buffer < 0:
            raise InvalidRequest(
                f"shuffle_buffer is {shuffle_buffer}; it must be 0 or more.", field="shuffle_buffer"
            )
        export = _Export(job_or_path, Path(cache).expanduser())
        self.transform, self.target_transform = transform, target_transform
        self.classes, self.class_to_idx = export.classes, export.class_to_idx
        self._files = export.files_of(split)
        self._rows = sum(pq.read_metadata(path).num_rows for path in self._files)
        self._buffer, self._seed, self._epoch = shuffle_buffer, seed, 0

    def __len__(self) -> int:
        return int(self._rows)

    def __iter__(self) -> Iterator[Item]:
        """One epoch, of this worker's part."""
        self._epoch += 1
        worker = get_worker_info()
        part, parts = (0, 1) if worker is None else (worker.id, worker.num_workers)
        rows = self._read(part, parts)
        if self._buffer:
            rows = _shuffled(rows, self._buffer, np.random.default_rng([self._seed, self._epoch]))
        for data, label in rows:
            yield _transformed(_decoded(data), label, self.transform, self.target_transform)

    def _read(self, part: int, parts: int) -> Iterator[tuple[Any, int]]:
        turn = 0
        for path in self._files:
            file = pq.ParquetFile(path)
            for number in range(file.num_row_groups):
                turn += 1
                if (turn - 1) % parts != part:
                    continue
                table = file.read_row_group(number, columns=["image", "label"], use_threads=False)
                images = table["image"].combine_chunks().field("bytes")
                for image, label in zip(images, table["label"].to_pylist(), strict=True):
                    yield image.as_buffer(), label


class _Export:
    """A Parquet export in a folder."""

    def __init__(self, job_or_path: UUID | str | Path, cache: Path) -> None:
        self._cache = cache
        job = _job_id(job_or_path)
        self._folder = Path(str(job_or_path)) if job is None else _fetched(job, cache)
        try:
            text = (self._folder / "manifest.json").read_bytes()
            manifest = json.loads(text)
            self._format = manifest["format"]
            self.classes: list[str] = list(manifest["class_names"])
            self._splits: list[str] = list(manifest["counts"])
        except FileNotFoundError:
            raise InvalidFile(
                f"{self._folder} has no manifest.json; give the folder of an export, or a job's id."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidFile(f"{self._folder / 'manifest.json'} is damaged: {error}.") from None
        if self._format != _FORMAT:
            raise InvalidFile(
                f"{self._folder} is an export in the format {self._format!r}; write one as "
                f"{_FORMAT!r} for this."
            )
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self._digest = hashlib.sha256(text).hexdigest()

    def files_of(self, split: str) -> list[Path]:
        """The files of a split, in order. Raises InvalidRequest, InvalidFile."""
        if split not in self._splits:
            raise InvalidRequest(
                f"The export has no split {split!r}; it has {', '.join(self._splits)}.",
                field="split",
            )
        files = sorted((self._folder / "data").glob(f"{split}-*-of-*.parquet"))
        if not files or len(files) != int(files[0].stem.rpartition("-")[2]):
            raise InvalidFile(f"Files of the split {split!r} are missing in {self._folder}.")
        return files

    def arrow_of(self, split: str) -> Path:
        """The split as an Arrow file in the cache, made where it is not there yet."""
        files = self.files_of(split)
        target = self._cache / "arrow" / f"{self._digest}-{split}.arrow"
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with scratch_beside(target) as folder:
                incoming = folder / target.name
                with incoming.open("wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
                    for path in files:
                        _copy(path, writer)
                incoming.replace(target)
        except (pa.ArrowException, ValueError) as error:
            raise InvalidFile(f"The export in {self._folder} is damaged: {error}.") from error
        return target


def _copy(path: Path, writer: pa.ipc.RecordBatchWriter) -> None:
    source = pq.ParquetFile(path)
    for batch in source.iter_batches(4096, columns=["image", "label"], use_threads=False):
        images = batch["image"].field("bytes").cast(pa.large_binary())
        writer.write_batch(pa.record_batch([images, batch["label"]], schema=_SCHEMA))


def _job_id(text: UUID | str | Path) -> UUID | None:
    if isinstance(text, UUID):
        return text
    try:
        return None if Path(text).exists() else UUID(str(text))
    except ValueError:
        return None


def _fetched(job: UUID, cache: Path) -> Path:
    """The folder of a job's Parquet export, which is made and downloaded where it is not here."""
    folder = cache / "jobs" / str(job)
    if (folder / "manifest.json").exists():
        return folder
    from datagen.client import Client  # noqa: PLC0415 - a folder needs no server

    with Client() as client:
        export = client.exports.wait(client.exports.create(job, _FORMAT).id)
        if export.state != "succeeded":
            raise InvalidFile(f"Job {job} cannot be exported: {export.error or export.state}.")
        return client.exports.download(export.id, folder)


def _decoded(data: Any) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=("PNG",))


def _transformed(
    image: Image.Image, label: int, transform: Transform | None, target: Transform | None
) -> Item:
    image.load()
    return (
        image if transform is None else transform(image),
        label if target is None else target(label),
    )


def _shuffled(
    rows: Iterator[tuple[Any, int]], size: int, random: np.random.Generator
) -> Iterator[tuple[Any, int]]:
    held: list[tuple[Any, int]] = []
    for row in rows:
        if len(held) < size:
            held.append(row)
            continue
        place = int(random.integers(size))
        yield held[place]
        held[place] = row
    random.shuffle(held)
    yield from held
