"""Two colour sets of our own making, unlike each other, for the recipe to be tried on.

*shapes*: 32 x 32, ten outlines in any colour at any place, turned and scaled, on a background that
runs from one colour to another. *things*: 64 x 64, ten objects put together from parts that have
colours of their own, before a sky and a ground. Colours say nothing of the class in either, so that
logistic regression on pixels finds few.

    python -m benchmarks.quality.colour shapes|things COUNT OUT.npz [--seed 0]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

# Colours nearer to each other, of all that are sqrt(3) apart at most, would hide a shape.
APART = 0.45
# Coordinates of pixels in a shape's own frame, which reaches from -1 to 1; both (N, H, W).
Frame = tuple[np.ndarray, np.ndarray]
Outline = Callable[[Frame], np.ndarray]


# --- outlines: signed distances, negative inside -----------------------------------------------


def disc(x: float = 0.0, y: float = 0.0, radius: float = 1.0) -> Outline:
    return lambda at: np.hypot(at[0] - x, at[1] - y) - radius


def box(x: float, y: float, wide: float, high: float) -> Outline:
    return lambda at: np.maximum(np.abs(at[0] - x) - wide, np.abs(at[1] - y) - high)


def polygon(*corners: tuple[float, float]) -> Outline:
    """A convex polygon; corners clockwise as seen, with y downwards."""

    def outline(at: Frame) -> np.ndarray:
        distance = np.full(at[0].shape, -np.inf)
        for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
            length = np.hypot(x1 - x0, y1 - y0)
            away = ((y1 - y0) * (at[0] - x0) - (x1 - x0) * (at[1] - y0)) / length
            distance = np.maximum(distance, away)
        return distance

    return outline


def star(points: int, inner: float) -> Outline:
    def outline(at: Frame) -> np.ndarray:
        angle = np.arctan2(at[0], -at[1])
        wave = np.abs((angle * points / np.pi) % 2 - 1)  # 1 at a point, 0 between two
        return np.hypot(*at) - (inner + (1 - inner) * wave)

    return outline


def union(*parts: Outline) -> Outline:
    return lambda at: np.minimum.reduce([part(at) for part in parts])


def without(part: Outline, hole: Outline) -> Outline:
    return lambda at: np.maximum(part(at), -hole(at))


SHAPES: dict[str, Outline] = {
    "arrow": union(box(-0.25, 0, 0.65, 0.22), polygon((0.3, -0.7), (1.0, 0.0), (0.3, 0.7))),
    "crescent": without(disc(), disc(0.5, 0.0, 0.8)),
    "cross": union(box(0, 0, 1.0, 0.3), box(0, 0, 0.3, 1.0)),
    "disc": disc(radius=0.9),
    "heart": union(
        disc(-0.42, -0.3, 0.5),
        disc(0.42, -0.3, 0.5),
        disc(0.0, -0.1, 0.3),
        polygon((-0.85, -0.02), (0.85, -0.02), (0.0, 1.0)),
    ),
    "ring": without(disc(), disc(radius=0.55)),
    "square": box(0, 0, 0.8, 0.8),
    "star": star(5, 0.4),
    "triangle": polygon((0.0, -1.0), (0.9, 0.7), (-0.9, 0.7)),
    "window": without(
        box(0, 0, 0.85, 0.85), union(box(0.4, 0, 0.25, 0.6), box(-0.4, 0, 0.25, 0.6))
    ),
}


def _petal(number: int) -> tuple[float, float]:
    angle = number * np.pi / 3
    return 0.38 * np.cos(angle), -0.35 + 0.38 * np.sin(angle)


# Parts from back to front; each has a colour of its own.
THINGS: dict[str, list[Outline]] = {
    "boat": [
        polygon((0.0, -1.0), (0.75, 0.2), (0.0, 0.2)),
        box(-0.06, -0.3, 0.06, 0.7),
        polygon((-1.0, 0.35), (1.0, 0.35), (0.6, 0.85), (-0.6, 0.85)),
    ],
    "car": [
        polygon((-0.45, -0.5), (0.35, -0.5), (0.65, 0.05), (-0.65, 0.05)),
        box(0, 0.25, 1.0, 0.3),
        union(disc(-0.55, 0.6, 0.27), disc(0.55, 0.6, 0.27)),
    ],
    "cup": [
        without(disc(0.65, 0.0, 0.45), disc(0.65, 0.0, 0.25)),
        polygon((-0.7, -0.7), (0.7, -0.7), (0.5, 0.8), (-0.5, 0.8)),
    ],
    "fish": [
        polygon((-1.0, -0.55), (-0.3, 0.0), (-1.0, 0.55)),
        lambda at: np.hypot(at[0] / 0.75 - 0.27, at[1] / 0.5) - 1.0,
        disc(0.55, -0.12, 0.12),
    ],
    "flower": [
        box(0, 0.5, 0.07, 0.5),
        union(*(disc(*_petal(number), 0.27) for number in range(6))),
        disc(0, -0.35, 0.24),
    ],
    "house": [
        box(0, 0.4, 0.75, 0.55),
        polygon((0.0, -0.95), (1.0, -0.1), (-1.0, -0.1)),
        box(0.2, 0.6, 0.18, 0.35),
    ],
    "mushroom": [
        box(0, 0.4, 0.25, 0.55),
        without(disc(0, -0.05, 0.85), box(0, 0.95, 1.0, 0.95)),
        union(disc(-0.4, -0.4, 0.15), disc(0.3, -0.5, 0.17)),
    ],
    "rocket": [
        union(
            polygon((-0.35, 0.2), (-0.35, 0.8), (-0.8, 0.8)),
            polygon((0.35, 0.2), (0.8, 0.8), (0.35, 0.8)),
        ),
        union(box(0, 0.15, 0.35, 0.6), polygon((0.0, -1.0), (0.35, -0.45), (-0.35, -0.45))),
        disc(0, -0.1, 0.18),
    ],
    "tree": [
        box(0, 0.6, 0.15, 0.4),
        union(
            polygon((0.0, -1.0), (0.6, -0.2), (-0.6, -0.2)),
            polygon((0.0, -0.6), (0.8, 0.4), (-0.8, 0.4)),
        ),
    ],
    "umbrella": [
        union(box(0, 0.3, 0.06, 0.6), box(0.14, 0.9, 0.2, 0.06)),
        without(disc(0, 0.1, 0.95), box(0, 1.1, 1.0, 1.0)),
    ],
}


def _frame(draw: np.random.Generator, count: int, side: int, turn: float) -> Frame:
    """Pixels in the frames of so many shapes, each at a place, of a size and turned."""
    at = (np.arange(side) + 0.5) / side * 2 - 1
    size = draw.uniform(0.45, 0.75, (count, 1, 1))
    x = at[None, None, :] - draw.uniform(-0.22, 0.22, (count, 1, 1))
    y = at[None, :, None] - draw.uniform(-0.22, 0.22, (count, 1, 1))
    angle = draw.uniform(-turn, turn, (count, 1, 1))
    return (
        (np.cos(angle) * x + np.sin(angle) * y) / size,
        (np.cos(angle) * y - np.sin(angle) * x) / size,
    )


def _paint(canvas: np.ndarray, inside: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """A canvas (N, 3, H, W) with colours (N, 3) where `inside` (N, H, W) is 1."""
    cover = inside[:, None]
    return canvas * (1 - cover) + colour[:, :, None, None] * cover


def _far(draw: np.random.Generator, others: np.ndarray) -> np.ndarray:
    """Colours (N, 3) that can be told from others (N, M, 3)."""
    found = draw.uniform(0, 1, (len(others), 3))
    for _ in range(100):
        near = (np.linalg.norm(found[:, None] - others, axis=2) < APART).any(axis=1)
        if not near.any():
            break
        found[near] = draw.uniform(0, 1, (int(near.sum()), 3))
    return found


def _cover(outline: Outline, frame: Frame, side: int) -> np.ndarray:
    """How much of each pixel lies inside, 0 to 1; edges are soft over about a pixel."""
    return np.clip(0.5 - outline(frame) * side * 0.3, 0, 1)


def shapes(draw: np.random.Generator, name: str, count: int) -> np.ndarray:
    """Images uint8 (N, 3, 32, 32) of one outline."""
    side = 32
    ends = draw.uniform(0, 1, (count, 2, 3))
    angle = draw.uniform(0, 2 * np.pi, (count, 1, 1))
    at = (np.arange(side) + 0.5) / side * 2 - 1
    along = np.cos(angle) * at[None, None, :] + np.sin(angle) * at[None, :, None]
    share = (along / 2.9 + 0.5)[:, None]
    canvas = ends[:, 0, :, None, None] * (1 - share) + ends[:, 1, :, None, None] * share
    middle = ends.mean(axis=1, keepdims=True)
    colour = _far(draw, np.concatenate([ends, middle], axis=1))
    inside = _cover(SHAPES[name], _frame(draw, count, side, 0.5), side)
    return _bytes(_paint(canvas, inside, colour))


def things(draw: np.random.Generator, name: str, count: int) -> np.ndarray:
    """Images uint8 (N, 3, 64, 64) of one object."""
    side = 64
    sky, ground = draw.uniform(0, 1, (2, count, 3))
    horizon = draw.uniform(0.45, 0.85, (count, 1, 1))
    rows = ((np.arange(side) + 0.5) / side)[None, :, None]
    below = np.clip((rows - horizon) * side + 0.5, 0, 1) * np.ones((1, 1, side))
    canvas = _paint(np.ones((count, 3, side, side)) * sky[:, :, None, None], below, ground)
    frame = _frame(draw, count, side, 0.15)
    used = np.stack([sky, ground], axis=1)
    for part in THINGS[name]:
        colour = _far(draw, used)
        canvas = _paint(canvas, _cover(part, frame, side), colour)
        used = np.concatenate([used, colour[:, None]], axis=1)
    return _bytes(canvas)


def _bytes(canvas: np.ndarray) -> np.ndarray:
    return (canvas.clip(0, 1) * 255).round().astype(np.uint8)


SETS: dict[str, tuple[list[str], Callable[[np.random.Generator, str, int], np.ndarray]]] = {
    "shapes": (sorted(SHAPES), shapes),
    "things": (sorted(THINGS), things),
}


def made(which: str, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images uint8 (N, 3, H, W), shuffled, with labels int64 (N,) and the names of the classes."""
    names, paint = SETS[which]
    draw = np.random.default_rng(seed)
    images = np.concatenate([paint(draw, name, per_class) for name in names])
    labels = np.repeat(np.arange(len(names)), per_class)
    order = draw.permutation(len(labels))
    return images[order], labels[order], names


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a colour set of our own making as NPZ.")
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("count", type=int, help="Images of each class, half as many for the test.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    train, labels, names = made(given.set, given.count, given.seed)
    test, test_labels, _ = made(given.set, max(1, given.count // 2), given.seed + 1)
    np.savez(
        given.out,
        train_images=train.transpose(0, 2, 3, 1),
        train_labels=labels,
        test_images=test.transpose(0, 2, 3, 1),
        test_labels=test_labels,
        class_names=np.array(names),
    )


if __name__ == "__main__":
    main()
