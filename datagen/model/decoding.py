"""Decoding at speed: latents in, pixels out, in tiles of one fixed shape.

The shape is fixed because libraries choose their algorithm by it: with one shape an image comes out
the same whatever stands beside it in the tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from datagen.model.autoencoders import Autoencoder
from datagen.model.devices import fast_precision, kind_of

TILE = 256
# Of large images fewer stand in a tile: so many values, and no more, whatever the device has.
TILE_VALUES = 1 << 24
SMALLEST_TILE = 1
# Just under the largest size up to which glibc moves its limits (32 MiB on 64 bits).
KEPT_BYTES = (32 << 20) - (64 << 10)


class Decoder:
    """A generator's decoder, set up for one device.

    Attributes:
        kind: device, instructions and precision, such as `cpu-avx2-fp32`; the same request gives
            the same bytes on the same kind.
    """

    def __init__(self, model: Autoencoder, device: torch.device) -> None:
        self._model = model.to(device).eval()
        self._device = device
        self._tile = tile_of(model.config.image_shape)
        keep_freed_memory()
        self.kind = kind_of(device)

    def tiles(self, latents: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
        """Pixels of latents float32 (N, d) with labels int64 (N,), uint8 (n, C, H, W) at a time."""
        start = 0
        while start < len(latents):
            stop = min(start + self._tile, len(latents))
            try:
                yield self._decode(latents[start:stop], labels[start:stop])
            except torch.cuda.OutOfMemoryError:
                if self._tile == SMALLEST_TILE:
                    raise
                torch.cuda.empty_cache()
                self._tile //= 2
                continue
            start = stop

    @torch.inference_mode()
    def _decode(self, latents: np.ndarray, labels: np.ndarray) -> np.ndarray:
        count = len(latents)
        latent = torch.zeros(self._tile, latents.shape[1])
        label = torch.zeros(self._tile, dtype=torch.int64)
        latent[:count] = torch.from_numpy(latents)
        label[:count] = torch.from_numpy(labels)
        with fast_precision(self._device):
            logits = self._model.decode(latent.to(self._device), label.to(self._device))
        return quantised(torch.sigmoid(logits.float()))[:count].cpu().numpy()


def tile_of(image_shape: tuple[int, int, int]) -> int:
    """Images in a tile of such images: 256, or of large ones the power of two that fits."""
    fitting = max(1, TILE_VALUES // math.prod(image_shape))
    return min(TILE, 1 << (fitting.bit_length() - 1))


def keep_freed_memory() -> None:
    """Let the C library keep what tiles free, instead of giving it back and asking again.

    Freeing one large block raises glibc's limits for mapping and trimming (`man mallopt`,
    M_MMAP_THRESHOLD), so that later tiles find their memory at hand. Without it every tile maps its
    buffers anew: 18 page faults an image, a quarter of the decoder's time. Elsewhere it does
    nothing.
    """
    torch.empty(KEPT_BYTES, dtype=torch.uint8)


def quantised(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] as uint8, rounded to the nearest of 256 values."""
    return pixels.mul(255.0).round_().to(torch.uint8)
