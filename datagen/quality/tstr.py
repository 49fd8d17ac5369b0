"""TSTR: train on synthetic images, test on real ones.

What a set of generated images is worth is told by a classifier that has seen nothing else (Esteban,
Hyland and Rätsch, "Real-valued (medical) time series generation with recurrent conditional GANs",
2017). A fresh network of the judge's kind learns from them for a few hundred steps; the same steps
on real images say what could be reached (TRTR). Pictures are averaged down to at most 64 a side, so
that the test costs the same whatever their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation

from datagen.model.config import JudgeConfig
from datagen.model.data import TrainingData, looked_at_once
from datagen.quality.judge import Judge, gains_from_fast_precision
from datagen.quality.learning import Learning, Part, learn, predicted
from datagen.quality.usefulness import balanced_accuracy

BATCH = 128
LARGEST_SIDE = 64


def reduced(images: np.ndarray) -> np.ndarray:
    """Images uint8 (N, C, H, W), averaged down by a whole number to at most 64 a side."""
    factor = -(-max(images.shape[2:]) // LARGEST_SIDE)
    if factor == 1 or not len(images):
        return images
    size = looked_at_once(math.prod(images.shape[1:]))
    parts = [
        F.avg_pool2d(torch.tensor(images[start : start + size]).float(), factor, ceil_mode=True)
        .round()
        .to(torch.uint8)
        for start in range(0, len(images), size)
    ]
    return np.asarray(torch.cat(parts).numpy())


def tstr(
    images: np.ndarray,
    labels: np.ndarray,
    tests: Sequence[tuple[np.ndarray, np.ndarray]],
    class_count: int,
    *,
    steps: int,
    seed: int,
    device: torch.device,
    check: Callable[[], None] = lambda: None,
) -> list[float]:
    """Balanced accuracy on real images of a classifier that learnt from some images alone.

    Args:
        images: uint8 (N, C, H, W), reduced; generated ones, or real ones to compare with.
        labels: int64 (N,); a class of which there is none is never found.
        tests: real images, reduced, and their labels; each set has at least one.
        class_count: number of labels.
        steps: of gradient descent.
        seed: decides all of it, on one kind of device.
        device: where to compute.
        check: called at every step; raises to stop.

    Returns:
        a value for each of `tests`, from 0 to 1; 0 where there are no images to learn from.
    """
    if not len(images):
        return [0.0 for _ in tests]
    channels, height, width = images.shape[1:]
    config = JudgeConfig(image_shape=(channels, height, width), class_count=class_count)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Judge(config)
    fast = gains_from_fast_precision(config, device)
    learning = Learning(steps, BATCH, fast=fast)
    part = Part(images, labels, balanced=True)
    learn(network, [part], learning, seed=seed, device=device, check=check)
    found = []
    for real, own in tests:
        right = predicted(network, real, device, fast=fast).argmax(axis=1) == own
        found.append(balanced_accuracy(right, own))
    return found


def spread_over_classes(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Rows of at most so many images of each class, spread evenly over those there are."""
    rows = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        rows.append(own[np.linspace(0, len(own) - 1, min(per_class, len(own))).astype(np.int64)])
    return np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)


def as_arrays(data: TrainingData, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, C, H, W), reduced, and labels (N,): at most so many of each class."""
    labels = data.all_labels.numpy()
    rows = spread_over_classes(labels, per_class)
    size = looked_at_once(math.prod(data.image_shape))
    pieces = [
        reduced(data.pixels(torch.from_numpy(rows[start : start + size])))
        for start in range(0, max(1, len(rows)), size)
    ]
    return np.concatenate(pieces), labels[rows]
