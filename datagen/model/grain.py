"""Grain: the noise of a camera, which the mean of a decoder's pixels does not have.

A sensor adds noise to every pixel by itself. No latent tells it, so a decoder leaves it out, and a
classifier that has learnt from such images alone has never seen any. Where real images have more
noise than their reconstructions, generated ones get the difference: white, of one level a channel,
from the counters of the image alone. Drawings, scans of strokes and other clean images have none,
and get none.
"""

from __future__ import annotations

import numpy as np

from datagen.model.random import pixel_normals

# Of a standard normal, the median of the absolute value.
_MEDIAN = 0.6744897501960817
# Grey levels; less is hardly seen.
LEAST_GRAIN = 1.0
# Images that are enough to tell the level.
LOOKED_AT = 500


def noise_level(images: np.ndarray) -> np.ndarray:
    """Standard deviation of the white noise in images, in grey levels, float64 (C,).

    From the median of the finest diagonal wavelet coefficients, which edges and colours hardly
    reach (Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994).

    Args:
        images: uint8 (N, C, H, W); zeros are returned for none, and for sides below 2.
    """
    count, channels, height, width = images.shape
    if not count or min(height, width) < 2:  # noqa: PLR2004 - a coefficient takes two pixels a side
        return np.zeros(channels)
    even = images[:, :, : height // 2 * 2, : width // 2 * 2].astype(np.int16)
    above, below = even[:, :, ::2], even[:, :, 1::2]
    finest = (above[..., ::2] - above[..., 1::2] - below[..., ::2] + below[..., 1::2]) / 2.0
    medians = np.median(np.abs(finest), axis=(0, 2, 3))
    return np.asarray(medians / _MEDIAN, dtype=np.float64)


def missing_grain(real: np.ndarray, reconstructed: np.ndarray) -> tuple[float, ...]:
    """Noise that reconstructions lack, in grey levels a channel; empty where there is none.

    Args:
        real: uint8 (N, C, H, W).
        reconstructed: the same images, as posterior means decode to.
    """
    apart = np.square(noise_level(real)) - np.square(noise_level(reconstructed))
    levels = np.sqrt(apart.clip(min=0.0)).round(2)
    return tuple(levels.tolist()) if levels.max(initial=0.0) >= LEAST_GRAIN else ()


def with_grain(
    images: np.ndarray,
    grain: tuple[float, ...],
    seed: int,
    index: np.ndarray,
    attempt: np.ndarray,
) -> np.ndarray:
    """Images with noise, each from (seed, index, attempt) alone; a copy, or the images themselves.

    Args:
        images: uint8 (N, C, H, W).
        grain: standard deviation of each channel in grey levels; empty adds nothing.
        seed: the job's.
        index: number of each image, int64 (N,).
        attempt: number of each attempt, int64 (N,).
    """
    if not grain:
        return images
    noisy = np.empty_like(images)
    levels = np.asarray(grain, dtype=np.float32)[:, None, None]
    # One by one: the noise of a tile of large images would not fit into memory.
    for number, image in enumerate(images):
        own = slice(number, number + 1)
        noise = pixel_normals(seed, index[own], attempt[own], image.size).reshape(image.shape)
        noisy[number] = np.rint(image + levels * noise).clip(0, 255)
    return noisy
