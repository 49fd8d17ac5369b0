"""Distributions of latents and pixels, with their closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor


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

    def kl(self) -> Tensor:
        """KL(self || N(0, I)) in nats, a value an image, (B,).

        Closed form of two normals: 1/2 sum(mean^2 + sigma^2 - 1 - log sigma^2)
        (Kingma and Welling, 2013, appendix B).
        """
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar).sum(dim=1)

    @property
    def mode(self) -> Tensor:
        """The most likely latent, (B, d)."""
        return self.mean


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
