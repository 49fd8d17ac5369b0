"""Reconstructions: what the posterior means of images decode to, beside the images themselves."""

from __future__ import annotations

import math

import numpy as np
import torch

from datagen.model.autoencoders import Autoencoder
from datagen.model.data import TrainingData
from datagen.model.decoding import Decoder
from datagen.model.fitting import posteriors
from datagen.model.grain import LOOKED_AT

# Values that the images which are looked at may have, so that large pictures fit into memory.
LOOKED_AT_VALUES = 1 << 26


@torch.no_grad()
def looked_at(model: Autoencoder, data: TrainingData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Some images uint8 (N, C, H, W), and what their posterior means decode to."""
    count = min(LOOKED_AT, len(data), max(1, LOOKED_AT_VALUES // math.prod(data.image_shape)))
    some = data.subset(torch.linspace(0, len(data) - 1, count).long())
    means = posteriors(model, some, seed).mean.float().numpy()
    decoder = Decoder(model, data.device)
    pictures = np.concatenate(list(decoder.tiles(means, some.all_labels.numpy())))
    return some.pixels(torch.arange(count)), pictures


@torch.no_grad()
def reconstruction_error(model: Autoencoder, data: TrainingData, seed: int) -> float | None:
    """Mean absolute difference of images to what their posterior means decode to, of a range of 1.

    None where there are no images.
    """
    if not len(data):
        return None
    means = posteriors(model, data, seed).mean.float().numpy()
    labels = data.all_labels.numpy()
    decoder, total = Decoder(model, data.device), 0.0
    for rows in data.pieces():
        at = rows.numpy()
        pictures = np.concatenate(list(decoder.tiles(means[at], labels[at])))
        apart = np.abs(pictures.astype(np.int16) - data.pixels(rows))
        total += float(apart.mean(dtype=np.float64)) * len(rows)
    return total / len(data) / 255.0
