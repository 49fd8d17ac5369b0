"""Samplers: latents for images, from counters.

Four ways to choose a latent for a label. All compute in float64 and row by row, in a fixed order of
operations, so that an image's latent does not depend on how many others are drawn with it; the flow
of a model that has one computes in tiles of one fixed shape, to the same end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr, ndtri

from datagen.errors import InvalidRequest
from datagen.model.autoencoders import Autoencoder
from datagen.model.decoding import TILE
from datagen.model.devices import fast_precision
from datagen.model.examples import WIDENING, Examples
from datagen.model.priors import ClassPrior
from datagen.model.random import normals, uniforms

SAMPLERS = ("prior", "density", "neighbour", "interpolate")
NO_SOURCE = -1
# Covariances are gathered row by row; so many at once that they fit into a cache.
_ROWS_AT_ONCE = 512
# The share of the way back to noise that `neighbour` goes with a flow by default.
STRENGTH = 0.8


@dataclass(frozen=True)
class Sampling:
    """How latents are chosen.

    Attributes:
        sampler: `prior` draws from the model's prior of the label, by its flow where it has one;
            `density` from a mixture fitted to the posterior samples of the label's images;
            `neighbour` round a real image of the label, with a flow by going back towards noise
            and along the flow again; `interpolate` between two of them.
        temperature: scales the spread; 0 gives the mean, the example, or the line between two, and
            with a flow what it makes of the middle of the noise.
        truncation: standard normals stay within this distance of 0; None sets no bound.
        strength: how far `neighbour` goes from the real image that it starts from: 0 gives its
            latent, 1 a draw from the prior. None goes as far as `STRENGTH` with a flow, and without
            one into the posterior, widened.

    Raises:
        InvalidRequest: an unknown sampler, or a number that is no temperature, bound or strength.
    """

    sampler: str = "prior"
    temperature: float = 1.0
    truncation: float | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InvalidRequest(
                f"There is no sampler {self.sampler!r}; there are {', '.join(SAMPLERS)}.",
                field="sampler",
            )
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InvalidRequest(
                f"The temperature is {self.temperature}; it must be a number from 0 on.",
                field="temperature",
            )
        if self.truncation is not None and not (
            math.isfinite(self.truncation) and self.truncation > 0
        ):
            raise InvalidRequest(
                f"The truncation is {self.truncation}; it must be a number above 0.",
                field="truncation",
            )
        # Written so that what is no number is refused too.
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise InvalidRequest(
                f"The strength is {self.strength}; it must be a number from 0 to 1.",
                field="strength",
            )


@dataclass(frozen=True)
class Drawn:
    """Latents, and where they come from.

    Attributes:
        latents: float32 of shape (N, d).
        sources: int64 of shape (N, 2): rows of the real images, in the training split, that a
            latent was made from; -1 where there is none.
    """

    latents: np.ndarray
    sources: np.ndarray


def draw_latents(
    model: Autoencoder,
    sampling: Sampling,
    seed: int,
    index: np.ndarray,
    attempt: np.ndarray,
    labels: np.ndarray,
    examples: Examples | None = None,
) -> Drawn:
    """Latents of images, each from (seed, index, attempt) and its label alone.

    Args:
        model: its priors are used.
        sampling: which way.
        seed: the job's.
        index: number of each image, int64 (N,).
        attempt: number of each attempt, int64 (N,).
        labels: int64 (N,).
        examples: posteriors of real images, for `neighbour` and `interpolate`.

    Raises:
        InvalidRequest: a sampler for which the model keeps nothing, or a label without examples.
    """
    noise = normals(seed, index, attempt, model.config.latent_dim).astype(np.float64)
    if sampling.truncation is not None:
        noise = truncated(noise, sampling.truncation)
    choices = uniforms(seed, index, attempt, 3)
    none = np.full((len(index), 2), NO_SOURCE, dtype=np.int64)
    if sampling.sampler == "prior" and model.flow is not None:
        return Drawn(_along_flow(model, sampling.temperature * noise, labels), none)
    if sampling.sampler in {"prior", "density"}:
        prior = model.prior if sampling.sampler == "prior" else model.density
        if prior.component_count == 0:
            raise InvalidRequest(
                "The model keeps no density of its posterior samples; train it with one, or use "
                "the sampler 'prior'.",
                field="sampler",
            )
        latents = _from_mixture(prior, noise, choices[:, 0], labels, sampling.temperature)
        return Drawn(latents.astype(np.float32), none)
    if examples is None:
        raise InvalidRequest(
            f"The model keeps no real examples for the sampler {sampling.sampler!r}; use 'prior'.",
            field="sampler",
        )
    first, second = examples.choose(labels, choices[:, :2])
    mean, spread = examples.mean.astype(np.float64), examples.spread.astype(np.float64)
    if sampling.sampler == "neighbour" and model.flow is not None:
        strength = STRENGTH if sampling.strength is None else sampling.strength
        scaled = sampling.temperature * noise
        latents = _along_flow(model, scaled, labels, mean[first], strength)
        sources = np.stack([examples.rows[first], none[:, 0]], axis=1)
    elif sampling.sampler == "neighbour" and sampling.strength is not None:
        # The weights' squares add up to 1, so the spread is that of the prior at any strength.
        centre = _from_mixture(model.prior, noise, choices[:, 0], labels, 0.0)
        drawn = _from_mixture(model.prior, noise, choices[:, 0], labels, sampling.temperature)
        stays = math.sqrt(1.0 - sampling.strength**2)
        latents = centre + stays * (mean[first] - centre) + sampling.strength * (drawn - centre)
        sources = np.stack([examples.rows[first], none[:, 0]], axis=1)
    elif sampling.sampler == "neighbour":
        wide = np.sqrt(np.square(spread[first]) + WIDENING**2)
        latents = mean[first] + sampling.temperature * wide * noise
        sources = np.stack([examples.rows[first], none[:, 0]], axis=1)
    else:
        share = choices[:, 2:]
        middle = (1 - share) * mean[first] + share * mean[second]
        wide = (1 - share) * spread[first] + share * spread[second]
        latents = middle + sampling.temperature * wide * noise
        sources = np.stack([examples.rows[first], examples.rows[second]], axis=1)
    return Drawn(latents.astype(np.float32), sources)


@torch.inference_mode()
def _along_flow(
    model: Autoencoder,
    noise: np.ndarray,
    labels: np.ndarray,
    near: np.ndarray | None = None,
    strength: float = 1.0,
) -> np.ndarray:
    """Latents float32 (N, d) from noise (N, d) by the model's flow, in tiles of one shape.

    Args:
        model: it has a flow.
        noise: standard normals, times the temperature.
        labels: int64 (N,).
        near: latents to stay near, (N, d); None begins from noise alone.
        strength: how far back towards noise the flow begins, from 0 to 1.
    """
    flow, device = model.flow, model.prior.mean.device
    assert flow is not None  # noqa: S101 - for the type checker
    latents = np.empty(noise.shape, dtype=np.float32)
    for start in range(0, len(noise), TILE):
        part = slice(start, start + TILE)
        count = len(noise[part])
        tile = torch.zeros(2, TILE, noise.shape[1])
        label = torch.zeros(TILE, dtype=torch.int64)
        tile[0, :count] = torch.from_numpy(noise[part])
        label[:count] = torch.from_numpy(labels[part])
        if near is not None:
            tile[1, :count] = torch.from_numpy(near[part])
        with fast_precision(device):
            found = flow.transport(
                tile[0].to(device),
                label.to(device),
                None if near is None else tile[1].to(device),
                strength,
            )
        latents[part] = found[:count].cpu().numpy()
    return latents


def truncated(noise: np.ndarray, bound: float) -> np.ndarray:
    """Standard normals as draws from the normal cut off at -bound and bound, value by value."""
    outside = ndtr(-bound)
    cut = ndtri(outside + ndtr(noise) * (1.0 - 2.0 * outside))
    return np.asarray(np.clip(cut, -bound, bound))


def _from_mixture(
    prior: ClassPrior,
    noise: np.ndarray,
    choice: np.ndarray,
    labels: np.ndarray,
    temperature: float,
) -> np.ndarray:
    shares = prior.share.double().cpu().numpy()
    mean = prior.mean.double().cpu().numpy()
    scale = prior.scale.double().cpu().numpy()
    row = labels if len(shares) > 1 else np.zeros_like(labels)
    bounds = np.cumsum(shares, axis=1)[row]  # (N, M)
    component = (choice[:, None] >= bounds[:, :-1]).sum(axis=1)
    latents = np.empty_like(noise)
    for start in range(0, len(noise), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        scales = scale[row[part], component[part]]  # (n, d, d)
        # A sum in a fixed order for each row; a matrix product may order it by the number of rows.
        spread = np.zeros_like(noise[part])
        for dimension in range(noise.shape[1]):
            spread += noise[part, dimension, None] * scales[:, :, dimension]
        latents[part] = mean[row[part], component[part]] + temperature * spread
    return latents
