"""Grain: the noise and the fine texture that the mean of a decoder's pixels does not have.

A sensor adds noise to every pixel by itself; the grains of a surface lie wherever they lie. No
latent tells either, so a decoder leaves them out, and a classifier that has learnt from such images
alone has never seen any. Where real images have more of it than their reconstructions, generated
ones get the difference as Gaussian noise from the counters of the image alone: white, of the level
of a sensor's noise, or with the spectrum of all that reconstructions lack, which is a texture. It
is as much the same in all channels as it is in real images. Drawings, scans of strokes and other
clean images have no noise, and get none unless a classifier learns more from them with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from datagen.model.config import GeneratorConfig
from datagen.model.random import pixel_normals

# Of a standard normal, the median of the absolute value.
_MEDIAN = 0.6744897501960817
# Grey levels; less is hardly seen.
LEAST_GRAIN = 1.0
# Images that are enough to tell the level.
LOOKED_AT = 500
# Beyond, a texture's structures are what a latent should tell.
KERNEL_SIDE = 9
# Spread of what reconstructions lack by its median, as a share of its standard deviation: 1 of a
# normal that is the same everywhere (gravel 0.85), and far less of edges (photographs 0.6).
LEAST_EVENNESS = 0.75
# Of how far the pixels of an image lie from their mean, squared, the share that reconstructions may
# lack for it to be a texture (gravel 0.1 to 0.4). Of a decoder that has learnt little it is nearly
# all (0.9 after 60 steps), alike everywhere, and as noise it would hide the little that there is.
MOST_MISSING = 0.6
# A texture is most of what is missing if its level is beyond so many times that of white noise.
TEXTURE_BEYOND = 2.0
_LEAST = 1e-12


@dataclass(frozen=True)
class Grain:
    """Stationary Gaussian noise of pixels.

    Attributes:
        levels: standard deviation of each channel, in grey levels; empty means no noise.
        correlation: between any two channels, 0 to 1.
        kernel: square of an odd side that white noise is filtered by, row by row, the sum of whose
            squares is 1; empty leaves it white.
    """

    levels: tuple[float, ...] = ()
    correlation: float = 0.0
    kernel: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.levels)

    @classmethod
    def of(cls, config: GeneratorConfig) -> Grain:
        """That of a model."""
        return cls(config.grain, config.grain_correlation, config.grain_kernel)

    def kept_in(self, config: GeneratorConfig) -> GeneratorConfig:
        """The configuration with this grain."""
        changes = {
            "grain": self.levels,
            "grain_correlation": self.correlation,
            "grain_kernel": self.kernel,
        }
        return config.model_copy(update=changes)


def noise_level(images: np.ndarray) -> np.ndarray:
    """Standard deviation of the white noise in images, in grey levels, float64 (C,).

    From the median of the finest diagonal wavelet coefficients, which edges and colours hardly
    reach (Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994).

    Args:
        images: uint8 (N, C, H, W); zeros are returned for none, and for sides below 2.
    """
    finest = _finest(images)
    if not finest.size:
        return np.zeros(images.shape[1])
    return np.asarray(np.median(np.abs(finest), axis=1) / _MEDIAN, dtype=np.float64)


def noise_correlation(images: np.ndarray) -> float:
    """Mean correlation of the channels' noise in images uint8 (N, C, H, W), 0 to 1; 0 of grey ones.

    Of two channels scaled alike, from the medians of their sum and of their difference
    (Gnanadesikan and Kettenring, "Robust estimates, residuals, and outlier detection", 1972).
    """
    finest, levels = _finest(images), noise_level(images)
    found = []
    for first, second in combinations(range(len(levels)), 2):
        if min(levels[first], levels[second]) > 0:
            one, other = finest[first] / levels[first], finest[second] / levels[second]
            same, apart = (float(np.median(np.abs(each))) for each in (one + other, one - other))
            found.append((same**2 - apart**2) / max(same**2 + apart**2, _LEAST))
    return float(np.clip(np.mean(found), 0.0, 1.0)) if found else 0.0


def _finest(images: np.ndarray) -> np.ndarray:
    """The finest diagonal wavelet coefficients of each channel, float64 (C, n)."""
    channels, height, width = images.shape[1:]
    even = images[:, :, : height // 2 * 2, : width // 2 * 2].astype(np.int16)
    above, below = even[:, :, ::2], even[:, :, 1::2]
    finest = (above[..., ::2] - above[..., 1::2] - below[..., ::2] + below[..., 1::2]) / 2.0
    return np.asarray(finest.transpose(1, 0, 2, 3).reshape(channels, -1))


def missing_grain(real: np.ndarray, reconstructed: np.ndarray) -> Grain:
    """Noise that reconstructions lack.

    Args:
        real: uint8 (N, C, H, W).
        reconstructed: the same images, as posterior means decode to.
    """
    apart = np.square(noise_level(real)) - np.square(noise_level(reconstructed))
    levels = np.sqrt(apart.clip(min=0.0)).round(2)
    if levels.max(initial=0.0) < LEAST_GRAIN:
        return Grain()
    return Grain(tuple(levels.tolist()), round(noise_correlation(real), 2))


def missing_texture(real: np.ndarray, reconstructed: np.ndarray) -> Grain:
    """All that reconstructions lack, where it is alike everywhere: its level and its spectrum.

    Where it is not, it is mostly edges, which as noise would hide what the images show; and where
    it is most of what the images show, the decoder has not learnt them yet.

    The kernel is the zero-phase one of the mean power spectrum (Galerne, Gousseau and Morel,
    "Random phase textures", 2011), cut to a few pixels around its middle.

    Args:
        real: uint8 (N, C, H, W).
        reconstructed: the same images, as posterior means decode to.
    """
    side = min(KERNEL_SIDE, *(length - 1 + length % 2 for length in real.shape[2:]))
    if not len(real):
        return Grain()
    power = np.zeros((real.shape[1], real.shape[2], real.shape[3] // 2 + 1))
    mixed = np.zeros((real.shape[1], real.shape[1]))
    robust = plain = shown = 0.0
    for image, own in zip(real, reconstructed, strict=True):
        apart = image.astype(np.float64) - own
        shown += float(image.var(axis=(1, 2), dtype=np.float64).sum())
        apart -= apart.mean(axis=(1, 2), keepdims=True)
        power += np.abs(np.fft.rfft2(apart)) ** 2
        flat = apart.reshape(len(apart), -1)
        mixed += flat @ flat.T
        robust += float(np.median(np.abs(flat))) / _MEDIAN
        plain += float(flat.std())
    variances = np.diag(mixed) / (len(real) * math.prod(real.shape[2:]))
    levels = np.sqrt(variances).round(2)
    is_even = robust >= LEAST_EVENNESS * plain
    is_learnt = len(real) * variances.sum() <= MOST_MISSING * shown
    if levels.max(initial=0.0) < LEAST_GRAIN or not (is_even and is_learnt):
        return Grain()
    whole = np.fft.fftshift(np.fft.irfft2(np.sqrt(power.sum(axis=0)), s=real.shape[2:]))
    middle = [length // 2 for length in real.shape[2:]]
    rows, columns = (slice(at - side // 2, at + side // 2 + 1) for at in middle)
    kernel = whole[rows, columns]
    kernel = (kernel / max(np.sqrt(np.square(kernel).sum()), _LEAST)).round(4)
    pairs = [
        mixed[one, other] / max(math.sqrt(mixed[one, one] * mixed[other, other]), _LEAST)
        for one, other in combinations(range(len(mixed)), 2)
    ]
    correlation = round(float(np.clip(np.mean(pairs), 0.0, 1.0)), 2) if pairs else 0.0
    return Grain(tuple(levels.tolist()), correlation, tuple(kernel.ravel().tolist()))


def grains_to_try(real: np.ndarray, reconstructed: np.ndarray) -> list[Grain]:
    """Noise that generated images may get: what is usually right comes first.

    That is white noise, unless most of what reconstructions lack is a texture: a short comparison
    of classifiers may not see that one is missing.

    Args:
        real: uint8 (N, C, H, W).
        reconstructed: the same images, as posterior means decode to.
    """
    white, texture = missing_grain(real, reconstructed), missing_texture(real, reconstructed)
    is_mostly_texture = max(texture.levels, default=0.0) > TEXTURE_BEYOND * max(
        white.levels, default=0.0
    )
    ordered = [texture, white, Grain()] if is_mostly_texture else [white, Grain(), texture]
    return list(dict.fromkeys(ordered))


def with_grain(
    images: np.ndarray, grain: Grain, seed: int, index: np.ndarray, attempt: np.ndarray
) -> np.ndarray:
    """Images with noise, each from (seed, index, attempt) alone; a copy, or the images themselves.

    Args:
        images: uint8 (N, C, H, W).
        grain: what is added.
        seed: the job's.
        index: number of each image, int64 (N,).
        attempt: number of each attempt, int64 (N,).
    """
    if not grain:
        return images
    noisy = np.empty_like(images)
    channels, height, width = images.shape[1:]
    levels = np.asarray(grain.levels, dtype=np.float32)[:, None, None]
    shared, own = (np.float32(share**0.5) for share in (grain.correlation, 1 - grain.correlation))
    spectrum = _spectrum(grain.kernel, height, width)
    # One by one: the noise of a tile of large images would not fit into memory.
    for number, image in enumerate(images):
        row = slice(number, number + 1)
        count = (channels + 1) * height * width
        noise = pixel_normals(seed, index[row], attempt[row], count)
        planes = noise.reshape(channels + 1, height, width)
        if spectrum is not None:
            planes = np.fft.irfft2(np.fft.rfft2(planes) * spectrum, s=(height, width))
        mixed = shared * planes[:1] + own * planes[1:]
        noisy[number] = np.rint(image + levels * mixed).clip(0, 255)
    return noisy


def _spectrum(kernel: tuple[float, ...], height: int, width: int) -> np.ndarray | None:
    """What a kernel multiplies the Fourier transform of (height, width) by; None where none is."""
    if not kernel:
        return None
    side = math.isqrt(len(kernel))
    taps = np.zeros((height, width))
    taps[:side, :side] = np.reshape(kernel, (side, side))
    return np.fft.rfft2(np.roll(taps, (-(side // 2), -(side // 2)), axis=(0, 1)))
