"""What the images of a dataset were called where they came from."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import IO, Self

import numpy as np

LONGEST_BYTES = 1024


@dataclass(frozen=True)
class Names:
    """Many texts as two arrays: no object an image, and either may be the map of a file.

    Attributes:
        data: all texts in UTF-8, one after the other, uint8 (B,).
        ends: where each ends, int64 (N,).
    """

    data: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def texts(self, start: int, stop: int) -> list[str]:
        """The texts `start` to `stop` - 1."""
        bounds = [int(self.ends[start - 1]) if start else 0, *self.ends[start:stop].tolist()]
        joined = self.data[bounds[0] : bounds[-1]].tobytes()
        return [
            joined[begin - bounds[0] : end - bounds[0]].decode(errors="replace")
            for begin, end in pairwise(bounds)
        ]

    def rows(self, chosen: np.ndarray) -> Self:
        """The texts of the numbered rows, in that order."""
        begins = np.concatenate([[0], self.ends[:-1]])[chosen]
        lengths = self.ends[chosen] - begins
        ends = np.cumsum(lengths)
        # For each byte of the outcome the place that it comes from.
        places = np.arange(int(lengths.sum())) + np.repeat(begins - (ends - lengths), lengths)
        return type(self)(np.asarray(self.data[places]), ends)


@dataclass
class NameWriter:
    """Takes texts one after the other; their bytes lie in a file."""

    file: IO[bytes]
    ends: array[int] = field(default_factory=lambda: array("q"))
    size: int = 0

    def add(self, texts: Iterable[str]) -> None:
        """Note some texts; one that is too long loses its end."""
        for text in texts:
            data = text.encode(errors="replace")[:LONGEST_BYTES]
            self.file.write(data)
            self.size += len(data)
            self.ends.append(self.size)

    def finish(self) -> Names:
        """All that was noted, as the map of the file."""
        self.file.flush()
        data = (
            np.memmap(self.file, np.uint8, mode="r", shape=(self.size,))
            if self.size
            else np.empty(0, np.uint8)
        )
        return Names(np.asarray(data), np.frombuffer(self.ends, np.int64))
