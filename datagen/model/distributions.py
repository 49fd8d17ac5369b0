"""Distributions of latents and pixels, with their closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor

# A grey value of 8 bits, of images in [0, 1].
STEP = 1.0 / 255.0
# Below it the difference of two float32 sigmoids has lost half of its digits.
_LEAST_MASS = 1e-5


class Posterior(Protocol):
    """What an encoder says about the latents of images, shape (B, d)."""

    @property
    def mean(self) -> Tensor:
        """Expected latents, (B, d)."""

    def sample(self, noise: Tensor) -> Tensor:
        """Latents from standard normal noise, (B, d)."""

    def kl_per_dimension(self, prior: DiagonalGaussian | None = None) -> Tensor:
        """KL(self || prior) in nats, (B, d); the prior is N(0, I) if None."""

    def kl(self, prior: DiagonalGaussian | None = None) -> Tensor:
        """KL(self || prior) in nats, a value an image, (B,)."""


@dataclass(frozen=True)
class Point:
    """No distribution but a point, as a plain autoencoder has it: nothing to draw, no KL."""

    mean: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """The point itself, (B, d); the noise does not count."""
        del noise
        return self.mean

    def kl_per_dimension(self, prior: DiagonalGaussian | None = None) -> Tensor:
        """Zero, (B, d): the term is not part of an autoencoder's loss."""
        del prior
        return torch.zeros_like(self.mean)

    def kl(self, prior: DiagonalGaussian | None = None) -> Tensor:
        """Zero, (B,)."""
        return self.kl_per_dimension(prior).sum(dim=1)


@dataclass(frozen=True)
class DiagonalGaussian:
    """A normal with independent dimensions; `mean` and `logvar` have the shape (B, d)."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Mean + sigma * noise: the reparameterization (Kingma and Welling, 2013), (B, d).

        The randomness comes from outside, so gradients reach mean and logvar.
        """
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl_per_dimension(self, prior: DiagonalGaussian | None = None) -> Tensor:
        """KL(self || prior) in nats, a value a dimension, (B, d); the prior is N(0, I) if None.

        Closed form of two normals (Kingma and Welling, 2013, appendix B, for N(0, I)):
        1/2 ((mean - m)^2 / s^2 + sigma^2 / s^2 - 1 - log(sigma^2 / s^2)).
        """
        if prior is None:
            return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar)
        ratio = self.logvar - prior.logvar
        distance = (self.mean - prior.mean).square() * torch.exp(-prior.logvar)
        return 0.5 * (distance + ratio.exp() - 1.0 - ratio)

    def kl(self, prior: DiagonalGaussian | None = None) -> Tensor:
        """KL(self || prior) in nats, a value an image, (B,)."""
        return self.kl_per_dimension(prior).sum(dim=1)

    def log_prob(self, latent: Tensor) -> Tensor:
        """Log-density of latents (B, d) in nats, (B,)."""
        distance = (latent - self.mean).square() * torch.exp(-self.logvar)
        return -0.5 * (distance + self.logvar + math.log(2.0 * math.pi)).sum(dim=1)

    @property
    def mode(self) -> Tensor:
        """The most likely latent, (B, d)."""
        return self.mean


class Likelihood(Protocol):
    """What a decoder says about pixels in [0, 1], shape (B, C, H, W)."""

    def log_prob(self, image: Tensor) -> Tensor:
        """Sum of the pixels' log-likelihoods in nats, (B,)."""

    @property
    def mean(self) -> Tensor:
        """Expected pixels in [0, 1], (B, C, H, W)."""


@dataclass(frozen=True)
class Bernoulli:
    """Pixels as probabilities of white; `logits` has the shape (B, C, H, W)."""

    logits: Tensor

    def log_prob(self, image: Tensor) -> Tensor:
        """Sum of the pixels' log-likelihoods in nats, (B,); grey pixels count as probabilities."""
        losses = F.binary_cross_entropy_with_logits(self.logits, image, reduction="none")
        return -losses.flatten(1).sum(dim=1)

    @property
    def mean(self) -> Tensor:
        """Expected pixels in [0, 1], (B, C, H, W)."""
        return torch.sigmoid(self.logits)


@dataclass(frozen=True)
class Gaussian:
    """Pixels as normals round a mean, with one learnt spread a channel.

    The spread weighs reconstruction against KL as the data have it, which a fixed one does not
    (Rybkin, Daniilidis and Levine, "Simple and effective VAE training with calibrated decoders",
    2021). The value is a density: it may be above 0, and is not comparable to the other two.

    Attributes:
        logits: the mean is their sigmoid, (B, C, H, W).
        log_scale: log of the standard deviation in units of the pixels' [0, 1], (C,).
    """

    logits: Tensor
    log_scale: Tensor

    def log_prob(self, image: Tensor) -> Tensor:
        """Sum of the pixels' log-densities in nats, (B,)."""
        log_scale = self.log_scale[:, None, None]
        distance = ((image - self.mean) * torch.exp(-log_scale)).square()
        return -(0.5 * distance + log_scale + 0.5 * math.log(2.0 * math.pi)).flatten(1).sum(dim=1)

    @property
    def mean(self) -> Tensor:
        """Expected pixels in [0, 1], (B, C, H, W)."""
        return torch.sigmoid(self.logits)


@dataclass(frozen=True)
class Laplace:
    """Pixels as Laplace variables round a median, with one learnt scale a channel.

    Its log-density falls with the absolute difference and not with the square, so an edge that is
    half right costs as much as one that is wholly wrong in half of its pixels: the decoder gains
    nothing by blurring it. The value is a density: it may be above 0.

    Attributes:
        logits: the median is their sigmoid, (B, C, H, W).
        log_scale: log of the mean absolute difference in units of the pixels' [0, 1], (C,).
    """

    logits: Tensor
    log_scale: Tensor

    def log_prob(self, image: Tensor) -> Tensor:
        """Sum of the pixels' log-densities in nats, (B,)."""
        log_scale = self.log_scale[:, None, None]
        distance = (image - self.mean).abs() * torch.exp(-log_scale)
        return -(distance + log_scale + math.log(2.0)).flatten(1).sum(dim=1)

    @property
    def mean(self) -> Tensor:
        """Expected pixels in [0, 1], (B, C, H, W)."""
        return torch.sigmoid(self.logits)


@dataclass(frozen=True)
class DiscretizedLogistic:
    """Pixels as one of 256 grey values, by a logistic round a mean, with one spread a channel.

    A value's probability is the logistic's mass between its neighbours; the darkest and the
    brightest take the tails (Salimans, Karpathy, Chen and Kingma, "PixelCNN++", 2017).

    Attributes:
        logits: the mean is their sigmoid, (B, C, H, W).
        log_scale: log of the logistic's scale in units of the pixels' [0, 1], (C,).
    """

    logits: Tensor
    log_scale: Tensor

    def log_prob(self, image: Tensor) -> Tensor:
        """Sum of the pixels' log-probabilities in nats, (B,)."""
        log_scale = self.log_scale[:, None, None]
        rate = torch.exp(-log_scale)
        above = (image - self.mean + 0.5 * STEP) * rate
        below = (image - self.mean - 0.5 * STEP) * rate
        # Differences of sigmoids lose all digits far out, where the density times the width stands
        # in for them; softplus is the logarithm of a tail.
        middle = (image - self.mean) * rate
        density = middle - log_scale - 2.0 * F.softplus(middle) + math.log(STEP)
        mass = torch.sigmoid(above) - torch.sigmoid(below)
        inside = torch.where(mass > _LEAST_MASS, mass.clamp(min=_LEAST_MASS).log(), density)
        dark, bright = above - F.softplus(above), -F.softplus(below)
        found = torch.where(image < 0.5 * STEP, dark, inside)
        found = torch.where(image > 1.0 - 0.5 * STEP, bright, found)
        return found.flatten(1).sum(dim=1)

    @property
    def mean(self) -> Tensor:
        """Expected pixels in [0, 1], (B, C, H, W)."""
        return torch.sigmoid(self.logits)
