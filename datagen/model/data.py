"""The images of a training: held whole as bytes, in batches whose order comes from counters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

# Images looked at together outside of training, and the values that they may have together: of
# large images fewer, so that what lies between two layers fits into memory.
EVALUATION_BATCH = 1000
EVALUATION_VALUES = 1 << 24
# Values that are neither dark nor bright, and images that are enough to tell how many there are.
DARK, BRIGHT = 32, 224
LOOKED_AT_FOR_TONES = 1000
# Of a GPU's free memory, the share that images may take; beyond, they stay with the CPU.
SHARE_FOR_IMAGES = 0.4


def generator_at(seed: int, stage: str, step: int) -> torch.Generator:
    """The randomness of one step, from its counters alone."""
    words = [seed & 0xFFFFFFFF, seed >> 32, *stage.encode(), step]
    state = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def looked_at_once(values: int) -> int:
    """Images that are looked at together, of so many values each."""
    return max(1, min(EVALUATION_BATCH, EVALUATION_VALUES // max(1, values)))


@dataclass(frozen=True)
class TrainingData:
    """Some images of a dataset, as uint8, and the device that works on them.

    On a CPU the images may be the map of a file: pages are read when a batch looks at them, so a
    dataset may be larger than memory.

    Attributes:
        images: uint8 (M, C, H, W); on the device if they fit there.
        labels: int64 (M,), beside the images.
        device: where batches go.
        chosen: rows that count, int64 (N,) on the CPU; all of them if None.
    """

    images: Tensor
    labels: Tensor
    device: torch.device = field(default=torch.device("cpu"))
    chosen: Tensor | None = None

    @classmethod
    def on(cls, device: torch.device, images: np.ndarray, labels: np.ndarray) -> TrainingData:
        """Images uint8 (N, C, H, W) and labels int64 (N,) for a device; nothing is copied on a CPU.

        The arrays must be writable, though nothing writes to them: torch warns of others.
        """
        pixels, numbers = torch.from_numpy(images), torch.from_numpy(labels)
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if pixels.nbytes <= SHARE_FOR_IMAGES * free:
                pixels, numbers = pixels.to(device), numbers.to(device)
        return cls(pixels, numbers, device)

    def __len__(self) -> int:
        return len(self.images if self.chosen is None else self.chosen)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def all_labels(self) -> Tensor:
        """Labels of the images that count, int64 (N,), on the CPU."""
        labels = self.labels.cpu()
        return labels if self.chosen is None else labels[self.chosen]

    def numbers(self, rows: Tensor) -> Tensor:
        """What the rows that count are numbered as in the whole dataset, int64, on the CPU."""
        return rows if self.chosen is None else self.chosen[rows]

    def subset(self, rows: Tensor) -> TrainingData:
        """The same images, of which only the numbered rows count."""
        return TrainingData(self.images, self.labels, self.device, self.numbers(rows))

    def rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Images as floats in [0, 1] and labels of the numbered rows, on the device."""
        at = self.numbers(rows).to(self.images.device)
        image, label = self.images[at].to(self.device), self.labels[at].to(self.device)
        return image.float().div_(255.0), label

    def pixels(self, rows: Tensor) -> np.ndarray:
        """Images of the numbered rows as they are kept, uint8 (n, C, H, W)."""
        at = self.numbers(rows).to(self.images.device)
        found: np.ndarray = self.images[at].cpu().numpy()
        return found

    def pieces(self) -> Iterator[Tensor]:
        """All rows in their order, in pieces that fit into memory, for looking at them once."""
        size = looked_at_once(self.images[0].numel() if len(self.images) else 1)
        for start in range(0, len(self), size):
            yield torch.arange(start, min(start + size, len(self)))


def mid_tones(data: TrainingData) -> float:
    """Share of the values of pixels that are neither dark nor bright, of up to 1,000 images.

    Of handwritten digits it is 0.08, of Fashion-MNIST 0.36, of photographs most.
    """
    some = torch.linspace(0, len(data) - 1, min(LOOKED_AT_FOR_TONES, len(data))).long()
    middle = values = 0
    size = looked_at_once(data.images[0].numel())
    for start in range(0, len(some), size):
        pixels = data.pixels(some[start : start + size])
        middle += int(((pixels >= DARK) & (pixels < BRIGHT)).sum())
        values += pixels.size
    return middle / max(1, values)


def balanced_rows(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """So many rows drawn with replacement, every class equally often, int64 (count,).

    Args:
        labels: of all rows, int64 (N,).
        count: rows that are drawn.
        generator: what chance comes from.
    """
    weights = 1.0 / labels.bincount()[labels].double()
    # Not multinomial, which takes 2**24 rows at most: places on the line of all weights.
    line = weights.cumsum(0)
    places = torch.rand(count, generator=generator, dtype=torch.float64) * line[-1]
    return torch.searchsorted(line, places).clamp(max=len(labels) - 1)


@dataclass
class Batches:
    """Which rows a step takes: every row once an epoch, in an order that the epoch determines.

    Where `labels` are given, classes are balanced: each row of an epoch is drawn with replacement,
    every class equally often.
    """

    count: int
    size: int
    seed: int
    stage: str
    labels: Tensor | None = None
    _shuffled: tuple[int, Tensor] | None = field(default=None, repr=False)

    @property
    def per_epoch(self) -> int:
        """Steps an epoch; rows that do not fill a batch wait for another epoch."""
        return max(1, self.count // self.size)

    def rows(self, step: int) -> Tensor:
        """Row numbers of a step, int64 of shape (size,)."""
        epoch, place = divmod(step, self.per_epoch)
        if self._shuffled is None or self._shuffled[0] != epoch:
            generator = generator_at(self.seed, self.stage + "-order", epoch)
            self._shuffled = epoch, self._order(generator)
        return self._shuffled[1][place * self.size : (place + 1) * self.size]

    def _order(self, generator: torch.Generator) -> Tensor:
        if self.labels is None:
            return torch.randperm(self.count, generator=generator)
        return balanced_rows(self.labels, self.count, generator)
