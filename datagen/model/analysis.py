"""What a generator has learnt, as numbers: which dimensions carry what, and what they draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri

from datagen.model.autoencoders import Autoencoder
from datagen.model.data import TrainingData, generator_at
from datagen.model.decoding import Decoder
from datagen.model.measures import NAMES, correlations, measured

# A dimension with less says nothing about the image: its posterior is the prior.
COLLAPSED_NATS = 0.01
# Beyond, the normal's tails are so thin that nothing was trained there.
OUTERMOST = 0.02


@dataclass(frozen=True)
class LatentSpace:
    """Posteriors of images.

    Attributes:
        means: float32 (N, d).
        labels: int64 (N,).
        kl: mean KL of each dimension in nats, float64 (d,); zeros for points, which have none.
        variance: of the means, float64 (d,).
    """

    means: np.ndarray
    labels: np.ndarray
    kl: np.ndarray
    variance: np.ndarray

    @property
    def order(self) -> np.ndarray:
        """Dimensions from the most active to the least: by KL, or by variance where none is."""
        weight = self.kl if self.kl.any() else self.variance
        return np.argsort(-weight, kind="stable")

    @property
    def collapsed(self) -> np.ndarray:
        """Which dimensions carry nothing, bool (d,)."""
        if self.kl.any():
            return np.asarray(self.kl < COLLAPSED_NATS)
        return np.asarray(self.variance < 1e-6 * max(float(self.variance.max()), 1e-12))


@torch.no_grad()
def latent_space(model: Autoencoder, data: TrainingData) -> LatentSpace:
    """The posteriors of images, and how much each dimension tells."""
    model.eval()
    means, kl = [], torch.zeros(model.config.latent_dim, dtype=torch.float64)
    for rows in data.pieces():
        image, label = data.rows(rows)
        found = model.encode(image, label)
        means.append(found.mean.cpu().numpy())
        kl += found.kl_per_dimension(model.prior_of(label)).sum(dim=0).double().cpu()
    together = np.concatenate(means)
    return LatentSpace(
        means=together,
        labels=data.all_labels.numpy(),
        kl=(kl / max(1, len(data))).numpy(),
        variance=together.astype(np.float64).var(axis=0),
    )


def centre_and_spread(model: Autoencoder, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviations of the prior of a label, float64 (d,) each."""
    row = label if len(model.prior.share) > 1 else 0
    scale = model.prior.scale[row, 0].double().cpu().numpy()
    return model.prior.mean[row, 0].double().cpu().numpy(), np.sqrt((scale**2).sum(axis=1))


def quantiles(count: int) -> np.ndarray:
    """Standard normal values at evenly spaced probabilities, (count,): the inverse normal CDF."""
    return np.asarray(ndtri(np.linspace(OUTERMOST, 1.0 - OUTERMOST, count)))


def decoded(decoder: Decoder, latents: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Images uint8 (N, C, H, W) of latents (N, d) with labels (N,)."""
    pieces = list(decoder.tiles(latents.astype(np.float32), labels.astype(np.int64)))
    return np.concatenate(pieces)


def latent_grid(
    model: Autoencoder, decoder: Decoder, label: int, plane: tuple[int, int], side: int
) -> np.ndarray:
    """Images over two dimensions of a label's prior, uint8 (side, side, C, H, W).

    The two go through the quantiles of their normals, the first to the right and the second
    upwards; all others stay at the mean.
    """
    centre, spread = centre_and_spread(model, label)
    steps = quantiles(side)
    latents = np.tile(centre, (side, side, 1))
    latents[:, :, plane[0]] += spread[plane[0]] * steps[None, :]
    if plane[1] != plane[0]:
        latents[:, :, plane[1]] += spread[plane[1]] * steps[::-1, None]
    images = decoded(decoder, latents.reshape(side * side, -1), np.full(side * side, label))
    return images.reshape(side, side, *images.shape[1:])


def strip(
    model: Autoencoder, decoder: Decoder, label: int, dimension: int, count: int
) -> np.ndarray:
    """Images along one dimension of a label's prior, uint8 (count, C, H, W); others at the mean."""
    centre, spread = centre_and_spread(model, label)
    latents = np.tile(centre, (count, 1))
    latents[:, dimension] += spread[dimension] * quantiles(count)
    return decoded(decoder, latents, np.full(count, label))


def what_it_does(
    model: Autoencoder,
    decoder: Decoder,
    dimension: int,
    labels: np.ndarray,
    anchors: int,
    count: int,
    seed: int,
) -> dict[str, float]:
    """Pearson's r of a dimension with each measure of the images that it changes.

    Several latents a label are drawn from the prior; each is taken along the dimension, and r is
    over the differences within such a row.
    """
    rows = np.repeat(labels, anchors)
    generator = generator_at(seed, "anchors", dimension)
    noise = torch.randn(len(rows), model.config.latent_dim, generator=generator)
    device = model.prior.mean.device
    drawn = model.draw(torch.from_numpy(rows).to(device), noise.to(device)).double().cpu().numpy()
    places = [centre_and_spread(model, int(label)) for label in rows]
    latents = np.repeat(drawn, count, axis=0)
    steps = np.tile(quantiles(count), len(rows))
    centre = np.repeat([mean[dimension] for mean, _ in places], count)
    spread = np.repeat([wide[dimension] for _, wide in places], count)
    latents[:, dimension] = centre + spread * steps
    images = decoded(decoder, latents, np.repeat(rows, count))
    found = correlations(steps, measured(images), np.repeat(np.arange(len(rows)), count))
    return dict(zip(NAMES, found.round(4).tolist(), strict=True))


def nearest(images: np.ndarray, among: TrainingData) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of some images to each of others, by Euclidean distance of pixels.

    Args:
        images: uint8 (N, C, H, W).
        among: where they are looked for, a piece at a time.

    Returns:
        rows of `among`, int64 (N,), and distances for pixels in [0, 1], float64 (N,).
    """
    wanted = torch.from_numpy(images.reshape(len(images), -1)).float().div_(255.0)
    best = torch.full((len(images),), float("inf"))
    row = torch.zeros(len(images), dtype=torch.int64)
    for rows in among.pieces():
        image, _ = among.rows(rows)
        found, place = torch.cdist(wanted, image.flatten(1).cpu()).min(dim=1)
        closer = found < best
        best = torch.where(closer, found, best)
        row = torch.where(closer, rows[place], row)
    return row.numpy(), best.double().numpy()
