"""Counter-based randomness: what is drawn for an image depends on its counters and nothing else.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", 2011)
turns a key and a counter into four words. The job's seed is the key; image, attempt and block of
four dimensions are the counter. Any batch, in any order, on any worker draws the same.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 10
# Uniforms come from blocks that normals do not reach, so that neither depends on how many of the
# other are drawn.
_UNIFORM_BLOCKS = 1 << 31
# Likewise for the noise of pixels.
_PIXEL_BLOCKS = 1 << 30
WORDS = 4
_MULTIPLIER = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10.

    Args:
        counter: uint64 of shape (..., 4), each word below 2**32.
        key: two words below 2**32.

    Returns:
        uint64 of the counter's shape, each word below 2**32.
    """
    x0, x1, x2, x3 = (counter[..., word] for word in range(WORDS))
    key0, key1 = key
    for _ in range(ROUNDS):
        low, high = x0 * _MULTIPLIER[0], x2 * _MULTIPLIER[1]
        x0, x1, x2, x3 = (
            (high >> _HALF) ^ x1 ^ np.uint64(key0),
            high & _LOW,
            (low >> _HALF) ^ x3 ^ np.uint64(key1),
            low & _LOW,
        )
        key0, key1 = (key0 + _WEYL[0]) & 0xFFFFFFFF, (key1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], axis=-1)


def normals(seed: int, index: np.ndarray, attempt: np.ndarray, count: int) -> np.ndarray:
    """Standard normals, each row from (seed, index, attempt) alone.

    Box-Muller in float64, rounded to float32 at the end.

    Args:
        seed: 0 to 2**64 - 1.
        index: number of the image, int64 of shape (N,), not negative.
        attempt: number of the attempt, int64 of shape (N,), 0 to 2**16 - 1.
        count: normals an image, at most 2**18.

    Returns:
        float32 of shape (N, count).
    """
    return _normals(seed, index, attempt, count, first_block=0)


def pixel_normals(seed: int, index: np.ndarray, attempt: np.ndarray, count: int) -> np.ndarray:
    """Standard normals as those of `normals`, and independent of them; at most 2**31 an image."""
    return _normals(seed, index, attempt, count, first_block=_PIXEL_BLOCKS)


def _normals(
    seed: int, index: np.ndarray, attempt: np.ndarray, count: int, first_block: int
) -> np.ndarray:
    blocks = -(-count // WORDS)
    uniform = _uniforms(seed, index, attempt, blocks, first_block)
    radius = np.sqrt(-2.0 * np.log(uniform[..., 0::2]))
    angle = 2.0 * np.pi * uniform[..., 1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(len(index), blocks * WORDS)[:, :count].astype(np.float32)


def uniforms(seed: int, index: np.ndarray, attempt: np.ndarray, count: int) -> np.ndarray:
    """Uniforms in (0, 1), each row from (seed, index, attempt) alone, beside `normals`.

    Args:
        seed: 0 to 2**64 - 1.
        index: number of the image, int64 of shape (N,), not negative.
        attempt: number of the attempt, int64 of shape (N,), 0 to 2**16 - 1.
        count: uniforms an image.

    Returns:
        float64 of shape (N, count).
    """
    blocks = -(-count // WORDS)
    drawn = _uniforms(seed, index, attempt, blocks, first_block=_UNIFORM_BLOCKS)
    return drawn.reshape(len(index), blocks * WORDS)[:, :count]


def _uniforms(
    seed: int, index: np.ndarray, attempt: np.ndarray, blocks: int, first_block: int
) -> np.ndarray:
    """Uniforms, float64 of shape (N, blocks, 4), none of them 0 or 1."""
    counter = np.empty((len(index), blocks, WORDS), dtype=np.uint64)
    numbers = index.astype(np.uint64)
    counter[..., 0] = (numbers & _LOW)[:, None]
    counter[..., 1] = (numbers >> _HALF)[:, None]
    counter[..., 2] = attempt.astype(np.uint64)[:, None]
    counter[..., 3] = np.arange(first_block, first_block + blocks, dtype=np.uint64)
    words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
    # Centred in their cells, so that none is 0 and the logarithm is finite.
    return (words.astype(np.float64) + 0.5) * 2.0**-32
