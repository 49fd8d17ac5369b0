"""Samplers: latents for images, from counters."""

from __future__ import annotations

import math

import numpy as np

from datagen.errors import InvalidRequest
from datagen.model.autoencoders import CVAE
from datagen.model.random import normals


def prior_latents(
    model: CVAE,
    seed: int,
    index: np.ndarray,
    attempt: np.ndarray,
    labels: np.ndarray,
    temperature: float,
) -> np.ndarray:
    """Latents from the model's prior of each label.

    Computed in float64 without a matrix library, so that an image's latent does not depend on how
    many others are drawn with it.

    Args:
        model: its fitted prior is used.
        seed: the job's.
        index: number of each image, int64 (N,).
        attempt: number of each attempt, int64 (N,).
        labels: int64 (N,).
        temperature: scales the spread round the class's mean; 0 gives the mean itself.

    Returns:
        float32 of shape (N, d).

    Raises:
        InvalidRequest: a temperature that is negative or not finite.
    """
    if not (math.isfinite(temperature) and temperature >= 0):
        raise InvalidRequest(
            f"The temperature is {temperature}; it must be a number from 0 on.", field="temperature"
        )
    noise = normals(seed, index, attempt, model.config.latent_dim).astype(np.float64)
    mean = model.prior_mean.double().cpu().numpy()
    scale = model.prior_scale.double().cpu().numpy()
    latents = np.empty(noise.shape, dtype=np.float64)
    for label in np.unique(labels):
        rows = labels == label
        # A sum in a fixed order for each row; a matrix product may order it by the number of rows.
        spread = np.zeros_like(noise[rows])
        for dimension in range(noise.shape[1]):
            spread += noise[rows, dimension, None] * scale[label, :, dimension]
        latents[rows] = mean[label] + temperature * spread
    return latents.astype(np.float32)
