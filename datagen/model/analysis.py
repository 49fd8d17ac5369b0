"""What a generator has learnt, as numbers: which dimensions carry what, and what they draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri

from datagen.model.autoencoders import Autoencoder
from datagen.model.data import TrainingData, generator_at
from datagen.model.decoding import Decoder
from datagen.model.measures import correlations, measured_pictures, measured_strokes

# A dimension with less says nothing about the image: its posterior is the prior.
COLLAPSED_NATS = 0.01
# Beyond, the normal's tails are so thin that nothing was trained there.
OUTERMOST = 0.02
# A latent of so few dimensions is a line or a plane, which is looked at as it is.
AXES_AS_THEY_ARE = 2
_LEAST_VARIANCE = 1e-12


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


@dataclass(frozen=True)
class PrincipalDirections:
    """Where the latents of each label lie, and along which directions they differ most.

    Source: Hotelling, "Analysis of a complex of statistical variables into principal components",
    1933; of the latents within the labels, so that no direction leads from label to label.

    Attributes:
        centres: mean latent of each label, float64 (K, d); one row where the networks see no label.
        directions: each one standard deviation long, the longest first, float64 (d, d).
    """

    centres: np.ndarray
    directions: np.ndarray

    @classmethod
    def of(cls, model: Autoencoder) -> PrincipalDirections:
        """Those of a model's density of posterior samples, or of its prior where it has none.

        A latent of one or two dimensions keeps its own axes: it is looked at as it is.
        """
        kept = model.density if model.density.component_count else model.prior
        share, mean, scale = (
            values.double().cpu().numpy() for values in (kept.share, kept.mean, kept.scale)
        )
        centres = np.einsum("km,kmd->kd", share, mean)
        # Nothing was fitted to a class without images: it is N(0, I) still.
        dims = mean.shape[2]
        is_fitted = mean.any(axis=(1, 2)) | (scale != np.eye(dims)).any(axis=(1, 2, 3))
        rows = np.flatnonzero(is_fitted) if is_fitted.any() else np.arange(len(centres))
        within = np.zeros((dims, dims))
        for row in rows:
            weight = np.sqrt(share[row])
            spread = np.hstack(list(weight[:, None, None] * scale[row]))
            apart = (weight[:, None] * (mean[row] - centres[row])).T
            within += (spread @ spread.T + apart @ apart.T) / len(rows)
        # Along the axes where all directions are alike, as N(0, I) has them.
        is_round = np.allclose(within, within[0, 0] * np.eye(dims))
        if dims <= AXES_AS_THEY_ARE or is_round:
            return cls(centres, np.diag(np.sqrt(within.diagonal())))
        values, vectors = np.linalg.eigh(within)
        order = np.argsort(-values, kind="stable")
        directions = vectors.T[order] * np.sqrt(values[order].clip(min=_LEAST_VARIANCE))[:, None]
        # A direction is as good as its opposite: the one whose largest value is above 0 is taken.
        largest = directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)]
        return cls(centres, directions * np.sign(largest)[:, None])

    def centre(self, labels: np.ndarray) -> np.ndarray:
        """The mean latents of labels int64 (N,), float64 (N, d)."""
        return np.asarray(self.centres[labels if len(self.centres) > 1 else np.zeros_like(labels)])

    def latents(self, coordinates: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Latents float64 (N, d) of labels (N,) at coordinates (N, m) along the first m directions.

        Coordinates are in standard deviations; along all other directions latents are at the mean.
        """
        along = self.directions[: coordinates.shape[1]]
        return np.asarray(self.centre(labels) + coordinates @ along)

    def coordinates(self, latents: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Coordinates float64 (N, d) of latents (N, d) of labels (N,), in standard deviations."""
        squared = np.square(self.directions).sum(axis=1)
        return np.asarray((latents - self.centre(labels)) @ self.directions.T / squared)


def quantiles(count: int) -> np.ndarray:
    """Standard normal values at evenly spaced probabilities, (count,): the inverse normal CDF."""
    return np.asarray(ndtri(np.linspace(OUTERMOST, 1.0 - OUTERMOST, count)))


def decoded(decoder: Decoder, latents: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Images uint8 (N, C, H, W) of latents (N, d) with labels (N,)."""
    pieces = list(decoder.tiles(latents.astype(np.float32), labels.astype(np.int64)))
    return np.concatenate(pieces)


def latent_grid(decoder: Decoder, space: PrincipalDirections, label: int, side: int) -> np.ndarray:
    """Images along the first two principal directions, uint8 (side, side, C, H, W).

    The two go through the quantiles of their normals, the first to the right and the second
    upwards; all others stay at the mean. A latent of one dimension has the same image in a column.
    """
    steps = quantiles(side)
    across, up = np.meshgrid(steps, steps[::-1])
    plane = np.stack([across, up], axis=2).reshape(side * side, 2)
    labels = np.full(side * side, label)
    latents = space.latents(plane[:, : len(space.directions)], labels)
    images = decoded(decoder, latents, labels)
    return images.reshape(side, side, *images.shape[1:])


def strip(
    decoder: Decoder, space: PrincipalDirections, label: int, direction: int, count: int
) -> np.ndarray:
    """Images along one principal direction, uint8 (count, C, H, W); all others at the mean."""
    coordinates = np.zeros((count, direction + 1))
    coordinates[:, direction] = quantiles(count)
    labels = np.full(count, label)
    return decoded(decoder, space.latents(coordinates, labels), labels)


def what_it_does(
    model: Autoencoder,
    decoder: Decoder,
    space: PrincipalDirections,
    direction: int,
    labels: np.ndarray,
    anchors: int,
    count: int,
    seed: int,
) -> dict[str, float]:
    """Pearson's r of a principal direction with each measure of the images that it changes.

    Several latents a label are drawn from the prior; each is taken along the direction, and r is
    over the differences within such a row.
    """
    rows = np.repeat(labels, anchors)
    generator = generator_at(seed, "anchors", direction)
    noise = torch.randn(len(rows), model.config.latent_dim, generator=generator)
    device = model.prior.mean.device
    drawn = model.draw(torch.from_numpy(rows).to(device), noise.to(device)).double().cpu().numpy()
    coordinates = np.repeat(space.coordinates(drawn, rows), count, axis=0)
    steps = np.tile(quantiles(count), len(rows))
    coordinates[:, direction] = steps
    every = np.repeat(rows, count)
    images = decoded(decoder, space.latents(coordinates, every), every)
    measures = measured_strokes if model.config.shows_strokes else measured_pictures
    found = correlations(steps, measures(images), np.repeat(np.arange(len(rows)), count))
    return {name: round(r, 4) for name, r in found.items()}


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
