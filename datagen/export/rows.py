"""What goes into an export: rows, each with its image, by origin and split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from datagen.export.naming import stem
from datagen.shards import SampleBatch


@dataclass(frozen=True)
class Origin:
    """Where some rows come from: one job, or the real images of one split of a dataset.

    Attributes:
        prefix: of the names of their files, by which those of two origins are told apart.
        synthetic: made by a model.
        job, model, seed, sampler: the job's, the model as its digest; None for real images.
    """

    prefix: str = ""
    synthetic: bool = True
    job: str | None = None
    model: str | None = None
    seed: int | None = None
    sampler: str | None = None


@dataclass(frozen=True)
class Rows:
    """Some rows of one origin.

    Attributes:
        origin: where they come from.
        samples: images with their labels; of real ones `indices` are their places in the split,
            and what only a synthetic one has is -1 or NaN.
        names: what real images were called; None where that is not known.
    """

    origin: Origin
    samples: SampleBatch
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def stems(self) -> list[str]:
        """The name of each row's file, without ending."""
        prefix = self.origin.prefix
        return [stem(prefix, index) for index in self.samples.indices.tolist()]

    def cut(self, start: int, stop: int) -> Rows:
        """The rows `start` to `stop` - 1."""
        names = None if self.names is None else self.names[start:stop]
        return Rows(self.origin, self.samples.cut(start, stop), names)


@dataclass(frozen=True)
class Split:
    """One split of an export.

    Attributes:
        name: `train`, `validation` or `test`.
        counts: rows of each class that will come, int64 (K,).
        rows: they themselves, in parts of any size; to be gone through once.
    """

    name: str
    counts: np.ndarray
    rows: Iterable[Rows]

    @property
    def total(self) -> int:
        """Rows that will come."""
        return int(self.counts.sum())


def in_files(parts: Iterable[Rows], most: int) -> Iterator[Iterator[Rows]]:
    """The rows for one file after the other, at most so many each.

    Each must be gone through before the next is taken.
    """
    waiting = iter(parts)
    held: list[Rows] = []

    def one_file() -> Iterator[Rows]:
        left = most
        while left and (rows := held.pop() if held else next(waiting, None)) is not None:
            if len(rows) > left:
                held.append(rows.cut(left, len(rows)))
                rows = rows.cut(0, left)
            left -= len(rows)
            yield rows

    while True:
        if not held:
            first = next(waiting, None)
            if first is None:
                return
            held.append(first)
        yield one_file()
