"""What one sees in an image, as numbers, to name what a direction of the latents does.

Of strokes on a plain ground: slant, verticality, stroke width, area and brightness, from image
moments (Hu, "Visual pattern recognition by moment invariants", 1962) and counts. Of pictures, where
strokes mean nothing: brightness, contrast and detail, and in colour saturation and warmth.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

STROKES = ("slant", "verticality", "stroke width", "area", "brightness")
GREY_PICTURES = ("brightness", "contrast", "detail")
COLOUR_PICTURES = (*GREY_PICTURES, "saturation", "warmth")
FOREGROUND = 0.5
_LEAST = 1e-6


def measured_pictures(images: np.ndarray) -> dict[str, np.ndarray]:
    """Measures of pictures uint8 (N, C, H, W), each float64 (N,), by name.

    With pixels from 0 to 1:

    - brightness: mean of the pixels;
    - contrast: standard deviation of the grey pixels;
    - detail: mean difference between neighbouring grey pixels;
    - saturation: mean difference between the largest and the least channel of a pixel;
    - warmth: mean of red less mean of blue.

    Grey pictures have the first three alone.
    """
    values = images.astype(np.float64) / 255.0
    grey = values.mean(axis=1)  # (N, H, W)
    across = np.abs(np.diff(grey, axis=2)).sum(axis=(1, 2))
    down = np.abs(np.diff(grey, axis=1)).sum(axis=(1, 2))
    pairs = grey[0, :, 1:].size + grey[0, 1:, :].size
    found = [grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), (across + down) / max(1, pairs)]
    if images.shape[1] == 1:
        return dict(zip(GREY_PICTURES, found, strict=True))
    mean = values.mean(axis=(2, 3))
    saturation = (values.max(axis=1) - values.min(axis=1)).mean(axis=(1, 2))
    found += [saturation, mean[:, 0] - mean[:, 2]]
    return dict(zip(COLOUR_PICTURES, found, strict=True))


def measured_strokes(images: np.ndarray) -> dict[str, np.ndarray]:
    """Measures of strokes in images uint8 (N, C, H, W), each float64 (N,), by name.

    With the brightness of a pixel as its mass, m the moments about the centre of mass, x to the
    right and y downwards:

    - slant: -m11 / m02, how far the top leans to the right for each pixel of height;
    - verticality: (m02 - m20) / (m02 + m20), from -1 (lying) to 1 (standing);
    - stroke width: twice the area over the perimeter, in pixels, as for a long line;
    - area: share of the pixels that are foreground, brighter than half;
    - brightness: mean of the pixels, from 0 to 1.

    Where the edge of an image is bright, its negative is measured: the background is the edge.
    """
    grey = images.astype(np.float64).mean(axis=1) / 255.0  # (N, H, W)
    brightness = grey.mean(axis=(1, 2))
    edge = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1)
    bright_edge = np.median(edge, axis=1) > FOREGROUND
    mass = np.where(bright_edge[:, None, None], 1.0 - grey, grey)
    across, down, both = _moments(mass)
    foreground = mass > FOREGROUND
    area = foreground.sum(axis=(1, 2)).astype(np.float64)
    # Every side between foreground and background counts once; the frame is background.
    padded = np.pad(foreground, ((0, 0), (1, 1), (1, 1)))
    perimeter = (padded[:, 1:] != padded[:, :-1]).sum(axis=(1, 2))
    perimeter = perimeter + (padded[:, :, 1:] != padded[:, :, :-1]).sum(axis=(1, 2))
    found = (
        -both / np.maximum(down, _LEAST),
        (down - across) / np.maximum(down + across, _LEAST),
        2.0 * area / np.maximum(perimeter, 1),
        area / mass[0].size,
        brightness,
    )
    return dict(zip(STROKES, found, strict=True))


def _moments(mass: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Second central moments m20, m02 and m11 of (N, H, W), each (N,)."""
    _, height, width = mass.shape
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    whole = np.maximum(mass.sum(axis=(1, 2)), _LEAST)
    middle_x = (mass * x).sum(axis=(1, 2)) / whole
    middle_y = (mass * y).sum(axis=(1, 2)) / whole
    apart_x = x[None] - middle_x[:, None, None]
    apart_y = y[None] - middle_y[:, None, None]
    across = (mass * apart_x**2).sum(axis=(1, 2)) / whole
    down = (mass * apart_y**2).sum(axis=(1, 2)) / whole
    both = (mass * apart_x * apart_y).sum(axis=(1, 2)) / whole
    return across, down, both


def correlations(
    values: np.ndarray, found: Mapping[str, np.ndarray], groups: np.ndarray
) -> dict[str, float]:
    """Pearson's r between a value and each measure, within groups alone.

    Args:
        values: (N,).
        found: measures, each (N,), by name.
        groups: number of each row's group, int64 (N,).

    Returns:
        r of each measure, by name; 0 where a measure does not change.
    """
    count = np.bincount(groups).astype(np.float64)
    count = np.maximum(count, 1.0)
    apart = values - (np.bincount(groups, values) / count)[groups]
    coefficients = {}
    for name, column in found.items():
        own = column - (np.bincount(groups, column) / count)[groups]
        scale = np.sqrt((apart**2).sum() * (own**2).sum())
        coefficients[name] = float((apart * own).sum() / scale) if scale > _LEAST else 0.0
    return coefficients
